"""Export API: whole hours by ``server_upload_time`` (UTC), both included, as one zip that becomes batches of lines.

Source: amplitude.com/docs, "Export API". 404 = no data. 400 = larger than 4 GB; 504 = took too long: both are answered
with a shorter range.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from novade_core.errors import ConfigurationError, ExtractionLost, SourceUnavailable, TransferBroken, WindowTooLarge
from novade_core.settings import AmplitudeSettings
from novade_core.sources.amplitude.archive import Archive
from novade_core.sources.amplitude.client import Client
from novade_core.sources.amplitude.faults import NoData, Refused, TimedOut
from novade_core.sources.amplitude.lines import Piece, Splitter
from novade_core.streams import Batch, JsonLines
from novade_core.streams import Refused as RefusedLine

HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A batch ends after so many refused lines, so that a run ends soon where nothing can be read.
_MOST_REFUSED = 1_000


@dataclass(frozen=True, kw_only=True)
class Span:
    """One request: so many whole hours."""

    first: datetime
    hours: int

    @property
    def label(self) -> str:
        """``2024-11-20T13`` or ``2024-11-20T00 to 2024-11-20T23``, as people read it."""
        first, last = f"{self.first:%Y-%m-%dT%H}", f"{self.first + HOUR * (self.hours - 1):%Y-%m-%dT%H}"
        return first if self.hours == 1 else f"{first} to {last}"

    def parameters(self) -> dict[str, str]:
        """``end`` is the last hour, which is included."""
        return {"start": f"{self.first:%Y%m%dT%H}", "end": f"{self.first + HOUR * (self.hours - 1):%Y%m%dT%H}"}


def hour_of(instant: datetime) -> datetime:
    """The beginning of its hour."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def spans(low: datetime, high: datetime, most: int) -> list[Span]:
    """Requests that tile the hours that ``low <= t < high`` touches, each of at most ``most`` hours.

    They are cut at multiples of ``most`` hours since 1970, so that the same hours are asked for each time.
    """
    step, made = HOUR * most, []
    at = hour_of(low)
    while at < high:
        end = min(at - (at - _EPOCH) % step + step, hour_of(high - timedelta(microseconds=1)) + HOUR)
        made.append(Span(first=at, hours=(end - at) // HOUR))
        at = end
    return made


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a batch ended: in which request's archive, behind which line of which member."""

    first: str
    hours: int
    member: int
    line: int
    seen: str  #: what the archive said of its members so far

    @property
    def span(self) -> Span:
        """The request."""
        return Span(first=datetime.fromisoformat(self.first), hours=self.hours)


class Exporter:
    """Reads hours. One archive is on disk at a time, and of it nothing but a few blocks in memory."""

    def __init__(self, client: Client, settings: AmplitudeSettings, temp: Path) -> None:
        self._client = client
        self._settings = settings
        self._file = temp / "export.zip"
        self._lines = temp / "events.jsonl"
        self._held: Span | None = None
        self._unsaid = 0  #: bytes received that no batch has told of

    def read(
        self, low: datetime, high: datetime, resume: Mapping[str, Any] | None, text: Callable[[Path], JsonLines]
    ) -> Generator[Batch, None, None]:
        """Batches of the hours that ``low <= t < high`` touches; ``text`` says how a file of lines is read.

        Raises WindowTooLarge where fewer hours may do, ExtractionLost where ``resume`` fits no archive any more.
        """
        settings, at = self._settings, Position(**resume) if resume else None
        rows = size = 0
        refused: list[RefusedLine] = []
        try:
            with closing(self._pieces(low, high, at)) as pieces:
                file = self._lines.open("wb")
                try:
                    for piece, position in pieces:
                        full = rows >= settings.batch_rows or size >= settings.batch_mb << 20
                        if full or len(refused) >= _MOST_REFUSED:
                            file.close()
                            yield self._batch(text, rows, refused, asdict(position))
                            file, rows, size, refused = self._lines.open("wb"), 0, 0, []
                        size += file.write(piece.text)
                        rows += piece.rows
                        refused += piece.refused
                finally:
                    file.close()
            if rows or refused:
                yield self._batch(text, rows, refused, None)
        finally:
            self._lines.unlink(missing_ok=True)

    def _batch(
        self, text: Callable[[Path], JsonLines], rows: int, refused: list[RefusedLine], resume: dict[str, Any] | None
    ) -> Batch:
        received, self._unsaid = self._unsaid, 0
        return Batch(text=text(self._lines), resume=resume, rows=rows, bytes_in=received, refused=tuple(refused))

    def _pieces(
        self, low: datetime, high: datetime, resume: Position | None
    ) -> Generator[tuple[Piece, Position], None, None]:
        """Whole lines, each piece with the position at which it begins."""
        asked = spans(low, high, self._settings.hours_per_request)
        if resume is not None:
            if resume.span not in asked:
                raise ExtractionLost("Exports are cut into other requests than before, so the window is read again.")
            asked = asked[asked.index(resume.span) :]
        for span in asked:
            archive = self._open(span)
            if archive is None:
                continue
            try:
                with closing(archive):
                    yield from _of_archive(archive, span, resume if resume and resume.span == span else None)
            except TransferBroken:
                self._drop()
                raise

    def _open(self, span: Span) -> Archive | None:
        """The archive of these hours, from disk where it is still there; None where they have no data."""
        name, settings = f"The export of {span.label}", self._settings
        if self._held != span:
            self._drop()
            try:
                self._unsaid += self._client.download(
                    "/api/2/export",
                    self._file,
                    f"exporting {span.label}",
                    settings.max_archive_mb << 20,
                    params=span.parameters(),
                )
            except NoData:
                return None
            except (Refused, TimedOut) as error:
                raise _too_large(span, error) from error
            self._held = span
        try:
            return Archive(
                self._file, name=name, max_ratio=settings.max_ratio, max_unpacked=settings.max_unpacked_gb << 30
            )
        except TransferBroken:
            self._drop()
            raise

    def _drop(self) -> None:
        """Nothing of a former archive is of use any more."""
        self._held = None
        with suppress(FileNotFoundError):
            self._file.unlink()


def _of_archive(archive: Archive, span: Span, resume: Position | None) -> Iterator[tuple[Piece, Position]]:
    start, skip = (resume.member, resume.line) if resume else (0, 0)
    if resume is not None and (start >= len(archive) or archive.seen(start) != resume.seen):
        raise ExtractionLost(f"{archive.name} holds other files than before, so the window is read again.")
    for member in range(start, len(archive)):
        line, seen = 0, archive.seen(member)
        for piece in _of_member(archive, member):
            if line < skip:
                line += piece.lines
                if line > skip:
                    raise ExtractionLost(f"{archive.name} is cut into other pieces than before; it is read again.")
                continue
            at = Position(first=span.first.isoformat(), hours=span.hours, member=member, line=line, seen=seen)
            yield piece, at
            line += piece.lines
        skip = 0


def _of_member(archive: Archive, member: int) -> Iterator[Piece]:
    splitter = Splitter()
    with closing(archive.blocks(member)) as blocks:
        for block in blocks:
            if (piece := splitter.feed(block)).lines:
                yield piece
    if (piece := splitter.finish()).lines:
        yield piece


def _too_large(span: Span, error: Refused | TimedOut) -> ConfigurationError | SourceUnavailable | WindowTooLarge:
    if span.hours > 1:
        return WindowTooLarge(error.message, hint="The window is halved and asked again.")
    if isinstance(error, TimedOut):
        return SourceUnavailable(
            f"Amplitude could not make the export of a single hour in time: {error.message}",
            hint="Start the run again later; if it stays, the hour is too large for the Export API: use Amplitude's "
            "export to a storage account.",
        )
    return ConfigurationError(
        f"Amplitude refuses to export even a single hour: {error.message}",
        hint="The Export API gives at most 4 GB at once. Use Amplitude's export to a storage account for such hours.",
        origin="source",
    )
