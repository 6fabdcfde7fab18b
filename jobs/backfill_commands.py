"""``python -m jobs backfill``: read a stretch of a stream's past again, window by window."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import EnvironmentOption, JsonOption, emit, errors, instant, say, table, who
from novade_core.errors import BadWindow

if TYPE_CHECKING:
    from novade_core.ledger.backfill_views import Summary

app = typer.Typer(help="Read a stream's past again, window by window.", no_args_is_help=True, rich_markup_mode=None)

_KEYS = (
    "id stream state since until chunk newest_first scope requested_by requested_at ended_at headline "
    "windows read failed cancelled under_way waiting left_out rows"
).split()


def _services(environment: str | None) -> Any:
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services

    return build_services(load_settings(environment))


def _answer(facts: Summary, *, as_json: bool) -> None:
    from novade_core.ledger.backfill_views import sentence

    if as_json:
        emit({key: getattr(facts, key) for key in _KEYS})
    else:
        say(f"Backfill {facts.id} of {facts.stream} is {facts.state.value}. {sentence(facts)}")


@app.command()
def start(
    stream: Annotated[str, typer.Argument(help="A stream such as salesforce.contact.")],
    since: Annotated[str, typer.Option(help="Records changed from this instant on …")],
    until: Annotated[str, typer.Option(help="… and before this one.")],
    chunk: Annotated[str, typer.Option(help="Cut the time by UTC day, week or month.")] = "month",
    newest_first: Annotated[bool, typer.Option("--newest-first/--oldest-first", help="Where to begin.")] = True,
    scope: Annotated[str, typer.Option(help="Which windows: all, missing or failed.")] = "all",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")] = False,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a backfill; the worker reads its windows between the normal syncs."""
    from novade_core.ledger import backfills
    from novade_core.ledger.backfill_views import preview, summary
    from novade_core.monitoring.estimates import forecast_of
    from novade_core.wiring import utc_now

    with errors(as_json=as_json):
        services = _services(environment)
        low, high = instant(since, "--since"), instant(until, "--until")
        if low is None or high is None:
            raise BadWindow("A backfill needs both --since and --until.")
        asked: dict[str, Any] = {
            "stream": services.environment.stream(stream), "since": low, "until": high, "chunk": chunk,
            "newest_first": newest_first, "scope": scope, "now": utc_now(),
        }  # fmt: skip
        proposal = preview(services.ledger, **asked)
        forecast = forecast_of([c.expected for c in proposal.read], proposal.basis)
        if not dry_run:
            backfill_id = backfills.start(services.ledger, who=who(), **asked)
            _answer(summary(services.ledger, backfill_id), as_json=as_json)
            if not as_json:
                say(f"Watch it with `python -m jobs backfill show {backfill_id}`.")
            return
    left_out = len(proposal.chunks) - len(proposal.read)
    if as_json:
        emit(asdict(forecast) | {"left_out": left_out, "chunks": [_chunk(c) for c in proposal.chunks]})
        return
    say(f"Would read {forecast.windows:,} windows and leave out {left_out:,}; nothing was asked for.")
    if forecast.rows is not None and forecast.minutes is not None:
        share = f" ({forecast.share:.0%} of a day's)" if forecast.share is not None else ""
        minutes = max(1, round(forecast.minutes))
        say(f"About {forecast.rows:,} rows, {forecast.calls:,} API calls{share}, {minutes:,} min: {forecast.basis}.")
    else:
        say(f"Rows, API calls and time are {forecast.basis}.")
    _windows(proposal.chunks)


def _chunk(chunk: Any) -> dict[str, Any]:
    return {k: v for k, v in asdict(chunk).items() if k != "position"}


def _windows(chunks: Any) -> None:
    table(
        ["from", "until", "state", "rows", "expected", "run", "left out"],
        [[c.low, c.high, c.state, c.rows, c.expected, c.run_id, c.left_out] for c in chunks],
        right=["rows", "expected", "run"],
    )


@app.command("list")
def list_all(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Those that are open or paused, then the last ones that ended."""
    from novade_core.ledger.backfill_views import listing, sentence

    with errors(as_json=as_json):
        found = listing(_services(environment).ledger, limit)
    if as_json:
        emit([{key: getattr(facts, key) for key in _KEYS} for facts in found])
    else:
        rows = [[f.id, f.stream, f.state.value, f.since, f.until, f.chunk, sentence(f)] for f in found]
        table(["id", "stream", "state", "since", "until", "chunk", "windows"], rows, right=["id"])


@app.command()
def show(backfill_id: int, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """One backfill with its windows."""
    from novade_core.ledger.backfill_views import grid, summary

    with errors(as_json=as_json):
        ledger = _services(environment).ledger
        facts, chunks = summary(ledger, backfill_id), grid(ledger, backfill_id)
    if as_json:
        emit({key: getattr(facts, key) for key in _KEYS} | {"chunks": [_chunk(c) for c in chunks]})
        return
    _answer(facts, as_json=False)
    _windows(chunks)


def _act(name: str, backfill_id: int, environment: str | None, as_json: bool, **more: Any) -> None:
    """Do what a button does, then say how the backfill stands."""
    from novade_core.ledger import backfills
    from novade_core.ledger.backfill_views import summary
    from novade_core.wiring import utc_now

    with errors(as_json=as_json):
        ledger = _services(environment).ledger
        getattr(backfills, name)(ledger, backfill_id, who=who(), now=utc_now(), **more)
        _answer(summary(ledger, backfill_id), as_json=as_json)


@app.command()
def pause(backfill_id: int, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """No further window begins; the one that is being read ends."""
    _act("pause", backfill_id, environment, as_json)


@app.command("continue")
def continue_(backfill_id: int, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Let a paused backfill go on."""
    _act("continue_", backfill_id, environment, as_json)


@app.command()
def cancel(backfill_id: int, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """End a backfill: what has not begun never will, and the run under way is asked to end."""
    _act("cancel", backfill_id, environment, as_json)


@app.command()
def again(
    backfill_id: int,
    which: Annotated[
        str, typer.Option(help="failed ones; missing: these and those that never began; or all.")
    ] = "failed",
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read windows of a backfill again."""
    _act("again", backfill_id, environment, as_json, which=which)
