"""``cancel`` and ``retry`` on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import update

from novade_core.errors import RetryableError
from novade_core.ledger.models import Run
from novade_core.streams import RunKind
from tests.homes import Home


def answer(home: Home, *arguments: str, code: int = 0) -> Any:
    done = home.jobs(*arguments, "--json")
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_a_queued_run_is_cancelled_and_asked_for_again(home: Home) -> None:
    first = home.ask(kind=RunKind.FULL)
    assert answer(home, "cancel", str(first)) == {"run_id": first, "state": "cancelled"}
    twice = answer(home, "cancel", str(first), code=1)
    assert "ended already (cancelled)" in twice["error"]
    again = answer(home, "retry", str(first))
    assert again == {"run_id": again["run_id"], "retry_of": first, "waiting": False, "goes_on": False}
    assert [tuple(r) for r in home.ledger_rows("SELECT kind, state, origin, retry_of FROM runs ORDER BY id")] == [
        ("full", "cancelled", "command", None),
        ("full", "queued", "command", first),
    ]
    done = home.jobs("retry", str(first))
    assert done.returncode == 0
    assert (
        done.stderr
        == f"Run {again['run_id']} waits already and was brought forward. There is no unfinished plan to go on with.\n"
    )


def test_a_running_run_is_cancelling_and_not_tried_again(home: Home) -> None:
    run_id = home.ask()
    with home.services.ledger.write() as c:
        c.execute(update(Run).values(state="running"))
    done = home.jobs("cancel", str(run_id))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Run {run_id} is cancelling. What has landed is kept.\n"
    refused = answer(home, "retry", str(run_id), code=1)
    assert "has not ended: it is cancelling" in refused["error"]
    assert refused["hint"]


def test_a_retry_goes_on_from_what_has_landed(home: Home) -> None:
    class Falls:
        def __call__(self, point: str, _details: Any) -> None:
            if point == "plan.ended":
                raise RetryableError("The cable was pulled.")

    outcome = home.sync(observer=Falls())
    assert outcome.state == "failed"
    done = home.jobs("retry", str(outcome.run_id))
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("It goes on from what has landed.\n")


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_what_does_not_exist_is_refused(home: Home, command: str) -> None:
    assert answer(home, command, "7", code=1)["error"] == "There is no run 7."
    assert home.jobs(command, "seven").returncode == 2
    assert home.jobs(command).returncode == 2


def test_a_stream_that_is_no_longer_configured_is_not_asked_for(home: Home) -> None:
    run_id = home.ask()
    with home.services.ledger.write() as c:
        c.execute(update(Run).values(state="failed", subject="salesforce.gone"))
    assert "no stream 'salesforce.gone'" in answer(home, "retry", str(run_id), code=2)["error"]
    assert len(home.ledger_rows("SELECT id FROM runs")) == 1
