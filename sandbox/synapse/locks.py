"""Writer locks, held to the end of a transaction, as the pool's row locks act on whole distributions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import SqlError


@dataclass(frozen=True)
class Wanted:
    """A lock on a table: shared among inserts, alone for everything else.

    ``part`` names the value of the distribution column that an UPDATE or DELETE is limited to: two such statements with
    different values touch different distributions and do not wait for each other. None is the whole table.
    """

    table: str
    exclusive: bool
    part: str | None = None

    def conflicts(self, other: Wanted) -> bool:
        if self.table != other.table or not (self.exclusive or other.exclusive):
            return False
        if self.exclusive and other.exclusive:
            return self.part is None or other.part is None or self.part == other.part
        # An insert meets only who holds the whole table: which distributions its rows go to is not followed.
        return (self if self.exclusive else other).part is None


class Locks:
    """Who holds what. Owners are compared by identity."""

    def __init__(self) -> None:
        self.held: list[tuple[object, Wanted]] = []
        self.changed = threading.Condition()
        self.waiting: dict[object, Wanted] = {}

    def take(self, owner: object, wanted: Wanted, look: Callable[[], None], seconds: float | None = None) -> None:
        """Wait until nobody else's lock conflicts; ``look`` raises to end the wait."""
        until = None if seconds is None else time.monotonic() + seconds
        with self.changed:
            self.waiting[owner] = wanted
            try:
                while any(o is not owner and w.conflicts(wanted) for o, w in self.held):
                    look()
                    if self._circle(owner):
                        raise SqlError(
                            1205,
                            "Transaction was deadlocked on lock resources with another process and has "
                            "been chosen as the deadlock victim. Rerun the transaction.",
                            13,
                            45,
                        )
                    if until is not None and time.monotonic() > until:
                        raise SqlError(1222, "Lock request time out period exceeded.", 16, 56)
                    self.changed.wait(0.05)
                self.held.append((owner, wanted))
            finally:
                del self.waiting[owner]

    def _circle(self, start: object) -> bool:
        seen: list[object] = []
        ahead = self._blockers(start)
        while ahead:
            who = ahead.pop()
            if who is start:
                return True
            if not any(who is s for s in seen):
                seen.append(who)
                ahead += self._blockers(who)
        return False

    def _blockers(self, owner: object) -> list[object]:
        wanted = self.waiting.get(owner)
        return [] if wanted is None else [o for o, w in self.held if o is not owner and w.conflicts(wanted)]

    def release(self, owner: object) -> None:
        with self.changed:
            self.held = [(o, w) for o, w in self.held if o is not owner]
            self.changed.notify_all()

    def holder(self, table: str, but: object) -> object | None:
        """Another owner with an uncommitted change of this table."""
        with self.changed:
            return next((o for o, w in self.held if o is not but and w.table == table), None)

    def waits(self, owner: object) -> bool:
        return owner in self.waiting
