"""What was listed, in a file: a list of any length costs no memory, and is read back in the order of its changes.

Drift lists the newest first and moves what changes to the top. Landing goes the other way, oldest first, so that a
position (instant and id of the last record) stays true whatever moves meanwhile: what moves, moves behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from novade_core.sources.drift.records import dump, parse
from novade_core.streams import Window

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Listed(NamedTuple):
    """A record as a list showed it. Instants are epoch milliseconds; None where there is none that can be read."""

    id: str
    changed: int | None
    created: int | None = None
    contact: str | None = None
    deleted: bool = False
    record: Mapping[str, Any] | None = None


def milliseconds(instant: datetime) -> int:
    """An aware instant as epoch milliseconds, rounded down."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)


class Shelf:
    """One record per id, the newest version of it. The file goes with the run's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = len(list(folder.glob("shelf-*.sqlite")))
        self._c = sqlite3.connect(folder / f"shelf-{self._number}.sqlite", isolation_level=None)
        self._c.execute("PRAGMA journal_mode = OFF")
        self._c.execute("PRAGMA synchronous = OFF")
        self._c.execute("PRAGMA temp_store = FILE")
        self._c.execute(
            "CREATE TABLE listed (id TEXT PRIMARY KEY, changed INTEGER, created INTEGER, contact TEXT, "
            "deleted INTEGER, record TEXT) WITHOUT ROWID"
        )
        self.kept = 0  #: how often something new or newer was put
        self._c.execute("CREATE INDEX by_change ON listed (changed, id)")

    def close(self) -> None:
        """Let go of the file."""
        self._c.close()

    def put(self, rows: Iterable[Listed]) -> None:
        """Keep these, where they are new or newer than what was known."""
        before = self._c.total_changes
        self._c.execute("BEGIN")
        self._c.executemany(
            "INSERT INTO listed VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET changed = excluded.changed, "
            "created = excluded.created, contact = excluded.contact, deleted = excluded.deleted, "
            "record = excluded.record WHERE excluded.changed > coalesce(listed.changed, excluded.changed - 1)",
            (
                (r.id, r.changed, r.created, r.contact, r.deleted, dump(r.record) if r.record is not None else None)
                for r in rows
            ),
        )
        self._c.execute("COMMIT")
        self.kept += self._c.total_changes - before

    def remove(self, ids: Iterable[str]) -> None:
        """Forget these."""
        self._c.executemany("DELETE FROM listed WHERE id = ?", ((i,) for i in ids))

    def highest(self) -> int | None:
        """The newest change; None where nothing is known."""
        [(found,)] = self._c.execute("SELECT max(changed) FROM listed").fetchall()
        return None if found is None else int(found)

    def in_window(self, window: Window, after: tuple[int, str] | None) -> Iterator[Listed]:
        """The window's records by change and id, behind a position; those without an instant end an open window."""
        low, high = _bounds(window)
        at, last = after or (low - 1, "")
        found = self._c.execute(
            "SELECT * FROM listed WHERE changed >= ? AND changed < ? AND (changed, id) > (?, ?) ORDER BY changed, id",
            (low, high, at, last),
        )
        yield from map(_listed, found)
        if window.high is None:
            yield from map(_listed, self._c.execute("SELECT * FROM listed WHERE changed IS NULL ORDER BY id"))

    def contacts(self, window: Window, after: tuple[int, str] | None) -> Iterator[Listed]:
        """Each contact that the window's records name, with the newest change among them, by that and id."""
        low, high = _bounds(window)
        at, last = after or (low - 1, "")
        found = self._c.execute(
            "SELECT contact, max(changed) AS newest FROM listed WHERE contact IS NOT NULL AND changed >= ? AND "
            "changed < ? GROUP BY contact HAVING (newest, contact) > (?, ?) ORDER BY newest, contact",
            (low, high, at, last),
        )
        for contact, newest in found:
            yield Listed(id=contact, changed=newest)

    def count(self, window: Window) -> int:
        """Records of the window, deleted ones included."""
        [(found,)] = self._c.execute(
            "SELECT count(*) FROM listed WHERE changed >= ? AND changed < ?", _bounds(window)
        ).fetchall()
        return int(found)

    def count_contacts(self, window: Window) -> int:
        """Contacts that the window's records name."""
        [(found,)] = self._c.execute(
            "SELECT count(DISTINCT contact) FROM listed WHERE changed >= ? AND changed < ?", _bounds(window)
        ).fetchall()
        return int(found)

    def living(self) -> int:
        """Records that are not deleted."""
        [(found,)] = self._c.execute("SELECT count(*) FROM listed WHERE NOT deleted").fetchall()
        return int(found)

    def months(self, column: str, *, include_deleted: bool) -> dict[str, int]:
        """Records by UTC month of ``changed`` or ``created``; "" for those without."""
        rows = self._c.execute(_MONTHS[column], (include_deleted,))
        return {month or "": count for month, count in rows}

    def keys(self, month: str) -> Iterator[str]:
        """Ids of the living records that were created in a month."""
        rows = self._c.execute(
            "SELECT id FROM listed WHERE NOT deleted AND strftime('%Y-%m', created / 1000.0, 'unixepoch') = ?", (month,)
        )
        return (row[0] for row in rows)


_MONTHS = {
    "changed": "SELECT strftime('%Y-%m', changed / 1000.0, 'unixepoch'), count(*) FROM listed "
    "WHERE ? OR NOT deleted GROUP BY 1",
    "created": "SELECT strftime('%Y-%m', created / 1000.0, 'unixepoch'), count(*) FROM listed "
    "WHERE ? OR NOT deleted GROUP BY 1",
}


def _bounds(window: Window) -> tuple[int, int]:
    low = -(1 << 62) if window.low is None else milliseconds(window.low)
    high = 1 << 62
    if window.high is not None:  # rounded up, as a half-open window with microseconds needs it
        high = milliseconds(window.high + timedelta(microseconds=999))
    return low, high


def _listed(row: tuple[Any, ...]) -> Listed:
    key, changed, created, contact, deleted, record = row
    return Listed(key, changed, created, contact, bool(deleted), parse(record) if record is not None else None)
