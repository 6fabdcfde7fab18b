"""Which lines of a file are taken: whole blocks are looked at fast, and only a block that fails line by line."""

from __future__ import annotations

from dataclasses import dataclass

from novade_core.streams import Refused

#: A line with its end is no longer than this; what reads batches cannot take more.
LONGEST = 16 << 20
#: So much of a refused line is kept.
KEPT = 1_000
#: Raw control characters, which no JSON holds; tab and line feed may stand between its parts.
_CONTROL = bytes(set(range(32)) - {9, 10})


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Whole lines of a file."""

    text: bytes  #: those that are taken, each with its line feed
    rows: int  #: of the text
    refused: tuple[Refused, ...] = ()

    @property
    def lines(self) -> int:
        """All of them, taken or not."""
        return self.rows + len(self.refused)


class Splitter:
    """Blocks of bytes in, whole lines out. Never holds more than a line and a block."""

    def __init__(self) -> None:
        self._carry = b""
        self._skipping = False  #: inside a line that is too long and was told already

    def feed(self, block: bytes) -> Piece:
        """The lines that end in this block."""
        if self._skipping:
            end = block.find(b"\n")
            if end < 0:
                return Piece(text=b"", rows=0)
            block, self._skipping = block[end + 1 :], False
        cut = block.rfind(b"\n") + 1
        whole, self._carry = (self._carry + block[:cut], block[cut:]) if cut else (b"", self._carry + block)
        piece = _taken(whole)
        if len(self._carry) >= LONGEST:
            refused = _refused(self._carry, "is longer than 16 MiB")
            piece = Piece(text=piece.text, rows=piece.rows, refused=(*piece.refused, refused))
            self._carry, self._skipping = b"", True
        return piece

    def finish(self) -> Piece:
        """The last line, where the file does not end with a line feed."""
        rest, self._carry, self._skipping = self._carry, b"", False
        return _taken(rest + b"\n") if rest else Piece(text=b"", rows=0)


def _taken(whole: bytes) -> Piece:
    if not whole or _is_clean(whole):
        return Piece(text=whole, rows=whole.count(b"\n"))
    taken: list[bytes] = []
    refused: list[Refused] = []
    for line in (ended.removesuffix(b"\r") for ended in whole[:-1].split(b"\n")):
        if reason := _why_not(line):
            refused.append(_refused(line, reason))
        else:
            taken.append(line)
    text = b"\n".join(taken) + b"\n" if taken else b""
    return Piece(text=text, rows=len(taken), refused=tuple(refused))


def _is_clean(whole: bytes) -> bool:
    if len(whole) > LONGEST or whole[:1] == b"\n" or b"\n\n" in whole:
        return False
    return len(whole.translate(None, _CONTROL)) == len(whole) and _is_utf8(whole)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _why_not(line: bytes) -> str:
    if not line:
        return "is an empty line"
    if len(line) >= LONGEST:
        return "is longer than 16 MiB"
    if len(line.translate(None, _CONTROL)) != len(line):
        return "holds a raw control character"
    return "" if _is_utf8(line) else "is not UTF-8"


def _refused(line: bytes, reason: str) -> Refused:
    return Refused(reason=reason, record=line[: 4 * KEPT].decode("utf-8", "replace")[:KEPT])
