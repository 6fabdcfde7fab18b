"""A home of its own for benches in which a worker lives: configuration, ledger, stand-in, processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from bench.harness import PROJECT
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.requests import ask_for_run
from novade_core.settings import Environment, load_settings
from novade_core.streams import RunKind
from novade_core.wiring import utc_now

#: No first syncs and no schedules but those that a bench adds.
_CONFIGURATION = """
default_environment = "bench"
first_sync = false

[environments.bench]
secrets_files = ["{secrets}"]

[environments.bench.salesforce]
poll_seconds = 0.2

[streams]
{streams}
{more}
"""


@dataclass(frozen=True)
class Home:
    """A fresh folder with its configuration; ``environ`` is for processes that work in it."""

    folder: Path
    environment: Environment
    environ: dict[str, str]
    ledger: Ledger
    stand_in: int  #: its process

    def ask(self, stream: str, kind: RunKind) -> int:
        """Queue a run of a stream, or give the one that is queued already."""
        return ask_for_run(
            self.ledger,
            stream=self.environment.stream(stream),
            kind=kind,
            who="bench",
            origin="command",
            now=utc_now(),
        )

    @contextlib.contextmanager
    def process(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A Python process in this home, ended in order afterwards; its words go to log.txt."""
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=PROJECT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def said(self) -> str:
        """The end of what its processes printed."""
        return (self.folder / "log.txt").read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def home(contacts: int, streams: Sequence[str], *, more: str = "", history: Path | None = None) -> Iterator[Home]:
    """A home beside a running stand-in of so many Contacts; ``streams`` are lines of TOML, ``more`` further sections.

    ``history`` is the SQLite file of a ledger to begin with.

    The generated org is the one that the bench of a sync keeps; everything else is fresh and goes away.
    """
    org = PROJECT / "var" / "bench" / "sync" / str(contacts) / "var" / "sandbox"
    with tempfile.TemporaryDirectory(prefix="novade-bench-") as name, _stand_in(org, contacts) as stand_in:
        folder = Path(name)
        file = folder / "novade.toml"
        file.write_text(
            _CONFIGURATION.format(secrets=org / "secrets.toml", streams="\n".join(streams), more=more), encoding="utf-8"
        )
        environment = load_settings(file=file, environ={})
        if history is not None:
            (folder / "var").mkdir()
            shutil.copyfile(history, folder / "var" / "ledger.sqlite")
        ledger = open_ledger(environment.ledger_url)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("NOVADE_")}
        environ |= {"NOVADE_CONFIG": str(file), "NOVADE_HOME": str(folder)}
        try:
            yield Home(folder=folder, environment=environment, environ=environ, ledger=ledger, stand_in=stand_in)
        finally:
            ledger.close()


@contextlib.contextmanager
def _stand_in(folder: Path, contacts: int) -> Iterator[int]:
    """The Salesforce stand-in on a free port; its first start generates the org."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sandbox", "serve", "--dir", str(folder), "--port", "0", "--seed", "7"]
    command += ["--size", str(contacts), "--parent-pid", str(os.getpid())]
    with (folder / "sandbox.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    # In real life it takes none of this machine's time. Here it does, so at least it goes last.
    os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    try:
        wait_for(lambda: _serves(folder, process.pid), "the stand-in", seconds=600, process=process)
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


def _serves(folder: Path, pid: int) -> bool:
    try:
        return bool(json.loads((folder / "sandbox.json").read_text())["pid"] == pid)
    except (OSError, ValueError):
        return False


def wait_for(
    done: Callable[[], bool], what: str, *, seconds: float = 60, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Until ``done()`` is true. Raises RuntimeError when it takes longer, or the process ends before."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was not there after {seconds:.0f} s")
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{what} ended with {process.returncode}")
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether something serves there."""
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
