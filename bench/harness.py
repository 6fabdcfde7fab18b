"""Measuring: a child process's CPU seconds and peak memory, medians of repeated calls, ratios.

``measure`` takes a command, ``measure_call`` a function of a module. The command is not started by this process but by
a go-between, which is this file run as a script: on Linux a child's peak memory begins at what its parent held when it
started it, so a benchmark that has imported pandas would report its own size for a child that does nothing. The
go-between's own 15 MiB are the least that can be measured.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one child process and its own children took."""

    seconds: float  #: from start to end, start of the interpreter included
    cpu_seconds: float  #: user and system together
    peak_mb: float  #: resident memory of the largest process, in MiB
    output: str  #: what it printed


class ChildFailed(Exception):
    """The measured process ended with an error; the message holds the end of what it printed."""


def measure(command: Sequence[str], *, environ: Mapping[str, str] | None = None, timeout: float = 3600) -> Measured:
    """Run a command to its end and say what it took. A failing command raises ChildFailed."""
    with tempfile.TemporaryDirectory(prefix="novade-bench-") as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [sys.executable, "-I", "-S", __file__, str(report), *command],
            cwd=PROJECT,
            env=None if environ is None else {**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise ChildFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return Measured(output=done.stdout, **json.loads(report.read_text()))


def measure_call(target: str, *arguments: Any, timeout: float = 3600) -> Measured:
    """Call ``module:function`` with JSON arguments in a fresh Python. Subtract ``baseline()`` where imports matter."""
    module, _, function = target.partition(":")
    code = f"import json, sys; from {module} import {function} as call; call(*json.loads(sys.argv[1]))"
    return measure([sys.executable, "-c", code, json.dumps(arguments)], timeout=timeout)


def baseline(module: str) -> Measured:
    """What starting Python and importing a module takes, before it does anything."""
    return measure([sys.executable, "-c", f"import {module}"])


def median_seconds(call: Callable[[], object], *, repeats: int = 5, warm_up: int = 1) -> float:
    """The median duration of a call, after some calls that do not count."""
    for _ in range(warm_up):
        call()
    return statistics.median(_seconds(call) for _ in range(repeats))


def percentile_seconds(call: Callable[[], object], *, percent: int = 95, repeats: int = 100) -> float:
    """The duration that so many percent of the calls stay under."""
    durations = sorted(_seconds(call) for _ in range(repeats))
    return durations[min(len(durations) - 1, len(durations) * percent // 100)]


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ratio(ours: float | None, peer: float | None) -> float | None:
    """Ours over the peer's, so that less than 1 is less than the peer takes; None where one of them is absent."""
    return round(ours / peer, 3) if ours is not None and peer else None


def row(
    name: str, unit: str, ours: float | None, *, limit: float | None = None, peer: float | None = None
) -> dict[str, Any]:
    """One line of the table, as ``run(size)`` gives them."""
    return {"name": name, "unit": unit, "ours": ours, "limit": limit, "peer": peer, "ratio": ratio(ours, peer)}


def _go_between(report: str, command: Sequence[str]) -> int:
    """Start the command, wait for it, write down what it took."""
    started = time.perf_counter()
    code = subprocess.run(command, check=False).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,  # Linux counts in KiB
    }
    Path(report).write_text(json.dumps(figures))
    return code


if __name__ == "__main__":
    sys.exit(_go_between(sys.argv[1], sys.argv[2:]))
