"""What to read: windows over the cursor, cut from the source's own counts; and what a changed schema means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from novade_core.errors import BadWindow, SchemaFrozen
from novade_core.ledger.plans import CheckpointValue, Plan
from novade_core.sources.base import CutsWindows, Source
from novade_core.streams import Column, LandedFile, RunKind, SchemaPolicy, Stream, Window, utc


def month_start(month: str) -> datetime:
    """``"2025-03"`` as an instant."""
    return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)


def next_month(start: datetime) -> datetime:
    """The first instant of the month after the one that ``start`` begins."""
    return (start.replace(day=1) + timedelta(days=32)).replace(day=1)


def history_windows(months: Mapping[str, int], seam: datetime, window_rows: int, part: str) -> list[Window]:
    """Windows of about ``window_rows`` records, oldest first, that tile everything before ``seam`` without gap.

    ``months`` are the source's counts by month of the cursor. Quiet months are part of a window too: a
    record may be back-dated into one between the count and the read.
    """
    known = sorted(m for m, n in months.items() if n and month_start(m) < seam)
    if not known:
        return []
    windows: list[Window] = []
    low = month = month_start(known[0])
    rows = 0
    while month < seam:
        end = min(next_month(month), seam)
        rows += months.get(f"{month:%Y-%m}", 0)
        if rows >= window_rows or end == seam:
            windows.append(Window(low=low, high=end, part=part, expected=rows))
            low, rows = end, 0
        month = end
    return windows


def live_window(stream: Stream, since: datetime) -> Window:
    """Everything from ``since`` less the overlap on; open above, because the source's clock is not ours."""
    return Window(low=since - timedelta(seconds=stream.overlap_seconds), high=None, part="live")


def live_windows(stream: Stream, since: datetime, source: Source) -> list[Window]:
    """The live window, counted; or as the source wants to be read."""
    window = live_window(stream, since)
    if isinstance(source, CutsWindows):
        return source.cut(stream, window.low, source.now(), window.part)
    return [replace(window, expected=source.window_count(stream, window))]


def backfill_window(parameters: Mapping[str, str]) -> Window:
    """The window that a backfill run was asked for. Raises BadWindow."""
    try:
        low, high = (utc(datetime.fromisoformat(parameters[name])) for name in ("since", "until"))
        return Window(low=low, high=high, part="backfill")
    except (KeyError, ValueError) as error:
        raise BadWindow(f"A backfill needs --since before --until, both with a time zone: {error}.") from error


def proven(highest: datetime | None, plan: Plan) -> datetime | None:
    """Up to where a plan has surely read everything: the highest cursor, but never past its beginning.

    A record of an early page may change while a later page, with a newer stamp, is still to come.
    """
    read_from = plan.details.get("read_from")
    if highest is None or read_from is None:
        return highest
    return min(highest, datetime.fromisoformat(read_from))


def kind_for(stream: Stream, kind: RunKind) -> RunKind:
    """A stream without a cursor can only be read whole."""
    return RunKind.FULL if stream.cursor_field is None else kind


def windows_for(
    stream: Stream,
    kind: RunKind,
    parameters: Mapping[str, str],
    checkpoint: CheckpointValue | None,
    source: Source,
    history_rows: int,
) -> tuple[list[Window], datetime | None]:
    """The windows of a new plan, and T0 where it has one.

    The first sync of a stream is two imports: history, from the oldest record up to T0, and live, from T0 less
    the overlap on. T0 is read from the source's clock, never from ours. A source that says itself how it wants to be
    read has nothing behind T0 yet, so that history is all.
    """
    if kind is RunKind.BACKFILL:
        window = backfill_window(parameters)
        return [replace(window, expected=source.window_count(stream, window))], None
    if stream.cursor_field is None:
        return [Window(low=None, high=None, part="full")], None
    since = (checkpoint.cursor or checkpoint.seam) if checkpoint else None
    if kind is RunKind.INCREMENTAL and since is not None:
        return live_windows(stream, since, source), None
    seam = source.now()
    part = "full" if kind is RunKind.FULL else "history"
    if isinstance(source, CutsWindows):
        return source.cut(stream, None, seam, part), seam
    months = source.counts_by_month(stream, stream.cursor_field, include_deleted=True)
    return [*history_windows(months, seam, history_rows, part), live_window(stream, seam)], seam


def schema_changes(before: Sequence[Column] | None, after: Sequence[Column]) -> list[str]:
    """What differs between two schemas, in words; nothing where there was none before."""
    if before is None:
        return []
    old, new = {c.name: c.describe() for c in before}, {c.name: c.describe() for c in after}
    changes = [f"{name} is new ({new[name]})" for name in new if name not in old]
    changes += [f"{name} is gone" for name in old if name not in new]
    changes += [f"{n} was {old[n]} and is {new[n]}" for n in new if n in old and old[n] != new[n]]
    return changes


def check_schema(stream: Stream, before: Sequence[Column] | None, after: Sequence[Column]) -> None:
    """Policy ``freeze``: any change stops the run before it reads. Raises SchemaFrozen."""
    if stream.schema_policy is SchemaPolicy.FREEZE and (changes := schema_changes(before, after)):
        raise SchemaFrozen(f"{stream.id}: {'; '.join(changes[:5])}; the stream's schema policy is freeze.")


def groups(manifests: Sequence[LandedFile], max_rows: int) -> list[list[LandedFile]]:
    """Manifests in landing order, as many to a transaction as hold about ``max_rows``."""
    result: list[list[LandedFile]] = []
    rows = 0
    for manifest in manifests:
        # Landings of different columns do not share a transaction: what one lacks is kept from the table, so the
        # other must be in it by then.
        other = bool(result) and result[-1][-1].columns != manifest.columns
        if not result or other or rows + manifest.rows > max_rows:
            result.append([])
            rows = 0
        result[-1].append(manifest)
        rows += manifest.rows
    return result
