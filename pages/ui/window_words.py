"""Load windows in words: the sentence of the page and of Overview, steps of a window, how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from novade_core.ledger import summaries, window_views
from novade_core.ledger.models import WindowState
from novade_core.ledger.window_usage import booked
from novade_core.ledger.window_views import Standing
from novade_core.ledger.windows import Window
from novade_core.monitoring.window_costs import WindowCost, cost_of_window
from pages.ui import money, status, words
from pages.ui.markup import Markup, address, link, show, tag
from pages.ui.page import Services

#: A look at the pool may come late by so much before the page calls a window overdue.
_LATE = timedelta(minutes=2)


def has_pool(services: Services) -> bool:
    """Whether somebody here resumes and pauses a pool."""
    return services.environment.pool.kind != "none"


def standing(services: Services) -> Standing:
    """How load windows stand."""
    return services.read(window_views.standing, streams=tuple(s.id for s in services.environment.streams))


def cost_so_far(services: Services, found: Standing, now: datetime) -> WindowCost | None:
    """Of the window under way."""
    if found.window is None:
        return None
    since = found.last.closed_at if found.last is not None else None
    return cost_of_window(found.window, money.book(services), since=since, now=now)


def at(instant: datetime, now: datetime, zone: tzinfo) -> Markup:
    """14:02, with the day where it is not today's; the exact instant on hover."""
    local = instant.astimezone(zone)
    same = local.date() == now.astimezone(zone).date()
    text = f"{local:%H:%M}" if same else f"{local.day} {local:%b, %H:%M}"
    shown = text + (" UTC" if zone is UTC else "")
    return tag("time", shown, datetime=instant.isoformat(), title=words.exact(instant, zone))


def sentence(services: Services, found: Standing, now: datetime) -> list[Any]:
    """The answer to "what does the pool do, and what does it cost?"."""
    if found.window is None:
        return _between(services, found, now)
    window = found.window
    name = link(f"Window {window.id}", address("load-windows", window=window.id))
    cost = cost_so_far(services, found, now)
    return [name, " ", *_does(found, window), *_costs(cost, window, first=found.last is None), "."]


def _between(services: Services, found: Standing, now: datetime) -> list[Any]:
    waits, zone, last = found.waiting, services.zone(), found.last
    start: Any = "No load window has been opened yet"
    if last is not None and last.paused_at is not None:
        start = tag("span", "The pool is paused", title=f"Last seen {words.relative(last.paused_at, now)}.")
    elif last is not None:
        start = "No window is under way; somebody else has the pool"
    held = words.counted(len(waits.stuck), "stream")
    due = waits.due(timedelta(minutes=services.environment.pool.gather_minutes))
    if due is None or waits.oldest is None:
        if waits.stuck:
            return [start, f"; {held} held back, because the last load failed."]
        return [start, " and nothing waits."]
    count = len(waits.streams)
    parts = [start, f"; {words.counted(count, 'stream')} wait{'s' * (count == 1)} since ", at(waits.oldest, now, zone)]
    late = now > due + _LATE
    parts += [", the next window ", "is due since " if late else "opens by ", at(due, now, zone)]
    return [*parts, f"; {held} more held back, because the last load failed." if waits.stuck else "."]


def _does(found: Standing, window: Window) -> list[Any]:
    waits, ended = found.waiting, window.end_asked_at is not None
    own = {*waits.streams, *found.loaded.streams}
    if window.state is WindowState.RESUMING and ended:
        return [f"was ended by {window.end_asked_by}; the pool is paused again as soon as it is online"]
    if window.state is WindowState.RESUMING:
        left = words.counted(len(waits.streams), "stream")
        return ["waits for the pool to come online", f"; {left} to load" if waits.streams else ""]
    if window.state is WindowState.OPEN:
        busy = min(waits.loading, len(own)) or waits.loading
        if not waits.loading and not waits.streams:
            done = f"has loaded {words.counted(len(own), 'stream')} and " if own else ""
            return [f"{done}has nothing to load at the moment"]
        said = f"is loading {busy} of {words.counted(max(len(own), busy), 'stream')}"
        return [f"was ended by {window.end_asked_by}: it {said}, nothing more begins" if ended else said]
    if window.others:
        names = list(window.others)[:2] + (["others"] if len(window.others) > 2 else [])
        verb = " keeps the pool awake" if len(names) == 1 else " keep the pool awake"
        return ["is done; ", tag("strong", words.listed(names)), verb]
    if window.state is WindowState.CLOSING:
        return ["is done and looks whether somebody else is in the pool"]
    return ["pauses the pool" if window.pause_asked_at else "pauses the pool as soon as it is online"]


def _costs(cost: WindowCost | None, window: Window, *, first: bool) -> list[Any]:
    if cost is None:
        return []
    said: list[Any] = []
    if not window.ours:
        said.append(", in a pool that somebody else resumed")
    elif cost.online_seconds:
        said.append(f", online for {words.duration(cost.online_seconds)}")
        said.append(f", {words.money(cost.euros)} so far" if cost.euros is not None else ", cost not known")
    if cost.always_on is not None and not first:
        said.append(f"; always-on would have cost {words.money(cost.always_on)} since the last window")
    return said


def line(services: Services, now: datetime) -> None:
    """One short line for Overview, where a window is under way or something waits for one."""
    if not has_pool(services):
        return
    found = standing(services)
    if found.window is None and not found.gathered:
        return
    show(
        tag("p", link("Load windows", address("load-windows")), ": ", sentence(services, found, now), class_="nv-aside")
    )


def nobody_works(services: Services) -> bool:
    """Whether it is known that no worker lives, so nobody opens or ends windows."""
    workers = services.read(summaries.workers)
    alive = services.beats.alive(workers, lease_seconds=services.environment.worker.lease_seconds, at=time.monotonic())
    return not workers or alive is False


def ended(window: Window) -> str:
    """How it ended, a few words."""
    if window.closed_at is None:
        return "under way"
    by = f", ended by {window.end_asked_by}" if window.end_asked_by else ""
    if window.ours:
        return ("pool paused" if window.paused_at else "pool left online") + by
    return ("paused by its owner" if window.paused_at else "left to its owner") + by


def rows_loaded(window: Window, found: Standing) -> int | None:
    """Rows that came with it; None where that was not kept."""
    kept = booked(window)
    if kept is not None:
        return kept.loaded.rows
    return found.loaded.rows if found.window is not None and found.window.id == window.id else None


def steps(window: Window, rows: int | None) -> list[tuple[str, str, datetime | None, str]]:
    """What a window goes through: name, state as a badge says it, when, and a sentence."""
    over, state = window.closed_at is not None, window.state

    def stood(done: datetime | None, *, now: bool) -> str:
        return "done" if done is not None else "left out" if over else "running" if now else "waiting"

    found = [("Opened", "done", window.opened_at, f"{window.reason[:1].upper()}{window.reason[1:]}.")]
    if window.ours:
        asked = window.resume_asked_at
        found.append(("Resume", stood(asked, now=not over), asked, "Azure is asked to resume the pool."))
    waits = window.ours and window.resume_asked_at is not None
    online = "The pool is online." if window.ours else "Somebody else had resumed the pool."
    found.append(("Online", stood(window.resumed_at, now=waits), window.resumed_at, online))
    loads = words.counted(window.loads, "run") + " asked for" + (f", {rows:,} rows loaded" if rows is not None else "")
    drained = window.drained_at if state is not WindowState.OPEN else None
    found.append(("Load", stood(drained, now=state is WindowState.OPEN), drained, f"{loads}."))
    work = window.work or {}
    taken = "What statements took is copied, since a pause empties the pool's views."
    copied = drained if drained is not None and "statements" in work else None
    if copied is not None:
        taken = f"What {words.counted(work['statements'], 'statement')} took was copied."
    found.append(("Copy", stood(copied, now=False), copied, taken))
    if window.ours:
        held = f"Waits for {words.listed(list(window.others))}." if window.others else "Azure is asked to pause it."
        closing = state in (WindowState.CLOSING, WindowState.PAUSING)
        found.append(("Pause", stood(window.pause_asked_at, now=closing), window.pause_asked_at, held))
    last = "The pool is paused." if window.ours or window.paused_at else "Its owner keeps the pool."
    done = window.paused_at or (window.closed_at if not window.ours else None)
    found.append(("Closed", stood(done, now=window.pause_asked_at is not None), done, last))
    return found


def hour_in_words(euros: Decimal | None, size: str | None) -> str:
    """What being online costs, as a clause."""
    named = f" ({size})" if size else ""
    return "what an hour costs is not known" if euros is None else f"{words.money(euros)} an hour{named}"


def trouble(sentences: Sequence[str | None]) -> Any:
    """What is wrong, as a cell."""
    said = [s for s in sentences if s]
    return [tag("span", status.icon("warning"), class_="nv-badge nv-warn"), " ", " ".join(said)] if said else None
