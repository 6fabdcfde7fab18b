"""A ledger on PostgreSQL: what it refuses, in our words and without a password; what it survives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from novade_core.errors import ConfigurationError, NovadeError, RetryableError, StorageRefused
from novade_core.ledger.database import SCHEMA_VERSION, Ledger, create, open_ledger, schema_version, upgrade
from novade_core.ledger.models import Audit
from tests import ledgers
from tests.ledgers import postgresql as postgresql_server

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)
SECRET = "s3cr3tw0rd"


@pytest.fixture
def shared_ledger(postgresql_url: str) -> Iterator[Ledger]:
    """A ledger on PostgreSQL."""
    ledger = open_ledger(postgresql_url)
    yield ledger
    ledger.close()


def note(ledger: Ledger, who: str = "ada") -> None:
    with ledger.write() as connection:
        connection.execute(insert(Audit).values(at=NOW, who=who, action="x", subject="y", details={}))


def noted(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return list(connection.execute(select(Audit.who).order_by(Audit.id)).scalars())


def said(error: NovadeError) -> str:
    return f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("53100", StorageRefused, "cannot be written"),
        ("58030", StorageRefused, "cannot be written"),
        ("25006", StorageRefused, "cannot be written"),
        ("42501", ConfigurationError, "refuses us"),
        ("28P01", ConfigurationError, "refuses us"),
        ("53300", RetryableError, "does not answer"),
        ("53200", RetryableError, "does not answer"),
        ("40001", RetryableError, "does not answer"),
        ("40P01", RetryableError, "does not answer"),
        ("55P03", RetryableError, "does not answer"),
        ("57014", RetryableError, "does not answer"),
        ("57P03", RetryableError, "does not answer"),
        ("08006", RetryableError, "does not answer"),
    ],
)
def test_what_postgresql_refuses_is_said_by_what_to_do(shared_ledger, code, kind, words):
    note(shared_ledger)
    raising = text(f"DO $$ BEGIN RAISE EXCEPTION 'because' USING ERRCODE = '{code}'; END $$")

    def write_and_be_refused() -> None:
        with shared_ledger.write() as connection:
            connection.execute(insert(Audit).values(at=NOW, who="bob", action="x", subject="y", details={}))
            connection.execute(raising)

    with pytest.raises(kind, match=f"{words}: because") as refused:
        write_and_be_refused()
    assert type(refused.value) is kind
    assert refused.value.origin_of_fault == "us"
    assert noted(shared_ledger) == ["ada"]


def test_what_is_our_own_mistake_is_not_dressed_up(shared_ledger):
    with pytest.raises(DBAPIError), shared_ledger.write() as connection:
        connection.execute(text("SELECT nosuchcolumn FROM audit"))
    with pytest.raises(IntegrityError), shared_ledger.write() as connection:
        connection.execute(text("INSERT INTO audit (id) VALUES (1)"))


def test_a_standby_can_be_read_and_refuses_to_be_written(postgresql_url, shared_ledger):
    note(shared_ledger)
    name = shared_ledger.engine.url.database
    postgresql_server().say(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    reader = open_ledger(postgresql_url)
    assert noted(reader) == ["ada"]
    with pytest.raises(StorageRefused, match="read-only transaction") as refused:
        note(reader, "bob")
    assert "primary" in refused.value.hint
    reader.close()
    note(shared_ledger, "eve")
    assert noted(shared_ledger) == ["ada", "eve"]


def _kill_all(ledger: Ledger) -> None:
    name = ledger.engine.url.database
    postgresql_server().say(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


@pytest.mark.parametrize("way", ["read", "write"])
def test_a_connection_that_breaks_inside_a_transaction_may_be_tried_again(shared_ledger, way):
    def go() -> None:
        with getattr(shared_ledger, way)() as connection:
            connection.execute(select(Audit.who))
            _kill_all(shared_ledger)
            connection.execute(select(Audit.who))

    with pytest.raises(RetryableError, match="does not answer"):
        go()
    note(shared_ledger)
    assert noted(shared_ledger) == ["ada"]


def test_a_connection_that_broke_while_nobody_used_it_is_not_noticed(shared_ledger):
    """After a restart or a failover of the server, the next to come gets a new connection."""
    note(shared_ledger)
    _kill_all(shared_ledger)
    note(shared_ledger, "bob")
    assert noted(shared_ledger) == ["ada", "bob"]


def test_whoever_waits_too_long_for_a_row_may_try_again(shared_ledger):
    note(shared_ledger)

    def write_too() -> None:
        with shared_ledger.write() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
            connection.execute(update(Audit).values(who="other"))

    with shared_ledger.write() as holder:
        holder.execute(update(Audit).values(who="holder"))
        with pytest.raises(RetryableError, match="lock timeout"):
            write_too()
    assert noted(shared_ledger) == ["holder"]


def test_each_connection_waits_half_a_minute_and_freezes_no_longer_than_one(shared_ledger):
    with shared_ledger.write() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "30s"
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "1min"
        assert connection.execute(text("SHOW transaction_isolation")).scalar() == "read committed"


def test_a_reader_of_a_shared_ledger_cannot_write_and_hands_no_setting_on(shared_ledger):
    with pytest.raises(StorageRefused, match="read-only"), shared_ledger.read() as connection:
        connection.execute(insert(Audit).values(at=NOW, who="a", action="x", subject="y", details={}))
    note(shared_ledger)
    assert noted(shared_ledger) == ["ada"]


def test_too_few_connections_are_no_crash(shared_ledger, monkeypatch):
    monkeypatch.setattr(shared_ledger.engine.pool, "_timeout", 0.05)
    with contextlib.ExitStack() as held:
        for _ in range(15):
            held.enter_context(shared_ledger.read())
        with pytest.raises(RetryableError, match="connections are in use"):
            held.enter_context(shared_ledger.read())


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://ada:{SECRET}@127.0.0.1:1/novade",
        f"postgresql://ada:{SECRET}@nosuch.invalid/novade",
        f"postgres://ada:{SECRET}@127.0.0.1:1/novade",
        f"postgresql://127.0.0.1:1/novade?user=ada&password={SECRET}",
        f"postgresql://ada:{SECRET}@/novade?host=/nosuchfolder",
        f"postgresql://ada:{SECRET}@127.0.0.1:1/novade?nosuchoption=1",
        f"postgresql://ada:x@{SECRET}@127.0.0.1:1/novade",
        f"postgresql://ada:x@y:{SECRET}@127.0.0.1/novade",
        f"postgresql://ada@127.0.0.1:{SECRET}/novade",
        f"postgresql+nosuch://ada:{SECRET}@127.0.0.1:1/novade",
    ],
)
def test_a_server_that_cannot_be_reached_is_refused_without_the_password(address):
    with pytest.raises(ConfigurationError, match="cannot be opened") as refused:
        open_ledger(address)
    assert "ledger.url" in said(refused.value)
    assert SECRET not in said(refused.value)


@pytest.mark.parametrize("way", ["read", "write"])
def test_a_server_that_went_away_may_come_back(way):
    ledger = Ledger(create(f"postgresql://ada:{SECRET}@127.0.0.1:1/novade"))
    with pytest.raises(RetryableError, match=r"novade on 127\.0\.0\.1 does not answer") as refused:
        getattr(ledger, way)().__enter__()
    assert SECRET not in said(refused.value)
    assert "\n" not in refused.value.message


def test_a_wrong_password_is_refused_and_not_repeated():
    server = postgresql_server()
    server.say("DROP ROLE IF EXISTS guarded")
    server.say("CREATE ROLE guarded LOGIN PASSWORD 'another'")
    with pytest.raises(ConfigurationError, match="password authentication failed") as refused:
        open_ledger(server.url("postgres", f"guarded:{SECRET}"))
    assert SECRET not in said(refused.value)


def test_a_database_that_does_not_exist_is_named():
    with pytest.raises(ConfigurationError, match='"nosuch" does not exist'):
        open_ledger(postgresql_server().url("nosuch"))


@pytest.mark.parametrize("empty", [True, False])
def test_a_user_without_rights_is_told_so(empty):
    server = postgresql_server()
    server.say("DROP ROLE IF EXISTS stranger")
    server.say("CREATE ROLE stranger LOGIN")
    with server.database(empty=empty) as url:
        foreign = url.replace("//novade@", "//stranger@")
        with pytest.raises(ConfigurationError, match="permission denied"):
            open_ledger(foreign)
        if not empty:
            # A version that may not be read is not the same as none.
            with pytest.raises(DBAPIError):
                schema_version(create(foreign))


def test_a_database_that_cannot_hold_every_letter_is_refused():
    server = postgresql_server()
    server.say("DROP DATABASE IF EXISTS latin")
    server.say("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(ConfigurationError, match="keeps text as LATIN1") as refused:
        open_ledger(server.url("latin"))
    assert "UTF8" in refused.value.hint


def test_the_old_name_of_postgresql_will_do(postgresql_url):
    ledger = open_ledger(postgresql_url.replace("postgresql://", "postgres://"))
    note(ledger)
    assert noted(ledger) == ["ada"]
    ledger.close()


def test_where_no_postgresql_can_be_started_tests_fail_with_a_sentence(monkeypatch):
    monkeypatch.setattr(ledgers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pytest.fail.Exception, match="need PostgreSQL, which could not be started: the package is not"):
        ledgers.Server()


def test_an_older_shared_ledger_is_refused_and_left_alone(shared_ledger, postgresql_url):
    """Other consoles work with it: one command upgrades it when everybody is ready."""
    with shared_ledger.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(ConfigurationError, match=f"schema 0000, this code needs {SCHEMA_VERSION}") as refused:
        open_ledger(postgresql_url)
    assert "ledger upgrade" in refused.value.hint
    assert schema_version(shared_ledger.engine) == "0000"


def test_a_migration_that_fails_leaves_nothing_behind():
    with postgresql_server().database(empty=True) as url:
        engine = create(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE runs (somebody_elses text)"))
        with pytest.raises(ConfigurationError, match="already exists"):
            upgrade(engine)
        assert inspect(engine).get_table_names() == ["runs"]
        assert schema_version(engine) is None
        engine.dispose()


def test_a_letter_that_postgresql_cannot_hold_stops_nothing(shared_ledger):
    """A source's error message may hold a NUL; the run's end has to be written all the same."""
    note(shared_ledger, "a\x00b")
    assert noted(shared_ledger) == ["a\ufffdb"]
