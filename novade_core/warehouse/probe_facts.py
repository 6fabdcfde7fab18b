"""What the vendor's documentation leaves open about a pool, as data: how each fact is asked, what the stand-in answers.

These facts are asked without changing anything; those that need a write are in ``probe_writes``.
"""

from __future__ import annotations

from novade_core.warehouse.probe_questions import NUMBER, OPEN, SECOND, Call, Columns, Fact, Outcome, Value

_BUILD = r"\d{1,3}(\.\d{1,8}){1,3}"
_SIZE = r"DW\d{1,5}c?"
_NUMBER = r"\d{1,10}"
_COLLATION = r"[A-Za-z0-9_]{1,60}_(BIN2?|C[IS]_A[IS])[A-Z0-9_]{0,20}"
_CLASS = r"(small|medium|large|xlarge)rc|staticrc\d{2}"
_NO_TABLE = "SELECT 1 FROM [novade_probe_nothing].[nothing]"
_LABEL = "nv_0_look_probe"
_OWN = "FROM sys.dm_pdw_exec_sessions WHERE [session_id] = SESSION_ID()"
_LONG = "x" * 10_000
#: SHA-256 of a small a in UTF-16.
_HASH_OF_A = "FFE9AAEAA2A2D5048174DF0B80599EF0197EC024C4B051BC9860CFF58EF7F9F3"
_AT = "2024-01-02T03:04:05.123456"


def _choice(condition: str, yes: str, no: str) -> str:
    return f"SELECT CASE WHEN {condition} THEN '{yes}' ELSE '{no}' END AS [answer]"


_VERSION = (
    Fact(
        id="version.product",
        says="The build that SERVERPROPERTY('ProductVersion') names.",
        asks=Value("SELECT CAST(SERVERPROPERTY('ProductVersion') AS varchar(128))", _BUILD),
        stand_in="10.0.23106.0",
        decides="How SQLAlchemy spells large types and paging; we ask for neither.",
        source=OPEN,
    ),
    Fact(
        id="version.engine_edition",
        says="The number of SERVERPROPERTY('EngineEdition').",
        asks=Value("SELECT CAST(SERVERPROPERTY('EngineEdition') AS varchar(12))", _NUMBER),
        stand_in="6",
        decides="Nothing; it tells a dedicated pool (6) from a serverless one (11).",
        source=SECOND,
    ),
    Fact(
        id="version.words",
        says="@@VERSION begins with Microsoft Azure SQL Data Warehouse.",
        asks=Value(_choice("@@VERSION LIKE 'Microsoft Azure SQL Data Warehouse%'", "yes", "no")),
        stand_in="yes",
        decides="Nothing.",
        source=SECOND,
    ),
    Fact(
        id="version.login",
        says="The major version that the login answers to the driver.",
        asks=Call("server_version"),
        stand_in="12",
        decides="Which of its forms the ODBC driver chooses.",
        source=OPEN,
    ),
    Fact(
        id="pool.size",
        says="DATABASEPROPERTYEX names the pool's size.",
        asks=Value("SELECT CAST(DATABASEPROPERTYEX(DB_NAME(), 'ServiceObjective') AS varchar(128))", _SIZE),
        stand_in="DW100c",
        decides="Nothing; costs take the size from Azure's management.",
        source=OPEN,
    ),
    Fact(
        id="pool.collation",
        says="The database's collation.",
        asks=Value("SELECT CAST(DATABASEPROPERTYEX(DB_NAME(), 'Collation') AS varchar(128))", _COLLATION),
        stand_in="SQL_Latin1_General_CP1_CI_AS",
        decides="Comparisons without COLLATE; keys are compared with a binary one.",
        source=OPEN,
    ),
    Fact(
        id="pool.rcsi",
        says="READ_COMMITTED_SNAPSHOT is on.",
        asks=Value(
            "SELECT CASE WHEN is_read_committed_snapshot_on = 1 THEN 'on' ELSE 'off' END FROM sys.databases "
            "WHERE name = DB_NAME()"
        ),
        stand_in="off",
        decides="Whether readers see half a load; `python -m jobs azure apply` turns it on.",
        source="documented; each pool has its own",
    ),
)

_SESSION = (
    Fact(
        id="session.language",
        says="@@LANGUAGE of a new session.",
        asks=Value("SELECT @@LANGUAGE", r"[A-Za-z_ ]{1,40}"),
        stand_in="us_english",
        decides="How texts become instants; ours are ISO 8601, which every language reads alike.",
        source=OPEN,
    ),
    Fact(
        id="session.read_committed",
        says="SET TRANSACTION ISOLATION LEVEL READ COMMITTED is refused.",
        asks=Outcome("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"),
        stand_in="refused 111220",
        decides="Whether a reader could ask for more than the default, READ UNCOMMITTED; we never do.",
        source=NUMBER,
    ),
    Fact(
        id="session.isolation",
        says="The session's default isolation stands in sys.dm_exec_sessions.",
        asks=Value(
            "SELECT CAST([transaction_isolation_level] AS varchar(12)) FROM sys.dm_exec_sessions "
            "WHERE [session_id] = @@SPID",
            _NUMBER,
            refusable=True,
        ),
        stand_in="refused 208",
        decides="SQLAlchemy asks it at the first connection; autocommit spares us the answer.",
        source=SECOND,
    ),
    Fact(
        id="session.packet_size",
        says="The packet size stands in sys.dm_exec_connections.",
        asks=Value(
            "SELECT CAST([net_packet_size] AS varchar(12)) FROM sys.dm_exec_connections WHERE [session_id] = @@SPID",
            _NUMBER,
            refusable=True,
        ),
        stand_in="refused 208",
        decides="Nothing; the driver takes what the login answers.",
        source=OPEN,
    ),
    Fact(
        id="session.tds_version",
        says="The version of TDS stands in sys.dm_exec_connections.",
        asks=Value(
            "SELECT CAST([protocol_version] AS varchar(12)) FROM sys.dm_exec_connections WHERE [session_id] = @@SPID",
            _NUMBER,
            refusable=True,
        ),
        stand_in="refused 208",
        decides="Nothing; both drivers speak 7.4.",
        source=OPEN,
    ),
    Fact(
        id="session.id",
        says="SESSION_ID() answers SID and a number.",
        asks=Value(_choice("SESSION_ID() LIKE 'SID%'", "yes", "no")),
        stand_in="yes",
        decides="Telling our own session from other people's.",
        source="documented without its form",
    ),
    Fact(
        id="session.own_row",
        says="Our own session is one row of sys.dm_pdw_exec_sessions.",
        asks=Value(f"SELECT CAST(COUNT(*) AS varchar(12)) {_OWN}", _NUMBER),
        stand_in="1",
        decides="When a load window may pause the pool.",
        source=OPEN,
    ),
    Fact(
        id="session.own_status",
        says="The status of a session that is asking.",
        asks=Value(f"SELECT [status] {_OWN}"),
        stand_in="Active",
        decides="Nothing; every session that is not Closed counts.",
        source=OPEN,
    ),
    Fact(
        id="session.program",
        says="The driver's APP stands in app_name.",
        asks=Value(f"SELECT CASE WHEN [app_name] = 'novade' THEN 'yes' ELSE 'no' END {_OWN}"),
        stand_in="yes",
        decides="Whether another process of ours keeps the pool awake.",
        source=OPEN,
    ),
    Fact(
        id="session.of_the_pool",
        says="The pool lists sessions of its own, with the login System.",
        asks=Value(
            "SELECT CASE WHEN COUNT(*) > 0 THEN 'some' ELSE 'none' END FROM sys.dm_pdw_exec_sessions "
            "WHERE [login_name] = 'System'"
        ),
        stand_in="none",
        decides="When a load window may pause the pool; those are not counted.",
        source=OPEN,
    ),
)

_VIEWS = (
    Fact(
        id="view.sessions",
        says="Columns of sys.dm_pdw_exec_sessions that we read.",
        asks=Columns("sys.dm_pdw_exec_sessions", ("session_id", "login_name", "app_name", "status")),
        stand_in="all there",
        decides="Who keeps a pool awake.",
        source=SECOND,
    ),
    Fact(
        id="view.requests",
        says="Columns of sys.dm_pdw_exec_requests that we read, [label] among them.",
        asks=Columns(
            "sys.dm_pdw_exec_requests", ("request_id", "session_id", "status", "label", "total_elapsed_time", "command")
        ),
        stand_in="all there",
        decides="What a load window copies before it pauses.",
        source="documented in 2017",
    ),
    Fact(
        id="view.steps",
        says="Columns of sys.dm_pdw_request_steps.",
        asks=Columns("sys.dm_pdw_request_steps", ("request_id", "step_index", "status", "row_count")),
        stand_in="all there",
        decides="Nothing yet; a second way to a COPY's rows.",
        source="documented in 2017",
    ),
    Fact(
        id="view.workers",
        says="Columns of sys.dm_pdw_dms_workers.",
        asks=Columns("sys.dm_pdw_dms_workers", ("request_id", "type", "rows_processed", "bytes_processed")),
        stand_in="all there",
        decides="Nothing yet; a second way to a COPY's rows.",
        source="documented in 2020",
    ),
    Fact(
        id="view.approximate_rows",
        says="Columns of the view behind approximate row counts.",
        asks=Columns(
            "sys.dm_pdw_nodes_db_partition_stats",
            ("object_id", "pdw_node_id", "distribution_id", "index_id", "row_count"),
        ),
        stand_in="all there",
        decides="Approximate row counts.",
        source="documented in 2021",
    ),
    Fact(
        id="request.label",
        says="A labelled SELECT is found by its label at once.",
        asks=Value(
            "SELECT CASE WHEN COUNT(*) > 0 THEN 'found' ELSE 'absent' END FROM sys.dm_pdw_exec_requests "
            f"WHERE [label] = '{_LABEL}'",
            before=(f"SELECT 1 OPTION (LABEL = '{_LABEL}')",),
        ),
        stand_in="found",
        decides="Costs by label.",
        source=OPEN,
    ),
    Fact(
        id="request.resource_class",
        says="The resource class of our requests.",
        asks=Value(
            "SELECT TOP 1 [resource_class] FROM sys.dm_pdw_exec_requests WHERE [session_id] = SESSION_ID() "
            "AND [resource_class] IS NOT NULL",
            _CLASS,
        ),
        stand_in="smallrc",
        decides="How much memory a load gets.",
        source=SECOND,
    ),
    Fact(
        id="request.step_rows",
        says="A step that changes nothing has the row count -1.",
        asks=Value(
            "SELECT CASE WHEN MIN(s.[row_count]) < 0 THEN 'yes' ELSE 'no' END FROM sys.dm_pdw_request_steps AS s "
            f"JOIN sys.dm_pdw_exec_requests AS r ON r.[request_id] = s.[request_id] WHERE r.[label] = '{_LABEL}'",
            before=(f"SELECT 1 OPTION (LABEL = '{_LABEL}')",),
        ),
        stand_in="no",
        decides="Nothing yet.",
        source=OPEN,
    ),
)

_TRANSACTION = (
    Fact(
        id="transaction.rollback_after_error",
        says="ROLLBACK after an error in a transaction.",
        asks=Outcome("ROLLBACK TRANSACTION", before=("BEGIN TRANSACTION",), broken=_NO_TABLE),
        stand_in="refused 111214",
        decides="Whether a failed load's ROLLBACK may fail too; both are tolerated.",
        source=SECOND,
    ),
    Fact(
        id="transaction.select_after_error",
        says="SELECT after an error in a transaction.",
        asks=Outcome("SELECT 1", before=("BEGIN TRANSACTION",), broken=_NO_TABLE),
        stand_in="refused 111233",
        decides="Nothing; a load stops at its first error.",
        source="documented",
    ),
    Fact(
        id="transaction.commit_after_error",
        says="COMMIT after an error in a transaction.",
        asks=Outcome("COMMIT TRANSACTION", before=("BEGIN TRANSACTION",), broken=_NO_TABLE),
        stand_in="refused 111233",
        decides="That half a load is never committed.",
        source=NUMBER,
    ),
    Fact(
        id="transaction.rollback_without",
        says="ROLLBACK without a transaction.",
        asks=Outcome("ROLLBACK TRANSACTION"),
        stand_in="refused 111214",
        decides="Nothing; it is tolerated.",
        source=SECOND,
    ),
)

_LANGUAGE = (
    Fact(
        id="text.empty",
        says="An empty text as a parameter is not NULL.",
        asks=Value(_choice("CAST(? AS nvarchar(10)) IS NULL", "null", "empty"), parameters=("",)),
        stand_in="empty",
        decides="Telling an empty text from none.",
        source=OPEN,
    ),
    Fact(
        id="text.trailing_blank",
        says="A text and the same with a blank behind it compare as equal.",
        asks=Value(
            _choice("CAST(? AS nvarchar(9)) = CAST(? AS nvarchar(9))", "equal", "apart"), parameters=("a", "a ")
        ),
        stand_in="apart",
        decides="Keys; they are compared with their length too.",
        source="documented; the stand-in is stricter",
    ),
    Fact(
        id="text.binary_collation",
        says="Small and capital letters are apart in Latin1_General_100_BIN2.",
        asks=Value(
            _choice("CAST(? AS nvarchar(9)) COLLATE Latin1_General_100_BIN2 = N'A'", "equal", "apart"),
            parameters=("a",),
        ),
        stand_in="apart",
        decides="Keys.",
        source="documented for SQL Server",
    ),
    Fact(
        id="text.long_parameter",
        says="Bytes of a parameter of 10,000 characters.",
        asks=Value("SELECT CAST(DATALENGTH(?) AS varchar(12)) AS [answer]", _NUMBER, parameters=(_LONG,)),
        stand_in="20000",
        decides="Nothing; a load sends no long values.",
        source=OPEN,
    ),
    Fact(
        id="time.seventh_digit",
        says="datetime2(7) keeps its seventh digit.",
        asks=Value(_choice(f"CAST('{_AT}7' AS datetime2(7)) = CAST('{_AT}0' AS datetime2(7))", "cut", "kept")),
        stand_in="cut",
        decides="Nothing; our columns have six.",
        source="documented; the stand-in keeps six",
    ),
    Fact(
        id="hash.of_text",
        says="HASHBYTES reads nvarchar as UTF-16.",
        asks=Value(_choice(f"HASHBYTES('SHA2_256', N'a') = 0x{_HASH_OF_A}", "yes", "no")),
        stand_in="yes",
        decides="Whether hashes made in the pool could be compared with ours.",
        source=OPEN,
    ),
    Fact(
        id="hash.long_text",
        says="HASHBYTES of 10,000 characters.",
        asks=Value(
            "SELECT CAST(DATALENGTH(HASHBYTES('SHA2_256', CAST(? AS nvarchar(max)))) AS varchar(12)) AS [answer]",
            _NUMBER,
            parameters=(_LONG,),
            refusable=True,
        ),
        stand_in="32",
        decides="Nothing yet; hashes are made before landing.",
        source=OPEN,
    ),
    Fact(
        id="function.binary_checksum",
        says="BINARY_CHECKSUM.",
        asks=Outcome("SELECT BINARY_CHECKSUM(1)"),
        stand_in="refused 195",
        decides="Nothing; it is not used.",
        source=OPEN,
    ),
    Fact(
        id="function.checksum_agg",
        says="CHECKSUM_AGG.",
        asks=Outcome("SELECT CHECKSUM_AGG(1)"),
        stand_in="refused 195",
        decides="Nothing; it is not used.",
        source=NUMBER,
    ),
    Fact(
        id="query.offset_fetch",
        says="OFFSET and FETCH.",
        asks=Outcome("SELECT [name] FROM sys.schemas ORDER BY [name] OFFSET 0 ROWS FETCH NEXT 1 ROWS ONLY"),
        stand_in="refused 103010",
        decides="Nothing; pages are cut by TOP.",
        source=NUMBER,
    ),
    Fact(
        id="query.missing_table",
        says="A table that is not there.",
        asks=Outcome(_NO_TABLE),
        stand_in="refused 208",
        decides="Telling a table that has to be made from a fault.",
        source=NUMBER,
    ),
    Fact(
        id="query.missing_column",
        says="A column that is not there.",
        asks=Outcome("SELECT [novade_probe_nothing] FROM sys.schemas"),
        stand_in="refused 207",
        decides="Nothing.",
        source=NUMBER,
    ),
    Fact(
        id="procedure.describe_first_result_set",
        says="sp_describe_first_result_set.",
        asks=Outcome("EXEC sp_describe_first_result_set N'SELECT 1'"),
        stand_in="refused 2812",
        decides="Nothing; drivers that need it are not used.",
        source=OPEN,
    ),
    Fact(
        id="limit.batch_of_1_mb",
        says="A batch of 1,000,000 characters.",
        asks=Outcome(f"SELECT 1 /* {'x' * 1_000_000} */"),
        stand_in="accepted",
        decides="How many files one COPY may name.",
        source="documented (256 MiB)",
    ),
    Fact(
        id="limit.parameters",
        says="A statement with 2,000 parameters.",
        asks=Outcome(f"SELECT 1 WHERE 0 IN ({', '.join(['?'] * 2000)})", parameters=tuple(range(2000))),
        stand_in="accepted",
        decides="How many keys are asked for at a time.",
        source="documented (2,098)",
    ),
)

_REMOTE = (
    Fact(
        id="management.route",
        says="Which of Azure's two routes knows the pool.",
        asks=Call("management_route"),
        stand_in="workspace",
        decides="`pool.kind`: workspace or standalone.",
        source=SECOND,
    ),
    Fact(
        id="management.status",
        says="Azure's word for a pool that answers.",
        asks=Call("management_status"),
        stand_in="Online",
        decides="When a load window takes a resume for done; case does not matter.",
        source=OPEN,
    ),
    Fact(
        id="management.size",
        says="Azure names the pool's size.",
        asks=Call("management_size"),
        stand_in="DW100c",
        decides="The price of a load window.",
        source=OPEN,
    ),
    Fact(
        id="storage.service_version",
        says="The landing's service takes the version that we speak.",
        asks=Call("storage_version"),
        stand_in="accepted",
        decides="Every request of the landing.",
        source="run against Azurite only",
    ),
    Fact(
        id="storage.missing_blob",
        says="A blob that is not there.",
        asks=Call("storage_missing"),
        stand_in="404 BlobNotFound",
        decides="Telling a file that is gone from a fault.",
        source="run against Azurite only",
    ),
)

#: Asked without changing anything.
READ_FACTS: tuple[Fact, ...] = (*_VERSION, *_SESSION, *_VIEWS, *_TRANSACTION, *_LANGUAGE, *_REMOTE)
