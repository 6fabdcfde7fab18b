"""The org's rows in DuckDB, every version of them, and the journal that brings them back after a restart.

A table holds versions: a row is current at journal number S when ``_from <= S < _to``. So a result set frozen at S
stays the same while the org changes, without copying anything. Data = seed + journal: the database is a cache that
can be deleted at any time.
"""

# ruff: noqa: S608 - names in the SQL come from the schema, numbers are our own, values are parameters or tables.
from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from .generate import FOREVER
from .ids import base62, checksum
from .render import JAVA_DOUBLE_MACRO
from .schema import SObject, changed_object

Builder = Callable[[duckdb.DuckDBPyConnection], None]


def _open(path: Path, folder: Path) -> duckdb.DuckDBPyConnection:
    temporary = folder / "spill"
    return duckdb.connect(str(path), config={"memory_limit": "1GB", "threads": 2, "temp_directory": str(temporary)})


class Store:
    """One org: objects, rows, journal. Reading is free for all threads, changes go one at a time."""

    def __init__(self, folder: Path, key: str, objects: dict[str, SObject], build: Builder) -> None:
        self.folder = folder
        self.base_objects = objects
        self.objects = dict(objects)
        self.journal_path = folder / f"journal-{key}.jsonl"
        database = folder / f"org-{key}.duckdb"
        if not database.exists():
            self._build(database, build)
        self.con = _open(database, folder)
        self.con.execute(JAVA_DOUBLE_MACRO)
        self.con.execute("CREATE TABLE IF NOT EXISTS _applied AS SELECT 0::BIGINT AS seq")
        self.con.execute(
            "CREATE TABLE IF NOT EXISTS _removed (object VARCHAR, id VARCHAR, stamp TIMESTAMP, seq BIGINT)"
        )
        self.lock = threading.RLock()
        self.seq = 0
        self.last_stamp = datetime(1970, 1, 1)  # noqa: DTZ001  naive UTC, as the database keeps it
        #: When false, a delete leaves SystemModstamp where it was (whether the real one moves it is unconfirmed).
        self.delete_moves_stamp = True
        self._replay()

    def _build(self, database: Path, build: Builder) -> None:
        """Build beside the final name and rename, so a stop in the middle leaves nothing half-made."""
        draft = database.with_suffix(".building")
        for leftover in (draft, Path(f"{draft}.wal")):
            leftover.unlink(missing_ok=True)
        con = _open(draft, self.folder)
        build(con)
        con.close()
        os.replace(draft, database)

    def close(self) -> None:
        self.con.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of one's own: threads must not share one."""
        return self.con.cursor()

    # -- reading

    def rows(self, sql: str, params: list[Any] | None = None) -> list[tuple[Any, ...]]:
        cursor = self.cursor()
        try:
            return cursor.execute(sql, params or []).fetchall()
        finally:
            cursor.close()

    def counts(self) -> dict[str, int]:
        """Rows a plain query would see, per object."""
        out = {}
        for name, thing in self.objects.items():
            hide = "".join(f" AND NOT {f}" for f in ("IsDeleted", "IsArchived") if thing.has(f))
            out[name] = self.rows(f'SELECT count(*) FROM "{name}" WHERE _to = {FOREVER}{hide}')[0][0]
        return out

    def object(self, name: str) -> SObject | None:
        wanted = name.lower()
        return next((thing for key, thing in self.objects.items() if key.lower() == wanted), None)

    # -- changing

    def next_stamp(self) -> datetime:
        """Now, to the millisecond, and later than any stamp given before."""
        now = datetime.now(UTC).replace(tzinfo=None)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self.last_stamp = max(now, self.last_stamp + timedelta(milliseconds=1))
        return self.last_stamp

    def new_ids(self, thing: SObject, count: int) -> list[str]:
        """Ids later than any of the object: its highest number plus a small step."""
        cursor = self.rows(f'SELECT count(DISTINCT Id) FROM "{thing.name}"')[0][0]
        made = []
        for k in range(count):
            # A pod of its own keeps new ids apart from seeded ones whatever they look like.
            id15 = (thing.prefix or "000") + "5gN0" + base62(500_000 + cursor + k, 8)
            made.append(id15 + checksum(id15))
        return made

    def record(self, entry: dict[str, Any]) -> int:
        """Write a change to the journal, then make it. Returns its number."""
        with self.lock:
            entry = {"seq": self.seq + 1, **entry}
            with self.journal_path.open("a", encoding="utf-8") as out:
                before = out.tell()
                out.write(json.dumps(entry, ensure_ascii=False) + "\n")
                out.flush()
                os.fsync(out.fileno())
            try:
                self._apply(entry)
            except Exception:
                # A change that cannot be made must not be tried again at the next start.
                os.truncate(self.journal_path, before)
                raise
            return self.seq

    def reset(self, *, stale: bool = False) -> None:
        """Back to the seed: forget the journal and every version it made."""
        with self.lock:
            self.journal_path.unlink(missing_ok=True)
            if self.seq == 0 and not stale:
                return
            self.objects = dict(self.base_objects)
            self.con.execute("BEGIN")
            for name in self.base_objects:
                self.con.execute(f'DELETE FROM "{name}" WHERE _from > 0')
                self.con.execute(f'UPDATE "{name}" SET _to = {FOREVER} WHERE _to < {FOREVER}')
            self.con.execute("DELETE FROM _removed")
            self.con.execute("UPDATE _applied SET seq = 0")
            self.con.execute("COMMIT")
            self._drop_added_columns()
            self.seq = 0

    def _replay(self) -> None:
        """Apply what the journal holds and the database does not; a torn last line never happened."""
        applied = self.con.execute("SELECT seq FROM _applied").fetchall()[0][0]
        if not self.journal_path.exists():
            if applied:
                # The journal was deleted by hand: its changes go too.
                self.reset(stale=True)
            return
        good = 0
        with self.journal_path.open("rb") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                good += len(line)
                self._apply(entry, rows_too=entry["seq"] > applied)
        with self.journal_path.open("rb+") as out:
            out.truncate(good)

    def _apply(self, entry: dict[str, Any], *, rows_too: bool = True) -> None:
        seq = entry["seq"]
        if "stamp" in entry:
            self.last_stamp = max(self.last_stamp, datetime.fromisoformat(entry["stamp"]))
        if entry["kind"] == "fields":
            self._apply_fields(entry, rows_too)
        cursor = self.cursor()
        try:
            if rows_too:
                cursor.execute("BEGIN")
                if entry["kind"] != "fields":
                    self._apply_rows(cursor, entry)
                cursor.execute("UPDATE _applied SET seq = ?", [seq])
                cursor.execute("COMMIT")
        finally:
            cursor.close()
        self.seq = seq

    def _apply_rows(self, cursor: duckdb.DuckDBPyConnection, entry: dict[str, Any]) -> None:
        thing = self.objects[entry["object"]]
        table, seq, kind = f'"{thing.name}"', entry["seq"], entry["kind"]
        stamp = f"TIMESTAMP '{datetime.fromisoformat(entry['stamp'])}'"
        if kind == "purge":
            cursor.register("changed", pa.table({"id": pa.array(entry["ids"], pa.string())}))
            cursor.execute(
                f"INSERT INTO _removed SELECT '{thing.name}', id, {stamp}, {seq} FROM changed "
                f"WHERE id NOT IN (SELECT id FROM _removed WHERE object = '{thing.name}')"
            )
        elif kind == "new":
            self._insert_new(cursor, thing, entry, stamp)
            return
        else:
            self._insert_versions(cursor, thing, entry, stamp)
        cursor.execute(
            f"UPDATE {table} SET _to = {seq} WHERE _to = {FOREVER} AND _from < {seq} AND Id IN (SELECT id FROM changed)"
        )

    def _insert_versions(
        self, cursor: duckdb.DuckDBPyConnection, thing: SObject, entry: dict[str, Any], stamp: str
    ) -> None:
        """A new version of each changed row; fields named in the entry get its values, as text cast to their type."""
        kind, seq = entry["kind"], entry["seq"]
        rows: dict[str, dict[str, Any]] = entry.get("rows") or {id_: {} for id_ in entry["ids"]}
        names = sorted({name for values in rows.values() for name in values})
        data: dict[str, Any] = {"id": pa.array(list(rows), pa.string())}
        swaps = {"_from": f"{seq}::BIGINT"}
        for number, name in enumerate(names):
            found = thing.by_name[name.lower()]
            data[f"v{number}"] = pa.array([_text(v.get(name)) for v in rows.values()], pa.string())
            data[f"s{number}"] = pa.array([name in v for v in rows.values()], pa.bool_())
            kept = f't."{found.name}"'
            given = f"CAST(c.v{number} AS {found.stored or found.physical})"
            swaps[found.name] = f"CASE WHEN c.s{number} THEN {given} ELSE {kept} END"
        cursor.register("changed", pa.table(data))
        if kind in ("delete", "undelete"):
            swaps["IsDeleted"] = "true" if kind == "delete" else "false"
            cursor.execute(
                f"DELETE FROM _removed WHERE object = '{thing.name}' AND id IN (SELECT id FROM changed)"
                if kind == "undelete"
                else f"INSERT INTO _removed SELECT '{thing.name}', id, {stamp}, {seq} FROM changed"
            )
        if entry.get("moves_stamp", True):
            for name in ("SystemModstamp", *(() if kind == "touch" else ("LastModifiedDate",))):
                if thing.has(name) and name not in names:
                    swaps[name] = stamp
        inside = ", ".join(f'{value} AS "{name}"' for name, value in swaps.items())
        cursor.execute(
            f'INSERT INTO "{thing.name}" SELECT t.* REPLACE ({inside}) FROM "{thing.name}" t JOIN changed c '
            f"ON t.Id = c.id WHERE t._to = {FOREVER}"
        )

    def _insert_new(self, cursor: duckdb.DuckDBPyConnection, thing: SObject, entry: dict[str, Any], stamp: str) -> None:
        """New rows are copies of living ones with their own id, dates and name."""
        rows: dict[str, str | None] = entry["rows"]
        created = f"TIMESTAMP '{datetime.fromisoformat(entry['created'])}'"
        data = {"id": list(rows), "model": list(rows.values()), "n": list(range(len(rows)))}
        cursor.register("changed", pa.table(data))
        swaps = {"Id": "c.id", "_from": f"{entry['seq']}::BIGINT", "_to": f"{FOREVER}::BIGINT"}
        for name in ("CreatedDate", "LastModifiedDate", "SystemModstamp"):
            if thing.has(name):
                swaps[name] = created
        for name in ("IsDeleted", "IsArchived"):
            if thing.has(name):
                swaps[name] = "false"
        if thing.has("MasterRecordId"):
            swaps["MasterRecordId"] = "NULL"
        for found in thing.fields:
            if found.unique and found.is_stored and found.name != "Id":
                swaps[found.name] = "concat('NEW-', c.id)"
        for name in ("Name", "LastName"):
            if thing.has(name):
                swaps[name] = f"concat(t.\"{name}\", ' new ', {entry['seq']}, '.', c.n)"
        inside = ", ".join(f'{value} AS "{name}"' for name, value in swaps.items())
        del stamp
        cursor.execute(
            f'INSERT INTO "{thing.name}" SELECT t.* REPLACE ({inside}) FROM changed c JOIN "{thing.name}" t '
            f"ON t.Id = c.model AND t._to = {FOREVER} ORDER BY c.n"
        )

    # -- schema changes

    def _apply_fields(self, entry: dict[str, Any], rows_too: bool) -> None:
        if entry.get("reset"):
            self.objects = dict(self.base_objects)
            if rows_too:
                self._drop_added_columns()
            return
        thing, added = changed_object(self.objects[entry["object"]], entry)
        for made in added if rows_too else ():
            self.con.execute(f'ALTER TABLE "{thing.name}" ADD COLUMN IF NOT EXISTS "{made.name}" {made.physical}')
            value = _text(entry["add"][made.name].get("value"))
            if value is not None:
                self.con.execute(f'UPDATE "{thing.name}" SET "{made.name}" = CAST(? AS {made.physical})', [value])
        self.objects[thing.name] = thing

    def _drop_added_columns(self) -> None:
        for name, thing in self.base_objects.items():
            known = {f.name for f in thing.fields} | {"_from", "_to"}
            for (column,) in self.rows(
                "SELECT column_name FROM information_schema.columns WHERE table_name = ?", [name]
            ):
                if column not in known:
                    self.con.execute(f'ALTER TABLE "{name}" DROP COLUMN "{column}"')


def _text(value: Any) -> str | None:
    """A JSON value as text the database can cast; date-times lose their zone mark because columns are UTC."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if len(text) >= 20 and text[4:5] == "-" and text[10:11] == "T" and text.endswith(("Z", "+0000", "+00:00")):
        return text.replace("+00:00", "").replace("+0000", "").rstrip("Z").replace("T", " ")
    return text
