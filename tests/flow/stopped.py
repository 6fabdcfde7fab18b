"""A run that stops itself (SIGSTOP) at a point: ``python -m tests.flow.stopped FOLDER RUN POINT``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.execute import perform
from tests.homes import PROJECT, Home


def start(home: Home, run_id: int, point: str) -> subprocess.Popen[str]:
    """Perform the queued run in a process of its own; answers once it has stopped at the point."""
    command = [sys.executable, "-m", "tests.flow.stopped", str(home.folder), str(run_id), point]
    child = subprocess.Popen(command, cwd=PROJECT, env=home.environ, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not is_stopped(child.pid):
        assert child.poll() is None, f"the run never passed {point}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return child


def is_stopped(pid: int) -> bool:
    """Whether a process stands still."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wake(child: subprocess.Popen[str]) -> dict[str, Any]:
    """Let it go on; answers how its run ended."""
    child.send_signal(signal.SIGCONT)
    said, _ = child.communicate(timeout=60)
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def main() -> None:
    """Perform the run and stand still where told."""
    folder, run_id, point = sys.argv[1:4]
    waiting = True

    def observer(name: str, _details: Mapping[str, Any]) -> None:
        nonlocal waiting
        if waiting and name == point:
            waiting = False
            os.kill(os.getpid(), signal.SIGSTOP)

    outcome = perform(Home.open(Path(folder)).services, int(run_id), observer)
    print(json.dumps({"state": outcome.state, "error": outcome.error.kind if outcome.error else None}))


if __name__ == "__main__":
    main()
