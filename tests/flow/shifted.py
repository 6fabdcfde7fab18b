"""A worker whose clock is wrong by what a file says: ``python -m tests.flow.shifted FOLDER FILE``."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

from jobs.scheduler import Worker
from novade_core.wiring import utc_now
from tests.homes import Home


def main() -> None:
    """Work until SIGTERM."""
    folder, file = Path(sys.argv[1]), Path(sys.argv[2])

    def clock() -> datetime:
        return utc_now() + timedelta(seconds=float(file.read_text()))

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    worker = Worker(Home.open(folder).environment, "worker", clock=clock)
    worker.start()
    ended.wait()
    worker.stop()


if __name__ == "__main__":
    main()
