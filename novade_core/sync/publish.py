"""Streams as views over the landing zone: what is there against what should be, publishing, checking.

What is found and done is written to the ledger, where the console reads it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from novade_core.errors import NovadeError, RetryableError
from novade_core.ledger import published_views
from novade_core.ledger.database import Ledger
from novade_core.ledger.published_views import Kind, ViewState
from novade_core.streams import LandedFile, Stream
from novade_core.warehouse import external_views
from novade_core.warehouse.external_views import Stamp
from novade_core.warehouse.serverless import LEAST_BYTES, Counted, Existing, External
from novade_core.warehouse.synapse_sql import Statement, Table

_log = logging.getLogger(__name__)


class Pool(Protocol):
    """The serverless pool: ``warehouse.serverless.Serverless``."""

    @property
    def has_external_tables(self) -> bool:
        """Is an external table wanted beside each view?"""

    def session(self) -> AbstractContextManager[None]:
        """One connection for several calls."""

    def look(self, schemas: Sequence[str]) -> Existing:
        """What is there."""

    def run(self, statement: Statement) -> None:
        """Make or drop something."""

    def publish(self, statement: Statement, table: Table, over: str | None) -> bool:
        """Make a view, or renew it where it still is of the version ``over``; False: somebody else was faster."""

    def count(self, table: Table) -> Counted:
        """Rows through a view."""


@dataclass(frozen=True)
class Desk:
    """What publishing works with."""

    ledger: Ledger
    pool: Pool
    clock: Callable[[], datetime]
    loaded_into: bool = False  #: the views are the warehouse: they show what was loaded, and runs publish them


@dataclass(frozen=True, kw_only=True)
class Item:
    """A view or external table: how it is, and what makes it as it should be."""

    name: str
    kind: Kind
    stream: Stream
    table: Table
    state: ViewState
    version: str | None = None  #: as it should be
    found: str | None = None  #: as it is
    files: int = 0
    seqs: tuple[int, ...] = ()  #: of the manifests that it shows
    statements: tuple[Statement, ...] = ()  #: that are to be run
    trouble: str | None = None
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """What counting through one of them said."""

    name: str
    kind: Kind
    stream: str
    state: ViewState
    rows: int | None = None
    expected: int | None = None
    newest_at: datetime | None = None
    bytes_processed: int | None = None
    trouble: str | None = None
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done: the ground below first, then each view."""

    foundations: tuple[Statement, ...]
    items: tuple[Item, ...]
    done: tuple[Statement, ...] = field(default=())


# --- plan and apply -----------------------------------------------------------------------------


def plan(desk: Desk, streams: Sequence[Stream]) -> Plan:
    """Compare; changes nothing on the pool. Raises NovadeError where it cannot be asked."""
    schemas = list(dict.fromkeys(stream.source for stream in streams))
    if desk.pool.has_external_tables:
        schemas.append(external_views.LANDED_SCHEMA)
    found = desk.pool.look(schemas)
    items: list[Item] = []
    for stream in streams:
        with desk.ledger.read() as connection:
            manifests = [m for m in published_views.manifests(connection, stream.id) if m.files]
        items.append(_view(desk, stream, manifests, found))
        if desk.pool.has_external_tables:
            items.append(_table(stream, manifests, found))
    for item in items:
        _note(desk, item)
    return Plan(foundations=found.missing, items=tuple(items))


def _view(desk: Desk, stream: Stream, manifests: Sequence[LandedFile], found: Existing) -> Item:
    table = external_views.view_of(stream)
    item = Item(name=table.sql, kind=Kind.VIEW, stream=stream, table=table, state=ViewState.NOTHING)
    text = _held(found.definitions, table)
    is_there = _held(dict.fromkeys(found.objects, "there"), table) is not None
    item = replace(item, found=external_views.version_of(text) if text is not None else None)
    if is_there and item.found is None:
        what = "a view whose text is not as we made it" if text is not None else "a table"
        return replace(
            item,
            state=ViewState.NOT_OURS,
            trouble=f"{table.sql} is {what}, so it is left as it is.",
            hint=f"Rename or drop it (DROP VIEW {table.sql}), then run `python -m jobs views apply` again.",
        )
    stamp = None
    if desk.loaded_into:
        stamp, manifests = _loaded(desk, stream, external_views.stamp_of(text or ""))
    if not manifests:
        # A view that a run published without rows is as it should be.
        return replace(item, state=ViewState.CURRENT, version=item.found) if stamp and item.found else item
    files = sum(len(m.files) for m in manifests)
    try:
        statement = external_views.view(stream, manifests, replacing=text is not None, stamp=stamp)
    except NovadeError as error:
        return replace(item, state=ViewState.BEHIND, trouble=error.message, hint=error.hint)
    version = external_views.version_of(statement.text)
    state = ViewState.MISSING if text is None else ViewState.CURRENT if version == item.found else ViewState.BEHIND
    return replace(
        item,
        state=state,
        version=version,
        files=files,
        seqs=tuple(m.seq for m in manifests),
        statements=() if state is ViewState.CURRENT else (statement,),
    )


def _loaded(desk: Desk, stream: Stream, found: Stamp | None) -> tuple[Stamp, Sequence[LandedFile]]:
    """What was loaded, as the ledger and the view itself have it; a view that says the same keeps its fence."""
    known = found or Stamp(fence=0, reloaded=0, seqs=())
    with desk.ledger.read() as connection:
        held = published_views.held(connection, stream.id, seqs=known.seqs, reloaded=known.reloaded)
    seqs = tuple(m.seq for m in held.manifests)
    same = found is not None and seqs == known.seqs
    stamp = found if same else None
    return stamp or Stamp(fence=held.fence, reloaded=held.reloaded, seqs=seqs), held.manifests


def _table(stream: Stream, manifests: Sequence[LandedFile], found: Existing) -> Item:
    table = external_views.landed_table(stream)
    item = Item(name=table.sql, kind=Kind.TABLE, stream=stream, table=table, state=ViewState.NOTHING)
    there = _held(found.external, table)
    if there is None and _held(dict.fromkeys(found.objects, "there"), table) is not None:
        return replace(
            item,
            state=ViewState.NOT_OURS,
            trouble=f"{table.sql} is no external table, so it is left as it is.",
            hint="Rename or drop it, then run `python -m jobs views apply` again.",
        )
    if there is not None and there.data_source != external_views.DATA_SOURCE:
        return replace(
            item,
            state=ViewState.NOT_OURS,
            trouble=f"{table.sql} reads from the data source {there.data_source}, so it is left as it is.",
            hint=f"Drop it (DROP EXTERNAL TABLE {table.sql}), then run `python -m jobs views apply` again.",
        )
    if not manifests:
        return item
    types, path = external_views.landed_columns(manifests), external_views.landed_path(stream)
    wanted = External(location=f"/{path}", data_source=external_views.DATA_SOURCE, columns=types)
    made = external_views.external_table(table, types, path)
    drop = Statement("drop_external_table", f"DROP EXTERNAL TABLE {table.sql}", labelled=False)
    state = ViewState.MISSING if there is None else ViewState.CURRENT if there == wanted else ViewState.BEHIND
    steps = {ViewState.MISSING: (made,), ViewState.BEHIND: (drop, made)}
    return replace(
        item,
        state=state,
        version=hashlib.sha256(made.text.encode()).hexdigest()[:16],
        files=sum(len(m.files) for m in manifests),
        seqs=tuple(m.seq for m in manifests),
        statements=steps.get(state, ()),
    )


def _held(among: Mapping[tuple[str, str], Any], table: Table) -> Any:
    """By name as the pool compares names: capitals do not count."""
    wanted = (table.schema.lower(), table.name.lower())
    return next((value for (schema, name), value in among.items() if (schema.lower(), name.lower()) == wanted), None)


def apply(desk: Desk, streams: Sequence[Stream], tell: Callable[[str], None] | None = None) -> Plan:
    """Make what is missing and renew what is behind; safe to repeat. ``tell`` hears each statement that was run.

    One view that fails holds up no other. Raises NovadeError where the pool cannot be asked, or its ground not laid.
    """
    with desk.pool.session():
        wanted = plan(desk, streams)
        done: list[Statement] = []
        for statement in wanted.foundations:
            _run(desk, statement, tell, done)
        items = []
        for item in wanted.items:
            try:
                for statement in item.statements:
                    _run(desk, statement, tell, done, item)
            except NovadeError as error:
                items.append(replace(item, trouble=error.message, hint=error.hint))
            else:
                items.append(replace(item, state=ViewState.CURRENT) if item.statements else item)
            _note(desk, items[-1], published=bool(item.statements))
    return Plan(foundations=wanted.foundations, items=tuple(items), done=tuple(done))


def _run(
    desk: Desk,
    statement: Statement,
    tell: Callable[[str], None] | None,
    done: list[Statement],
    item: Item | None = None,
) -> None:
    if item is None or item.kind is not Kind.VIEW:
        desk.pool.run(statement)
    elif not desk.pool.publish(statement, item.table, item.found):
        raise RetryableError(
            f"{item.name} was changed by somebody else at the same moment.",
            hint="Run `python -m jobs views plan` to see whether anything is left to do.",
            origin="warehouse",
        )
    done.append(statement)
    if tell is not None:
        tell(statement.text)


def _note(desk: Desk, item: Item, *, published: bool = False) -> None:
    now = desk.clock()
    values: dict[str, Any] = {"state": item.state.value, "trouble": item.trouble, "hint": item.hint}
    if item.state is ViewState.CURRENT:
        values |= {"version": item.version, "files": item.files, "last_seq": max(item.seqs, default=0)}
    else:
        values["version"] = item.found
    if published and item.state is ViewState.CURRENT:
        values |= {"published_at": now, "sql": item.statements[-1].text}
    with desk.ledger.write() as connection:
        was_current = published_views.state_of(connection, item.name) is ViewState.CURRENT
        if was_current and item.state is ViewState.CURRENT and not published:
            # Nothing happened, so what its last check found stands.
            del values["trouble"], values["hint"]
        published_views.note(connection, name=item.name, kind=item.kind, stream=item.stream.id, now=now, **values)


# --- check --------------------------------------------------------------------------------------


def check(desk: Desk, streams: Sequence[Stream]) -> tuple[Check, ...]:
    """Count through each view that is there, compare with the ledger, book what that read; trouble is an answer."""
    with desk.pool.session():
        wanted = plan(desk, streams)
        return tuple(_check(desk, item) for item in wanted.items if item.state is not ViewState.NOTHING)


def _check(desk: Desk, item: Item) -> Check:
    made = Check(
        name=item.name, kind=item.kind, stream=item.stream.id, state=item.state, trouble=item.trouble, hint=item.hint
    )
    if item.state is ViewState.NOT_OURS:
        return made
    if item.state is ViewState.MISSING:
        return replace(made, trouble=f"{item.name} is not there yet.", hint="Run `python -m jobs views apply`.")
    with desk.ledger.read() as connection:
        expected = published_views.expected(connection, item.stream.id, item.seqs)
    now = desk.clock()
    try:
        counted = desk.pool.count(item.table)
    except NovadeError as error:
        made = replace(made, trouble=error.message, hint=error.hint)
        _record(desk, made, now, {"rows": None, "expected": None})
        return made
    estimate = -(-expected.bytes // 1_000_000) * 1_000_000
    made = replace(
        made,
        rows=counted.rows,
        expected=expected.rows if item.kind is Kind.VIEW else expected.at_most,
        newest_at=counted.newest_at,
        # Where the pool's own counter says nothing: all of its files, and what any query costs at least.
        bytes_processed=counted.bytes_processed or max(LEAST_BYTES, estimate),
    )
    if item.state is ViewState.CURRENT:
        trouble, hint = _verdict(made, expected)
        made = replace(made, trouble=trouble, hint=hint)
    else:
        made = replace(
            made,
            expected=None,
            trouble="It names other files than have landed.",
            hint="Run `python -m jobs views apply`.",
        )
    _record(
        desk,
        made,
        now,
        {"rows": made.rows, "expected": made.expected, "newest_at": made.newest_at, "bytes": made.bytes_processed},
    )
    return made


def _verdict(made: Check, expected: published_views.Expected) -> tuple[str | None, str | None]:
    rows, reload = made.rows or 0, f"python -m jobs sync {made.stream} --full"
    if made.kind is Kind.TABLE:
        if made.expected is not None and rows < made.expected:
            said = (
                f"It shows {rows:,} rows, {made.expected:,} have landed since the last full reload: files are absent."
            )
            return said, f"Look at the storage's log for deletions; then `{reload}`."
        return None, None
    if made.expected is not None and rows != made.expected:
        said = f"It shows {rows:,} rows, the warehouse held {made.expected:,} when it was counted last."
        return said, f"Sync the stream once more and check again; if it stays, `{reload}`."
    if rows > expected.at_most:
        return f"It shows {rows:,} rows, only {expected.at_most:,} have landed.", f"Reload the stream: `{reload}`."
    if made.newest_at is not None and expected.newest_at is not None and made.newest_at > expected.newest_at:
        return "It shows a newer version than any that has landed.", f"Reload the stream: `{reload}`."
    return None, None


def _record(desk: Desk, made: Check, now: datetime, found: Mapping[str, Any]) -> None:
    processed = found.get("bytes")
    values = {name: value for name, value in found.items() if name != "bytes"}
    if processed is not None:
        values["bytes_processed"] = processed
    with desk.ledger.write() as connection:
        published_views.note(
            connection,
            name=made.name,
            kind=made.kind,
            stream=made.stream,
            now=now,
            state=made.state.value,
            checked_at=now,
            trouble=made.trouble,
            hint=made.hint,
            **values,
        )
        if processed:
            published_views.book(connection, made.stream, now.date(), processed)


# --- after a sync -------------------------------------------------------------------------------


class Services(Protocol):
    """The part of ``wiring.Services`` that refreshing asks for."""

    def views(self) -> Desk | None:
        """What publishes views; None in an environment without a serverless pool."""


def refresh(services: Services, stream: Stream) -> None:
    """Renew a stream's view after a sync, where there is a serverless pool; what goes wrong is noted, never raised.

    A view that is not ours is left alone, as by ``apply``.
    """
    try:
        desk = services.views()
    except NovadeError as error:
        _log.warning("Views of %s were not renewed: %s", stream.id, error.message)
        return
    if desk is None:
        return
    try:
        apply(desk, [stream])
    except NovadeError as error:
        _log.warning("Views of %s were not renewed: %s", stream.id, error.message)
        _failed(desk, stream, error)


def _failed(desk: Desk, stream: Stream, error: NovadeError) -> None:
    name = external_views.view_of(stream).sql
    with desk.ledger.write() as connection:
        published_views.note(
            connection,
            name=name,
            kind=Kind.VIEW,
            stream=stream.id,
            now=desk.clock(),
            state=ViewState.BEHIND.value,
            trouble=f"It was not renewed after the last sync: {error.message}",
            hint=error.hint,
        )


def in_trouble(items: Iterable[Item | Check]) -> tuple[Item | Check, ...]:
    """Those that need somebody."""
    return tuple(item for item in items if item.trouble is not None)
