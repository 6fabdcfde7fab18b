"""A run that may kill or stop itself at a point that the seed chooses: ``python -m tests.chaos.child FOLDER RUN SEED``.

A process cannot be stopped from outside at an exact place, so it stops itself there; who drives the chaos finds its
note and lets it go on once its lease has long expired.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.execute import perform
from jobs.supervisor import HELD
from novade_core.errors import NovadeError, RetryableError
from tests.homes import Home

#: Between steps, and inside them; ``load.before_commit`` is inside the warehouse's transaction.
POINTS = (
    *("plan.started", "plan.ended", "extract.batch", "land.written", "land.file", "land.manifest", "land.registered"),
    *("land.ended", "load.started", "load.group", "load.before_commit", "load.before_commit", "load.committed"),
    *("load.marked", "load.ended", "verify.started", "checkpoint.before", "checkpoint.after"),
)


def main() -> int:
    """Execute the run as a worker's child does."""
    folder, run_id, seed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dice = random.Random(f"{seed}:{run_id}")
    fate = dice.choices(("live", "die", "stop"), (4, 2, 4))[0]
    point, left = dice.choice(POINTS), dice.choice((1, 1, 1, 1, 2))

    def observer(name: str, _details: Mapping[str, Any]) -> None:
        nonlocal left
        if name != point or fate == "live" or (folder / "calm").exists():
            return
        left -= 1
        if left == 0:
            if fate == "die":
                (folder / "fates" / f"{run_id}-die-{name}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            (folder / "fates" / f"{run_id}-stop-{name}").touch()
            (folder / "stopped" / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGSTOP)

    try:
        perform(Home.open(folder).services, run_id, observer, as_worker=True)
    except RetryableError:
        return HELD
    except NovadeError as error:
        sys.stderr.write(f"run {run_id}: {error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
