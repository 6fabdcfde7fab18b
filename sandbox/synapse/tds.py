"""TDS 7.4 framing and tokens, server side. Source: Microsoft Open Specifications, [MS-TDS]."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from .errors import SqlError

BATCH, RPC, ATTENTION, TRANSACTION, LOGIN, PRELOGIN = 0x01, 0x03, 0x06, 0x0E, 0x10, 0x12
PACKET = 4096
#: Status bits of DONE tokens.
MORE, ERROR, COUNT, ATTN = 0x01, 0x02, 0x10, 0x20
DONE, DONE_PROC, DONE_IN_PROC = 0xFD, 0xFE, 0xFF
SERVER = "sandbox"


def receive(sock: socket.socket) -> tuple[int, bytes] | None:
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


def _exactly(sock: socket.socket, size: int) -> bytes | None:
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

    def __init__(self, sock: socket.socket) -> None:
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


def prelogin_answer() -> bytes:
    """Version and ENCRYPTION = not supported, which makes the whole session plain text."""
    version, encryption = bytes([12, 0, 9, 9, 0, 0]), b"\x02"
    options = [(0, version), (1, encryption), (2, b"\x00"), (3, b""), (4, b"\x00")]
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


def read_login(body: bytes) -> Login:
    def text(at: int) -> bytes:
        offset, length = struct.unpack_from("<HH", body, at)
        return body[offset : offset + 2 * length]

    hidden = text(44)
    # Obfuscated, not encrypted: the nibbles swap after xor with 0xa5.
    password = bytes((((b ^ 0xA5) >> 4) | ((b ^ 0xA5) << 4)) & 0xFF for b in hidden)
    host, user, application, database = (text(at).decode("utf-16-le") for at in (36, 40, 48, 68))
    return Login(user, password.decode("utf-16-le", "replace"), database, application, host)


def login_answer(database: str) -> bytes:
    """What both drivers take for a successful login."""
    ack = struct.pack("<B", 1) + struct.pack(">I", 0x74000004) + b_text("Microsoft SQL Server") + bytes([12, 0, 9, 9])
    return (
        env_text(1, database, "master")
        + info(5701, f"Changed database context to '{database}'.")
        + env_bytes(7, bytes([0x09, 0x04, 0xD0, 0x00, 0x34]))
        + env_text(4, str(PACKET), str(PACKET))
        + struct.pack("<BH", 0xAD, len(ack))
        + ack
        + b"\xae\xff"
        + done()
    )


def without_headers(body: bytes) -> bytes:
    """The message after ALL_HEADERS."""
    return body[struct.unpack_from("<I", body)[0] :]
