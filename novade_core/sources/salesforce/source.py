"""Salesforce as a source: one object a stream, REST for small windows, Bulk API 2.0 for large ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent

from novade_core.errors import AccessMissing, ConfigurationError, ExtractionLost
from novade_core.settings import SalesforceSettings
from novade_core.sources.base import Facts
from novade_core.sources.salesforce import soql, types
from novade_core.sources.salesforce.bulk import BulkReader
from novade_core.sources.salesforce.client import Client
from novade_core.sources.salesforce.faults import NotForBulk
from novade_core.sources.salesforce.rest import LONGEST_QUERY, RestReader
from novade_core.streams import Batch, Stream, StreamSchema, Window

_log = logging.getLogger(__name__)


class Salesforce:
    """See sources.base.Source. Deletes come through queryAll; purged records only show in counts."""

    name = "salesforce"

    def __init__(self, settings: SalesforceSettings, temp: Path) -> None:
        self.settings = settings
        self._temp = temp
        self._client = Client(settings)
        self._rest = RestReader(self._client, temp)
        self._bulk: BulkReader | None = None

    def close(self) -> None:
        """See Source.close."""
        self._client.close()

    def usage(self) -> Mapping[str, int]:
        """See Source.usage."""
        return {
            "salesforce.api_calls": self._client.api_calls,
            "salesforce.bytes_in": self._client.bytes_in,
            "salesforce.bulk_jobs": self._bulk.jobs if self._bulk else 0,
        }

    @property
    def on_wait(self) -> Callable[[float, str], None]:
        """See Source.on_wait."""
        return self._client.on_wait

    @on_wait.setter
    def on_wait(self, told: Callable[[float, str], None]) -> None:
        self._client.on_wait = told

    def facts(self) -> Facts:
        """See Source.facts."""
        return self._client.facts()

    def now(self) -> datetime:
        """See Source.now."""
        return self._client.server_time()

    def schema(self, stream: Stream) -> StreamSchema:
        """See Source.schema."""
        name = soql.name(stream.object_name)
        try:
            described = self._client.json("GET", f"sobjects/{name}/describe", f"describing {name}")
        except ExtractionLost as error:
            raise AccessMissing(
                f"Salesforce shows no object {name} to the integration user.",
                hint=f"Give the user Read on {name}, or correct the stream's object in novade.toml.",
            ) from error
        if not described.get("queryable", True):
            raise AccessMissing(
                f"Salesforce object {name} cannot be queried.",
                hint="It has no records of its own to read; take the stream out of novade.toml.",
            )
        return types.schema(stream, described["fields"])

    def count(self, stream: Stream) -> int:
        """See Source.count."""
        return self._rest.count(soql.count_live(stream), f"counting {stream.object_name}")

    def window_count(self, stream: Stream, window: Window) -> int:
        """See Source.window_count."""
        return self._rest.count(soql.count_window(stream, window), f"counting a window of {stream.object_name}")

    def counts_by_month(self, stream: Stream, field: str, *, include_deleted: bool) -> dict[str, int]:
        """See Source.counts_by_month."""
        statement = soql.count_months(stream, field, include_deleted=include_deleted)
        rows = self._rest.rows(statement, f"counting {stream.object_name} by month")
        return {f"{int(r['y']):04d}-{int(r['m']):02d}": int(r["n"]) for r in rows if r["y"] is not None}

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """See Source.keys."""
        if not soql.is_month(month):
            return iter(())
        low = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
        high = low.replace(year=low.year + low.month // 12, month=low.month % 12 + 1)
        statement = soql.keys_of_month(stream, field, low, high)
        return (str(r["Id"]) for r in self._rest.rows(statement, f"reading keys of {stream.object_name}"))

    def extract(
        self, stream: Stream, schema: StreamSchema, window: Window, resume: Mapping[str, Any] | None
    ) -> Generator[Batch, None, None]:
        """See Source.extract."""
        statement = soql.select(stream, schema.names(), window)
        mode = str(resume["mode"]) if resume is not None else self._mode(stream, window, statement)
        if mode == "rest":
            yield from self._rest.read(statement, schema.columns, resume, stream.object_name)
            return
        if self._bulk is None:
            self._bulk = BulkReader(self._client, self._temp)
        try:
            yield from self._bulk.read(statement, schema.names(), resume)
        except NotForBulk as error:
            if stream.transport == "bulk":
                raise ConfigurationError(
                    error.message, hint=f'Set the transport of {stream.id} to "rest" or "auto".', origin="source"
                ) from error
            _log.info("bulk refuses %s, reading by rest", stream.object_name)
            yield from self._rest.read(statement, schema.columns, None, stream.object_name)

    def _mode(self, stream: Stream, window: Window, statement: str) -> str:
        """By count, unless the stream says otherwise; a query too long for a URL goes through Bulk."""
        too_long = len(percent(statement)) > LONGEST_QUERY
        if stream.transport == "rest":
            if too_long:
                raise ConfigurationError(
                    f"The query of {stream.id} is too long for REST ({len(percent(statement)):,} bytes).",
                    hint=f'Set the transport of {stream.id} to "auto", or list fewer fields.',
                )
            return "rest"
        if stream.transport == "bulk" or too_long:
            return "bulk"
        expected = window.expected if window.expected is not None else self.window_count(stream, window)
        return "bulk" if expected >= self.settings.bulk_from_rows else "rest"
