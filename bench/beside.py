"""Pages beside a sync: reruns of a console whose worker brings a million rows, and at rest.

The console is the process that people open, with worker, scheduler and canary in it; the sync is the child that its
worker starts. Each page is open in a tab of its own, a websocket as the browser has it, and is rerun in full again
and again, with pauses as people make them. A rerun lasts from the request to the message that the script has
finished, all messages between received; what a browser then takes to draw is not in it.

Rest and sync alternate every few seconds within the same sync: for a turn of the pages its processes are stopped, for
the next one they go on. So both sides show the same pages and meet the same other work on the machine.
The stand-in for the source is another machine in real life; here it shares the cores, at the lowest priority.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import delete, select, update
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from bench import _homes, pages
from bench.harness import PROJECT, row
from novade_core.ledger.models import ENDED, LogEntry, Run, RunState, ScheduleRow, Step
from novade_core.schedules import CANARY
from novade_core.settings import load_settings
from novade_core.streams import RunKind
from novade_core.wiring import utc_now

#: First syncs that are measured.
ROUNDS = {"standard": 1, "large": 4}
CONTACTS = 1_000_000
#: Runs in the ledger before, so that lists and charts are full.
HISTORY = 100_000
PAUSE_SECONDS = 0.2
SYNC_SECONDS = 900.0
TIMES = 2.0  #: our limit: reruns beside a sync over reruns at rest


Samples = dict[str, list[float]]  # milliseconds by page


class Tab:
    """A page open in a browser, without the browser."""

    def __init__(self, port: int, page: str, query: str = "", shows: str = "") -> None:
        """``shows`` is what must be on the page. Raises RuntimeError where it is not."""
        self._socket = connect(
            f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=[Subprotocol("streamlit")], max_size=None
        )
        self._page, self._query, self._shows, self._hash = page, query, shows.encode(), ""
        self.rerun()

    def rerun(self) -> float:
        """Milliseconds."""
        request = BackMsg()
        state = request.rerun_script
        state.query_string, state.page_script_hash = self._query, self._hash
        state.page_name = "" if self._hash else self._page
        state.context_info.timezone = "UTC"
        started, received, seen = time.perf_counter(), ForwardMsg(), False
        self._socket.send(request.SerializeToString())
        while received.WhichOneof("type") != "script_finished":
            data = self._socket.recv(timeout=60)
            assert isinstance(data, bytes)
            seen = seen or self._shows in data
            received.ParseFromString(data)
            if received.HasField("navigation"):
                self._hash = received.navigation.page_script_hash
        taken = (time.perf_counter() - started) * 1000
        if received.script_finished != ForwardMsg.FINISHED_SUCCESSFULLY or not seen:
            raise RuntimeError(f"/{self._page}?{self._query} did not show {self._shows.decode()!r}")
        return taken

    def close(self) -> None:
        """The tab is closed."""
        self._socket.close()


def run(size: str) -> list[dict[str, Any]]:
    """The 95th percentile of each page's reruns in milliseconds: ours beside a sync, the peer at rest."""
    rounds = ROUNDS[size]
    history = pages.ledger_of(HISTORY, PROJECT / "var" / "bench")
    # A first sync happens once to a stream, so each round has a stream of its own over the same object.
    names = [f"salesforce.contact_{n}" for n in range(rounds)]
    streams = [f'"{name}" = {{ object = "Contact" }}' for name in names]
    streams += [f'"{stream.id}" = {{}}' for stream in load_settings(environ={}).streams]
    rest: Samples = defaultdict(list)
    beside: Samples = defaultdict(list)
    with _homes.home(CONTACTS, streams, history=history) as home:
        _tidy(home)
        port = _free_port()
        with home.process("-m", "streamlit", "run", "app.py", "--server.port", str(port)) as console:
            url = f"http://127.0.0.1:{port}/_stcore/health"
            _homes.wait_for(lambda: _homes.answers(url), "the console", process=console)
            took = [_beside_a_sync(port, name, home, rest, beside) for name in names]
    rows = [_row(f"{page}, p95", _p95(beside[page]), _p95(rest[page])) for page in rest]
    everything, at_rest = list(chain(*beside.values())), list(chain(*rest.values()))
    return [
        *rows,
        _row("all pages, p95", _p95(everything), _p95(at_rest)),
        _row("all pages, median", statistics.median(everything), statistics.median(at_rest)),
        row("reruns measured", "reruns", len(everything), peer=len(at_rest)),
        row(f"a first sync of {CONTACTS:,} meanwhile", "s", statistics.mean(took)),
        row("load of the machine, others included", "processes", os.getloadavg()[0]),
    ]


def _beside_a_sync(port: int, stream: str, home: _homes.Home, rest: Samples, beside: Samples) -> float:
    """Ask for the first sync of the stream and measure as long as it runs; seconds for which it was not stopped."""
    number = home.ask(stream, RunKind.INCREMENTAL)
    _homes.wait_for(lambda: _running(home, number) is not None, "the sync")
    tabs = {
        "Overview": Tab(port, "", shows="Streams by source"),
        "Sync": Tab(port, "sync", f"streams={stream}", shows="What this sync will probably take"),
        "Runs": Tab(port, "runs", shows="Runs, newest first"),
        "Run": Tab(port, "runs", f"run={number}", shows=f"Run {number:,}: "),
        "Schedules": Tab(port, "schedules", shows="All schedules"),
    }
    seconds, last = 0.0, time.monotonic() + SYNC_SECONDS
    while (child := _running(home, number)) is not None and time.monotonic() < last:
        with _stopped(child, home.stand_in):
            _turn(tabs, rest)
        started = time.monotonic()
        turn: Samples = defaultdict(list)
        _turn(tabs, turn)
        seconds += time.monotonic() - started
        if _running(home, number) is not None:  # the turn in which it ended is neither rest nor sync
            for page, taken in turn.items():
                beside[page] += taken
    for tab in tabs.values():
        tab.close()
    with home.ledger.read() as connection:
        state = connection.execute(select(Run.state).where(Run.id == number)).scalar_one()
    if state != RunState.SUCCEEDED:
        raise RuntimeError(f"run {number} is {state}: {home.said()}")
    return seconds


def _turn(tabs: Mapping[str, Tab], into: Samples) -> None:
    """Each page once. What pages cache lives for a second, and a turn takes longer."""
    for name, tab in tabs.items():
        time.sleep(PAUSE_SECONDS)
        into[name].append(tab.rerun())


@contextlib.contextmanager
def _stopped(*processes: int) -> Iterator[None]:
    """Shorter than a lease, so that nobody takes the run for dead."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def _tidy(home: _homes.Home) -> None:
    """No run of the history waits or runs, and nothing but the canary fires."""
    with home.ledger.write() as connection:
        open_runs = select(Run.id).where(Run.state.not_in(ENDED))
        for part in (Step, LogEntry):
            connection.execute(delete(part).where(part.run_id.in_(open_runs)))
        connection.execute(delete(Run).where(Run.state.not_in(ENDED)))
        connection.execute(update(ScheduleRow).values(booked_to=utc_now()))
        asking = ScheduleRow.name != CANARY.name
        connection.execute(update(ScheduleRow).where(asking).values(paused_at=utc_now(), paused_by="bench"))


def _running(home: _homes.Home, number: int) -> int | None:
    """The process of a run that runs."""
    query = select(Run.worker).where(Run.id == number, Run.state == RunState.RUNNING)
    with home.ledger.read() as connection:
        worker = connection.execute(query).scalar()
    return int(worker.split(":")[-2]) if worker else None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _row(name: str, ours: float, peer: float) -> dict[str, Any]:
    return row(name, "ms", ours, limit=TIMES * peer, peer=peer)


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * 95 // 100)]
