"""Azurite, Microsoft's stand-in of the Blob service, as a child that ends with us however we end.

Its metadata is in memory and goes to disk each few seconds, so that it is asked to end and killed only where it does
not. It is started by a shell that waits for the end of our pipe, since nothing can be done in a process that is killed.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.blob import BlobServiceClient

from .synapse.storage import API_VERSION

#: Of the environment whose landing it serves.
ACCOUNT, CONTAINER = "novadestack", "landing"
_MAIN = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")
_LISTENS = re.compile(r"successfully listens on https?://127\.0\.0\.1:(\d+)")
_START_SECONDS = 60.0
#: The service runs in a subshell that ends the whole process group when it ends. When the pipe to us breaks, all are
#: asked to end and killed after five seconds. The subshell ignores that request, and so does a node that is a script
#: and starts another one, as that of pip is; node itself listens to it again. $1 is a folder to be removed, or empty.
_KEEPER = """
folder=$1; shift
(trap '' TERM; "$@"; [ -z "$folder" ] || rm -rf -- "$folder"; kill -KILL 0) &
read -r _
trap : TERM
kill -TERM 0
sleep 5
[ -z "$folder" ] || rm -rf -- "$folder"
kill -KILL 0
"""


class CannotStart(RuntimeError):
    """There is no Azurite here, or it ends at once; the message is the reason, as half a sentence."""


def make_key() -> str:
    """A key of an account, as Azure makes them."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


def _command() -> list[str]:
    venv = Path(sys.prefix)
    node = shutil.which("node") or str(venv / "bin" / "node")
    if not Path(node).exists():
        raise CannotStart("this machine has no node")
    if not (venv / _MAIN).is_file():
        raise CannotStart(f"{venv / _MAIN} is absent")
    return [node, str(venv / _MAIN), "--disableTelemetry", "--silent"]


class Azurite:
    """A running Blob service on loopback with one account. ``folder`` keeps blobs; without one they are in memory.

    ``options`` go to its command line, such as ``--oauth basic``. ``port`` is taken where it is free, else another one.
    Raises CannotStart.
    """

    def __init__(
        self, account: str, key: str, *, folder: Path | None = None, port: int = 0, options: tuple[str, ...] = ()
    ) -> None:
        self.account = account
        self.key = key
        self.scheme = "https" if "--cert" in options else "http"
        self._kept = folder
        self._options = options
        self._ending = threading.Event()
        self._command = _command()
        atexit.register(self.stop)
        try:
            self._start(port)
        except CannotStart:
            if not port:
                raise
            self._start(0)

    def _start(self, port: int) -> None:
        folder = self._kept or Path(tempfile.mkdtemp(prefix="novade-azurite-"))
        folder.mkdir(parents=True, exist_ok=True)
        kept = ["--location", str(folder)] if self._kept else ["--inMemoryPersistence", "--extentMemoryLimit", "512"]
        log = folder / "log"
        # Held by all of its processes: one that is still writing its last words keeps the next one waiting.
        with (folder / "lock").open("w") as lock, log.open("w") as output:
            self._wait_for(lock.fileno())
            passing = "" if self._kept else str(folder)
            service = [*self._command, "--blobPort", str(port), *kept, *self._options]
            self._keeper = subprocess.Popen(
                ["sh", "-c", _KEEPER, "sh", passing, *service],
                cwd=folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "AZURITE_ACCOUNTS": f"{self.account}:{self.key}"},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
            )
        last = time.monotonic() + _START_SECONDS
        while not (found := _LISTENS.search(said := log.read_text() if log.exists() else "")):
            if "Exit due to" in said or self._keeper.poll() is not None or time.monotonic() > last:
                self._end()
                raise CannotStart(f"its log ends {said[-500:]!r}")
            time.sleep(0.02)
        self.port = int(found[1])

    @staticmethod
    def _wait_for(lock: int) -> None:
        last = time.monotonic() + 15
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > last:
                    raise CannotStart("another one still works in its folder") from None
                time.sleep(0.05)

    def keep(self, gone: Callable[[], None]) -> None:
        """Start it again on the same port whenever it ends; ``gone`` is called where that does not work any more."""

        def watch() -> None:
            while not self._ending.is_set():
                self._keeper.wait()
                if self._ending.is_set():
                    return
                try:
                    self._start(self.port)
                except (CannotStart, OSError):
                    gone()
                    return
                if self._ending.is_set():
                    self._end()

        threading.Thread(target=watch, daemon=True).start()

    def stop(self) -> None:
        """End the service, and wait until it has."""
        self._ending.set()
        self._end()

    def _end(self) -> None:
        keeper = getattr(self, "_keeper", None)
        if keeper is None:
            return
        with contextlib.suppress(OSError):
            assert keeper.stdin is not None
            keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(timeout=10)

    def endpoint(self, port: int | None = None) -> str:
        """The Blob service's URL, straight or through another port."""
        return f"{self.scheme}://127.0.0.1:{port or self.port}/{self.account}"

    def make_container(self, name: str) -> None:
        """Create a container unless it exists. Raises CannotStart."""
        credential = {"account_name": self.account, "account_key": self.key}
        try:
            with (
                BlobServiceClient(
                    self.endpoint(), credential=credential, api_version=API_VERSION, retry_total=3
                ) as service,
                contextlib.suppress(ResourceExistsError),
            ):
                service.create_container(name)
        except AzureError as error:
            raise CannotStart(f"it answers {type(error).__name__} when the container {name} is made") from error
