"""How Amplitude fails on request, and the settings where the real behaviour is uncertain or too large for a test.

A fault is set by name (POST /_sandbox/amplitude/faults). *Times* means: a number strikes so often, true until removed.
*Where* means: true or a number strikes the first hour of each export, a text such as "2024-11-20T13" that hour.
"""

from __future__ import annotations

import threading
from typing import Any

#: Every fault, so that a typing mistake is an error and not a test that checks nothing.
FAULTS: dict[str, str] = {
    "status": "answer with this HTTP status (429, 503, 504, ...): a number, or {status, count, on, retry_after}",
    "slow": "seconds before every answer",
    "cut": "times: the connection breaks in the middle of the body",
    "bad_member": "where: one bit of the hour's first file is wrong inside the zip",
    "truncated_gz": "where: the hour's first gzip file ends too early",
    "climbing_path": "times: one member more, whose path climbs out of the archive",
    "zip_bomb": "times: one member more of `bomb_bytes` blanks",
    "odd_names": "times: members have other names than the documented ones",
    "empty_export": "times: a zip without members, status 200",
    "missing_hour": "where: the hour's files are not in the zip",
    "not_json": "where: lines that are no JSON object",
    "big_numbers": "where: numbers beyond 64 bits",
    "lone_surrogates": "where: halves of surrogate pairs",
    "nul": "where: a NUL character, escaped and raw",
    "invalid_utf8": "where: bytes that are no UTF-8",
    "duplicate_keys": "where: one key twice, in the properties and in the event",
    "deep_nesting": "where: 10,000 levels of lists and of objects",
    "long_line": "where: a line longer than 16 MiB",
    "two_types": "where: one property with seven types",
}

#: Settings with their defaults.
SETTINGS: dict[str, Any] = {
    #: Whole hours after its end until an hour can be exported.
    "delay_hours": 2,
    #: Exports larger than this are refused with 400 (4 GB); compared with an estimate of the zip's size.
    "max_export_bytes": 4_000_000_000,
    #: Exports of more events than this end in 504; none: never.
    "timeout_events": None,
    #: The longest range of an export, in days.
    "max_days": 365,
    #: Status for a wrong key or the other region's key. The status for no key at all is 401.
    "bad_key_status": 403,
    #: Requests under way at once, over all addresses of a project.
    "concurrent": 5,
    #: Cost of segmentation queries within five minutes and within an hour.
    "cost_per_5_minutes": 1_000,
    "cost_per_hour": 108_000,
    #: Cost of taxonomy calls under way at once and within an hour.
    "taxonomy_at_once": 4,
    "taxonomy_per_hour": 7_200,
    #: The project's zone, in which charts count days.
    "time_zone": "UTC",
    #: Events that drop filters keep out of charts; raw files have them.
    "dropped_events": [],
    #: Which version of the tracking plan the taxonomy shows: 1 or 2.
    "plan_version": 1,
    #: Event types that the taxonomy hides, and such as were deleted from it.
    "hidden_events": [],
    "deleted_events": [],
    #: The Taxonomy API belongs to the enterprise plan; false answers 404.
    "enterprise": True,
    #: Number of an hour's first file in an export (0 in a real one that was seen; documented only for storage, from 1).
    "first_part": 0,
    #: How members are packed: deflated or stored.
    "zip_method": "deflated",
    #: Size of the bomb, unpacked.
    "bomb_bytes": 2 << 30,
}

#: Faults that belong to an hour's file.
OF_HOURS = frozenset(name for name, text in FAULTS.items() if text.startswith("where"))


class Faults:
    """The faults set now. Each question consumes what it counts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.set: dict[str, Any] = {}

    def update(self, wanted: dict[str, Any]) -> None:
        """Set faults; null removes one. Raises ValueError for one that nobody knows."""
        unknown = sorted(set(wanted) - set(FAULTS))
        if unknown:
            raise ValueError(f"unknown faults {unknown}; known: {sorted(FAULTS)}")
        with self.lock:
            for name, value in wanted.items():
                self.set.pop(name, None)
                if name == "status" and isinstance(value, int):
                    self.set[name] = {"status": value}
                elif value is not None and value is not False:
                    self.set[name] = value

    def clear(self) -> None:
        with self.lock:
            self.set.clear()

    def strikes(self, name: str) -> Any:
        """The fault's value if it strikes now, counting one use; None otherwise."""
        with self.lock:
            value = self.set.get(name)
            if value is None:
                return None
            left = value.get("count") if isinstance(value, dict) else value
            if isinstance(left, int) and left is not True:
                if left <= 1:
                    del self.set[name]
                elif isinstance(value, dict):
                    self.set[name] = {**value, "count": left - 1}
                else:
                    self.set[name] = left - 1
            return value

    def status_for(self, kind: str) -> dict[str, Any] | None:
        """The status that a request of this kind gets instead of its answer."""
        value = self.set.get("status")
        if value is None or value.get("on") not in (None, kind):
            return None
        struck: dict[str, Any] | None = self.strikes("status")
        return struck

    def of_export(self, first: str, hours: set[str]) -> dict[str, tuple[str, ...]]:
        """Faults of an export by hour; those without an hour strike its first one."""
        struck: dict[str, tuple[str, ...]] = {}
        for name in OF_HOURS & set(self.set):
            value = self.set[name]
            if isinstance(value, str):
                where = value if value in hours else ""
            else:
                where = first if self.strikes(name) is not None else ""
            if where:
                struck[where] = (*struck.get(where, ()), name)
        return struck
