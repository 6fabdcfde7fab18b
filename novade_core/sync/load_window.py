"""Load windows: files gather while the pool is paused; then it is resumed, drained, and paused again.

``decide`` is the state machine, facts in and one step out, without a clock or a network. ``LoadWindows`` gathers the
facts and takes the step. Intentions are written to the ledger before Azure is asked, so whoever comes after a crash
goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from novade_core.errors import LeaseHeld, LeaseLost, NovadeError
from novade_core.ledger import leases, window_usage, windows
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import WindowState
from novade_core.ledger.windows import Waiting, Window
from novade_core.warehouse.pool import PoolControl, PoolState, PoolStatus

_log = logging.getLogger(__name__)

#: Azure may say Paused or Online for a while after it took the opposite request; until then it is not asked again.
SETTLE = timedelta(minutes=2)
_PAUSED = "the pool is paused"
_NOT_OURS = "the pool is somebody else's, and stays as it is"
#: Ends that need nobody's attention.
_AS_IT_SHOULD = (_PAUSED, _NOT_OURS)


class Step(StrEnum):
    """What is done next."""

    NOTHING = "nothing"  #: nothing waits, no window is under way
    WAIT = "wait"  #: look again later
    OPEN = "open"  #: begin a window whose pool we resume
    JOIN = "join"  #: begin a window on a pool that somebody else resumed
    RESUME = "resume"  #: ask Azure
    ONLINE = "online"  #: note that the pool is online; loads may begin
    LOAD = "load"  #: ask for runs of the streams that wait
    LOOK = "look"  #: find out who else has a session
    COPY = "copy"  #: nothing is left: copy what our statements took
    REOPEN = "reopen"  #: something came while it was closing
    STAY = "stay"  #: somebody else is there
    PAUSE = "pause"  #: ask Azure
    GIVE_UP = "give up"  #: the resume takes too long: from here on the pool is paused when it comes up
    CLOSE = "close"  #: it is over


class Decision(NamedTuple):
    """One step and why, as half a sentence."""

    step: Step
    why: str


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The environment's limits."""

    gather: timedelta
    idle: timedelta
    longest: timedelta
    wait: timedelta


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a decision depends on."""

    now: datetime
    pool: PoolState | None  #: None: it could not be asked
    window: Window | None
    waiting: Waiting
    others: tuple[str, ...] | None = None  #: None: nobody looked


def decide(facts: Facts, rules: Rules) -> Decision:
    """The next step."""
    if facts.window is None:
        return _gathering(facts, rules)
    return _STATES[facts.window.state](facts, facts.window, rules)


def _gathering(facts: Facts, rules: Rules) -> Decision:
    oldest, due = facts.waiting.oldest, facts.waiting.due(rules.gather)
    if not facts.waiting.streams or oldest is None or due is None:
        return Decision(Step.NOTHING, "nothing waits")
    if facts.pool is PoolState.ONLINE:
        return Decision(Step.JOIN, "the pool is online already")
    if facts.now < due:
        return Decision(Step.WAIT, f"files gather until {due:%Y-%m-%d %H:%M} UTC")
    if facts.pool is PoolState.PAUSED:
        count = len(facts.waiting.streams)
        return Decision(Step.OPEN, f"{count} stream{'s' if count > 1 else ''} waited since {oldest:%Y-%m-%d %H:%M} UTC")
    return Decision(Step.WAIT, _unsteady(facts.pool))


def _resuming(facts: Facts, window: Window, rules: Rules) -> Decision:
    asked = window.resume_asked_at
    if facts.pool is PoolState.ONLINE:
        return Decision(Step.ONLINE, "the pool is online")
    # Azure may not show yet what it was asked for, and the pool would come up with nobody to pause it.
    settled = asked is None or facts.now - asked >= SETTLE
    if window.end_asked_at is not None:
        # One that comes up without having been asked for by us is somebody else's.
        if asked is None or (facts.pool is PoolState.PAUSED and settled):
            return Decision(Step.CLOSE, f"ended by {window.end_asked_by} before the pool was resumed")
        return Decision(Step.GIVE_UP, f"ended by {window.end_asked_by} while the pool was being resumed")
    if asked is not None and facts.now - window.opened_at >= rules.wait:
        return Decision(Step.GIVE_UP, f"the pool was not online after {_minutes(rules.wait)}")
    if facts.pool is PoolState.PAUSED and settled:
        return Decision(Step.RESUME, "the pool is paused")
    return Decision(Step.WAIT, _unsteady(facts.pool))


def _open(facts: Facts, window: Window, rules: Rules) -> Decision:
    if facts.pool is PoolState.PAUSED:
        return Decision(Step.CLOSE, "the pool was paused by somebody else")
    if facts.pool is not PoolState.ONLINE:
        return Decision(Step.WAIT, _unsteady(facts.pool))
    ending = window.end_asked_at is not None or facts.now - (window.loads_from or window.opened_at) >= rules.longest
    if facts.waiting.streams and not ending:
        return Decision(Step.LOAD, f"{len(facts.waiting.streams)} to load")
    if facts.waiting.loading:
        return Decision(Step.WAIT, f"{facts.waiting.loading} loading")
    if not ending and facts.now - (window.busy_at or window.opened_at) < rules.idle:
        return Decision(Step.WAIT, "nothing to load at the moment")
    return Decision(Step.COPY, "everything is loaded" if not facts.waiting.streams else "its time is over")


def _closing(facts: Facts, window: Window, _rules: Rules) -> Decision:
    if facts.pool is PoolState.PAUSED:
        return Decision(Step.CLOSE, "the pool was paused by somebody else")
    if facts.pool is not PoolState.ONLINE:
        return Decision(Step.WAIT, _unsteady(facts.pool))
    if not window.ours:
        return Decision(Step.CLOSE, _NOT_OURS)
    if facts.waiting.loading:
        return Decision(Step.WAIT, f"{facts.waiting.loading} loading")
    if facts.others is None:
        return Decision(Step.LOOK, "who else is there?")
    if facts.others:
        # The pool is online for them in any case, so loads may as well go on.
        if facts.waiting.streams and window.end_asked_at is None:
            return Decision(Step.REOPEN, f"{facts.others[0]} keeps the pool online, and there is something to load")
        return Decision(Step.STAY, _held_by(facts.others))
    return Decision(Step.PAUSE, "nobody is there")


def _pausing(facts: Facts, window: Window, rules: Rules) -> Decision:
    asked = window.pause_asked_at
    if facts.pool is PoolState.PAUSED:
        resumed = window.resume_asked_at
        if asked is None and resumed is not None and facts.now - resumed < SETTLE:
            return Decision(Step.WAIT, "the pool may still come up")
        return Decision(Step.CLOSE, _PAUSED)
    if facts.pool is not PoolState.ONLINE:
        if asked is not None and facts.now - asked >= rules.wait:
            return Decision(Step.WAIT, f"the pool is not paused after {_minutes(rules.wait)}")
        return Decision(Step.WAIT, _unsteady(facts.pool))
    if asked is not None and facts.now - asked < SETTLE:
        return Decision(Step.WAIT, "Azure was asked to pause the pool")
    if asked is None and facts.waiting.streams and window.end_asked_at is None:
        return Decision(Step.ONLINE, "the pool came up after all")
    if facts.waiting.loading:
        return Decision(Step.WAIT, f"{facts.waiting.loading} loading")
    if facts.others is None:
        return Decision(Step.LOOK, "who else is there?")
    if facts.others:
        return Decision(Step.STAY, _held_by(facts.others))
    return Decision(Step.PAUSE, "the pool is online")


_STATES: dict[WindowState, Callable[[Facts, Window, Rules], Decision]] = {
    WindowState.RESUMING: _resuming,
    WindowState.OPEN: _open,
    WindowState.CLOSING: _closing,
    WindowState.PAUSING: _pausing,
    WindowState.CLOSED: lambda *_: Decision(Step.NOTHING, "it is over"),
}


def _unsteady(pool: PoolState | None) -> str:
    return "Azure could not be asked about the pool" if pool is None else f"the pool is {pool.value}"


def _held_by(others: tuple[str, ...]) -> str:
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"kept online by {others[0]}{more}"


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:g} minutes"


# --- taking the steps -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Hands:
    """What a window is run with; made by ``wiring``."""

    control: PoolControl
    others: Callable[[], tuple[str, ...]]  #: who else has a session; raises NovadeError
    work: Callable[[], dict[str, Any]]  #: what our statements took; raises NovadeError
    ask: Callable[[str, datetime], None]  #: asks for a run of a stream
    streams: frozenset[str]  #: that are configured; files of others wait for nobody


class LoadWindows:
    """Runs the pool's windows for one worker. ``tick()`` takes at most one step and never waits for Azure's work."""

    def __init__(
        self,
        ledger: Ledger,
        hands: Hands,
        rules: Rules,
        watcher: leases.Watcher,
        *,
        clock: Callable[[], datetime],
        look_seconds: float = 15.0,
    ) -> None:
        """``look_seconds``: between two looks at the pool, at most half a lease, which each look keeps alive."""
        self._ledger = ledger
        self._hands = hands
        self._rules = rules
        self._watcher = watcher
        self._clock = clock
        self._look_seconds = min(look_seconds, watcher.lease_seconds / 2)
        self._fence: int | None = None
        self._looked_at = float("-inf")
        self._trouble: str | None = None

    def tick(self) -> Decision | None:
        """Take the next step; None where it is not this worker's to take, or too early to look again."""
        with self._ledger.read() as connection:
            window, waiting = windows.current(connection), windows.waiting(connection, self._hands.streams)
        if window is None and not waiting.streams:
            self._step_down()
            return Decision(Step.NOTHING, "nothing waits")
        if time.monotonic() - self._looked_at < self._look_seconds or not self._hold():
            return None
        self._looked_at = time.monotonic()
        try:
            return self._step(window, waiting)
        except LeaseLost:
            self._fence = None
            return None

    def stop(self) -> None:
        """Let another worker go on; the window stays as it stands in the ledger."""
        self._step_down()

    def _step(self, window: Window | None, waiting: Waiting) -> Decision:
        self._trouble = None
        now, status = self._clock(), self._status()
        facts = Facts(now=now, pool=status.state if status else None, window=window, waiting=waiting)
        decision = decide(facts, self._rules)
        if decision.step is Step.LOOK:
            others = self._others()
            if others is None:
                # Whoever cannot look must not pause.
                decision = Decision(Step.STAY, "it cannot be seen whether somebody else is there")
            else:
                facts = Facts(now=now, pool=facts.pool, window=window, waiting=waiting, others=others)
                decision = decide(facts, self._rules)
        self._take(decision, facts, status)
        return decision

    def _take(self, decision: Decision, facts: Facts, status: PoolStatus | None) -> None:
        now, window, assert_fence = facts.now, facts.window, self._fence or 0
        size = status.size if status else None
        if decision.step in (Step.OPEN, Step.JOIN):
            ours = decision.step is Step.OPEN
            windows.open_window(self._ledger, fence=assert_fence, now=now, ours=ours, reason=decision.why, size=size)
            self._looked_at = float("-inf")  # the next step follows at once
            return
        if window is None:
            return
        # What went wrong with a resume or a pause stands there until it is over; elsewhere it passes.
        moving = window.state in (WindowState.RESUMING, WindowState.PAUSING)
        values: dict[str, Any] = {"trouble": self._trouble or (window.trouble if moving else None)}
        match decision.step:
            case Step.RESUME:
                # Written first: a crash after Azure took it must find that we asked.
                self._note(window, resume_asked_at=now)
                values |= self._asked(self._hands.control.resume)
            case Step.ONLINE:
                values |= {
                    "state": WindowState.OPEN,
                    # Nobody asked Azure for us: somebody else was quicker, and the pool is theirs.
                    "ours": window.ours and window.resume_asked_at is not None,
                    "resumed_at": window.resumed_at or now,
                    "loads_from": now,
                    "busy_at": now,
                    "size": size,
                    "trouble": None,
                }
            case Step.LOAD:
                asked = self._ask(facts)
                values |= {"busy_at": now, "loads": window.loads + asked, "trouble": self._trouble}
            case Step.WAIT:
                if facts.waiting.loading:
                    values["busy_at"] = now
                elif _is_stuck(window, facts, self._rules):
                    values["trouble"] = self._trouble or _sentence(decision.why)
            case Step.COPY:
                values |= {"state": WindowState.CLOSING, "drained_at": now, "work": self._work() or window.work}
                values["trouble"] = self._trouble
            case Step.REOPEN:
                values |= {
                    "state": WindowState.OPEN,
                    "loads_from": now,
                    "busy_at": now,
                    "others": list(facts.others or ()),
                }
            case Step.STAY:
                values |= {"others": list(facts.others or ()), "trouble": self._trouble or _sentence(decision.why)}
            case Step.PAUSE:
                self._note(window, state=WindowState.PAUSING, pause_asked_at=now, others=[])
                given_up = window.trouble if window.state is WindowState.PAUSING else None
                values |= {"trouble": given_up} | self._asked(self._hands.control.pause)
            case Step.GIVE_UP:
                before = f" {window.trouble}" if window.trouble else ""
                values |= {"state": WindowState.PAUSING, "trouble": _sentence(decision.why) + before}
            case Step.CLOSE:
                values |= self._closed(window, facts, decision) | {"size": size or window.size}
                window_usage.close(self._ledger, window.id, fence=assert_fence, values=values)
                return
        self._note(window, **values)

    def _closed(self, window: Window, facts: Facts, decision: Decision) -> dict[str, Any]:
        paused = facts.now if facts.pool is PoolState.PAUSED else None
        seconds = None
        if window.ours and window.resume_asked_at is not None:
            # Azure counts from the resume; where the pause was asked for, to then, else to when we saw it.
            until = window.pause_asked_at or facts.now
            never = window.resumed_at is None and window.pause_asked_at is None
            seconds = 0 if never else max(0, int((until - window.resume_asked_at).total_seconds()))
        return {
            "state": WindowState.CLOSED,
            "closed_at": facts.now,
            "paused_at": paused,
            "online_seconds": seconds,
            "others": [],
            "trouble": window.trouble if decision.why in _AS_IT_SHOULD else _sentence(decision.why),
        }

    def _note(self, window: Window, **values: Any) -> None:
        changed = {k: v for k, v in values.items() if getattr(window, k) != (tuple(v) if k == "others" else v)}
        if changed:
            windows.note(self._ledger, window.id, fence=self._fence or 0, **changed)

    def _asked(self, call: Callable[[], None]) -> dict[str, Any]:
        try:
            call()
        except NovadeError as error:
            _log.warning("%s %s", error.message, error.hint)
            return {"trouble": f"{error.message} {error.hint}"}
        return {}

    def _ask(self, facts: Facts) -> int:
        fresh = [stream for stream in facts.waiting.streams if stream not in facts.waiting.underway]
        asked = 0
        for stream in fresh:
            try:
                self._hands.ask(stream, facts.now)
                asked += 1
            except NovadeError as error:
                # One that is not configured any more must not hold up the others.
                self._trouble = f"{error.message} {error.hint}"
                _log.warning("%s", self._trouble)
        return asked

    def _status(self) -> PoolStatus | None:
        try:
            return self._hands.control.status()
        except NovadeError as error:
            self._trouble = f"{error.message} {error.hint}"
            _log.warning("%s", self._trouble)
            return None

    def _others(self) -> tuple[str, ...] | None:
        try:
            return self._hands.others()
        except NovadeError as error:
            self._trouble = (
                f"It cannot be seen who else is in the pool, so it stays online: {error.message} {error.hint}"
            )
            _log.warning("%s", self._trouble)
            return None

    def _work(self) -> dict[str, Any] | None:
        try:
            return self._hands.work()
        except NovadeError as error:
            self._trouble = f"What the statements of this window took could not be copied: {error.message}"
            _log.warning("%s", self._trouble)
            return None

    # The lease

    def _hold(self) -> bool:
        try:
            with self._ledger.write() as connection:
                self._watcher.note_write()
                if self._fence is not None:
                    leases.beat(connection, stream=windows.POOL, fence=self._fence)
                    return True
                taken = leases.take(
                    connection,
                    stream=windows.POOL,
                    holder=leases.own_name(),
                    run_id=None,
                    now=self._clock(),
                    watcher=self._watcher,
                )
        except (LeaseHeld, LeaseLost):
            self._fence = None
            return False
        self._fence = taken.fence
        return True

    def _step_down(self) -> None:
        if self._fence is not None:
            with self._ledger.write() as connection:
                leases.release(connection, stream=windows.POOL, fence=self._fence)
            self._fence = None


def _is_stuck(window: Window, facts: Facts, rules: Rules) -> bool:
    asked = window.pause_asked_at
    return window.state is WindowState.PAUSING and asked is not None and facts.now - asked >= rules.wait


def _sentence(why: str) -> str:
    return f"{why[0].upper()}{why[1:]}."
