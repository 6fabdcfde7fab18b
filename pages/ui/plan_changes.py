"""What changed from one version of a plan to another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from novade_core.ledger import plan_versions
from novade_core.sources.tracking_plan.model import Difference, Plan, differences
from pages.ui import status, tables, words
from pages.ui.markup import link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

if TYPE_CHECKING:
    from pages.ui.plan_view import Shown

#: Differences that are drawn at most.
_DRAWN = 200
_COLUMNS = (
    Column("What", "nv-tight"),
    Column("Event", "nv-tight"),
    Column("Property", "nv-tight"),
    Column("How", "nv-wide"),
)


def draw(services: Services, shown: Shown, old: str) -> None:
    """The differences from version ``old`` to the one that is shown."""
    version = shown.version
    before = services.read(plan_versions.model, plan=version.plan, version=old)
    if before is None:
        status.notice(f"There is no version {old} of this plan to compare with. ", link("Leave it out", shown.href()))
        return
    found = differences(Plan.from_json(before), shown.plan)
    status.section(f"What changed from {old} to {version.version}")
    counts = Counter(one.kind for one in found)
    said = words.listed([f"{counts[kind]:,} {kind}" for kind in ("added", "removed", "changed") if counts[kind]])
    show(tag("p", said or "Nothing that a plan says of its events.", " ", link("Close", shown.href()), class_="nv-row"))
    if not found:
        return
    rows = [
        (one.kind, one.event, tag("code", one.property) if one.property else words.DASH, one.text)
        for one in found[:_DRAWN]
    ]
    show(tables.table(_COLUMNS, rows, caption="Differences"))
    if len(found) > _DRAWN:
        show(tag("p", f"{len(found) - _DRAWN:,} more; the download holds them.", class_="nv-aside"))
    tables.download(
        "Download differences", lambda: csv_of(found), file_name="tracking-plan-changes.csv", key="plan_changes_csv"
    )


def csv_of(found: list[Difference]) -> str:
    """All differences for a spreadsheet."""
    names = ("kind", "event", "property", "text")
    return tables.csv_text(names, ([getattr(one, name) for name in names] for one in found))
