"""``python -m jobs plan``: versions of tracking plans, their events, and what changed from one to the next."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import EnvironmentOption, JsonOption, emit, errors, say, table

if TYPE_CHECKING:
    from novade_core.sources.tracking_plan.model import Plan
    from novade_core.streams import PlanVersion
    from novade_core.wiring import Services

app = typer.Typer(help="Tracking plans, in all their versions.", no_args_is_help=True, rich_markup_mode=None)

PlanOption = Annotated[str | None, typer.Option("--plan", help="Its name; not needed where there is one.")]
_COLUMNS = ("plan", "version", "current", "events", "properties", "format", "file", "first_seen_at", "changed_at")


@app.command()
def show(
    name: PlanOption = None,
    version: Annotated[str | None, typer.Option(help="Show the events of this version; the beginning will do.")] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """All versions; with --version the events and properties of one."""
    with errors(as_json=as_json):
        services, known = _known(environment)
        if version is None:
            found = [v for v in known if name in (None, v.plan)]
        else:
            chosen = _chosen(known, name, version)
            plan = _model(services, chosen)
    if version is None:
        rows = [{column: getattr(one, column) for column in _COLUMNS} for one in found]
        if as_json:
            emit(rows)
        else:
            table(_COLUMNS, [list(row.values()) for row in rows], right=["events", "properties"])
    elif as_json:
        emit(plan.to_json())
    else:
        say(f"{chosen.plan}, version {chosen.version}: {chosen.events} events, {chosen.properties} properties")
        listed = [
            [event.name, one.name, " or ".join(one.types), "required" if one.required else "", one.description]
            for event in plan.events
            for one in event.properties
        ]
        listed += [[event.name, "", "", "", event.description] for event in plan.events if not event.properties]
        table(["event", "property", "type", "required", "description"], listed)


@app.command()
def diff(
    name: PlanOption = None,
    old: Annotated[str | None, typer.Option(help="A version.", show_default="the one before --new")] = None,
    new: Annotated[str | None, typer.Option(help="A version.", show_default="the current one")] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """What changed from one version to another, by event and property."""
    from novade_core.errors import BadWindow
    from novade_core.sources.tracking_plan.model import differences

    with errors(as_json=as_json):
        services, known = _known(environment)
        after = _chosen(known, name, new)
        if old is None:
            others = [v for v in known if v.plan == after.plan and v.first_seen_at < after.first_seen_at]
            if not others:
                raise BadWindow(f"{after.plan} has no version before {after.version}.")
            before = max(others, key=lambda v: v.first_seen_at)
        else:
            before = _chosen(known, after.plan, old)
        found = differences(_model(services, before), _model(services, after))
    if as_json:
        listed = [asdict(one) for one in found]
        emit({"plan": after.plan, "old": before.version, "new": after.version, "differences": listed})
        return
    say(f"{after.plan}: {before.version} to {after.version}, {len(found)} differences")
    table(["kind", "event", "property", "text"], [[d.kind, d.event, d.property, d.text] for d in found])


def _known(environment: str | None) -> tuple[Services, tuple[PlanVersion, ...]]:
    from novade_core.errors import ConfigurationError
    from novade_core.ledger import plan_versions
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services

    services = build_services(load_settings(environment))
    known = plan_versions.versions(services.ledger)
    if not known:
        raise ConfigurationError(
            "No tracking plan has been read yet.", hint="Read them with `python -m jobs sync tracking_plan`."
        )
    return services, known


def _chosen(known: tuple[PlanVersion, ...], name: str | None, version: str | None) -> PlanVersion:
    """The one version that is meant; the current one of the plan where none is said."""
    from novade_core.errors import ConfigurationError

    plans = sorted({v.plan for v in known})
    if name is None and len(plans) > 1:
        raise ConfigurationError(f"There are {len(plans)} plans: {', '.join(plans)}.", hint="Name one with --plan.")
    name = name or plans[0]
    found = [v for v in known if v.plan == name]
    # The current one comes first, or the newest where none is.
    fitting = found[:1] if version is None else [v for v in found if v.version.startswith(version)]
    if len(fitting) != 1:
        listed = ", ".join(v.version for v in found) or "none"
        raise ConfigurationError(
            f"{'Several versions' if fitting else 'No version'} of {name!r} fit {version!r}; known: {listed}.",
            hint="List plans and versions with `python -m jobs plan show`.",
        )
    return fitting[0]


def _model(services: Any, version: PlanVersion) -> Plan:
    from novade_core.ledger import plan_versions
    from novade_core.sources.tracking_plan.model import Plan

    return Plan.from_json(plan_versions.model(services.ledger, version.plan, version.version) or {})
