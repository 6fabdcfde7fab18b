"""What another session has not committed is never believed, whether readers see it (RCSI off) or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from novade_core.errors import LeaseLost, RetryableError
from novade_core.warehouse import synapse_sql as sql
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_sql import Statement
from tests.contracts.houses import ADAPTERS, House, row, stream
from tests.pools import RunningPool, pool_in

THING = stream()


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


@pytest.mark.parametrize("rcsi", [True, False])
@pytest.mark.parametrize("method", ["load", "replace"])
@pytest.mark.parametrize("ends", ["rolled back", "committed"])
def test_a_marker_that_is_not_committed_is_waited_for(house: House, method: str, ends: str, rcsi: bool):
    house.load(THING, house.land(THING, row("a", 1)))
    pool = pool_in(house.folder)
    pool.pool.catalog.put_named("option", "rcsi", {"on": rcsi}, replace=True)
    manifest = house.land(THING, row("a", 2, "new"))
    # One that ends well is a later holder; one that is rolled back had our own fence.
    holder = other(pool, 2 if ends == "committed" else 1, manifest.load_id)
    outcome: list[object] = []

    def work() -> None:
        try:
            outcome.append(getattr(house, method)(THING, manifest, fence=1).results[0].loaded)
        except (LeaseLost, RetryableError) as error:
            outcome.append(type(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not outcome and not pool.pool.locks.waiting and time.monotonic() < until:
        time.sleep(0.01)
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
