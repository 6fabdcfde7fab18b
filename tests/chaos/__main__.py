"""``python -m tests.chaos``: many runs on each ledger; exit code 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.arena import Arena
from tests.homes import Sandbox
from tests.ledgers import KINDS, url_of


def main() -> int:
    """Fight on each ledger asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--ledger", choices=[*KINDS, "both"], default="both")
    parser.add_argument("--limit", type=float, default=1800, help="seconds a ledger, at most")
    given = parser.parse_args()
    broken = False
    for kind in KINDS if given.ledger == "both" else (given.ledger,):
        with tempfile.TemporaryDirectory(prefix="novade-chaos-") as name:
            folder = Path(name)
            (folder / "org").mkdir()
            sandbox = Sandbox.start(folder / "org", 600)
            try:
                with url_of(kind, folder) as url:
                    report = Arena(folder, sandbox, url, given.seed).run(given.runs, limit_seconds=given.limit)
            finally:
                sandbox.stop()
        sys.stdout.write(f"{kind}, seed {given.seed}: {report}\n")
        for fault in report.faults[:50]:
            sys.stdout.write(f"  BROKEN: {fault}\n")
        broken = broken or bool(report.faults)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
