"""What is decided about load windows, over every combination of facts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from novade_core.ledger.models import WindowState
from novade_core.ledger.windows import Waiting, Window
from novade_core.settings import PoolSettings
from novade_core.sync.load_window import SETTLE, Facts, Rules, Step, decide
from novade_core.warehouse.pool import PoolState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Rules(
    gather=timedelta(minutes=60), idle=timedelta(minutes=5), longest=timedelta(minutes=120), wait=timedelta(minutes=20)
)
LONG_AGO, JUST = NOW - timedelta(hours=5), NOW - timedelta(seconds=10)


def every_window() -> Iterator[Window | None]:
    yield None
    marks = (None, JUST, LONG_AGO)
    for state, ours, asked, paused, ended, since, busy in itertools.product(
        WindowState, (True, False), marks, marks, (None, JUST), (JUST, LONG_AGO), (JUST, LONG_AGO)
    ):
        if not ours and state in (WindowState.RESUMING, WindowState.PAUSING):
            continue  # what is not ours is neither resumed nor paused by us: see the walks below
        yield Window(
            id=1,
            state=state,
            reason="",
            ours=ours,
            opened_at=since,
            resume_asked_at=asked,
            resumed_at=since,
            loads_from=since,
            busy_at=busy,
            pause_asked_at=paused,
            end_asked_at=ended,
            end_asked_by="ada" if ended else None,
        )


def every_fact() -> Iterator[Facts]:
    waits = (Waiting(), *(Waiting(streams=("s.a",), oldest=oldest) for oldest in (JUST, LONG_AGO)))
    for window, pool, waiting, loading, others in itertools.product(
        list(every_window()), (*PoolState, None), waits, (0, 1), (None, (), ("bob (SSMS)",))
    ):
        yield Facts(now=NOW, pool=pool, window=window, waiting=replace(waiting, loading=loading), others=others)


ALL = [(facts, decide(facts, RULES)) for facts in every_fact()]


def those(step: Step) -> list[Facts]:
    found = [facts for facts, decision in ALL if decision.step is step]
    assert found, f"no fact leads to {step}"
    return found


def test_every_step_is_reached_and_says_why() -> None:
    assert {decision.step for _, decision in ALL} == set(Step)
    assert all(decision.why for _, decision in ALL)


def test_a_pool_is_paused_only_while_nobody_is_there_and_only_by_who_resumed_it() -> None:
    for facts in those(Step.PAUSE):
        assert facts.window is not None
        assert facts.window.ours
        assert (facts.pool, facts.others, facts.waiting.loading) == (PoolState.ONLINE, (), 0)


def test_a_pool_is_resumed_only_when_it_is_paused() -> None:
    for facts in those(Step.RESUME):
        assert facts.pool is PoolState.PAUSED
        assert facts.window is not None
        assert facts.window.ours
        assert facts.window.end_asked_at is None


def test_loads_begin_only_in_an_open_window() -> None:
    for facts in those(Step.LOAD):
        assert facts.window is not None
        assert (facts.window.state, facts.pool) == (WindowState.OPEN, PoolState.ONLINE)
        assert facts.window.end_asked_at is None
        assert facts.window.loads_from is not None
        assert NOW - facts.window.loads_from < RULES.longest


def is_asked(facts: Facts) -> bool:
    """Whether we asked Azure for the pool; one that comes up without is somebody else's."""
    return facts.window is not None and facts.window.resume_asked_at is not None


def test_a_window_of_ours_ends_only_with_a_paused_pool() -> None:
    for facts in those(Step.CLOSE):
        assert facts.window is not None
        resuming = facts.window.state is WindowState.RESUMING
        assert facts.pool is PoolState.PAUSED or not facts.window.ours or (resuming and not is_asked(facts))
        assert facts.pool is not PoolState.MOVING or not is_asked(facts)


def test_a_window_begins_only_where_something_waits_and_none_is_under_way() -> None:
    for step in (Step.OPEN, Step.JOIN):
        for facts in those(step):
            assert facts.window is None
            assert facts.waiting.streams
    assert all(facts.waiting.oldest == LONG_AGO for facts in those(Step.OPEN))
    assert all(facts.pool is PoolState.ONLINE for facts in those(Step.JOIN))


def test_somebody_else_is_looked_for_before_a_pause_and_at_no_other_time() -> None:
    for facts in those(Step.LOOK):
        assert facts.others is None
        assert decide(replace(facts, others=()), RULES).step is Step.PAUSE
        assert decide(replace(facts, others=("bob (SSMS)",)), RULES).step in (Step.STAY, Step.REOPEN)


def test_nothing_is_done_while_the_pool_cannot_be_asked_or_moves() -> None:
    for facts, decision in ALL:
        if facts.pool in (None, PoolState.MOVING):
            over = {Step.CLOSE} if not is_asked(facts) else set()
            assert decision.step in {Step.NOTHING, Step.WAIT, Step.GIVE_UP} | over


def test_an_end_that_was_asked_for_begins_nothing() -> None:
    for facts, decision in ALL:
        if facts.window is not None and facts.window.end_asked_at is not None:
            assert decision.step not in (Step.RESUME, Step.LOAD, Step.REOPEN, Step.OPEN, Step.JOIN)


def test_settling_is_shorter_than_every_default_wait() -> None:
    assert timedelta(minutes=PoolSettings().wait_minutes) > SETTLE
