"""Column types and values on the wire: DuckDB's on the way out, the client's parameters on the way in."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from .errors import SqlError, not_offered

_EPOCH = date(1, 1, 1).toordinal()
COLLATION = bytes([0x09, 0x04, 0xD0, 0x00, 0x34])
#: Bytes of a time of day by its scale.
_TIME_BYTES = (3, 3, 3, 4, 4, 5, 5, 5)


@dataclass(frozen=True)
class WireType:
    """How a column of one DuckDB type goes out: its TYPE_INFO and its values."""

    info: bytes
    encode: Callable[[Any], bytes]


def _sized(form: str) -> Callable[[Any], bytes]:
    size = struct.calcsize(form)

    def encode(value: Any) -> bytes:
        if value is None:
            return b"\x00"
        try:
            return bytes([size]) + struct.pack(form, value)
        except struct.error:
            raise SqlError(8115, "Arithmetic overflow error converting expression to data type bigint.") from None

    return encode


def _plp(data: bytes | None) -> bytes:
    if data is None:
        return b"\xff" * 8
    if not data:
        return bytes(12)
    return struct.pack("<QI", len(data), len(data)) + data + bytes(4)


def _decimal(precision: int, scale: int) -> WireType:
    shift = Decimal(10) ** scale

    def encode(value: Any) -> bytes:
        if value is None:
            return b"\x00"
        sign, digits, exponent = Decimal(value).as_tuple()
        whole = int("".join(map(str, digits)))
        assert isinstance(exponent, int)  # NaN and infinity do not exist in DECIMAL
        magnitude = whole * 10 ** (exponent + scale) if exponent + scale >= 0 else int(abs(Decimal(value)) * shift)
        return b"\x11" + (b"\x00" if sign else b"\x01") + magnitude.to_bytes(16, "little")

    return WireType(bytes([0x6C, 17, precision, scale]), encode)


def _date(value: date | None) -> bytes:
    return b"\x00" if value is None else b"\x03" + (value.toordinal() - _EPOCH).to_bytes(3, "little")


def _ticks(value: time | datetime) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 10_000_000 + value.microsecond * 10


def _time(value: time | None) -> bytes:
    return b"\x00" if value is None else b"\x05" + _ticks(value).to_bytes(5, "little")


def _datetime2(value: datetime | None) -> bytes:
    if value is None:
        return b"\x00"
    return b"\x08" + _ticks(value).to_bytes(5, "little") + (value.toordinal() - _EPOCH).to_bytes(3, "little")


def _guid(value: Any) -> bytes:
    return b"\x00" if value is None else b"\x10" + uuid.UUID(str(value)).bytes_le


_SIMPLE = {
    "BOOLEAN": WireType(b"\x68\x01", _sized("<?")),
    "UTINYINT": WireType(b"\x26\x01", _sized("<B")),
    "TINYINT": WireType(b"\x26\x02", _sized("<h")),
    "SMALLINT": WireType(b"\x26\x02", _sized("<h")),
    "INTEGER": WireType(b"\x26\x04", _sized("<i")),
    "BIGINT": WireType(b"\x26\x08", _sized("<q")),
    # The sum of bigints, which is a bigint in T-SQL and overflows.
    "HUGEINT": WireType(b"\x26\x08", _sized("<q")),
    "UBIGINT": WireType(b"\x26\x08", _sized("<q")),
    "NULL": WireType(b"\x26\x04", _sized("<i")),
    "FLOAT": WireType(b"\x6d\x04", _sized("<f")),
    "DOUBLE": WireType(b"\x6d\x08", _sized("<d")),
    "DATE": WireType(b"\x28", _date),
    "TIME": WireType(b"\x29\x07", _time),
    "TIMESTAMP": WireType(b"\x2a\x07", _datetime2),
    "UUID": WireType(b"\x24\x10", _guid),
    "BLOB": WireType(b"\xa5\xff\xff", _plp),
    "VARCHAR": WireType(
        b"\xe7\xff\xff" + COLLATION, lambda v: _plp(None if v is None else str(v).encode("utf-16-le", "surrogatepass"))
    ),
}


def wire_type(duckdb_type: str) -> WireType:
    """How a result column of this DuckDB type travels."""
    name = duckdb_type.upper().strip('"')
    if name.startswith("DECIMAL("):
        precision, scale = name[8:-1].split(",")
        return _decimal(int(precision), int(scale))
    found = _SIMPLE.get(name)
    if found is None:
        raise not_offered(f"a result column of DuckDB type {duckdb_type}")
    return found


def column_metadata(columns: list[tuple[str, str]]) -> tuple[bytes, list[WireType]]:
    """COLMETADATA of (name, DuckDB type) pairs, and how to encode each column."""
    types = [wire_type(kind) for _, kind in columns]
    out = struct.pack("<BH", 0x81, len(columns))
    for (name, _), kind in zip(columns, types, strict=True):
        text = name.encode("utf-16-le")
        out += struct.pack("<IH", 0, 0x0009) + kind.info + bytes([len(text) // 2]) + text
    return out, types


class Reader:
    """Reads an RPC message: procedure, flags, parameters."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        self.at += size
        return part

    def number(self, form: str) -> int:
        return int(struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0])

    def text(self, characters: int) -> str:
        return self.take(2 * characters).decode("utf-16-le")

    @property
    def more(self) -> bool:
        return self.at < len(self.data)

    def calls(self) -> list[Call]:
        """Every call of the message; fast_executemany puts many into one."""
        made = []
        while self.more:
            length = self.number("H")
            name = str(self.number("H")) if length == 0xFFFF else self.text(length)
            self.number("H")
            parameters = []
            while self.more and self.data[self.at] not in (0xFF, 0x80):
                parameters.append(self._parameter())
            if self.more:
                self.at += 1
            made.append(Call(name.lower(), parameters))
        return made

    def _parameter(self) -> Parameter:
        name = self.text(self.number("B"))
        status = self.number("B")
        kind, value = self._value()
        return Parameter(name.lstrip("@"), bool(status & 1), kind, value)

    def _value(self) -> tuple[str, Any]:
        """SQL type (in DuckDB's words, ``NTEXT`` where the pool has none) and value."""
        token = self.number("B")
        fixed = {0x30: ("UTINYINT", "B"), 0x32: ("BOOLEAN", "?"), 0x34: ("SMALLINT", "h"), 0x38: ("INTEGER", "i")}
        fixed |= {0x7F: ("BIGINT", "q"), 0x3E: ("DOUBLE", "d"), 0x3B: ("FLOAT", "f")}
        if token in fixed:
            kind, form = fixed[token]
            return kind, struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]
        if token in (0x26, 0x68, 0x6D, 0x24, 0x6F):
            return self._nullable(token, self.number("B"))
        if token in (0x6A, 0x6C):
            self.take(1)
            precision, scale = self.number("B"), self.number("B")
            raw = self.take(self.number("B"))
            kind = f"DECIMAL({precision},{scale})"
            if not raw:
                return kind, None
            whole = int.from_bytes(raw[1:], "little") * (1 if raw[0] else -1)
            return kind, Decimal(whole).scaleb(-scale) if abs(whole) < 10**28 else _exact(whole, scale)
        if token in (0x28, 0x29, 0x2A):
            return self._temporal(token)
        if token in (0xE7, 0xEF, 0xA7, 0xAF, 0xA5, 0xAD):
            return self._variable(token)
        if token in (0x63, 0x23):
            self.take(4 + 5)
            length = self.number("i")
            raw = self.take(length) if length >= 0 else None
            return "NTEXT", None if raw is None else raw.decode("utf-16-le" if token == 0x63 else "cp1252")
        raise not_offered(f"a parameter of TDS type 0x{token:02x}")

    def _nullable(self, token: int, size: int) -> tuple[str, Any]:
        kinds = {
            (0x26, 1): ("UTINYINT", "B"),
            (0x26, 2): ("SMALLINT", "h"),
            (0x26, 4): ("INTEGER", "i"),
            (0x26, 8): ("BIGINT", "q"),
            (0x68, 1): ("BOOLEAN", "?"),
            (0x6D, 4): ("FLOAT", "f"),
            (0x6D, 8): ("DOUBLE", "d"),
            (0x24, 16): ("UUID", ""),
            (0x6F, 8): ("TIMESTAMP", ""),
            (0x6F, 4): ("TIMESTAMP", ""),
        }
        kind, form = kinds[token, size]
        raw = self.take(self.number("B"))
        if not raw:
            return kind, None
        if kind == "UUID":
            return kind, uuid.UUID(bytes_le=raw)
        if token == 0x6F:
            if len(raw) == 4:
                days, minutes = struct.unpack("<HH", raw)
                return kind, datetime(1900, 1, 1) + timedelta(days=days, minutes=minutes)  # noqa: DTZ001  no zone
            days, third = struct.unpack("<iI", raw)
            return kind, datetime(1900, 1, 1) + timedelta(days=days, milliseconds=round(third * 10 / 3))  # noqa: DTZ001
        return kind, struct.unpack("<" + form, raw)[0]

    def _temporal(self, token: int) -> tuple[str, Any]:
        scale = self.number("B") if token != 0x28 else 0
        raw = self.take(self.number("B"))
        kind = {0x28: "DATE", 0x29: "TIME", 0x2A: "TIMESTAMP"}[token]
        if not raw:
            return kind, None
        clock = time()
        if token != 0x28:
            size = _TIME_BYTES[scale]
            micro = int.from_bytes(raw[:size], "little") * 10 ** (7 - scale) // 10
            raw = raw[size:]
            second, micro = divmod(micro, 1_000_000)
            clock = time(second // 3600, second // 60 % 60, second % 60, micro)
        if token == 0x29:
            return kind, clock
        try:
            day = date.fromordinal(int.from_bytes(raw, "little") + _EPOCH)
        except ValueError:
            raise SqlError(
                8023,
                "The incoming tabular data stream (TDS) remote procedure call (RPC) protocol stream is incorrect. "
                f"Data type 0x{token:02X}: The supplied value is not a valid instance of data type {kind.lower()}.",
            ) from None
        return kind, day if token == 0x28 else datetime.combine(day, clock)

    def _variable(self, token: int) -> tuple[str, Any]:
        limit = self.number("H")
        binary = token in (0xA5, 0xAD)
        if not binary:
            self.take(5)
        raw: bytes | None
        if limit == 0xFFFF:
            total = self.number("Q")
            raw = None
            if total != 0xFFFFFFFFFFFFFFFF:
                chunks = bytearray()
                while size := self.number("I"):
                    chunks += self.take(size)
                raw = bytes(chunks)
        else:
            size = self.number("H")
            raw = None if size == 0xFFFF else self.take(size)
        if binary:
            return "BLOB", raw
        coding = "utf-16-le" if token in (0xE7, 0xEF) else "cp1252"
        return "VARCHAR", None if raw is None else raw.decode(coding, "surrogatepass" if coding[0] == "u" else "strict")


def _exact(whole: int, scale: int) -> Decimal:
    """All 38 digits, whatever the context's precision."""
    return Decimal((whole < 0, tuple(map(int, str(abs(whole)))), -scale))


@dataclass(frozen=True)
class Parameter:
    """One parameter of a call."""

    name: str
    output: bool
    kind: str
    value: Any


@dataclass(frozen=True)
class Call:
    """One remote procedure call; well-known ones are named by their number."""

    name: str
    parameters: list[Parameter]
