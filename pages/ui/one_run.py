"""One run: headline, problem, actions, progress; what it left behind is drawn by ``run_evidence``."""

from __future__ import annotations

from typing import Any

import streamlit as st

from novade_core.errors import NovadeError
from novade_core.ledger import queries, run_history
from novade_core.ledger.models import ENDED, RunState
from novade_core.ledger.queries import RunDetail
from novade_core.ledger.requests import Again, ask_to_cancel, ask_to_retry
from novade_core.ledger.run_history import Surroundings, Unfinished
from pages.ui import run_evidence, status, tables, words
from pages.ui.markup import address, join, link, show, tag
from pages.ui.page import Services
from pages.ui.run_changes import changed
from pages.ui.run_problem import attempts, problem

_SEEMS = {
    "queued": "waits to start, asked for",
    "running": "is running, started",
    "cancelling": "was asked to end, started",
    "succeeded": "succeeded",
    "partial": "succeeded, with rejected records",
    "landed": "landed",
    "failed": "failed",
    "cancelled": "was cancelled",
    "abandoned": "was abandoned",
}
_ENDED_BADLY = (RunState.FAILED, RunState.ABANDONED)


def draw(services: Services, number: str) -> None:
    """The view of ``?run=``."""
    show(link("All runs", address("runs")))
    run = around = None
    if number.isdecimal() and number.isascii():
        run = services.read(queries.run, run_id=min(int(number), 2**62))
    if run is not None:
        around = _around(services, run)
    if run is None or around is None:
        status.empty(f"There is no run {number[:40]}.", link("Look at all runs.", address("runs")))
        return
    top(services, run)
    if run.notice:
        status.notice(tag("strong", "No rows. "), run.notice)
    if run.state in _ENDED_BADLY:
        trouble(services, run, around)
    actions(services, run, around)
    details(services, run, around)
    moving(services, run)
    run_evidence.compared(services, run)
    left, right = st.columns(2, gap="medium")
    with left:
        changed(services, run, around.source, services.now())
    with right:
        run_evidence.used(services, run)


def _around(services: Services, run: RunDetail) -> Surroundings | None:
    stream = next((s for s in services.environment.streams if s.id == run.subject), None)
    whole = stream is not None and stream.cursor_field is None
    return services.read(run_history.around, run_id=run.id, whole=whole)


def trouble(services: Services, run: RunDetail, around: Surroundings) -> None:
    """The problem, drawn anew while the next attempt waits or runs."""
    after = around.following(run.id)
    pending = after is not None and after.state not in ENDED

    @st.fragment(run_every=services.interval(live=True) if pending else None)
    def drawn() -> None:
        """Counts down to the next attempt and says how that ends."""
        current = _around(services, run) or around
        then = current.following(run.id)
        if pending and (then is None or then.state in ENDED):
            st.rerun(scope="app")
        problem(services, run, current, services.now())
        attempts(services, run.id, current.attempts)

    drawn()


def moving(services: Services, run: RunDetail) -> None:
    """What changes while the run is under way."""
    live = run.state not in ENDED

    @st.fragment(run_every=services.interval(live=True) if live else None)
    def drawn() -> None:
        """Progress, or why it waits; steps, records and log as they come."""
        current = services.read(queries.run, run_id=run.id) or run
        if current.state is not run.state:
            st.rerun(scope="app")
        clock = services.now()
        if current.state in (RunState.RUNNING, RunState.CANCELLING):
            show(tables.progress(current, clock))
        elif current.state is RunState.QUEUED:
            others = services.read(queries.open_runs)
            show(tag("p", status.badge("queued"), " ", tables.why_queued(services, current, others, clock)))
        left, right = st.columns(2, gap="medium")
        with left:
            run_evidence.waterfall(current, clock)
        with right:
            run_evidence.funnel(current)
        run_evidence.log(services, current)

    drawn()


def top(services: Services, run: RunDetail) -> None:
    """The sentence."""
    now, zone = services.now(), services.zone()
    instant = run.ended_at or run.started_at or run.requested_at
    stream = link(services.label(run.subject), address("runs", stream=run.subject), title=run.subject)
    parts: list[Any] = [f"Run {run.id:,}: ", stream, f" {_SEEMS.get(run.state.value, run.state.value)} "]
    parts.append(words.when(instant, now, zone))
    if run.ended_at is not None and run.started_at is not None:
        parts.append(f", in {words.duration((run.ended_at - run.started_at).total_seconds())}")
    named = f"{services.label(run.subject)}: "  # which the sentence has said already
    said = (run.headline or "").removeprefix(named) if run.state not in _ENDED_BADLY else None
    parts.append([". ", said] if said else ".")
    status.headline(parts)


def details(services: Services, run: RunDetail, around: Surroundings) -> None:
    """Who asked for what, and where it ran."""
    now, zone = services.now(), services.zone()
    window: Any = None
    if run.parameters.get("since"):
        window = f"{str(run.parameters['since'])[:16]} to {str(run.parameters.get('until'))[:16]} UTC"
    by: Any = f" by {run.requested_by}"
    if around.schedule is not None:
        by = [" by schedule ", link(around.schedule, address("schedules", schedule=around.schedule))]
    origin = f" ({run.origin})" if run.origin not in (run.requested_by, "schedule") else None
    total = max(len(services.environment.worker.retry_seconds) + 1, run.attempt)
    pairs: list[tuple[str, Any]] = [
        ("State", status.badge(run.state.value)),
        ("Kind", [words.KINDS.get(run.kind, run.kind), [", ", window] if window else None]),
        ("Asked", [words.when(run.requested_at, now, zone), by, origin]),
        ("Started", words.when(run.started_at, now, zone)),
        ("Ended", words.when(run.ended_at, now, zone)),
        ("Attempt", f"{run.attempt} of {total}" if run.attempt > 1 else "1"),
        ("Newest record", words.when(run.data_to, now, zone)),
        ("Code", run.code_version or words.DASH),
    ]
    if run.backfill_id is not None:
        where = address("sync", backfill=run.backfill_id)
        pairs.append(("Part of", link(f"backfill {run.backfill_id}", where)))
    if run.cancel_requested_by:
        asked = [words.when(run.cancel_requested_at, now, zone), f" by {run.cancel_requested_by}"]
        late = ", too late: its data was committed" if run.state in queries.WORKED else None
        pairs.append(("End asked for", [asked, late]))
    if run.state not in _ENDED_BADLY and len(around.attempts) > 1:
        others = [tables.run_link(r.id) for r in around.attempts if r.id != run.id]
        pairs.append(("Same request as", join(", ", others)))
    show(tables.facts(pairs))


def kept(found: Unfinished) -> str:
    """What has landed and stays, as a sentence."""
    rows = f"{words.counted(found.rows, 'row')} {'has' if found.rows == 1 else 'have'} landed"
    if found.windows > 1 and found.done == found.windows:
        return f"All {found.windows} windows ({rows}) are there and are not fetched again; loading is left."
    if found.windows > 1:
        windows = f"{found.done} of {found.windows} windows"
        return f"{rows} and are not fetched again: {windows} {'is' if found.done == 1 else 'are'} complete."
    return f"{rows} and {'is' if found.rows == 1 else 'are'} not fetched again."


def actions(services: Services, run: RunDetail, around: Surroundings) -> None:
    """Resume, run again, or cancel, each with its command; then what came of it."""
    ended = run.state in ENDED
    resumes = around.unfinished if run.state in (*_ENDED_BADLY, RunState.CANCELLED) else None
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if ended:
            known = run.subject in {s.id for s in services.environment.streams}
            reason = None if known else "This stream is not configured any more."
            if run.kind not in words.KINDS:
                reason = "Only syncs can be run again from here."
            name, icon = ("Resume", "resume") if resumes else ("Run again", "replay")
            if st.button(name, key="run_again", icon=f":material/{icon}:", disabled=reason is not None, help=reason):
                again(services, run)
        else:
            asked = run.state is RunState.CANCELLING
            why = "Its end has been asked for already." if asked else None
            if st.button("Cancel run", key="run_cancel", icon=":material/stop:", disabled=asked, help=why):
                confirm_cancel(services, run)
        with st.container(width="content"):
            show(tag("code", f"python -m jobs {'retry' if ended else 'cancel'} {run.id}"))
    if resumes:
        show(tag("p", kept(resumes), class_="nv-aside"))
    if said := st.session_state.pop("run_said", None):
        if isinstance(said, Again):
            told = " waits already and goes first now." if said.waiting else " is queued."
            goes_on = " It goes on from what has landed." if said.goes_on else None
            status.notice(tables.run_link(said.run_id, f"Run {said.run_id}"), told, goes_on, level="info")
        else:
            status.failed(*said)


def again(services: Services, run: RunDetail) -> None:
    """Ask for the same once more."""
    try:
        st.session_state["run_said"] = ask_to_retry(
            services.ledger, run_id=run.id, who=services.who, origin="person", now=services.now()
        )
    except NovadeError as error:
        st.session_state["run_said"] = (error.message, error.hint)
    services.forget()
    st.rerun()


def cancel(services: Services, run_id: int) -> None:
    """Ask for the run's end; a run that has ended meanwhile says so."""
    try:
        ask_to_cancel(services.ledger, run_id=run_id, who=services.who, now=services.now())
    except NovadeError as error:
        st.session_state["run_said"] = (error.message, error.hint)
    services.forget()


@st.dialog("Cancel this run?")
def confirm_cancel(services: Services, run: RunDetail) -> None:
    """Ask once."""
    kept = (
        "It has not started."
        if run.state is RunState.QUEUED
        else "What has landed is kept; a load under way is taken back, unless it is committed at this moment."
    )
    show(tag("p", f"Run {run.id:,}, {services.label(run.subject)}. {kept}"))
    with st.container(horizontal=True):
        if st.button("Cancel it", key="run_cancel_confirm", type="primary", on_click=cancel, args=(services, run.id)):
            st.rerun()
        if st.button("Let it run", key="run_cancel_keep"):
            st.rerun()
