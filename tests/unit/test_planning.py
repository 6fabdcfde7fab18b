"""Windows tile what they should read, and a changed schema is told in words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novade_core.errors import BadWindow, SchemaFrozen
from novade_core.ledger.plans import CheckpointValue
from novade_core.streams import Column, ColumnType, LandedFile, RunKind, SchemaPolicy, Stream, StreamSchema, Window, utc
from novade_core.sync import planning

SEAM = datetime(2024, 11, 18, 14, 30, tzinfo=UTC)
CONTACT = Stream(
    source="test",
    name="contact",
    label="Contact",
    object_name="Contact",
    primary_key=("Id",),
    cursor_field="Stamp",
    version_field="Stamp",
    overlap_seconds=600,
)
WITHOUT_CURSOR = replace(CONTACT, cursor_field=None)


class Counts:
    """A source that knows its clock and its counts, and notes what it was asked."""

    name = "test"

    def __init__(self, months: Mapping[str, int]) -> None:
        self.months = dict(months)
        self.asked: list[Window] = []

    def now(self) -> datetime:
        return SEAM

    def counts_by_month(self, stream: Stream, field: str, *, include_deleted: bool) -> dict[str, int]:
        assert (field, include_deleted) == ("Stamp", True)
        return self.months

    def window_count(self, stream: Stream, window: Window) -> int:
        self.asked.append(window)
        return 42

    def schema(self, stream: Stream) -> StreamSchema:
        raise AssertionError("not asked by planning")

    def count(self, stream: Stream) -> int:
        raise AssertionError("not asked by planning")

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        raise AssertionError("not asked by planning")

    def extract(self, stream: Stream, schema: StreamSchema, window: Window, resume: Any) -> Iterator[Any]:
        raise AssertionError("not asked by planning")

    def usage(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        pass


MONTHS = st.dictionaries(
    st.builds(lambda year, month: f"{year}-{month:02d}", st.integers(2019, 2026), st.integers(1, 12)),
    st.integers(0, 5_000),
    max_size=30,
)


@given(
    months=MONTHS,
    rows=st.integers(1_000, 20_000),
    seam=st.datetimes(
        datetime(2019, 2, 1),  # noqa: DTZ001
        datetime(2026, 12, 31),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
)
def test_history_tiles_everything_before_the_seam_without_gap_or_overlap(months, rows, seam):
    windows = planning.history_windows(months, seam, rows, "history")
    before = [m for m, n in months.items() if n and planning.month_start(m) < seam]
    if not before:
        assert windows == []
        return
    assert windows[0].low == planning.month_start(min(before))
    assert windows[-1].high == seam
    assert all(one.high == two.low for one, two in itertools.pairwise(windows))
    assert all(w.low and w.high and w.low < w.high for w in windows)
    assert sum(w.expected or 0 for w in windows) == sum(months[m] for m in before)
    # No window is larger than it must be: without its last month it would still have been open.
    largest = max(months.values())
    assert all((w.expected or 0) < rows + largest for w in windows)
    assert all((w.expected or 0) >= rows for w in windows[:-1])


def test_quiet_months_are_part_of_a_window():
    windows = planning.history_windows({"2024-01": 5, "2024-10": 5}, SEAM, 1_000, "full")
    assert windows == [Window(low=datetime(2024, 1, 1, tzinfo=UTC), high=SEAM, part="full", expected=10)]


def test_months_after_the_seam_are_left_to_the_live_window():
    windows = planning.history_windows({"2024-10": 3, "2024-12": 9, "2030-01": 9}, SEAM, 1_000, "history")
    assert [(w.low, w.high, w.expected) for w in windows] == [(datetime(2024, 10, 1, tzinfo=UTC), SEAM, 3)]


def test_an_object_without_records_has_no_history():
    assert planning.history_windows({}, SEAM, 1_000, "history") == []
    assert planning.history_windows({"2024-01": 0}, SEAM, 1_000, "history") == []


@pytest.mark.parametrize(
    ("start", "following"),
    [("2024-01", "2024-02"), ("2024-02", "2024-03"), ("2023-12", "2024-01"), ("9998-12", "9999-01")],
)
def test_months_follow_each_other(start, following):
    assert planning.next_month(planning.month_start(start)) == planning.month_start(following)


# --- what a run reads -----------------------------------------------------------------------------


def windows_for(kind: RunKind, checkpoint: CheckpointValue | None = None, stream: Stream = CONTACT, **parameters: str):
    source = Counts({"2024-10": 3})
    return planning.windows_for(stream, kind, parameters, checkpoint, source, 1_000), source


def test_the_first_sync_is_history_and_live_with_an_overlap_at_the_seam():
    ((history, live), seam), source = windows_for(RunKind.INCREMENTAL)
    assert seam == SEAM
    assert (history.part, history.high) == ("history", SEAM)
    assert (live.part, live.low, live.high) == ("live", SEAM - timedelta(seconds=600), None)
    assert source.asked == []


def test_an_incremental_sync_reads_from_its_checkpoint_less_the_overlap():
    cursor = datetime(2024, 11, 1, tzinfo=UTC)
    ((window,), seam), _ = windows_for(RunKind.INCREMENTAL, CheckpointValue(cursor=cursor, seam=SEAM))
    assert (window.low, window.high, window.expected) == (cursor - timedelta(seconds=600), None, 42)
    assert seam is None


def test_a_checkpoint_of_an_empty_object_starts_at_its_seam():
    ((window,), _), _ = windows_for(RunKind.INCREMENTAL, CheckpointValue(cursor=None, seam=SEAM))
    assert window.low == SEAM - timedelta(seconds=600)


def test_a_full_sync_reads_everything_whatever_the_checkpoint():
    ((history, live), seam), _ = windows_for(RunKind.FULL, CheckpointValue(cursor=SEAM, seam=SEAM))
    assert (history.part, live.part, seam) == ("full", "live", SEAM)


@pytest.mark.parametrize("kind", [RunKind.INCREMENTAL, RunKind.FULL])
def test_a_stream_without_a_cursor_is_read_whole(kind):
    assert planning.kind_for(WITHOUT_CURSOR, kind) is RunKind.FULL
    (windows, seam), _ = windows_for(RunKind.FULL, stream=WITHOUT_CURSOR)
    assert (windows, seam) == ([Window(low=None, high=None, part="full")], None)


def test_a_stream_with_a_cursor_keeps_its_kind():
    assert [planning.kind_for(CONTACT, kind) for kind in RunKind] == list(RunKind)


def test_a_backfill_reads_its_window_only():
    ((window,), seam), source = windows_for(
        RunKind.BACKFILL, since="2024-01-01T00:00:00Z", until="2024-02-01T01:00:00+01:00"
    )
    assert (window.low, window.high) == (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
    assert (window.part, window.expected, seam) == ("backfill", 42, None)
    assert source.asked == [replace(window, expected=None)]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"since": "2024-01-01T00:00:00Z"},
        {"until": "2024-01-01T00:00:00Z"},
        {"since": "2024-01-01T00:00:00", "until": "2024-02-01T00:00:00Z"},
        {"since": "2024-01-01T00:00:00Z", "until": "2024-02-01"},
        {"since": "2024-02-01T00:00:00Z", "until": "2024-01-01T00:00:00Z"},
        {"since": "2024-01-01T00:00:00Z", "until": "2024-01-01T00:00:00Z"},
        {"since": "yesterday", "until": "2024-01-01T00:00:00Z"},
    ],
)
def test_a_backfill_without_a_proper_window_is_refused(parameters):
    with pytest.raises(BadWindow, match="--since before --until") as refused:
        planning.backfill_window(parameters)
    assert "2024-11-01T00:00:00Z" in refused.value.hint


# --- windows --------------------------------------------------------------------------------------


@given(
    low=st.datetimes(datetime(2000, 1, 1), datetime(2020, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    seconds=st.integers(1, 10**9),
)
def test_halves_tile_the_window_and_end_at_a_minute(low, seconds):
    window = Window(low=low, high=low + timedelta(seconds=seconds), part="history", expected=9)
    halves = window.halves(SEAM)
    if seconds < 60:
        assert halves is None
        return
    assert halves is not None
    one, two = halves
    assert (one.low, two.high) == (window.low, window.high)
    assert one.high == two.low
    assert (one.part, one.expected, two.expected) == ("history", None, None)


@pytest.mark.parametrize("high", [SEAM, None])
def test_a_window_without_a_beginning_has_no_halves(high):
    assert Window(low=None, high=high).halves(SEAM) is None


def test_a_window_open_above_is_cut_before_now_and_stays_open():
    halves = Window(low=SEAM - timedelta(hours=2), high=None).halves(SEAM)
    assert halves is not None
    assert [(h.low, h.high) for h in halves] == [
        (SEAM - timedelta(hours=2), SEAM - timedelta(hours=1)),
        (SEAM - timedelta(hours=1), None),
    ]
    assert Window(low=SEAM, high=None).halves(SEAM) is None


# --- schemas --------------------------------------------------------------------------------------

A, B = Column(name="A", type=ColumnType.INTEGER), Column(name="B", type=ColumnType.TEXT, length=80)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (None, [A, B], []),
        ([A, B], [B, A], []),
        ([A], [A, B], ["B is new (text(80))"]),
        ([A, B], [A], ["B is gone"]),
        ([A], [replace(A, type=ColumnType.BIGINT)], ["A was integer and is bigint"]),
        ([B], [replace(B, length=255)], ["B was text(80) and is text(255)"]),
        ([replace(A, note="formula")], [A], []),
    ],
)
def test_schema_changes_are_told_in_words(before, after, changes):
    assert planning.schema_changes(before, after) == changes


def test_a_frozen_stream_stops_before_it_reads():
    frozen = replace(CONTACT, schema_policy=SchemaPolicy.FREEZE)
    with pytest.raises(SchemaFrozen, match=r"test\.contact: B is new \(text\(80\)\); .* freeze"):
        planning.check_schema(frozen, [A], [A, B])
    planning.check_schema(frozen, [A], [A])
    planning.check_schema(frozen, None, [A, B])
    planning.check_schema(CONTACT, [A], [B])


# --- groups ---------------------------------------------------------------------------------------


def landed(seq: int, rows: int) -> LandedFile:
    return LandedFile(
        seq=seq, stream="s", run_id=1, plan_id=1, window=0, chunk=seq, manifest_path="", load_id=str(seq), files=(),
        rows=rows, rejected=0, columns=(),
    )  # fmt: skip


@given(rows=st.lists(st.integers(0, 100), max_size=30), limit=st.integers(1, 150))
def test_groups_keep_the_order_and_stay_below_the_limit_where_they_can(rows, limit):
    manifests = [landed(i, n) for i, n in enumerate(rows)]
    groups = planning.groups(manifests, limit)
    assert [m for group in groups for m in group] == manifests
    assert all(groups)
    assert all(sum(m.rows for m in group) <= limit or len([m for m in group if m.rows]) == 1 for group in groups)
    # Two neighbours that fit together are one.
    assert all(sum(m.rows for m in one) + two[0].rows > limit for one, two in itertools.pairwise(groups))


def test_instants_are_utc_and_never_naive():
    assert utc(datetime.fromisoformat("2024-01-01T02:00:00+02:00")) == datetime(2024, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="has no time zone"):
        utc(datetime(2024, 1, 1))  # noqa: DTZ001
