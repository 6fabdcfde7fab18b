"""Opening the ledger: its settings, its schema, and what it refuses."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import StatementError

from novade_core.errors import ConfigurationError, StorageRefused
from novade_core.ledger import database
from novade_core.ledger.database import SCHEMA_VERSION, Ledger, create, open_ledger, schema_version, upgrade
from novade_core.ledger.models import Audit, Base, UtcDateTime
from tests.contracts.refusals import files_end_at, mode
from tests.ledgers import at_once

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Where a ledger on SQLite is."""
    return f"sqlite:///{tmp_path}/ledger.sqlite"


@pytest.fixture
def sqlite_ledger(url: str) -> Iterator[Ledger]:
    ledger = open_ledger(url)
    yield ledger
    ledger.close()


def note(ledger: Ledger, who: str = "ada", at: datetime = NOW) -> None:
    with ledger.write() as connection:
        connection.execute(insert(Audit).values(at=at, who=who, action="x", subject="y", details={}))


def noted(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return list(connection.execute(select(Audit.who).order_by(Audit.id)).scalars())


def pragma(ledger: Ledger, name: str) -> object:
    with ledger.read() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


def test_sqlite_is_set_for_readers_beside_a_writer(sqlite_ledger):
    assert sqlite_ledger.is_sqlite
    assert pragma(sqlite_ledger, "journal_mode") == "wal"
    assert pragma(sqlite_ledger, "foreign_keys") == 1
    assert pragma(sqlite_ledger, "busy_timeout") == 30_000


def test_the_driver_of_postgresql_is_loaded_only_for_it(url):
    code = f"import sys; from novade_core.ledger.database import open_ledger; open_ledger({url!r}).close()"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'psycopg' not in sys.modules"], check=True, timeout=60)


def test_migrations_and_models_agree(ledger):
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_schema_version_is_the_newest_migration(ledger):
    assert schema_version(ledger.engine) == SCHEMA_VERSION
    files = Path(database.__file__).parent.joinpath("migrations", "versions").glob("*.py")
    assert max(f.name.split("_")[0] for f in files) == SCHEMA_VERSION


def test_opening_again_changes_nothing(ledger, ledger_url):
    note(ledger)
    again = open_ledger(ledger_url)
    assert noted(again) == ["ada"]
    again.close()


def test_the_folder_is_made(tmp_path):
    open_ledger(f"sqlite:///{tmp_path}/a/b/ledger.sqlite").close()
    assert (tmp_path / "a" / "b" / "ledger.sqlite").exists()


def test_an_older_sqlite_ledger_is_brought_up_to_date(sqlite_ledger, url, tmp_path):
    sqlite_ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        tables = [r[0] for r in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if not table.startswith("sqlite_"):
                connection.execute(f'DROP TABLE "{table}"')
    reopened = open_ledger(url)
    note(reopened)
    assert schema_version(reopened.engine) == SCHEMA_VERSION
    reopened.close()


def test_a_newer_schema_is_refused_and_left_alone(ledger, ledger_url):
    with ledger.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match=f"schema 9999, this code knows {SCHEMA_VERSION}") as refused:
        open_ledger(ledger_url)
    assert "Update this installation" in refused.value.hint
    assert schema_version(ledger.engine) == "9999"


def _open(together, url: str) -> str:
    together.wait()
    ledger = open_ledger(url)
    note(ledger)
    ledger.close()
    return "opened"


def test_several_processes_may_make_the_schema_at_once(empty_url):
    assert at_once(_open, *[(empty_url,)] * 4) == ["opened"] * 4
    ledger = open_ledger(empty_url)
    assert noted(ledger) == ["ada"] * 4
    ledger.close()


def test_several_threads_may_make_the_schema_at_once(empty_url):
    engine, faults = create(empty_url), []

    def go() -> None:
        try:
            upgrade(engine)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert faults == []
    assert schema_version(engine) == SCHEMA_VERSION
    engine.dispose()


def test_upgrading_what_is_up_to_date_changes_nothing(ledger):
    note(ledger)
    assert upgrade(ledger.engine) == SCHEMA_VERSION
    assert noted(ledger) == ["ada"]


# --- refusals -------------------------------------------------------------------------------------


def test_a_file_that_is_no_ledger_is_refused_and_stays_as_it_is(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database" * 200)
    with pytest.raises(ConfigurationError, match="cannot be opened") as refused:
        open_ledger(f"sqlite:///{path}")
    assert "ledger.url" in refused.value.hint
    assert path.read_bytes() == b"this is no database" * 200


@pytest.mark.parametrize(
    "url",
    ["nonsense", "nosuchdatabase://host/name", "", "sqlite", "mysql://host/name", "postgresql+nosuch://host/name"],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigurationError, match="cannot be opened") as refused:
        open_ledger(url)
    assert "ledger.url" in refused.value.hint


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        open_ledger(f"sqlite:///{tmp_path}")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        open_ledger(f"sqlite:///{tmp_path}/file/ledger.sqlite")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    with mode(folder, 0o555), pytest.raises((ConfigurationError, StorageRefused), match="ledger"):
        open_ledger(f"sqlite:///{folder}/ledger.sqlite")


def test_a_read_only_ledger_can_be_read_and_refuses_to_be_written(sqlite_ledger, url, tmp_path):
    note(sqlite_ledger)
    sqlite_ledger.close()
    with mode(tmp_path / "ledger.sqlite", 0o444):
        reader = open_ledger(url)
        assert noted(reader) == ["ada"]
        with pytest.raises(StorageRefused, match="cannot be written") as refused:
            note(reader, "bob")
        reader.close()
    assert refused.value.origin_of_fault == "us"
    assert "readonly" in refused.value.message
    again = open_ledger(url)
    assert noted(again) == ["ada"]
    again.close()


def test_a_full_disk_is_refused_and_nothing_of_the_transaction_stays(sqlite_ledger):
    note(sqlite_ledger)
    with files_end_at(1), pytest.raises(StorageRefused):
        note(sqlite_ledger, "bob" * 100_000)
    assert noted(sqlite_ledger) == ["ada"]
    note(sqlite_ledger, "eve")
    assert noted(sqlite_ledger) == ["ada", "eve"]


# --- transactions ---------------------------------------------------------------------------------


def test_a_write_that_raises_is_rolled_back(ledger):
    def write_and_stop() -> None:
        with ledger.write() as connection:
            connection.execute(insert(Audit).values(at=NOW, who="a", action="x", subject="y", details={}))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop()
    assert noted(ledger) == []


def test_writers_queue_at_begin_and_never_meet_at_commit(sqlite_ledger):
    """With a deferred BEGIN, two that read before they write would end in 'database is locked'."""

    def count_up() -> None:
        for _ in range(20):
            with sqlite_ledger.write() as connection:
                number = connection.execute(text("SELECT count(*) FROM audit")).scalar_one()
                connection.execute(insert(Audit).values(at=NOW, who=str(number), action="x", subject="y", details={}))

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert noted(sqlite_ledger) == [str(n) for n in range(80)]


def test_a_reader_sees_one_moment_while_others_write(ledger):
    note(ledger)
    with ledger.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM audit")).scalar_one()
        note(ledger)
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == before
    assert len(noted(ledger)) == 2


# --- texts ----------------------------------------------------------------------------------------


def test_every_letter_is_kept_in_texts_and_in_details(ledger):
    letters = "ä € 漢 😀 ' \" % \\ : \t\n"
    with ledger.write() as connection:
        details = {letters: [letters, None, True, 1.5, 2**53], "nul": "a\x00b"}
        connection.execute(insert(Audit).values(at=NOW, who=letters, action="x", subject="y", details=details))
    with ledger.read() as connection:
        assert connection.execute(select(Audit.who, Audit.details)).one() == (letters, details)
        assert connection.execute(select(Audit.id).where(Audit.who == letters)).scalar() is not None


# --- instants -------------------------------------------------------------------------------------


def test_instants_come_back_aware_and_in_utc(ledger):
    berlin = timezone(timedelta(hours=1))
    note(ledger, at=datetime(2024, 11, 18, 15, 0, 0, 123456, tzinfo=berlin))
    with ledger.read() as connection:
        found = connection.execute(select(Audit.at)).scalar_one()
    assert found == datetime(2024, 11, 18, 14, 0, 0, 123456, tzinfo=UTC)
    assert found.tzinfo is UTC


def test_a_naive_instant_is_refused(ledger):
    with pytest.raises(StatementError, match="has no time zone"):
        note(ledger, at=datetime(2024, 11, 18, 14, 0))  # noqa: DTZ001
    assert noted(ledger) == []


def test_postgresql_gets_aware_instants_and_sqlite_naive_ones():
    kind = UtcDateTime()
    assert kind.process_bind_param(NOW, postgresql.dialect()) == NOW
    assert kind.process_bind_param(NOW, sqlite.dialect()) == NOW.replace(tzinfo=None)
    assert kind.process_bind_param(None, sqlite.dialect()) is None
    assert kind.process_result_value(None, sqlite.dialect()) is None
