"""The place: a home with three workers, a driver that hurts them by the seed, and calm afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from novade_core.errors import NovadeError
from novade_core.ledger.requests import ask_for_run, ask_to_cancel
from novade_core.streams import RunKind
from novade_core.wiring import utc_now
from tests.chaos import witness
from tests.homes import PROJECT, Home, Sandbox

LEASE = 1.5
STREAMS = ("account", "contact", "lead")
CONFIGURATION = """
default_environment = "test"
first_sync = false
canary = false

[environments.test]
secrets_files = ["{secrets}"]

[environments.test.ledger]
url = "{ledger}"

[environments.test.worker]
lease_seconds = {lease}
beat_seconds = 0.3
poll_seconds = 0.2
stop_seconds = 2
max_runs = 1
retry_seconds = [0.2, 0.3, 0.5, 0.5, 1, 1, 1, 1, 1, 1]
on_time_seconds = 1

[environments.test.warehouse]
busy_wait_seconds = 3

[environments.test.salesforce]
poll_seconds = 0.02
retry_base_seconds = 0.02
tries = 2
timeout_seconds = 3
bulk_page_rows = 100
bulk_from_rows = 150
window_rows = 1000

[streams]
{streams}

[schedules.beat]
streams = []
every_seconds = 1
outage = "skip"

[schedules.sync]
streams = ["salesforce"]
every_seconds = 7
jitter_seconds = 2
outage = "{outage}"
"""


@dataclass
class Report:
    """What one chaos did and what is left of it."""

    runs: int
    seconds: float
    states: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)
    fires: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.runs} runs in {self.seconds:.0f} s"]
        for name in ("states", "deeds", "fates", "fires"):
            counted = ", ".join(f"{n} {what}" for what, n in sorted(getattr(self, name).items()))
            parts.append(f"{name}: {counted or 'none'}")
        return "; ".join(parts)


class Arena:
    """One chaos. ``fight`` until so many runs have ended, ``calm`` until the queue is empty, then judge."""

    def __init__(self, folder: Path, sandbox: Sandbox, ledger_url: str, seed: int) -> None:
        self.folder, self.sandbox, self.seed = folder, sandbox, seed
        self.dice = random.Random(seed)
        self.deeds: Counter[str] = Counter()
        self.home = self._home(folder, ledger_url)
        for name in ("stopped", "fates"):
            (folder / name).mkdir()
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self.sleeping: dict[int, float] = {}  #: pid -> when to wake it, monotonic
        self._log = (folder / "workers.log").open("ab")

    def _home(self, folder: Path, ledger_url: str) -> Home:
        text = CONFIGURATION.format(
            secrets=self.sandbox.folder / "secrets.toml",
            ledger=ledger_url,
            lease=LEASE,
            streams="\n".join(f'"salesforce.{name}" = {{}}' for name in STREAMS),
            outage=self.dice.choice(("once", "all", "skip")),
        )
        (folder / "novade.toml").write_text(text)
        return Home.open(folder)

    def run(self, runs: int, *, limit_seconds: float) -> Report:
        """The whole of it."""
        begun, began = time.monotonic(), datetime.now(UTC)
        witness.post(self.home)
        try:
            self._fight(runs, begun + limit_seconds)
            self._calm(begun + limit_seconds)
        finally:
            self._end()
        faults = witness.faults(self.home, began=began) + self._differences()
        return Report(
            runs=self.home.ledger_rows("SELECT count(*) AS n FROM runs")[0].n,
            seconds=time.monotonic() - begun,
            states=Counter(row.state for row in self.home.ledger_rows("SELECT state FROM runs")),
            fates=Counter(path.name.partition("-")[2] for path in (self.folder / "fates").iterdir()),
            deeds=self.deeds,
            fires=Counter(row.state for row in self.home.ledger_rows("SELECT state FROM fires")),
            faults=faults,
        )

    # Fight

    def _fight(self, runs: int, deadline: float) -> None:
        for _ in range(3):
            self._hire()
        while self._ended() < runs and time.monotonic() < deadline:
            if self._waiting() < 5:
                self._ask()
            self._hurt()
            self._wake()
            self._replace()
            time.sleep(self.dice.uniform(0.1, 0.4))

    def _hire(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.worker", str(self.folder), str(self.seed)]
        process = subprocess.Popen(command, cwd=PROJECT, stdout=self._log, stderr=self._log)
        self.workers[process.pid] = process

    def _waiting(self) -> int:
        row = self.home.ledger_rows("SELECT count(*) AS n FROM runs WHERE state IN ('queued', 'running', 'cancelling')")
        return int(row[0].n)

    def _ended(self) -> int:
        row = self.home.ledger_rows("SELECT count(*) AS n FROM runs WHERE ended_at IS NOT NULL")
        return int(row[0].n)

    def _ask(self) -> None:
        stream = self.home.environment.stream(f"salesforce.{self.dice.choice(STREAMS)}")
        kind = self.dice.choices((RunKind.INCREMENTAL, RunKind.FULL, RunKind.BACKFILL), (7, 2, 2))[0]
        window = {}
        if kind is RunKind.BACKFILL:
            start = datetime.now(UTC) - timedelta(days=self.dice.randint(100, 700))
            window = {"since": start, "until": start + timedelta(days=self.dice.randint(5, 90))}
        ask_for_run(
            self.home.services.ledger, stream=stream, kind=kind, who="chaos", origin="command", now=utc_now(), **window
        )
        if self.dice.random() < 0.7:
            counts = {what: self.dice.randint(0, 6) for what in ("update", "new", "delete")}
            self.sandbox.change(stream.object_name, **counts)

    def _hurt(self) -> None:
        deed = self.dice.choices(
            ("nothing", "kill worker", "stop worker", "kill child", "storm", "drop", "cancel"), (24, 1, 1, 2, 2, 2, 1)
        )[0]
        if deed == "nothing":
            return
        if deed in ("kill worker", "stop worker"):
            awake = [pid for pid in self.workers if pid not in self.sleeping]
            if len(awake) < 2:
                return
            self._signal(self.dice.choice(awake), deed)
        elif deed == "kill child":
            holders = self.home.ledger_rows("SELECT worker FROM runs WHERE state = 'running' AND worker IS NOT NULL")
            if not holders:
                return
            pid = int(self.dice.choice(holders).worker.rpartition(":")[0].rpartition(":")[2])
            if pid in self.workers or not self._is_child(pid):
                return
            self._signal(pid, deed)
        elif deed == "storm":
            status = self.dice.choice((429, 503))
            self.sandbox.faults(status={"status": status, "count": self.dice.randint(1, 4)})
        elif deed == "drop":
            self.sandbox.faults(cut_page={"n": 1, "times": self.dice.randint(1, 3)})
        else:
            running = self.home.ledger_rows("SELECT id FROM runs WHERE state IN ('queued', 'running')")
            if not running:
                return
            try:
                ask_to_cancel(
                    self.home.services.ledger, run_id=self.dice.choice(running).id, who="chaos", now=utc_now()
                )
            except NovadeError:
                return  # it has ended at this moment
        self.deeds[deed] += 1

    @staticmethod
    def _is_child(pid: int) -> bool:
        try:
            return b"tests.chaos.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def _signal(self, pid: int, deed: str) -> None:
        stop = deed.startswith("stop")
        try:
            os.kill(pid, signal.SIGSTOP if stop else signal.SIGKILL)
        except ProcessLookupError:
            return
        if stop:
            self.sleeping[pid] = time.monotonic() + LEASE * self.dice.uniform(0.5, 2.5)

    def _wake(self, *, all_of_them: bool = False) -> None:
        for note in (self.folder / "stopped").iterdir():
            self.sleeping.setdefault(int(note.name), time.monotonic() + LEASE * self.dice.uniform(1.2, 2.5))
            note.unlink()
        for pid, at in list(self.sleeping.items()):
            if all_of_them or time.monotonic() > at:
                del self.sleeping[pid]
                if pid in self.workers or self._is_child(pid):
                    try:
                        os.kill(pid, signal.SIGCONT)
                    except ProcessLookupError:
                        continue

    def _replace(self) -> None:
        for pid, process in list(self.workers.items()):
            if process.poll() is not None:
                del self.workers[pid]
        while len(self.workers) < 3:
            self._hire()

    # Calm

    def _calm(self, deadline: float) -> None:
        """No more faults; what waits is worked off, then every stream is synced once more."""
        (self.folder / "calm").touch()
        self.sandbox.call("POST", "/_sandbox/faults", {"status": None, "cut_page": None})
        self._wake(all_of_them=True)
        self._replace()
        for name in STREAMS:
            stream = self.home.environment.stream(f"salesforce.{name}")
            ask_for_run(
                self.home.services.ledger,
                stream=stream,
                kind=RunKind.INCREMENTAL,
                who="calm",
                origin="command",
                now=utc_now(),
            )
        with self.home.services.ledger.write() as connection:
            connection.exec_driver_sql("UPDATE schedules SET paused_at = booked_to, paused_by = 'calm'")
        while self._waiting() and time.monotonic() < deadline:
            self._wake(all_of_them=True)
            time.sleep(0.2)

    def _end(self) -> None:
        for process in self.workers.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.terminate()
        for process in self.workers.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()

    def _differences(self) -> list[str]:
        """The warehouse against one that read the source in peace."""
        peace = self.folder / "peace"
        peace.mkdir()
        other = Home.make(peace, self.sandbox, streams="\n".join(f'"salesforce.{name}" = {{}}' for name in STREAMS))
        found = []
        for name in STREAMS:
            other.sync(f"salesforce.{name}")
            ours, theirs = self.home.table(f"salesforce.{name}"), other.table(f"salesforce.{name}")
            if ours != theirs:
                wrong = set(map(str, ours)) ^ set(map(str, theirs))
                found.append(f"{name}: {len(ours)} rows here, {len(theirs)} in peace, {len(wrong)} differ")
        return found
