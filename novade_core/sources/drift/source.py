"""Drift as a source: conversations and what hangs on them by the walk over the list, users and accounts whole."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent

from novade_core.errors import ConfigurationError, NotOffered, ProtocolBroken, SourceRetired
from novade_core.settings import DriftSettings
from novade_core.sources.base import Facts
from novade_core.sources.drift import files, paging, records
from novade_core.sources.drift.client import Client
from novade_core.sources.drift.faults import Forbidden, NotFound
from novade_core.sources.drift.listing import Directory, Listing
from novade_core.sources.drift.shelf import Listed, Shelf, milliseconds
from novade_core.sources.textfile import write_text
from novade_core.streams import Batch, Stream, StreamSchema, Window

#: A batch ends after so many seconds, or characters, whatever it holds: what landed is not fetched again.
_BATCH_SECONDS, _BATCH_CHARACTERS = 60.0, 16 << 20
#: If the first so many records asked for by id do not exist, the address is gone and not the records.
_GONE_AT_ONCE = 50

Row = list[str | None]


class Drift:
    """See sources.base.Source. One run reads one stream."""

    name = "drift"

    def __init__(self, settings: DriftSettings, temp: Path) -> None:
        self.settings = settings
        self._temp = temp
        self._client = Client(settings)
        self._shelves: list[Shelf] = []
        self._listings: dict[str, Listing | Directory] = {}
        self._counted: dict[str, Shelf] = {}
        #: Of messages and contacts, which Drift lists nowhere: what this run read, if it reads everything.
        self._seen: dict[str, Shelf] = {}
        self._answered = self._gone = 0
        self._written: datetime | None = None  #: when the files of an export were

    def close(self) -> None:
        """See Source.close."""
        for shelf in self._shelves:
            shelf.close()
        self._client.close()

    def usage(self) -> Mapping[str, int]:
        """See Source.usage."""
        return {"drift.api_calls": self._client.api_calls, "drift.bytes_in": self._client.bytes_in}

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
        return self._written or self._client.server_time()

    def schema(self, stream: Stream) -> StreamSchema:
        """See Source.schema. One call, which also tells whether Drift is still there and reads its clock.

        Raises SourceRetired where no address answers any more. Files of an export are looked for instead.
        """
        if _is_files(stream):
            self._written = files.written_at(files.files_of(self.settings, stream.object_name))
            return records.schema(stream)
        try:
            match stream.object_name:
                case "contacts":
                    self._client.get("/contacts/attributes", "reading the contacts' attributes")
                case "users":
                    paging.users(self._client)
                case "accounts":
                    next(paging.accounts(self._client))
                case _:
                    next(paging.conversations(self._client, 1))
        except NotFound as error:
            raise self._missing(error) from error
        return records.schema(stream)

    def _missing(self, error: NotFound) -> ConfigurationError | SourceRetired:
        """Whether one address is wrong, or every one is gone."""
        try:
            self._client.is_known_token()
        except NotFound:
            return SourceRetired(
                f"No address of {self.settings.endpoint} answers any more, so Drift is retired, or this is not Drift.",
                hint="Check drift.endpoint. Everything that was loaded stays; pause the stream's schedule.",
            )
        return ConfigurationError(
            error.message,
            hint="Check drift.endpoint: https://driftapi.com or https://api.drift.com.",
            origin="source",
        )

    # Lists and counts

    def _shelf(self) -> Shelf:
        self._shelves.append(Shelf(self._temp))
        return self._shelves[-1]

    def _new_listing(self, stream: Stream) -> Listing | Directory:
        account = {"key": "accountId", "updated": "updateDateTime", "created": "createDateTime"}
        names = account if stream.object_name == "accounts" else {}
        if _is_files(stream):
            found = files.files_of(self.settings, stream.object_name)
            return Directory(lambda: files.pages(found, stream.object_name), names, self._shelf, changes=False)
        match stream.object_name:
            case "users":
                return Directory(lambda: [paging.users(self._client)], {}, self._shelf)
            case "accounts":
                return Directory(lambda: paging.accounts(self._client), names, self._shelf)
        return Listing(self._client, self._shelf(), stream.overlap_seconds * 1000)

    def _listing(self, stream: Stream) -> Listing | Directory:
        if stream.id not in self._listings:
            self._listings[stream.id] = self._new_listing(stream)
        return self._listings[stream.id]

    def count(self, stream: Stream) -> int:
        """See Source.count."""
        self._counted.pop(stream.id, None)
        return self._at_drift(stream).living()

    def _at_drift(self, stream: Stream) -> Shelf:
        """What is there now, as far as Drift can be asked for it."""
        if stream.id not in self._counted:
            self._counted[stream.id] = self._count(stream)
        return self._counted[stream.id]

    def _count(self, stream: Stream) -> Shelf:
        listing, mode = self._listing(stream), self.settings.count
        if _is_files(stream):
            return listing.reach(None)
        if mode == "never":
            raise NotOffered("drift.count says that Drift is never counted.")
        if _hangs_on_conversations(stream):
            if stream.id in self._seen:
                return self._seen[stream.id]
            raise NotOffered(f"Drift has no count of {stream.object_name}; a full reload counts what it reads.")
        if listing.complete:
            return listing.reach(None)
        if mode == "always":
            return self._new_listing(stream).reach(None)
        raise NotOffered("Drift has no count of conversations; a full reload counts what it lists.")

    def counts_by_month(self, stream: Stream, field: str, *, include_deleted: bool) -> dict[str, int]:
        """See Source.counts_by_month. By the cursor, it is the plan of a run that reads everything."""
        if field != stream.cursor_field:
            return self._at_drift(stream).months("created", include_deleted=include_deleted)
        if _hangs_on_conversations(stream):
            self._seen[stream.id] = self._shelf()
        months = self._listing(stream).reach(None).months("changed", include_deleted=include_deleted)
        return {month: number for month, number in months.items() if month}

    def window_count(self, stream: Stream, window: Window) -> int | None:
        """See Source.window_count."""
        shelf = self._listing(stream).reach(_low(window))
        if not _hangs_on_conversations(stream):
            return shelf.count(window)
        return shelf.count_contacts(window) if stream.object_name == "contacts" else None

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """See Source.keys."""
        return self._at_drift(stream).keys(month) if field == stream.created_field else iter(())

    # Records

    def extract(
        self, stream: Stream, schema: StreamSchema, window: Window, resume: Mapping[str, Any] | None
    ) -> Generator[Batch, None, None]:
        """See Source.extract. The position is change and id of the last listed record that was read whole."""
        listing = self._listing(stream)
        shelf = listing.reach(_low(window))
        listing.used()
        place = tuple(resume["after"]) if resume and resume["after"] else None
        cells = records.Cells(stream, schema.columns)
        read, listed = {
            "conversations": (self._conversation, shelf.in_window),
            "messages": (self._messages, shelf.in_window),
            "contacts": (self._contact, shelf.contacts),
        }.get("" if _is_files(stream) else stream.object_name, (self._listed, shelf.in_window))
        rows: list[Row] = []
        size, before, deadline = 0, self._client.bytes_in, time.monotonic() + _BATCH_SECONDS
        for item in listed(window, place):
            for row in read(stream, cells, item):
                is_full = len(rows) >= self.settings.batch_rows or size > _BATCH_CHARACTERS
                if rows and (is_full or time.monotonic() > deadline):
                    yield from self._batch(cells.header, rows, {"after": place}, before)
                    rows, size = [], 0
                    before, deadline = self._client.bytes_in, time.monotonic() + _BATCH_SECONDS
                rows.append(row)
                size += sum(map(len, filter(None, row)))
            if item.changed is not None:
                place = (item.changed, item.id)
        if rows:
            yield from self._batch(cells.header, rows, None, before)

    def _batch(
        self, header: Sequence[str], rows: list[Row], resume: Mapping[str, Any] | None, before: int
    ) -> Iterator[Batch]:
        with tempfile.NamedTemporaryFile(dir=self._temp, prefix="page-", suffix=".csv") as file:
            text = write_text(Path(file.name), header, rows)
            yield Batch(text=text, resume=resume, rows=len(rows), bytes_in=self._client.bytes_in - before)

    def _listed(self, _stream: Stream, cells: records.Cells, item: Listed) -> Iterator[Row]:
        ours = {"_changed_at": _text(item.changed), "_deleted": _text(False), "_blocked": _text(False)}
        yield cells.row(item.record, ours)

    def _conversation(self, _stream: Stream, cells: records.Cells, item: Listed) -> Iterator[Row]:
        """The listed row, and what only the single record tells; one that is gone by now is left out."""
        record = dict(item.record or {})
        if self.settings.details:
            doing = f"reading conversation {item.id}"
            try:
                record |= paging.one(self._client, f"/conversations/{_path(item.id)}", doing)
            except NotFound as error:
                self._note_gone(error)
                return
            self._answered += 1
        changed = records.changed(record)
        stamps = [s for s in (item.changed, records.instant(changed)) if s is not None]
        yield cells.row(record, {"_changed_at": _text(max(stamps)) if stamps else _text(changed)})

    def _messages(self, stream: Stream, cells: records.Cells, item: Listed) -> Iterator[Row]:
        """All messages of a conversation: they carry no instant of change themselves."""
        ours = {"_changed_at": _text(item.changed)}
        try:
            for page in paging.messages(self._client, _path(item.id)):
                self._answered += 1
                rows = [cells.row(message, ours) for message in page]
                self._note_seen(stream, item, page)
                yield from rows
        except NotFound as error:
            self._note_gone(error)

    def _contact(self, stream: Stream, cells: records.Cells, item: Listed) -> Iterator[Row]:
        """404 is a contact that was deleted, 403 one that is blocked: it stays, but Drift shows nothing of it."""
        deleted = blocked = False
        record: Mapping[str, Any] = {"id": records.Number(item.id)}
        try:
            record = paging.one(self._client, f"/contacts/{_path(item.id)}", f"reading contact {item.id}") or record
            self._answered += 1
        except NotFound as error:
            self._note_gone(error)
            deleted = True
        except Forbidden:
            blocked = True
        self._note_seen(stream, item, [record], deleted=deleted)
        ours = {"_deleted": _text(deleted), "_blocked": _text(blocked), "_changed_at": _text(item.changed)}
        yield cells.row(record, ours)

    def _note_seen(self, stream: Stream, item: Listed, read: Sequence[Any], *, deleted: bool = False) -> None:
        seen = self._seen.get(stream.id)
        if seen is None:
            return
        known = [r for r in read if isinstance(r, dict) and r.get("id") is not None]
        made = ((str(r["id"]), records.instant(r.get("createdAt"))) for r in known)
        seen.put(Listed(id=i, changed=item.changed, created=created, deleted=deleted) for i, created in made)

    def _note_gone(self, error: NotFound) -> None:
        """Gone while the run went on, which is quite usual; but not for all of them."""
        self._gone += 1
        if self._gone >= _GONE_AT_ONCE and not self._answered:
            raise ProtocolBroken(
                f"Drift lists records and says of the first {self._gone} that they do not exist: {error.message}",
                hint="Nothing was taken as deleted. Check drift.endpoint; the address may have been retired.",
            )


def _is_files(stream: Stream) -> bool:
    return stream.transport == "files"


def _hangs_on_conversations(stream: Stream) -> bool:
    """Whether the API lists nothing of the kind, so that conversations lead to it."""
    return stream.object_name in ("messages", "contacts") and not _is_files(stream)


def _low(window: Window) -> int | None:
    return None if window.low is None else milliseconds(window.low)


def _path(record_id: str) -> str:
    return percent(record_id, safe="")


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
