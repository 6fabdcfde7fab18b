"""A person starts a sync by clicking, watches it move, and finds it in Runs: real console, worker and stand-in."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.homes import PROJECT, Home, Sandbox

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture
def busy(sandboxes: Callable[..., Sandbox]) -> Iterator[Sandbox]:
    """A stand-in with enough records and delay for progress to be seen."""
    sandbox = sandboxes(3000)
    sandbox.reset()
    yield sandbox
    sandbox.reset()


@contextmanager
def console(home: Home) -> Iterator[str]:
    """A console with its own worker on a free port; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    said = home.folder / "console.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", url.rpartition(":")[2]],
            cwd=PROJECT,
            env=home.environ,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(said.read_text()[-2000:]) from None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        assert process.wait(timeout=30) is not None


@pytest.fixture
def served(tmp_path: Path, busy: Sandbox) -> Iterator[tuple[Home, str]]:
    """A home and the address of its console."""
    home = Home.make(tmp_path, busy, salesforce="bulk_from_rows = 0")
    with console(home) as url:
        yield home, url


@pytest.fixture
def tab() -> Iterator[Any]:
    """A tab of a real Chromium."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1440, "height": 1000})
        browser.close()


def test_start_watch_and_find_a_sync(served: tuple[Home, str], busy: Sandbox, tab: Any) -> None:
    home, url = served
    busy.faults(slow=0.25)
    tab.goto(f"{url}/sync")
    tab.get_by_label("Streams").first.fill("Salesforce Contact")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Escape")
    tab.get_by_role("button", name="Start sync").click()
    link = tab.get_by_role("table", name="Runs just asked for").get_by_role("link").first
    link.wait_for(timeout=15_000)

    # The rows that the page shows grow while it runs, without a touch.
    seen: list[int] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(set(seen)) < 4:
        text = tab.inner_text("[data-testid=stMain]")
        seen += [int(n.replace(",", "")) for n in re.findall(r"([\d,]{1,9}) (?:of [\d,]+ )?rows(?!/| per| a)", text)]
        [run] = home.ledger_rows("SELECT state FROM runs")
        if run.state not in ("queued", "running"):
            break
        tab.wait_for_timeout(300)
    assert len(set(seen)) >= 3, (seen, tab.inner_text("[data-testid=stMain]"))
    # They count up, and start again where loading begins.
    assert sum(later > earlier for earlier, later in pairwise(seen)) >= 2
    busy.faults(slow=None)

    # The run's own page tells the end by itself, and Runs lists it.
    tab.goto(f"{url}/runs?run=1")
    tab.get_by_text(re.compile(r"succeeded", re.I)).first.wait_for(timeout=60_000)
    main = tab.inner_text("[data-testid=stMain]")
    [run] = home.ledger_rows("SELECT * FROM runs")
    assert (run.state, run.origin) == ("succeeded", "person")
    assert f"Equal: {run.source_count:,} on both sides." in main
    tab.goto(f"{url}/runs")
    tab.get_by_text("Salesforce Contact").first.wait_for(timeout=20_000)
    assert f"{run.loaded:,} rows loaded" in tab.inner_text("[data-testid=stMain]")


def test_a_running_sync_is_cancelled_by_clicking(served: tuple[Home, str], busy: Sandbox, tab: Any) -> None:
    home, url = served
    busy.faults(slow=0.5)
    run_id = home.ask()
    tab.goto(f"{url}/runs?run={run_id}")
    tab.get_by_role("button", name=re.compile("Cancel run")).click(timeout=20_000)
    tab.get_by_role("button", name="Cancel it").click(timeout=20_000)
    tab.get_by_text(re.compile("cancelled")).first.wait_for(timeout=40_000)
    busy.faults(slow=None)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        [run] = home.ledger_rows("SELECT state FROM runs")
        if run.state == "cancelled":
            break
        time.sleep(0.1)
    assert run.state == "cancelled"
