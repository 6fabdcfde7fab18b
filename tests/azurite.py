"""A real Azurite for tests: one Blob service a test process, started when first asked for, gone with the process.

It keeps everything in memory, checks service versions as Azure does, and has one account with a key of its own, so
that a key in a message or log is ours. ``Cable`` is a connection that a test can cut at a chosen moment.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from azure.storage.blob import BlobServiceClient

from novade_core.landing.azure_blob import API_VERSION
from novade_core.settings import LandingSettings
from sandbox import azurite as service

ACCOUNT = "novadetests"


class Azurite(service.Azurite):
    """A running Blob service. ``options`` go to its command line, such as ``--oauth basic``."""

    def __init__(self, *options: str) -> None:
        try:
            super().__init__(ACCOUNT, service.make_key(), options=options)
        except service.CannotStart as error:
            pytest.fail(
                f"These tests need Azurite, which could not be started: {error}. `make setup` installs it with npm.",
                pytrace=False,
            )

    @functools.cached_property
    def service(self) -> BlobServiceClient:
        """The owner's own way in, with which tests prepare and look."""
        credential = {"account_name": ACCOUNT, "account_key": self.key}
        return BlobServiceClient(self.endpoint(), credential=credential, api_version=API_VERSION, retry_total=0)

    def settings(self, *, port: int | None = None, **changes: object) -> LandingSettings:
        """A landing in a new container, with the key; quick to give up. ``container=`` takes an existing one."""
        given: dict[str, object] = {
            "kind": "azure_blob",
            "account": ACCOUNT,
            "endpoint": self.endpoint(port),
            "credential": "key",
            "key": self.key,
            "block_mb": 1,
            "timeout_seconds": 10,
            "tries": 3,
            "retry_base_seconds": 0.01,
        }
        if "container" not in changes:
            given["container"] = f"c{uuid4().hex}"
            self.service.create_container(str(given["container"]))
        return LandingSettings.model_validate(given | changes)


@functools.cache
def azurite() -> Azurite:
    """The service of this test process. Where there can be none, each test that wants one fails and says why."""
    return Azurite()


class Cable:
    """A port on loopback that leads to another one, until a test says otherwise.

    ``cut_after`` bytes towards the server it breaks, for ``times`` connections. A request that holds ``swallow`` is
    carried out, but its answer is lost. In a request that holds ``damage`` one byte of the body arrives wrong.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self.cut_after: int | None = None
        self.swallow: bytes | None = None
        self.damage: bytes | None = None
        self.times = 1
        self.faults = 0  #: that happened
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def close(self) -> None:
        """Nobody gets through any more."""
        _hang_up(self._door)

    def _is_due(self) -> bool:
        if self.faults >= self.times:
            return False
        self.faults += 1
        return True

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        lost = threading.Event()
        back = threading.Thread(target=self._answer, args=(client, server, lost), daemon=True)
        back.start()
        sent = 0
        with contextlib.suppress(OSError):
            while piece := client.recv(1 << 16):
                sent += len(piece)
                if self.cut_after is not None and sent > self.cut_after and self._is_due():
                    break
                if self.swallow and self.swallow in piece and self._is_due():
                    lost.set()
                if self.damage and self.damage in piece and self._is_due():
                    if piece.endswith(b"\r\n\r\n"):
                        server.sendall(piece)
                        piece = client.recv(1 << 16)
                    piece = piece[:-1] + bytes([piece[-1] ^ 1])
                server.sendall(piece)
        for end in (client, server):
            _hang_up(end)
        back.join(timeout=10)

    def _answer(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(1 << 16):
                if lost.is_set() and b"100 Continue" not in piece:
                    break
                client.sendall(piece)
        for end in (client, server):
            _hang_up(end)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextlib.contextmanager
def cable(port: int) -> Iterator[Cable]:
    """A cable to a port, gone afterwards."""
    made = Cable(port)
    try:
        yield made
    finally:
        made.close()
