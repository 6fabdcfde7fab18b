"""The walk over the list of conversations that loses nothing, though the list moves under the reader.

The list is ordered by change, newest first, and has no filter by time. A conversation that changes while somebody pages
jumps to the top: behind the reader's back where it had not been read yet. So after each walk the top is looked at
again, down to the newest change that the last look began with less an overlap, until a look finds nothing new.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from novade_core.errors import ProtocolBroken
from novade_core.sources.drift import paging
from novade_core.sources.drift.client import Client
from novade_core.sources.drift.records import changed, instant
from novade_core.sources.drift.shelf import Listed, Shelf

_log = logging.getLogger(__name__)
#: A workspace in which something changes all the time is never quiet. What still moves after so many looks changed
#: after the run began, and the checkpoint never passes that instant: the next run reads it.
_MOST_LOOKS = 20


def listed(record: Any, *, key: str = "id", updated: str = "updatedAt", created: str = "createdAt") -> Listed:
    """A record of a list. Raises ProtocolBroken where it has no key."""
    if not isinstance(record, dict) or not isinstance(record.get(key), str) or not record[key]:
        raise ProtocolBroken(f"Drift listed a record without {key}.")
    contact = record.get("contactId")
    return Listed(
        id=str(record[key]),
        changed=instant(changed(record, updated, created)),
        created=instant(record.get(created)),
        contact=str(contact) if isinstance(contact, str) else None,
        deleted=record.get("deleted") is True,
        record=record,
    )


class Listing:
    """Conversations on a shelf, as far down as somebody asked for."""

    def __init__(self, client: Client, shelf: Shelf, overlap_ms: int) -> None:
        self._client = client
        self.shelf = shelf
        self._overlap = overlap_ms
        self._low: int | None = None  #: everything that changed from here on was listed; None before the first walk
        self._unused = False

    @property
    def complete(self) -> bool:
        """Whether the list was read to its end."""
        return self._low == _BOTTOM

    def reach(self, low: int | None) -> Shelf:
        """The shelf with everything that changed at ``low`` (milliseconds) or later, all of it where that is None.

        What is there already is brought up to date with a look at the top, but for a walk that nobody has used yet.
        """
        wanted = _BOTTOM if low is None else low
        if self._low is None or wanted < self._low:
            high = self._walk(wanted)
            self._look(high)
            self._low, self._unused = wanted, True
        elif not self._unused:
            self._look(self.shelf.highest())
        return self.shelf

    def used(self) -> None:
        """What was listed is being read: by the next question it is old."""
        self._unused = False

    def _walk(self, low: int) -> int | None:
        """List from the top down to strictly below ``low``; answers the highest change of the top page."""
        top: int | None = None
        for page in paging.conversations(self._client, self._client.settings.page_rows):
            rows = [listed(record) for record in page]
            self.shelf.put(rows)
            if top is None:
                top = max((r.changed for r in rows if r.changed is not None), default=None)
            # Where a conversation without updatedAt stands in the order is not documented: it does not end the walk.
            stamps = [s for r in rows if (s := _updated(r.record)) is not None]
            if stamps and stamps[-1] < low:
                break
        return top

    def _look(self, high: int | None) -> None:
        for _ in range(_MOST_LOOKS):
            if high is None:
                return
            before = self.shelf.kept
            high = self._walk(high - self._overlap)
            if self.shelf.kept == before:
                return
        _log.info("drift conversations kept moving through %s looks", _MOST_LOOKS)


class Directory:
    """What is listed whole each time: users, accounts, files. The same questions as to :class:`Listing`."""

    complete = True

    def __init__(
        self,
        pages: Callable[[], Iterable[list[Any]]],
        names: Mapping[str, str],
        shelf: Callable[[], Shelf],
        *,
        changes: bool = True,
    ) -> None:
        """``names`` of key and instants as :func:`listed` takes them; ``changes``: unlike files."""
        self._pages, self._names, self._make, self._changes = pages, names, shelf, changes
        self._shelf: Shelf | None = None

    def reach(self, low: int | None) -> Shelf:  # noqa: ARG002  the list has no order to stop in
        """The list as it is now."""
        if self._shelf is None:
            self._shelf = self._make()
            for page in self._pages():
                self._shelf.put(self._dated(listed(record, **self._names)) for record in page)
        return self._shelf

    def used(self) -> None:
        """The next question lists again."""
        if self._changes:
            self._shelf = None

    @staticmethod
    def _dated(row: Listed) -> Listed:
        """One without any instant counts as never changed; a full reload sees that it did."""
        has_none = row.changed is None and not any((row.record or {}).get(n) for n in _INSTANTS)
        return row._replace(changed=0) if has_none else row


_INSTANTS = ("updatedAt", "createdAt", "updateDateTime", "createDateTime")
_BOTTOM = -(1 << 62)


def _updated(record: Mapping[str, Any] | None) -> int | None:
    return instant((record or {}).get("updatedAt"))
