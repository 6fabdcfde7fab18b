"""How the pool fails on request.

A fault is set by name (POST /_sandbox/synapse/faults); ``match`` is a regular expression for the statements that count
(all, when left out), ``n`` the statement among them that it strikes, ``times`` how many from there on.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from .errors import Cut, SqlError

if TYPE_CHECKING:
    from .engine import Engine

#: Every fault, so that a typing mistake is an error and not a test that checks nothing.
FAULTS: dict[str, str] = {
    "cut": "break the connection: {n, match, times, when: before | after | middle}; after is after it took effect",
    "error": "answer with an error: {number, message, severity, state, n, match, times}",
    "login": "refuse logins: {number, message, times}",
    "slow": "seconds before statements: {seconds, n, match, times}",
    "pause": "pause the pool at a statement: {n, match, when}",
}
_MESSAGES = {
    40197: "The service has encountered an error processing your request. Please try again. Error code 40197.",
    40501: "The service is currently busy. Retry the request after 10 seconds. Incident ID: {1}. Code: {2}",
    40613: "Database is not currently available. Please retry the connection later.",
    49918: "Cannot process request. Not enough resources to process request. Please retry your request later.",
    49919: "Cannot process create or update request. Too many create or update operations in progress.",
    49920: "Cannot process request. Too many operations in progress. Please retry your request later.",
    4060: "Cannot open database requested by the login. The login failed.",
    10928: "Resource ID: 1. The request limit for the database is 128 and has been reached.",
    10929: "Resource ID: 1. The server is currently too busy to support requests greater than the minimum guarantee.",
    42109: "The SQL pool is warming up. Please try again.",
    110802: "An internal DMS error occurred that caused this operation to fail.",
}
_KEYS = {"n", "match", "times", "when", "number", "message", "severity", "state", "seconds"}


class Faults:
    """The faults set now; each strike counts down."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.set: dict[str, dict[str, Any]] = {}
        self.seen: list[str] = []

    def update(self, wanted: dict[str, Any]) -> None:
        """Set faults; null removes one."""
        for name, value in wanted.items():
            if name not in FAULTS:
                raise ValueError(f"unknown fault {name}; known: {FAULTS}")
            if value is not None and (not isinstance(value, dict) or set(value) - _KEYS):
                raise ValueError(f"{name} takes an object with keys of {sorted(_KEYS)}")
        with self.lock:
            for name, value in wanted.items():
                if value is None:
                    self.set.pop(name, None)
                else:
                    self.set[name] = {"n": 1, "times": 1, "when": "before", **value}

    def clear(self) -> None:
        with self.lock:
            self.set.clear()
            self.seen.clear()

    def _struck(self, name: str, command: str, when: str) -> dict[str, Any] | None:
        with self.lock:
            fault = self.set.get(name)
            if fault is None or fault["when"] != when or not re.search(fault.get("match", ""), command, re.I | re.S):
                return None
            if fault["n"] > 1:
                fault["n"] -= 1
                return None
            fault["times"] -= 1
            if fault["times"] <= 0:
                del self.set[name]
            return fault

    def strike(self, engine: Engine, command: str, when: str) -> None:
        """Called before, in the middle of and after every statement."""
        if when == "before":
            with self.lock:
                self.seen.append(command)
                del self.seen[:-2000]
            if (slow := self._struck("slow", command, when)) is not None:
                engine.sleep(float(slow["seconds"]))
            if (fault := self._struck("error", command, when)) is not None:
                number = int(fault["number"])
                message = fault.get("message") or _MESSAGES.get(number, f"Error {number} on command.")
                raise SqlError(number, message, int(fault.get("severity", 16)), int(fault.get("state", 1)))
        if self._struck("pause", command, when) is not None:
            engine.pool.pause()
            raise Cut
        if self._struck("cut", command, when) is not None:
            raise Cut

    def login(self) -> None:
        if (fault := self._struck("login", "", "before")) is not None:
            number = int(fault["number"])
            message = fault.get("message") or _MESSAGES.get(number, f"Error {number} on command.")
            raise SqlError(number, message, 14)
