"""Opening the ledger, its transactions, and bringing its schema up to date."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from novade_core.errors import ConfigurationError, NovadeError, RetryableError, StorageRefused

#: The newest migration. Alembic is imported only where the database says something else.
SCHEMA_VERSION = "0007"


class Ledger:
    """A handle on the ledger. ``read()`` and ``write()`` are short transactions; nothing waits inside one.

    On SQLite a write begins IMMEDIATE, so that two writers queue at BEGIN and never meet at COMMIT. On PostgreSQL
    writers meet at rows: whoever writes about a stream's run holds the row of its lease first.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Whether the ledger is the embedded default."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent reading transaction: it sees one moment, whatever others write meanwhile.

        On PostgreSQL it raises as ``write`` does.
        """
        if self.is_sqlite:
            with self.engine.connect() as connection, connection.begin():
                yield connection
            return
        with _spoken(self.engine), self.engine.connect() as connection, connection.begin():
            # Said in the transaction, so that no later user of the connection inherits it (nor its opposite:
            # READ WRITE would overrule a database that was set read-only).
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A writing transaction: committed at the end, rolled back on any exception.

        Raises StorageRefused where the disk is full or the ledger read-only; on PostgreSQL also RetryableError
        where the server cannot be reached or is too busy, ConfigurationError where a right is missing.
        """
        with (
            _spoken(self.engine),
            self.engine.connect().execution_options(novade_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


#: Error codes of PostgreSQL after which the server takes nothing in: disk full, I/O error, read-only.
_REFUSED = ("53100", "58030", "25006")
#: What waiting may cure, by the first characters of the code: connection, deadlock, resources, shutdown, locks,
#: transactions that stood idle.
_PASSING = ("08", "40", "53", "57", "55P03", "55006", "25P03", "25P04")
#: Missing rights, a wrong name or password, tables of somebody else in our place.
_MISCONFIGURED = ("42501", "28", "3D000", "42P07")


@contextlib.contextmanager
def _spoken(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into ours where they say what to do; the others pass as they are."""
    try:
        yield
    except (DBAPIError, NoConnectionFree) as error:
        ours = _translate(error, engine)
        if ours is None:
            raise
        raise ours from error


def _translate(error: DBAPIError | NoConnectionFree, engine: Engine) -> NovadeError | None:
    if engine.dialect.name == "sqlite":
        reason = str(getattr(error, "orig", error))
        if isinstance(error, OperationalError) and any(s in reason for s in ("disk is full", "readonly", "disk I/O")):
            return StorageRefused(
                f"The ledger {engine.url.render_as_string(hide_password=True)} cannot be written: {reason}.",
                hint="Free space or correct the file's rights, then start the run again.",
                origin="us",
            )
        if isinstance(error, OperationalError) and ("locked" in reason or "busy" in reason):
            return RetryableError(
                "The ledger is locked by another process that does not let go of it.",
                hint="Find the process that holds the ledger's file, then start the run again.",
            )
        return None
    where, reason = _address(engine.url), _reason(error, engine.url)
    if isinstance(error, NoConnectionFree):
        return RetryableError(f"The ledger {where} is busy: all of this process's connections are in use.")
    code = getattr(error.orig, "sqlstate", None) or ""
    if code in _REFUSED:
        return StorageRefused(
            f"The ledger {where} cannot be written: {reason}.",
            hint="Free space on the database server, or point ledger.url to the primary; then start the run again.",
            origin="us",
        )
    if code.startswith(_MISCONFIGURED):
        return ConfigurationError(
            f"The ledger {where} refuses us: {reason}.",
            hint="Check ledger.url, and that its user may make, read and write the ledger's tables.",
        )
    # Where there was no connection at all, the driver gives no code.
    if code.startswith(_PASSING) or error.connection_invalidated or (not code and isinstance(error, OperationalError)):
        return RetryableError(
            f"The ledger {where} does not answer: {reason}.",
            hint="It is tried again by itself. If it stays, check that the database server runs and has room.",
        )
    return None


def _address(url: URL) -> str:
    """Where the ledger is, for people: without user, password and options."""
    host = url.host or url.query.get("host") or "this machine"
    return f"{url.database or '?'} on {host if isinstance(host, str) else ', '.join(host)}"


def _reason(error: Exception, url: URL | None) -> str:
    """The driver's words on one line, without any password."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
    if url is not None:
        query = [url.query.get(name) for name in ("password", "sslpassword")]
        for secret in (url.password, *query):
            if secret:
                reason = reason.replace(str(secret), "***")
    return reason


def create(url: str) -> Engine:
    """An engine for ``url`` with the settings that the ledger needs; opens nothing yet."""
    try:
        parsed = make_url(url)
    except ValueError as error:
        # Not the error's words: they quote what it took for the port, which may be a piece of the password.
        raise ConfigurationError(
            "The ledger cannot be opened: its address has no number as its port.",
            hint="Check ledger.url in novade.toml; in a password, write @ as %40, : as %3A and / as %2F.",
        ) from error
    if parsed.get_backend_name() in ("postgresql", "postgres"):
        return _postgresql(parsed)
    if parsed.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"The ledger cannot be opened: it works on SQLite and PostgreSQL, not on {parsed.get_backend_name()}.",
            hint="Check ledger.url in novade.toml.",
        )
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # We say BEGIN ourselves; the driver's own idea of it starts DEFERRED and late.
        connection.isolation_level = None
        cursor = connection.cursor()
        _to_wal(cursor)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        # 16 MiB of page cache and 256 MiB of address space: reads of a million runs stay in memory.
        cursor.execute("PRAGMA cache_size=-16384")
        cursor.execute("PRAGMA mmap_size=268435456")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("novade_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _to_wal(cursor: sqlite3.Cursor) -> None:
    """Several processes that open a new file at once: SQLite refuses this change at once instead of waiting."""
    last = time.monotonic() + 30
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > last:
                raise
            time.sleep(0.02)


#: How to connect, unless the URL says otherwise. A peer that fell silent is noticed within a minute.
_CONNECT = {
    "connect_timeout": 10,
    "application_name": "novade",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
#: As long as SQLite's busy_timeout; and a process that froze inside a transaction does not keep its locks for ever.
_SESSION = "SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'"


def _postgresql(url: URL) -> Engine:
    if "@" in (url.host or ""):
        # What follows would be taken for a host's name, and end up in messages.
        raise ConfigurationError(
            "The ledger cannot be opened: the password in ledger.url holds an @ that is not encoded.",
            hint="Write it as %40, or leave the password out and give it as PGPASSWORD or in ~/.pgpass.",
        )
    if url.get_backend_name() == "postgres":
        url = url.set(drivername="postgresql")
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={name: value for name, value in _CONNECT.items() if name not in url.query},
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        from psycopg.types.string import StrDumperUnknown

        class WithoutNul(StrDumperUnknown):
            """PostgreSQL's text holds no NUL; a source's error message may."""

            def dump(self, obj: str) -> Any:
                return super().dump(obj.replace("\x00", "\ufffd"))

        connection.adapters.register_dumper(str, WithoutNul)
        with connection.cursor() as cursor:
            cursor.execute(_SESSION)
        connection.commit()

    return engine


def schema_version(engine: Engine) -> str | None:
    """The version that the database says, None for an empty one."""
    with engine.connect() as connection:
        try:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        except DBAPIError as error:
            # 42P01: no such table. Anything else is no empty ledger.
            if engine.dialect.name == "sqlite" or getattr(error.orig, "sqlstate", None) == "42P01":
                return None
            raise


def open_ledger(url: str) -> Ledger:
    """Open the ledger; an empty one and an older SQLite one are brought up to date first.

    Raises ConfigurationError for a shared ledger of another version (one command upgrades it, so that no
    console does it unasked) and for one that cannot be reached.
    """
    shared = url.startswith("postgres")
    try:
        engine = create(url)
        version = schema_version(engine)
    except (DBAPIError, ArgumentError, ImportError, OSError) as error:
        reason = _reason(error, make_url(url)) if shared and not isinstance(error, ArgumentError) else None
        raise ConfigurationError(
            f"The ledger cannot be opened: {reason or getattr(error, 'orig', error)}.",
            hint="Check ledger.url in novade.toml, that the database server runs and that it lets this machine in."
            if shared
            else "Check ledger.url in novade.toml, its folder's rights and free space.",
        ) from error
    if version == SCHEMA_VERSION:
        return Ledger(engine)
    if version is not None and version > SCHEMA_VERSION:
        raise ConfigurationError(
            f"The ledger has schema {version}, this code knows {SCHEMA_VERSION}.",
            hint="Update this installation; an older console must not write a newer ledger.",
        )
    if version is not None and engine.dialect.name != "sqlite":
        raise ConfigurationError(
            f"The ledger has schema {version}, this code needs {SCHEMA_VERSION}.",
            hint="Run `python -m jobs ledger upgrade` once.",
        )
    upgrade(engine)
    return Ledger(engine)


def upgrade(engine: Engine) -> str:
    """Bring the schema to SCHEMA_VERSION with Alembic; several processes may try at once.

    On PostgreSQL it is one transaction, and raises as ``Ledger.write`` does.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with _one_at_a_time(engine) as connection:
        if schema_version(engine) != SCHEMA_VERSION:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return SCHEMA_VERSION


@contextlib.contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[Connection]:
    """A connection to migrate on, while no other process does."""
    if engine.dialect.name == "sqlite":
        lock = Path(f"{engine.url.database}.upgrade")
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with engine.connect() as connection:
                yield connection
        return
    with _spoken(engine), engine.connect() as connection:
        if (encoding := connection.execute(text("SHOW server_encoding")).scalar()) != "UTF8":
            raise ConfigurationError(
                f"The ledger {_address(engine.url)} cannot be used: it keeps text as {encoding}.",
                hint="Make a database with ENCODING 'UTF8'.",
            )
        # The lock lives as long as the transaction that migrates; whoever waits may wait for a long migration.
        connection.execute(text("SET LOCAL lock_timeout = '10min'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(7262331)"))
        connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        yield connection
