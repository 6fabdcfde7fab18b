"""Input that a reader must survive: lines, gzip files and archives as no writer should make them.

Lines are made of a real event of the hour, with ids of their own, so that every good event of the hour stays countable.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

#: How deep the nesting of `deep_nesting` is.
DEPTH = 10_000
#: A text of this many characters makes a line longer than 16 MiB.
LONG = (16 << 20) + 1024

_BLANKS = 64 << 20


def _with(event: dict[str, Any], number: int, properties: str) -> bytes:
    """The event with a uuid of its own and these event_properties, given as text because no writer would write them."""
    changed = {**event, "uuid": f"0bad0000-0000-4000-8000-{number:012d}", "event_properties": "$PROPERTIES"}
    text = json.dumps(changed, ensure_ascii=False, separators=(",", ":"))
    return text.replace('"$PROPERTIES"', properties).encode("utf-8", "surrogatepass")


def _not_json(event: dict[str, Any]) -> list[bytes]:
    whole = _with(event, 1, "{}")
    return [whole[: len(whole) // 2], b"no JSON at all", b"[1,2]", b'"text"', b"42", b"", b"NaN", whole + b" trailing"]


def _big_numbers(event: dict[str, Any]) -> list[bytes]:
    values = (
        "9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "1e400",
        "18446744073709551616",
    )
    return [_with(event, 10 + n, f'{{"source":"api","number":{value}}}') for n, value in enumerate(values)]


def _lone_surrogates(event: dict[str, Any]) -> list[bytes]:
    return [_with(event, 20, r'{"text":"\ud800"}'), _with(event, 21, r'{"\udc00key":"a\ude00b"}')]


def _nul(event: dict[str, Any]) -> list[bytes]:
    return [
        _with(event, 30, r'{"text":"before\u0000after"}'),
        _with(event, 31, '{"text":"raw"}').replace(b"raw", b"r\0w"),
    ]


def _invalid_utf8(event: dict[str, Any]) -> list[bytes]:
    return [_with(event, 35, '{"text":"raw"}').replace(b"raw", b"\xff\xfe\xc3")]


def _duplicate_keys(event: dict[str, Any]) -> list[bytes]:
    inside = _with(event, 40, '{"source":"api","source":"toolbar"}')
    return [inside, _with(event, 41, "{}")[:-1] + b',"event_type":"Second Winner"}']


def _deep_nesting(event: dict[str, Any]) -> list[bytes]:
    return [_with(event, 50, '{"deep":' + "[" * DEPTH + "]" * DEPTH + "}"),
            _with(event, 51, '{"a":' * DEPTH + "1" + "}" * DEPTH)]  # fmt: skip


def _long_line(event: dict[str, Any]) -> list[bytes]:
    return [_with(event, 60, '{"text":"' + "x" * LONG + '"}')]


def _two_types(event: dict[str, Any]) -> list[bytes]:
    values = ("1", '"one"', '{"one":1}', "[1]", "true", "null", "1.5")
    return [_with(event, 70 + n, f'{{"source":"api","duration_ms":{value}}}') for n, value in enumerate(values)]


#: Fault of a file's content -> the lines that it adds after the first piece of good ones.
LINES: dict[str, Callable[[dict[str, Any]], list[bytes]]] = {
    "not_json": _not_json,
    "big_numbers": _big_numbers,
    "lone_surrogates": _lone_surrogates,
    "nul": _nul,
    "invalid_utf8": _invalid_utf8,
    "duplicate_keys": _duplicate_keys,
    "deep_nesting": _deep_nesting,
    "long_line": _long_line,
    "two_types": _two_types,
}


def with_lines(pieces: Iterator[memoryview], faults: tuple[str, ...]) -> Iterator[bytes | memoryview]:
    """The pieces of a file with the lines of these faults after the first piece."""
    waiting = [name for name in faults if name in LINES]
    for piece in pieces:
        yield piece
        if waiting and len(piece):
            event = json.loads(bytes(piece).split(b"\n", 1)[0])
            yield b"".join(line + b"\n" for name in waiting for line in LINES[name](event))
            waiting = []


def truncated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A gzip file whose last half of the last piece is missing, and with it the checksum."""
    held = b""
    for piece in pieces:
        if held:
            yield held
        held = piece
    yield held[: len(held) // 2]


def bomb(size: int) -> Iterator[bytes]:
    """A gzip file of at least `size` bytes of blanks, a thousand times smaller: one small file again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    small = packer.compress(b" " * _BLANKS) + packer.flush()
    for _ in range(-(-size // _BLANKS)):
        yield small
