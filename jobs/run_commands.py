"""``python -m jobs cancel`` and ``python -m jobs retry``: what the buttons of a run's page do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jobs.cli import EnvironmentOption, JsonOption, emit, errors, say, who

RunArgument = Annotated[int, typer.Argument(metavar="RUN", help="The run's number.")]

_CANCELLED = {
    "cancelled": "It had not started.",
    "cancelling": "What has landed is kept.",
}


def _services(environment: str | None) -> Any:
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services

    return build_services(load_settings(environment))


def cancel(run_id: RunArgument, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Ask for the end of a run; a queued one is ended at once. Says the state that it then has."""
    from novade_core.ledger.requests import ask_to_cancel
    from novade_core.wiring import utc_now

    with errors(as_json=as_json):
        state = ask_to_cancel(_services(environment).ledger, run_id=run_id, who=who(), now=utc_now())
    if as_json:
        emit({"run_id": run_id, "state": state.value})
    else:
        say(f"Run {run_id} is {state.value}. {_CANCELLED[state.value]}")


def retry(run_id: RunArgument, environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Ask for the same stream, kind and window as a run that has ended; a worker takes it."""
    from sqlalchemy import select

    from novade_core.ledger.models import Run
    from novade_core.ledger.requests import ask_to_retry
    from novade_core.wiring import utc_now

    with errors(as_json=as_json):
        services = _services(environment)
        with services.ledger.read() as connection:
            stream = connection.execute(select(Run.subject).where(Run.id == run_id)).scalar()
        if stream is not None:
            services.environment.stream(stream)
        again = ask_to_retry(services.ledger, run_id=run_id, who=who(), origin="command", now=utc_now())
    if as_json:
        emit({"run_id": again.run_id, "retry_of": run_id, "waiting": again.waiting, "goes_on": again.goes_on})
        return
    told = "waits already and was brought forward" if again.waiting else "is queued"
    start = "It goes on from what has landed." if again.goes_on else "There is no unfinished plan to go on with."
    say(f"Run {again.run_id} {told}. {start}")
