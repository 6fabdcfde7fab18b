"""One run in this process: claim it, perform it, answer how it ended."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from jobs import sandbox
from novade_core.errors import LeaseHeld, NovadeError
from novade_core.ledger.models import RunState
from novade_core.settings import PROJECT, Environment, load_settings
from novade_core.wiring import Services, utc_now

if TYPE_CHECKING:
    from novade_core.sync.tools import Observer, Outcome


#: Ends of runs after which the views over the landing zone have something new to show.
ARRIVED = (RunState.SUCCEEDED, RunState.PARTIAL, RunState.LANDED)


def code_version() -> str:
    """The commit that this code runs from, or the package's version outside a checkout."""
    git = PROJECT / ".git"
    try:
        text = (git / "HEAD").read_text().strip()
        if text.startswith("ref: "):
            text = (git / text.removeprefix("ref: ")).read_text().strip()
    except OSError:
        return "0.1.0"
    return text[:12]


def ready(environment: Environment) -> Environment:
    """The environment with its stand-ins running as long as this process lives, and their secrets read."""
    if environment.sandbox is None:
        return environment
    sandbox.start(environment, parent=os.getpid())
    return load_settings(environment.name)


def perform(services: Services, run_id: int, observer: Observer | None = None, *, as_worker: bool = False) -> Outcome:
    """Claim and perform a queued run. ``as_worker``: SIGTERM ends it in order, and what may pass is tried again.

    A lease whose holder cannot be judged at once is watched for up to one and a half lease lengths. Raises
    LeaseHeld where its holder lives on, ConfigurationError where the run is not queued any more.
    """
    from novade_core.ledger import leases
    from novade_core.ledger.queue import claim, is_queued
    from novade_core.ledger.writer import RunWriter
    from novade_core.sync import publish
    from novade_core.sync.engine import Execution

    lease_seconds = services.environment.worker.lease_seconds
    watcher = leases.Watcher(lease_seconds)
    deadline = time.monotonic() + lease_seconds * 1.5
    while True:
        try:
            run = claim(
                services.ledger,
                run_id=run_id,
                holder=leases.own_name(),
                now=utc_now(),
                watcher=watcher,
                code_version=code_version(),
                retry_seconds=services.environment.worker.retry_seconds,
            )
            break
        except LeaseHeld:
            if time.monotonic() >= deadline or not is_queued(services.ledger, run_id):
                raise
            time.sleep(min(0.5, lease_seconds / 10))
    try:
        execution = Execution(services.tools(), run, observer, retries=as_worker)
    except NovadeError as error:
        RunWriter(services.ledger, run).fail(utc_now(), error, {})
        raise
    if as_worker:
        # A cancel ends the run where it stands, a stop of the worker leaves it to be gone on with; not in a COMMIT.
        signal.signal(signal.SIGTERM, lambda *_: execution.pulse.interrupt())
    outcome = execution.perform()
    if outcome.state in ARRIVED:
        publish.refresh(services, services.environment.stream(run.subject))
    return outcome
