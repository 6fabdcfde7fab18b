"""kill -9 at each step boundary and inside each step, then a plain re-run: the content of an undisturbed run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from novade_core.ledger.models import RunState
from novade_core.streams import RunKind
from tests.homes import PROJECT, Home, Sandbox

#: Point and the how manieth passing of it. The small org lands in several chunks and loads in several groups.
POINTS = [
    ("plan.started", 1),
    ("plan.ended", 1),
    ("extract.batch", 1),
    ("extract.batch", 3),
    ("land.written", 1),
    ("land.written", 3),
    ("land.file", 2),
    ("land.manifest", 2),
    ("land.registered", 1),
    ("land.registered", 3),
    ("land.ended", 1),
    ("load.started", 1),
    ("load.group", 1),
    ("load.before_commit", 1),
    ("load.committed", 1),
    ("load.marked", 1),
    ("load.ended", 1),
    ("verify.started", 1),
    ("checkpoint.before", 1),
    ("checkpoint.after", 1),
]


@dataclass
class Reference:
    """An undisturbed first sync and the stand-in that it read."""

    sandbox: Sandbox
    first: list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def reference(sandboxes: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """A stand-in of its own that nobody changes, and what an undisturbed run makes of it."""
    sandbox = sandboxes(310)
    sandbox.reset()
    home = Home.make(tmp_path_factory.mktemp("reference"), sandbox, salesforce="bulk_from_rows = 50")
    home.sync()
    first = home.table()
    return Reference(sandbox=sandbox, first=first)


def kill(home: Home, run_id: int, point: str, nth: int) -> bool:
    """Run in a process of its own that dies at the point; whether it got there."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.flow.killed", str(home.folder), str(run_id), point, str(nth)],
        cwd=PROJECT,
        env=home.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == -signal.SIGKILL


def pages_fetched(sandbox: Sandbox) -> list[Any]:
    return [tuple(page.items()) if isinstance(page, dict) else tuple(page) for page in sandbox.stats()["bulk_pages"]]


@pytest.mark.parametrize(("point", "nth"), POINTS)
def test_a_first_sync_killed_at(point: str, nth: int, reference: Reference, tmp_path: Path) -> None:
    home = Home.make(tmp_path, reference.sandbox, salesforce="bulk_from_rows = 50")
    reference.sandbox.call("POST", "/_sandbox/stats", {"reset": True})
    assert kill(home, home.ask(), point, nth), f"the run never passed {point} {nth} times"
    landed = home.ledger_rows("SELECT id FROM landed_files")
    before = pages_fetched(reference.sandbox)
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert home.table() == reference.first
    assert home.sync().counts["loaded"] == 0

    # Nothing that was registered is fetched again; at most the page that was in flight.
    after = pages_fetched(reference.sandbox)[len(before) :]
    again = [page for page in after if page in before]
    assert len(again) <= 1
    if landed:
        assert len(again) + len(landed) >= len(before)

    states = [row.state for row in home.ledger_rows("SELECT state FROM runs ORDER BY id")]
    assert states[0] == ("succeeded" if point == "checkpoint.after" else "abandoned")
    assert home.ledger_rows("SELECT stream FROM leases WHERE holder IS NOT NULL") == []
    markers = home.query("SELECT load_id, count(*) FROM novade.novade_loads GROUP BY 1 HAVING count(*) > 1")
    assert markers == []


@pytest.mark.parametrize(
    ("point", "nth"), [("load.group", 1), ("load.before_commit", 1), ("load.committed", 1), ("land.registered", 2)]
)
def test_a_full_reload_killed_at(point: str, nth: int, reference: Reference, tmp_path: Path) -> None:
    home = Home.make(tmp_path, reference.sandbox, salesforce="bulk_from_rows = 50")
    home.sync()
    assert kill(home, home.ask(kind=RunKind.FULL), point, nth)
    # Until the swap commits, readers see the old table, whole.
    assert home.table() == reference.first
    assert home.sync(kind=RunKind.FULL).state is RunState.SUCCEEDED
    assert home.table() == reference.first
    tables = home.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'salesforce'")
    assert tables == [("contact",)]


@pytest.mark.parametrize(
    ("point", "nth"),
    [("land.registered", 1), ("load.before_commit", 1), ("load.committed", 1), ("checkpoint.before", 1)],
)
def test_an_incremental_sync_killed_at(point: str, nth: int, sandbox: Sandbox, tmp_path: Path) -> None:
    home = Home.make(tmp_path, sandbox)
    home.sync()
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(tmp_path, undisturbed, ignore=shutil.ignore_patterns("undisturbed"))
    sandbox.change(update=20, new=10, delete=5)
    expected = Home.open(undisturbed)
    assert expected.sync().counts["loaded"] == 35
    assert kill(home, home.ask(), point, nth)
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED
    assert home.table() == expected.table()
    loaded = home.ledger_rows("SELECT sum(loaded) AS n FROM runs WHERE state = 'succeeded' AND id > 1")
    markers = home.query("SELECT sum(loaded) FROM novade.novade_loads WHERE run_id > 1")
    assert markers == [(35,)], loaded
