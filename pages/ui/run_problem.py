"""Why a run ended badly, what happens by itself, and the attempts before and after it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from novade_core import errors
from novade_core.ledger import queries, summaries
from novade_core.ledger.models import ENDED, RunState
from novade_core.ledger.queries import RunDetail, RunRow
from novade_core.ledger.run_history import Surroundings
from novade_core.monitoring.freshness import freshness_of
from pages.ui import status, tables, words
from pages.ui.markup import Markup, join, show, tag
from pages.ui.page import Services
from pages.ui.run_changes import as_row

_ORIGINS = {"source": "the source", "landing": "the landing", "warehouse": "the warehouse", "us": "this installation"}
#: How a run ends that cannot say so itself; it is tried again.
_ENDED_BY_US = ("WorkerVanished", "WorkerStopped", "RunStalled")


def problem(services: Services, run: RunDetail, around: Surroundings, now: datetime) -> None:
    """What, since when, what it affects, why, next step, and what happens by itself."""
    zone = services.zone()
    before = services.read(queries.before_run, run=as_row(run))
    since: list[Any] = ["Never worked before." if before.worked is None else "Last worked "]
    if before.worked is not None:
        since += [tables.run_link(before.worked.id, words.when(before.worked.ended_at, now, zone)), "."]
    if before.failures > 1 and before.failing_since is not None:
        count = f"{before.failures}{' or more' if before.more else ''}"
        first = tables.run_link(before.failing_since.id, words.when(before.failing_since.requested_at, now, zone))
        since += [f" {count} failures in a row, the first ", first, "."]
    message = run.error_message or run.headline or "Its worker vanished before it could say why."
    origin = _ORIGINS.get(run.error_origin or "", run.error_origin or "not known")
    pairs = (
        ("What", tag("strong", message)),
        ("Since", since),
        ("Affects", _affects(services, run, now)),
        ("Why", f"{run.error_kind or 'not known'}; the fault lies with {origin}."),
        ("Next", run.error_hint or "Run it again."),
        ("By itself", by_itself(services, run, around, now)),
    )
    inner = tag("dl", [[tag("dt", name), tag("dd", value)] for name, value in pairs])
    show(tag("div", inner, class_="nv-problem", role="region", aria_label="What went wrong"))


def _affects(services: Services, run: RunDetail, now: datetime) -> Any:
    known = services.read(summaries.stream_facts, streams=services.environment.streams)
    facts = next((f for f in known if f.stream == run.subject), None)
    if facts is None:
        return "A stream that is not configured any more."
    fresh = freshness_of(
        fresh_within_minutes=facts.fresh_within_minutes,
        last_load_at=facts.last_load_at,
        paused=facts.paused,
        now=now,
    )
    said: list[Any] = [facts.label, " ", status.badge(fresh.state.value), " ", fresh.sentence]
    if facts.last_run_id is not None and facts.last_run_id > run.id and facts.last_run_state in queries.WORKED:
        said += [" A later run worked: ", tables.run_link(facts.last_run_id), "."]
    return said


def by_itself(services: Services, run: RunDetail, around: Surroundings, now: datetime) -> Any:
    """What happens without anybody's doing."""
    total = len(services.environment.worker.retry_seconds) + 1
    after = around.following(run.id)
    if after is not None and after.origin == "retry":
        which = f"attempt {after.attempt} of {max(total, after.attempt)}"
        return _attempt(after, which, now, services)
    if after is not None:
        asked = ["Nothing, but ", after.requested_by, " asked for it again as ", tables.run_link(after.id), ", "]
        return [asked, "which ", _stands(after, now, services), "."]
    if around.twin is not None:
        return ["The same is queued already as ", tables.run_link(around.twin.id), "."]
    kind = run.error_kind or ""
    if kind not in _ENDED_BY_US and not getattr(getattr(errors, kind, None), "retryable", False):
        return "Nothing: a fault of this class does not pass by itself."
    if run.attempt >= total:
        return f"All {total} attempts failed; nothing more is tried." if total > 1 else "Nothing is tried again."
    return "Nothing: no further attempt was asked for."


def _attempt(after: RunRow, which: str, now: datetime, services: Services) -> Any:
    run = tables.run_link(after.id)
    if after.state is RunState.QUEUED and after.not_before is not None and after.not_before > now:
        return [
            "It is tried again in ", tag("strong", words.countdown(after.not_before, now)), ", at ",
            words.clock(after.not_before, services.zone()), f" ({which}), as ", run, ".",
        ]  # fmt: skip
    if after.state is RunState.QUEUED:
        return [f"It is tried again as soon as there is a place ({which}), as ", run, "."]
    if after.state not in ENDED:
        return [f"It is being tried again ({which}) as ", run, "."]
    return [f"It was tried again ({which}) as ", run, ", which ", _stands(after, now, services), "."]


def _stands(run: RunRow, now: datetime, services: Services) -> Any:
    ended = {"succeeded": "succeeded", "partial": "succeeded with rejected records", "failed": "failed"}
    if run.state.value in ended:
        return [ended[run.state.value], " ", words.when(run.ended_at, now, services.zone())]
    return f"{'was' if run.state in ENDED else 'is'} {run.state.value}"


def attempts(services: Services, run_id: int, chain: tuple[RunRow, ...]) -> None:
    """All attempts of the same, each a link, where there is more than one."""
    if len(chain) < 2:
        return
    total = len(services.environment.worker.retry_seconds) + 1
    parts: list[Markup] = []
    for run in chain:
        name = tag("strong", f"run {run.id}") if run.id == run_id else tables.run_link(run.id)
        hint = f"attempt {run.attempt} of {max(total, run.attempt)}, asked for by {run.requested_by}"
        parts.append(tag("span", name, " ", status.badge(run.state.value), title=hint, class_="nv-tight"))
    show(tag("nav", tag("span", "Attempts: "), join(" → ", parts), aria_label="Attempts"))
