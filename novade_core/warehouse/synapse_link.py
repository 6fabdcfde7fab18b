"""One connection to a dedicated SQL pool: statements in, rows or hits out, and what a refusal means."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from novade_core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    NovadeError,
    RetryableError,
    StorageRefused,
    WarehouseBusy,
)
from novade_core.settings import WarehouseSettings
from novade_core.warehouse import synapse_driver
from novade_core.warehouse.synapse_grants import RIGHTS, missing_grant
from novade_core.warehouse.synapse_sql import Statement, label, redacted

_log = logging.getLogger(__name__)

#: Errors of a pool that pass by themselves; 4060 is also a wrong name, so that tries are few.
#: https://learn.microsoft.com/azure/azure-sql/database/troubleshoot-common-errors-issues
TRANSIENT = frozenset({40197, 40501, 40613, 49918, 49919, 49920, 4060, 615, 926, 4221, 10928, 10929, 42109, 1205, 1222})
#: The pool is paused; it does not resume by itself.
PAUSED = frozenset({42108, 40892})
#: The connection is gone, and with it what its statement did or did not do.
_LOST_STATES = frozenset({"08S01", "08S02", "08001", "08003", "08007", "01002", "HYT01"})
_LOST_NUMBERS = frozenset({10053, 10054, 10060})
#: SQLSTATE of a statement that was cancelled.
CANCELLED = "HY008"
_LOGIN = frozenset({18456, 916, 4064})
EXISTS_ALREADY = frozenset({2714, 2759})


class Refused(Exception):
    """A statement failed. Never leaves the warehouse: ``told()`` is what the caller gets."""

    def __init__(self, step: str, server: str, text: str, state: str, number: int | None) -> None:
        super().__init__(f"{step}: {state} {number}")
        self.step = step
        self.server = server
        self.text = text
        self.state = state
        self.number = number

    @property
    def lost(self) -> bool:
        """Is the connection gone?"""
        return self.state in _LOST_STATES or self.number in _LOST_NUMBERS

    @property
    def timed_out(self) -> bool:
        """Did the statement take too long?"""
        return self.state == "HYT00"

    @property
    def cancelled(self) -> bool:
        """Was the statement ended by ``Link.cancel``?"""
        return self.state == CANCELLED

    @property
    def distrusted(self) -> bool:
        """Is the server's certificate not one that this machine trusts for that name?"""
        return self.step == "connect" and "certificate verify failed" in self.text

    @property
    def transient(self) -> bool:
        """May the same work a moment later?"""
        return (self.lost or self.number in TRANSIENT) and not self.distrusted

    def told(self) -> NovadeError:
        """One of our errors, without the statement and without values that it held."""
        which = f"error {self.number}" if self.number else f"SQLSTATE {self.state}"
        if self.number in PAUSED or "is paused" in self.text.lower():
            return WarehouseBusy(
                f"The SQL pool on {self.server} is paused.",
                hint="Resume the pool, in the portal or with `az synapse sql pool resume`; the run goes on by itself.",
            )
        if self.number in _LOGIN or self.state == "28000":
            return AuthenticationFailed(
                f"{self.server} refused the login ({which}).",
                hint="Check warehouse.auth, user, password and database; the user must exist in the pool itself.",
                origin="warehouse",
            )
        if self.number == 40615:
            return ConfigurationError(
                f"The firewall of {self.server} does not let this machine in.",
                hint="Allow this machine's address in the workspace's firewall rules.",
                origin="warehouse",
            )
        if self.distrusted:
            return ConfigurationError(
                f"This machine does not trust the certificate of {self.server}.",
                hint="Check warehouse.server; where a proxy has a certificate of its own, name its authority's PEM "
                "file in SSL_CERT_FILE, which the driver's OpenSSL reads.",
                origin="warehouse",
            )
        if self.number in RIGHTS:
            grant = missing_grant(self.step, self.text)
            return ConfigurationError(
                f"Our user may not do the step {self.step} on {self.server} ({which})"
                + (f": it lacks {grant}." if grant else "."),
                hint="As the pool's administrator, run `python -m jobs azure apply`, which grants what is missing to "
                "the role novade_loader, and see that our user is a member of it.",
                origin="warehouse",
            )
        if self.transient:
            return RetryableError(f"{self.server} did not answer the step {self.step} ({which}).", origin="warehouse")
        if self.timed_out:
            return RetryableError(
                f"{self.server} took too long over the step {self.step}.",
                hint="Raise warehouse.statement_timeout_seconds, or the pool's size, if this stays.",
                origin="warehouse",
            )
        if self.cancelled:
            return RetryableError(f"The step {self.step} on {self.server} was interrupted.", origin="warehouse")
        if self.step == "copy":
            return StorageRefused(
                f"COPY INTO on {self.server} could not load the landed files ({which}).",
                hint="Check warehouse.copy_credential and its role on the storage; the worker's log has the text.",
                origin="warehouse",
            )
        return NovadeError(
            f"{self.server} refused the step {self.step} ({which}).",
            hint="The worker's own log holds the pool's words; report it if it stays.",
            origin="warehouse",
        )


def refusal(error: Exception, step: str, server: str) -> Refused:
    """What a driver's exception says: SQLSTATE first, the pool's number in parentheses at the end of its text."""
    arguments = [str(a) for a in _driver_error(error).args]
    state = arguments[0] if arguments and _STATE.fullmatch(arguments[0]) else ""
    text = arguments[-1] if arguments else type(error).__name__
    numbers = re.findall(r"\((\d+)\) \(SQL\w+\)", text)
    number = int(numbers[-1]) if numbers and numbers[-1] != "0" else None
    return Refused(step, server, text, state, number)


_STATE = re.compile(r"[0-9A-Z]{5}")


def _driver_error(error: Exception) -> BaseException:
    """The driver's own exception behind SQLAlchemy's; where its first questions fail, behind a second one of its."""
    seen: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    while seen is not None:
        if seen.args and _STATE.fullmatch(str(seen.args[0])):
            return seen
        orig = seen.orig if isinstance(seen, DBAPIError) else None
        seen = orig or seen.__cause__ or seen.__context__
    return error


class _Cancelled(Exception):
    """The statement was cancelled, whatever the driver made of it."""


class Link:
    """A connection in autocommit that can be opened anew; every statement carries the load's label."""

    def __init__(self, settings: WarehouseSettings) -> None:
        self._settings = settings
        self._server = settings.server or ""
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._cursor: Any = None
        self._cancelled = False
        self._lock = threading.Lock()
        #: Run and table of the labels.
        self.tag: tuple[int, str] = (0, "look")

    def open(self) -> None:
        """Connect now. Raises Refused, or ConfigurationError where a driver or a setting is missing."""
        self.close()
        if self._engine is None:
            self._engine = _engine(self._settings, self._watch)
        try:
            self._connection = self._engine.connect()
        except (SQLAlchemyError, self._fault()) as error:
            raise refusal(error, "connect", self._server) from error

    @staticmethod
    def _fault() -> type[Exception]:
        fault: type[Exception] = synapse_driver.load_pyodbc().Error
        return fault

    def _watch(self, cursor: Any) -> None:
        """The cursor that ``cancel`` ends, None for none.

        Waits for a cancel that is under way: the driver crashes where a cursor is closed in the middle of one.
        """
        with self._lock:
            self._cursor = cursor
            if cursor is not None:
                self._cancelled = False

    def rows(self, statement: Statement) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return list(self.stream(statement))

    def stream(self, statement: Statement, size: int = 10_000) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, fetched in pieces."""
        with self._run(statement) as result:
            cursor = result.cursor  # SQLAlchemy's own fetch closes it at the last row, while it is still watched
            while rows := self._fetch(cursor, size):
                yield from (tuple(row) for row in rows)

    def _fetch(self, cursor: Any, size: int) -> Sequence[Sequence[Any]]:
        self._watch(cursor)
        try:
            rows: Sequence[Sequence[Any]] = cursor.fetchmany(size)
        finally:
            self._watch(None)
        self._stop_if_cancelled()
        return rows

    def _stop_if_cancelled(self) -> None:
        """Microsoft's driver calls a statement that was cancelled a success with no rows; FreeTDS an error."""
        if self._cancelled:
            raise _Cancelled

    def hit(self, statement: Statement) -> int:
        """Run it; rows that it changed, where the pool says so."""
        with self._run(statement) as result:
            return int(result.rowcount)

    @contextlib.contextmanager
    def _run(self, statement: Statement) -> Iterator[Any]:
        if self._connection is None:
            self.open()
        assert self._connection is not None
        text = statement.text + (label(*self.tag, statement.step) if statement.labelled else "")
        try:
            result = self._connection.exec_driver_sql(text, statement.parameters, {"preserve_rowcount": True})
            try:
                self._stop_if_cancelled()
                yield result
            finally:
                result.close()
        except _Cancelled as error:
            raise Refused(statement.step, self._server, "cancelled", CANCELLED, None) from error
        except (SQLAlchemyError, self._fault()) as error:
            refused = refusal(error, statement.step, self._server)
            if self._cancelled and not refused.lost:
                refused.state = CANCELLED
            _log.warning("Synapse refused %s: %s", statement.step, redacted(refused.text))
            # SQLAlchemy hangs up after a timeout too, and would then refuse whatever follows.
            if refused.lost or self._connection.invalidated:
                self.close()
            raise refused from error

    def cancel(self) -> None:
        """End the statement that runs, from another thread; nothing happens where none does."""
        with self._lock, contextlib.suppress(Exception):  # whatever a dying connection says to it
            if self._cursor is not None:
                self._cancelled = True
                self._cursor.cancel()

    def close(self) -> None:
        """Hang up; an open transaction is rolled back by the pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError, self._fault()):  # it may be gone already
                connection.invalidate()
                connection.close()


def _engine(settings: WarehouseSettings, watch: Callable[[Any], None]) -> Engine:
    pyodbc = synapse_driver.load_pyodbc()
    driver = synapse_driver.find_driver(pyodbc, settings.driver)
    string = synapse_driver.connection_string(settings, driver)

    def connect() -> Any:
        connection = pyodbc.connect(
            string,
            autocommit=True,
            timeout=settings.login_timeout_seconds,
            attrs_before=synapse_driver.attributes(settings),
        )
        connection.timeout = settings.statement_timeout_seconds
        return connection

    engine = create_engine(
        "mssql+pyodbc://",
        creator=connect,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        ignore_no_transaction_on_rollback=True,  # a pool ends a failed transaction by itself: error 111214
        deprecate_large_types=True,
        supports_comments=False,
        use_insertmanyvalues=False,
    )

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, cursor: Any, *_more: Sequence[Any]) -> None:
        watch(cursor)

    # Both come before SQLAlchemy closes the cursor.
    @event.listens_for(engine, "after_cursor_execute")
    def forget(*_context: Any) -> None:
        watch(None)

    @event.listens_for(engine, "handle_error")
    def forget_failed(_context: Any) -> None:
        watch(None)

    return engine
