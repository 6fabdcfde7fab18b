"""A serverless SQL pool: what views and external tables are there, making others, counting through them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from novade_core.errors import AuthenticationFailed, ConfigurationError, NovadeError, RetryableError
from novade_core.settings import LandingSettings, ServerlessSettings
from novade_core.warehouse import external_views
from novade_core.warehouse.external_views import CREDENTIAL, DATA_SOURCE, FILE_FORMAT
from novade_core.warehouse.synapse_link import EXISTS_ALREADY, Link, Refused
from novade_core.warehouse.synapse_schema import read_type
from novade_core.warehouse.synapse_sql import Statement, Table, identifier, literal, redacted

#: What any query is billed with at least. https://learn.microsoft.com/azure/synapse-analytics/sql/data-processed
LEAST_BYTES = 10_000_000
_MB = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MASTER_KEY = "##MS_DatabaseMasterKey##"


@dataclass(frozen=True, kw_only=True)
class External:
    """An external table as it is: where it reads, and its columns with their types."""

    location: str
    data_source: str
    columns: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What there is on the pool."""

    missing: tuple[Statement, ...]  #: foundations, the limit and schemas that are to be made
    objects: frozenset[tuple[str, str]]  #: schema and name of every table and view
    definitions: Mapping[tuple[str, str], str]  #: texts of views
    external: Mapping[tuple[str, str], External]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a query through a view or an external table said."""

    rows: int
    newest: int | None  #: the highest version
    bytes_processed: int | None  #: None: the pool's own counter could not be read, or had not moved yet

    @property
    def newest_at(self) -> datetime | None:
        """The version as an instant, where it is microseconds since 1970 of a year that can be."""
        if self.newest is None or not 0 < self.newest < 4_102_444_800_000_000:
            return None
        return _EPOCH + timedelta(microseconds=self.newest)


@dataclass
class Measured:
    """What a query cost, once it is over."""

    bytes_processed: int | None = None  #: None: the pool's own counter could not be read, or had not moved yet


class Serverless:
    """The pool of an environment. Each method connects by itself, or in one ``session`` around several."""

    def __init__(self, settings: ServerlessSettings, landing: LandingSettings) -> None:
        """Raises ConfigurationError where the pool is not named, or the landing is none that it can read."""
        if not settings.server or not settings.database:
            raise ConfigurationError(
                "Views need serverless.server and serverless.database.",
                hint="Name the endpoint, such as acme-ondemand.sql.azuresynapse.net, and a database on it.",
            )
        if landing.kind != "azure_blob" or not landing.account:
            raise ConfigurationError(
                f"Views need the landing in Azure Blob Storage, with its account named; this one is {landing.kind}.",
                hint='Set landing.kind = "azure_blob" and landing.account, or remove the section serverless.',
            )
        endpoint: Literal["blob", "dfs"] = "blob" if landing.location_endpoint == "blob" else "dfs"
        self._settings = settings
        self._server = settings.server
        self._place = external_views.location(
            landing.account, landing.container, prefix=landing.prefix, endpoint=endpoint
        )
        self._foundations = external_views.foundations(
            "serverless", landing.account, landing.container, place=self._place
        )
        self._link: Link | None = None

    @property
    def has_external_tables(self) -> bool:
        """Is an external table wanted beside each view?"""
        return self._settings.external_tables

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """One connection for several calls."""
        if self._link is not None:
            yield
            return
        self._link = Link(self._settings.login())
        try:
            yield
        finally:
            self._link.close()
            self._link = None

    def look(self, schemas: Sequence[str]) -> Existing:
        """What is there, and what of the ground below views is missing; costs no data."""
        with self.session():
            missing = [*self._missing_foundations(), *self._missing_schemas(schemas)]
            if (limit := self._missing_limit()) is not None:
                missing.append(limit)
            objects = self._rows("see_objects", _OBJECTS)
            views = self._rows("see_views", _VIEWS)
            return Existing(
                missing=tuple(missing),
                objects=frozenset((schema, name) for schema, name in objects),
                definitions={(schema, name): text or "" for schema, name, text in views},
                external=self._external(),
            )

    def definition(self, table: Table) -> tuple[bool, str | None]:
        """Whether anything has this name, and its text where that is a view; costs no data."""
        rows = self._rows(
            "see_view",
            "SELECT m.definition FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id "
            "LEFT JOIN sys.sql_modules m ON m.object_id = o.object_id "
            f"WHERE LOWER(s.name) = {literal(table.schema.lower())} AND LOWER(o.name) = {literal(table.name.lower())}",
        )
        return bool(rows), next((text for (text,) in rows), None)

    def run(self, statement: Statement) -> None:
        """One statement that makes or drops something; what another run made at the same moment is as good."""
        with self.session():
            try:
                self._open_link.hit(statement)
            except Refused as refused:
                if refused.number not in EXISTS_ALREADY:
                    raise self._told(refused) from refused

    def publish(self, statement: Statement, table: Table, over: str | None) -> bool:
        """Make a view, or renew it where it still is of the version ``over``; whether it is now as the statement says.

        False: somebody else was here first, and what they made was left alone.
        """
        wanted = statement if over is None else external_views.renewal(statement, table, over)
        with self.session():
            try:
                self._open_link.hit(wanted)
            except Refused as refused:
                if refused.number not in EXISTS_ALREADY:
                    raise self._told(refused) from refused
            _, text = self.definition(table)
        return text is not None and external_views.version_of(text) == external_views.version_of(statement.text)

    @contextlib.contextmanager
    def measured(self) -> Iterator[Measured]:
        """Around queries that cost data; with other people's of the same moment, since the pool counts for all."""
        with self.session():
            before, found = self._processed(), Measured()
            yield found
            after = self._processed()
            moved = after - before if before is not None and after is not None else 0
            found.bytes_processed = moved if moved >= LEAST_BYTES else None

    def query(self, statement: Statement) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, fetched in pieces."""
        with self.session():
            try:
                yield from self._open_link.stream(statement)
            except Refused as refused:
                raise self._told(refused) from refused

    def interrupt(self) -> None:
        """End the statement that runs, from another thread; nothing happens where none does."""
        if (link := self._link) is not None:
            link.cancel()

    def count(self, table: Table) -> Counted:
        """Rows and highest version through a view or an external table; this costs data."""
        with self.measured() as cost:
            ((rows, newest),) = self._rows(
                "count", f"SELECT COUNT_BIG(*), MAX([_novade_source_version]) FROM {table.sql}"
            )
        return Counted(rows=int(rows), newest=newest, bytes_processed=cost.bytes_processed)

    # What there is

    def _missing_foundations(self) -> list[Statement]:
        keys = {name for (name,) in self._rows("see_keys", "SELECT name FROM sys.symmetric_keys")}
        credentials = self._rows("see_credentials", "SELECT name FROM sys.database_scoped_credentials")
        sources = dict(self._rows("see_sources", "SELECT name, location FROM sys.external_data_sources"))
        formats = self._rows("see_formats", "SELECT name FROM sys.external_file_formats")
        found = sources.get(DATA_SOURCE)
        if found is not None and found.rstrip("/").lower() != self._place.lower():
            raise ConfigurationError(
                f"The data source {DATA_SOURCE} on {self._server} leads to {found}, the landing is {self._place}.",
                hint="Use another database, or drop its views, external tables and data source and apply again.",
                origin="warehouse",
            )
        there = (
            (CREDENTIAL,) in credentials,
            found is not None,
            (FILE_FORMAT,) in formats,
        )
        missing = [] if _MASTER_KEY in keys else [Statement("master_key", "CREATE MASTER KEY", labelled=False)]
        return missing + [s for s, is_there in zip(self._foundations, there, strict=True) if not is_there]

    def _missing_schemas(self, schemas: Sequence[str]) -> list[Statement]:
        there = {name.lower() for (name,) in self._rows("see_schemas", "SELECT name FROM sys.schemas")}
        return [
            Statement("schema", f"CREATE SCHEMA {identifier(schema)}", labelled=False)
            for schema in schemas
            if schema.lower() not in there
        ]

    def _missing_limit(self) -> Statement | None:
        settings = self._settings
        rows = self._rows("see_limits", _LIMITS)
        now = {name.lower(): value for name, value in rows}
        current = next((value for name, value in now.items() if settings.data_limit_per in name), None)
        if current == settings.data_limit_tb:
            return None
        return external_views.data_limit(settings.data_limit_tb, settings.data_limit_per)

    def _external(self) -> dict[tuple[str, str], External]:
        columns: dict[tuple[str, str], dict[str, str]] = {}
        for schema, table, name, *kind in self._rows("see_columns", _COLUMNS):
            columns.setdefault((schema, table), {})[name] = read_type(kind)
        return {
            (schema, name): External(
                location=location, data_source=source or "", columns=columns.get((schema, name), {})
            )
            for schema, name, location, source in self._rows("see_external_tables", _EXTERNAL)
        }

    def _processed(self) -> int | None:
        """Bytes that all queries processed this day; None where the pool does not say it in these words."""
        try:
            rows = self._open_link.rows(Statement("see_processed", _PROCESSED, labelled=False))
        except Refused as refused:
            if refused.lost or refused.transient:
                raise self._told(refused) from refused
            return None
        return next((int(amount) * _MB for kind, amount in rows if str(kind).lower() == "daily"), None)

    @property
    def _open_link(self) -> Link:
        assert self._link is not None
        return self._link

    def _rows(self, step: str, text: str) -> list[tuple[Any, ...]]:
        try:
            return self._open_link.rows(Statement(step, text, labelled=False))
        except Refused as refused:
            raise self._told(refused) from refused

    def _told(self, refused: Refused) -> NovadeError:
        """One of our errors in the words of the section serverless; what the pool says of files is kept."""
        which = f"error {refused.number}" if refused.number else f"SQLSTATE {refused.state}"
        server, said = self._server, _said(refused.text)
        if refused.number == 4060:
            return ConfigurationError(
                f"{server} has no database {self._settings.database}, or does not let us into it.",
                hint=f"As an administrator: CREATE DATABASE {self._settings.database} "
                "COLLATE Latin1_General_100_BIN2_UTF8; docs/azure.md has the grants.",
                origin="warehouse",
            )
        if refused.number in (18456, 916, 4064) or refused.state == "28000":
            return AuthenticationFailed(
                f"{server} refused the login ({which}).",
                hint="Check serverless.auth, user, password and database; the user must exist in the database.",
                origin="warehouse",
            )
        if "limit" in said.lower() and "processed" in said.lower():
            return RetryableError(
                f"{server} reads no more data for now: {said} ({which}).",
                hint="Wait for the next period, or raise serverless.data_limit_tb and `python -m jobs views apply`.",
                origin="warehouse",
            )
        if refused.transient or refused.timed_out:
            return RetryableError(f"{server} did not answer the step {refused.step} ({which}).", origin="warehouse")
        return ConfigurationError(
            f"{server} refused the step {refused.step}: {said} ({which}).",
            hint="docs/azure.md lists what views need: grants of ours, and the workspace's on the storage.",
            origin="warehouse",
        )


def _said(text: str) -> str:
    """The pool's words about files, columns and rights, without the driver's frame and without values of records."""
    plain = re.sub(r"\s*\(\d+\) \(SQL\w+\)$", "", re.sub(r"^(\[[^\]]*\])+", "", redacted(text)).strip())

    def kept(found: re.Match[str]) -> str:
        return found[0] if found[1] or "/" in found[2] else "'…'"

    return re.sub(r"((?:column|type|path|object) )?'([^']*)'", kept, plain, flags=re.IGNORECASE)[:300].rstrip(".")


_OBJECTS = (
    "SELECT s.name, o.name FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id "
    "WHERE s.name NOT IN (N'sys', N'INFORMATION_SCHEMA')"
)
_VIEWS = (
    "SELECT s.name, v.name, m.definition FROM sys.views v JOIN sys.schemas s ON s.schema_id = v.schema_id "
    "JOIN sys.sql_modules m ON m.object_id = v.object_id"
)
_EXTERNAL = (
    "SELECT s.name, t.name, t.location, d.name FROM sys.external_tables t "
    "JOIN sys.schemas s ON s.schema_id = t.schema_id "
    "LEFT JOIN sys.external_data_sources d ON d.data_source_id = t.data_source_id "
    f"WHERE s.name = {literal(external_views.LANDED_SCHEMA)}"
)
_COLUMNS = (
    "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, "
    "NUMERIC_SCALE, DATETIME_PRECISION FROM INFORMATION_SCHEMA.COLUMNS "
    f"WHERE TABLE_SCHEMA = {literal(external_views.LANDED_SCHEMA)} ORDER BY TABLE_NAME, ORDINAL_POSITION"
)
#: Values are sql_variant, which no driver of ours reads.
_LIMITS = (
    "SELECT CAST([name] AS nvarchar(200)), CAST([value_in_use] AS bigint) FROM sys.configurations "
    "WHERE [name] LIKE N'Data processed %'"
)
#: Unconfirmed: the names of these two columns.
_PROCESSED = "SELECT [type], [data_processed_mb] FROM sys.dm_external_data_processed"
