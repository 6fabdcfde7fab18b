"""How the org fails on request, and the settings where the real behaviour is uncertain.

A fault is set by name (POST /_sandbox/faults). Where it says *times*, a number means "so often, then never again",
true means "until reset".
"""

from __future__ import annotations

import threading
from typing import Any

#: Every fault, so that a typing mistake is an error and not a test that checks nothing.
FAULTS: dict[str, str] = {
    "session_after": "the nth further API request ends all sessions and answers 401",
    "always_401": "every API request answers 401 INVALID_SESSION_ID, whatever the token",
    "expire_on": "the next request of this kind (poll, page, query, describe, ...) ends all sessions and answers 401",
    "status": "answer with this HTTP status: 503, or {status, count, on, body: list|html|none, retry_after: seconds}",
    "html_error": "times: a 503 with an HTML page instead of JSON",
    "cut_page": "cut the connection in the middle of the nth further page: n, or {n, times, on}",
    "malformed_csv": "times: a bulk page with broken CSV: true, n, or {count, how: quote|cells}",
    "short_page": "this many rows fewer than the header says: n, or {rows, count}",
    "job_state": "jobs end as Failed or Aborted: text, or {state, errorMessage, count}",
    "query_timeout": "queries that find more rows than this end in QUERY_TIMEOUT",
    "job_delay_polls": "a job completes only after this many polls",
    "expired_locator": "times: INVALID_QUERY_LOCATOR for the next page of a query",
    "slow": "seconds before every answer",
    "hang": "requests of this kind are not answered as long as this is set",
    "trickle": "answers of this kind come a byte at a time as long as this is set",
    "no_number_header": "times: bulk pages without Sforce-NumberOfRecords",
    "empty_body": "a bulk result without rows has no header row either",
    "unreadable": "objects (name or list) the user cannot see any more",
    "bulk_unsupported": "objects (name or list) Bulk refuses with INVALIDENTITY",
    "bad_credentials": "every login fails: true, or the error to give",
    "api_disabled": "403 API_DISABLED_FOR_ORG",
    "limit_exceeded": "times: bulk job creation answers 400 LIMIT_EXCEEDED",
    "concurrent": "times: 403 REQUEST_LIMIT_EXCEEDED for too many long requests at once",
    "malformed_json": "times: a REST answer that is cut-off JSON with status 200",
    "repeat_page": "times: a query page whose nextRecordsUrl is its own",
}

#: Settings with their defaults; they survive a reset of faults only if not listed in its answer.
SETTINGS: dict[str, Any] = {
    #: Seconds a session lives after its last login.
    "token_seconds": 7200,
    #: Seconds a query locator lives (two days).
    "locator_seconds": 172_800,
    #: "0r8": an opaque 18-character locator per page; "01g": the older id-offset form.
    "locator_form": "0r8",
    #: Query pages are sometimes smaller than asked.
    "uneven_pages": True,
    #: Bulk pages put NUL bytes into a few texts.
    "nul_bytes": False,
    #: Null cells in bulk pages without quotes.
    "bare_null": False,
    #: Status of bulk results asked for too early: 204 (old documentation) or 400.
    "results_early": 204,
    #: Whether a delete moves SystemModstamp (unconfirmed in the documentation).
    "delete_moves_stamp": True,
    #: getDeleted knows nothing older than so many days.
    "deleted_days": 15,
    #: getDeleted refuses to list more ids than this.
    "deleted_limit": 600_000,
    #: Adds "; per-app-api-usage=..." with this app name to the usage header.
    "app_name": "",
    #: Rows of a bulk page when the client does not ask for a number.
    "page_size_bulk": 25_000,
    #: Content type of bulk pages.
    "csv_content_type": "text/csv; charset=UTF-8",
}

_ALIASES = {"poll": "bulk_poll", "page": "bulk_page", "create": "bulk_create", "login": "token"}


class Faults:
    """The faults set now. Each question consumes what it counts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.set: dict[str, Any] = {}

    def update(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Set faults; null removes one. ``count``, ``on`` and ``errorMessage`` beside a fault belong to it."""
        extra = {k: wanted[k] for k in ("count", "on", "errorMessage", "body") if k in wanted}
        unknown = sorted(set(wanted) - set(FAULTS) - set(extra))
        if unknown:
            raise ValueError(f"unknown faults {unknown}; known: {sorted(FAULTS)}")
        with self.lock:
            for name, value in wanted.items():
                if name not in FAULTS:
                    continue
                made = value
                if name == "status" and isinstance(value, int):
                    made = {"status": value, **{k: v for k, v in extra.items() if k != "errorMessage"}}
                if name == "job_state" and isinstance(value, str):
                    made = {"state": value, **{k: extra[k] for k in ("errorMessage", "count") if k in extra}}
                if made is None:
                    self.set.pop(name, None)
                else:
                    self.set[name] = made
            return dict(self.set)

    def clear(self) -> None:
        with self.lock:
            self.set.clear()

    def get(self, name: str) -> Any:
        return self.set.get(name)

    def times(self, name: str) -> Any:
        """The fault's value if it strikes now, counting one use; None otherwise."""
        with self.lock:
            value = self.set.get(name)
            if value is None or value is False:
                return None
            if isinstance(value, dict):
                left = value.get("count")
                if left is not None:
                    if left <= 1:
                        del self.set[name]
                    else:
                        self.set[name] = {**value, "count": left - 1}
            elif value is not True and isinstance(value, int):
                if value <= 1:
                    del self.set[name]
                else:
                    self.set[name] = value - 1
            return value

    def status_for(self, kind: str) -> dict[str, Any] | None:
        value = self.set.get("status")
        if value is None or (value.get("on") and _kind(value["on"]) != kind):
            return None
        struck = self.times("status")
        return struck if isinstance(struck, dict) else None

    def holds(self, fault: str, kind: str) -> bool:
        """Whether a fault that names a kind of request holds up this one now."""
        value = self.set.get(fault)
        return value is not None and _kind(str(value)) == kind

    def expires_now(self, kind: str) -> bool:
        """Whether this request finds its session ended."""
        with self.lock:
            on = self.set.get("expire_on")
            if on is not None and _kind(on) == kind:
                del self.set["expire_on"]
                return True
            after = self.set.get("session_after")
            if after is not None:
                if after <= 1:
                    del self.set["session_after"]
                    return True
                self.set["session_after"] = after - 1
            return False

    def cuts_now(self, kind: str) -> bool:
        """Whether the connection breaks in the middle of this page."""
        with self.lock:
            value = self.set.get("cut_page")
            if value is None:
                return False
            value = value if isinstance(value, dict) else {"n": int(value)}
            if value.get("on") and _kind(value["on"]) != kind:
                return False
            left = int(value.get("n", 1))
            if left > 1:
                self.set["cut_page"] = {**value, "n": left - 1}
                return False
            again = int(value.get("times", 1)) - 1
            if again > 0:
                self.set["cut_page"] = {**value, "n": 1, "times": again}
            else:
                del self.set["cut_page"]
            return True

    def names(self, fault: str) -> set[str]:
        """Objects a fault lists, in small letters."""
        value = self.set.get(fault) or []
        return {name.lower() for name in ([value] if isinstance(value, str) else value)}


def _kind(name: str) -> str:
    return _ALIASES.get(name, name)
