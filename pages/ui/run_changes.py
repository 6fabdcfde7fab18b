"""What changed since a run's stream last worked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from novade_core.ledger import queries
from novade_core.ledger.queries import RunDetail, RunRow
from novade_core.ledger.run_history import SourceUse
from novade_core.monitoring.changes import changes
from pages.ui import status, tables, words
from pages.ui.markup import show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

#: Changes that are shown; a table that was changed all over says how many more there are.
_SHOWN = 20


def as_row(run: RunDetail) -> RunRow:
    """The run as a list knows it."""
    names = RunRow.__dataclass_fields__
    return RunRow(**{name: getattr(run, name) for name in names})


def changed(services: Services, run: RunDetail, use: SourceUse | None, now: datetime) -> None:
    """The sentence, what differs, and the figures of both runs beside each other."""
    status.section("Changed since it last worked")
    before = services.read(queries.before_run, run=as_row(run)).worked
    if before is None:
        show(tag("p", "It never worked before this run.", class_="nv-aside"))
        return
    plans = tuple(p for p in (before.plan_id, run.plan_id) if p is not None)
    columns = services.read(queries.plan_columns, plan_ids=plans) if plans else {}
    found = changes(
        before,
        run,
        columns_before=columns.get(before.plan_id) if before.plan_id is not None else None,
        columns_now=columns.get(run.plan_id) if run.plan_id is not None else None,
    )
    show(tag("p", tag("strong", found.sentence) if found.differs else found.sentence))
    rows: list[tuple[Any, ...]] = [
        (c.what, words.DASH if c.before is None else c.before, _strong(c.after)) for c in found.changed[:_SHOWN]
    ]
    kinds = [words.KINDS.get(r.kind, r.kind) for r in (before, run)]
    rows.append(("Kind", kinds[0], kinds[1] if kinds[0] == kinds[1] else _strong(kinds[1])))
    unusual = _is_unusual(before, run)
    volume = words.number(run.read)
    rows += [
        ("Records read", words.number(before.read), _strong(volume) if unusual else volume),
        ("API calls", words.number(before.api_calls), words.number(run.api_calls)),
        ("Time", words.duration(tables.took(before, now)), words.duration(tables.took(run, now))),
    ]
    heads = (Column("What"), Column(f"Run {before.id:,}"), Column(f"Run {run.id:,}"))
    show(tables.table(heads, rows, caption="This run against the last one that worked"))
    more = len(found.changed) - _SHOWN
    zone = services.zone()
    aside: list[Any] = [f"{words.counted(more, 'more change')} not shown. "] if more > 0 else []
    aside += ["Compared with ", tables.run_link(before.id), ", ", words.when(before.ended_at, now, zone), ". "]
    if use is not None and use.used is not None:
        of = f" of {use.allowed:,}" if use.allowed else ""
        aside += [f"The source counted {use.used:,}{of} API calls in 24 hours, seen ", words.when(use.at, now, zone)]
        aside.append(".")
    show(tag("p", aside, class_="nv-aside"))


def _strong(text: str | None) -> Any:
    return tag("strong", words.DASH if text is None else text)


def _is_unusual(before: RunDetail, run: RunDetail) -> bool:
    """Twice or half of what it was. A run that was stopped read less anyway."""
    if before.read is None or run.read is None:
        return False
    less = run.state in queries.WORKED and run.read * 2 < before.read
    return less or run.read > before.read * 2
