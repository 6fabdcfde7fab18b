"""A zip of gzip files of lines, read without trust: nothing is extracted, and names only tell how to read.

A member's path is never used as a path. Sizes are those that really come out, not those that the archive declares.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

from novade_core.errors import ProtocolBroken, TransferBroken

_PACKED = 1 << 18
_BLOCK = 4 << 20
#: Small files may well unpack to many times their size.
_HARMLESS = 64 << 20


class Archive:
    """One export on disk. Raises TransferBroken where it is no zip archive."""

    def __init__(self, path: Path, *, name: str, max_ratio: int, max_unpacked: int) -> None:
        """``name``: for messages, such as "The export of 2024-11-20T13"."""
        self.path = path
        self.name = name
        self._max_ratio, self._max_unpacked = max_ratio, max_unpacked
        self._unpacked = 0
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise TransferBroken(f"{name} is not a zip archive: {error}.") from error
        self._members = [m for m in self._zip.infolist() if _is_lines(m)]

    def close(self) -> None:
        """Give back the file."""
        self._zip.close()

    def __len__(self) -> int:
        """How many members hold lines."""
        return len(self._members)

    def seen(self, member: int) -> str:
        """What the archive says of all members up to this one; equal where another download brought the same files."""
        facts = [(m.CRC, m.compress_size, m.file_size) for m in self._members[: member + 1]]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def blocks(self, member: int) -> Generator[bytes, None, None]:
        """What a member unpacks to, block by block.

        Raises TransferBroken, with the member's name, where it is damaged or ends too early, and ProtocolBroken where
        it unpacks beyond all measure.
        """
        info = self._members[member]
        name = repr(info.filename)[:200]
        size = 0
        try:
            with self._zip.open(info) as packed:
                for block in _unzipped(packed) if _is_gzip(info) else iter(lambda: packed.read(_BLOCK), b""):
                    size += len(block)
                    self._unpacked += len(block)
                    self._check(name, size, info.compress_size)
                    yield block
        except (zipfile.BadZipFile, zlib.error) as error:
            raise TransferBroken(f"{self.name} is damaged: its file {name} cannot be unpacked ({error}).") from error
        except EOFError as error:
            raise TransferBroken(f"{self.name} is damaged: its file {name} ends too early.") from error
        except (RuntimeError, NotImplementedError) as error:
            raise ProtocolBroken(f"{self.name} holds the file {name}, which is packed in an unknown way.") from error

    def _check(self, name: str, size: int, packed: int) -> None:
        if size > _HARMLESS and size > packed * self._max_ratio:
            raise ProtocolBroken(
                f"{self.name} holds the file {name}, which unpacks to more than {self._max_ratio:,} times its size.",
                hint="Nothing more of it is read. Events unpack to some 5 to 30 times; if yours really are so alike, "
                "raise amplitude.max_ratio.",
            )
        if self._unpacked > self._max_unpacked:
            raise ProtocolBroken(
                f"{self.name} unpacks to more than {self._max_unpacked >> 30:,} GiB, at its file {name}.",
                hint="Raise amplitude.max_unpacked_gb if exports are really so large, or lower "
                "amplitude.hours_per_request.",
            )


def _is_gzip(info: zipfile.ZipInfo) -> bool:
    return info.filename.lower().endswith(".gz")


def _is_lines(info: zipfile.ZipInfo) -> bool:
    return not info.is_dir() and info.filename.lower().endswith((".gz", ".json", ".jsonl", ".ndjson"))


def _unzipped(packed: IO[bytes]) -> Iterator[bytes]:
    """gzip, also several files one behind the other; zero bytes behind them are padding."""
    unpacker = zlib.decompressobj(31)
    begun = False
    while data := packed.read(_PACKED):
        while data:
            if not begun and not (data := data.lstrip(b"\0")):
                break
            begun = True
            if block := unpacker.decompress(data, _BLOCK):
                yield block
            if unpacker.eof:
                data, unpacker, begun = unpacker.unused_data, zlib.decompressobj(31), False
            else:
                data = unpacker.unconsumed_tail
    # What the unpacker still holds of input that it has taken in.
    while begun and (block := unpacker.decompress(b"", _BLOCK)):
        yield block
    if begun and not unpacker.eof:
        raise EOFError
