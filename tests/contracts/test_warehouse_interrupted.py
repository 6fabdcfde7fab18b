"""A statement of a load that is cancelled, or takes too long, ends soon and leaves nothing behind."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from novade_core.errors import RetryableError
from novade_core.warehouse.synapse_link import Link, Refused
from novade_core.warehouse.synapse_sql import STAGE_SCHEMA, Statement
from tests.azurite import azurite
from tests.contracts.houses import ADAPTERS, House, row, stream
from tests.pools import RunningPool, blob_of, pool_in

THING = stream()
#: Statements of a load: outside of its transaction, and in it.
LONG = {"COPY": "^COPY INTO", "INSERT": r"^INSERT INTO \[test\]"}
_BUSY = {"COPY": "^COPY INTO", "INSERT": "^INSERT INTO s.t SELECT"}
#: A cancel has to reach the pool and its answer us; the machine may be busy.
SOON = 2.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(adapter=ADAPTERS["synapse"], folder=tmp_path)
    yield house
    house.close()


@pytest.fixture
def pool(house: House) -> RunningPool:
    return pool_in(house.folder)


class Interrupter(threading.Thread):
    """Waits until the pool runs a statement, then interrupts; ``at`` is when."""

    def __init__(self, pool: RunningPool, pattern: str, interrupt: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.pool, self.pattern, self.interrupt = pool, pattern, interrupt
        self.at = 0.0

    def run(self) -> None:
        until = time.monotonic() + 20
        while not self._runs() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        self.at = time.monotonic()
        self.interrupt()

    def _runs(self) -> bool:
        return any(r.status == "Running" and re.search(self.pattern, r.command) for r in [*self.pool.pool.requests])


def unchanged_and_free(house: House) -> None:
    """The first load's row is there, the second's is not, nor is anything staged; the fence is free; nothing runs."""
    assert house.names(THING) == {"a": "old"}
    staged = "SELECT t.name FROM sys.tables AS t JOIN sys.schemas AS s ON s.schema_id = t.schema_id WHERE s.name = '{}'"
    assert house.query(staged.format(STAGE_SCHEMA)) == []
    (again,) = house.load(THING, house.land(THING, row("a", 2, "new"))).results
    assert again.loaded == 1
    assert house.names(THING) == {"a": "new"}
    assert all(r.status != "Running" for r in pool_in(house.folder).pool.requests)


@pytest.mark.parametrize("word", LONG)
def test_an_interrupt_ends_the_load(house: House, pool: RunningPool, word: str):
    house.load(THING, house.land(THING, row("a", 1, "old")))
    landed = house.land(THING, row("b", 1))
    pool.pool.faults.update({"slow": {"seconds": 30, "match": LONG[word]}})
    told = pytest.raises(RetryableError, match=f"The step {word.lower()} on 127.0.0.1 was interrupted")
    with told, pool.warehouse(tries=3).session() as session:
        waiting = Interrupter(pool, LONG[word], session.interrupt)
        waiting.start()
        session.load(house.request(THING, [landed]))
    assert time.monotonic() - waiting.at < SOON
    unchanged_and_free(house)


def test_a_statement_beyond_its_time_ends_the_load(house: House, pool: RunningPool):
    house.load(THING, house.land(THING, row("a", 1, "old")))
    landed = house.land(THING, row("b", 1))
    pool.pool.faults.update({"slow": {"seconds": 30, "match": LONG["INSERT"]}})
    begun = time.monotonic()
    told = pytest.raises(RetryableError, match="took too long over the step insert")
    with told, pool.warehouse(statement_timeout_seconds=1).session() as session:
        session.load(house.request(THING, [landed]))
    assert time.monotonic() - begun < 1 + 2 * SOON
    unchanged_and_free(house)


@pytest.fixture
def busy(house: House, pool: RunningPool) -> dict[str, str]:
    """Statements that keep the pool's engine at work for many seconds, and the table that they fill."""
    file = house.folder / "long.parquet"
    with pyarrow.parquet.ParquetWriter(file, pa.schema({"n": pa.int64()})) as writer:
        zeroes = pa.table({"n": pa.nulls(4_000_000, pa.int64())})
        for _ in range(80):
            writer.write_table(zeroes)
    tens = " UNION ALL ".join(["SELECT 1"] * 10)
    for text in (
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (n bigint) WITH (HEAP)",
        "CREATE TABLE s.d (n bigint) WITH (HEAP)",
    ):
        pool.execute(text)
    pool.execute(f"INSERT INTO s.d {tens}")
    return {
        "COPY": f"COPY INTO s.t (n 1) FROM '{blob_of(str(file))}' WITH (FILE_TYPE = 'PARQUET', "
        f"CREDENTIAL = (IDENTITY = 'Storage Account Key', SECRET = '{azurite().key}'))",
        "INSERT": "INSERT INTO s.t SELECT a.n FROM " + ", ".join(f"s.d AS {name}" for name in "abcdefghij"),
    }


def test_what_keeps_the_engine_itself_busy_is_cancelled_or_runs_out_of_time(pool: RunningPool, busy: dict[str, str]):
    patient, impatient = Link(pool.settings()), Link(pool.settings(statement_timeout_seconds=1))
    for word, text in busy.items():
        for link in (patient, impatient):
            waiting = Interrupter(pool, _BUSY[word], patient.cancel)
            if link is patient:
                waiting.start()
            begun = time.monotonic()
            link.hit(Statement("begin", "BEGIN TRANSACTION", labelled=False))
            link.hit(Statement("first", "INSERT INTO s.t VALUES (1)", labelled=False))
            with pytest.raises(Refused) as caught:
                link.hit(Statement("long", text))
            assert (caught.value.cancelled, caught.value.timed_out) == (link is patient, link is impatient)
            assert time.monotonic() - (waiting.at or begun + 1) < SOON
            link.close()
            assert patient.rows(Statement("count", "SELECT COUNT(*) FROM s.t", labelled=False)) == [(0,)]
