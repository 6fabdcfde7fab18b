"""Runs that go wrong, by clicking: retried by themselves, resumed behind what has landed, paused by schedule."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# These fixtures start a console with its worker, and a browser.
from tests.browser.test_sync_by_clicking import busy, console, served, tab  # noqa: F401 (pytest finds them by name)
from tests.homes import Home, Sandbox

pytestmark = pytest.mark.browser


def until(tab: Any, holds: Callable[[], bool], what: str, seconds: float = 40) -> None:  # noqa: F811 (the fixture)
    """Wait for a fact of the ledger while the browser goes on."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: {tab.inner_text('[data-testid=stMain]')[:2000]}"
        tab.wait_for_timeout(100)


def home_with(folder: Path, sandbox: Sandbox, worker: str = "", end: str = "") -> Home:
    """A home with more settings of its worker, and more at the end."""
    Home.make(folder, sandbox, salesforce="bulk_from_rows = 0")
    file = folder / "novade.toml"
    worker = f"[environments.test.worker]\n{worker}"
    file.write_text(file.read_text().replace("[environments.test.worker]", worker) + end)
    return Home.open(folder)


def test_a_failed_run_counts_down_to_its_retry_and_the_retry_works(
    tmp_path: Path,
    busy: Sandbox,  # noqa: F811
    tab: Any,  # noqa: F811
) -> None:
    home = home_with(tmp_path, busy, "retry_seconds = [6, 6]")
    with console(home) as url:
        busy.faults(status={"status": 503})
        run = home.ask("salesforce.user")
        tab.goto(f"{url}/runs?run={run}")
        problem = tab.get_by_role("region", name="What went wrong")
        problem.get_by_text(re.compile(r"tried again in \d+ s, at [\d:]{8}.*\(attempt 2 of 3\), as run 2")).wait_for(
            timeout=30_000
        )
        assert "SourceUnavailable; the fault lies with the source." in problem.inner_text()

        # It counts down without a touch; meanwhile the source recovers.
        busy.faults(status=None)
        problem.get_by_text("It was tried again (attempt 2 of 3) as run 2, which succeeded").wait_for(timeout=40_000)
        assert "A later run worked: run 2" in problem.inner_text()
        tab.get_by_role("navigation", name="Attempts").get_by_role("link", name="run 2").click()
        tab.get_by_text(re.compile(r"Run 2: .* succeeded")).wait_for(timeout=20_000)
        assert "Same request as\nrun 1" in tab.inner_text("[data-testid=stMain]")
        rows = home.ledger_rows("SELECT state, origin, attempt FROM runs ORDER BY id")
        assert [tuple(r) for r in rows] == [("failed", "command", 1), ("succeeded", "retry", 2)]


def test_a_cancelled_sync_is_resumed_behind_what_has_landed(
    served: tuple[Home, str],  # noqa: F811
    busy: Sandbox,  # noqa: F811
    tab: Any,  # noqa: F811
) -> None:
    home, url = served
    busy.faults(slow=0.2)
    home.ask()
    tab.goto(f"{url}/runs?run=1")
    tab.wait_for_function(
        "+(document.body.innerText.match(/([\\d,]+) of [\\d,]+ rows/) || [0, '0'])[1].replace(',', '') >= 500",
        timeout=40_000,
    )
    tab.get_by_role("button", name="Cancel run").click()
    tab.get_by_role("button", name="Cancel it").click(timeout=20_000)
    tab.get_by_text(re.compile("Run 1: .* was cancelled")).wait_for(timeout=40_000)

    said = tab.get_by_text(re.compile(r"[\d,]+ rows have landed and are not fetched again")).first
    said.wait_for(timeout=20_000)
    kept = int(re.search(r"([\d,]+) rows have", said.inner_text())[1].replace(",", ""))
    assert kept >= 500
    busy.faults(slow=None)
    tab.get_by_role("button", name="Resume").click()
    tab.get_by_text("It goes on from what has landed.").wait_for(timeout=20_000)
    tab.get_by_role("link", name="Run 2", exact=True).click()
    tab.get_by_text(re.compile(r"Run 2: .* succeeded")).wait_for(timeout=60_000)

    # The second run fetched what was missing and nothing else.
    fetched = "SELECT rows FROM steps WHERE run_id = 2 AND name = 'extract'"
    landed = "SELECT sum(rows) AS rows FROM landed_files"
    assert home.ledger_rows(fetched)[0].rows == home.ledger_rows(landed)[0].rows - kept
    last = home.ledger_rows("SELECT state, source_count, warehouse_count FROM runs WHERE id = 2")[0]
    assert last.state == "succeeded"
    assert last.source_count == last.warehouse_count


def test_a_schedule_is_paused_and_resumed_by_clicking(
    tmp_path: Path,
    busy: Sandbox,  # noqa: F811
    tab: Any,  # noqa: F811
) -> None:
    schedule = '\n[schedules."often"]\nstreams = ["salesforce.user"]\nevery_seconds = 3\n'
    home = home_with(tmp_path, busy, end=schedule)

    def count(state: str) -> int:
        query = (
            "SELECT count(*) AS n FROM fires f JOIN schedules s ON s.id = f.schedule_id "
            "WHERE s.name = 'often' AND f.state = :state"
        )
        return int(home.ledger_rows(query, state=state)[0].n)

    def runs() -> int:
        return int(home.ledger_rows("SELECT count(*) AS n FROM runs")[0].n)

    with console(home) as url:
        tab.goto(f"{url}/schedules")
        tab.get_by_role("link", name="often").first.click(timeout=30_000)
        until(tab, lambda: runs() >= 1, "no fire asked for a run")
        tab.get_by_role("button", name="Pause").click(timeout=20_000)
        tab.get_by_text(re.compile("often is paused by local")).wait_for(timeout=20_000)

        # Promised instants go on to be booked, and ask for nothing.
        paused, asked = count("skipped"), runs()
        until(tab, lambda: count("skipped") >= paused + 2, "nothing is skipped")
        assert runs() == asked
        tab.get_by_role("button", name="Resume").click()
        tab.get_by_text("often fires again from now on.").wait_for(timeout=20_000)
        until(tab, lambda: runs() > asked, "it does not fire again")

        # A run of it leads back to its schedule.
        tab.goto(f"{url}/runs?run={runs()}")
        tab.get_by_role("link", name="often").wait_for(timeout=20_000)
