"""The serverless endpoint beside the pool: what it reads from a real Azurite, and what it refuses, by name."""

# ruff: noqa: DTZ001 - instants of Parquet files have no zone here.
from __future__ import annotations

import datetime
import io
import json
import tomllib
from decimal import Decimal
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pyodbc
import pytest

from tests.azurite import ACCOUNT, azurite
from tests.sandbox.synapse import PoolSandbox, number

#: Of refusals whose real number is not known.
UNKNOWN = 104998


def parquet(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def rowset(path: str, columns: str) -> str:
    return f"OPENROWSET(BULK {path}, DATA_SOURCE = 'lake', FORMAT = 'PARQUET') WITH ({columns}) AS r"


class Door(PoolSandbox):
    """Connects to the serverless endpoint; ``lake`` is a container with two files."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.warehouse = tomllib.loads((folder / "secrets.toml").read_text())["serverless"]
        self.port = json.loads((folder / "sandbox.json").read_text())["serverless_port"]
        self.container = azurite().service.create_container(f"c{uuid4().hex}")
        self.place = f"https://{ACCOUNT}.dfs.core.windows.net/{self.container.container_name}"
        for name in ("f/a.parquet", "f/deep/b.parquet", "f/_hidden.parquet"):
            self.container.upload_blob(name, parquet(pa.table({"v": [name], "n": [7]})))
        c = self.connect()
        c.execute("CREATE MASTER KEY ENCRYPTION BY PASSWORD = 'x'")
        c.execute("CREATE DATABASE SCOPED CREDENTIAL who WITH IDENTITY = 'Managed Identity'")
        c.execute(f"CREATE EXTERNAL DATA SOURCE lake WITH (LOCATION = '{self.place}', CREDENTIAL = who)")
        c.execute("CREATE EXTERNAL FILE FORMAT files WITH (FORMAT_TYPE = PARQUET)")
        c.execute("CREATE SCHEMA s")


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    made = Door(tmp_path_factory.mktemp("serverless"))
    yield made
    made.hang_up()
    made.stop()


@pytest.fixture
def c(door: Door):
    yield door.connect()
    door.pool("settings", {"managed_identity_granted": True})
    door.hang_up()


def refused(c: pyodbc.Connection, text: str) -> tuple[int, str]:
    with pytest.raises(pyodbc.Error) as caught:
        c.execute(text).fetchall()
    return number(caught.value), str(caught.value.args[1])


def test_it_is_another_door_with_the_same_login(door: Door, c: pyodbc.Connection):
    assert door.warehouse["port"] == door.port
    assert c.execute("SELECT CAST(SERVERPROPERTY('EngineEdition') AS int)").fetchval() == 11
    with pytest.raises(pyodbc.Error):
        door.connect(password="wrong")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("'f/a.parquet'", {"f/a.parquet"}),
        ("('f/a.parquet', 'f/deep/b.parquet')", {"f/a.parquet", "f/deep/b.parquet"}),
        ("'f/*.parquet'", {"f/a.parquet", "f/_hidden.parquet"}),
        ("'f'", {"f/a.parquet", "f/_hidden.parquet"}),
        ("'f/**'", {"f/a.parquet", "f/_hidden.parquet", "f/deep/b.parquet"}),
        ("'*/*/b.parquet'", {"f/deep/b.parquet"}),
    ],
)
def test_paths(c: pyodbc.Connection, path: str, found: set[str]):
    assert {v for (v,) in c.execute(f"SELECT v FROM {rowset(path, 'v nvarchar(50)')}")} == found


def test_names_of_files_and_parts_of_paths(c: pyodbc.Connection):
    text = f"SELECT r.filename(), r.filepath(), r.filepath(2), r.n FROM {rowset(repr('f/*/*.parquet'), 'n bigint')}"
    assert [tuple(r) for r in c.execute(text)] == [("b.parquet", "f/deep/b.parquet", "b", 7)]


def test_columns_are_found_by_name_as_it_is_written(c: pyodbc.Connection):
    text = f"SELECT V, n, w FROM {rowset(repr('f/a.parquet'), 'V nvarchar(50), n bigint, w int')}"
    assert tuple(c.execute(text).fetchone()) == (None, 7, None)


def test_every_type_comes_in(door: Door, c: pyodbc.Connection):
    moment = datetime.datetime(2024, 2, 29, 12, 0, 0, 123456)
    rows = pa.table(
        {
            "i": pa.array([-(2**31), None], pa.int32()),
            "b": pa.array([2**63 - 1, None], pa.int64()),
            "t": pa.array([True, None]),
            "f": pa.array([1.5, None], pa.float64()),
            "d": pa.array([Decimal("9" * 29 + "." + "9" * 9), None], pa.decimal128(38, 9)),
            "x": pa.array(["😀" * 1000, ""]),
            "dt": pa.array([datetime.date(9999, 12, 31), datetime.date(1, 1, 1)]),
            "ts": pa.array([moment, None], pa.timestamp("us")),
        }
    )
    door.container.upload_blob("types.parquet", parquet(rows), overwrite=True)
    columns = "i int, b bigint, t bit, f float, d decimal(38,9), x nvarchar(max), dt date, ts datetime2(6)"
    got = {tuple(r) for r in c.execute(f"SELECT * FROM {rowset(repr('types.parquet'), columns)}")}
    assert got == {tuple(r.values()) for r in rows.to_pylist()}, "MICROS are read here"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1], pa.int64()), "int"),
        (pa.array(["x"]), "bigint"),
        (pa.array([datetime.datetime(2024, 1, 1)], pa.timestamp("ns")), "datetime2(6)"),
        (pa.array([Decimal("1.25")], pa.decimal128(10, 2)), "decimal(10,1)"),
    ],
)
def test_a_type_that_does_not_fit_is_refused(door: Door, c: pyodbc.Connection, values: pa.Array, kind: str):
    door.container.upload_blob("odd.parquet", parquet(pa.table({"v": values}), version="2.6"), overwrite=True)
    found, said = refused(c, f"SELECT v FROM {rowset(repr('odd.parquet'), f'v {kind}')}")
    assert found == UNKNOWN
    assert "Column 'v' of type" in said


def test_the_credential_is_checked(door: Door, c: pyodbc.Connection):
    door.pool("settings", {"managed_identity_granted": False})
    found, said = refused(c, f"SELECT v FROM {rowset(repr('f/a.parquet'), 'v nvarchar(50)')}")
    assert (found, "not authorized" in said) == (110802, True)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("CREATE TABLE s.t (v int)", "CREATE TABLE"),
        ("INSERT INTO s.t (v) VALUES (1)", "INSERT"),
        ("UPDATE s.t SET v = 1", "UPDATE"),
        ("DELETE FROM s.t", "DELETE"),
        ("MERGE s.t USING s.u ON 1 = 1", "MERGE"),
        ("TRUNCATE TABLE s.t", "TRUNCATE TABLE"),
        ("COPY INTO s.t FROM 'x'", "COPY INTO"),
        ("BEGIN TRANSACTION", "BEGIN TRANSACTION"),
        ("SELECT 1 OPTION (LABEL = 'x')", "OPTION (LABEL)"),
        ("SELECT @@TRANCOUNT", "'@@TRANCOUNT'"),
        ("CREATE EXTERNAL DATA SOURCE h WITH (LOCATION = 'abfss://c@a.dfs.core.windows.net', TYPE = HADOOP)", "HADOOP"),
    ],
)
def test_what_serverless_lacks_is_refused_by_name(c: pyodbc.Connection, text: str, named: str):
    found, said = refused(c, text)
    assert (found, f"{named} is not supported" in said) == (UNKNOWN, True), said


@pytest.mark.parametrize(
    "text",
    [
        "CREATE DATABASE SCOPED CREDENTIAL k WITH IDENTITY = 'Storage Account Key', SECRET = 'x'",
        "CREATE EXTERNAL TABLE s.x WITH (LOCATION = '/x', DATA_SOURCE = lake, FILE_FORMAT = files) AS SELECT 1 AS a",
        "SELECT * FROM OPENROWSET(BULK 'f/a.parquet', DATA_SOURCE = 'lake', FORMAT = 'PARQUET') AS r",
        "SELECT * FROM OPENROWSET(BULK 'f/a.csv', DATA_SOURCE = 'lake', FORMAT = 'CSV') WITH (v nvarchar(9)) AS r",
        "SELECT v FROM OPENROWSET(BULK 'https://x/f', FORMAT = 'PARQUET') WITH (v nvarchar(9)) AS r",
        "SELECT v FROM OPENROWSET(BULK 'f', DATA_SOURCE = 'lake', FORMAT = 'PARQUET') WITH (v nvarchar(9) '$.v') AS r",
        "EXEC sp_set_data_processed_limit @type = N'hourly', @limit_tb = 1",
    ],
)
def test_forms_that_the_stand_in_does_not_know_are_named(c: pyodbc.Connection, text: str):
    found, said = refused(c, text)
    assert (found, "stand-in: not offered: " in said) == (104999, True), said


def test_a_view_is_a_text_that_reads_when_it_is_asked(door: Door, c: pyodbc.Connection):
    c.execute(f"CREATE VIEW s.late AS SELECT r.v FROM {rowset(repr('late.parquet'), 'v nvarchar(9)')}")
    found, said = refused(c, "SELECT * FROM s.late")
    assert (found, "cannot be listed" in said) == (UNKNOWN, True)
    door.container.upload_blob("late.parquet", parquet(pa.table({"v": ["here"]})))
    assert c.execute("SELECT v FROM s.late").fetchval() == "here"
    assert refused(c, "CREATE VIEW s.late AS SELECT 1 AS a")[0] == 2714
    c.execute("ALTER VIEW s.late AS SELECT 1 AS a")
    assert c.execute("SELECT * FROM s.late").fetchval() == 1
    assert refused(c, "ALTER VIEW s.none AS SELECT 1 AS a")[0] == 3701
    c.execute("DROP VIEW s.late")
    assert refused(c, "SELECT * FROM s.late")[0] == 208


def test_data_is_counted_and_limited(c: pyodbc.Connection):
    def processed() -> int:
        return c.execute("SELECT data_processed_mb FROM sys.dm_external_data_processed WHERE type = 'daily'").fetchval()

    before = processed()
    c.execute(f"SELECT COUNT_BIG(*) FROM {rowset(repr('f/**'), 'n bigint')}").fetchall()
    c.execute("SELECT name FROM sys.views").fetchall()
    assert processed() - before == 10, "10 MB at least for a query, nothing for one of metadata"
    c.execute("EXEC sp_set_data_processed_limit @type = N'weekly', @limit_tb = 3")
    limits = c.execute("SELECT value_in_use FROM sys.configurations WHERE name LIKE 'Data processed week%'")
    assert limits.fetchval() == 3
