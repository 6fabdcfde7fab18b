"""Asking for runs and for their end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select, update

from novade_core.errors import BadWindow, ConfigurationError, KeyReused
from novade_core.ledger import backfills
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.leases import Watcher
from novade_core.ledger.models import Audit, RequestKey, Run, RunState
from novade_core.ledger.plans import add_plan
from novade_core.ledger.queue import claim
from novade_core.ledger.requests import ask_for_run, ask_to_cancel, ask_to_retry
from novade_core.streams import RunKind, Stream
from tests.ledgers import at_once

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)
CONTACT = Stream(
    source="salesforce",
    name="contact",
    label="Salesforce Contact",
    object_name="Contact",
    primary_key=("Id",),
    cursor_field="SystemModstamp",
)


@pytest.fixture
def ledger(ledger_url):
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def ask(ledger: Ledger, kind: RunKind = RunKind.INCREMENTAL, **more) -> int:
    given = {"stream": CONTACT, "kind": kind, "who": "ada", "origin": "person", "now": NOW}
    return ask_for_run(ledger, **(given | more))


def row(ledger: Ledger, run_id: int):
    with ledger.read() as c:
        return c.execute(select(Run.__table__).where(Run.id == run_id)).one()


def audits(ledger: Ledger) -> list[str]:
    with ledger.read() as c:
        return list(c.execute(select(Audit.action).order_by(Audit.id)).scalars())


def test_a_request_is_a_queued_run_and_a_line_of_audit(ledger):
    found = row(ledger, ask(ledger))
    assert (found.state, found.subject, found.source, found.kind) == (
        "queued",
        "salesforce.contact",
        "salesforce",
        "incremental",
    )
    assert (found.requested_by, found.origin, found.attempt, found.parameters) == ("ada", "person", 1, {})
    assert found.requested_at == NOW
    assert audits(ledger) == ["run.asked"]


@pytest.mark.parametrize(("origin", "priority"), [("person", 10), ("command", 10), ("schedule", 50), ("start", 60)])
def test_people_go_before_the_clock(ledger, origin, priority):
    assert row(ledger, ask(ledger, origin=origin)).priority == priority


def test_a_given_priority_wins(ledger):
    assert row(ledger, ask(ledger, priority=3)).priority == 3


def test_the_same_idempotency_key_is_the_same_run_even_after_it_ended(ledger):
    first = ask(ledger, idempotency_key="k")
    ask_to_cancel(ledger, run_id=first, who="ada", now=NOW)
    assert ask(ledger, idempotency_key="k") == first
    assert ask(ledger, idempotency_key="other") != first


def test_a_key_that_met_a_waiting_run_stays_with_it_after_it_ended(ledger):
    first = ask(ledger)
    assert ask(ledger, idempotency_key="k", origin="webhook") == first
    assert ask(ledger, idempotency_key="l", origin="webhook") == first
    ask_to_cancel(ledger, run_id=first, who="ada", now=NOW)
    assert ask(ledger, idempotency_key="k", origin="webhook") == first
    assert ask(ledger, idempotency_key="l", origin="webhook") == first
    assert audits(ledger) == ["run.asked", "run.cancel_asked"]


@pytest.mark.parametrize(
    "other",
    [
        {"kind": RunKind.FULL, "since": None},
        {"stream": replace(CONTACT, name="lead")},
        {"since": NOW - timedelta(days=3)},
        {"until": NOW - timedelta(days=1)},
    ],
)
def test_a_key_is_for_one_request(ledger, other):
    given = {"kind": RunKind.BACKFILL, "since": NOW - timedelta(days=2), "idempotency_key": "k"}
    first = ask(ledger, **given)
    with pytest.raises(KeyReused, match=f"run {first} "):
        ask(ledger, **(given | other))
    assert audits(ledger) == ["run.asked"]


def test_a_window_without_an_end_is_the_same_request_a_minute_later(ledger):
    given = {"kind": RunKind.BACKFILL, "since": NOW - timedelta(days=2), "idempotency_key": "k"}
    assert ask(ledger, **given) == ask(ledger, **given, now=NOW + timedelta(minutes=1))


def test_a_retry_asks_for_the_same_again(ledger):
    first = ask(ledger, RunKind.BACKFILL, since=NOW - timedelta(days=2), origin="schedule")
    ask_to_cancel(ledger, run_id=first, who="ada", now=NOW)
    later = NOW + timedelta(hours=1)
    again = ask_to_retry(ledger, run_id=first, who="bob", origin="command", now=later)
    assert (again.waiting, again.goes_on) == (False, False)
    was, found = row(ledger, first), row(ledger, again.run_id)
    assert (found.subject, found.kind, found.parameters) == (was.subject, was.kind, was.parameters)
    assert (found.retry_of, found.origin, found.requested_by, found.priority) == (first, "command", "bob", 10)
    twice = ask_to_retry(ledger, run_id=first, who="bob", origin="command", now=later)
    assert (twice.run_id, twice.waiting) == (again.run_id, True)


def test_a_retry_of_a_window_counts_for_its_backfill(ledger):
    backfill = backfills.start(
        ledger,
        stream=CONTACT,
        since=NOW - timedelta(days=2),
        until=NOW - timedelta(days=1),
        chunk="day",
        newest_first=True,
        scope="all",
        who="ada",
        now=NOW,
    )
    backfills.feed(ledger, now=NOW)
    first = row(ledger, 1)
    ask_to_cancel(ledger, run_id=first.id, who="ada", now=NOW)
    again = ask_to_retry(ledger, run_id=first.id, who="bob", origin="command", now=NOW)
    assert row(ledger, again.run_id).backfill_id == first.backfill_id == backfill


@pytest.mark.parametrize(("plan_kind", "fits"), [(RunKind.INCREMENTAL, True), (RunKind.FULL, False)])
def test_a_retry_goes_on_where_a_plan_of_the_same_kind_is_open(ledger, plan_kind, fits):
    first = ask(ledger)
    with ledger.write() as c:
        c.execute(update(Run).values(state="failed"))
        add_plan(
            c,
            stream=CONTACT.id,
            kind=plan_kind,
            run_id=first,
            now=NOW,
            seam=None,
            windows=[],
            columns=[],
            details={"parameters": {}},
        )
    assert ask_to_retry(ledger, run_id=first, who="bob", origin="command", now=NOW).goes_on is fits


@pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
def test_what_has_not_ended_is_not_tried_again(ledger, state):
    first = ask(ledger)
    with ledger.write() as c:
        c.execute(update(Run).values(state=state))
    with pytest.raises(ConfigurationError, match=f"has not ended: it is {state}"):
        ask_to_retry(ledger, run_id=first, who="bob", origin="command", now=NOW)
    assert audits(ledger) == ["run.asked"]


def test_an_unknown_run_is_not_tried_again(ledger):
    with pytest.raises(ConfigurationError, match="no run 7"):
        ask_to_retry(ledger, run_id=7, who="bob", origin="command", now=NOW)


def test_a_queued_run_is_not_doubled(ledger):
    first = ask(ledger)
    assert ask(ledger) == first
    assert ask(ledger, RunKind.FULL) != first
    assert audits(ledger) == ["run.asked", "run.asked"]


def test_another_window_is_another_run(ledger):
    day = timedelta(days=1)
    first = ask(ledger, RunKind.BACKFILL, since=NOW - 2 * day, until=NOW - day)
    assert ask(ledger, RunKind.BACKFILL, since=NOW - 2 * day, until=NOW - day) == first
    assert ask(ledger, RunKind.BACKFILL, since=NOW - 3 * day, until=NOW - day) != first


def test_a_person_brings_a_waiting_run_forward_a_schedule_does_not(ledger):
    first = ask(ledger, origin="schedule")
    with ledger.write() as c:
        c.execute(update(Run).values(not_before=NOW + timedelta(minutes=5)))
    ask(ledger, origin="schedule")
    assert row(ledger, first).not_before is not None
    assert ask(ledger) == first
    found = row(ledger, first)
    assert (found.priority, found.not_before) == (10, None)
    assert audits(ledger) == ["run.asked", "run.brought_forward"]


def test_a_window_is_kept_as_utc(ledger):
    since = datetime.fromisoformat("2024-11-01T02:00:00+02:00")
    found = row(ledger, ask(ledger, RunKind.BACKFILL, since=since))
    assert found.parameters == {"since": "2024-11-01T00:00:00+00:00", "until": "2024-11-18T14:00:00+00:00"}


@pytest.mark.parametrize(
    ("kind", "since", "until", "said"),
    [
        (RunKind.BACKFILL, None, None, "needs the start"),
        (RunKind.BACKFILL, NOW, NOW, "not after its start"),
        (RunKind.BACKFILL, NOW - timedelta(days=1), NOW - timedelta(days=2), "not after its start"),
        (RunKind.BACKFILL, NOW.replace(tzinfo=None), NOW, "no time zone"),
        (RunKind.BACKFILL, NOW - timedelta(days=1), NOW.replace(tzinfo=None), "no time zone"),
        (RunKind.BACKFILL, NOW - timedelta(days=1), NOW + timedelta(hours=1), "in the future"),
        (RunKind.INCREMENTAL, NOW - timedelta(days=1), None, "goes with a backfill"),
        (RunKind.FULL, None, NOW, "goes with a backfill"),
        (RunKind.BACKFILL, datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), None, "years 1 to 9999"),
        (RunKind.BACKFILL, datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), None, "years 1 to 9999"),
    ],
)
def test_a_bad_window_is_refused_and_nothing_is_written(ledger, kind, since, until, said):
    with pytest.raises(BadWindow, match=said):
        ask(ledger, kind, since=since, until=until)
    assert audits(ledger) == []


def test_a_queued_run_is_cancelled_at_once(ledger):
    run_id = ask(ledger)
    assert ask_to_cancel(ledger, run_id=run_id, who="bob", now=NOW) is RunState.CANCELLED
    found = row(ledger, run_id)
    assert (found.state, found.ended_at, found.cancel_requested_by) == ("cancelled", NOW, "bob")
    assert "bob" in found.headline
    assert audits(ledger) == ["run.asked", "run.cancel_asked"]


def test_a_running_run_is_asked_to_end_once(ledger):
    run_id = ask(ledger)
    with ledger.write() as c:
        c.execute(update(Run).values(state="running"))
    for _ in range(2):
        assert ask_to_cancel(ledger, run_id=run_id, who="bob", now=NOW) is RunState.CANCELLING
    assert row(ledger, run_id).ended_at is None
    assert audits(ledger) == ["run.asked", "run.cancel_asked"]


@pytest.mark.parametrize("state", ["succeeded", "partial", "failed", "cancelled", "abandoned"])
def test_what_has_ended_cannot_be_cancelled(ledger, state):
    run_id = ask(ledger)
    with ledger.write() as c:
        c.execute(update(Run).values(state=state))
    with pytest.raises(ConfigurationError, match=f"ended already.*{state}"):
        ask_to_cancel(ledger, run_id=run_id, who="bob", now=NOW)


def test_an_unknown_run_cannot_be_cancelled(ledger):
    with pytest.raises(ConfigurationError, match="no run 7"):
        ask_to_cancel(ledger, run_id=7, who="bob", now=NOW)


# --- races ----------------------------------------------------------------------------------------

ROUNDS = 12


def _ask(together, url: str, me: int) -> list[int]:
    """In every round the same request as everybody else's, for a stream of the round's own."""
    ledger = open_ledger(url)
    found = []
    for number in range(ROUNDS):
        together.wait()
        found.append(ask(ledger, stream=replace(CONTACT, name=f"s{number}"), who=f"w{me}"))
    ledger.close()
    return found


def test_of_several_that_ask_for_the_same_at_once_all_get_the_same_run(ledger, ledger_url):
    first, *others = at_once(_ask, *[(ledger_url, me) for me in range(3)])
    assert len(set(first)) == ROUNDS
    assert others == [first, first]
    assert audits(ledger) == ["run.asked"] * ROUNDS


def _ask_by_key(together, url: str, me: int, *, own_stream: bool) -> list[int | str]:
    """In every round the same key as everybody else; sometimes for a stream of one's own."""
    ledger = open_ledger(url)
    found: list[int | str] = []
    for number in range(ROUNDS):
        together.wait()
        try:
            stream = replace(CONTACT, name=f"s{me if own_stream else 0}")
            found.append(ask(ledger, stream=stream, idempotency_key=f"k{number}"))
        except KeyReused:
            found.append("reused")
        together.wait()
        if me == 0 and found[-1] != "reused":
            ask_to_cancel(ledger, run_id=int(found[-1]), who="ada", now=NOW)
        together.wait()
    ledger.close()
    return found


def _ask_the_same_by_key(together, url: str, me: int) -> list[int | str]:
    return _ask_by_key(together, url, me, own_stream=False)


def _ask_something_else_by_key(together, url: str, me: int) -> list[int | str]:
    return _ask_by_key(together, url, me, own_stream=True)


def test_a_key_is_one_run_whoever_asks_first(ledger, ledger_url):
    first, *others = at_once(_ask_the_same_by_key, *[(ledger_url, me) for me in range(3)])
    assert len(set(first)) == ROUNDS
    assert others == [first, first]
    assert audits(ledger).count("run.asked") == ROUNDS


def test_of_several_requests_with_one_key_one_is_taken(ledger, ledger_url):
    answers = at_once(_ask_something_else_by_key, *[(ledger_url, me) for me in range(3)])
    for together in zip(*answers, strict=True):
        assert together.count("reused") == 2
    with ledger.read() as c:
        assert len(set(c.execute(select(RequestKey.run_id)).scalars())) <= ROUNDS
        assert c.execute(select(func.count()).select_from(RequestKey)).scalar() == ROUNDS


def _cancel(together, url: str, me: int, run_ids: list[int]) -> list[str]:
    ledger = open_ledger(url)
    found = []
    for run_id in run_ids:
        together.wait()
        try:
            found.append(ask_to_cancel(ledger, run_id=run_id, who=f"w{me}", now=NOW).value)
        except ConfigurationError:
            found.append("ended already")
    ledger.close()
    return found


def test_a_run_is_cancelled_once(ledger, ledger_url):
    run_ids = [ask(ledger, stream=replace(CONTACT, name=f"s{n}")) for n in range(ROUNDS)]
    answers = at_once(_cancel, *[(ledger_url, me, run_ids) for me in range(2)])
    assert [sorted(pair) for pair in zip(*answers, strict=True)] == [["cancelled", "ended already"]] * ROUNDS
    assert audits(ledger).count("run.cancel_asked") == ROUNDS


def _claim(together, url: str, run_ids: list[int]) -> list[str]:
    ledger = open_ledger(url)
    found = []
    for run_id in run_ids:
        together.wait()
        try:
            claim(
                ledger,
                run_id=run_id,
                holder=f"elsewhere:{run_id}:1",
                now=NOW,
                watcher=Watcher(60),
                code_version="1",
            )
            found.append("claimed")
        except ConfigurationError as error:
            found.append(error.message)
    ledger.close()
    return found


def test_a_run_is_cancelled_before_it_is_claimed_or_asked_to_end_after_it(ledger, ledger_url):
    run_ids = [ask(ledger, stream=replace(CONTACT, name=f"s{n}")) for n in range(ROUNDS)]
    cancels, claims = at_once(_either, (ledger_url, "cancel", run_ids), (ledger_url, "claim", run_ids))
    for run_id, cancelled, claimed in zip(run_ids, cancels, claims, strict=True):
        state = row(ledger, run_id).state
        if claimed == "claimed":
            assert (cancelled, state) == ("cancelling", "cancelling")
        else:
            assert (claimed, cancelled) == (f"Run {run_id} is cancelled, not queued.", "cancelled")
            assert state == "cancelled"


def _either(together, url: str, what: str, run_ids: list[int]) -> list[str]:
    return _cancel(together, url, 1, run_ids) if what == "cancel" else _claim(together, url, run_ids)
