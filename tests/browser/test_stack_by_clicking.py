"""On the environment stack a person starts a sync, sees it wait for the pool, arrive in Synapse, and what it cost."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import sandbox
from tests.browser.test_sync_by_clicking import console
from tests.browser.test_sync_by_clicking import tab as tab
from tests.flow.test_stack import write
from tests.homes import Home

pytestmark = pytest.mark.browser

#: The pool moves faster than it would, so that nobody waits for the test.
FAST = {"resume_seconds": 1.0, "warm_up_seconds": 0.2, "pause_seconds": 0.5}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[tuple[Home, str]]:
    """A home on the stand-ins of Azure, with its pool paused, and the address of its console."""
    environment = write(tmp_path, with_pool=True)
    file = tmp_path / "novade.toml"
    file.write_text(
        file.read_text()
        .replace("gather_minutes = 0.1", "gather_minutes = 60")
        .replace("idle_minutes = 0.5", "idle_minutes = 0.1")
        .replace(
            "[environments.stack.ledger]", "[environments.stack.worker]\nlease_seconds = 4\n[environments.stack.ledger]"
        )
    )
    sandbox.start(environment, parent=os.getpid())
    sandbox.control(environment, "POST", "/_sandbox/synapse/settings", FAST)
    # A load takes whole seconds of the pool, as a real one does.
    sandbox.control(environment, "POST", "/_sandbox/synapse/faults", {"slow": {"seconds": 0.2, "times": 1000}})
    home = Home.open(tmp_path)
    with console(home) as url:
        yield home, url
    home.services.ledger.close()
    sandbox.stop(environment)


def main_of(tab: Any) -> str:
    return str(tab.inner_text("[data-testid=stMain]"))


def pool_of(home: Home) -> str:
    return str(sandbox.control(home.environment, "POST", "/_sandbox/synapse/state", {})["status"])


def until(tab: Any, wanted: str, seconds: float = 60) -> str:
    """The page's text, once it says so by itself."""
    deadline = time.monotonic() + seconds
    while not re.search(wanted, text := main_of(tab)):
        assert time.monotonic() < deadline, f"{wanted!r} is not in:\n{text}"
        tab.wait_for_timeout(200)
    return text


def test_a_sync_waits_for_the_pool_arrives_in_synapse_and_has_a_cost(stack: tuple[Home, str], tab: Any) -> None:
    home, url = stack
    tab.goto(f"{url}/sync")
    tab.get_by_label("Streams").first.fill("Salesforce Contact")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Escape")
    tab.get_by_role("button", name="Start sync").click()
    tab.get_by_role("table", name="Runs just asked for").get_by_role("link").first.wait_for(timeout=15_000)
    assert "Azure Blob to Synapse" in tab.inner_text(".nv-environment")

    # It lands, and says what it waits for; the pool sleeps on.
    tab.goto(f"{url}/runs?run=1")
    until(tab, "rows landed; .* wait for the pool's next load window")
    assert pool_of(home) == "Paused"
    tab.goto(f"{url}/load-windows")
    until(tab, "Salesforce Contact")

    # A person need not wait for files to gather.
    tab.get_by_role("button", name=re.compile("Open a window now")).click(timeout=20_000)
    tab.get_by_role("button", name=re.compile("^Open it")).click(timeout=20_000)
    deadline = time.monotonic() + 120
    while True:
        found = home.ledger_rows("SELECT * FROM load_windows ORDER BY id")
        if found and found[-1].state == "closed":
            break
        assert time.monotonic() < deadline, [dict(row._mapping) for row in found]
        time.sleep(0.3)
    assert pool_of(home) == "Paused"
    [window] = found
    assert (window.loads, window.trouble) == (1, None)
    assert window.online_seconds > 0

    # Counts of both sides, and the engine by its name.
    [run] = home.ledger_rows("SELECT * FROM runs WHERE origin = 'window'")
    assert (run.state, run.source_count) == ("succeeded", run.warehouse_count), run.headline
    tab.goto(f"{url}/reconciliation?stream=salesforce.contact")
    text = until(tab, rf"Synapse\s+{run.warehouse_count:,}")
    assert "Salesforce Contact is equal" in text

    # What it cost: per 1,000 rows, with the pool's seconds, and the window's own line.
    tab.goto(f"{url}/costs?stream=salesforce.contact")
    text = until(tab, r"1,000 rows")
    used = dict(home.ledger_rows("SELECT meter, quantity FROM daily_usage WHERE stream = 'salesforce.contact'"))
    assert used.get("warehouse.pool_seconds", 0) > 0, window.work
    assert re.search(r"\d[\d.,]* EUR", text), text
    tab.goto(f"{url}/load-windows")
    text = until(tab, "always on")
    assert re.search(r"\d[\d.,]* EUR", text), text
