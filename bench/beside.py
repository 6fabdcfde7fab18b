"""Pages beside a sync: reruns of a console whose worker brings a million rows, and at rest.

The console is the process that people open, with worker, scheduler and canary in it; the sync is the child that its
worker starts. Each page is open in a tab of its own, a websocket as the browser has it, and is rerun in full again
and again, with pauses as people make them. A rerun lasts from the request to the message that the script has
finished, all messages between received; what a browser then takes to draw is not in it. Rest and sync alternate.
The stand-in for the source is another machine in real life; here it shares the cores, at the lowest priority.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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

#: Rest and sync, so many times each.
ROUNDS = {"standard": 2, "large": 5}
CONTACTS = 1_000_000
#: Runs in the ledger before, so that lists and charts are full.
HISTORY = 100_000
PAUSE_SECONDS = 0.2
REST_SECONDS = 30.0
SYNC_SECONDS = 900.0
TIMES = 2.0  #: our limit: reruns beside a sync over reruns at rest


@dataclass(frozen=True)
class Samples:
    """What was measured at rest, or beside syncs."""

    pages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  #: milliseconds of reruns
    seconds: list[float] = field(default_factory=list)  #: that each round lasted
    loads: list[float] = field(default_factory=list)  #: of the machine at the end of each

    def everything(self) -> list[float]:
        """All reruns."""
        return [taken for samples in self.pages.values() for taken in samples]


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
    rest, beside = Samples(), Samples()
    with _homes.home(CONTACTS, streams, history=history) as home:
        last = _tidy(home)
        port = _free_port()
        with home.process("-m", "streamlit", "run", "app.py", "--server.port", str(port)) as console:
            url = f"http://127.0.0.1:{port}/_stcore/health"
            _homes.wait_for(lambda: _homes.answers(url), "the console", process=console)
            for name in names:
                _at_rest(port, name, last, rest)
                last = _beside_a_sync(port, name, home, beside)
    rows = [_row(f"{page}, p95", _p95(beside.pages[page]), _p95(rest.pages[page])) for page in rest.pages]
    everything, at_rest = beside.everything(), rest.everything()
    return [
        *rows,
        _row("all pages, p95", _p95(everything), _p95(at_rest)),
        _row("all pages, median", statistics.median(everything), statistics.median(at_rest)),
        row("reruns measured", "reruns", len(everything), peer=len(at_rest)),
        row(f"a first sync of {CONTACTS:,} meanwhile", "s", statistics.mean(beside.seconds)),
        row("load of the machine, others included", "processes", max(beside.loads), peer=max(rest.loads)),
    ]


def _at_rest(port: int, stream: str, number: int, into: Samples) -> None:
    until = time.monotonic() + REST_SECONDS
    _measure(port, stream, number, into, lambda: time.monotonic() < until)


def _beside_a_sync(port: int, stream: str, home: _homes.Home, into: Samples) -> int:
    """Ask for the first sync of the stream, measure as long as it runs, answer its run."""
    number = home.ask(stream, RunKind.INCREMENTAL)
    _homes.wait_for(lambda: _state(home, number) != RunState.QUEUED, "the sync")
    last = time.monotonic() + SYNC_SECONDS
    _measure(port, stream, number, into, lambda: _state(home, number) == RunState.RUNNING and time.monotonic() < last)
    if _state(home, number) != RunState.SUCCEEDED:
        raise RuntimeError(f"run {number} is {_state(home, number)}: {home.said()}")
    return number


def _measure(port: int, stream: str, number: int, into: Samples, going_on: Callable[[], bool]) -> None:
    """Rerun the pages in turn while it goes on; what they cache lives for a second, as long as one turn takes."""
    started = time.monotonic()
    tabs = {
        "Overview": Tab(port, "", shows="Streams by source"),
        "Sync": Tab(port, "sync", f"streams={stream}", shows="What this sync will probably take"),
        "Runs": Tab(port, "runs", shows="Runs, newest first"),
        "Run": Tab(port, "runs", f"run={number}", shows=f"Run {number:,}: "),
        "Schedules": Tab(port, "schedules", shows="All schedules"),
    }
    while going_on():
        for name, tab in tabs.items():
            time.sleep(PAUSE_SECONDS)
            taken = tab.rerun()
            if going_on():  # what the end of a sync divides counts on neither side
                into.pages[name].append(taken)
    for tab in tabs.values():
        tab.close()
    into.seconds.append(time.monotonic() - started)
    into.loads.append(os.getloadavg()[0])


def _tidy(home: _homes.Home) -> int:
    """No run of the history waits or runs, nothing but the canary fires; answers the last run that succeeded."""
    with home.ledger.write() as connection:
        open_runs = select(Run.id).where(Run.state.not_in(ENDED))
        for part in (Step, LogEntry):
            connection.execute(delete(part).where(part.run_id.in_(open_runs)))
        connection.execute(delete(Run).where(Run.state.not_in(ENDED)))
        connection.execute(update(ScheduleRow).values(booked_to=utc_now()))
        asking = ScheduleRow.name != CANARY.name
        connection.execute(update(ScheduleRow).where(asking).values(paused_at=utc_now(), paused_by="bench"))
        query = select(Run.id).where(Run.state == RunState.SUCCEEDED).order_by(Run.id.desc()).limit(1)
        return int(connection.execute(query).scalar_one())


def _state(home: _homes.Home, number: int) -> RunState:
    with home.ledger.read() as connection:
        return RunState(connection.execute(select(Run.state).where(Run.id == number)).scalar_one())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _row(name: str, ours: float, peer: float) -> dict[str, Any]:
    return row(name, "ms", ours, limit=TIMES * peer, peer=peer)


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * 95 // 100)]
