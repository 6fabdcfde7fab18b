"""Tracking plans as the ledger remembers them: which plan, which version, and the sections about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from novade_core.ledger import plan_versions
from novade_core.sources.tracking_plan.model import Plan
from novade_core.streams import PlanVersion
from pages.ui import plan_changes, plan_events, status, tables, words
from pages.ui.markup import Markup, address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

#: Versions that are listed; older ones are in links and on the command line.
_LISTED = 20
_COLUMNS = (
    Column("Version", "nv-tight"),
    Column("State", "nv-tight"),
    Column("Events", "nv-right"),
    Column("Properties", "nv-right"),
    Column("Read first", "nv-tight nv-extra"),
    Column("Changed", "nv-tight", "When it became current, or ceased to be"),
    Column("File", "nv-extra"),
    Column("What changed", "nv-tight"),
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the sections of the page are about."""

    version: PlanVersion
    plan: Plan
    versions: tuple[PlanVersion, ...]  #: of this plan, the current one first

    def href(self, **more: str | None) -> str:
        """The page about the same version."""
        return address("tracking-plan", **{"plan": self.version.plan, "version": self.version.version, **more})


def draw(services: Services) -> None:
    """The page: everything that it shows stands in its address."""
    known = services.read(plan_versions.versions)
    if not known:
        _nothing(services)
        return
    shown = _chosen(services, known)
    if shown is None:
        return
    _plans(known, shown.version)
    _headline(services, shown)
    if st.query_params.get("event"):
        plan_events.one(shown.plan, st.query_params["event"], shown.href())
        return
    if st.query_params.get("old"):
        plan_changes.draw(services, shown, st.query_params["old"])
    _versions(services, shown)
    plan_events.draw(shown.plan, shown.href())


def _nothing(services: Services) -> None:
    if services.environment.tracking_plan.path is None:
        status.empty(
            "Nobody has said where the tracking plans are.",
            "Set ", tag("code", "NOVADE_TRACKING_PLAN_PATH"), " to the folder into which they are exported, or ",
            tag("code", "path"), " in the section ", tag("code", "[tracking_plan]"),
            " of a secrets file; docs/connectors/tracking-plan.md names the formats.",
        )  # fmt: skip
        return
    status.empty(
        "No tracking plan has been read yet.",
        link("Start a sync", address("sync", streams="tracking_plan.plans")), "; it reads the plans of the folder.",
    )  # fmt: skip


def _chosen(services: Services, known: Sequence[PlanVersion]) -> Shown | None:
    """The plan and version of the address; the largest current plan where it names none."""
    plan = st.query_params.get("plan") or max(known, key=lambda v: (v.current, v.events)).plan
    versions = tuple(v for v in known if v.plan == plan)
    wanted = st.query_params.get("version") or (versions[0].version if versions else "")
    version = next((v for v in versions if v.version == wanted), None)
    model = services.read(plan_versions.model, plan=plan, version=wanted) if version is not None else None
    if version is None or model is None:
        said = f"There is no version {wanted} of the plan {plan}." if wanted else f"There is no plan {plan}."
        status.empty(said, link("All plans", address("tracking-plan")))
        return None
    return Shown(version=version, plan=Plan.from_json(model), versions=versions)


def _plans(known: Sequence[PlanVersion], chosen: PlanVersion) -> None:
    """All plans as links, where there are several."""
    names = sorted({v.plan for v in known})
    if len(names) > 1:
        parts = [
            tag("strong", name) if name == chosen.plan else link(name, address("tracking-plan", plan=name))
            for name in names
        ]
        show(tag("nav", [tag("span", part) for part in parts], class_="nv-row", aria_label="Which plan"))


def _headline(services: Services, shown: Shown) -> None:
    """The sentence: plan, version, size, since when."""
    version, now, zone = shown.version, services.now(), services.zone()
    said = (
        f"{words.counted(version.events, 'event')} with {words.counted(version.properties, 'property', 'properties')}"
    )
    since: list[Markup | str | None] = ["; it became current ", words.when(version.changed_at, now, zone), "."]
    if not version.current:
        current = next((v for v in shown.versions if v.current), None)
        there = (
            "the plan has no current version, because its file is gone."
            if current is None
            else [link(current.version, address("tracking-plan", plan=version.plan)), " is current."]
        )
        since = [", which ceased to be current ", words.when(version.changed_at, now, zone), "; ", *there]
    name = tag("strong", version.plan)
    status.headline(name, " plans ", said, " in version ", tag("code", version.version), *since)
    dropped = sum(event.deprecated for event in shown.plan.events)
    if dropped:
        show(tag("p", f"{words.counted(dropped, 'event')} of them no longer to be sent.", class_="nv-aside"))


def _versions(services: Services, shown: Shown) -> None:
    now, zone = services.now(), services.zone()
    ordered = sorted(shown.versions, key=lambda v: v.first_seen_at, reverse=True)
    rows = []
    for number, version in enumerate(ordered[:_LISTED]):
        before = ordered[number + 1] if number + 1 < len(ordered) else None
        here = address("tracking-plan", plan=version.plan, version=version.version)
        code = tag("code", version.version)
        rows.append(
            (
                tag("strong", code) if version == shown.version else link(code, here),
                status.badge("current") if version.current else "earlier",
                words.number(version.events),
                words.number(version.properties),
                words.when(version.first_seen_at, now, zone),
                words.when(version.changed_at, now, zone),
                version.file,
                link("from the one before", f"{here}&old={before.version}", title=f"From {before.version}")
                if before is not None
                else words.DASH,
            )
        )
    table = tables.table(_COLUMNS, rows, caption="Versions of the plan, newest first")
    more = [f"{len(ordered) - _LISTED:,} older ones: ", tag("code", "python -m jobs plan show")]
    left = tag("p", more, class_="nv-aside") if len(ordered) > _LISTED else None
    summary = tag("summary", f"{words.counted(len(ordered), 'version')}, and what changed from one to the next")
    show(tag("details", summary, table, left))
