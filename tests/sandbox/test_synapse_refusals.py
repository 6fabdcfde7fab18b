"""What a pool refuses is refused by its number, and what the stand-in does not know says so."""

from __future__ import annotations

import pyodbc
import pytest

from tests.sandbox.synapse import PoolSandbox, number

LONG = "x" * 129


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    made = PoolSandbox(tmp_path_factory.mktemp("pool"))
    c = made.connect()
    c.execute("CREATE SCHEMA s")
    c.execute("CREATE TABLE s.t (a int, b nvarchar(20)) WITH (DISTRIBUTION = HASH(a), HEAP)")
    yield made
    made.hang_up()
    made.stop()


def refused(connection: pyodbc.Connection, text: str) -> int:
    with pytest.raises(pyodbc.Error) as caught:
        connection.execute(text)
    return number(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("INSERT INTO s.t (a) VALUES (1), (2)", 103010),
        ("SELECT a FROM s.t ORDER BY a OFFSET 1 ROWS FETCH NEXT 1 ROWS ONLY", 103010),
        ("SELECT a FROM s.t FOR XML AUTO", 103010),
        ("DROP TABLE IF EXISTS s.t", 103010),
        ("CREATE TABLE IF NOT EXISTS s.u (a int)", 103010),
        ("DELETE TOP (1) FROM s.t", 103010),
        ("DELETE FROM s.t OUTPUT deleted.a", 103010),
        ("SELECT CHECKSUM_AGG(a) FROM s.t", 195),
        ("CREATE TABLE s.u (a int PRIMARY KEY)", 104467),
        ("CREATE TABLE s.u (a int UNIQUE NOT NULL)", 104467),
        ("CREATE TABLE s.u (a nvarchar(max))", 35343),
        ("CREATE TABLE s.u (a nvarchar(max)) WITH (CLUSTERED COLUMNSTORE INDEX)", 35343),
        ("CREATE TABLE s.u (a nvarchar(4001)) WITH (HEAP)", 131),
        ("CREATE TABLE s.u (a ntext) WITH (HEAP)", 104220),
        ("CREATE TABLE s.u (a decimal(39, 0)) WITH (HEAP)", 2750),
        ("CREATE TABLE s.u (a char(8000), b char(100)) WITH (HEAP)", 1701),
        ("CREATE TABLE s.u (a int, A int) WITH (HEAP)", 2705),
        ("CREATE TABLE s.u (a int) WITH (DISTRIBUTION = HASH(b), HEAP)", 1911),
        (f"CREATE TABLE s.[{LONG}] (a int) WITH (HEAP)", 103),
        ("CREATE TABLE nowhere.u (a int) WITH (HEAP)", 2760),
        ("CREATE TABLE s.t (a int) WITH (HEAP)", 2714),
        ("DROP TABLE s.nothing", 3701),
        ("SELECT * FROM s.nothing", 208),
        ("SELECT nothing FROM s.t", 207),
        ("INSERT INTO s.t (nothing) VALUES (1)", 207),
        ("UPDATE s.t SET a = 2", 104359),
        ("ALTER TABLE s.t ADD c int NOT NULL", 4901),
        ("ALTER TABLE s.t ADD COLUMN c int", 103010),
        ("USE master", 40508),
        ("EXEC sp_describe_undeclared_parameters N'SELECT 1'", 2812),
        ("SELECT * FROM OPENROWSET(BULK 'x', FORMAT = 'PARQUET') AS r", 104999),
        ("MERGE INTO s.t USING s.t AS x ON 1 = 1 WHEN MATCHED THEN DELETE;", 104999),
        ("SELECT a INTO #x FROM s.t", 104999),
        ("SELECT SOUNDEX(b) FROM s.t", 104999),
        ("FROBNICATE s.t", 103010),
    ],
)
def test_a_refusal_has_the_pools_number(pool: PoolSandbox, text: str, error: int):
    assert refused(pool.connect(), text) == error


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE s.u (a int) WITH (HEAP)",
        "CREATE TABLE s.u WITH (HEAP) AS SELECT a FROM s.t",
        "DROP TABLE s.t",
        "TRUNCATE TABLE s.t",
        "RENAME OBJECT s.t TO u",
        "ALTER TABLE s.t ADD c int NULL",
        "UPDATE STATISTICS s.t",
        "CREATE VIEW s.v AS SELECT a FROM s.t",
    ],
)
def test_definitions_and_truncate_do_not_run_in_a_transaction(pool: PoolSandbox, text: str):
    c = pool.connect()
    c.execute("BEGIN TRANSACTION")
    assert refused(c, text) == 111212


def test_a_login_with_few_rights_is_refused_the_rest(pool: PoolSandbox):
    pool.connect(database="master").execute("CREATE LOGIN loader WITH PASSWORD = 'Loader-1'")
    admin = pool.connect()
    admin.execute("CREATE USER loader FOR LOGIN loader")
    admin.execute("CREATE ROLE reads")
    admin.execute("GRANT SELECT ON SCHEMA::s TO reads")
    admin.execute("EXEC sp_addrolemember 'reads', 'loader'")
    c = pool.connect(user="loader", password="Loader-1")
    assert c.execute("SELECT COUNT(*) FROM s.t").fetchval() == 0
    assert refused(c, "INSERT INTO s.t (a) VALUES (1)") == 229
    assert refused(c, "CREATE TABLE s.u (a int) WITH (HEAP)") == 262
    assert refused(c, "SELECT * FROM sys.dm_pdw_exec_sessions") == 262
    admin.execute("GRANT CREATE TABLE TO loader")
    assert refused(c, "CREATE TABLE s.u (a int) WITH (HEAP)") == 2760, "ALTER on the schema is missing too"
    admin.execute("GRANT ALTER ON SCHEMA::s TO loader")
    c.execute("CREATE TABLE s.u (a int) WITH (HEAP)")
    c.execute("DROP TABLE s.u")


def test_labels_and_states_of_requests_are_listed(pool: PoolSandbox):
    c = pool.connect()
    c.execute("SELECT COUNT_BIG(*) FROM s.t OPTION (LABEL = 'nv_1_t_count')")
    refused(c, "SELECT 1 / nothing FROM s.t OPTION (LABEL = 'nv_1_t_bad')")
    held = dict(
        tuple(r) for r in c.execute("SELECT [label], status FROM sys.dm_pdw_exec_requests WHERE [label] IS NOT NULL")
    )
    assert held == {"nv_1_t_count": "Completed", "nv_1_t_bad": "Failed"}
