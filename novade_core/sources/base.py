"""The source protocol. A source yields batches of text values and knows nothing of landing or warehouse."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from novade_core.streams import Batch, Stream, StreamSchema, Window


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a source says of itself. None = it did not say."""

    calls_used: int | None = None  #: of the rolling 24 hours
    calls_allowed: int | None = None
    about: Mapping[str, str]  #: such as instance and API version; compared between runs


class Source(Protocol):
    """What the engine asks of a source. Errors are those of ``novade_core.errors``."""

    name: str
    #: Told of each wait before it begins: seconds and what for. The engine shows it as a countdown.
    on_wait: Callable[[float, str], None]

    def schema(self, stream: Stream) -> StreamSchema:
        """What the stream looks like now. Raises AccessMissing where the object is hidden."""

    def now(self) -> datetime:
        """The source's own clock, aware UTC; the seam between history and live is cut by it."""

    def count(self, stream: Stream) -> int:
        """Live records (not deleted) at this moment. Raises NotOffered where the source cannot tell."""

    def counts_by_month(self, stream: Stream, field: str, *, include_deleted: bool) -> dict[str, int]:
        """Records by UTC month of a timestamp field: ``{"2025-03": 1200}``; months without records are absent.

        "" stands for records without that field. Raises NotOffered where the source cannot tell.
        """

    def window_count(self, stream: Stream, window: Window) -> int | None:
        """Records, deleted ones included, whose cursor lies in the window; None where only reading them tells."""

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """Primary keys of the live records of one UTC month of ``field``. Raises NotOffered like the counts."""

    def extract(
        self, stream: Stream, schema: StreamSchema, window: Window, resume: Mapping[str, Any] | None
    ) -> Generator[Batch, None, None]:
        """The window's records, deleted ones included, as text; ``resume`` is a former batch's position.

        The last batch of a window has ``resume=None``; a window without records yields nothing.
        Raises ExtractionLost where ``resume`` is of no use any more, WindowTooLarge where half may do.
        """

    def usage(self) -> Mapping[str, int]:
        """Meters since this source was built, such as ``salesforce.api_calls``; asked from another thread, too."""

    def facts(self) -> Facts:
        """What the source said of itself so far."""

    def close(self) -> None:
        """Give back connections."""


@runtime_checkable
class CutsWindows(Protocol):
    """A source that is read in spans of its own, such as whole hours, and has no counts to cut windows by."""

    def cut(self, stream: Stream, low: datetime | None, high: datetime, part: str) -> list[Window]:
        """Windows that tile everything from ``low`` (None: as far back as configured) to ``high``, oldest first.

        ``high`` is the source's ``now``: behind it there is nothing yet.
        """
