"""The pool through real drivers: login, values, parameters, transactions, cancel, faults."""

# ruff: noqa: DTZ001 - the pool's instants have no zone.
from __future__ import annotations

import datetime
import threading
import time
from decimal import Decimal

import pyodbc
import pytest

from tests.sandbox.synapse import PoolSandbox, number

DRIVERS = ("microsoft", "freetds")


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    made = PoolSandbox(tmp_path_factory.mktemp("pool"))
    made.connect().execute("CREATE SCHEMA s")
    yield made
    made.hang_up()
    made.stop()


@pytest.fixture
def pool(started: PoolSandbox):
    started.pool("reset", {})
    yield started
    started.hang_up()
    started.pool("reset", {})
    if started.pool("state")["status"] == "Paused":
        started.pool("state", {"resume": True})
    tidy = started.connect()
    tables = tidy.execute("SELECT name FROM sys.tables").fetchall()
    for (name,) in tables:
        tidy.execute(f"DROP TABLE s.[{name}]")
    started.hang_up()


def refused(connection: pyodbc.Connection, text: str, *values: object) -> int:
    with pytest.raises(pyodbc.Error) as caught:
        connection.execute(text, *values)
    return number(caught.value)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_login_needs_its_password_and_a_known_database(pool: PoolSandbox, driver: str):
    assert pool.connect(driver=driver).execute("SELECT 1").fetchval() == 1
    with pytest.raises(pyodbc.Error, match="Login failed"):
        pool.connect(driver=driver, password="another")
    with pytest.raises(pyodbc.Error, match="Cannot open database"):
        pool.connect(driver=driver, database="another")


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_smoke_of_statements(pool: PoolSandbox, driver: str):
    c = pool.connect(driver=driver)
    c.execute("CREATE TABLE s.t (a nvarchar(20), b int) WITH (DISTRIBUTION = ROUND_ROBIN, HEAP)")
    assert c.execute("INSERT INTO s.t (a, b) VALUES (?, ?)", "ä😀", 1).rowcount == 1
    assert c.execute("INSERT INTO s.t (a, b) VALUES (?, ?)", "x", None).rowcount == 1
    assert c.execute("UPDATE s.t SET b = 2 WHERE b = ?", 1).rowcount == 1
    assert [tuple(r) for r in c.execute("SELECT a, b FROM s.t ORDER BY b")] == [("x", None), ("ä😀", 2)]
    c.autocommit = False
    c.execute("DELETE FROM s.t")
    c.rollback()
    assert c.execute("SELECT COUNT(*) FROM s.t").fetchval() == 2


VALUES = [
    ("bit", True), ("int", -(2**31)), ("int", 2**31 - 1), ("bigint", -(2**63)), ("bigint", 2**63 - 1),
    ("float", 1.7976931348623157e308), ("float", 5e-324), ("decimal(38,0)", Decimal("9" * 38)),
    ("decimal(38,38)", Decimal("-0." + "9" * 38)), ("decimal(38,9)", Decimal("9" * 29 + "." + "1" * 9)),
    ("date", datetime.date(1, 1, 1)), ("date", datetime.date(9999, 12, 31)),
    ("datetime2(7)", datetime.datetime(1, 1, 1)), ("datetime2(7)", datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ("nvarchar(4000)", "é" * 4000), ("nvarchar(max)", "😀é" * 333_334), ("nvarchar(20)", "😀" * 10),
    ("nvarchar(5)", ""),
    ("varbinary(8000)", b"\x00\xff" * 4000),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=lambda v: ascii(v)[:30])
def test_values_at_their_limits_come_back(pool: PoolSandbox, kind: str, value: object):
    c = pool.connect()
    c.execute(f"CREATE TABLE s.v (v {kind}, n {kind}) WITH (HEAP)")
    c.execute("INSERT INTO s.v (v) VALUES (?)", value)
    got = c.execute("SELECT v, n FROM s.v").fetchone()
    assert got[0] == value
    assert type(got[0]) is type(value)
    assert got[1] is None


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_column_without_a_name_has_none_however_long_its_text(pool: PoolSandbox, driver: str):
    c = pool.connect(driver=driver)
    c.execute("CREATE TABLE s.t (a int, b nvarchar(20)) WITH (HEAP)")
    c.execute("INSERT INTO s.t VALUES (1, 'x')")
    long = " + ".join(["a"] * 80)
    k = c.cursor()

    def names(text: str) -> list[str]:
        k.execute(text)
        told = [d[0] for d in k.description]
        assert len(k.fetchall()) > 0
        return told

    assert names(f"SELECT {long}, COUNT(*) AS n, a, (a), MAX(b), 'text' FROM s.t GROUP BY a") == [
        "", "n", "a", "a", "", "",
    ]  # fmt: skip
    assert names(f"SELECT {long}, *, UPPER(b), x.b FROM s.t AS x") == ["", "a", "b", "", "b"]
    assert names("SELECT 1 UNION ALL SELECT a AS m FROM s.t") == [""]


def test_a_text_beyond_its_column_is_refused(pool: PoolSandbox):
    c = pool.connect()
    c.execute("CREATE TABLE s.t (a nvarchar(2)) WITH (HEAP)")
    assert refused(c, "INSERT INTO s.t VALUES (N'abc')") == 8152
    assert refused(c, "INSERT INTO s.t VALUES (N'a😀')") == 8152, "a character beyond U+FFFF counts twice"


def test_equality_ignores_case_except_in_binary_collations(pool: PoolSandbox):
    c = pool.connect()
    c.execute("CREATE TABLE s.t (a nvarchar(5), b nvarchar(5) COLLATE Latin1_General_100_BIN2) WITH (HEAP)")
    c.execute("INSERT INTO s.t VALUES ('x', 'x')")
    found = c.execute("SELECT COUNT(CASE WHEN a = 'X' THEN 1 END), COUNT(CASE WHEN b = 'X' THEN 1 END) FROM s.t")
    assert tuple(found.fetchone()) == (1, 0)
    assert refused(c, "SELECT 1 FROM s.t WHERE a = b") == 468


def test_a_prepared_statement_runs_again(pool: PoolSandbox):
    k = pool.connect().cursor()
    assert [k.execute("SELECT ? + 1", n).fetchval() for n in range(5)] == [1, 2, 3, 4, 5]


def test_fast_executemany_is_not_offered(pool: PoolSandbox):
    c = pool.connect()
    c.execute("CREATE TABLE s.t (a int) WITH (HEAP)")
    k = c.cursor()
    k.fast_executemany = True
    with pytest.raises(pyodbc.Error):
        k.executemany("INSERT INTO s.t VALUES (?)", [("x",), ("y",)])


def test_a_query_timeout_ends_the_statement_and_the_session_goes_on(pool: PoolSandbox):
    c = pool.connect()
    pool.pool("faults", {"slow": {"seconds": 30, "match": "SELECT 7"}})
    c.timeout = 1
    begun = time.monotonic()
    with pytest.raises(pyodbc.Error) as caught:
        c.execute("SELECT 7")
    assert caught.value.args[0] == "HYT00"
    assert time.monotonic() - begun < 10
    c.timeout = 0
    assert c.execute("SELECT 8").fetchval() == 8


def test_an_error_kills_the_transaction(pool: PoolSandbox):
    c = pool.connect()
    c.execute("CREATE TABLE s.t (a int) WITH (HEAP)")
    c.execute("BEGIN TRANSACTION")
    c.execute("INSERT INTO s.t VALUES (1)")
    assert refused(c, "SELECT nothing FROM s.t") == 207
    assert refused(c, "SELECT 1") == 111233
    assert refused(c, "ROLLBACK") == 111214
    assert c.execute("SELECT COUNT(*) FROM s.t").fetchval() == 0


def test_readers_see_uncommitted_rows_unless_rcsi_is_on(pool: PoolSandbox):
    writer, reader = pool.connect(), pool.connect()
    writer.execute("CREATE TABLE s.t (a int) WITH (HEAP)")
    writer.execute("INSERT INTO s.t VALUES (1)")
    try:
        for on, seen in (("OFF", 5), ("ON", 1)):
            master = pool.connect(database="master")
            master.execute(f"ALTER DATABASE novade SET READ_COMMITTED_SNAPSHOT {on}")
            writer.execute("BEGIN TRANSACTION")
            writer.execute("UPDATE s.t SET a = 5")
            assert reader.execute("SELECT a FROM s.t").fetchval() == seen
            writer.execute("ROLLBACK")
            assert reader.execute("SELECT a FROM s.t").fetchval() == 1
    finally:
        pool.connect(database="master").execute("ALTER DATABASE novade SET READ_COMMITTED_SNAPSHOT OFF")


def test_a_second_writer_waits_and_then_sees_the_new_value(pool: PoolSandbox):
    first, second = pool.connect(), pool.connect()
    first.execute("CREATE TABLE s.f (k nvarchar(5), v int) WITH (DISTRIBUTION = HASH(k), HEAP)")
    first.execute("INSERT INTO s.f SELECT 'a', 1 UNION ALL SELECT 'b', 1")
    first.execute("BEGIN TRANSACTION")
    first.execute("UPDATE s.f SET v = 7 WHERE k = 'a'")
    second.execute("UPDATE s.f SET v = 2 WHERE k = 'b'")
    hit: list[int] = []
    waits = threading.Thread(
        target=lambda: hit.append(second.execute("UPDATE s.f SET v = 3 WHERE k = ? AND v <= ?", "a", 3).rowcount)
    )
    waits.start()
    waits.join(0.5)
    assert waits.is_alive()
    first.execute("COMMIT")
    waits.join(10)
    assert hit == [0], "it compared with the value that the first writer committed"


def test_a_transaction_sees_what_others_commit_meanwhile(pool: PoolSandbox):
    one, two = pool.connect(), pool.connect()
    one.execute("CREATE TABLE s.a (n int) WITH (HEAP)")
    one.execute("CREATE TABLE s.b (n int) WITH (HEAP)")
    one.execute("BEGIN TRANSACTION")
    one.execute("INSERT INTO s.a VALUES (1)")
    two.execute("INSERT INTO s.b VALUES (2)")
    assert one.execute("UPDATE s.b SET n = 3").rowcount == 1
    one.execute("COMMIT")
    assert two.execute("SELECT (SELECT n FROM s.a) + (SELECT n FROM s.b)").fetchval() == 4


def test_a_transaction_that_begins_anew_keeps_the_uncommitted_rows_that_it_reads(pool: PoolSandbox):
    one, two, three = pool.connect(), pool.connect(), pool.connect()
    for name in ("mine", "kept", "theirs", "other"):
        one.execute(f"CREATE TABLE s.{name} (n int) WITH (HEAP)")
    one.execute("INSERT INTO s.kept VALUES (1)")
    two.execute("BEGIN TRANSACTION")
    two.execute("INSERT INTO s.theirs VALUES (1)")
    one.execute("BEGIN TRANSACTION")
    one.execute("INSERT INTO s.mine VALUES (1)")
    three.execute("INSERT INTO s.kept VALUES (2)")
    assert one.execute("DELETE FROM s.kept WHERE n IN (SELECT n FROM s.theirs)").rowcount == 1
    three.execute("INSERT INTO s.other VALUES (1)")
    assert one.execute("UPDATE s.other SET n = 9").rowcount == 1, "before it, the deletion is done again"
    one.execute("COMMIT")
    two.execute("ROLLBACK")
    assert [n for (n,) in two.execute("SELECT n FROM s.kept")] == [2]


def test_a_transaction_that_read_what_others_changed_goes_on_where_it_would_write_the_same(pool: PoolSandbox):
    one, two = pool.connect(), pool.connect()
    for name in ("held", "staged"):
        one.execute(f"CREATE TABLE s.{name} (k nvarchar(5), n int) WITH (HEAP)")
    one.execute("INSERT INTO s.held SELECT 'a', 1 UNION ALL SELECT 'b', 1")
    copy = "INSERT INTO s.staged SELECT k, n FROM s.held WHERE k = 'a'"
    for others, error in (("DELETE FROM s.held WHERE k = 'x'", ""), ("INSERT INTO s.held VALUES ('c', 1)", ""),
                          ("INSERT INTO s.held VALUES ('a', 2)", "104999")):  # fmt: skip
        one.execute("BEGIN TRANSACTION")
        assert one.execute(copy).rowcount == 1
        two.execute(others)
        if error:
            with pytest.raises(pyodbc.Error, match=error):
                one.execute("DELETE FROM s.held WHERE k = 'b'")
        else:
            assert one.execute("DELETE FROM s.held WHERE k = 'z'").rowcount == 0
            one.execute("COMMIT")
    assert two.execute("SELECT COUNT(*) FROM s.staged").fetchval() == 2


@pytest.mark.parametrize(("when", "rows"), [("before", 0), ("after", 1)])
def test_a_commit_whose_answer_is_lost_happened_or_not(pool: PoolSandbox, when: str, rows: int):
    c = pool.connect()
    c.execute("CREATE TABLE s.t (a int) WITH (HEAP)")
    c.execute("BEGIN TRANSACTION")
    c.execute("INSERT INTO s.t VALUES (1)")
    pool.pool("faults", {"cut": {"match": "^COMMIT", "when": when}})
    with pytest.raises(pyodbc.Error) as caught:
        c.execute("COMMIT")
    assert caught.value.args[0] in ("08S01", "HY000")
    assert pool.connect().execute("SELECT COUNT(*) FROM s.t").fetchval() == rows


def test_a_transient_number_comes_once(pool: PoolSandbox):
    c = pool.connect()
    pool.pool("faults", {"error": {"number": 40501, "match": "SELECT"}})
    assert refused(c, "SELECT 1") == 40501
    assert c.execute("SELECT 1").fetchval() == 1


def test_pause_ends_sessions_and_resume_takes_its_time(pool: PoolSandbox):
    c = pool.connect()
    address = f"{pool.url}/subscriptions/x/resourceGroups/g/providers/Microsoft.Synapse/workspaces/w/sqlPools/novade"
    bearer = {"Authorization": "Bearer token"}

    def call(method: str, action: str = "") -> object:
        return pool.http.request(method, f"{address}{action}?api-version=2021-03-01", headers=bearer)

    assert pool.http.get(f"{address}?api-version=2021-03-01").status_code == 401
    pool.pool("settings", {"resume_seconds": 0.5})
    assert call("POST", "/pause").status_code == 202
    with pytest.raises(pyodbc.Error):
        c.execute("SELECT 1")
    assert call("GET").json()["properties"]["status"] == "Paused"
    with pytest.raises(pyodbc.Error) as caught:
        pool.connect()
    assert number(caught.value) == 42108
    assert call("POST", "/resume").status_code == 202
    assert call("GET").json()["properties"]["status"] == "Resuming"
    time.sleep(0.6)
    assert call("GET").json()["properties"]["status"] == "Online"
    assert pool.connect().execute("SELECT COUNT(*) FROM sys.dm_pdw_exec_requests").fetchval() == 1


def test_somebody_elses_session_is_seen(pool: PoolSandbox):
    pool.pool("foreign", {"open": "SID9000"})
    found = pool.connect().execute("SELECT login_name FROM sys.dm_pdw_exec_sessions WHERE session_id = 'SID9000'")
    assert found.fetchval() == "analyst"
