"""``python -m jobs azure``: what a dedicated pool needs before its first load, printed or done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import EnvironmentOption, JsonOption, emit, errors, say

if TYPE_CHECKING:
    from novade_core.settings import Environment
    from novade_core.warehouse.synapse_bootstrap import Assignment, Change, Database, Run, Wanted
    from novade_core.warehouse.synapse_sql import Statement

app = typer.Typer(help="Prepare a dedicated SQL pool.", no_args_is_help=True, rich_markup_mode=None)

ConsoleOption = Annotated[
    str,
    typer.Option("--console-identity", help="Name of the console's identity in Entra, as `az identity list` has it."),
]
AnalystOption = Annotated[
    list[str] | None, typer.Option("--analyst", help="Entra user or group that reads; repeatable.")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Ask no pool: everything that a new one needs.")]


@app.command()
def plan(
    console: ConsoleOption,
    analysts: AnalystOption = None,
    offline: OfflineOption = False,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the SQL that is missing and the roles to assign; changes nothing."""
    from novade_core.warehouse import synapse_bootstrap as bootstrap

    with errors(as_json=as_json):
        chosen, wanted = _wanted(environment, console, analysts)
        if offline:
            missing = bootstrap.changes(wanted, bootstrap.NOTHING)
        else:
            with _connected(chosen) as run:
                missing = bootstrap.look(run, wanted)
        assigned = _assignments(chosen, wanted)
    if as_json:
        emit({"statements": [_shown(change) for change in missing], "roles": [_role(role) for role in assigned]})
        return
    _print_sql(missing)
    _print_roles(assigned)


@app.command()
def apply(
    console: ConsoleOption,
    analysts: AnalystOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the SQL that is missing, as an administrator of the pool; safe to repeat. Then print the roles to assign."""
    from novade_core.warehouse import synapse_bootstrap as bootstrap

    done: list[Change] = []

    def note(change: Change) -> None:
        done.append(change)
        if not as_json:
            say(change.statement.text)

    with errors(as_json=as_json):
        chosen, wanted = _wanted(environment, console, analysts)
        with _connected(chosen) as run:
            bootstrap.apply(run, wanted, note)
        assigned = _assignments(chosen, wanted)
    if as_json:
        emit({"statements": [_shown(change) for change in done], "roles": [_role(role) for role in assigned]})
        return
    say(f"{len(done)} statements were run." if done else "Nothing was missing.")
    _print_roles(assigned)


def _wanted(environment: str | None, console: str, analysts: Sequence[str] | None) -> tuple[Environment, Wanted]:
    from novade_core.errors import ConfigurationError
    from novade_core.settings import load_settings
    from novade_core.warehouse.synapse_bootstrap import Wanted

    chosen = load_settings(environment)
    warehouse = chosen.warehouse
    if warehouse.kind != "synapse" or not warehouse.database:
        raise ConfigurationError(
            f"The warehouse of the environment {chosen.name} is {warehouse.kind}; only a Synapse pool is prepared.",
            hint='Choose another with --environment, or give it warehouse.kind = "synapse", server and database.',
        )
    sources = tuple(dict.fromkeys(stream.source for stream in chosen.streams))
    return chosen, Wanted(pool=warehouse.database, sources=sources, console=console, analysts=tuple(analysts or ()))


def _assignments(chosen: Environment, wanted: Wanted) -> tuple[Assignment, ...]:
    from novade_core.warehouse.synapse_bootstrap import Place, assignments

    pool, landing = chosen.pool, chosen.landing
    return assignments(
        wanted,
        Place(
            subscription=pool.subscription,
            resource_group=pool.resource_group,
            workspace=pool.workspace,
            account=landing.account,
            container=landing.container,
        ),
    )


@contextmanager
def _connected(chosen: Environment) -> Iterator[Run]:
    """One connection to the pool, and one to ``master`` where that is needed."""
    from novade_core.warehouse.synapse_link import Link, Refused

    links: dict[Database, Link] = {}

    def run(database: Database, statement: Statement) -> Sequence[Sequence[Any]]:
        if database not in links:
            settings = chosen.warehouse
            if database == "master":
                settings = settings.model_copy(update={"database": "master"})
                # A pool changes its isolation while nobody else is on it, and that includes us.
                if (ours := links.pop("pool", None)) is not None:
                    ours.close()
            links[database] = Link(settings)
        link = links[database]
        try:
            if statement.step.startswith("see_"):
                return link.rows(statement)
            link.hit(statement)
        except Refused as refused:
            raise refused.told() from refused
        return []

    try:
        yield run
    finally:
        for link in links.values():
            link.close()


def _shown(change: Change) -> dict[str, str]:
    return {"on": change.on, "statement": change.statement.text, "why": change.why}


def _role(assignment: Assignment) -> dict[str, str]:
    return {"role": assignment.role, "to": assignment.to, "why": assignment.why, "command": assignment.command}


def _print_sql(missing: Sequence[Change]) -> None:
    if not missing:
        say("The pool is prepared; nothing is missing.")
        return
    here = None
    for change in missing:
        if change.on != here:
            here = change.on
            typer.echo(f"-- in the database {'master' if here == 'master' else 'of the pool'}")
        typer.echo(f"-- {change.why}\n{change.statement.text};\nGO")


def _print_roles(assigned: Sequence[Assignment]) -> None:
    typer.echo("\n-- roles to assign in Azure")
    for assignment in assigned:
        typer.echo(f"# {assignment.role}, {assignment.to}: {assignment.why}\n{assignment.command}")
