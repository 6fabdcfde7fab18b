"""One session's statements: what each is, in which transaction it runs, which locks it takes, how it fails."""

# ruff: noqa: S608 - identifiers are quoted, values are parameters or the catalogue's own.
from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from . import errors, statements
from .catalog import Table, quote
from .errors import Cancelled, SqlError, not_offered, parse_error
from .locks import Wanted
from .sqltypes import SqlType, from_duckdb
from .tokens import Statement, split, starts_statement
from .translate import MACROS

if TYPE_CHECKING:
    from .pool import Pool

_numbers = itertools.count(1)


@dataclass
class Result:
    """What one statement answers. ``rows`` is read once, while ``columns`` is not None."""

    columns: list[tuple[str, str]] | None = None
    rows: Iterable[tuple[Any, ...]] = ()
    count: int | None = None
    messages: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """A write of an open transaction, to be done again on a later state of the database; see Engine.touch."""

    sql: str
    values: Mapping[str, Any]
    reads: Mapping[str, int]  #: the tables that it read and the versions in which it read them
    count: int = 0  #: of rows that it hit


@dataclass
class Request:
    """One line of sys.dm_pdw_exec_requests."""

    request_id: str
    session_id: str
    command: str
    label: str | None
    start: datetime
    status: str = "Running"
    end: datetime | None = None
    rows: int = -1
    error: str | None = None


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


class Engine:
    """A session of the pool. Used by its connection's thread; only ``cancel`` and interrupt are for others."""

    def __init__(self, pool: Pool, con: duckdb.DuckDBPyConnection, user: str, application: str, host: str) -> None:
        self.pool = pool
        self.con = con
        self.user = user
        self.application = application
        self.host = host
        self.database = pool.database
        self.session_id = f"SID{next(_numbers)}"
        self.login_time = now()
        self.cancel = threading.Event()
        self.interrupting = threading.Lock()
        self.busy = False
        #: Held while a request is answered: who reads this session's uncommitted rows waits for it.
        self.turn = threading.Lock()
        self.nocount = False
        self.implicit = False
        self.in_transaction = False
        self.committed_last = True
        self.doomed = False
        self.open_duckdb = False
        self.snapshot = 0
        #: Downloads that a result may still be reading.
        self.downloads: list[Path] = []
        self.changes: list[Change] = []
        self.changed: set[str] = set()
        #: Rows that the open transaction reads by name; DuckDB forgets them with a rollback.
        self.images: dict[str, Any] = {}
        self.request: Request | None = None
        for macro in MACROS:
            con.execute(macro)
        con.execute("SET TimeZone = 'UTC'")

    # Being interrupted

    def look(self) -> None:
        """Raises when the client cancelled or hung up."""
        if self.cancel.is_set():
            raise Cancelled

    def interrupt_until(self, over: Callable[[], bool]) -> None:
        """Interrupt what runs in DuckDB again and again: a statement about to start would miss a single call."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with self.interrupting:
                if over():
                    return
                try:
                    self.con.interrupt()
                except duckdb.ConnectionException:
                    return  # closed meanwhile
            time.sleep(0.02)

    def heard(self) -> None:
        """The cancel has had its effect: what comes next is not interrupted."""
        with self.interrupting:
            self.cancel.clear()

    def sleep(self, seconds: float) -> None:
        """A wait that a cancel ends."""
        if self.cancel.wait(seconds):
            raise Cancelled

    def image(self, table: Table, look: Callable[[], None]) -> Any:
        """The table as this session's open transaction sees it, for a dirty read; None where it has none.

        What the real pool shows in the middle of a statement is not imitated: the reader waits for the statement's end.
        """
        while not self.turn.acquire(timeout=0.02):
            look()
        try:
            if not self.open_duckdb:
                return None
            self.touch([table.shown.lower()])
            name = f"{quote(table.schema)}.{quote(table.name)}"
            return self.con.sql(f"SELECT * FROM {name}").to_arrow_table()
        finally:
            self.turn.release()

    def close(self) -> None:
        """Roll back and let go."""
        self._undo()
        self.in_transaction = False
        self.pool.locks.release(self)
        self.con.close()
        self.forget_downloads()

    def forget_downloads(self) -> None:
        """Remove what the last statement fetched for its external tables."""
        for folder in self.downloads:
            shutil.rmtree(folder, ignore_errors=True)
        self.downloads.clear()

    # Transactions

    def begin(self) -> None:
        self.pool.faults.strike(self, "BEGIN TRANSACTION", "before")
        if self.in_transaction:
            raise not_offered("a transaction within a transaction")
        self.in_transaction = True
        self.doomed = False
        self.pool.faults.strike(self, "BEGIN TRANSACTION", "after")

    def commit(self) -> None:
        if not self.in_transaction:
            raise errors.no_transaction()
        if self.doomed:
            raise errors.aborted()
        self.pool.faults.strike(self, "COMMIT TRANSACTION", "before")
        if self.open_duckdb:
            self.run("COMMIT")
            self.open_duckdb = False
            self.pool.changed(self.changed)
        self._over(committed=True)
        self.pool.faults.strike(self, "COMMIT TRANSACTION", "after")

    def rollback(self) -> None:
        if not self.in_transaction:
            raise errors.no_transaction()
        doomed = self.doomed
        self._undo()
        self._over(committed=False)
        if doomed and self.pool.settings["rollback_after_error"] == "refused":
            raise errors.no_transaction()

    def _over(self, *, committed: bool) -> None:
        self.in_transaction = self.doomed = False
        self.committed_last = committed
        self.pool.locks.release(self)

    def touch(self, tables: Iterable[str]) -> None:
        """See what others have committed to these tables.

        DuckDB shows a transaction the state of its beginning, the pool each statement what is committed by then. So
        where a table has changed since, the transaction begins anew and its own writes are done again. A write that
        read a changed table must hit as many rows as before, or the session cannot go on here.
        """
        if not self.open_duckdb or all(self.pool.version(t) <= self.snapshot for t in tables):
            return
        self.run("ROLLBACK")
        self.snapshot = self.pool.clock
        self.run("BEGIN")
        for name, rows in self.images.items():
            self.con.register(name, rows)
        for change in self.changes:
            moved = [t for t, v in change.reads.items() if t not in self.changed and self.pool.version(t) != v]
            if _count(self.run(change.sql, change.values)) != change.count and moved:
                raise not_offered(f"to go on in a transaction after {moved[0]}, which it has read, was changed")

    def _undo(self) -> None:
        if self.open_duckdb:
            self.open_duckdb = False
            with contextlib.suppress(duckdb.Error):  # an interrupt between two statements has ended it already
                self.con.execute("ROLLBACK")

    # Batches

    def batch(self, text: str, values: Mapping[str, tuple[str, Any]]) -> Iterator[Result]:
        """The results of a batch, one a statement; raises SqlError at the first that fails."""
        for statement in split(text):
            yield from self._one(statement, values)

    def _one(self, statement: Statement, values: Mapping[str, tuple[str, Any]]) -> Iterator[Result]:
        word = statement.word()
        if word == "IF":
            yield from self._if(statement, values)
            return
        if word == "BEGIN" and statement.word(1) not in ("TRAN", "TRANSACTION"):
            inner = statement.source(1, len(statement.tokens) - 1)
            if statement.tokens[-1].text.upper() != "END":
                raise parse_error("BEGIN")
            yield from self.batch(inner, values)
            return
        if word in ("EXEC", "EXECUTE") and statement.word(1) == "(":
            statement.at = 2
            inner = statement.string()
            statement.expect(")")
            statement.end()
            yield from self.batch(inner, values)
            return
        if word in ("BEGIN", "COMMIT", "ROLLBACK", "SAVE", "SET"):
            yield self._control(statement)
            return
        yield from self._recorded(statement, values)

    def _if(self, statement: Statement, values: Mapping[str, tuple[str, Any]]) -> Iterator[Result]:
        depth = 0
        for index, token in enumerate(statement.tokens[1:], 1):
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if depth == 0 and starts_statement(token.text.upper()) and index > 1:
                condition = statement.source(1, index)
                break
        else:
            raise parse_error("IF")
        if any(t.text.upper() == "ELSE" for t in statement.tokens[index:]):
            raise not_offered("ELSE")
        test = split(f"SELECT CASE WHEN {condition} THEN 1 ELSE 0 END AS holds")[0]
        (answer,) = list(statements.select(self, test, self._bound(values)).rows)
        if answer[0] == 1:
            yield from self.batch(statement.source(index), values)

    def _recorded(self, statement: Statement, values: Mapping[str, tuple[str, Any]]) -> Iterator[Result]:
        if self.doomed:
            raise errors.aborted()
        label = statement.take_label()
        command = re.sub(r"(?i)(SECRET\s*=\s*N?)'[^']*'", r"\1'***'", statement.source())
        request = Request(f"QID{next(_numbers)}", self.session_id, command[:4000], label, now())
        self.request = request
        if self.implicit and not self.in_transaction:
            self.begin()
        self.forget_downloads()
        try:
            self.look()
            self.pool.requests.append(request)
            self.pool.faults.strike(self, command, "before")
            result = self.perform(statement, self._bound(values))
            if result.columns is None:
                request.rows = result.count if result.count is not None else -1
                self._finish(request, "Completed")
                self.pool.faults.strike(self, command, "after")
                yield result
            else:
                yield result
                request.rows = result.count or 0
                self._finish(request, "Completed")
        except BaseException as error:
            cancelled = isinstance(error, Cancelled | GeneratorExit)
            self._finish(request, "Cancelled" if cancelled else "Failed", error)
            if self.in_transaction:
                self._undo()
                self.doomed = True
            raise

    def perform(self, statement: Statement, values: statements.Bound) -> Result:
        """Do a statement that is none of the session's own."""
        return statements.run(self, statement, values)

    @staticmethod
    def _finish(request: Request, status: str, error: BaseException | None = None) -> None:
        request.status, request.end = status, now()
        if isinstance(error, SqlError):
            request.error = f"{error.number}: {error.message}"

    @staticmethod
    def _bound(values: Mapping[str, tuple[str, Any]]) -> dict[str, tuple[SqlType, Any]]:
        made = {}
        for name, (kind, value) in values.items():
            held = SqlType("nvarchar", -1) if kind == "VARCHAR" else from_duckdb(kind)
            made[name.lower()] = (held, value)
        return made

    def _control(self, statement: Statement) -> Result:
        """BEGIN, COMMIT, ROLLBACK and the SET forms that drivers send."""
        if statement.accept("BEGIN"):
            statement.at += 1
            self._unnamed(statement)
            self.begin()
        elif statement.accept("COMMIT"):
            statement.accept("TRAN") or statement.accept("TRANSACTION") or statement.accept("WORK")
            self._unnamed(statement)
            self.commit()
        elif statement.accept("ROLLBACK"):
            statement.accept("TRAN") or statement.accept("TRANSACTION") or statement.accept("WORK")
            self._unnamed(statement)
            self.rollback()
        elif statement.accept("SET"):
            self._set(statement)
        else:
            raise parse_error(statement.word())
        return Result()

    @staticmethod
    def _unnamed(statement: Statement) -> None:
        if statement.left:
            raise parse_error(statement.word())

    def _set(self, statement: Statement) -> None:
        option = statement.word()
        statement.at += 1
        rest = [t.text.upper() for t in statement.tokens[statement.at :]]
        if option == "NOCOUNT" and rest in (["ON"], ["OFF"]):
            self.nocount = rest == ["ON"]
        elif option == "IMPLICIT_TRANSACTIONS" and rest in (["ON"], ["OFF"]):
            self.implicit = rest == ["ON"]
        elif option == "TRANSACTION":
            if rest != ["ISOLATION", "LEVEL", "READ", "UNCOMMITTED"]:
                raise SqlError(111220, "Only READ UNCOMMITTED is supported as isolation level.")
        elif option not in (
            "TEXTSIZE", "ANSI_NULLS", "ANSI_PADDING", "ANSI_WARNINGS", "ANSI_DEFAULTS", "ANSI_NULL_DFLT_ON",
            "QUOTED_IDENTIFIER", "CONCAT_NULL_YIELDS_NULL", "ARITHABORT", "LOCK_TIMEOUT", "DATEFORMAT", "DATEFIRST",
            "LANGUAGE", "CURSOR_CLOSE_ON_COMMIT", "ROWCOUNT", "NO_BROWSETABLE", "FMTONLY", "XACT_ABORT",
        ):  # fmt: skip
            raise not_offered(f"SET {option}")

    # DuckDB

    def run(self, sql: str, values: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
        """One DuckDB statement; its errors become the pool's."""
        self.look()
        try:
            return self.con.execute(sql, values) if values else self.con.execute(sql)
        except duckdb.Error as error:
            raise self._translated(error) from error

    def fetch(self, cursor: duckdb.DuckDBPyConnection, size: int = 2000) -> Iterator[tuple[Any, ...]]:
        try:
            while rows := cursor.fetchmany(size):
                yield from rows
        except duckdb.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: duckdb.Error) -> Exception:
        if isinstance(error, duckdb.InterruptException):
            return Cancelled()
        return statements.refusal_for(error)

    def write(self, wanted: Wanted, work: Callable[[], Result]) -> Result:
        """Run something that changes a table outside of what a transaction can repeat: DDL, COPY."""
        self._lock(wanted)
        if self.in_transaction:
            self._open()
            self.changes.append(Change("SELECT error('a COPY cannot be repeated')", {}, {}))
            self.changed.add(wanted.table)
            return work()
        try:
            result = self.atomically(work)
            self.pool.changed({wanted.table})
            return result
        finally:
            self.pool.locks.release(self)

    def write_rows(self, wanted: Wanted, sql: str, values: Mapping[str, Any], reads: Iterable[str]) -> Result:
        """Run an INSERT, UPDATE or DELETE: lock, then in the transaction or by itself. Answers the rows it hit."""
        self._lock(wanted)
        if self.in_transaction:
            self._open()
            versions = {t: self.pool.version(t) for t in reads}
            self.touch([*versions, wanted.table])
            result = Result(count=_count(self.run(sql, values)))
            if result.count:
                self.changes.append(Change(sql, values, versions, result.count))
                self.changed.add(wanted.table)
            return result
        try:
            result = Result(count=_count(self.run(sql, values)))
            if result.count:
                self.pool.changed({wanted.table})
            return result
        finally:
            self.pool.locks.release(self)

    def _lock(self, wanted: Wanted) -> None:
        # A dirty reader may look while this session waits.
        self.turn.release()
        try:
            self.pool.locks.take(self, wanted, self.look)
        finally:
            self.turn.acquire()

    def _open(self) -> None:
        """Begin DuckDB's transaction, not before a lock is held: what its last holder committed is to be seen."""
        if not self.open_duckdb:
            self.snapshot = self.pool.clock
            self.changes, self.changed = [], set()
            self.images = {}
            self.run("BEGIN")
            self.open_duckdb = True

    def register(self, name: str, rows: Any) -> None:
        """Let DuckDB read rows of ours under a name."""
        if self.open_duckdb:
            self.images[name] = rows
        self.con.register(name, rows)

    def atomically(self, work: Callable[[], Result]) -> Result:
        """Several DuckDB statements as one."""
        self.run("BEGIN")
        try:
            result = work()
            self.run("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.Error):  # ended by the failure itself
                self.con.execute("ROLLBACK")
            raise
        return result


def _count(cursor: duckdb.DuckDBPyConnection) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0
