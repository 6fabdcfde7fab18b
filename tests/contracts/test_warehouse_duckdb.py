"""What is particular to the embedded warehouse: one file, one process, and how that fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from novade_core.errors import NovadeError, StorageRefused, WarehouseBusy
from novade_core.settings import WarehouseSettings
from novade_core.streams import Column, ColumnType
from novade_core.warehouse.duckdb import DuckDBWarehouse
from novade_core.warehouse.schema import duckdb_type, widened
from tests.contracts.houses import ADAPTERS, House, row, stream
from tests.contracts.refusals import files_end_at, mode

THING = stream()
HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.readline()"


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """The file is open in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other
        other.kill()


def warehouse(path: Path, wait: float = 0.3) -> DuckDBWarehouse:
    return DuckDBWarehouse(WarehouseSettings(path=path, busy_wait_seconds=wait))


def test_a_file_held_by_another_process_is_busy_after_the_wait_and_names_the_process(tmp_path):
    path = tmp_path / "w.duckdb"
    with held_elsewhere(path) as other:
        begun = time.monotonic()
        with pytest.raises(WarehouseBusy, match=f"held by process {other.pid}") as busy, warehouse(path).session():
            pass
        assert 0.3 <= time.monotonic() - begun < 5
    assert busy.value.retryable
    assert str(other.pid) in busy.value.hint
    assert str(path) in busy.value.message


def test_a_file_that_is_let_go_in_time_is_opened(tmp_path):
    path = tmp_path / "w.duckdb"
    with held_elsewhere(path) as other:
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        with warehouse(path, wait=30).session() as session:
            assert session.count(THING) is None


def test_a_session_lets_go_of_the_file_also_when_it_fails(tmp_path):
    path = tmp_path / "w.duckdb"
    with pytest.raises(RuntimeError, match="stop"), warehouse(path).session():
        raise RuntimeError("stop")
    with held_elsewhere(path):
        pass


def test_a_read_only_folder_is_refused_with_the_next_step(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    with (
        mode(folder, 0o555),
        pytest.raises(StorageRefused, match="cannot be written") as refused,
        warehouse(folder / "w.duckdb").session(),
    ):
        pass
    assert refused.value.origin_of_fault == "warehouse"
    assert str(folder) in refused.value.hint


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageRefused, match="cannot be written"), warehouse(tmp_path / "file" / "w.duckdb").session():
        pass


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"\0" * 20_000], ids=["text", "zeros"])
def test_a_corrupted_file_is_a_clear_error_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "w.duckdb"
    path.write_bytes(content)
    with pytest.raises(NovadeError, match=r"w\.duckdb") as refused, warehouse(path).session():
        pass
    assert refused.value.hint
    assert path.read_bytes() == content


def test_a_file_that_lost_its_end_is_a_clear_error(tmp_path):
    house = House(adapter=ADAPTERS["duckdb"], folder=tmp_path)
    house.load(THING, house.land(THING, *(row(f"{i:05d}", 1, os.urandom(40).hex()) for i in range(5_000))))
    house.close()
    path = tmp_path / "warehouse.duckdb"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(NovadeError) as refused, house.session() as session:
        session.load(house.request(THING, [house.land(THING, row("new", 1))]))
    assert refused.value.origin_of_fault == "warehouse"


def test_a_disk_that_fills_up_in_a_load_is_refused_and_the_table_stays(tmp_path):
    house = House(adapter=ADAPTERS["duckdb"], folder=tmp_path)
    house.load(THING, house.land(THING, row("a", 1)))
    before = house.names(THING)
    big = house.land(THING, *(row(f"{i:05d}", 1, os.urandom(200).hex()) for i in range(20_000)))
    house.close()
    with files_end_at(1 << 20), pytest.raises(StorageRefused) as refused:
        house.load(THING, big)
    assert refused.value.origin_of_fault == "warehouse"
    assert house.names(THING) == before


def test_statements_and_values_never_enter_an_error(tmp_path):
    house = House(adapter=ADAPTERS["duckdb"], folder=tmp_path)
    house.load(THING, house.land(THING, row("a", 1)))
    house.execute('ALTER TABLE test.thing DROP COLUMN "Stamp"')
    with pytest.raises(NovadeError) as refused, house.session() as session:
        session.counts_by_month(THING, "Stamp")
    assert "Stamp" not in refused.value.message
    assert "SELECT" not in refused.value.message
    house.close()


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "wanted", "expected"),
    [
        ("INTEGER", "INTEGER", "INTEGER"),
        ("INTEGER", "BIGINT", "BIGINT"),
        ("BIGINT", "INTEGER", "BIGINT"),
        ("INTEGER", "DECIMAL(18,2)", "DECIMAL(18,2)"),
        ("BIGINT", "DECIMAL(18,2)", "DECIMAL(21,2)"),
        ("DECIMAL(10,2)", "DECIMAL(8,6)", "DECIMAL(14,6)"),
        ("DECIMAL(38,0)", "DECIMAL(38,2)", None),
        ("DECIMAL(30,20)", "BIGINT", None),
        ("INTEGER", "DOUBLE", None),
        ("DOUBLE", "DECIMAL(18,2)", None),
        ("DATE", "TIMESTAMP", None),
        ("BOOLEAN", "INTEGER", None),
        ("INTEGER", "VARCHAR", None),
        ("VARCHAR", "INTEGER", None),
    ],
)
def test_a_type_widens_only_where_nothing_is_lost(current, wanted, expected):
    assert widened(current, wanted) == expected


@pytest.mark.parametrize("kind", [k for k in ColumnType if k is not ColumnType.DECIMAL])
def test_every_type_has_a_name_in_duckdb(kind):
    assert duckdb_type(Column(name="x", type=kind)).isupper()


@pytest.mark.parametrize(("precision", "scale"), [(None, None), (0, 0), (39, 0), (10, 11), (10, -1), (10, None)])
def test_a_decimal_without_sensible_digits_is_no_type(precision, scale):
    with pytest.raises(ValueError, match="is not a type"):
        duckdb_type(Column(name="x", type=ColumnType.DECIMAL, precision=precision, scale=scale))
