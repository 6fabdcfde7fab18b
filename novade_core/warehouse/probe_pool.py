"""Asking a pool: one statement at a time through the driver, and answers that hold nothing of what the pool said."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from novade_core.errors import ConfigurationError
from novade_core.settings import WarehouseSettings
from novade_core.warehouse import synapse_driver
from novade_core.warehouse.probe_questions import Columns, Count, Outcome, Value
from novade_core.warehouse.synapse_link import Refused, refusal
from novade_core.warehouse.synapse_sql import identifier

#: A right is missing: says something about us, not about the pool.
_RIGHTS = frozenset({229, 230, 262, 297, 300, 15247, 6004, 105249})
_STATEMENT_SECONDS = 120


class CouldNotAsk(Exception):
    """A fact that nobody could ask; the reason holds no name, login or value."""


def reason_for(refused: Refused) -> str:
    """Why a question failed, by number."""
    which = f"error {refused.number}" if refused.number else f"SQLSTATE {refused.state or 'unknown'}"
    if refused.number in _RIGHTS:
        return f"a right is missing ({which})"
    if refused.lost:
        return f"the connection was lost ({which})"
    if refused.timed_out:
        return f"it took more than {_STATEMENT_SECONDS} s"
    return which


@dataclass(frozen=True)
class Reply:
    """What the driver has after a statement."""

    rows: Sequence[Sequence[Any]]
    count: int  #: rows changed; negative where the driver was not told


class PoolConnection:
    """One raw connection in autocommit, opened when it is needed and again after it broke."""

    def __init__(self, settings: WarehouseSettings) -> None:
        self._settings = settings
        self._pyodbc = synapse_driver.load_pyodbc()
        self._connection: Any = None
        #: What ``{name}`` in a statement stands for.
        self.places: Mapping[str, str] = {}

    def open(self) -> Any:
        """The driver's connection. Raises Refused, ConfigurationError, AuthenticationFailed."""
        if self._connection is None:
            driver = synapse_driver.find_driver(self._pyodbc, self._settings.driver)
            try:
                self._connection = self._pyodbc.connect(
                    synapse_driver.connection_string(self._settings, driver),
                    autocommit=True,
                    timeout=self._settings.login_timeout_seconds,
                    attrs_before=synapse_driver.attributes(self._settings),
                )
            except self._pyodbc.Error as error:
                raise refusal(error, "connect", self._settings.server or "") from None
            self._connection.timeout = _STATEMENT_SECONDS
        return self._connection

    def close(self) -> None:
        """Hang up; an open transaction is rolled back by the pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(self._pyodbc.Error):  # it may be gone already
                connection.close()

    def run(self, text: str, parameters: Sequence[Any] = ()) -> Reply:
        """One statement. Raises Refused, and CouldNotAsk where its place is not known."""
        text = self._filled(text)
        cursor = self.open().cursor()
        try:
            cursor.execute(text, *parameters) if parameters else cursor.execute(text)
            rows = cursor.fetchall() if cursor.description else []
            return Reply(rows, cursor.rowcount)
        except self._pyodbc.Error as error:
            refused = refusal(error, "probe", self._settings.server or "")
            if refused.lost:
                self.close()
            raise refused from None  # the text behind it may name what nobody is to read
        finally:
            with contextlib.suppress(self._pyodbc.Error):
                cursor.close()

    def server_version(self) -> str:
        """The major version that the login answered."""
        said = str(self.open().getinfo(self._pyodbc.SQL_DBMS_VER))
        found = re.match(r"0*(\d{1,3})\.", said)
        if found is None:
            raise CouldNotAsk("the driver gives no version")
        return found[1]

    def _filled(self, text: str) -> str:
        for name in set(re.findall(r"\{(\w+)\}", text)):
            if name not in self.places:
                raise CouldNotAsk("the environment lands in no Azure Blob Storage")
            text = text.replace(f"{{{name}}}", self.places[name])
        return text

    # Questions

    def answer(self, question: Value | Outcome | Count | Columns) -> str:
        """The answer to a question. Raises CouldNotAsk."""
        own = any("TRANSACTION" in text for text in (getattr(question, "sql", ""), *getattr(question, "before", ())))
        if own:
            self.close()
        try:
            match question:
                case Value():
                    return self._value(question)
                case Outcome():
                    return self._outcome(question)
                case Count():
                    return self._count(question)
                case Columns():
                    return self._columns(question)
        except Refused as refused:
            raise CouldNotAsk(reason_for(refused)) from None
        finally:
            if own:
                self.close()

    def _prepare(self, before: Sequence[str]) -> None:
        for text in before:
            try:
                self.run(text)
            except Refused as refused:
                raise CouldNotAsk(f"what it needs was refused: {reason_for(refused)}") from None

    def _value(self, question: Value) -> str:
        self._prepare(question.before)
        try:
            rows = self.run(question.sql, question.parameters).rows
        except Refused as refused:
            if question.refusable:
                return _as_answer(refused)
            raise
        if not rows:
            return "no row"
        if rows[0][0] is None:
            return "null"
        text = str(rows[0][0]).strip()
        return text if re.fullmatch(question.shape, text) else "something else"

    def _outcome(self, question: Outcome) -> str:
        self._prepare(question.before)
        if question.broken is not None:
            try:
                self.run(question.broken)
            except Refused as refused:
                if refused.lost or refused.timed_out:
                    raise
            else:
                raise CouldNotAsk("a statement that was to fail did not")
        try:
            self.run(question.sql, question.parameters)
        except Refused as refused:
            return _as_answer(refused)
        return "accepted"

    def _count(self, question: Count) -> str:
        self._prepare(question.before)
        count = self.run(question.sql).count
        return "told" if count == question.rows else "not told" if count < 0 else "another number"

    def _columns(self, question: Columns) -> str:
        try:
            self.run(f"SELECT TOP 1 {', '.join(map(identifier, question.names))} FROM {question.view}")
        except Refused as refused:
            if refused.number in _RIGHTS or refused.lost:
                raise
        else:
            return "all there"
        missing = []
        for name in question.names:
            try:
                self.run(f"SELECT TOP 1 {identifier(name)} FROM {question.view}")
            except Refused as refused:
                if refused.number != 207:
                    return _as_answer(refused)
                missing.append(name)
        return f"without {', '.join(missing)}" if missing else "all there"


def _as_answer(refused: Refused) -> str:
    """A refusal as an answer. Raises it again where it says nothing about the question."""
    if refused.number in _RIGHTS or refused.number is None or refused.transient or refused.timed_out:
        raise refused
    return f"refused {refused.number}"


def make_schema(pool: PoolConnection, schema: str) -> None:
    """Make the schema to write in. Raises ConfigurationError where there is one: what is in it is not ours."""
    there = pool.run("SELECT 1 FROM sys.schemas WHERE [name] = ?", (schema,)).rows
    if there:
        raise ConfigurationError(
            f"The schema {schema} exists already.",
            hint="Give --write the name of a schema that does not exist; it is made, and removed afterwards.",
            origin="warehouse",
        )
    pool.run(f"CREATE SCHEMA {identifier(schema)}")


def empty_schema(pool: PoolConnection, schema: str) -> None:
    """Drop what a fact left in the schema, and the file format that has its name."""
    rows = pool.run(
        "SELECT o.[name], o.[type] FROM sys.objects AS o JOIN sys.schemas AS s ON s.[schema_id] = o.[schema_id] "
        "WHERE s.[name] = ?",
        (schema,),
    ).rows
    # A view before what it reads.
    for name, kind in sorted(rows, key=lambda row: str(row[1]).strip() != "V"):
        word = {"V": "VIEW", "ET": "EXTERNAL TABLE"}.get(str(kind).strip(), "TABLE")
        pool.run(f"DROP {word} {identifier(schema)}.{identifier(str(name))}")
    if pool.run("SELECT 1 FROM sys.external_file_formats WHERE [name] = ?", (schema,)).rows:
        pool.run(f"DROP EXTERNAL FILE FORMAT {identifier(schema)}")


def drop_schema(pool: PoolConnection, schema: str) -> None:
    """Remove the schema and all that is in it."""
    empty_schema(pool, schema)
    pool.run(f"DROP SCHEMA {identifier(schema)}")
