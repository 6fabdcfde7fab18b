"""Which instants a schedule promises: the same wherever one begins, through every change of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from novade_core.errors import ConfigurationError
from novade_core.schedules import CANARY, Outage, ScheduleSpec, Timing
from novade_core.streams import RunKind

#: Where the clocks change, in UTC: spring and autumn of the northern ones, autumn and spring of the southern one.
CHANGES = {
    "Europe/Berlin": (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "America/New_York": (datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)),
    # By half an hour.
    "Australia/Lord_Howe": (datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
}
CRONS = (
    "* * * * *", "*/15 * * * *", "0 * * * *", "30 * * * *", "*/7 */2 * * *", "*/20 2 * * *", "* 3 * * *",
    "30 2 * * *", "30 1 * * *", "0,30 2,3 * * *", "15,45 1-3 * * *", "59 1 * * *", "0 */3 * * *", "10 */2 * * *",
    "5 0 * * 0", "0 0 * * *", "0 6 * * 1-5", "45 23 L * *",
)  # fmt: skip
TIMINGS = st.one_of(
    st.builds(lambda cron, zone: Timing(cron=cron, timezone=zone), st.sampled_from(CRONS), st.sampled_from([*CHANGES])),
    st.builds(lambda seconds: Timing(every_seconds=seconds), st.integers(1_000, 90_000)),
)


def until(timing: Timing, after: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda instant: instant <= end, timing.instants(after)))


@settings(max_examples=300, deadline=None)
@given(
    timing=TIMINGS,
    change=st.sampled_from([change for both in CHANGES.values() for change in both]),
    cuts=st.lists(st.integers(0, 60 * 3600 * 10), min_size=1, max_size=8),
)
@example(  # Within the doubled hour, what came in its first half must not come again.
    timing=Timing(cron="30 2 * * *", timezone="Europe/Berlin"), change=CHANGES["Europe/Berlin"][1], cuts=[1_086_000]
)
@example(
    timing=Timing(cron="* 3 * * *", timezone="Australia/Lord_Howe"),
    change=CHANGES["Australia/Lord_Howe"][0],
    cuts=[1_132_260],
)
def test_deriving_in_pieces_is_deriving_in_one_go(timing, change, cuts):
    start, end = change - timedelta(hours=30), change + timedelta(hours=30)
    whole = until(timing, start, end)
    assert all(earlier < later for earlier, later in pairwise(whole))
    pieces: list[datetime] = []
    borders = [start, *sorted(start + timedelta(seconds=cut / 10) for cut in cuts), end]
    for low, high in pairwise(borders):
        pieces += until(timing, low, high)
        assert timing.between(low, high) == tuple(until(timing, low, high))
    assert pieces == whole
    assert timing.count(start, end) == len(whole)


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("cron", ["* * * * *", "*/15 * * * *", "0 * * * *", "*/20 2 * * *", "0 */3 * * *"])
def test_a_job_with_a_star_follows_the_clock_on_the_wall(zone, which, cron):
    """Minute by minute: it fires exactly where the local time matches, however often that is."""
    minute, hour = cron.split()[:2]

    def says(field: str, value: int) -> bool:
        star, _, step = field.partition("/")
        return value % int(step or 1) == 0 if star == "*" else value == int(star)

    change = CHANGES[zone][which]
    start, end = change - timedelta(hours=30), change + timedelta(hours=30)
    expected, at = [], start + timedelta(minutes=1)
    while at <= end:
        local = at.astimezone(ZoneInfo(zone))
        if says(minute, local.minute) and says(hour, local.hour):
            expected.append(at)
        at += timedelta(minutes=1)
    assert until(Timing(cron=cron, timezone=zone), start, end) == expected


#: As docs/operations.md states it: zone, expression, the day, what fires that day (local times, UTC offset behind).
DAYLIGHT = (
    ("Europe/Berlin", "30 2 * * *", "2026-03-29", ["03:00+02"]),
    ("Europe/Berlin", "30 2 * * *", "2026-10-25", ["02:30+02"]),
    ("Europe/Berlin", "0,30 2 * * *", "2026-03-29", ["03:00+02"]),
    ("Europe/Berlin", "0 1-3 * * *", "2026-03-29", ["01:00+01", "03:00+02"]),
    ("Europe/Berlin", "0 1-3 * * *", "2026-10-25", ["01:00+02", "02:00+02", "03:00+01"]),
    ("America/New_York", "30 2 * * *", "2026-03-08", ["03:00-04"]),
    ("America/New_York", "30 1 * * *", "2026-11-01", ["01:30-04"]),
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-04", ["02:30+11"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05", ["01:45+11"]),
)


@pytest.mark.parametrize(("zone", "cron", "day", "fires"), DAYLIGHT)
def test_a_job_at_fixed_times_comes_once_a_day_whatever_the_clocks_do(zone, cron, day, fires):
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    timing = Timing(cron=cron, timezone=zone)
    end = (begin + timedelta(days=1)).astimezone(UTC) - timedelta(seconds=1)
    found = until(timing, begin.astimezone(UTC) - timedelta(seconds=1), end)
    assert [f"{i.astimezone(ZoneInfo(zone)):%H:%M%z}"[:8] for i in found] == fires


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [("0 * * * *", 23, 25), ("*/15 * * * *", 92, 100), ("30 2 * * *", 1, 1), ("0 6-20 * * *", 15, 15)],
)
def test_how_many_fires_a_day_of_change_has(cron, spring, autumn):
    zone = ZoneInfo("Europe/Berlin")
    timing = Timing(cron=cron, timezone="Europe/Berlin")
    for day, count in (((2026, 3, 29), spring), ((2026, 10, 25), autumn)):
        begin = datetime(*day, tzinfo=zone)
        bounds = [(d.astimezone(UTC) - timedelta(seconds=1)) for d in (begin, begin + timedelta(days=1))]
        assert timing.count(*bounds) == count


@settings(deadline=None)
@given(seconds=st.integers(1, 100_000), cuts=st.lists(st.integers(0, 400_000), min_size=1, max_size=5))
def test_an_interval_is_counted_from_1970_whenever_one_asks(seconds, cuts):
    timing = Timing(every_seconds=seconds)
    start = datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC)
    for cut in cuts:
        instant = next(timing.instants(start + timedelta(seconds=cut)))
        assert int(instant.timestamp()) % seconds == 0
        assert timedelta(0) < instant - (start + timedelta(seconds=cut)) <= timedelta(seconds=seconds)


def test_jitter_spreads_the_same_way_everywhere_and_keeps_the_order():
    timing = Timing(cron="*/5 * * * *", jitter_seconds=299)
    promised = list(islice(timing.instants(datetime(2026, 1, 1, tzinfo=UTC)), 500))
    due = [timing.due("a", instant) for instant in promised]
    assert due == [timing.due("a", instant) for instant in promised]
    delays = [(d - p).total_seconds() for d, p in zip(due, promised, strict=True)]
    assert all(0 <= delay <= 299 for delay in delays)
    assert min(delays) < 30
    assert max(delays) > 270
    assert due == sorted(due)
    assert due != [timing.due("b", instant) for instant in promised]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "either a cron expression or an interval"),
        ({"cron": "* * * * *", "every_seconds": 5}, "either a cron expression or an interval"),
        ({"cron": "* * * *"}, "five fields"),
        ({"cron": "0 * * * * *"}, "five fields"),
        ({"cron": "61 * * * *"}, "bad minute"),
        ({"cron": "0 0 31 2 *"}, "bad day-of-month"),
        ({"cron": "0 0 30 2 1-5"}, None),
        ({"cron": "x" * 200}, "five fields"),
        ({"cron": "* * * * *", "timezone": "Mars/Base"}, "no time zone"),
        ({"cron": "* * * * *", "timezone": "../etc/passwd"}, "no time zone"),
        ({"cron": "* * * * *", "timezone": ""}, "no time zone"),
        ({"every_seconds": 0}, "interval of 0 s"),
        ({"every_seconds": 10**12}, "is none"),
        ({"every_seconds": 60, "jitter_seconds": 60}, "not shorter than the 60 s"),
        ({"cron": "0,1 * * * *", "jitter_seconds": 61}, "not shorter than the 60 s"),
        ({"every_seconds": 60, "jitter_seconds": -1}, "negative"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(wrong, message):
    if message is None:
        assert next(Timing(**wrong).instants(datetime(2026, 1, 1, tzinfo=UTC)))
        return
    with pytest.raises(ConfigurationError, match=message) as refused:
        Timing(**wrong)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("timing", "said"),
    [
        (Timing(every_seconds=60), "every minute"),
        (Timing(every_seconds=5400), "every 90 minutes"),
        (Timing(every_seconds=604_800), "every 7 days"),
        (Timing(cron="*/15 * * * *", timezone="Europe/Berlin"), "every 15 minutes"),
        (Timing(cron="0 6 * * 1-5", timezone="Europe/Berlin"), "at 06:00, Monday through Friday, Europe/Berlin time"),
        (Timing(cron="*/15 * * * *", jitter_seconds=60), "every 15 minutes, up to 60 s later"),
    ],
)
def test_words(timing, said):
    assert timing.words() == said


def test_every_expression_has_words():
    for cron in (*CRONS, "0 0 LW * *", "0 0 * * 5L", "0 0 * * 1#2", "5-59/7 1-3,5 * JAN MON"):
        assert Timing(cron=cron).words()


def test_a_yearly_job_is_found_soon_and_far():
    leap = Timing(cron="0 0 29 2 *", timezone="Europe/Berlin")
    years = [
        i.astimezone(ZoneInfo("Europe/Berlin")).year for i in islice(leap.instants(datetime(2026, 1, 1, tzinfo=UTC)), 3)
    ]
    assert years == [2028, 2032, 2036]
    assert leap.count(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)) == 0


def test_a_spec_survives_its_json():
    spec = ScheduleSpec(
        name="nightly",
        streams=("salesforce", "salesforce.contact"),
        kind=RunKind.FULL,
        timing=Timing(cron="0 6 * * 1-5", timezone="Europe/Berlin", jitter_seconds=30),
        outage=Outage.ALL,
    )
    for one in (spec, CANARY):
        assert ScheduleSpec.from_json(one.name, one.to_json()) == one
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ScheduleSpec.from_json("x", spec.to_json() | {"outage": "perhaps"})
