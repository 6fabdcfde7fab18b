"""What another session has not committed is never believed, whether readers see it (RCSI off) or not."""

from __future__ import annotations

import inspect
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from novade_core.errors import LeaseLost, RetryableError
from novade_core.warehouse import synapse_sql as sql
from novade_core.warehouse.synapse_link import Link, Refused
from novade_core.warehouse.synapse_sql import Statement
from tests.contracts import test_warehouse as contract
from tests.contracts.houses import ADAPTERS, House, row, stream
from tests.pools import RunningPool, pool_in

THING = stream()

#: What every warehouse promises about fences, markers and leases; on the stand-in all of it also runs as a part of the
#: suite, where RCSI is off as on a new pool.
PROMISES: dict[str, tuple[Callable[..., None], dict[str, str]]] = {
    f"{name.removeprefix('test_')}{'-' + method if method else ''}": (function, {"method": method} if method else {})
    for name, function in vars(contract).items()
    if re.match(r"test_.*(fence|lease|marker|in_already|goes_on_after_a_load_that_failed|missing_file)", name)
    for method in (("load", "replace") if "method" in inspect.signature(function).parameters else ("",))
}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(adapter=ADAPTERS["synapse"], folder=tmp_path)
    yield house
    house.close()


def other(pool: RunningPool, fence: int, load_id: str) -> Link:
    """A holder in the middle of its transaction: the fence moved, a marker written, nothing committed."""
    link = Link(pool.settings())
    link.hit(sql.BEGIN)
    moved = f"UPDATE {sql.FENCE.sql} SET fence = ? WHERE stream = ? AND fence <= ?"
    assert link.hit(Statement("fence", moved, (fence, THING.id, fence), labelled=False)) == 1
    columns = "[load_id], [stream], [staged], [loaded], [deleted], [unchanged], [superseded], [duplicates]"
    marker = f"INSERT INTO {sql.LOADS.sql} ({columns}) SELECT ?, ?, 9, 9, 0, 0, 0, 0"
    link.hit(Statement("mark", marker, (load_id, THING.id), labelled=False))
    return link


def snapshots(house: House, *, on: bool) -> RunningPool:
    """The pool with READ_COMMITTED_SNAPSHOT on or off."""
    pool = pool_in(house.folder)
    pool.pool.catalog.put_named("option", "rcsi", {"on": on}, replace=True)
    return pool


def test_a_new_pool_shows_what_is_not_committed(house: House):
    assert not pool_in(house.folder).pool.rcsi


@pytest.mark.parametrize("promise", sorted(PROMISES))
def test_fences_and_markers_are_kept_with_snapshots_as_without(house: House, tmp_path: Path, promise: str):
    assert len(PROMISES) >= 12
    snapshots(house, on=True)
    function, given = PROMISES[promise]
    if "tmp_path" in inspect.signature(function).parameters:
        given = given | {"tmp_path": tmp_path}
    function(house, **given)


@pytest.mark.parametrize("rcsi", [True, False])
def test_counts_see_what_is_not_committed_only_where_snapshots_are_off(house: House, rcsi: bool):
    """A count compares, and nothing is loaded or left out for its sake; the next one sees what has been committed."""
    house.load(THING, house.land(THING, row("a", 1)))
    pool = snapshots(house, on=rcsi)
    link = Link(pool.settings())
    link.hit(sql.BEGIN)
    table = sql.Table("test", "thing").sql
    link.hit(Statement("add", f"INSERT INTO {table} ([Id], [Stamp]) SELECT N'dirty', '2024-11-18'", labelled=False))
    committed: dict[str, Any] = {"count": 1, "months": {"2024-11": 1}, "keys": ["a"]}
    assert counted(house) == (committed if rcsi else {"count": 2, "months": {"2024-11": 2}, "keys": ["a", "dirty"]})
    link.hit(sql.ROLLBACK)
    link.close()
    assert counted(house) == committed


def counted(house: House) -> dict[str, Any]:
    """All that is counted for a comparison."""
    with house.session() as session:
        return {
            "count": session.count(THING),
            "months": session.counts_by_month(THING, "Stamp"),
            "keys": sorted(session.keys(THING, "Stamp", "2024-11")),
        }


@pytest.mark.parametrize("rcsi", [True, False])
@pytest.mark.parametrize("method", ["load", "replace"])
@pytest.mark.parametrize("ends", ["rolled back", "committed"])
def test_a_marker_that_is_not_committed_is_waited_for(house: House, method: str, ends: str, rcsi: bool):
    house.load(THING, house.land(THING, row("a", 1)))
    pool = snapshots(house, on=rcsi)
    manifest = house.land(THING, row("a", 2, "new"))
    # One that ends well is a later holder; one that is rolled back had our own fence.
    holder = other(pool, 2 if ends == "committed" else 1, manifest.load_id)
    outcome: list[object] = []

    def work() -> None:
        try:
            outcome.append(getattr(house, method)(THING, manifest, fence=1).results[0].loaded)
        except (LeaseLost, RetryableError) as error:
            outcome.append(type(error))

    thread = begin(pool, work, outcome)
    assert outcome in ([], [LeaseLost])  # it waits, or it saw the later fence and refused
    holder.hit(sql.COMMIT if ends == "committed" else sql.ROLLBACK)
    holder.close()
    thread.join(15)
    if ends == "committed":
        assert outcome == [LeaseLost]
        assert house.names(THING) == {"a": "x"}
        return
    assert outcome in ([1], [RetryableError])
    assert getattr(house, method)(THING, manifest, fence=1).results[0].loaded == 1
    assert house.names(THING) == {"a": "new"}


@pytest.mark.parametrize(("method", "rcsi"), [("load", True), ("load", False), ("replace", False)])
@pytest.mark.parametrize("ends", ["ROLLBACK", "COMMIT"])
def test_after_a_lost_commit_a_marker_counts_only_when_its_transaction_has_ended(
    house: House, monkeypatch: pytest.MonkeyPatch, method: str, rcsi: bool, ends: str
):
    """The pool has not noticed that its client is gone: the transaction stays open, and its marker can be read."""
    house.load(THING, house.land(THING, row("a", 1)))
    pool = snapshots(house, on=rcsi)
    manifest = house.land(THING, row("a", 2, "new"))
    run = Link._run
    lost: list[Any] = []
    outcome: list[object] = []

    def losing(link: Link, statement: Statement) -> Any:
        if statement is sql.COMMIT and not lost:
            lost.append(link._connection)
            link._connection = None
            raise Refused("commit", "the pool", "the network is gone", "08S01", None)
        return run(link, statement)

    def work() -> None:
        try:
            outcome.append(getattr(house, method)(THING, manifest).results[0].loaded)
        except RetryableError as error:
            outcome.append(error.message)

    monkeypatch.setattr(Link, "_run", losing)
    thread = begin(pool, work, outcome)
    assert outcome == []  # it waits for the transaction that it has lost sight of
    lost[0].exec_driver_sql(ends)
    lost[0].invalidate()
    thread.join(15)
    if ends == "COMMIT":
        assert outcome == [1]
    else:
        assert outcome == ["The connection was lost at COMMIT, and the load is not in the warehouse."]
    assert house.names(THING) == {"a": "new" if ends == "COMMIT" else "x"}


def begin(pool: RunningPool, work: Callable[[], None], outcome: list[object]) -> threading.Thread:
    """The work in a thread of its own that has come to an end or waits for a lock."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not outcome and not pool.pool.locks.waiting and time.monotonic() < until:
        time.sleep(0.01)
    return thread
