"""Gzip files and zip archives as streams: nothing is held but the piece on its way."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator

from . import bad
from .generate import Generator, hour_at


def gzipped(pieces: Iterable[bytes | memoryview], level: int = 1) -> Iterator[bytes]:
    """One gzip file; without name and time, so that equal content gives equal bytes."""
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def event_file(generator: Generator, hour: int, part: int, revision: int, faults: tuple[str, ...]) -> Iterator[bytes]:
    """One gzip file of events of an hour."""
    packed = gzipped(bad.with_lines(generator.lines(hour, part, revision), faults))
    return bad.truncated(packed) if "truncated_gz" in faults else packed


def event_name(project_id: int, hour: int, number: int) -> str:
    """`187520_2020-01-25_7#1.json.gz`: the hour of server_upload_time (UTC) has no leading zero."""
    at = hour_at(hour)
    return f"{project_id}_{at:%Y-%m-%d}_{at.hour}#{number}.json.gz"


def merge_name(org_id: int, hour: int) -> str:
    """`-36958_2020-01-25_7.json.gz`: the organisation's number after a minus, and no part."""
    at = hour_at(hour)
    return f"-{org_id}_{at:%Y-%m-%d}_{at.hour}.json.gz"


class _Sink(io.RawIOBase):
    """Where the archive is written: it cannot go back, so sizes stand behind each member, as in a streamed answer."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]  # the archive hands over bytes and views of them
        self.pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        made = b"".join(self.pieces)
        self.pieces.clear()
        return made


def zipped(members: Iterable[tuple[str, Iterable[bytes]]], method: int, broken: str = "") -> Iterator[bytes]:
    """A zip archive of these members, piece by piece; one bit of the member named `broken` is turned over."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", method, allowZip64=True, compresslevel=0) as archive:
        for name, pieces in members:
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.compress_type = method
            with archive.open(info, "w", force_zip64=True) as member:
                yield sink.taken()
                harm = name == broken
                for piece in pieces:
                    member.write(piece)
                    made = sink.taken()
                    if harm and made:
                        made, harm = _harmed(made), False
                    yield made
            # What the packer held back, and the member's checksum.
            made = sink.taken()
            yield _harmed(made) if harm else made
    yield sink.taken()


def _harmed(data: bytes) -> bytes:
    """The data with one bit of its middle turned over."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
