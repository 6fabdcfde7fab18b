"""The command line: ``python -m jobs``. Everything that a button does is a command too.

Imports are inside the commands: a command that only reads the ledger must not wait for a warehouse engine.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from jobs import (
    azure_commands,
    backfill_commands,
    plan_commands,
    price_commands,
    probe_commands,
    run_commands,
    schedule_commands,
    view_commands,
    window_commands,
)
from jobs.cli import DONE, FAILED, PARTIAL, EnvironmentOption, JsonOption, emit, errors, instant, say, table, who
from novade_core.errors import BadWindow

app = typer.Typer(
    name="jobs", help="Novade: bring data into the warehouse and know that it arrived.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
runs_app = typer.Typer(help="What ran, and what came of it.", no_args_is_help=True, rich_markup_mode=None)
sandbox_app = typer.Typer(help="The loopback stand-ins.", no_args_is_help=True, rich_markup_mode=None)
ledger_app = typer.Typer(help="The ledger.", no_args_is_help=True, rich_markup_mode=None)
app.command()(run_commands.cancel)
app.command()(run_commands.retry)
app.command()(probe_commands.probe)
app.add_typer(runs_app, name="runs")
app.add_typer(backfill_commands.app, name="backfill")
app.add_typer(schedule_commands.app, name="schedule")
app.add_typer(azure_commands.app, name="azure")
app.add_typer(price_commands.app, name="price")
app.add_typer(plan_commands.app, name="plan")
app.add_typer(window_commands.app, name="window")
app.add_typer(view_commands.app, name="views")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(ledger_app, name="ledger")

#: What a sync answers, in this order.
SYNC_KEYS = (
    "run_id stream state read landed loaded deleted unchanged superseded duplicates rejected "
    "source_count warehouse_count seconds headline"
).split()
#: How much lower than the console's the priority of a run's process is.
_NICE = 10
_CODES = {"succeeded": DONE, "landed": DONE, "partial": PARTIAL}


def _services(environment: str | None) -> Any:
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services

    return build_services(load_settings(environment))


@app.command()
def sync(
    streams: Annotated[list[str], typer.Argument(help="Streams such as salesforce.contact, or a source.")],
    full: Annotated[bool, typer.Option("--full", help="Read everything and replace the table.")] = False,
    since: Annotated[str | None, typer.Option(help="Only records changed from this instant on …")] = None,
    until: Annotated[str | None, typer.Option(help="… and before this one; the checkpoint stays.")] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring streams up to date now: through the worker where one lives, in this process otherwise."""
    from jobs import syncing
    from novade_core.errors import UnknownStream
    from novade_core.streams import RunKind

    with errors(as_json=as_json):
        low, high = instant(since, "--since"), instant(until, "--until")
        if full and (low or high):
            raise BadWindow("--full reads everything, so it takes neither --since nor --until.")
        if (low is None) != (high is None):
            raise BadWindow("A window needs both --since and --until.")
        services = _services(environment)
        known = services.environment.streams
        wanted = []
        for name in streams:
            found = [s for s in known if s.source == name] or [services.environment.stream(name)]
            wanted += [s for s in found if s not in wanted]
        if not wanted:
            raise UnknownStream("No stream is configured.")
        kind = RunKind.FULL if full else RunKind.BACKFILL if low else RunKind.INCREMENTAL
        answers = syncing.sync(services, wanted, kind, low, high, who=who(), quiet=as_json)
    if as_json:
        shown: list[dict[str, Any]] = [{key: answer.get(key) for key in SYNC_KEYS} for answer in answers]
        for answer, whole in zip(shown, answers, strict=True):
            if whole.get("error"):
                answer["error"], answer["hint"] = whole["error"], whole["hint"]
        emit(shown[0] if len(shown) == 1 else shown)
    else:
        for ended in answers:
            say(f"{ended['state']:<10} run {ended['run_id']}  {ended['headline']}")
            if ended.get("hint"):
                say(f"           next step: {ended['hint']}")
    codes = [_CODES.get(answer["state"], FAILED) for answer in answers]
    raise typer.Exit(FAILED if FAILED in codes else PARTIAL if PARTIAL in codes else DONE)


@app.command()
def streams(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Each stream with its state, its rows in the warehouse and when it was last proven up to date."""
    from novade_core.ledger.summaries import stream_facts
    from novade_core.monitoring.freshness import freshness_of
    from novade_core.wiring import utc_now

    with errors(as_json=as_json):
        services = _services(environment)
        now = utc_now()
        limits = {s.id: s.fresh_within_minutes for s in services.environment.streams}
        rows = [
            {
                "stream": facts.stream,
                "state": freshness_of(
                    fresh_within_minutes=limits[facts.stream],
                    last_load_at=facts.last_load_at,
                    paused=facts.paused,
                    now=now,
                ).state.value,
                "rows": facts.warehouse_count,
                "last_load_at": facts.last_load_at,
            }
            for facts in stream_facts(services.ledger, services.environment.streams)
        ]
    if as_json:
        emit(rows)
    else:
        table(["stream", "state", "rows", "last_load_at"], [list(r.values()) for r in rows], right=["rows"])


@app.command()
def execute(run_id: int, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Execute one queued run in this process; the worker calls it for each run."""
    # Pages go first: beside a sync of equal priority, their reruns wait for the processor. Imports count, too.
    os.nice(_NICE)
    import signal

    from jobs.execute import perform, ready
    from jobs.supervisor import HELD
    from novade_core.errors import RetryableError
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services

    with errors(as_json=as_json):
        services = build_services(ready(load_settings(environment)))
        # Until the run is claimed there is nothing to end in order.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            outcome = perform(services, run_id, as_worker=True)
        except RetryableError as error:
            say(error.message)
            raise typer.Exit(HELD) from None
    if as_json:
        emit({"run_id": outcome.run_id, "stream": outcome.stream, "state": outcome.state, "headline": outcome.headline})
    raise typer.Exit(_CODES.get(outcome.state, FAILED))


@app.command()
def worker(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Work the queue without a console, until SIGTERM or Ctrl-C."""
    import logging
    import signal
    import threading

    from jobs.scheduler import start_worker
    from novade_core.settings import load_settings

    with errors(as_json=as_json):
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        working = start_worker(load_settings(environment), kind="worker")
        if as_json:
            emit({"worker": "started", "pid": os.getpid()})
        else:
            say("Working the queue; Ctrl-C ends it.")
        ended.wait()
        working.stop()


_RUN_KEYS = (
    "id subject kind state origin requested_by requested_at started_at ended_at read landed loaded deleted unchanged "
    "superseded duplicates rejected bytes_in api_calls source_count warehouse_count headline error_kind "
    "error_origin error_message error_hint"
).split()


@runs_app.command("list")
def runs_list(
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only runs of this stream.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest runs."""
    from sqlalchemy import select

    from novade_core.ledger.models import Run, RunState

    with errors(as_json=as_json):
        services = _services(environment)
        query = select(Run.__table__).order_by(Run.id.desc()).limit(limit)
        if state is not None:
            if state not in set(RunState):
                raise BadWindow(f"{state!r} is no state.", hint=f"States: {', '.join(RunState)}.")
            query = query.where(Run.state == state)
        if stream is not None:
            query = query.where(Run.subject == services.environment.stream(stream).id)
        with services.ledger.read() as connection:
            rows = [dict(r._mapping) for r in connection.execute(query)]
    if as_json:
        emit([{key: row[key] for key in _RUN_KEYS} for row in rows])
    else:
        keys = ["id", "subject", "kind", "state", "requested_at", "loaded", "rejected", "headline"]
        table(keys, [[row[k] for k in keys] for row in rows], right=["id", "loaded", "rejected"])


def _run(services: Any, run_id: int) -> dict[str, Any]:
    from sqlalchemy import select

    from novade_core.errors import ConfigurationError
    from novade_core.ledger.models import Run

    with services.ledger.read() as connection:
        row = connection.execute(select(Run.__table__).where(Run.id == run_id)).first()
    if row is None:
        raise ConfigurationError(f"There is no run {run_id}.", hint="List runs with `python -m jobs runs list`.")
    return dict(row._mapping)


@runs_app.command("show")
def runs_show(run_id: int, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """One run with its steps and its comparison of both sides."""
    from sqlalchemy import select

    from novade_core.ledger.models import Comparison, Step

    with errors(as_json=as_json):
        services = _services(environment)
        run = _run(services, run_id)
        with services.ledger.read() as connection:
            steps = [
                dict(r._mapping)
                for r in connection.execute(
                    select(Step.name, Step.state, Step.started_at, Step.ended_at, Step.busy_ms, Step.rows, Step.bytes)
                    .where(Step.run_id == run_id)
                    .order_by(Step.id)
                )
            ]
            compared = [
                dict(r._mapping)
                for r in connection.execute(
                    select(
                        Comparison.window,
                        Comparison.source_count,
                        Comparison.warehouse_count,
                        Comparison.state,
                        Comparison.sentence,
                    )
                    .where(Comparison.run_id == run_id)
                    .order_by(Comparison.id)
                )
            ]
    if as_json:
        emit({key: run[key] for key in _RUN_KEYS} | {"steps": steps, "comparisons": compared})
        return
    say(f"Run {run_id} ({run['subject']}, {run['kind']}): {run['state']}")
    say(run["headline"] or "It has not ended yet.")
    if run["error_hint"]:
        say(f"Next step: {run['error_hint']}")
    table(["name", "state", "busy_ms", "rows"], [[s["name"], s["state"], s["busy_ms"], s["rows"]] for s in steps])


@runs_app.command("logs")
def runs_logs(run_id: int, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """The log of one run."""
    from sqlalchemy import select

    from novade_core.ledger.models import LogEntry

    with errors(as_json=as_json):
        services = _services(environment)
        _run(services, run_id)
        with services.ledger.read() as connection:
            lines = [
                dict(r._mapping)
                for r in connection.execute(
                    select(LogEntry.at, LogEntry.level, LogEntry.message, LogEntry.fields)
                    .where(LogEntry.run_id == run_id)
                    .order_by(LogEntry.id)
                )
            ]
    if as_json:
        emit(lines)
    else:
        rows = [
            [line["at"], line["level"], line["message"], " ".join(f"{k}={v}" for k, v in line["fields"].items())]
            for line in lines
        ]
        table(["at", "level", "message", "details"], rows)


@ledger_app.command("upgrade")
def ledger_upgrade(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Bring the ledger's schema up to date."""
    from novade_core.ledger.database import create, upgrade
    from novade_core.settings import load_settings

    with errors(as_json=as_json):
        version = upgrade(create(load_settings(environment).ledger_url))
    if as_json:
        emit({"schema": version})
    else:
        say(f"The ledger has schema {version}.")


def _settings(environment: str | None) -> Any:
    from novade_core.settings import load_settings

    return load_settings(environment)


@sandbox_app.command("start")
def sandbox_start(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Start the stand-ins and leave them running."""
    from jobs import sandbox

    with errors(as_json=as_json):
        settings = _settings(environment)
        sandbox.start(settings, parent=None)
        facts = sandbox.status(settings) or {}
    emit(facts) if as_json else say(f"The sandbox answers on {facts.get('url')}.")


@sandbox_app.command("stop")
def sandbox_stop(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """End the stand-ins."""
    from jobs import sandbox

    with errors(as_json=as_json):
        stopped = sandbox.stop(_settings(environment))
    emit({"stopped": stopped}) if as_json else say("Stopped." if stopped else "It was not running.")


@sandbox_app.command("status")
def sandbox_status(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Where the stand-ins answer and what they hold; exit code 1 where they do not run."""
    from jobs import sandbox

    with errors(as_json=as_json):
        settings = _settings(environment)
        facts = sandbox.status(settings)
        value = dict(facts or {}) | (
            sandbox.control(settings, "GET", "/_sandbox/health") if facts else {"ready": False}
        )
    emit(value) if as_json else say(f"The sandbox answers on {value['url']}." if facts else "It is not running.")
    raise typer.Exit(DONE if facts else FAILED)


@sandbox_app.command("change")
def sandbox_change(
    object_name: Annotated[str, typer.Option("--object", help="Salesforce object.")] = "Contact",
    update: Annotated[int, typer.Option(min=0, help="Records to change.")] = 0,
    new: Annotated[int, typer.Option(min=0, help="Records to add.")] = 0,
    delete: Annotated[int, typer.Option(min=0, help="Records to put into the recycle bin.")] = 0,
    purge: Annotated[int, typer.Option(min=0, help="Records to remove without a trace.")] = 0,
    undelete: Annotated[int, typer.Option(min=0, help="Records to restore from the recycle bin.")] = 0,
    months_ago: Annotated[int | None, typer.Option(min=0, help="Back-date new records by so many months.")] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change records at the stand-in, to see the next sync bring exactly those."""
    from jobs import sandbox

    body: dict[str, Any] = {
        "object": object_name, "update": update, "new": new, "delete": delete, "purge": purge, "undelete": undelete,
    }  # fmt: skip
    if months_ago is not None:
        body["months_ago"] = months_ago
    with errors(as_json=as_json):
        answer = sandbox.control(_settings(environment), "POST", "/_sandbox/change", body)
    if as_json:
        emit(answer)
    else:
        counted = [f"{len(ids)} {kind}" for kind, ids in answer["ids"].items() if ids]
        say(f"{object_name}: {', '.join(counted) or 'nothing changed'}.")


@sandbox_app.command("control")
def sandbox_control(
    method: Annotated[str, typer.Argument(help="GET or POST.")],
    path: Annotated[str, typer.Argument(help="Such as /_sandbox/faults.")],
    body: Annotated[str | None, typer.Argument(help="JSON.")] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Any control request: set faults, quotas, hidden fields (docs/sandbox.md lists them); answers JSON anyway."""
    import json

    from jobs import sandbox

    with errors(as_json=as_json):
        try:
            value = json.loads(body) if body else None
        except ValueError as error:
            raise BadWindow(f"The body is not JSON: {error}.", hint="Quote it for the shell.") from error
        emit(sandbox.control(_settings(environment), method.upper(), path, value))


if __name__ == "__main__":
    app()
