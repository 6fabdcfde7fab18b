"""TLS as TDS 7.4 has it: the handshake travels in PRELOGIN packets, everything after it in plain TLS records.

Source: Microsoft Open Specifications, [MS-TDS] 2.2.6.5 and 3.2.5.1.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading

from . import tds

#: Values of PRELOGIN's ENCRYPTION.
ON, NOT_SUPPORTED, REQUIRED = 0x01, 0x02, 0x03


def context(certificate: str, key: str) -> ssl.SSLContext:
    """The server's side, from PEM files; TLS 1.2, because 1.3 came with TDS 8 only."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(certificate, key)
    return made


class Secured:
    """A socket's ``recv`` and ``sendall`` through TLS; one thread may receive while another sends."""

    def __init__(self, sock: socket.socket, server: ssl.SSLContext) -> None:
        """Shake hands. Raises OSError (ssl.SSLError) where the client does not trust us, or hangs up."""
        self.sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = server.wrap_bio(self._in, self._out, server_side=True)
        self._state, self._sending = threading.Lock(), threading.Lock()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._hand_over()
                message = tds.receive(sock)
                if message is None or message[0] != tds.PRELOGIN:
                    raise ConnectionError("The client ended the handshake.") from None
                self._in.write(message[1])
            except ssl.SSLError:
                self._hand_over()
                raise
            else:
                self._hand_over()
                return

    def _hand_over(self) -> None:
        """The handshake's own bytes, in packets."""
        data = self._out.read()
        size = tds.PACKET - 8
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            self.sock.sendall(struct.pack(">BBHHBB", tds.PRELOGIN, int(last), len(part) + 8, 0, number, 0) + part)

    def recv(self, size: int) -> bytes:
        while True:
            with self._state:
                try:
                    return self._tls.read(size)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return b""
            data = self.sock.recv(65_536)
            if not data:
                return b""
            with self._state:
                self._in.write(data)

    def sendall(self, data: bytes) -> None:
        with self._sending:
            with self._state:
                self._tls.write(data)
                sealed = self._out.read()
            self.sock.sendall(sealed)
