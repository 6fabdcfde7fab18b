"""COPY INTO from a real Azurite: types, credentials, folders, CSV, cuts."""

# ruff: noqa: DTZ001 - the pool's instants have no zone.
from __future__ import annotations

import datetime
import io
from decimal import Decimal
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pyodbc
import pytest

from tests.azurite import ACCOUNT, azurite
from tests.sandbox.synapse import PoolSandbox, number

HOST = f"https://{ACCOUNT}.blob.core.windows.net"


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    made = PoolSandbox(tmp_path_factory.mktemp("pool"))
    made.connect().execute("CREATE SCHEMA s")
    yield made
    made.hang_up()
    made.stop()


@pytest.fixture
def container():
    return azurite().service.create_container(f"c{uuid4().hex}")


def parquet(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def key() -> str:
    return f"CREDENTIAL = (IDENTITY = 'Storage Account Key', SECRET = '{azurite().key}')"


def copy(c: pyodbc.Connection, table: str, *urls: str, credential: str | None = None, host: str = HOST, more: str = ""):
    listed = ", ".join(f"'{host}/{u}'" for u in urls)
    return c.execute(f"COPY INTO {table} FROM {listed} WITH (FILE_TYPE = 'PARQUET', {credential or key()}{more})")


def refused(*given: object, **options: str) -> int:
    with pytest.raises(pyodbc.Error) as caught:
        copy(*given, **options)
    return number(caught.value)


@pytest.fixture
def c(pool: PoolSandbox):
    made = pool.connect()
    yield made
    pool.pool("reset", {})
    tidy = pool.connect()
    for (name,) in tidy.execute("SELECT name FROM sys.tables").fetchall():
        tidy.execute(f"DROP TABLE s.[{name}]")
    pool.hang_up()


def test_every_type_comes_in(c: pyodbc.Connection, container):
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
    container.upload_blob("a.parquet", parquet(rows, use_deprecated_int96_timestamps=True))
    c.execute(
        "CREATE TABLE s.t (i int, b bigint, t bit, f float, d decimal(38,9), x nvarchar(max), dt date, "
        "ts datetime2(6)) WITH (HEAP)"
    )
    assert copy(c, "s.t", f"{container.container_name}/a.parquet").rowcount == 2
    got = {tuple(r) for r in c.execute("SELECT * FROM s.t")}
    assert got == {tuple(r.values()) for r in rows.to_pylist()}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1], pa.int64()), "int"),
        (pa.array([1], pa.int32()), "bigint"),
        (pa.array([datetime.datetime(2024, 1, 1)], pa.timestamp("us")), "datetime2"),
        (pa.array([datetime.time(1)], pa.time64("us")), "time"),
        (pa.array(["x"]), "int"),
        (pa.array([[1]]), "nvarchar(max)"),
        (pa.array([Decimal("1.25")], pa.decimal128(10, 2)), "decimal(10,1)"),
    ],
)
def test_a_type_that_does_not_fit_fails_the_copy(c: pyodbc.Connection, container, values: pa.Array, kind: str):
    container.upload_blob("a.parquet", parquet(pa.table({"v": values})))
    c.execute(f"CREATE TABLE s.t (v {kind}) WITH (HEAP)")
    assert refused(c, "s.t", f"{container.container_name}/a.parquet") == 106000


def test_a_missing_column_and_a_long_text_fail_the_copy(c: pyodbc.Connection, container):
    container.upload_blob("a.parquet", parquet(pa.table({"v": ["abc"]})))
    c.execute("CREATE TABLE s.t (v nvarchar(2), w int) WITH (HEAP)")
    url = f"{container.container_name}/a.parquet"
    assert refused(c, "s.t", url) == 106000
    assert refused(c, "s.t ([v] 1)", url) == 107090
    c.execute("CREATE TABLE s.n (v nvarchar(9), w int NOT NULL) WITH (HEAP)")
    assert refused(c, "s.n ([v] 1)", url) == 105211


def test_a_column_list_puts_fields_where_it_says(c: pyodbc.Connection, container):
    container.upload_blob("a.parquet", parquet(pa.table({"p": ["x"], "q": ["y"]})))
    c.execute("CREATE TABLE s.t (one nvarchar(9), two nvarchar(9), three int) WITH (HEAP)")
    copy(c, "s.t ([one] 2, [two] 1)", f"{container.container_name}/a.parquet")
    assert tuple(c.execute("SELECT * FROM s.t").fetchone()) == ("y", "x", None)


def test_a_folder_is_read_without_its_hidden_files(c: pyodbc.Connection, container):
    for name in ("f/a.parquet", "f/deep/b.parquet", "f/_SUCCESS", "f/_old/c.parquet", "other.parquet"):
        container.upload_blob(name, parquet(pa.table({"v": [name]})))
    c.execute("CREATE TABLE s.t (v nvarchar(50)) WITH (HEAP)")
    copy(c, "s.t", f"{container.container_name}/f/")
    assert {r[0] for r in c.execute("SELECT v FROM s.t")} == {"f/a.parquet", "f/deep/b.parquet"}
    assert refused(c, "s.t", f"{container.container_name}/nothing/") == 110802


def test_credentials_are_checked(pool: PoolSandbox, c: pyodbc.Connection, container):
    container.upload_blob("a.parquet", parquet(pa.table({"v": [1]})))
    c.execute("CREATE TABLE s.t (v bigint) WITH (HEAP)")
    url = f"{container.container_name}/a.parquet"
    other = "CREDENTIAL = (IDENTITY = 'Storage Account Key', SECRET = 'd3Jvbmc=')"
    managed = "CREDENTIAL = (IDENTITY = 'Managed Identity')"
    assert refused(c, "s.t", url, credential=other) == 110802
    assert refused(c, "s.t", url, credential=managed) == 110802, "Parquet over the blob endpoint takes key and SAS"
    copy(c, "s.t", url, credential=managed, host=HOST.replace(".blob.", ".dfs."))
    pool.pool("settings", {"managed_identity_granted": False})
    assert refused(c, "s.t", url, credential=managed, host=HOST.replace(".blob.", ".dfs.")) == 110802
    commands = c.execute("SELECT command FROM sys.dm_pdw_exec_requests WHERE command LIKE 'COPY%'").fetchall()
    assert commands
    assert not any("d3Jvbmc=" in text for (text,) in commands)


def test_csv_with_line_feeds_and_quotes(c: pyodbc.Connection, container):
    container.upload_blob("a.csv", b'id,text\n1,"a,""b"\n2,\n3,""\n')
    c.execute("CREATE TABLE s.t (id int, v nvarchar(20)) WITH (HEAP)")
    c.execute(
        f"COPY INTO s.t FROM '{HOST}/{container.container_name}/a.csv' "
        f"WITH (FILE_TYPE = 'CSV', FIRSTROW = 2, ROWTERMINATOR = '0x0A', {key()})"
    )
    assert [tuple(r) for r in c.execute("SELECT id, v FROM s.t ORDER BY id")] == [(1, 'a,"b'), (2, None), (3, "")]


@pytest.mark.parametrize(("when", "rows"), [("before", 0), ("middle", 0), ("after", 2)])
def test_a_copy_that_is_cut_happened_whole_or_not_at_all(
    pool: PoolSandbox, c: pyodbc.Connection, container, when: str, rows: int
):
    for name in ("a.parquet", "b.parquet"):
        container.upload_blob(name, parquet(pa.table({"v": [name]})))
    c.execute("CREATE TABLE s.t (v nvarchar(50)) WITH (HEAP)")
    pool.pool("faults", {"cut": {"match": "^COPY", "when": when}})
    with pytest.raises(pyodbc.Error):
        copy(c, "s.t", f"{container.container_name}/a.parquet", f"{container.container_name}/b.parquet")
    assert pool.connect().execute("SELECT COUNT(*) FROM s.t").fetchval() == rows


def test_an_external_table_reads_its_folder(c: pyodbc.Connection, container):
    container.upload_blob("f/a.parquet", parquet(pa.table({"other": ["x"], "n": [7]})))
    c.execute("CREATE MASTER KEY")
    c.execute(f"CREATE DATABASE SCOPED CREDENTIAL k WITH IDENTITY = 'Storage Account Key', SECRET = '{azurite().key}'")
    place = f"wasbs://{container.container_name}@{ACCOUNT}.blob.core.windows.net"
    c.execute(f"CREATE EXTERNAL DATA SOURCE d WITH (LOCATION = '{place}', CREDENTIAL = k, TYPE = HADOOP)")
    c.execute("CREATE EXTERNAL FILE FORMAT p WITH (FORMAT_TYPE = PARQUET)")
    c.execute(
        "CREATE EXTERNAL TABLE s.x (v nvarchar(9), n bigint) WITH (LOCATION = '/f/', DATA_SOURCE = d, FILE_FORMAT = p)"
    )
    c.execute("CREATE TABLE s.t WITH (DISTRIBUTION = ROUND_ROBIN, HEAP) AS SELECT v, n FROM s.x")
    assert tuple(c.execute("SELECT v, n FROM s.t").fetchone()) == ("x", 7)
    c.execute("DROP EXTERNAL TABLE s.x")
