"""Load windows of the environment stack under real workers: killed with kill -9, and held open by somebody else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import sandbox
from novade_core.ledger import windows
from novade_core.ledger.models import WindowState
from tests.flow.test_stack import write
from tests.flow.test_worker import until
from tests.homes import PROJECT, Home

FAST = {"resume_seconds": 0.3, "warm_up_seconds": 0.2, "pause_seconds": 0.2}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Home]:
    """The stack with its pool paused; windows open at once and are looked after each half second."""
    before = write(tmp_path, with_pool=True)
    sandbox.start(before, parent=os.getpid())
    file = tmp_path / "novade.toml"
    text = re.sub(r"(gather|idle)_minutes = .*", r"\1_minutes = 0", file.read_text())
    section = "[environments.stack.worker]\nlease_seconds = 3\nbeat_seconds = 0.5\npoll_seconds = 0.3\n"
    file.write_text(text.replace("[environments.stack.ledger]", f"{section}[environments.stack.ledger]"))
    home = Home.open(tmp_path)
    sandbox.control(before, "POST", "/_sandbox/synapse/settings", FAST)
    yield home
    home.services.ledger.close()
    sandbox.stop(before)


@pytest.fixture
def workers(stack: Home) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def work(stack: Home, workers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A worker in a process of its own."""
    with (stack.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "worker"], cwd=PROJECT, env=stack.environ, stdout=log, stderr=log
        )
    workers.append(process)
    return process


def newest(stack: Home) -> windows.Window | None:
    return next(iter(windows.recent(stack.services.ledger, 1)), None)


def state(stack: Home) -> WindowState | None:
    found = newest(stack)
    return found.state if found else None


def pool(stack: Home) -> str:
    return str(sandbox.control(stack.environment, "POST", "/_sandbox/synapse/state", {})["status"])


def fault(stack: Home, **faults: Any) -> None:
    sandbox.control(stack.environment, "POST", "/_sandbox/synapse/faults", faults)


def test_a_worker_killed_in_its_window_leaves_it_told_and_the_next_one_ends_it(
    stack: Home, workers: list[subprocess.Popen[bytes]]
) -> None:
    fault(stack, slow={"seconds": 0.15, "times": 1000})
    stack.ask()
    first = work(stack, workers)
    until(lambda: stack.ledger_rows("SELECT 1 FROM steps WHERE name = 'load'"))
    first.kill()
    first.wait()
    assert pool(stack) == "Online", "nobody is left to pause it, and that is told:"
    told = json.loads(stack.jobs("window", "list", "--json").stdout)
    assert told["windows"][0]["state"] == "open"

    work(stack, workers)
    until(lambda: state(stack) is WindowState.CLOSED, seconds=60)
    assert pool(stack) == "Paused"
    runs = stack.ledger_rows("SELECT * FROM runs WHERE state = 'succeeded'")
    assert [(run.source_count, run.loaded) for run in runs] == [(runs[0].warehouse_count, 200)]
    assert stack.ledger_rows("SELECT id FROM landed_files WHERE loaded_at IS NULL") == []
    [window] = windows.recent(stack.services.ledger, 5)
    assert window.online_seconds


def test_a_sync_without_a_worker_says_that_nobody_opens_a_window(stack: Home) -> None:
    done = stack.jobs("sync", "salesforce.user")
    assert done.returncode == 0, done.stderr
    assert "next load window" in done.stderr
    assert "next step: no worker lives to open a load window" in done.stderr


def test_somebody_elses_session_keeps_the_pool_awake_until_it_ends(
    stack: Home, workers: list[subprocess.Popen[bytes]]
) -> None:
    stack.ask()
    work(stack, workers)
    until(lambda: state(stack) is WindowState.OPEN)
    sandbox.control(stack.environment, "POST", "/_sandbox/synapse/foreign", {"open": "SID77", "login_name": "anna"})
    held = until(lambda: (found := newest(stack)) and found.others and found)
    assert held.others == ("anna (Power BI)",)
    assert held.trouble == "Kept online by anna (Power BI)."
    assert pool(stack) == "Online"
    sandbox.control(stack.environment, "POST", "/_sandbox/synapse/foreign", {"close": "SID77"})
    until(lambda: state(stack) is WindowState.CLOSED)
    assert pool(stack) == "Paused"
