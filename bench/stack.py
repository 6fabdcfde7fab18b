"""Salesforce to a dedicated pool: a first sync through Azurite into the Synapse stand-in, then a small one.

Statements are counted by the pool, from the first login of the run to its end: each is a round trip, and on a real pool
most take a second or more whatever they touch. The pool is DuckDB here, so its seconds say nothing of Azure's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.harness import PROJECT, Measured, measure, row

SIZES = {"standard": [20_000, 100_000], "large": [100_000, 1_000_000]}
_HOME = PROJECT / "var" / "bench" / "stack"
_CHANGED = 500


def run(size: str) -> list[dict[str, Any]]:
    """Rows a second, peak memory of our process, and statements of a first sync and of one that brings little."""
    rows: list[dict[str, Any]] = []
    peaks: list[float] = []
    for contacts in SIZES[size]:
        home = _prepare(contacts)
        environ = {"NOVADE_CONFIG": str(home / "novade.toml"), "NOVADE_HOME": str(home)}
        try:
            _jobs(environ, "ledger", "upgrade")
            _jobs(environ, "sandbox", "start")
            first, answer, statements, loads = _sync(environ)
            _jobs(environ, "sandbox", "change", "--object", "Contact", "--update", str(_CHANGED))
            _, _, few_statements, few_loads = _sync(environ)
        finally:
            _jobs(environ, "sandbox", "stop")
        peaks.append(first.peak_mb)
        name = f"{contacts:,} Contacts, first sync"
        rows += [
            row(f"{name}: rows a second", "1/s", answer["loaded"] / first.seconds),
            row(f"{name}: elapsed", "s", first.seconds),
            row(f"{name}: processor time", "s", first.cpu_seconds),
            row(f"{name}: peak memory", "MiB", first.peak_mb, limit=500),
            row(f"{name}: statements, {loads} load{'s' * (loads > 1)}", "", statements),
            row(f"{contacts:,} Contacts, {_CHANGED} changed: statements, {few_loads} load", "", few_statements),
        ]
    rows.append(row("peak memory, largest against smallest", "x", peaks[-1] / peaks[0]))
    return rows


def _prepare(contacts: int) -> Path:
    """A home of its own; the generated org is kept between benchmarks, everything else is fresh."""
    home = _HOME / str(contacts)
    state = home / "var" / "stack"
    state.mkdir(parents=True, exist_ok=True)
    for name in ("azurite", "synapse", "serverless"):
        shutil.rmtree(state / name, ignore_errors=True)
    for file in (*state.glob("ledger.sqlite*"), *state.glob("ports.json")):
        file.unlink()
    text = (PROJECT / "novade.toml").read_text()
    # Without load windows: how long a pool takes to resume is no figure of ours.
    text, cut = re.subn(r"\[environments\.stack\.pool\]\n(\w.*\n)+", "", text)
    if cut != 1:
        raise RuntimeError("novade.toml has no section environments.stack.pool")
    for before, after in (
        ("contacts = 2000", f"contacts = {contacts}"),
        ("port = 8544", "port = 0"),
        ('default_environment = "local"', 'default_environment = "stack"'),
    ):
        text = text.replace(before, after)
    (home / "novade.toml").write_text(text)
    return home


def _sync(environ: dict[str, str]) -> tuple[Measured, dict[str, Any], int, int]:
    """What a sync took and answered, how many statements it sent, and how many loads they made."""
    before = len(_statements(environ))
    command = [sys.executable, "-m", "jobs", "sync", "salesforce.contact", "--json"]
    measured = measure(command, environ=environ)
    answer: dict[str, Any] = json.loads(measured.output)
    if answer["state"] != "succeeded" or answer["source_count"] != answer["warehouse_count"]:
        raise RuntimeError(f"the sync did not succeed: {answer}")
    sent = _statements(environ)[before:]
    return measured, answer, len(sent), sum(s.startswith("COPY INTO") for s in sent)


def _statements(environ: dict[str, str]) -> list[str]:
    said = _jobs(environ, "sandbox", "control", "GET", "/_sandbox/synapse/statements")
    return [str(statement) for statement in json.loads(said)["statements"]]


def _jobs(environ: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=PROJECT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and arguments[-1] != "stop":
        raise RuntimeError(f"jobs {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
