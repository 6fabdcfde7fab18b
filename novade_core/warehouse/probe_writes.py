"""Facts that need a write: asked in a schema and below a prefix of the landing that are made for it and removed."""

from __future__ import annotations

from novade_core.warehouse.probe_questions import NUMBER, OPEN, Call, Count, Fact, Outcome, Value

_T = "{schema}.[t]"
_V = "{schema}.[v]"
_INVENTED = "documented as refused; the number stands in no document that was read"
_HEAP = "WITH (DISTRIBUTION = ROUND_ROBIN, HEAP)"
_HASHED = f"CREATE TABLE {_T} ([k] int NOT NULL, [t] nvarchar(10)) WITH (DISTRIBUTION = HASH([k]), HEAP)"
_PLAIN = f"CREATE TABLE {_T} ([k] int NOT NULL, [t] nvarchar(10)) {_HEAP}"
#: As the columns of the files that ``probe_remote`` lands.
_LANDED = f"CREATE TABLE {_T} ([k] int, [t] nvarchar(100), [at] datetime2(6)) {_HEAP}"
_VIEW = f"CREATE VIEW {_V} AS SELECT [k] FROM {_T}"
_THREE = f"INSERT INTO {_T} SELECT 1, N'a' UNION ALL SELECT 2, N'b' UNION ALL SELECT 3, N''"
_MANAGED = ", CREDENTIAL = (IDENTITY = 'Managed Identity')"


def _copy(file: str, *, more: str = "", files: str = "{files}", credential: str = "{credential}") -> str:
    return f"COPY INTO {_T} FROM '{files}/{file}' WITH (FILE_TYPE = 'PARQUET'{credential}{more})"


def _refused(
    name: str, says: str, sql: str, number: int | str, *before: str, decides: str = "Nothing.", source: str = _INVENTED
) -> Fact:
    answer = number if isinstance(number, str) else f"refused {number}"
    return Fact(
        id=name, says=says, asks=Outcome(sql, before), stand_in=answer, decides=decides, source=source, writes=True
    )


_COPY = (
    Fact(
        id="copy.row_count",
        says="COPY tells the driver how many rows it loaded.",
        asks=Count(_copy("plain.parquet"), 3, (_LANDED,)),
        stand_in="told",
        decides="Nothing; the fresh staging table is counted.",
        source=OPEN,
        writes=True,
    ),
    _refused(
        "copy.no_files",
        "COPY from a folder without files.",
        _copy("nothing_here/"),
        110802,
        _LANDED,
        decides="Nothing; files are named one by one, and with none no COPY is sent.",
        source=OPEN,
    ),
    _refused(
        "copy.managed_identity_on_blob",
        "Parquet by managed identity from the blob endpoint, where it works from dfs.",
        _copy("plain.parquet", files="{blob_files}", credential=_MANAGED),
        110802,
        _LANDED,
        _copy("plain.parquet", files="{dfs_files}", credential=_MANAGED),
        decides="`landing.location_endpoint`.",
        source="documented as not supported; other tools do it",
    ),
    _refused(
        "copy.microseconds_as_int64",
        "Parquet timestamps of microseconds in INT64.",
        _copy("micros.parquet"),
        106000,
        _LANDED,
        decides="Nothing; instants land as INT96.",
        source=NUMBER,
    ),
    Fact(
        id="copy.microseconds_as_int96",
        says="Microseconds survive in INT96.",
        asks=Value(
            "SELECT CASE WHEN MAX([at]) = CAST('2024-01-02T03:04:05.123456' AS datetime2(6)) THEN 'kept' ELSE 'cut' "
            f"END AS [answer] FROM {_T}",
            before=(_LANDED, _copy("plain.parquet")),
        ),
        stand_in="kept",
        decides="Equal versions; without them two changes of one second are one.",
        source=OPEN,
        writes=True,
    ),
    Fact(
        id="copy.empty_text",
        says="An empty text in Parquet stays one, and is not NULL.",
        asks=Value(
            f"SELECT CASE WHEN COUNT([t]) = 3 THEN 'empty' ELSE 'null' END AS [answer] FROM {_T}",
            before=(_LANDED, _copy("plain.parquet")),
        ),
        stand_in="empty",
        decides="Telling an empty text from none.",
        source=OPEN,
        writes=True,
    ),
    _refused(
        "copy.narrow_file",
        "A file with fewer columns than the table.",
        _copy("narrow.parquet"),
        106000,
        _LANDED,
        decides="Nothing; columns are listed.",
        source=OPEN,
    ),
    _refused(
        "copy.text_too_long",
        "A text longer than its column.",
        _copy("plain.parquet"),
        107090,
        f"CREATE TABLE {_T} ([k] int, [t] nvarchar(2), [at] datetime2(6)) {_HEAP}",
        decides="Nothing; columns are as wide as their texts.",
        source=OPEN,
    ),
    Fact(
        id="copy.secret_in_view",
        says="The credential's secret stands in sys.dm_pdw_exec_requests.",
        asks=Call("secret_in_view"),
        stand_in="masked",
        decides="`warehouse.copy_credential`; a managed identity has no secret.",
        source=OPEN,
        writes=True,
    ),
    _refused(
        "copy.bad_address",
        "COPY from an address that is no storage.",
        f"COPY INTO {_T} FROM 'https://novade.invalid/a/b.parquet' WITH (FILE_TYPE = 'PARQUET')",
        105215,
        _LANDED,
    ),
    _refused(
        "copy.two_containers",
        "COPY from two containers.",
        f"COPY INTO {_T} FROM '{{files}}/plain.parquet', '{{other_container}}/plain.parquet' "
        "WITH (FILE_TYPE = 'PARQUET'{credential})",
        105216,
        _LANDED,
    ),
    _refused(
        "copy.csv_option_on_parquet",
        "An option for CSV with Parquet.",
        _copy("plain.parquet", more=", FIELDQUOTE = '\"'"),
        105217,
        _LANDED,
    ),
)

_DDL = (
    _refused(
        "table.rename_view",
        "RENAME OBJECT of a view.",
        f"RENAME OBJECT {_V} TO [w]",
        104340,
        _PLAIN,
        _VIEW,
    ),
    _refused(
        "table.hash_of_max",
        "A distribution column of an unlimited type.",
        f"CREATE TABLE {_T} ([k] nvarchar(max)) WITH (DISTRIBUTION = HASH([k]), HEAP)",
        104358,
    ),
    _refused(
        "table.update_hash_column",
        "UPDATE of the distribution column.",
        f"UPDATE {_T} SET [k] = 2",
        104359,
        _HASHED,
    ),
    _refused(
        "table.default_expression",
        "A DEFAULT that is no constant.",
        f"CREATE TABLE {_T} ([k] int, [at] datetime2 DEFAULT GETDATE()) {_HEAP}",
        104472,
    ),
    _refused("table.insert_into_view", "INSERT into a view.", f"INSERT INTO {_V} SELECT 1", 46519, _PLAIN, _VIEW),
    _refused(
        "table.missing_source",
        "An external table over a data source that is not there.",
        "CREATE EXTERNAL TABLE {schema}.[x] ([k] int) WITH (LOCATION = '/x', DATA_SOURCE = [novade_probe_nothing], "
        "FILE_FORMAT = {schema})",
        46525,
        "CREATE EXTERNAL FILE FORMAT {schema} WITH (FORMAT_TYPE = PARQUET)",
    ),
    _refused(
        "table.second_format",
        "An external file format whose name is taken.",
        "CREATE EXTERNAL FILE FORMAT {schema} WITH (FORMAT_TYPE = PARQUET)",
        46502,
        "CREATE EXTERNAL FILE FORMAT {schema} WITH (FORMAT_TYPE = PARQUET)",
    ),
    _refused(
        "table.primary_key_enforced",
        "A primary key that is to be enforced.",
        f"CREATE TABLE {_T} ([k] int NOT NULL PRIMARY KEY) {_HEAP}",
        104467,
        source=NUMBER,
    ),
    _refused(
        "table.max_in_columnstore",
        "An unlimited text in a columnstore.",
        f"CREATE TABLE {_T} ([t] nvarchar(max)) WITH (DISTRIBUTION = ROUND_ROBIN, CLUSTERED COLUMNSTORE INDEX)",
        35343,
        decides="Tables with unlimited texts are heaps.",
        source=OPEN,
    ),
    _refused(
        "table.drop_if_exists",
        "DROP TABLE IF EXISTS.",
        f"DROP TABLE IF EXISTS {_T}",
        103010,
        source=NUMBER,
    ),
    _refused(
        "table.several_rows",
        "INSERT with several rows of VALUES.",
        f"INSERT INTO {_T} VALUES (1, N'a'), (2, N'b')",
        103010,
        _PLAIN,
        source=NUMBER,
    ),
    _refused(
        "table.name_taken",
        "CREATE TABLE of a name that is taken.",
        _PLAIN,
        2714,
        _PLAIN,
        decides="Two first loads at once: the second goes on.",
        source=NUMBER,
    ),
    _refused(
        "table.create_in_transaction",
        "CREATE TABLE in a transaction.",
        _PLAIN,
        111212,
        "BEGIN TRANSACTION",
        source=NUMBER,
    ),
    _refused(
        "table.widen_column",
        "ALTER COLUMN to a longer text.",
        f"ALTER TABLE {_T} ALTER COLUMN [t] nvarchar(20)",
        "accepted",
        _PLAIN,
        decides="How a text that grew is loaded.",
        source=OPEN,
    ),
    _refused(
        "table.widen_hash_column",
        "ALTER COLUMN of the distribution column.",
        f"ALTER TABLE {_T} ALTER COLUMN [k] bigint NOT NULL",
        4922,
        _HASHED,
        source=OPEN,
    ),
)

_ROWS = (
    Fact(
        id="rows.insert_count",
        says="INSERT ... SELECT tells the driver how many rows it wrote.",
        asks=Count(_THREE, 3, (_PLAIN,)),
        stand_in="told",
        decides="The fence: an UPDATE must hit one row.",
        source=OPEN,
        writes=True,
    ),
    Fact(
        id="rows.update_count",
        says="UPDATE tells the driver how many rows it hit.",
        asks=Count(f"UPDATE {_T} SET [t] = N'c' WHERE [k] <= 2", 2, (_PLAIN, _THREE)),
        stand_in="told",
        decides="The fence: an UPDATE must hit one row.",
        source=OPEN,
        writes=True,
    ),
    Fact(
        id="rows.approximate",
        says="The pool's own books know three fresh rows at once.",
        asks=Call("approximate_rows"),
        stand_in="3",
        decides="Approximate row counts.",
        source=OPEN,
        writes=True,
    ),
    _refused(
        "rows.text_too_long",
        "INSERT of a text longer than its column.",
        f"INSERT INTO {_T} SELECT 1, N'more than ten characters'",
        8152,
        _PLAIN,
        source=NUMBER,
    ),
)

_BLOBS = tuple(
    Fact(
        id=f"storage.{name}", says=says, asks=Call(f"storage_{name}"), stand_in=answer, decides=decides,
        source="run against Azurite only", writes=True,
    )
    for name, says, answer, decides in (
        ("create_once", "Creating a blob that is there.", "409 BlobAlreadyExists", "That a landed file never changes."),
        ("if_match", "A write under an ETag that has passed.", "412 ConditionNotMet", "Nothing yet."),
        ("wrong_md5", "A block whose MD5 is wrong.", "400 Md5Mismatch", "That a file arrives as it was sent."),
        ("block_md5", "MD5 that the service keeps of a block upload.", "none", "Ours is set by us."),
        ("staged_block", "A blob whose blocks are not committed.", "invisible", "That nobody reads half a file."),
        ("second_lease", "A lease on a leased blob.", "409 LeaseAlreadyPresent", "Nothing; there are no leases."),
        ("write_on_lease", "A write without the lease's id.", "412 LeaseIdMissing", "Nothing; there are no leases."),
    )
)  # fmt: skip

#: Asked only with a place to write.
WRITE_FACTS: tuple[Fact, ...] = (*_COPY, *_DDL, *_ROWS, *_BLOBS)
