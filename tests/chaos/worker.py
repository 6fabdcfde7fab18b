"""A worker whose children meet a fate: ``python -m tests.chaos.worker FOLDER SEED``."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

from jobs import supervisor
from jobs.scheduler import start_worker
from tests.homes import Home


def main() -> None:
    """Work until SIGTERM."""
    folder, seed = sys.argv[1:3]
    supervisor.Supervisor.command = lambda _self, run: [  # type: ignore[method-assign] # the way in for faults
        sys.executable, "-m", "tests.chaos.child", folder, str(run), seed,
    ]  # fmt: skip
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    worker: Any = start_worker(Home.open(Path(folder)).environment, kind="worker")
    ended.wait()
    worker.stop()


if __name__ == "__main__":
    main()
