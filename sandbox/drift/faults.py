"""How the workspace fails on request, the variants where the real behaviour is uncertain, and the rate limit."""

from __future__ import annotations

import threading
import time
from typing import Any

#: Every fault, so that a typing mistake is an error and not a test that checks nothing. *Times*: a number strikes so
#: often, true until it is taken away.
FAULTS: dict[str, str] = {
    "status": "answer with this HTTP status: 503, or {status, count, on, body: error|errors|html|none, retry_after}",
    "always_401": "every request answers 401, whatever the token",
    "expire_after": "the nth further request finds every token of an app ended: 401 until it is refreshed",
    "retired": "the service is gone: every request answers this status (410, 404, 401)",
    "cut_page": "cut the connection in the middle of the nth further answer: n, or {n, times, on}",
    "slow": "seconds before every answer",
    "hang": "requests of this kind are not answered as long as this is set",
    "trickle": "answers of this kind come a byte at a time as long as this is set",
    "invalid_json": "times: half a JSON answer with status 200",
    "html_error": "times: 503 with a page of HTML",
    "empty_body": "times: status 200 without a body",
    "reorder": "before each further page of the list: {moved: n} unread conversations jump to the top, {new: n} appear",
    "repeat_page": "times: a page of the list whose next page is itself",
    "empty_page": "times: a page of the list without rows that has a next page",
    "foreign_link": "times: a next link that leads to another host",
}

#: Variants with their defaults. The vendor's documentation leaves each of them open or says both.
SETTINGS: dict[str, Any] = {
    #: How the first page of conversations continues: "links" (links.next, page_token, limit up to 100) or
    #: "pagination" (pagination.next, next, limit up to 50). A request that names a cursor gets its own style.
    "conversation_paging": "links",
    #: Last page under "links": "null", "absent" (links without next) or "no_links".
    "last_links": "null",
    #: What a cursor means: "offset" counts rows, so rows repeat when others jump; "key" continues after a row.
    "cursor": "offset",
    #: One revision of the documentation calls page_token required, empty on the first call.
    "page_token_required": False,
    #: A limit above the maximum: "clamp" or "reject".
    "over_limit": "clamp",
    #: Host of full URLs: "request" (whoever was asked) or a host such as "driftapi.com".
    "link_host": "request",
    #: `next` of messages: "number" (of the page) or "opaque".
    "message_cursor": "number",
    #: Last page of messages: "absent" or "empty" (pagination with an empty next).
    "last_messages": "absent",
    #: Messages of a conversation that has none: "list" (empty) or "nothing" (an empty object).
    "no_messages": "list",
    #: `data.next` of accounts: "relative" or "absolute"; at the end "absent" or "null".
    "accounts_next": "relative",
    "last_accounts": "absent",
    #: Whether the list of accounts holds deleted ones.
    "lists_deleted_accounts": True,
    #: Error bodies: "mixed" (each where the documentation shows it), "error", "errors", "text" or "empty".
    "error_shape": "mixed",
    #: Calls per minute over all addresses; 0 is no limit (the vendor publishes no figure).
    "calls_per_minute": 0,
    #: Calls per minute of the reports, the one published figure.
    "reports_per_minute": 60,
    #: Length of that minute in seconds, for tests.
    "minute_seconds": 60.0,
    #: Whether answers carry Retry-After and X-RateLimit-*: the vendor documents neither.
    "limit_headers": False,
    #: What a privacy deletion of a contact does to its conversations: "removed", "anonymised" or "kept".
    "deleted_conversations": "removed",
    #: Status of a blocked and of a deleted contact.
    "blocked_status": 403,
    "deleted_status": 404,
    #: Spelling of the token endpoint's fields: "camel" or "snake".
    "oauth_spelling": "camel",
    #: Seconds a token of a public app lives.
    "token_seconds": 7200,
}


class Faults:
    """The faults set now. Each question consumes what it counts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.set: dict[str, Any] = {}

    def update(self, wanted: dict[str, Any]) -> None:
        """Set faults; null removes one."""
        unknown = sorted(set(wanted) - set(FAULTS))
        if unknown:
            raise ValueError(f"unknown faults {unknown}; known: {sorted(FAULTS)}")
        with self.lock:
            for name, value in wanted.items():
                if value is None:
                    self.set.pop(name, None)
                else:
                    self.set[name] = {"status": value} if name == "status" and isinstance(value, int) else value

    def clear(self) -> None:
        with self.lock:
            self.set.clear()

    def get(self, name: str) -> Any:
        return self.set.get(name)

    def times(self, name: str, kind: str = "") -> Any:
        """The fault's value if it strikes this kind of request now, counting one use; None otherwise."""
        with self.lock:
            value = self.set.get(name)
            if value is None or value is False:
                return None
            if isinstance(value, dict):
                if value.get("on") not in (None, kind):
                    return None
                left = value.get("count")
                if left is not None and left <= 1:
                    del self.set[name]
                elif left is not None:
                    self.set[name] = {**value, "count": left - 1}
            elif value is not True:
                if value <= 1:
                    del self.set[name]
                else:
                    self.set[name] = value - 1
            return value

    def reached(self, name: str, kind: str = "") -> bool:
        """Whether this is the nth request that the fault waits for; `times` says how many in a row it strikes."""
        with self.lock:
            value = self.set.get(name)
            if value is None:
                return False
            value = value if isinstance(value, dict) else {"n": int(value)}
            if value.get("on") not in (None, kind):
                return False
            left, times = int(value.get("n", 1)), int(value.get("times", 1))
            if left > 1:
                self.set[name] = {**value, "n": left - 1}
                return False
            if times > 1:
                self.set[name] = {**value, "n": 1, "times": times - 1}
            else:
                del self.set[name]
            return True

    def holds(self, name: str, kind: str) -> bool:
        """Whether a fault that names a kind of request holds up this one now."""
        return self.set.get(name) in (kind, True)


class RateLimit:
    """Calls per minute and bucket, counted in windows that start with the first call."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.windows: dict[str, tuple[float, int]] = {}

    def clear(self) -> None:
        with self.lock:
            self.windows.clear()

    def spend(self, bucket: str, allowed: int, seconds: float) -> tuple[bool, int, float]:
        """Count one call: whether it is allowed, how many are left, seconds until the window ends."""
        now = time.monotonic()
        with self.lock:
            start, used = self.windows.get(bucket, (now, 0))
            if now - start >= seconds:
                start, used = now, 0
            used += 1
            self.windows[bucket] = (start, used)
            return used <= allowed, max(0, allowed - used), start + seconds - now
