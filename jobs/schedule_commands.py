"""``python -m jobs schedule …``: the same as the buttons of Schedules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import EnvironmentOption, JsonOption, emit, errors, say, table, who
from novade_core.errors import BadWindow

if TYPE_CHECKING:
    from novade_core.ledger.fires import Rules
    from novade_core.ledger.schedules import Schedule
    from novade_core.schedules import ScheduleSpec
    from novade_core.wiring import Services

app = typer.Typer(help="When which streams are synced by themselves.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(help="The schedule's name.")]
CronOption = Annotated[str | None, typer.Option(help='Five fields, e.g. "*/15 6-20 * * 1-5".')]
EveryOption = Annotated[str | None, typer.Option(help="An interval instead: 90s, 15m, 6h, 1d.")]
ZoneOption = Annotated[str | None, typer.Option(help="Time zone of --cron, e.g. Europe/Berlin.", show_default="UTC")]
JitterOption = Annotated[str | None, typer.Option(help="Spreads fires over so long: 30s, 1m.", show_default="0")]
KindOption = Annotated[str | None, typer.Option(help="incremental or full.", show_default="incremental")]
OutageOption = Annotated[
    str | None, typer.Option(help="What missed fires get: once, all or skip.", show_default="once")
]
StreamsOption = Annotated[
    list[str] | None, typer.Option("--streams", help='A stream, a source or "*"; may be given several times.')
]


def _open(environment: str | None) -> tuple[Services, datetime, Rules]:
    """Services, the time, and the rules of booking; what the configuration says is in the ledger then."""
    from novade_core.ledger import leases, schedules
    from novade_core.ledger.fires import Rules
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services, utc_now

    services = build_services(load_settings(environment))
    now = utc_now()
    schedules.seed(services.ledger, services.environment.schedules, now=now)
    rules = Rules(
        streams=services.environment.streams,
        on_time_seconds=services.environment.worker.on_time_seconds,
        booked_by=leases.own_name(),
    )
    return services, now, rules


def _facts(schedule: Schedule, now: datetime, count: int = 5) -> dict[str, Any]:
    return {
        "name": schedule.spec.name,
        "state": "paused" if schedule.paused_at is not None else "active",
        "when": schedule.spec.timing.words(),
        **schedule.spec.to_json(),
        "next": schedule.next_fires(now, count),
        "paused_by": schedule.paused_by,
        "differs": schedule.differs,
        "changed_at": schedule.changed_at,
        "changed_by": schedule.changed_by,
    }


def _streams(given: list[str]) -> tuple[str, ...]:
    """What ``--streams`` gave, commas allowed."""
    return tuple(dict.fromkeys(name.strip() for part in given for name in part.split(",") if name.strip()))


def _spec(
    before: ScheduleSpec,
    *,
    streams: list[str] | None,
    cron: str | None,
    every: str | None,
    timezone: str | None,
    jitter: str | None,
    kind: str | None,
    outage: str | None,
) -> ScheduleSpec:
    """The schedule with the options that were given on top. Raises ConfigurationError for what makes no sense."""
    from dataclasses import replace

    from novade_core.schedules import Outage, Timing, interval_of
    from novade_core.streams import RunKind

    if cron is not None and every is not None:
        raise BadWindow("A schedule has either --cron or --every.", hint="Leave one of them out.")
    if outage is not None and outage not in set(Outage):
        raise BadWindow(f"{outage!r} is no rule for outages.", hint=f"Rules: {', '.join(Outage)}.")
    if kind is not None and kind not in (RunKind.INCREMENTAL, RunKind.FULL):
        raise BadWindow(f"{kind!r} is nothing that a schedule asks for.", hint="Kinds: incremental, full.")
    timing = before.timing
    return replace(
        before,
        streams=before.streams if streams is None else _streams(streams),
        kind=before.kind if kind is None else RunKind(kind),
        outage=before.outage if outage is None else Outage(outage),
        timing=Timing(
            cron=cron if cron is not None else None if every is not None else timing.cron,
            every_seconds=interval_of(every)
            if every is not None
            else None
            if cron is not None
            else timing.every_seconds,
            timezone=timing.timezone if timezone is None else timezone,
            jitter_seconds=timing.jitter_seconds if jitter is None else interval_of(jitter),
        ),
    )


def _say(services: Services, name: str, done: str, now: datetime, *, as_json: bool) -> None:
    """What it is now, after a change."""
    from novade_core.ledger import schedules

    found = schedules.schedule(services.ledger, name)
    if as_json:
        emit(_facts(found, now))
        return
    following = found.next_fires(now, 1)
    after = f"Next fire {following[0]:%Y-%m-%d %H:%M:%SZ}." if following else "It fires no more until it is resumed."
    say(f"{name}: {done}. {after}")


@app.command("list")
def list_(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """All schedules: when, what, and their next fire."""
    from novade_core.ledger import schedules

    with errors(as_json=as_json):
        services, now, _ = _open(environment)
        rows = [_facts(schedule, now) for schedule in schedules.schedules(services.ledger)]
    if as_json:
        emit(rows)
        return
    columns = ["name", "state", "when", "streams", "outage", "next", "differs"]
    body = [
        [
            row["name"], row["state"], row["when"], ", ".join(row["streams"]) or "none", row["outage"],
            next(iter(row["next"]), None), row["differs"],
        ]
        for row in rows
    ]  # fmt: skip
    table(columns, body)


@app.command()
def show(name: NameArgument, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """One schedule with its next five fires, its last ones, and what the configuration says instead."""
    from novade_core.ledger import schedules

    with errors(as_json=as_json):
        services, now, _ = _open(environment)
        found = schedules.schedule(services.ledger, name)
        past = schedules.fires(
            services.ledger, since=now - timedelta(days=7), until=now, schedule_id=found.id, limit=10
        )
    seed = found.seed.to_json() if found.seed is not None and found.differs else None
    if as_json:
        emit(_facts(found, now) | {"configuration": seed, "fires": [_fire(fire) for fire in past]})
        return
    facts = _facts(found, now)
    say(f"{name} ({facts['state']}): {facts['when']}, {facts['kind']}, {', '.join(facts['streams']) or 'no stream'}")
    for instant in facts["next"]:
        say(f"Next fire {instant:%Y-%m-%d %H:%M:%SZ}")
    if seed is not None:
        different = ", ".join(f"{key} = {value!r}" for key, value in seed.items() if facts[key] != value)
        say(f"novade.toml says otherwise: {different}. `python -m jobs schedule reset` takes it over.")
    _fires_table(past)


def _fire(fire: Any) -> dict[str, Any]:
    return {
        "schedule": fire.schedule,
        "promised": fire.promised,
        "due_at": fire.due_at,
        "booked_at": fire.booked_at,
        "late_seconds": round(fire.late_seconds, 3),
        "state": fire.state.value,
        "reason": fire.reason,
        "runs": fire.runs,
    }


def _fires_table(found: Any) -> None:
    columns = ["schedule", "promised", "booked_at", "late", "state", "runs", "reason"]
    body = [
        [f.schedule, f.promised, f.booked_at, f"{f.late_seconds:,.1f} s", f.state.value, f.runs, f.reason]
        for f in found
    ]
    table(columns, body, right=["late", "runs"])


@app.command("next")
def next_(
    name: NameArgument,
    count: Annotated[int, typer.Option(min=1, max=1000)] = 5,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """When it fires next."""
    from novade_core.ledger import schedules

    with errors(as_json=as_json):
        services, now, _ = _open(environment)
        found = schedules.schedule(services.ledger, name).next_fires(now, count)
    if as_json:
        emit(found)
    else:
        table(["next"], [[instant] for instant in found])


@app.command()
def fires(
    schedule: Annotated[str | None, typer.Option(help="Only this schedule's.")] = None,
    state: Annotated[str | None, typer.Option(help="on time, late, skipped or missed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=5000)] = 20,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was promised within 30 days and what became of it, the latest first."""
    from novade_core.ledger import schedules
    from novade_core.schedules import FireState

    with errors(as_json=as_json):
        services, now, _ = _open(environment)
        if state is not None and state not in set(FireState):
            raise BadWindow(f"{state!r} is no state of a fire.", hint=f"States: {', '.join(FireState)}.")
        found = schedules.fires(
            services.ledger,
            since=now - timedelta(days=30),
            until=now + timedelta(days=1),
            schedule_id=None if schedule is None else schedules.schedule(services.ledger, schedule).id,
            states=() if state is None else (FireState(state),),
            limit=limit,
        )
    if as_json:
        emit([_fire(fire) for fire in found])
    else:
        _fires_table(found)


@app.command()
def add(
    name: NameArgument,
    streams: StreamsOption = None,
    cron: CronOption = None,
    every: EveryOption = None,
    timezone: ZoneOption = None,
    jitter: JitterOption = None,
    kind: KindOption = None,
    outage: OutageOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """A new schedule, from now on."""
    from novade_core.ledger import schedules
    from novade_core.schedules import Outage, ScheduleSpec, Timing
    from novade_core.streams import RunKind

    with errors(as_json=as_json):
        if cron is None and every is None:
            raise BadWindow("A schedule needs --cron or --every.", hint='Such as --cron "*/15 * * * *" or --every 15m.')
        blank = ScheduleSpec(
            name=name, streams=(), kind=RunKind.INCREMENTAL, timing=Timing(every_seconds=86_400), outage=Outage.ONCE
        )
        spec = _spec(
            blank, streams=streams or [], cron=cron, every=every, timezone=timezone, jitter=jitter, kind=kind,
            outage=outage,
        )  # fmt: skip
        services, now, rules = _open(environment)
        schedules.add(services.ledger, spec, now=now, who=who(), rules=rules)
        _say(services, name, "added", now, as_json=as_json)


@app.command()
def edit(
    name: NameArgument,
    streams: StreamsOption = None,
    cron: CronOption = None,
    every: EveryOption = None,
    timezone: ZoneOption = None,
    jitter: JitterOption = None,
    kind: KindOption = None,
    outage: OutageOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a schedule; what is not given stays. Its new instants are promised from now on."""
    from novade_core.ledger import schedules

    with errors(as_json=as_json):
        services, now, rules = _open(environment)
        spec = _spec(
            schedules.schedule(services.ledger, name).spec, streams=streams, cron=cron, every=every, timezone=timezone,
            jitter=jitter, kind=kind, outage=outage,
        )  # fmt: skip
        schedules.edit(services.ledger, spec, now=now, who=who(), rules=rules)
        _say(services, name, spec.timing.words(), now, as_json=as_json)


@app.command()
def pause(name: NameArgument, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """From now on its fires are skipped; what runs goes on."""
    from novade_core.ledger import schedules

    with errors(as_json=as_json):
        services, now, rules = _open(environment)
        schedules.pause(services.ledger, name, now=now, who=who(), rules=rules)
        _say(services, name, "paused", now, as_json=as_json)


@app.command()
def resume(name: NameArgument, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """From now on it fires again; what was skipped stays skipped."""
    from novade_core.ledger import schedules

    with errors(as_json=as_json):
        services, now, rules = _open(environment)
        schedules.resume(services.ledger, name, now=now, who=who(), rules=rules)
        _say(services, name, "resumed", now, as_json=as_json)


@app.command()
def remove(name: NameArgument, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """It fires no more, and a restart does not bring it back; its past fires stay."""
    from novade_core.ledger import schedules

    with errors(as_json=as_json):
        services, now, rules = _open(environment)
        schedules.remove(services.ledger, name, now=now, who=who(), rules=rules)
    emit({"removed": name}) if as_json else say(f"{name}: removed. Its past fires stay.")


@app.command()
def reset(name: NameArgument, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Take over what novade.toml says about it."""
    from novade_core.ledger import schedules

    with errors(as_json=as_json):
        services, now, rules = _open(environment)
        schedules.reset(services.ledger, name, now=now, who=who(), rules=rules)
        _say(services, name, "as novade.toml says", now, as_json=as_json)
