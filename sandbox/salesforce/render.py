"""Values as the two wire forms show them: Bulk CSV (written by the database) and REST JSON (written here)."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from .plan import Column
from .schema import NUMERIC

DELIMITERS = {"BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t"}
LINE_ENDINGS = {"LF": "\n", "CRLF": "\r\n"}

#: A number as Java prints it: 75.0, but 1.2345678E7 from ten million on and 5.0E-4 below a thousandth.
JAVA_DOUBLE_MACRO = """
CREATE OR REPLACE MACRO java_double(x) AS CASE
    WHEN abs(x) >= 1e7 AND abs(x) < 1e15 THEN concat(CASE WHEN x < 0 THEN '-' END,
        substr(abs(x)::VARCHAR, 1, 1), '.',
        coalesce(nullif(rtrim(substr(replace(abs(x)::VARCHAR, '.', ''), 2), '0'), ''), '0'),
        'E', strpos(abs(x)::VARCHAR, '.') - 2)
    WHEN abs(x) >= 1e15 OR (x <> 0 AND abs(x) < 1e-3) THEN
        regexp_replace(regexp_replace(format('{:.15e}', x), '0*e', 'e'), '\\.?e([+-])0*(\\d+)', '.0E\\1\\2')
        .replace('E+', 'E').regexp_replace('(\\.\\d+)\\.0E', '\\1E')
    ELSE x::VARCHAR END
"""


def csv_value(column: Column) -> str:
    """SQL text of a value; null stays null and becomes an empty cell when the line is put together."""
    sql = column.sql
    if column.type == "datetime":
        return f"strftime({sql}, '%Y-%m-%dT%H:%M:%S.%gZ')"
    if column.type in ("int", "long"):
        # A few whole numbers come with a fraction, as the real service does now and then.
        return f"(CAST({sql} AS VARCHAR) || CASE WHEN t.rowid % 53 = 7 THEN '.0' ELSE '' END)"
    if column.type in NUMERIC:
        return f"java_double({sql})"
    if column.type in ("boolean", "date"):
        return f"CAST({sql} AS VARCHAR)"
    if column.type in ("id", "reference", "time"):
        return sql
    return f"replace({sql}, '\"', '\"\"')"


def csv_line(columns: list[Column], delimiter: str, ending: str, *, nul_bytes: bool, bare_null: bool) -> str:
    """SQL that makes one finished CSV line of a row, so that no cell passes through Python.

    Every value is quoted, null included, unless `bare_null` leaves the cell of a null without quotes.
    """
    between = f'"{DELIMITERS[delimiter]}"'
    values = [csv_value(c) for c in columns]
    if nul_bytes:
        text = next((i for i, c in enumerate(columns) if c.type in ("string", "textarea")), None)
        if text is not None:
            values[text] = f"({values[text]} || CASE WHEN t.rowid % 97 = 5 THEN chr(0) ELSE '' END)"
    end = " || ".join(f"chr({ord(c)})" for c in LINE_ENDINGS[ending])
    if bare_null:
        cells = [f"'\"' || {v} || '\"'" for v in values]
        return f"concat({f', {_quoted(DELIMITERS[delimiter])}, '.join(cells)}, {end})"
    return f"concat('\"', {f', {_quoted(between)}, '.join(values)}, '\"', {end})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def csv_header(columns: list[Column], delimiter: str, ending: str) -> bytes:
    names = DELIMITERS[delimiter].join(f'"{".".join(c.path)}"' for c in columns)
    return (names + LINE_ENDINGS[ending]).encode()


def json_value(kind: str, value: Any) -> Any:
    """A value as REST shows it."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}+0000"
    if isinstance(value, date):
        return value.isoformat()
    if kind in ("double", "currency", "percent") and value is not None:
        return float(value)
    return value


def json_columns(columns: list[Column]) -> list[str]:
    """SQL of the values needed for JSON: parents bring their ids, compound fields their members."""
    out = ["t.Id"]
    for column in columns:
        out += [sql for _, sql in column.parents]
        out += [sql for _, sql in column.parts] if column.parts else [column.sql]
    return out


def json_record(entity: str, columns: list[Column], row: tuple[Any, ...], version: str) -> dict[str, Any]:
    """One record with attributes, parents nested."""
    base = f"/services/data/v{version}/sobjects"
    values = iter(row)
    record_id = next(values)
    record: dict[str, Any] = {"attributes": {"type": entity, "url": f"{base}/{entity}/{record_id}"}}
    for column in columns:
        target: dict[str, Any] | None = record
        parent_ids = [next(values) for _ in column.parents]
        for step, (parent, _), parent_id in zip(column.path, column.parents, parent_ids, strict=False):
            if target is None:
                continue
            if parent_id is None:
                target[step], target = None, None
            else:
                url = f"{base}/{parent}/{parent_id}"
                target = target.setdefault(step, {"attributes": {"type": parent, "url": url}})
        value: Any
        if column.parts:
            members = [next(values) for _ in column.parts]
            value = None
            if any(m is not None for m in members):
                value = {key: m for (key, _), m in zip(column.parts, members, strict=True)}
        else:
            value = json_value(column.type, next(values))
            if column.type == "base64" and value is not None:
                value = f"{base}/{entity}/{record_id}/{column.path[-1]}"
        if target is not None:
            target[column.path[-1]] = value
    return record
