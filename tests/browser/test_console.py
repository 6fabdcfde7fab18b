"""The console in a real browser: first visits, light and dark, three widths, keyboard, accessibility, hostile data."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

import pytest

from novade_core.ledger.models import WindowState
from novade_core.settings import PROJECT
from tests.pages import seed, seed_money, seed_schedules, seed_windows

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
#: On a deep link the client first looks for the server below the page's path; Streamlit's own habit.
PROBES = ("/_stcore/health", "/_stcore/host-config")

#: Where the focus is: distance from the page's top (None outside the page), tag, text, outline, shadow.
FOCUSED = """(() => {
  const e = document.activeElement, main = e.closest('[data-testid=stMain]'), style = getComputedStyle(e);
  const top = main ? e.getBoundingClientRect().top + main.scrollTop : null;
  return [top, e.tagName, e.textContent.slice(0, 40), style.outlineStyle, style.boxShadow];
})()"""


class Console:
    """A served console over a seeded ledger."""

    def __init__(self, home: Path, *, hostile: bool) -> None:
        seed_windows.configure(home, hostile=hostile)
        ledger = seed.ledger_at(home)
        now = datetime.now(UTC)
        seed_windows.past(ledger, now - timedelta(hours=30))
        seed_windows.past(ledger, now - timedelta(hours=6), trouble=seed.HOSTILE if hostile else None)
        seed_windows.stuck(ledger, now, stream="task", said=seed.HOSTILE if hostile else "A column is gone.")
        self.ids = seed.failed(ledger, message=seed.HOSTILE if hostile else None)
        seed.backfilled(ledger)
        odd = (seed_schedules.spec(seed.HOSTILE[:100]),) if hostile else ()
        seed_schedules.scheduled(ledger, trouble=tuple(seed_schedules.TROUBLE), more=odd)
        seed_money.all_of_it(ledger, self.ids["case"], text=seed.HOSTILE if hostile else None)
        who = seed.HOSTILE if hostile else "bob (SSMS)"
        seed_windows.under_way(ledger, now, WindowState.CLOSING, others=[who])
        ledger.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environ = {**os.environ, "NOVADE_CONFIG": str(home / "novade.toml"), "NOVADE_HOME": str(home)}
        self.log = home / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
                cwd=PROJECT,
                env=environ,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self.log.read_text()[-2000:]) from None
                time.sleep(0.1)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        chromium.looks = {}
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    served = Console(tmp_path_factory.mktemp("console"), hostile=False)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    served = Console(tmp_path_factory.mktemp("hostile"), hostile=True)
    yield served
    served.stop()


class Visit:
    """One tab that notes what goes wrong."""

    def __init__(self, browser, url: str, *, width: int = 1440, scheme: str = "light") -> None:
        # One context per look keeps the client's code in the browser's cache; each tab is a session of its own.
        if scheme not in browser.looks:
            browser.looks[scheme] = browser.new_context(color_scheme=scheme)
        self.tab = browser.looks[scheme].new_page()
        self.tab.set_viewport_size({"width": width, "height": 900})
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.tab.on("console", self._said)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on(
            "request",
            lambda r: (
                None if r.url.startswith((url[:21], "ws://127.", "data:", "blob:")) else self.foreign.append(r.url)
            ),
        )
        self.tab.goto(url)
        self.tab.wait_for_selector(".nv-headline", timeout=30_000)
        self.settle()

    def _said(self, message) -> None:
        probe = "404" in message.text and str(message.location.get("url", "")).endswith(PROBES)
        if message.type == "error" and not probe:
            self.errors.append(f"{message.text} {message.location}")

    def settle(self) -> None:
        """Until the script has finished and all of it has been drawn."""
        self.tab.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=30_000)
        self.tab.wait_for_timeout(150)

    def __enter__(self):
        return self

    def __exit__(self, *_error) -> None:
        self.tab.close()


def views(console: Console) -> dict[str, str]:
    return {
        "overview": "/",
        "sync": "/sync?streams=salesforce.contact,salesforce.lead&kind=backfill",
        "backfills": "/sync?streams=salesforce.contact&kind=backfill&chunk=month&since=2024-01-01T00:00&backfill=3",
        "runs": "/runs",
        "schedules": "/schedules",
        "one schedule": "/schedules?schedule=every+quarter",
        "edited schedule": "/schedules?schedule=every+quarter&view=edit",
        "failed run": f"/runs?run={console.ids['failed']}",
        "running run": f"/runs?run={console.ids['running']}",
        "freshness": "/freshness",
        "one age": "/freshness?stream=salesforce.account",
        "reconciliation": "/reconciliation",
        "one comparison": "/reconciliation?stream=salesforce.case",
        "costs": "/costs",
        "costs of a stream": "/costs?stream=salesforce.contact",
        "price": "/costs?view=price&meter=process.cpu_ms",
        "load windows": "/load-windows",
        "one load window": "/load-windows?window=2",
    }


VIEWS = (
    "overview", "sync", "backfills", "schedules", "one schedule", "edited schedule", "runs", "failed run",
    "running run", "freshness", "one age", "reconciliation", "one comparison", "costs", "costs of a stream", "price",
    "load windows", "one load window",
)  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_quiet_fits_and_is_accessible(browser, console, view, scheme):
    from axe_playwright_python.sync_playwright import Axe

    with Visit(browser, console.url + views(console)[view], scheme=scheme) as visit:
        found = Axe().run(visit.tab).response["violations"]
        serious = [
            (v["id"], [node["html"][:200] for node in v["nodes"]][:4])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == []
        for width in (1440, 1024, 390):
            visit.tab.set_viewport_size({"width": width, "height": 900})
            visit.tab.wait_for_timeout(100)
            wider = visit.tab.evaluate(
                "Math.max(...['[data-testid=stMain]', 'html'].map(s => { const e = document.querySelector(s);"
                " return e.scrollWidth - e.clientWidth }))"
            )
            assert wider <= 0, f"scrolls sideways by {wider} px at {width} px"
            assert visit.tab.locator(".nv-environment").inner_text().startswith("Local sandbox")
        assert visit.errors == []
        assert visit.foreign == []


def test_a_deep_link_is_a_first_visit(browser, console):
    run = console.ids["failed"]
    with Visit(browser, f"{console.url}/runs?run={run}") as visit:
        said = visit.tab.locator(".nv-headline").first.inner_text()
        assert said.startswith(f"Run {run}: Salesforce Opportunity failed")
        problem = visit.tab.get_by_role("region", name="What went wrong").inner_text()
        for part in (
            "503",
            "3 failures in a row",
            "the fault lies with the source",
            "no further attempt was asked for",
        ):
            assert part in problem
        visit.tab.get_by_text(f"python -m jobs retry {run}", exact=True).wait_for(timeout=20_000)


def test_from_the_overview_to_the_cause_in_two_clicks(browser, console):
    with Visit(browser, console.url) as visit:
        visit.tab.locator(".nv-headline a", has_text="Salesforce Opportunity failed").click()
        visit.tab.wait_for_selector(".nv-problem")
        assert f"run={console.ids['failed']}" in visit.tab.url
        assert visit.tab.get_by_role("button", name="Run again").is_enabled()


def test_a_filter_is_a_link_and_a_bar_is_a_filter(browser, console):
    with Visit(browser, f"{console.url}/runs?state=partial") as visit:
        states = visit.tab.locator("table tbody .nv-badge").all_inner_texts()
        assert states
        assert all("partial" in s for s in states)
        visit.tab.locator(".nv-histogram a").first.click()
        visit.tab.wait_for_selector(".nv-headline")
        visit.settle()
        assert "since=" in visit.tab.url
        assert "state=partial" in visit.tab.url


def test_the_keyboard_reaches_everything_in_reading_order(browser, console):
    with Visit(browser, console.url) as visit:
        tops, seen = [], []
        for _ in range(30):
            visit.tab.keyboard.press("Tab")
            where = visit.tab.evaluate(FOCUSED)
            if where[0] is not None and where[1] == "A":
                assert where[3] != "none" or where[4] != "none", f"no visible focus on {where[2]}"
            if where[0] is not None:
                tops.append(where[0])
                seen.append(where[2])
        assert any("Salesforce" in text for text in seen)
        jumps = [b - a for a, b in pairwise(tops) if b < a - 60]
        assert len(jumps) <= 1, "focus jumps upwards (once is the end of the page)"


def test_markup_in_data_is_text(browser, hostile):
    for path in (
        "/",
        "/runs",
        "/sync?streams=salesforce.contact",
        "/schedules",
        "/schedules?" + urlencode({"schedule": seed.HOSTILE[:100], "view": "edit"}),
        "/freshness",
        "/reconciliation?stream=salesforce.contact",
        "/costs",
        "/load-windows",
        f"/runs?run={hostile.ids['failed']}",
        f"/runs?run={hostile.ids['partial']}",
    ):
        with Visit(browser, hostile.url + path) as visit:
            visit.tab.on("dialog", lambda d: visit.errors.append("a dialog opened"))
            assert visit.tab.locator('img[src="x"]').count() == 0, path
            assert visit.tab.locator('a[href^="javascript"]').count() == 0, path
            body = visit.tab.locator('[data-testid="stMain"]').inner_text()
            assert "<img src=x onerror=alert(1)>" in body, path
            assert visit.errors == [], path


def test_what_asks_for_a_sync_confirms_with_a_link(browser, console):
    with Visit(browser, f"{console.url}/sync?streams=salesforce.user") as visit:
        visit.tab.get_by_role("button", name="Start sync").click()
        table = visit.tab.get_by_role("table", name="Runs just asked for")
        table.wait_for(timeout=20_000)
        assert "Salesforce User" in table.inner_text()
        assert "queued" in table.inner_text()
        assert table.locator("a").first.get_attribute("href").startswith("/runs?run=")


def test_a_schedule_is_paused_and_resumed_by_clicking(browser, console):
    with Visit(browser, f"{console.url}/schedules") as visit:
        visit.tab.get_by_role("table", name="All schedules").get_by_role("link", name="weekly reload").click()
        visit.tab.get_by_role("button", name="Pause").click()
        visit.tab.locator(".nv-headline", has_text="is paused by local").wait_for(timeout=20_000)
        visit.tab.get_by_role("button", name="Resume").click()
        visit.tab.locator(".nv-notice", has_text="fires again from now on").wait_for(timeout=20_000)
        assert visit.errors == []


def test_health_and_metrics(console):
    for path in ("/healthz", "/readyz", "/metrics"):
        with urllib.request.urlopen(console.url + path, timeout=10) as answer:
            text = answer.read().decode()
            assert answer.status == 200
    assert 'novade_runs_24h{state="failed"}' in text
    assert 'novade_seconds_since_load{stream="salesforce.contact"}' in text
