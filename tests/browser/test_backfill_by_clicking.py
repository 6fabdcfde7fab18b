"""A backfill by clicking, in a real browser with a real worker: its grid fills, it pauses and goes on."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from novade_core.wiring import utc_now

# These fixtures start a console with its worker, and a browser.
from tests.browser.test_sync_by_clicking import busy, served, tab  # noqa: F401 (pytest finds them by name)
from tests.homes import Home, Sandbox

pytestmark = pytest.mark.browser


def test_a_backfill_of_three_windows_fills_its_grid(
    served: tuple[Home, str],  # noqa: F811 (the fixture)
    busy: Sandbox,  # noqa: F811
    tab: Any,  # noqa: F811
) -> None:
    home, url = served
    busy.faults(slow=0.3)
    first = (utc_now() - timedelta(days=200)).replace(day=1)
    since, until = f"{first:%Y-%m}-15T00:00", f"{first + timedelta(days=65):%Y-%m}-10T00:00"
    tab.goto(
        f"{url}/sync?streams=salesforce.contact&kind=backfill&chunk=month&order=oldest&since={since}&until={until}"
    )
    tab.get_by_role("button", name="Start backfill").click(timeout=30_000)
    tab.get_by_role("button", name="Start now").click(timeout=20_000)
    grid = tab.get_by_role("region", name="Windows of backfill 1")
    cells = grid.locator(".nv-cell")
    cells.first.wait_for(timeout=20_000)
    assert cells.count() == 3

    # The first window is read while the page is only looked at; then the pause holds the rest.
    grid.get_by_label(re.compile(": succeeded")).first.wait_for(timeout=60_000)
    tab.get_by_role("button", name="Pause").click()
    tab.get_by_role("button", name="Continue").wait_for(timeout=20_000)
    tab.wait_for_function("!document.querySelector('.nv-cells').innerHTML.match(/: (running|queued)/)", timeout=60_000)
    assert grid.get_by_label(re.compile(": waiting")).count() >= 1
    asked = len(home.ledger_rows("SELECT id FROM runs WHERE state <> 'cancelled'"))
    tab.wait_for_timeout(2_500)
    assert len(home.ledger_rows("SELECT id FROM runs WHERE state <> 'cancelled'")) == asked

    busy.faults(slow=None)
    tab.get_by_role("button", name="Continue").click()
    tab.wait_for_function(
        "document.querySelectorAll('.nv-cell[aria-label*=\": succeeded\"]').length === 3", timeout=60_000
    )
    tab.get_by_text(re.compile(r"3 windows: 3 read; [\d,]+ rows\.")).wait_for(timeout=20_000)
    # A cell leads to its run.
    cells.nth(1).focus()
    tab.keyboard.press("Enter")
    tab.wait_for_url(re.compile(r"/runs\?run=\d+"), timeout=20_000)
    rows = home.ledger_rows("SELECT kind, origin, state FROM runs WHERE state <> 'cancelled' ORDER BY id")
    assert [tuple(r) for r in rows] == [("backfill", "backfill", "succeeded")] * 3
    assert home.ledger_rows("SELECT cursor FROM checkpoints") == []
