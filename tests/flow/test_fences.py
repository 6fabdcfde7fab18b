"""A holder that was stopped, overtaken and woken commits nothing and moves no checkpoint; fences on two engines."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from novade_core.errors import LeaseLost
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import RunState
from novade_core.warehouse.fence import Fence
from tests.flow import stopped
from tests.homes import Home, Sandbox
from tests.ledgers import url_of

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)
CHECKPOINT = "SELECT cursor, run_id, fence FROM checkpoints"


def fence_of(home: Home) -> int:
    return int(home.query("SELECT fence FROM novade.novade_fence")[0][0])


@pytest.mark.parametrize("point", ["load.started", "load.group", "verify.started", "checkpoint.before"])
def test_a_run_that_was_overtaken_while_it_stood_still_changes_nothing(
    point: str, home: Home, sandbox: Sandbox
) -> None:
    home.sync()
    sandbox.change(update=20, new=5, delete=5)
    old = home.ask()
    child = stopped.start(home, old, point)
    if point == "load.group":
        # It stands in front of its transaction and keeps the file open, so that the next one cannot load.
        busy = home.sync()
        assert (busy.error and busy.error.kind) == "WarehouseBusy"
        assert stopped.wake(child) == {"state": "failed", "error": "LeaseLost"}
        assert fence_of(home) == 1
    # The next one waits for the lease to expire, then goes on with what the old one landed. The source has moved on.
    sandbox.change(update=7, delete=3)
    new = home.sync()
    assert new.state is RunState.SUCCEEDED, new.headline
    before = home.ledger_rows(CHECKPOINT), home.table(), fence_of(home)
    assert before[0][0].run_id == new.run_id
    if point != "load.group":
        assert stopped.wake(child) == {"state": "failed", "error": "LeaseLost"}
    assert (home.ledger_rows(CHECKPOINT), home.table(), fence_of(home)) == before
    [row] = home.ledger_rows("SELECT state, error_kind FROM runs WHERE id = :r", r=old)
    assert (row.state, row.error_kind) == ("abandoned", "WorkerVanished")
    assert home.ledger_rows("SELECT stream FROM leases WHERE holder IS NOT NULL") == []
    last = home.sync()
    assert (last.counts["loaded"], last.counts["source_count"]) == (10, last.counts["warehouse_count"])


def test_a_run_that_was_overtaken_inside_its_transaction_rolls_it_back(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    loaded = home.table()
    sandbox.change(update=20, new=5, delete=5)
    old = home.ask()
    child = stopped.start(home, old, "load.before_commit")
    # It stands in its open transaction, which keeps the file: the next one takes the stream and cannot load yet.
    new = home.sync()
    assert (new.error and new.error.kind) == "WarehouseBusy"
    assert [r.state for r in home.ledger_rows("SELECT state FROM runs ORDER BY id")][1:] == ["abandoned", "failed"]
    before = home.ledger_rows(CHECKPOINT)
    assert stopped.wake(child) == {"state": "failed", "error": "LeaseLost"}
    assert home.table() == loaded
    assert (home.ledger_rows(CHECKPOINT), fence_of(home)) == (before, 1)
    last = home.sync()
    assert last.state is RunState.SUCCEEDED
    assert (last.counts["loaded"], last.counts["source_count"]) == (30, last.counts["warehouse_count"])


# --- the same protocol on an engine that lets several in ----------------------------------------------------------


class Holder:
    """A holder that loads ``stream`` once over a connection of its own, a step at a time.

    Steps: ``fence`` (the first statement of the transaction), ``work`` (a row and a marker), ``lease`` (asked once
    more in the ledger), ``commit``.
    """

    def __init__(self, url: str, ledger: Ledger, stream: str, name: str, fence: int, *, guarded: bool = True) -> None:
        self.name, self.stream, self.fence = name, stream, fence
        self._ledger, self._guarded = ledger, guarded
        self._c = psycopg.connect(url, autocommit=True)
        self._c.execute("SET default_transaction_isolation = 'read committed'")
        self.pid = self._c.info.backend_pid
        self._may, self._here = threading.Semaphore(0), threading.Event()
        self.error: BaseException | None = None
        self.committed = False
        self._thread = threading.Thread(target=self._load, daemon=True)

    def step(self, is_blocked: Callable[[int], bool]) -> bool:
        """Do the next step; False where it waits for a lock of the other one."""
        self._here.clear()
        if self._thread.ident is None:
            self._thread.start()
            self._here.wait(10)
            self._here.clear()
        self._may.release()
        return self.settle(is_blocked)

    def settle(self, is_blocked: Callable[[int], bool]) -> bool:
        """Wait until the step is done; False where it waits for a lock of the other one."""
        deadline = time.monotonic() + 10
        while not self._here.wait(0.002):
            assert time.monotonic() < deadline
            if is_blocked(self.pid):
                return False
        return True

    @property
    def ended(self) -> bool:
        return self.committed or self.error is not None

    def _gate(self) -> None:
        self._here.set()
        assert self._may.acquire(timeout=10)

    def _execute(self, statement: str, parameters: Sequence[Any]) -> int:
        if statement.startswith(("UPDATE fences", "COMMIT")):
            self._gate()
        return self._c.execute(statement, list(parameters)).rowcount  # type: ignore[call-overload, no-any-return]

    def _work(self) -> None:
        self._gate()
        self._c.execute(
            "INSERT INTO things VALUES (%s, %s) ON CONFLICT (stream) DO UPDATE SET value = excluded.value",
            [self.stream, self.name],
        )
        self._c.execute("INSERT INTO markers VALUES (%s, %s)", [self.stream, self.name])

    def _before_commit(self) -> None:
        self._gate()
        if self._guarded:
            with self._ledger.write() as connection:
                leases.require(connection, stream=self.stream, fence=self.fence)

    def _load(self) -> None:
        fence = Fence(execute=self._execute, table="fences", mark="%s", unless_there="ON CONFLICT DO NOTHING")
        try:
            fence.transaction(self.stream, self.fence, self._work, self._before_commit)
            self.committed = True
        except (LeaseLost, psycopg.Error) as error:
            self.error = error
        finally:
            self._c.close()
            self._here.set()


class Place:
    """A PostgreSQL that plays the warehouse, and a ledger."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self.url, self.ledger = url, ledger
        self.c = psycopg.connect(url, autocommit=True)
        self.c.execute("CREATE TABLE fences (stream text PRIMARY KEY, fence bigint NOT NULL)")
        self.c.execute("CREATE TABLE things (stream text PRIMARY KEY, value text NOT NULL)")
        self.c.execute("CREATE TABLE markers (stream text, load_id text, PRIMARY KEY (stream, load_id))")

    def take(self, stream: str, holder: str) -> int:
        """The stream's lease for a new holder, whoever has it; its fence."""
        with self.ledger.write() as connection:
            return leases.take(
                connection, stream=stream, holder=holder, run_id=None, now=NOW, watcher=_Merciless(0)
            ).fence

    def is_blocked(self, pid: int) -> bool:
        row = self.c.execute("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        return row is not None and row[0] == "Lock"

    def value(self, table: str, column: str, stream: str) -> list[Any]:
        found = self.c.execute(f"SELECT {column} FROM {table} WHERE stream = %s ORDER BY 1", [stream])  # type: ignore[call-overload]
        return [row[0] for row in found]


class _Merciless(leases.Watcher):
    """Takes whatever lease there is; a real one waits until the beat stood still."""

    def is_expired(self, stream: str, holder: str, beat: int) -> bool:
        return True


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("fences")
    with url_of("postgresql", folder, empty=True) as url, url_of("sqlite", folder) as ledger_url:
        ledger = open_ledger(ledger_url)
        place = Place(url, ledger)
        yield place
        place.c.close()
        ledger.close()


def play(place: Place, stream: str, order: str) -> tuple[Holder, Holder | None, list[str]]:
    """Old (o) and new (n) holder step in this order; the new one's first step takes the lease. Then both go on."""
    old = Holder(place.url, place.ledger, stream, "old", place.take(stream, "old:1:1"))
    new: Holder | None = None
    held_up: list[Holder] = []
    commits: list[str] = []

    def note() -> None:
        for holder in (old, new):
            if holder is not None and holder.committed and holder.name not in commits:
                commits.append(holder.name)

    for turn in order:
        actor: Holder | None = old if turn == "o" else new
        if actor is None:
            new = Holder(place.url, place.ledger, stream, "new", place.take(stream, "new:1:1"))
            continue
        if actor.ended or actor in held_up:
            continue
        if not actor.step(place.is_blocked):
            held_up.append(actor)
        note()
        held_up = [h for h in held_up if not h.settle(place.is_blocked)]
        note()
    everybody = [h for h in (new, old) if h is not None]
    while not all(h.ended for h in everybody):
        for holder in everybody:
            if not holder.ended and holder not in held_up and not holder.step(place.is_blocked):
                held_up.append(holder)
            note()
        held_up = [h for h in held_up if not h.settle(place.is_blocked)]
        note()
    return old, new, commits


#: Every interleaving of the old holder's four steps with the new one's lease and four steps.
ORDERS = ["".join("o" if i in chosen else "n" for i in range(9)) for chosen in itertools.combinations(range(9), 4)]


@pytest.mark.parametrize("first", sorted({order[:3] for order in ORDERS}))
def test_in_every_interleaving_only_what_came_before_the_new_holder_is_committed(first: str, place: Place) -> None:
    refused = committed = 0
    for order in [o for o in ORDERS if o.startswith(first)]:
        stream = f"s.{order}"
        old, new, commits = play(place, stream, order)
        assert new is not None
        assert new.error is None, order
        # Whatever the old one did, the new one's comes last and stays.
        assert commits in (["old", "new"], ["new"]), order
        assert place.value("things", "value", stream) == ["new"], order
        assert place.value("fences", "fence", stream) == [new.fence], order
        # Markers and rows of a transaction live and die together.
        assert place.value("markers", "load_id", stream) == sorted(commits), order
        assert isinstance(old.error, LeaseLost) == (commits == ["new"]), order
        refused += commits == ["new"]
        committed += commits != ["new"]
    assert refused if "n" in first else committed


def test_the_old_holder_first_waits_for_the_new_one_and_is_then_refused(place: Place) -> None:
    stream = "s.waits"
    old = Holder(place.url, place.ledger, stream, "old", place.take(stream, "old:1:1"), guarded=False)
    new = Holder(place.url, place.ledger, stream, "new", place.take(stream, "new:1:1"), guarded=False)
    assert new.step(place.is_blocked)  # its fence is set, its transaction open
    assert not old.step(place.is_blocked)
    assert place.is_blocked(old.pid)
    while not new.ended:
        new.step(place.is_blocked)
    assert old.settle(place.is_blocked)
    # The ledger was never asked: the fence alone refuses it.
    assert isinstance(old.error, LeaseLost)
    assert place.value("things", "value", stream) == ["new"]


def test_a_select_would_have_let_the_old_holder_commit_over_the_new_one(place: Place) -> None:
    """Why the fence is an UPDATE: reading it takes no lock, and what was read is old when it is used."""
    stream = "s.select"
    place.c.execute("INSERT INTO fences VALUES (%s, 1)", [stream])
    put = "INSERT INTO things VALUES (%s, %s) ON CONFLICT (stream) DO UPDATE SET value = excluded.value"
    with psycopg.connect(place.url) as old, psycopg.connect(place.url) as new:
        assert old.execute("SELECT fence <= 1 FROM fences WHERE stream = %s", [stream]).fetchone() == (True,)
        new.execute("UPDATE fences SET fence = 2 WHERE stream = %s AND fence <= 2", [stream])
        new.execute(put, [stream, "new"])
        new.commit()
        old.execute(put, [stream, "old"])
        old.commit()
    assert place.value("things", "value", stream) == ["old"]  # the stale holder's, under fence 2
    assert place.value("fences", "fence", stream) == [2]


def test_two_first_loads_at_once_make_one_fence_row(place: Place) -> None:
    stream = "s.first"
    holders = [Holder(place.url, place.ledger, stream, name, n, guarded=False) for n, name in enumerate("ab", 1)]
    held_up = [h for h in holders if not h.step(place.is_blocked)]
    assert [h.name for h in held_up] == ["b"]
    while not holders[0].ended:
        holders[0].step(place.is_blocked)
    assert holders[1].settle(place.is_blocked)
    while not holders[1].ended:
        holders[1].step(place.is_blocked)
    assert place.value("fences", "fence", stream) == [2]
    assert place.value("markers", "load_id", stream) == ["a", "b"]


def test_a_later_holder_can_load_once_the_earlier_ones_process_is_gone(place: Place, tmp_path: Path) -> None:
    """A dead holder's open transaction ends with its connection, so nobody waits for it for ever."""
    stream = "s.gone"
    old = Holder(place.url, place.ledger, stream, "old", place.take(stream, "old:1:1"))
    assert old.step(place.is_blocked)
    new = Holder(place.url, place.ledger, stream, "new", place.take(stream, "new:1:1"))
    assert not new.step(place.is_blocked)
    place.c.execute("SELECT pg_terminate_backend(%s)", [old.pid])
    assert new.settle(place.is_blocked)
    while not new.ended:
        new.step(place.is_blocked)
    assert (new.committed, new.error) == (True, None)
    old.step(place.is_blocked)
    assert isinstance(old.error, psycopg.Error)
    assert place.value("markers", "load_id", stream) == ["new"]
