"""``python -m jobs views``: streams as views over the landing zone, on the serverless pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import FAILED, EnvironmentOption, JsonOption, emit, errors, say, table

if TYPE_CHECKING:
    from novade_core.streams import Stream
    from novade_core.sync.publish import Check, Desk, Item

app = typer.Typer(help="Streams as views over the landing zone.", no_args_is_help=True, rich_markup_mode=None)

StreamOption = Annotated[
    list[str] | None, typer.Option("--stream", help="Only this stream, or those of a source; repeatable.")
]


@app.command()
def plan(streams: StreamOption = None, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Compare what is there with what should be, and print the SQL that is missing; changes nothing."""
    from novade_core.sync import publish

    with errors(as_json=as_json):
        desk, chosen = _open(environment, streams)
        planned = publish.plan(desk, chosen)
    statements = [*planned.foundations, *(s for item in planned.items for s in item.statements)]
    if as_json:
        emit({"statements": [s.text for s in statements], "views": [_shown(item) for item in planned.items]})
        return
    for statement in statements:
        typer.echo(f"{statement.text};\nGO")
    _print(planned.items)
    if not statements:
        say("All is as it should be." if not publish.in_trouble(planned.items) else "There is nothing to run.")
    _troubles(planned.items)


@app.command()
def apply(streams: StreamOption = None, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Make what is missing and renew what is behind; safe to repeat. What is not ours is named and left alone."""
    from novade_core.sync import publish

    with errors(as_json=as_json):
        desk, chosen = _open(environment, streams)
        ended = publish.apply(desk, chosen)
    if as_json:
        emit({"statements": [s.text for s in ended.done], "views": [_shown(item) for item in ended.items]})
    else:
        _print(ended.items)
        say(f"{len(ended.done)} statements were run." if ended.done else "Nothing was missing.")
        _troubles(ended.items)
    if publish.in_trouble(ended.items):
        raise typer.Exit(FAILED)


@app.command()
def check(streams: StreamOption = None, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Count through each view and compare with the ledger; each query is billed with 10 MB at least."""
    from novade_core.sync import publish

    with errors(as_json=as_json):
        desk, chosen = _open(environment, streams)
        found = publish.check(desk, chosen)
    if as_json:
        emit([asdict(c) for c in found])
    else:
        columns = ["name", "state", "rows", "expected", "bytes_processed", "newest_at"]
        rows = [[getattr(c, name) for name in columns] for c in found]
        table(columns, rows, right=["rows", "expected", "bytes_processed"])
        _troubles(found)
    if publish.in_trouble(found):
        raise typer.Exit(FAILED)


def _open(environment: str | None, wanted: Sequence[str] | None) -> tuple[Desk, Sequence[Stream]]:
    from jobs.execute import ready
    from novade_core.errors import ConfigurationError
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services

    services = build_services(ready(load_settings(environment)))
    known = services.environment.streams
    chosen: list[Stream] = []
    for name in wanted or ():
        found = [s for s in known if s.source == name] or [services.environment.stream(name)]
        chosen += [s for s in found if s not in chosen]
    desk = services.views()
    if desk is None:
        raise ConfigurationError(
            f"The environment {services.environment.name} has no serverless pool, so it publishes no views.",
            hint="Choose another with --environment, or give it a section serverless; docs/settings.md lists its keys.",
        )
    return desk, chosen or known


def _shown(item: Item) -> dict[str, Any]:
    return {
        "name": item.name,
        "kind": item.kind.value,
        "stream": item.stream.id,
        "state": item.state.value,
        "version": item.version,
        "files": item.files,
        "trouble": item.trouble,
        "hint": item.hint,
    }


def _print(items: Sequence[Item]) -> None:
    columns = ["name", "kind", "state", "files", "version"]
    table(columns, [[_shown(item)[name] for name in columns] for item in items], right=["files"])


def _troubles(items: Sequence[Item | Check]) -> None:
    for item in items:
        if item.trouble is not None:
            said = item.trouble if item.name in item.trouble else f"{item.name}: {item.trouble}"
            say(f"Error: {said}")
            say(f"Next step: {item.hint}")
