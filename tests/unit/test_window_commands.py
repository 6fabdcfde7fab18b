"""``python -m jobs window``: what the buttons of the page Load windows do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import jobs.__main__ as commands
from tests.pages import seed, seed_windows


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command in an environment with a pool; its exit code and all that it says."""
    monkeypatch.setenv("NOVADE_CONFIG", str(seed_windows.configure(tmp_path)))
    monkeypatch.setenv("NOVADE_HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str]:
        answer = CliRunner().invoke(commands.app, ["window", *arguments])
        return answer.exit_code, answer.output

    return run


def test_a_window_is_opened_once_and_ended(said):
    assert said("end") == (1, "Error: No load window is under way.\nNext step: There is nothing to end.\n")
    assert said("open") == (
        0, "Window 1 was asked for; a worker resumes the pool. Watch it with `python -m jobs window list`.\n",
    )  # fmt: skip
    assert json.loads(said("open", "--json")[1]) == {"window": 1, "new": False}
    assert json.loads(said("end", "--json")[1]) == {"window": 1}
    (window,) = json.loads(said("list", "--json")[1])["windows"]
    assert (window["state"], window["closed_at"], window["eur"]) == ("resuming", None, None)
    assert window["end_asked_by"]


def test_past_windows_with_their_cost_and_what_waits(said, tmp_path):
    now = datetime.now(UTC)
    ledger = seed.ledger_at(tmp_path)
    seed_windows.priced(ledger, now)
    for hours in (9, 3):
        seed_windows.past(ledger, now - timedelta(hours=hours))
    seed_windows.gathered(ledger, now, stream="salesforce.case", rows=50, minutes=10)
    seed_windows.stuck(ledger, now)
    ledger.close()
    found = json.loads(said("list", "--json")[1])
    assert [w["id"] for w in found["windows"]] == [2, 1]
    newest = found["windows"][0]
    assert (newest["rows"], newest["online_seconds"], newest["loads"]) == (24_000, 780, 2)
    assert 0.2 < float(newest["eur"]) < 0.4
    assert 7 < float(newest["always_on_eur"]) < 9
    assert (found["waiting"]["streams"], found["waiting"]["held_back"]) == (["salesforce.case"], ["salesforce.lead"])
    assert found["days"]["windows"] == 2
    code, output = said("list", "--limit", "1")
    assert code == 0
    assert "1 stream waits: salesforce.case; the next window opens by " in output
    assert "Held back, because the last load failed: salesforce.lead." in output
    assert output.count("24,000") == 1


def test_an_environment_without_a_pool_opens_none(said, tmp_path):
    seed.configure(tmp_path)
    code, output = said("open")
    assert code == 1
    assert "has no pool that is resumed and paused" in output
    assert "Next step: Set kind in [environments.local.pool]" in output
    assert said("list")[0] == 0
