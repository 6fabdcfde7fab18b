"""Three consoles on one ledger: one schedules, another takes over when it dies or hangs, nothing fires twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from novade_core.ledger.schedules import fires, schedules
from novade_core.schedules import FireState
from tests.homes import PROJECT, Home, Sandbox
from tests.ledgers import KINDS, url_of

SCHEDULES = """
[schedules.beat]
streams = []
every_seconds = 1
outage = "skip"

[schedules.sync]
streams = ["salesforce.user"]
every_seconds = 5
outage = "all"
"""


class Consoles:
    """Three of them, by the number of their process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        ports = []
        with (home.folder / "consoles.log").open("wb") as log:
            for _ in range(3):
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    ports.append(free.getsockname()[1])
                command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(ports[-1])]
                process = subprocess.Popen(
                    command, cwd=PROJECT, env=home.environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
                self.running[process.pid] = process
        try:
            for port in ports:
                self._wait(port)
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def _wait(port: int) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                return
            time.sleep(0.1)
        raise RuntimeError("a console did not come up")

    def leader(self) -> int | None:
        """The process that holds the scheduler's lease."""
        rows = self.home.ledger_rows("SELECT holder FROM leases WHERE stream = 'novade:scheduler'")
        if not rows or rows[0].holder is None:
            return None
        return int(rows[0].holder.rpartition(":")[0].rpartition(":")[2])

    def another(self, than: int, seconds: float) -> int:
        """Wait for another leader."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.leader()
            if found not in (None, than) and found in self.running:
                return found
            time.sleep(0.05)
        raise AssertionError(f"nobody took over from {than} within {seconds} s")

    def stop(self) -> None:
        """End them all."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.running.values():
            process.wait(timeout=30)


@pytest.fixture(params=KINDS)
def consoles(request: pytest.FixtureRequest, tmp_path: Path, sandbox: Sandbox) -> Iterator[Consoles]:
    with url_of(request.param, tmp_path) as url:
        Home.make(tmp_path, sandbox)
        file = tmp_path / "novade.toml"
        ledger = f'[environments.test.ledger]\nurl = "{url}"\n\n[environments.test.worker]\non_time_seconds = 0.9'
        text = file.read_text().replace("[environments.test.worker]", ledger, 1)
        file.write_text(text.replace("first_sync = false", "first_sync = false\ncanary = false") + SCHEDULES)
        three = Consoles(Home.open(tmp_path))
        yield three
        three.stop()


def books(home: Home, pid: int) -> Callable[[], bool]:
    """Whether a process has booked a fire since now."""
    since = datetime.now(UTC)

    def asked() -> bool:
        found = fires(home.services.ledger, since=since, until=since + timedelta(minutes=5))
        return any(f":{pid}:" in fire.booked_by for fire in found)

    return asked


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


@pytest.mark.timeout(180)
def test_one_schedules_another_takes_over_and_a_woken_leader_fires_nothing_twice(consoles: Consoles) -> None:
    home = consoles.home
    until(lambda: consoles.leader() in consoles.running, 10)
    first = consoles.leader()
    assert first is not None
    until(books(home, first), 10)
    time.sleep(2)
    assert {f.booked_by for f in everything(home)} == {
        row.holder for row in home.ledger_rows("SELECT holder FROM leases WHERE stream = 'novade:scheduler'")
    }

    # It dies: whoever is on the same machine sees that at once.
    os.kill(first, signal.SIGKILL)
    second = consoles.another(first, 30)
    until(books(home, second), 10)

    # It hangs: its beat stands still for a lease length, then it is overtaken.
    os.kill(second, signal.SIGSTOP)
    stopped = datetime.now(UTC)
    third = consoles.another(second, 30)
    until(books(home, third), 10)
    os.kill(second, signal.SIGCONT)
    woken = datetime.now(UTC)
    time.sleep(3)
    assert consoles.leader() == third
    late = [
        f for f in everything(home) if f.booked_at > stopped + timedelta(seconds=0.5) and f":{second}:" in f.booked_by
    ]
    assert late == [], "the woken leader booked"
    assert any(f.booked_at > woken for f in everything(home))

    for schedule in schedules(home.services.ledger):
        assert schedule.booked_to is not None
        booked = [f for f in everything(home) if f.schedule_id == schedule.id]
        promised = schedule.spec.timing.between(schedule.since, schedule.booked_to)
        assert [f.promised for f in booked] == list(promised)
        if schedule.spec.name == "sync":
            # Rule "all": what nobody was there for has run too, once.
            assert {f.state for f in booked} <= {FireState.ON_TIME, FireState.LATE, FireState.SKIPPED}
    keys = [r.idempotency_key for r in home.ledger_rows("SELECT idempotency_key FROM runs WHERE fire_id IS NOT NULL")]
    assert len(keys) == len(set(keys)) > 0


def everything(home: Home) -> list:
    """All fires, in the order of their promise."""
    now = datetime.now(UTC)
    found = fires(home.services.ledger, since=now - timedelta(hours=1), until=now + timedelta(hours=1), limit=5000)
    return sorted(found, key=lambda f: (f.schedule_id, f.promised))
