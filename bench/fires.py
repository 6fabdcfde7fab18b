"""Scheduler: 20 fires each second and two busy syncs, beside a bare APScheduler.

A worker process books 20 schedules of one second each; two streams are reloaded in full again and again by its
children. The bare APScheduler is a process beside it at the same time, so that both meet the same load: 20 interval
jobs, each of which inserts one row into a SQLite file of its own. An instant that is not booked exactly once is a
fault and ends the bench; lateness is only reported.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from bench import _homes
from bench.harness import PROJECT, row
from novade_core.ledger.models import Fire, Run, RunState
from novade_core.ledger.schedules import schedules
from novade_core.streams import RunKind

SCHEDULES = 20
SECONDS = {"standard": 30, "large": 500}
CONTACTS = 100_000
#: Two streams for two places; each is queued again as soon as its run has started.
STREAMS = ("salesforce.contact", "salesforce.lead")
LIMIT_MS = 1_000.0
#: Before the first fire that counts; the peer's process starts in it.
LEAD_SECONDS = 10
#: Fires of the last second may be this late and still be counted.
GRACE_SECONDS = 20


def run(size: str) -> list[dict[str, Any]]:
    """Fires promised, booked and lost, and how late, in milliseconds after they were due."""
    seconds = SECONDS[size]
    schedules = "\n".join(
        f'[schedules."beat {n}"]\nstreams = []\nevery_seconds = 1\noutage = "all"\n' for n in range(SCHEDULES)
    )
    with _homes.home(CONTACTS, [f'"{name}" = {{}}' for name in STREAMS], more=schedules) as home:
        peer_file = home.folder / "peer.json"
        with home.process("-m", "jobs", "worker") as worker, _busy(home):
            _homes.wait_for(lambda: _running(home) == len(STREAMS), "two busy syncs", process=worker)
            begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=LEAD_SECONDS)
            end = begin + timedelta(seconds=seconds)
            peer = subprocess.Popen(
                [sys.executable, "-m", "bench.fires", begin.isoformat(), end.isoformat(), str(peer_file)], cwd=PROJECT
            )
            try:
                samples = _watch(home, worker, until=end)
                if peer.wait(timeout=GRACE_SECONDS + 10):
                    raise RuntimeError(f"the peer ended with {peer.returncode}")
            finally:
                peer.kill()
                peer.wait()
            promised = SCHEDULES * seconds
            with contextlib.suppress(RuntimeError):  # what is missing by then is counted below
                _homes.wait_for(lambda: len(_late(home, begin, end)) >= promised, "fires", seconds=GRACE_SECONDS)
        late, theirs = _late(home, begin, end), [s * 1000 for s in json.loads(peer_file.read_text())]
        ended, failures = _ended(home), _failures(home)
    if len(late) != promised:
        raise RuntimeError(f"{promised} fires were promised, {len(late)} were booked")
    if failures:
        raise RuntimeError(f"the load beside failed: {failures}")
    busy, load = sum(samples) / len(samples), os.getloadavg()[0]
    return [
        row("fires promised", "fires", promised, peer=promised),
        row("fires booked", "fires", len(late), limit=promised, peer=len(theirs)),
        row("lost", "fires", promised - len(late), limit=0, peer=promised - len(theirs)),
        row("lateness p50", "ms", _share(late, 0.5), peer=_share(theirs, 0.5)),
        row("lateness p99", "ms", _share(late, 0.99), limit=LIMIT_MS, peer=_share(theirs, 0.99)),
        row("lateness, the worst", "ms", late[-1], peer=theirs[-1]),
        row("syncs running beside, on average", "runs", busy, limit=len(STREAMS)),
        row("syncs that ended meanwhile", "runs", float(sum(ended.values()))),
        row("load of the machine at the end", "processes", load),
    ]


@contextlib.contextmanager
def _busy(home: _homes.Home) -> Iterator[None]:
    """Keep a full reload of each stream in the queue, so that one always follows the one that runs."""
    enough = threading.Event()

    def feed() -> None:
        while not enough.wait(0.5):
            for stream in STREAMS:
                home.ask(stream, RunKind.FULL)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def _running(home: _homes.Home) -> int:
    with home.ledger.read() as connection:
        query = select(func.count()).where(Run.state == RunState.RUNNING)
        return int(connection.execute(query).scalar_one())


def _ended(home: _homes.Home) -> dict[str, int]:
    query = select(Run.state, func.count()).where(Run.ended_at.is_not(None)).group_by(Run.state)
    with home.ledger.read() as connection:
        return {str(state): int(count) for state, count in connection.execute(query)}


def _failures(home: _homes.Home) -> list[tuple[str, int]]:
    query = select(Run.error_message, func.count()).where(Run.state == RunState.FAILED).group_by(Run.error_message)
    with home.ledger.read() as connection:
        return [(str(message), int(count)) for message, count in connection.execute(query)]


def _watch(home: _homes.Home, worker: subprocess.Popen[bytes], *, until: datetime) -> list[int]:
    """How many syncs ran, looked at twice a second."""
    samples = []
    while datetime.now(UTC) < until:
        if worker.poll() is not None:
            raise RuntimeError(f"the worker ended with {worker.returncode}: {home.said()}")
        samples.append(_running(home))
        time.sleep(0.5)
    return samples


def _late(home: _homes.Home, begin: datetime, end: datetime) -> list[float]:
    """Milliseconds from due to booked of each fire that was promised in the window, in order."""
    query = select(Fire.due_at, Fire.booked_at).where(Fire.promised >= begin, Fire.promised < end)
    # The canary's minute is one of ours too, but it was not promised here.
    query = query.where(Fire.schedule_id.in_(_beats(home)))
    with home.ledger.read() as connection:
        return sorted((booked - due).total_seconds() * 1000 for due, booked in connection.execute(query))


def _beats(home: _homes.Home) -> Sequence[int]:
    return [s.id for s in schedules(home.ledger) if not s.is_canary]


def _share(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def bare(begin: datetime, end: datetime, answer: Path) -> None:
    """The peer: APScheduler as its documentation shows it, with nothing kept of a fire but its row."""
    from apscheduler.events import EVENT_JOB_EXECUTED
    from apscheduler.schedulers.background import BackgroundScheduler

    file = answer.with_suffix(".sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE fires (job INTEGER, at REAL)")
    local = threading.local()

    def fire(job: int) -> float:
        if not hasattr(local, "connection"):
            local.connection = sqlite3.connect(file, timeout=30, isolation_level=None)
            local.connection.execute("PRAGMA synchronous=NORMAL")
        local.connection.execute("BEGIN IMMEDIATE")
        at = time.time()  # as ours: in the transaction
        local.connection.execute("INSERT INTO fires VALUES (?, ?)", (job, at))
        local.connection.execute("COMMIT")
        return at

    late: list[float] = []
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_listener(
        lambda event: late.append(event.retval - event.scheduled_run_time.timestamp()), EVENT_JOB_EXECUTED
    )
    for job in range(SCHEDULES):
        # Its last instant is the second before the end, as ours.
        scheduler.add_job(
            fire, "interval", seconds=1, args=[job], start_date=begin, end_date=end - timedelta(milliseconds=1)
        )
    scheduler.start()
    if datetime.now(UTC) > begin:
        raise RuntimeError("the peer started too late to be compared")
    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 5)
    scheduler.shutdown()
    answer.write_text(json.dumps(sorted(late)))


if __name__ == "__main__":
    bare(datetime.fromisoformat(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), Path(sys.argv[3]))
