"""Azurite as the sandbox's child: what it keeps, that it is started again, that it never outlives us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient

from sandbox import azurite
from sandbox.__main__ import main
from sandbox.azurite import ACCOUNT, Azurite, CannotStart
from sandbox.synapse.storage import API_VERSION
from tests.homes import PROJECT

KEY = azurite.make_key()
_ALONE = """
import sys, time
from pathlib import Path
from sandbox.azurite import Azurite
print(Azurite("alone", sys.argv[1], folder=Path(sys.argv[2])).port, flush=True)
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Azurite]]:
    started: list[Azurite] = []

    def make(**more: Any) -> Azurite:
        started.append(Azurite(ACCOUNT, KEY, folder=tmp_path / "blobs", **more))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def container(service: Azurite) -> Any:
    credential = {"account_name": ACCOUNT, "account_key": KEY}
    client = BlobServiceClient(service.endpoint(), credential=credential, api_version=API_VERSION, retry_total=0)
    return client.get_container_client("landing")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(done: Callable[[], bool], seconds: float = 15) -> None:
    last = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < last
        time.sleep(0.02)


def test_blobs_outlive_an_end_in_order_at_the_same_address(start):
    first = start()
    first.make_container("landing")
    container(first).upload_blob("a/b", b"rows")
    first.stop()
    assert not listens(first.port)
    again = start(port=first.port)
    again.make_container("landing")
    assert again.endpoint() == first.endpoint()
    assert container(again).download_blob("a/b").readall() == b"rows"


def test_a_port_that_is_taken_is_replaced_by_a_free_one(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert start(port=port).port not in (0, port)


def test_a_service_that_ends_is_started_again_and_one_that_cannot_be_is_told(start):
    gone: list[bool] = []
    service = start()
    service.keep(lambda: gone.append(True))
    port = service.port
    os.killpg(service._keeper.pid, signal.SIGKILL)
    wait_until(lambda: service._keeper.poll() is None and listens(port))
    assert gone == []
    service._command = [sys.executable, "-c", "print('Exit due to unhandled error')"]
    os.killpg(service._keeper.pid, signal.SIGKILL)
    wait_until(lambda: gone == [True])


def test_it_ends_with_a_process_that_is_killed(tmp_path):
    command = [sys.executable, "-c", _ALONE, KEY, str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert listens(port)
        process.kill()
    wait_until(lambda: not listens(port))


def test_a_machine_without_node_is_told_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(azurite.sys, "prefix", str(tmp_path))
    with pytest.raises(CannotStart, match="is absent"):
        Azurite(ACCOUNT, KEY)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotStart, match="no node"):
        Azurite(ACCOUNT, KEY)


def test_a_sandbox_without_azurite_says_what_installs_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(azurite.sys, "prefix", str(tmp_path))
    assert main(["serve", "--dir", str(tmp_path / "state"), "--port", "0", "--size", "10", "--azure"]) == 5
    said = capsys.readouterr().err
    assert "cannot start Azurite" in said
    assert "make setup" in said
    assert "make run ENV=stack" in said
