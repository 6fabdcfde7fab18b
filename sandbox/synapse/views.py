"""The system views that are read: as DuckDB queries over the catalogue tables, or from what the pool remembers."""

# ruff: noqa: S608 - identifiers are quoted, values are parameters or the catalogue's own.
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .sqltypes import SYSTEM

if TYPE_CHECKING:
    from .engine import Engine

_SCHEMA_ID = "(SELECT s.schema_id FROM pool.schemas s WHERE lower(s.name) = lower(o.schema_name))"
_OBJECT = (
    f"o.name AS name, CAST(o.object_id AS INTEGER) AS object_id, {_SCHEMA_ID} AS schema_id, o.type AS type, "
    "o.created AS create_date, o.created AS modify_date"
)
_TYPES = ", ".join(f"({number}, {number}, '{name}', {size})" for name, (number, size) in SYSTEM.items())
_TYPE_ROWS = f"(VALUES {_TYPES}) AS y(system_type_id, user_type_id, name, bytes)"

_COLLATION = "CASE WHEN c.type LIKE '%char' THEN coalesce(c.\"collation\", 'SQL_Latin1_General_CP1_CI_AS') END"

_SOURCES = (
    "SELECT name, CAST(row_number() OVER (ORDER BY name) AS INTEGER) AS data_source_id, body->>'LOCATION' AS location, "
    "body->>'TYPE' AS type_desc, body->>'CREDENTIAL' AS credential_name FROM pool.named WHERE kind = 'data source'"
)
#: By name in small letters. Columns that are not here are not offered.
STATIC = {
    "sys.schemas": "SELECT name COLLATE NOCASE AS name, schema_id, 1 AS principal_id FROM pool.schemas",
    "sys.objects": f"SELECT {_OBJECT} FROM pool.objects o",
    "sys.tables": f"SELECT {_OBJECT}, o.type = 'ET' AS is_external FROM pool.objects o WHERE o.type IN ('U', 'ET')",
    "sys.external_tables": f"SELECT {_OBJECT}, o.definition->>'location' AS location, "
    "d.data_source_id AS data_source_id FROM pool.objects o "
    f"LEFT JOIN ({_SOURCES}) AS d ON d.name = o.definition->>'data_source' WHERE o.type = 'ET'",
    "sys.views": f"SELECT {_OBJECT} FROM pool.objects o WHERE o.type = 'V'",
    "sys.sql_modules": "SELECT CAST(o.object_id AS INTEGER) AS object_id, o.definition->>'text' AS definition "
    "FROM pool.objects o WHERE o.type = 'V'",
    "sys.types": f"SELECT name, system_type_id, user_type_id, bytes AS max_length FROM {_TYPE_ROWS}",
    "sys.columns": "SELECT CAST(c.object_id AS INTEGER) AS object_id, c.name AS name, c.column_id AS column_id, "
    "y.system_type_id AS system_type_id, y.user_type_id AS user_type_id, "
    "CASE WHEN c.length = -1 THEN -1 WHEN c.type IN ('nvarchar', 'nchar') THEN c.length * 2 "
    "WHEN c.length IS NOT NULL THEN c.length ELSE y.bytes END AS max_length, "
    "coalesce(c.precision, 0) AS precision, coalesce(c.scale, 0) AS scale, "
    f"{_COLLATION} AS collation_name, "
    f"c.nullable AS is_nullable, false AS is_identity FROM pool.columns c JOIN {_TYPE_ROWS} ON y.name = c.type",
    "sys.indexes": "SELECT CAST(o.object_id AS INTEGER) AS object_id, "
    "CASE WHEN o.index_kind = 'HEAP' THEN NULL ELSE 'ClusteredIndex_' || o.object_id END AS name, "
    "CASE WHEN o.index_kind = 'HEAP' THEN 0 ELSE 1 END AS index_id, "
    "CASE o.index_kind WHEN 'HEAP' THEN 0 WHEN 'CLUSTERED' THEN 1 ELSE 5 END AS type, o.index_kind AS type_desc "
    "FROM pool.objects o WHERE o.type = 'U'",
    "sys.stats": "SELECT CAST(object_id AS INTEGER) AS object_id, name, "
    "CAST(row_number() OVER (PARTITION BY object_id ORDER BY name) + 1 AS INTEGER) AS stats_id, "
    "true AS user_created FROM pool.statistics",
    "sys.pdw_table_distribution_properties": "SELECT CAST(o.object_id AS INTEGER) AS object_id, "
    "CASE o.distribution WHEN 'HASH' THEN 2 WHEN 'REPLICATE' THEN 3 ELSE 4 END AS distribution_policy, "
    "o.distribution AS distribution_policy_desc FROM pool.objects o WHERE o.type = 'U'",
    "sys.pdw_column_distribution_properties": "SELECT CAST(c.object_id AS INTEGER) AS object_id, c.column_id, "
    "CASE WHEN lower(c.name) = lower(o.distribution_column) THEN 1 ELSE 0 END AS distribution_ordinal "
    "FROM pool.columns c JOIN pool.objects o ON o.object_id = c.object_id WHERE o.type = 'U'",
    "sys.pdw_table_mappings": "SELECT CAST(o.object_id AS INTEGER) AS object_id, "
    "'Table_' || o.object_id AS physical_name FROM pool.objects o WHERE o.type = 'U'",
    "sys.pdw_nodes_tables": "SELECT CAST(o.object_id AS INTEGER) AS object_id, 'Table_' || o.object_id AS name, "
    "1 AS pdw_node_id, CAST(d.n AS INTEGER) AS distribution_id "
    "FROM pool.objects o CROSS JOIN range(1, 61) AS d(n) WHERE o.type = 'U'",
    "sys.dm_pdw_nodes": "SELECT 1 AS pdw_node_id, 'COMPUTE' AS type, 'Compute Node' AS name",
    "sys.external_data_sources": _SOURCES,
    "sys.external_file_formats": "SELECT name, CAST(row_number() OVER () AS INTEGER) AS file_format_id, "
    "body->>'FORMAT_TYPE' AS format_type FROM pool.named WHERE kind = 'file format'",
    "sys.database_scoped_credentials": "SELECT name, body->>'IDENTITY' AS credential_identity FROM pool.named "
    "WHERE kind = 'credential'",
    "sys.symmetric_keys": "SELECT name FROM pool.named WHERE kind = 'master key'",
    "sys.database_principals": "SELECT name, CAST(hash(lower(name)) % 1000000 + 5 AS INTEGER) AS principal_id, "
    "body->>'type' AS type FROM pool.named WHERE kind = 'principal'",
    "sys.database_role_members": "SELECT CAST(hash(lower(body->>'role')) % 1000000 + 5 AS INTEGER) AS "
    "role_principal_id, CAST(hash(lower(body->>'member')) % 1000000 + 5 AS INTEGER) AS member_principal_id "
    "FROM pool.named WHERE kind = 'member'",
    "sys.database_permissions": "SELECT CAST(hash(lower(n.body->>'to')) % 1000000 + 5 AS INTEGER) AS "
    "grantee_principal_id, n.body->>'permission' AS permission_name, n.body->>'kind' AS class_desc, "
    "CASE n.body->>'kind' WHEN 'DATABASE' THEN 0 WHEN 'SCHEMA' THEN 3 ELSE 1 END AS class, "
    "CASE n.body->>'kind' WHEN 'DATABASE' THEN 0 WHEN 'SCHEMA' THEN s.schema_id END AS major_id, "
    "'G' AS state, 'GRANT' AS state_desc FROM pool.named n "
    "LEFT JOIN pool.schemas s ON lower(s.name) = lower(n.body->>'target') WHERE n.kind = 'grant'",
    "sys.workload_management_workload_groups": "SELECT name FROM pool.named WHERE kind = 'workload group'",
    "sys.workload_management_workload_classifiers": "SELECT name, body->>'WORKLOAD_GROUP' AS group_name "
    "FROM pool.named WHERE kind = 'workload classifier'",
    "information_schema.tables": "SELECT schema_name AS TABLE_SCHEMA, name AS TABLE_NAME, "
    "CASE WHEN type = 'V' THEN 'VIEW' ELSE 'BASE TABLE' END AS TABLE_TYPE FROM pool.objects",
    "information_schema.columns": "SELECT o.schema_name AS TABLE_SCHEMA, o.name AS TABLE_NAME, "
    "c.name AS COLUMN_NAME, c.column_id AS ORDINAL_POSITION, c.type AS DATA_TYPE, "
    "CASE WHEN c.nullable THEN 'YES' ELSE 'NO' END AS IS_NULLABLE, c.length AS CHARACTER_MAXIMUM_LENGTH, "
    "CASE WHEN c.type = 'decimal' THEN c.precision END AS NUMERIC_PRECISION, "
    "CASE WHEN c.type = 'decimal' THEN c.scale END AS NUMERIC_SCALE, "
    "CASE WHEN c.type IN ('datetime2', 'time') THEN coalesce(c.scale, 7) END AS DATETIME_PRECISION, "
    f"{_COLLATION} AS COLLATION_NAME "
    "FROM pool.columns c JOIN pool.objects o ON o.object_id = c.object_id",
}

_REQUESTS = pa.schema(
    [
        ("request_id", pa.string()), ("session_id", pa.string()), ("status", pa.string()),
        ("submit_time", pa.timestamp("us")), ("start_time", pa.timestamp("us")), ("end_time", pa.timestamp("us")),
        ("total_elapsed_time", pa.int32()), ("label", pa.string()), ("error_id", pa.string()),
        ("command", pa.string()), ("resource_class", pa.string()), ("importance", pa.string()),
    ]
)  # fmt: skip
_STEPS = pa.schema(
    [("request_id", pa.string()), ("step_index", pa.int32()), ("operation_type", pa.string()),
     ("status", pa.string()), ("error_id", pa.string()), ("row_count", pa.int64())]
)  # fmt: skip
_WORKERS = pa.schema(
    [("request_id", pa.string()), ("type", pa.string()), ("rows_processed", pa.int64()),
     ("bytes_processed", pa.int64())]
)  # fmt: skip
_SESSIONS = pa.schema(
    [("session_id", pa.string()), ("status", pa.string()), ("request_id", pa.string()), ("login_name", pa.string()),
     ("login_time", pa.timestamp("us")), ("app_name", pa.string()), ("client_id", pa.string())]
)  # fmt: skip
_ERRORS = pa.schema([("error_id", pa.string()), ("session_id", pa.string()), ("details", pa.string())])
_DATABASES = pa.schema(
    [("name", pa.string()), ("database_id", pa.int32()), ("collation_name", pa.string()),
     ("is_read_committed_snapshot_on", pa.bool_())]
)  # fmt: skip
_SIZES = pa.schema(
    [("object_id", pa.int32()), ("pdw_node_id", pa.int32()), ("distribution_id", pa.int32()),
     ("index_id", pa.int32()), ("row_count", pa.int64())]
)  # fmt: skip

#: Views that need VIEW DATABASE STATE.
STATE = ("sys.dm_pdw_",)


def dynamic(engine: Engine, name: str) -> pa.Table | None:
    """The rows of a view over what the pool remembers; None where it is none of these."""
    pool = engine.pool
    rows: list[dict[str, Any]]
    requests = list(pool.requests)
    if name == "sys.dm_pdw_exec_requests":
        rows = [
            {
                "request_id": r.request_id, "session_id": r.session_id, "status": _waiting(engine, r),
                "submit_time": r.start, "start_time": r.start, "end_time": r.end,
                "total_elapsed_time": int(((r.end or r.start) - r.start).total_seconds() * 1000), "label": r.label,
                "error_id": f"E-{r.request_id}" if r.error else None, "command": r.command,
                "resource_class": pool.settings["resource_class"], "importance": "normal",
            }
            for r in requests
        ]  # fmt: skip
        return pa.Table.from_pylist(rows, _REQUESTS)
    if name == "sys.dm_pdw_request_steps":
        rows = [
            {"request_id": r.request_id, "step_index": 0, "operation_type": "OnOperation",
             "status": "Complete" if r.status == "Completed" else r.status, "row_count": r.rows,
             "error_id": f"E-{r.request_id}" if r.error else None}
            for r in requests[-1000:]
        ]  # fmt: skip
        return pa.Table.from_pylist(rows, _STEPS)
    if name == "sys.dm_pdw_dms_workers":
        rows = [
            {"request_id": r.request_id, "type": "WRITER", "rows_processed": max(r.rows, 0), "bytes_processed": 0}
            for r in requests[-1000:]
            if r.command.upper().startswith("COPY")
        ]
        return pa.Table.from_pylist(rows, _WORKERS)
    if name == "sys.dm_pdw_exec_sessions":
        return pa.Table.from_pylist(pool.sessions(), _SESSIONS)
    if name == "sys.dm_pdw_errors":
        rows = [{"error_id": f"E-{r.request_id}", "session_id": r.session_id, "details": r.error} for r in requests
                if r.error]  # fmt: skip
        return pa.Table.from_pylist(rows, _ERRORS)
    if name == "sys.databases":
        common = {"collation_name": "SQL_Latin1_General_CP1_CI_AS"}
        rows = [
            {"name": "master", "database_id": 1, "is_read_committed_snapshot_on": False, **common},
            {"name": pool.database, "database_id": 5, "is_read_committed_snapshot_on": pool.rcsi, **common},
        ]
        return pa.Table.from_pylist(rows, _DATABASES)
    if name in ("sys.dm_pdw_nodes_db_partition_stats", "sys.partitions"):
        return pa.Table.from_pylist(_sizes(engine), _SIZES)
    return None


def _waiting(engine: Engine, request: Any) -> str:
    if request.status != "Running":
        return str(request.status)
    for connection in list(engine.pool.connections):
        other = connection.engine
        if other is not None and other.request is request and engine.pool.locks.waits(other):
            return "Suspended"
    return "Running"


def _sizes(engine: Engine) -> list[dict[str, Any]]:
    """Rows of every table over 60 distributions."""
    made = []
    cursor = engine.pool.con.cursor()
    found = cursor.execute(
        "SELECT object_id, schema_name, name, index_kind FROM pool.objects WHERE type = 'U'"
    ).fetchall()
    for object_id, schema, name, kind in found:
        counted = cursor.execute(
            "SELECT estimated_size FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [schema, name]
        ).fetchone()
        rows = int(counted[0]) if counted else 0
        made += [
            {"object_id": object_id, "pdw_node_id": 1, "distribution_id": d + 1, "index_id": 0 if kind == "HEAP" else 1,
             "row_count": rows // 60 + (1 if d < rows % 60 else 0)}
            for d in range(60)
        ]  # fmt: skip
    cursor.close()
    return made
