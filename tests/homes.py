"""A home is one environment in a folder of its own: configuration, ledger, landing, warehouse, stand-in."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from jobs.execute import perform
from novade_core.ledger.requests import ask_for_run
from novade_core.settings import Environment, load_settings
from novade_core.streams import RunKind
from novade_core.sync.tools import Observer, Outcome
from novade_core.wiring import Services, build_services, utc_now
from tests.templates import sqlite_ledger

PROJECT = Path(__file__).resolve().parent.parent

CONFIGURATION = """
default_environment = "test"
first_sync = false

[environments.test]
label = "Test"
secrets_files = ["{secrets}"]

[environments.test.worker]
lease_seconds = 4
beat_seconds = 0.3
poll_seconds = 0.2
stop_seconds = 3

[environments.test.warehouse]
busy_wait_seconds = 3

[environments.test.salesforce]
poll_seconds = 0.02
retry_base_seconds = 0.02
bulk_page_rows = 100
window_rows = 100000
{salesforce}

[streams]
{streams}
"""

STREAMS = "\n".join(
    f'"salesforce.{name}" = {{}}' for name in ("account", "contact", "lead", "opportunity", "case", "task", "user")
)


@dataclass
class Sandbox:
    """A running stand-in."""

    folder: Path
    facts: Mapping[str, Any]
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path, contacts: int, org: Path | None = None) -> Sandbox:
        """Start one on a free port; it ends with this process in any case."""
        command = [sys.executable, "-m", "sandbox", "serve", "--dir", str(folder), "--port", "0"]
        command += ["--size", str(contacts), "--parent-pid", str(os.getpid())]
        if org is not None:
            command += ["--org", str(org)]
        log = (folder / "log.txt").open("wb")
        process = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not (folder / "sandbox.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log.txt").read_text()[-2000:])
            time.sleep(0.02)
        return cls(folder=folder, facts=json.loads((folder / "sandbox.json").read_text()), process=process)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(timeout=10)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """A control request."""
        context = ssl.create_default_context(cafile=self.facts["ca_file"])
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.facts["url"] + path, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, context=context, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def change(self, object_name: str = "Contact", **what: Any) -> dict[str, list[str]]:
        """Change records; answers the ids per kind."""
        ids: dict[str, list[str]] = self.call("POST", "/_sandbox/change", {"object": object_name, **what})["ids"]
        return ids

    def faults(self, **faults: Any) -> None:
        """Set faults."""
        self.call("POST", "/_sandbox/faults", faults)

    def reset(self) -> None:
        """No faults, fresh quota, data as generated, counters at zero."""
        self.call("POST", "/_sandbox/reset", {"data": True})

    def stats(self) -> dict[str, Any]:
        """Requests by kind since the last reset."""
        value: dict[str, Any] = self.call("GET", "/_sandbox/stats")
        return value

    def requests(self, kind: str) -> int:
        """How many requests of one kind came since the last reset."""
        return int(self.stats()["requests"].get(kind, 0))

    def secrets(self) -> dict[str, Any]:
        """The credentials that it accepts."""
        value: dict[str, Any] = tomllib.loads((self.folder / "secrets.toml").read_text())["salesforce"]
        return value


@dataclass
class Home:
    """One environment; ``sync`` works in this process, ``jobs`` through the command line."""

    folder: Path
    environment: Environment
    services: Services

    @classmethod
    def make(cls, folder: Path, sandbox: Sandbox, *, salesforce: str = "", streams: str = STREAMS) -> Home:
        """A fresh home in ``folder``; extra TOML for the salesforce section and another list of streams."""
        text = CONFIGURATION.format(secrets=sandbox.folder / "secrets.toml", salesforce=salesforce, streams=streams)
        (folder / "novade.toml").write_text(text)
        home = cls.open(folder)
        if home.environment.ledger_url.startswith("sqlite:///"):
            sqlite_ledger(Path(home.environment.ledger_url.removeprefix("sqlite:///")))
        return home

    @classmethod
    def open(cls, folder: Path) -> Home:
        """The home as its configuration file says now."""
        environment = load_settings(file=folder / "novade.toml", environ={})
        return cls(folder=folder, environment=environment, services=build_services(environment))

    @property
    def environ(self) -> dict[str, str]:
        """For child processes."""
        return {**os.environ, "NOVADE_CONFIG": str(self.folder / "novade.toml")}

    def ask(self, stream: str = "salesforce.contact", kind: RunKind = RunKind.INCREMENTAL, **window: Any) -> int:
        """Queue a run."""
        return ask_for_run(
            self.services.ledger,
            stream=self.environment.stream(stream),
            kind=kind,
            who="test",
            origin="command",
            now=utc_now(),
            **window,
        )

    def sync(
        self,
        stream: str = "salesforce.contact",
        kind: RunKind = RunKind.INCREMENTAL,
        observer: Observer | None = None,
        **window: Any,
    ) -> Outcome:
        """Run a sync in this process."""
        return perform(self.services, self.ask(stream, kind, **window), observer)

    def jobs(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """``python -m jobs …``; never raises for an exit code."""
        return subprocess.run(
            [sys.executable, "-m", "jobs", *arguments],
            cwd=PROJECT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read the warehouse."""
        with duckdb.connect(str(self.environment.warehouse.path), read_only=True) as connection:
            return connection.execute(statement, list(parameters)).fetchall()

    def table(self, table: str = "salesforce.contact") -> list[tuple[Any, ...]]:
        """The table's content without what depends on who loaded it and when, sorted by key."""
        ours = "_novade_run_id, _novade_loaded_at, _novade_landed_seq"
        return self.query(f"SELECT * EXCLUDE ({ours}) FROM {table} ORDER BY ALL")

    def ledger_rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Read the ledger."""
        from sqlalchemy import text

        with self.services.ledger.read() as connection:
            return list(connection.execute(text(statement), parameters))
