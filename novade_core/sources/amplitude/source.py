"""Amplitude as a source: raw events by the Export API, definitions by the Taxonomy API."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from novade_core.errors import NotOffered
from novade_core.settings import AmplitudeSettings
from novade_core.sources.amplitude import fields, taxonomy
from novade_core.sources.amplitude.client import Client
from novade_core.sources.amplitude.export import HOUR, Exporter, hour_of, spans
from novade_core.sources.amplitude.lines import Splitter
from novade_core.sources.base import Facts
from novade_core.streams import Batch, ColumnType, JsonLines, Refused, Stream, StreamSchema, Window

#: How far back the first sync goes where ``amplitude.since`` does not say.
_HISTORY = timedelta(days=30)


class Amplitude:
    """See sources.base.Source and CutsWindows. Nothing is ever deleted here: the Export API tells of no deletes."""

    name = "amplitude"

    def __init__(self, settings: AmplitudeSettings, temp: Path) -> None:
        self.settings = settings
        self._temp = temp
        self._client = Client(settings)
        self._exporter = Exporter(self._client, settings, temp)
        self._listed: dict[str, int] = {}

    def close(self) -> None:
        """See Source.close."""
        self._client.close()

    def usage(self) -> Mapping[str, int]:
        """See Source.usage."""
        return {"amplitude.api_calls": self._client.api_calls, "amplitude.bytes_in": self._client.bytes_in}

    @property
    def on_wait(self) -> Callable[[float, str], None]:
        """See Source.on_wait."""
        return self._client.on_wait

    @on_wait.setter
    def on_wait(self, told: Callable[[float, str], None]) -> None:
        self._client.on_wait = told

    def facts(self) -> Facts:
        """See Source.facts. Amplitude tells no quota."""
        host = urlsplit(self._client.endpoint).netloc
        return Facts(about={"host": host, "region": self.settings.region})

    def now(self) -> datetime:
        """See Source.now: the end of the last whole hour that is exported for certain, by Amplitude's clock.

        An hour can be exported two hours after its end at the soonest; ``settle_minutes`` is waited for.
        """
        return hour_of(self._client.server_time() - timedelta(minutes=self.settings.settle_minutes))

    def schema(self, stream: Stream) -> StreamSchema:
        """See Source.schema. Fields are documented, not described; what has another name lands in ``_other``."""
        return fields.schema(stream, self.settings)

    def cut(self, stream: Stream, low: datetime | None, high: datetime, part: str) -> list[Window]:
        """See CutsWindows.cut: a window for each request."""
        del stream  # only events have hours
        if low is None:
            since = self.settings.since
            low = datetime.combine(since, time(), UTC) if since else high - _HISTORY
        asked = spans(low, high, self.settings.hours_per_request)
        return [Window(low=s.first, high=s.first + HOUR * s.hours, part=part) for s in asked]

    def count(self, stream: Stream) -> int:
        """See Source.count. Of definitions, as many as this run has listed."""
        if stream.cursor_field is not None:
            raise NotOffered("Amplitude counts no raw events; each line of its files is accounted for instead.")
        if stream.id not in self._listed:
            raise NotOffered("Amplitude counts no definitions; a run counts what it lists.")
        return self._listed[stream.id]

    def counts_by_month(self, stream: Stream, field: str, *, include_deleted: bool) -> dict[str, int]:
        """See Source.counts_by_month."""
        del stream, field, include_deleted
        raise NotOffered("Amplitude counts no raw events by the time of their upload.")

    def window_count(self, stream: Stream, window: Window) -> int | None:
        """See Source.window_count: unknown."""
        del stream, window
        return None

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """See Source.keys."""
        del stream, field, month
        raise NotOffered("Amplitude lists no keys of events.")

    def extract(
        self, stream: Stream, schema: StreamSchema, window: Window, resume: Mapping[str, Any] | None
    ) -> Generator[Batch, None, None]:
        """See Source.extract. Hours that ``now`` does not reach yet are left to a later run."""
        text = partial(self._text, schema)
        if stream.cursor_field is None:
            yield from self._definitions(stream, text)
            return
        high = min(window.high or self.now(), self.now())
        low = window.low or high - _HISTORY
        if low < high:
            yield from self._exporter.read(low, high, resume, text)

    def _definitions(self, stream: Stream, text: Callable[[Path], JsonLines]) -> Generator[Batch, None, None]:
        """All of them as one batch: a plan has some thousand at most."""
        before = self._client.bytes_in
        found: Iterable[dict[str, Any]] = (
            taxonomy.event_types(self._client)
            if stream.object_name == "event_types"
            else taxonomy.event_properties(self._client)
        )
        path, splitter, keys = self._temp / f"{stream.name}.jsonl", Splitter(), set()
        rows = 0
        refused: list[Refused] = []
        try:
            with path.open("wb") as file:
                for row in found:
                    piece = splitter.feed(taxonomy.line_of(row))
                    file.write(piece.text)
                    rows += piece.rows
                    refused += piece.refused
                    if piece.rows:
                        keys.add(tuple(row.get(name) for name in stream.primary_key))
            self._listed[stream.id] = len(keys)
            if rows or refused:
                size = self._client.bytes_in - before
                yield Batch(text=text(path), resume=None, rows=rows, bytes_in=size, refused=tuple(refused))
        finally:
            path.unlink(missing_ok=True)

    def _text(self, schema: StreamSchema, path: Path) -> JsonLines:
        names = schema.names()
        return JsonLines(
            path=path,
            fields=names,
            as_json=frozenset(c.name for c in schema.columns if c.type is ColumnType.JSON and c.name != fields.REST),
            rest=fields.REST if fields.REST in names else None,
            inner={n: place for n, place in fields.promoted(self.settings).items() if n in names},
            first_of={fields.INSERT_KEY: ("$insert_id", "uuid")} if fields.INSERT_KEY in names else {},
        )
