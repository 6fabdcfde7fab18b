"""A query's result frozen at one moment: which rows, in which order. Their values are read page by page."""

# ruff: noqa: S608 - the SQL comes from a plan.
from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from .plan import Plan
from .render import json_columns, json_record, json_value
from .store import Store

#: Row numbers kept in memory; longer results keep them in a file.
IN_MEMORY = 100_000

#: Rows put into text at a time: bounds the memory of a page whatever its size.
BATCH = 8_192


@dataclass(frozen=True)
class ResultSet:
    """Row numbers of the versions found; versions never change, so every page can be read again."""

    plan: Plan
    seq: int
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def freeze(store: Store, plan: Plan) -> ResultSet:
    """Run the query now and keep the row numbers (8 bytes each)."""
    seq = store.seq
    sql = f"SELECT t.rowid AS r {plan.source(seq, finding=True)}"
    if plan.order_by:
        sql += f" ORDER BY {plan.at(plan.order_by, seq)}, t.rowid"
    elif plan.limit is not None or plan.offset is not None:
        sql += " ORDER BY t.rowid"
    if plan.limit is not None:
        sql += f" LIMIT {plan.limit}"
    if plan.offset is not None:
        sql += f" OFFSET {plan.offset}"
    cursor = store.cursor()
    try:
        found = cursor.execute(sql, plan.params).fetchnumpy()["r"]
    finally:
        cursor.close()
    rows = np.asarray(found, dtype=np.int64)
    if not plan.order_by and len(rows) > 1 and not bool(np.all(rows[:-1] < rows[1:])):
        rows = np.sort(rows)
    return ResultSet(plan, seq, _on_disk(store, rows) if len(rows) > IN_MEMORY else rows)


def _on_disk(store: Store, rows: np.ndarray) -> np.ndarray:
    """The numbers in a nameless file that goes with the result: jobs of a million rows may lie around for days."""
    folder = store.folder / "spill"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        rows.tofile(file)
        file.flush()
        return np.memmap(file, dtype=np.int64, mode="r", shape=rows.shape)


def count(store: Store, plan: Plan) -> int:
    """COUNT(): how many rows the query finds; a LIMIT caps the number."""
    sql = f"SELECT count(*) {plan.source(store.seq)}"
    total = int(store.rows(sql, plan.params)[0][0])
    return total if plan.limit is None else min(total, plan.limit)


def aggregate(store: Store, plan: Plan) -> list[dict[str, Any]]:
    """Rows of an aggregate query."""
    seq = store.seq
    picks = ", ".join(f"{c.sql} AS c{n}" for n, c in enumerate(plan.columns))
    sql = f"SELECT {picks} {plan.source(seq)}"
    if plan.group_by:
        sql += f" GROUP BY {', '.join(plan.group_by)}"
    if plan.having:
        sql += f" HAVING {plan.having}"
    if plan.order_by:
        sql += f" ORDER BY {plan.order_by}"
    if plan.limit is not None:
        sql += f" LIMIT {plan.limit}"
    if plan.offset is not None:
        sql += f" OFFSET {plan.offset}"
    return [
        {
            "attributes": {"type": "AggregateResult"},
            **{c.path[0]: json_value(c.type, v) for c, v in zip(plan.columns, row, strict=True)},
        }
        for row in store.rows(plan.at(sql, seq), plan.params)
    ]


def _page(
    cursor: duckdb.DuckDBPyConnection, result: ResultSet, start: int, size: int, select: str
) -> tuple[str, list[object]]:
    """SQL for rows start..start+size in their order."""
    plan, seq = result.plan, result.seq
    rows = result.rows[start : start + size]
    low, high = int(rows.min()), int(rows.max())
    select = plan.at(select, seq)
    if plan.local:
        # The rows are in table order: the same condition over the same stretch of the table finds them again.
        order = " ORDER BY t.rowid" if plan.joins else ""
        return f"SELECT {select} {plan.source(seq)} AND t.rowid BETWEEN {low} AND {high}{order}", plan.params
    cursor.register("page_rows", pa.table({"r": rows, "n": np.arange(len(rows))}))
    joins = plan.at(" ".join(plan.joins), seq)
    return (
        f'SELECT {select} FROM page_rows pr JOIN "{plan.entity.name}" t ON t.rowid = pr.r '
        f"AND t.rowid BETWEEN {low} AND {high} {joins} ORDER BY pr.n",
        [],
    )


def records(store: Store, result: ResultSet, start: int, size: int, version: str) -> list[dict[str, Any]]:
    """A page as REST records."""
    if start >= len(result):
        return []
    plan = result.plan
    cursor = store.cursor()
    try:
        sql, params = _page(cursor, result, start, size, ", ".join(json_columns(plan.columns)))
        found = cursor.execute(sql, params).fetchall()
    finally:
        cursor.close()
    return [json_record(plan.entity.name, plan.columns, row, version) for row in found]


def csv_chunks(store: Store, result: ResultSet, start: int, size: int, line: str) -> Iterator[memoryview]:
    """A page as CSV text, a batch at a time, straight out of the database's buffers."""
    if start >= len(result):
        return
    cursor = store.cursor()
    try:
        sql, params = _page(cursor, result, start, size, line)
        reader = cursor.sql(sql, params=params or None).to_arrow_reader(BATCH)
        for batch in reader:
            yield _text_of(batch.column(0))
    finally:
        cursor.close()


def _text_of(column: pa.Array) -> memoryview:
    """All lines of a batch at once: an Arrow text column is one buffer plus offsets."""
    wide = pa.types.is_large_string(column.type)
    offsets = np.frombuffer(column.buffers()[1], dtype=np.int64 if wide else np.int32)
    first, last = offsets[column.offset], offsets[column.offset + len(column)]
    return memoryview(column.buffers()[2])[int(first) : int(last)]


def gzipped(chunks: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """The chunks as one gzip stream at the fastest level: the server must not be the slow part."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for chunk in chunks:
        packed = packer.compress(chunk)
        if packed:
            yield packed
    yield packer.flush()
