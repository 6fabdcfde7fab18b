"""What a sync will probably take, from what its stream's earlier runs took. A preview, never a promise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from novade_core.ledger.backfill_views import Basis
from novade_core.ledger.summaries import StreamHistory
from novade_core.streams import RunKind

#: Seconds that any run takes, however small (process start, describe, verify); used before anything is known.
_SECONDS_AT_LEAST = 3.0
#: Rows that a source hands over per second, used before anything is known.
_ROWS_PER_SECOND = 2_000.0
#: Rows per API call, used before anything is known: one page of a REST answer.
_ROWS_PER_CALL = 2_000.0
#: Calls that any run makes: token, describe, counts of both ends, limits.
_CALLS_AT_LEAST = 5


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a sync will do. None = not known."""

    streams: int
    rows: int | None
    calls: int | None
    minutes: float | None
    euros: Decimal | None  #: of what has a price
    basis: str  #: where the figures come from, in words


def preview_of(history: StreamHistory, euros: Decimal | None = None) -> Preview:
    """One stream's preview: the mean of its earlier runs, else from the source's count, else not known.

    ``euros`` is what its earlier runs cost in the mean.
    """
    if history.runs and history.mean_rows is not None and history.mean_seconds is not None:
        rows = history.mean_rows
        plural = "run" if history.runs == 1 else "runs"
        return Preview(
            streams=1,
            rows=round(rows),
            calls=None if history.mean_calls is None else round(history.mean_calls),
            minutes=history.mean_seconds / 60,
            euros=euros,
            basis=f"mean of its last {history.runs} {plural} of this kind",
        )
    reads_all = history.kind is RunKind.FULL or (history.kind is RunKind.INCREMENTAL and not history.loaded_before)
    if reads_all and history.source_count is not None:
        count = history.source_count
        return Preview(
            streams=1,
            rows=count,
            calls=_CALLS_AT_LEAST + round(count / _ROWS_PER_CALL),
            minutes=(_SECONDS_AT_LEAST + count / _ROWS_PER_SECOND) / 60,
            euros=None,
            basis="from the source's last count; no run of this kind yet",
        )
    return Preview(
        streams=1, rows=None, calls=None, minutes=None, euros=None, basis="not known; no run of this kind yet"
    )


def total_of(previews: Iterable[Preview]) -> Preview:
    """The sum; not known as soon as one part is not known. Streams of one source are taken one after another."""
    parts = tuple(previews)

    def add(values: list[int | None]) -> int | None:
        return None if not values or any(v is None for v in values) else sum(v for v in values if v is not None)

    minutes = [p.minutes for p in parts]
    euros = [p.euros for p in parts if p.euros is not None]
    unknown = sum(p.rows is None for p in parts)
    return Preview(
        streams=len(parts),
        rows=add([p.rows for p in parts]),
        calls=add([p.calls for p in parts]),
        minutes=None if not parts or None in minutes else sum(m for m in minutes if m is not None),
        euros=sum(euros, Decimal(0)) if euros and len(euros) == len(parts) else None,
        basis=f"{unknown} of {len(parts)} streams have no history yet" if unknown else "the sum of them",
    )


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What reading windows will probably take. None = not known."""

    windows: int
    rows: int | None
    calls: int | None
    minutes: float | None
    share: float | None  #: of the API calls that the source allows a day
    basis: str  #: where the figures come from, in words


def forecast_of(expected: Sequence[int | None], basis: Basis) -> Forecast:
    """What a backfill's windows will take, from the rows expected in each and the stream's earlier runs.

    A window of which nothing is known counts as the mean of the others; where most are unknown, so is the sum. Each
    run takes what the smallest earlier run took, and its rows beyond that at the mean rate of all.
    """
    known = [count for count in expected if count is not None]
    windows = len(expected)
    if len(known) * 2 < windows:
        return Forecast(
            windows=windows,
            rows=None,
            calls=None,
            minutes=None,
            share=None,
            basis="not known; most of these windows were never read",
        )
    rows = round(sum(known) * windows / len(known)) if known else 0
    calls_each, seconds_each = float(_CALLS_AT_LEAST), _SECONDS_AT_LEAST
    calls_per_row, seconds_per_row = 1 / _ROWS_PER_CALL, 1 / _ROWS_PER_SECOND
    efforts = basis.efforts
    if efforts:
        calls_each = min(e.calls for e in efforts)
        seconds_each = min(e.seconds for e in efforts)
    if read := sum(e.rows for e in efforts):
        calls_per_row = sum(e.calls - calls_each for e in efforts) / read
        seconds_per_row = sum(e.seconds - seconds_each for e in efforts) / read
    calls = round(windows * calls_each + rows * calls_per_row)
    said = f"from its last {len(efforts)} run{'s'[: len(efforts) != 1]}" if efforts else "no run yet, usual rates"
    if len(known) < windows:
        said += f"; {windows - len(known):,} windows never read count as the mean"
    return Forecast(
        windows=windows,
        rows=rows,
        calls=calls,
        minutes=(windows * seconds_each + rows * seconds_per_row) / 60,
        share=calls / basis.quota.allowed if basis.quota is not None else None,
        basis=said,
    )
