"""Booking: every promised instant exactly once, whatever happens to schedulers, schedules and clocks."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from novade_core.errors import LeaseLost
from novade_core.ledger import fires, leases, schedules
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.fires import Rules, book
from novade_core.ledger.leases import Watcher
from novade_core.ledger.models import Fire, Run, RunState, ScheduleRow, StreamStatus
from novade_core.schedules import CANARY, Outage, ScheduleSpec, Timing
from novade_core.streams import RunKind, Stream
from tests.ledgers import at_once

NOW = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
CONTACT, LEAD = (
    Stream(
        source="salesforce",
        name=name,
        label=f"Salesforce {name.capitalize()}",
        object_name=name.capitalize(),
        primary_key=("Id",),
        cursor_field="SystemModstamp",
    )
    for name in ("contact", "lead")
)
RULES = Rules(streams=(CONTACT, LEAD), on_time_seconds=15, booked_by="here:1:1")
MINUTE = Timing(every_seconds=60)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def spec(name: str = "often", **more) -> ScheduleSpec:
    given = {
        "streams": ("salesforce.contact",),
        "kind": RunKind.INCREMENTAL,
        "timing": MINUTE,
        "outage": Outage.ONCE,
    }
    return ScheduleSpec(name=name, **(given | more))


def add(ledger: Ledger, now: datetime = NOW, **more) -> None:
    schedules.add(ledger, spec(**more), now=now, who="ada", rules=RULES)


def tick(ledger: Ledger, now: datetime, fence: int | None = None, rules: Rules = RULES):
    return book(ledger, fence=fence, clock=lambda: now, rules=rules)


def booked(ledger: Ledger, name: str = "often") -> list[tuple[datetime, str]]:
    query = select(Fire.promised, Fire.state).join(ScheduleRow, ScheduleRow.id == Fire.schedule_id)
    with ledger.read() as c:
        return [tuple(row) for row in c.execute(query.where(ScheduleRow.name == name).order_by(Fire.promised))]


def states(ledger: Ledger, name: str = "often") -> list[str]:
    return [state for _, state in booked(ledger, name)]


def reasons(ledger: Ledger) -> list[str | None]:
    with ledger.read() as c:
        return list(c.execute(select(Fire.reason).order_by(Fire.promised)).scalars())


def end_runs(ledger: Ledger) -> None:
    with ledger.write() as c:
        c.execute(update(Run).values(state=RunState.SUCCEEDED.value))


def runs(ledger: Ledger) -> list[tuple[str, int | None]]:
    with ledger.read() as c:
        return [tuple(row) for row in c.execute(select(Run.subject, Run.fire_id).order_by(Run.id))]


# On time, late, missed, skipped


def test_a_fire_on_time_asks_for_its_runs(ledger):
    add(ledger, streams=("salesforce",), kind=RunKind.FULL)
    answer = tick(ledger, NOW + timedelta(seconds=61))
    assert (answer.fires, answer.runs, answer.next_due) == (1, 2, NOW + timedelta(minutes=2))
    with ledger.read() as c:
        fire = c.execute(select(Fire.__table__)).one()
        row = c.execute(select(Run.__table__).order_by(Run.id)).first()
    assert (fire.promised, fire.due_at, fire.booked_at) == (NOW + timedelta(minutes=1),) * 2 + (
        NOW + timedelta(seconds=61),
    )
    assert (fire.state, fire.runs, fire.reason, fire.booked_by) == ("on time", 2, None, "here:1:1")
    assert (row.subject, row.kind, row.origin, row.fire_id) == ("salesforce.contact", "full", "schedule", fire.id)
    assert row.requested_by == "schedule often"
    assert tick(ledger, NOW + timedelta(seconds=62)).fires == 0


@pytest.mark.parametrize(
    ("rule", "expected", "asked"),
    [
        (Outage.ONCE, ["missed"] * 4 + ["late"], 1),
        (Outage.ALL, ["late"] * 5, 5),
        (Outage.SKIP, ["missed"] * 5, 0),
    ],
)
def test_an_outage_is_answered_by_the_schedules_rule(ledger, rule, expected, asked):
    add(ledger, outage=rule)
    assert tick(ledger, NOW + timedelta(minutes=5, seconds=40)).runs == asked
    assert states(ledger) == expected
    assert all("Nobody scheduled when it was due" in reason for reason in reasons(ledger))


@pytest.mark.parametrize("owed", [fires.AT_ONCE - 1, fires.AT_ONCE, fires.AT_ONCE + 1, 2 * fires.AT_ONCE])
def test_a_long_outage_is_booked_in_several_goes_and_runs_once(ledger, owed):
    add(ledger, timing=Timing(every_seconds=1))
    now = NOW + timedelta(seconds=owed)
    assert sum(tick(ledger, now).fires for _ in range(4)) == owed
    assert len(runs(ledger)) == 1
    # Sixteen of them are at most 15 s late; the first of these runs, the others find it under way.
    assert Counter(states(ledger)) == {"missed": owed - 16, "on time": 1, "skipped": 15}


def test_exactly_as_many_as_are_booked_at_once_still_leave_one_that_makes_up(ledger):
    add(ledger, timing=MINUTE)
    assert tick(ledger, NOW + timedelta(minutes=fires.AT_ONCE, seconds=30)).fires == fires.AT_ONCE
    assert states(ledger)[-2:] == ["missed", "late"]
    assert len(runs(ledger)) == 1


def test_a_stream_still_under_way_is_skipped_and_says_so(ledger):
    add(ledger, streams=("salesforce",))
    tick(ledger, NOW + timedelta(minutes=1))
    with ledger.write() as c:
        c.execute(update(Run).where(Run.subject == "salesforce.lead").values(state="succeeded"))
        c.execute(update(Run).where(Run.subject == "salesforce.contact").values(state="running"))
    tick(ledger, NOW + timedelta(minutes=2))
    assert states(ledger) == ["on time", "on time"]
    assert reasons(ledger)[1] == "Salesforce Contact: run 1 is still under way."
    tick(ledger, NOW + timedelta(minutes=3))
    assert states(ledger)[2] == "skipped"
    assert reasons(ledger)[2] == "Salesforce Contact: run 1 is still under way. Salesforce Lead: run 3 still waits."
    assert len(runs(ledger)) == 3


def test_the_late_fire_says_both_that_it_is_late_and_what_it_left_out(ledger):
    add(ledger)
    tick(ledger, NOW + timedelta(minutes=1))
    tick(ledger, NOW + timedelta(minutes=2, seconds=40))
    assert states(ledger) == ["on time", "skipped"]
    assert reasons(ledger)[1].startswith("Nobody scheduled when it was due; booked 40 s later. Salesforce Contact: run")


def test_a_backfill_under_way_holds_up_no_fire(ledger):
    add(ledger)
    tick(ledger, NOW + timedelta(minutes=1))
    with ledger.write() as c:
        c.execute(update(Run).values(kind="backfill", state="running"))
    tick(ledger, NOW + timedelta(minutes=2))
    assert states(ledger) == ["on time", "on time"]


def test_a_paused_stream_and_one_that_is_gone_are_left_out(ledger):
    add(ledger)
    with ledger.write() as c:
        c.execute(insert(StreamStatus).values(stream=CONTACT.id, source="salesforce", paused=True))
        c.execute(update(ScheduleRow).values(streams=["salesforce.contact", "salesforce.case"]))
    tick(ledger, NOW + timedelta(minutes=1))
    assert states(ledger) == ["skipped"]
    assert reasons(ledger) == ["salesforce.case is not configured any more. Salesforce Contact is paused."]


def test_the_canary_asks_for_nothing(ledger):
    schedules.seed(ledger, [CANARY], now=NOW)
    tick(ledger, NOW + timedelta(minutes=1))
    tick(ledger, NOW + timedelta(minutes=4))
    assert states(ledger, "canary") == ["on time", "missed", "missed", "on time"]
    assert runs(ledger) == []


# One transaction


def test_a_booking_that_is_rolled_back_leaves_neither_fire_nor_run(ledger):
    add(ledger, streams=("salesforce",))
    # The second run's key is taken, so the database refuses it when the fire and the first run are written already.
    key = f"fire:1:{(NOW + timedelta(minutes=1)).isoformat()}:salesforce.lead"
    with ledger.write() as c:
        c.execute(
            insert(Run).values(
                subject="salesforce.lead", source="salesforce", kind="incremental", state="succeeded", origin="x",
                requested_by="x", requested_at=NOW, priority=1, attempt=1, parameters={}, idempotency_key=key,
            )
        )  # fmt: skip
    with pytest.raises(IntegrityError):
        tick(ledger, NOW + timedelta(minutes=1))
    assert booked(ledger) == []
    assert len(runs(ledger)) == 1
    with ledger.write() as c:
        c.execute(update(Run).values(idempotency_key=None))
    tick(ledger, NOW + timedelta(minutes=1))
    assert states(ledger) == ["on time"]


def test_who_lost_the_lease_books_nothing(ledger):
    add(ledger)
    with ledger.write() as c:
        taken = leases.take(c, stream=fires.SCHEDULER, holder="here:1:1", run_id=0, now=NOW, watcher=Watcher(60))
    assert tick(ledger, NOW + timedelta(minutes=1), fence=taken.fence).fires == 1
    with pytest.raises(LeaseLost):
        tick(ledger, NOW + timedelta(minutes=2), fence=taken.fence - 1)
    assert len(booked(ledger)) == 1


def _lead(together, url: str, first: datetime, seconds: int) -> int:
    ledger = open_ledger(url)
    together.wait()
    total = 0
    for second in range(seconds):
        total += tick(ledger, first + timedelta(seconds=second)).fires
    ledger.close()
    return total


def test_two_leaders_at_once_book_each_instant_once(ledger, ledger_url):
    for number in range(3):
        add(ledger, name=f"s{number}", timing=Timing(every_seconds=2 + number), outage=Outage.ALL)
    answers = at_once(_lead, (ledger_url, NOW, 120), (ledger_url, NOW, 120))
    assert all(isinstance(answer, int) for answer in answers), answers
    expected = {f"s{n}": list(Timing(every_seconds=2 + n).between(NOW, NOW + timedelta(seconds=119))) for n in range(3)}
    assert {name: [promised for promised, _ in booked(ledger, name)] for name in expected} == expected
    assert sum(answers) == sum(len(instants) for instants in expected.values())
    with ledger.read() as c:
        asked = c.execute(select(func.sum(Fire.runs))).scalar()
    assert asked == len(runs(ledger))


# Whatever happens: a model of what is promised


TIMINGS = (
    MINUTE,
    Timing(every_seconds=420),
    Timing(cron="*/5 * * * *", timezone="Europe/Berlin", jitter_seconds=200),
    Timing(cron="30 2 * * *", timezone="Europe/Berlin"),
    Timing(every_seconds=60, jitter_seconds=59),
)


@dataclass
class Model:
    """What one schedule has promised so far, and what it promises from where on."""

    spec: ScheduleSpec
    since: datetime
    paused: bool = False
    promised: list[datetime] = field(default_factory=list)

    def settle(self, now: datetime, *, early: bool) -> None:
        for instant in self.spec.timing.instants(self.since):
            if (instant if early else self.spec.timing.due(self.spec.name, instant)) > now:
                return
            self.promised.append(instant)
            self.since = instant


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.integers(0, 900)),
        st.tuples(st.just("outage"), st.integers(900, 20_000)),
        st.tuples(st.just("clock"), st.sampled_from([-3600, 3600])),
        st.tuples(st.just("pause"), st.integers(0, 60)),
        st.tuples(st.just("resume"), st.integers(0, 60)),
        st.tuples(st.just("edit"), st.integers(0, len(TIMINGS) - 1)),
        st.tuples(st.just("remove and add"), st.integers(0, 900)),
    ),
    max_size=14,
)
_numbers = itertools.count(1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=STEPS,
    timing=st.sampled_from(TIMINGS),
    rule=st.sampled_from(Outage),
    start=st.sampled_from([NOW, datetime(2026, 10, 24, 22, 0, tzinfo=UTC), datetime(2026, 3, 28, 22, 0, tzinfo=UTC)]),
)
@example(  # The clock was an hour ahead when the schedule was changed, and is right again when it is changed again.
    steps=[("clock", 3600), ("edit", 1), ("clock", -3600), ("edit", 0), ("tick", 900), ("tick", 900)],
    timing=MINUTE,
    rule=Outage.ALL,
    start=NOW,
)
def test_every_promised_instant_is_booked_exactly_once(ledger, steps, timing, rule, start):
    name = f"often {next(_numbers)}"
    now = start
    model = Model(spec=spec(name=name, timing=timing, outage=rule), since=now)
    schedules.add(ledger, model.spec, now=now, who="ada", rules=RULES)
    for step, value in [*steps, ("tick", 300)]:
        change = {"now": now, "who": "ada", "rules": RULES}
        if step in ("tick", "outage"):
            now += timedelta(seconds=value)
            while tick(ledger, now).fires:
                end_runs(ledger)
            model.settle(now, early=False)
        elif step == "clock":
            now += timedelta(seconds=value)
        elif step in ("pause", "resume"):
            getattr(schedules, step)(ledger, name, **change)
            if model.paused != (step == "pause"):
                model.settle(now, early=True)
            model.paused = step == "pause"
        elif step == "edit":
            changed = replace(model.spec, timing=TIMINGS[value])
            schedules.edit(ledger, changed, **change)
            model.settle(now, early=True)
            if changed != model.spec:
                model.spec, model.since = changed, max(now, model.since)
        else:
            schedules.remove(ledger, name, **change)
            model.settle(now, early=True)
            now += timedelta(seconds=value)
            schedules.add(ledger, model.spec, now=now, who="ada", rules=RULES)
            model.since, model.paused = max(now, model.since), False
    found = booked(ledger, name)
    assert [promised for promised, _ in found] == sorted(model.promised)
    assert len(set(model.promised)) == len(model.promised)
    schedules.remove(ledger, name, now=now, who="ada", rules=RULES)


def test_a_clock_an_hour_ahead_books_ahead_and_doubles_nothing(ledger):
    add(ledger, timing=Timing(every_seconds=600))
    tick(ledger, NOW + timedelta(minutes=10))
    end_runs(ledger)
    assert tick(ledger, NOW + timedelta(minutes=71)).fires == 6
    end_runs(ledger)
    for minutes in range(12, 75):
        tick(ledger, NOW + timedelta(minutes=minutes))
    assert len(booked(ledger)) == 7
    tick(ledger, NOW + timedelta(minutes=80))
    assert states(ledger) == ["on time"] + ["missed"] * 5 + ["late", "on time"]


def test_a_clock_an_hour_behind_books_nothing_until_it_is_right(ledger):
    add(ledger, timing=Timing(every_seconds=600))
    tick(ledger, NOW + timedelta(minutes=10))
    end_runs(ledger)
    for minutes in range(-60, 20):
        assert tick(ledger, NOW + timedelta(minutes=minutes)).fires == 0
    assert tick(ledger, NOW + timedelta(minutes=20)).fires == 1
    assert states(ledger) == ["on time", "on time"]


def test_fires_without_runs_are_forgotten_after_their_time(ledger):
    schedules.seed(ledger, [CANARY, spec()], now=NOW)
    for minutes in (1, 2, 3):
        tick(ledger, NOW + timedelta(minutes=minutes))
        end_runs(ledger)
    assert fires.forget_fires(ledger, before=NOW + timedelta(minutes=3)) == 2
    assert len(booked(ledger, "canary")) == 1
    assert len(booked(ledger)) == 3


def test_a_row_that_makes_no_sense_stops_no_other(ledger):
    add(ledger)
    add(ledger, name="broken")
    with ledger.write() as c:
        c.execute(
            update(ScheduleRow)
            .where(ScheduleRow.name == "broken")
            .values(timezone="Mars/Base", cron="* * * * *", every_seconds=None)
        )
    assert tick(ledger, NOW + timedelta(minutes=1)).fires == 1
    assert states(ledger) == ["on time"]
