"""The loopback stand-ins as a process of their own: started when an environment names them, spoken to over HTTPS."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from novade_core.errors import ConfigurationError, RetryableError
from novade_core.settings import PROJECT, Environment, SandboxSettings

#: How long a first start may take: it generates the org.
START_SECONDS = 600
#: The exit code with which it says that it cannot start Azurite.
_NO_AZURITE = 5


def _required(environment: Environment) -> SandboxSettings:
    if environment.sandbox is None:
        raise ConfigurationError(
            f"The environment {environment.name} has no sandbox.",
            hint="The sandbox belongs to an environment with an [environments.NAME.sandbox] section, such as local.",
        )
    return environment.sandbox


def is_up(environment: Environment) -> bool:
    """Whether the process that ``sandbox.json`` names lives; cheap enough for every tick."""
    try:
        os.kill(int(json.loads((_required(environment).dir / "sandbox.json").read_text())["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return False
    return True


def status(environment: Environment) -> Mapping[str, Any] | None:
    """What a running sandbox says of itself in ``sandbox.json``; None where none answers."""
    settings = _required(environment)
    try:
        facts: dict[str, Any] = json.loads((settings.dir / "sandbox.json").read_text())
        os.kill(int(facts["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    try:
        call(facts, "GET", "/_sandbox/health", timeout=5)
    except RetryableError:
        return None
    return facts


def call(
    facts: Mapping[str, Any], method: str, path: str, body: Mapping[str, Any] | None = None, timeout: float = 120
) -> Any:
    """A control request. Raises RetryableError where it does not answer, ConfigurationError where it refuses."""
    context = ssl.create_default_context(cafile=facts["ca_file"])
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(  # noqa: S310 - the URL is the sandbox's own, on loopback
        facts["url"] + path, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:  # noqa: S310 - as above
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")[:300]
        raise ConfigurationError(f"The sandbox refused {path}: {text}") from error
    except OSError as error:
        raise RetryableError(f"The sandbox at {facts['url']} does not answer.") from error


def start(environment: Environment, *, parent: int | None) -> subprocess.Popen[bytes] | None:
    """Start the sandbox unless one runs, and wait until it answers; it ends with ``parent`` if given.

    Answers the child, or None where one ran already (or another process started one at the same moment).
    """
    settings = _required(environment)
    if status(environment) is not None:
        return None
    settings.dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sandbox", "serve", "--dir", str(settings.dir), "--seed", str(settings.seed)]
    command += ["--size", str(settings.contacts), "--port", str(_port(settings.port))]
    if settings.facts is not None:
        command += ["--facts", str(environment.home / settings.facts)]
    if settings.azure:
        # Whoever has load windows is to see them at work: each start begins as a pool does that nobody needed lately.
        command += ["--azure", *(["--pool-paused"] if environment.pool.kind != "none" else [])]
    if parent is not None:
        command += ["--parent-pid", str(parent)]
    log = settings.dir / "sandbox.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if status(environment) is not None:
            return child if child.poll() is None else None
        if child.poll() not in (None, 3):
            raise ConfigurationError(
                f"The sandbox did not start (exit code {child.returncode}): {_last_line(log)}",
                hint="Run `make setup`, or `make run ENV=stack`."
                if child.returncode == _NO_AZURITE
                else f"Read {log}; remove {settings.dir} to start from scratch.",
            )
        # Exit code 3: another process holds the folder and is starting up; its answer is as good.
        time.sleep(0.1)
    child.terminate()
    raise RetryableError(f"The sandbox did not answer within {START_SECONDS} s.")


def stop(environment: Environment) -> bool:
    """End a running sandbox; False where none ran."""
    facts = status(environment)
    if facts is None:
        return False
    os.kill(int(facts["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and status(environment) is not None:
        time.sleep(0.05)
    return True


def control(environment: Environment, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """A control request to the running sandbox of an environment."""
    facts = status(environment)
    if facts is None:
        raise RetryableError(
            "The sandbox is not running.", hint="Start it with `python -m jobs sandbox start` or `make run`."
        )
    return call(facts, method, path, body)


def _port(wanted: int) -> int:
    """The wanted port, or 0 (any) where something else listens on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
