"""TDS 7.4 framing and tokens, server side. Source: Microsoft Open Specifications, [MS-TDS]."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

from .errors import SqlError

BATCH, RPC, ATTENTION, TRANSACTION, LOGIN, PRELOGIN = 0x01, 0x03, 0x06, 0x0E, 0x10, 0x12
PACKET = 4096
#: Status bits of DONE tokens.
MORE, ERROR, COUNT, ATTN = 0x01, 0x02, 0x10, 0x20
DONE, DONE_PROC, DONE_IN_PROC = 0xFD, 0xFE, 0xFF
SERVER = "sandbox"
_FEDAUTH, _SECURITY_TOKEN = 0x02, 0x01


class Wire(Protocol):
    """A socket, or TLS over one."""

    def recv(self, size: int, /) -> bytes: ...

    def sendall(self, data: bytes, /) -> None: ...


def receive(sock: Wire) -> tuple[int, bytes] | None:
    """One whole message: its type and body. None where the client has hung up."""
    body = bytearray()
    while True:
        head = _exactly(sock, 8)
        if head is None:
            return None
        kind, status, length = head[0], head[1], struct.unpack(">H", head[2:4])[0]
        part = _exactly(sock, length - 8)
        if part is None:
            return None
        body += part
        if status & 1:
            return kind, bytes(body)


def _exactly(sock: Wire, size: int) -> bytes | None:
    out = bytearray()
    while len(out) < size:
        try:
            part = sock.recv(size - len(out))
        except OSError:
            return None
        if not part:
            return None
        out += part
    return bytes(out)


class Writer:
    """An answer in packets; whole packets go out while it grows, the last one with ``end``."""

    def __init__(self, sock: Wire) -> None:
        self.sock = sock
        self.pending = bytearray()
        self.number = 0
        self.bytes_sent = 0

    def write(self, data: bytes) -> None:
        self.pending += data
        while len(self.pending) > 16 * PACKET:
            self._send(PACKET - 8, last=False)

    def end(self) -> None:
        while len(self.pending) > PACKET - 8:
            self._send(PACKET - 8, last=False)
        self._send(len(self.pending), last=True)
        self.number = 0

    def _send(self, size: int, *, last: bool) -> None:
        part = bytes(self.pending[:size])
        del self.pending[:size]
        self.number = (self.number + 1) % 256
        head = struct.pack(">BBHHBB", 0x04, 1 if last else 0, len(part) + 8, 0, self.number, 0)
        self.sock.sendall(head + part)
        self.bytes_sent += len(part) + 8


def b_text(text: str) -> bytes:
    """Length in one byte, then UTF-16."""
    return struct.pack("<B", len(text.encode("utf-16-le")) // 2) + text.encode("utf-16-le")


def us_text(text: str) -> bytes:
    """Length in two bytes, then UTF-16."""
    return struct.pack("<H", len(text.encode("utf-16-le")) // 2) + text.encode("utf-16-le")


def done(status: int = 0, count: int | None = None, kind: int = DONE, *, rows: bool = True) -> bytes:
    """The end of a statement. Microsoft's driver shows a change's count only where it is not said to be a SELECT."""
    if count is not None:
        status |= COUNT
    command = 0 if count is None else 0xC1 if rows else 0xC3
    return struct.pack("<BHHQ", kind, status, command, max(count or 0, 0))


def error(refusal: SqlError) -> bytes:
    return _message(0xAA, refusal.number, refusal.state, refusal.severity, refusal.message)


def info(number: int, message: str) -> bytes:
    return _message(0xAB, number, 1, 0, message)


def _message(token: int, number: int, state: int, severity: int, message: str) -> bytes:
    body = struct.pack("<iBB", number, state, severity)
    body += us_text(message[:4000]) + b_text(SERVER) + b_text("") + struct.pack("<i", 1)
    return struct.pack("<BH", token, len(body)) + body


def env_text(kind: int, new: str, old: str = "") -> bytes:
    body = bytes([kind]) + b_text(new) + b_text(old)
    return struct.pack("<BH", 0xE3, len(body)) + body


def env_bytes(kind: int, new: bytes, old: bytes = b"") -> bytes:
    body = bytes([kind, len(new)]) + new + bytes([len(old)]) + old
    return struct.pack("<BH", 0xE3, len(body)) + body


def return_status(value: int) -> bytes:
    return struct.pack("<Bi", 0x79, value)


def return_int(name: str, ordinal: int, value: int) -> bytes:
    """RETURNVALUE of an output parameter of type int."""
    return (
        struct.pack("<BH", 0xAC, ordinal) + b_text(name) + struct.pack("<BIHBBBi", 0x01, 0, 0x0001, 0x26, 4, 4, value)
    )


def prelogin_options(body: bytes) -> dict[int, bytes]:
    """Token -> value of a PRELOGIN message."""
    found, at = {}, 0
    while body[at] != 0xFF:
        token, offset, length = struct.unpack_from(">BHH", body, at)
        found[token] = body[offset : offset + length]
        at += 5
    return found


def prelogin_answer(encryption: int, *, federated: bool) -> bytes:
    """Version and ENCRYPTION, and whether a federated login is taken, to whom offers one."""
    options = [(0, bytes([12, 0, 9, 9, 0, 0])), (1, bytes([encryption])), (2, b"\x00"), (3, b""), (4, b"\x00")]
    if federated:
        options.append((6, b"\x01"))
    offset = 5 * len(options) + 1
    head, data = b"", b""
    for token, value in options:
        head += struct.pack(">BHH", token, offset + len(data), len(value))
        data += value
    return head + b"\xff" + data


@dataclass(frozen=True)
class Login:
    """What LOGIN7 says."""

    user: str
    password: str
    database: str
    application: str
    host: str
    token: str | None = None  #: an access token in the place of user and password


def read_login(body: bytes) -> Login:
    def text(at: int) -> bytes:
        offset, length = struct.unpack_from("<HH", body, at)
        return body[offset : offset + 2 * length]

    hidden = text(44)
    # Obfuscated, not encrypted: the nibbles swap after xor with 0xa5.
    password = bytes((((b ^ 0xA5) >> 4) | ((b ^ 0xA5) << 4)) & 0xFF for b in hidden)
    host, user, application, database = (text(at).decode("utf-16-le") for at in (36, 40, 48, 68))
    return Login(user, password.decode("utf-16-le", "replace"), database, application, host, _token(body))


def _token(body: bytes) -> str | None:
    """The access token of the feature FEDAUTH, library SECURITYTOKEN. [MS-TDS] 2.2.6.4."""
    if not body[27] & 0x10:  # no feature extension
        return None
    (pointer,) = struct.unpack_from("<H", body, 56)
    (at,) = struct.unpack_from("<I", body, pointer)
    while body[at] != 0xFF:
        feature, length = struct.unpack_from("<BI", body, at)
        data = body[at + 5 : at + 5 + length]
        if feature == _FEDAUTH and data[0] >> 1 == _SECURITY_TOKEN:
            (size,) = struct.unpack_from("<I", data, 1)
            return data[5 : 5 + size].decode("utf-16-le")
        at += 5 + length
    return None


def login_answer(database: str, *, federated: bool = False) -> bytes:
    """What both drivers take for a successful login."""
    ack = struct.pack("<B", 1) + struct.pack(">I", 0x74000004) + b_text("Microsoft SQL Server") + bytes([12, 0, 9, 9])
    return (
        env_text(1, database, "master")
        + info(5701, f"Changed database context to '{database}'.")
        + env_bytes(7, bytes([0x09, 0x04, 0xD0, 0x00, 0x34]))
        + env_text(4, str(PACKET), str(PACKET))
        + struct.pack("<BH", 0xAD, len(ack))
        + ack
        + (b"\xae" + (struct.pack("<BI", _FEDAUTH, 0) if federated else b"") + b"\xff")
        + done()
    )


def without_headers(body: bytes) -> bytes:
    """The message after ALL_HEADERS."""
    return body[struct.unpack_from("<I", body)[0] :]
