"""Opening the ledger, its transactions, and bringing its schema up to date."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from novade_core.errors import ConfigurationError, StorageRefused

#: The newest migration. Alembic is imported only where the database says something else.
SCHEMA_VERSION = "0001"


class Ledger:
    """A handle on the ledger. ``read()`` and ``write()`` are short transactions; nothing waits inside one.

    On SQLite a write begins IMMEDIATE, so that two writers queue at BEGIN and never meet at COMMIT.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Whether the ledger is the embedded default."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent reading transaction."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A writing transaction: committed at the end, rolled back on any exception.

        Raises StorageRefused where the disk is full or the file read-only.
        """
        try:
            with self.engine.connect().execution_options(novade_write=True) as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise _translate(error, self.engine) from error

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


def _translate(error: DBAPIError, engine: Engine) -> Exception:
    reason = str(error.orig)
    if "disk is full" in reason or "readonly" in reason or "disk I/O" in reason:
        where = engine.url.render_as_string(hide_password=True)
        return StorageRefused(
            f"The ledger {where} cannot be written: {reason}.",
            hint="Free space or correct the file's rights, then start the run again.",
            origin="us",
        )
    return error


def create(url: str) -> Engine:
    """An engine for ``url`` with the settings that the ledger needs; opens nothing yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # We say BEGIN ourselves; the driver's own idea of it starts DEFERRED and late.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
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


def schema_version(engine: Engine) -> str | None:
    """The version that the database says, None for an empty one."""
    with engine.connect() as connection:
        try:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        except DBAPIError:
            return None


def open_ledger(url: str) -> Ledger:
    """Open the ledger; an empty one and an older SQLite one are brought up to date first.

    Raises ConfigurationError for a shared ledger of another version (one command upgrades it, so that no
    console does it unasked) and for one that cannot be reached.
    """
    try:
        engine = create(url)
        version = schema_version(engine)
    except (DBAPIError, ArgumentError, ImportError, OSError) as error:
        raise ConfigurationError(
            f"The ledger cannot be opened: {getattr(error, 'orig', error)}.",
            hint="Check ledger.url in novade.toml, its folder's rights and free space.",
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
    """Bring the schema to SCHEMA_VERSION with Alembic; several processes may try at once."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with _one_at_a_time(engine):
        if schema_version(engine) != SCHEMA_VERSION:
            with engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    return SCHEMA_VERSION


@contextlib.contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    if engine.dialect.name != "sqlite":
        with engine.connect() as connection, connection.begin():
            connection.execute(text("SELECT pg_advisory_xact_lock(7262331)"))
            yield
        return
    lock = Path(f"{engine.url.database}.upgrade")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
