"""A sync that kills itself with SIGKILL at a named point: ``python -m tests.flow.killed FOLDER RUN POINT NTH``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.execute import perform
from tests.homes import Home


def main() -> None:
    """Perform the queued run and die when the point is passed for the nth time."""
    folder, run_id, point, nth = sys.argv[1:5]
    left = int(nth)

    def observer(name: str, details: Mapping[str, Any]) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    perform(Home.open(Path(folder)).services, int(run_id), observer)


if __name__ == "__main__":
    main()
