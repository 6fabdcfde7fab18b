"""A warehouse without a dedicated pool: loading publishes a view over what has landed, on the serverless pool.

The view's text is the warehouse's state. It names each file that it shows, and its stamp holds the fence of who
published it and the numbers of its manifests, which are the load markers. A load reads the text, adds the request's
manifests, asks for the lease and changes the view only where it is still the one that was read. So nothing of a load
is left half done, and a worker that is woken late changes nothing. Which record of a key is the newest is decided
whenever somebody reads.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from novade_core.errors import ConfigurationError, LeaseLost, RetryableError, VerificationFailed
from novade_core.streams import LandedFile, LoadResult, Stream
from novade_core.warehouse import external_views
from novade_core.warehouse.base import Capabilities, LoadOutcome, LoadRequest, SchemaChange
from novade_core.warehouse.external_views import Stamp
from novade_core.warehouse.schema import refuse_if_frozen
from novade_core.warehouse.serverless import LEAST_BYTES, Serverless
from novade_core.warehouse.synapse_schema import SYNAPSE, keyed, keys_of
from novade_core.warehouse.synapse_sql import Statement, identifier, key_text

METER = "warehouse.bytes_processed"

CAPABILITIES = Capabilities(
    engine="Synapse serverless",
    transactional_ddl=False,
    enforces_keys=False,
    concurrent_processes=True,
    max_rows_per_load=1_000_000_000,  # a load moves no row, so everything that waits is published at once
    decides_at_reading=True,
)
#: Without a view of ours.
_NONE = Stamp(fence=0, reloaded=0, seqs=())


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a view holds, as the ledger knows it."""

    manifests: Sequence[LandedFile]  #: with files, in landing order
    reloaded: int  #: the highest manifest that its last full reload took in
    bytes: int  #: of the files


#: Answers what a stream's view should hold that says so of itself; manifests that the ledger never saw are left out.
Book = Callable[[str, Stamp], Shown]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The view as it is."""

    version: str | None = None  #: None: there is none
    stamp: Stamp = _NONE


class PublishedWarehouse:
    """See warehouse.base.Warehouse. A session is a connection of its own."""

    capabilities = CAPABILITIES

    def __init__(self, pool: Callable[[], Serverless], book: Book) -> None:
        """``pool``: makes one that nobody else uses."""
        self._pool = pool
        self._book = book
        self._used: Counter[str] = Counter()

    @contextlib.contextmanager
    def session(self) -> Iterator[PublishedSession]:
        """Connect at the first statement; raises ConfigurationError where the pool is not named."""
        pool = self._pool()
        with pool.session():
            yield PublishedSession(pool, self._book, self._used)

    def usage(self) -> Mapping[str, int]:
        """See Warehouse.usage: bytes that counts and comparisons processed."""
        return dict(self._used)


class PublishedSession:
    """See warehouse.base.Session."""

    def __init__(self, pool: Serverless, book: Book, used: Counter[str]) -> None:
        self._pool = pool
        self._book = book
        self._used = used

    def interrupt(self) -> None:
        """See Session.interrupt."""
        self._pool.interrupt()

    # Loading

    def load(self, request: LoadRequest) -> LoadOutcome:
        """See Session.load. All that the view does not show yet is counted in its files and published."""
        found = self._found(request.stream)
        shown = self._shown(request.stream, found)
        known = {m.seq for m in shown.manifests}
        fresh = [m for m in request.manifests if m.seq not in known]
        self._prove_landed(request.stream, found, fresh)
        changes = _changes(request.stream, shown.manifests, fresh)
        manifests = sorted((*shown.manifests, *fresh), key=lambda m: m.seq)
        self._publish(request, found, manifests, shown.reloaded)
        return LoadOutcome(results=_results(request), changes=changes)

    def replace(self, request: LoadRequest) -> LoadOutcome:
        """See Session.replace. The view begins anew with the request's manifests; one that did so is left to go on."""
        found = self._found(request.stream)
        filled = {m.seq for m in request.manifests if m.files}
        if filled and filled <= set(found.stamp.seqs) and found.stamp.reloaded >= max(filled):
            return replace(self.load(request), changes=())
        before = self._shown(request.stream, found).manifests if found.version and not request.manifests else ()
        landed = [*(m.seq for m in (*request.manifests, *request.contained)), *found.stamp.seqs]
        reloaded = max([found.stamp.reloaded, *landed])
        self._prove_landed(request.stream, found, request.manifests)
        self._publish(request, found, request.manifests, reloaded, like=before)
        return LoadOutcome(results=_results(request), changes=())

    def _publish(
        self,
        request: LoadRequest,
        found: _Found,
        manifests: Sequence[LandedFile],
        reloaded: int,
        *,
        like: Sequence[LandedFile] = (),
    ) -> None:
        """The lease is asked for last; then the view changes in one statement, or not at all. ``like``: manifests
        that tell the columns of a view that has none to show."""
        stream = request.stream
        if found.stamp.fence > request.fence:
            raise LeaseLost(f"A later holder than fence {request.fence} has loaded {stream.id}.")
        filled = [m for m in manifests if m.files]
        stamp = Stamp(fence=request.fence, reloaded=reloaded, seqs=tuple(m.seq for m in filled))
        shapes = [m.columns for m in (*manifests, *like)]
        replacing = found.version is not None
        statement = None
        if filled:
            statement = external_views.view(stream, filled, replacing=replacing, stamp=stamp)
        elif shapes:
            statement = external_views.empty_view(stream, shapes, replacing=replacing, stamp=stamp)
        told = (found.stamp.reloaded, found.stamp.seqs)
        no_news = replacing and (reloaded, stamp.seqs) == told and not any(m.files for m in request.manifests)
        if statement is None or no_news:  # whoever is reading the view is not disturbed
            request.before_commit()
            return
        table = external_views.view_of(stream)
        request.before_commit()
        if self._pool.publish(statement, table, found.version):
            return
        now = self._found(stream)
        if now.stamp.fence > request.fence:
            raise LeaseLost(f"A later holder than fence {request.fence} has loaded {stream.id}.")
        raise RetryableError(f"{table.sql} was changed by somebody else at the same moment.", origin="warehouse")

    def _prove_landed(self, stream: Stream, found: _Found, manifests: Sequence[LandedFile]) -> None:
        """What is to be shown is there to be read, row for row; otherwise nobody could read the view any more."""
        filled = [m for m in manifests if m.files]
        if found.version is None:
            for missing in self._pool.look([stream.source]).missing:
                if missing.step != "data_limit":  # for which an administrator may be needed; `views apply` sets it
                    self._pool.run(missing)
        if not filled:
            return
        counted = dict(self._metered(external_views.landed_counts(filled), 0))
        for manifest in filled:
            rows = int(counted.get(manifest.piece, 0))
            if rows != manifest.rows:
                raise VerificationFailed(
                    f"{stream.id}: {manifest.rows:,} rows landed as {manifest.manifest_path}, "
                    f"the serverless pool finds {rows:,} in its files.",
                    hint=f"Look at the storage's log for changes; then reload: python -m jobs sync {stream.id} --full",
                    origin="warehouse",
                )

    def _found(self, stream: Stream) -> _Found:
        """Raises ConfigurationError where the name belongs to something else, or the view was edited."""
        table = external_views.view_of(stream)
        is_there, text = self._pool.definition(table)
        if not is_there:
            return _Found()
        version = external_views.version_of(text or "")
        if version is None:
            what = "a view whose text is not as we made it" if text is not None else "a table"
            raise ConfigurationError(
                f"{table.sql} is {what}, so it is left as it is and nothing can be loaded.",
                hint=f"Rename or drop it (DROP VIEW {table.sql}), then sync the stream again.",
                origin="warehouse",
            )
        return _Found(version=version, stamp=external_views.stamp_of(text or "") or _NONE)

    def _shown(self, stream: Stream, found: _Found) -> Shown:
        """Raises ConfigurationError where the view shows what the ledger never saw."""
        shown, name = self._book(stream.id, found.stamp), external_views.view_of(stream).sql
        unknown = set(found.stamp.seqs) - {m.seq for m in shown.manifests}
        if unknown and shown.reloaded <= found.stamp.reloaded:
            raise ConfigurationError(
                f"{name} shows {len(unknown):,} manifests that this ledger does not know.",
                hint=f"Another ledger published it. Drop it (DROP VIEW {name}), "
                f"then reload the stream: python -m jobs sync {stream.id} --full",
                origin="warehouse",
            )
        return shown

    # Counting

    def count(self, stream: Stream) -> int | None:
        """See Session.count."""
        table = external_views.view_of(stream)
        rows = list(self._asked(stream, lambda _: Statement("count", f"SELECT COUNT_BIG(*) FROM {table.sql}")))
        return int(rows[0][0]) if rows else None

    def counts_by_month(self, stream: Stream, field: str) -> dict[str, int]:
        """See Session.counts_by_month."""
        table, name = external_views.view_of(stream), identifier(field)
        text = f"SELECT YEAR({name}), MONTH({name}), COUNT_BIG(*) FROM {table.sql} GROUP BY YEAR({name}), MONTH({name})"
        rows = self._asked(stream, lambda _: Statement("count_months", text))
        return {f"{year:04d}-{month:02d}" if year else "": int(n) for year, month, n in rows}

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """See Session.keys."""
        if not month:
            return
        year, number = (int(part) for part in month.split("-"))
        table, name = external_views.view_of(stream), identifier(field)

        def statement(shown: Shown) -> Statement:
            keys = keys_of(stream, SYNAPSE.union([keyed(stream, m.columns) for m in shown.manifests]))
            where = f"YEAR({name}) = {year} AND MONTH({name}) = {number}"
            return Statement("keys", f"SELECT {key_text(keys)} FROM {table.sql} WHERE {where}")

        yield from (key for (key,) in self._asked(stream, statement))

    def _asked(self, stream: Stream, statement: Callable[[Shown], Statement]) -> Iterator[tuple[Any, ...]]:
        """Rows of a query through the view, metered once all are read; none where there is no view."""
        found = self._found(stream)
        if found.version is None:
            return
        shown = self._book(stream.id, found.stamp)
        yield from self._metered(statement(shown)._replace(labelled=False), shown.bytes)

    def _metered(self, statement: Statement, size: int) -> Iterator[tuple[Any, ...]]:
        with self._pool.measured() as cost:
            yield from self._pool.query(statement)
        # Where the pool's own counter says nothing: all of the files, and what any query costs at least.
        estimate = -(-size // 1_000_000) * 1_000_000
        self._used[METER] += cost.bytes_processed or max(LEAST_BYTES, estimate)


def _results(request: LoadRequest) -> tuple[LoadResult, ...]:
    """Every row counts as loaded: nobody has compared keys yet."""
    return tuple(
        LoadResult(load_id=m.load_id, staged=m.rows, loaded=m.rows, deleted=0, unchanged=0, superseded=0, duplicates=0)
        for m in request.manifests
    )


def _changes(stream: Stream, before: Sequence[LandedFile], fresh: Sequence[LandedFile]) -> tuple[SchemaChange, ...]:
    """What becomes of the view's columns. Raises SchemaFrozen where the stream's policy forbids it."""
    old = [keyed(stream, m.columns) for m in before if m.files]
    if not old:
        return ()
    changes = SYNAPSE.changes(SYNAPSE.union(old), [keyed(stream, m.columns) for m in fresh if m.files])
    refuse_if_frozen(stream, changes)
    return tuple(change.told for change in changes)
