"""``python -m jobs price``: what the form of the page Costs does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import jobs.__main__ as commands
from novade_core.settings import PROJECT


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command on a ledger of its own; its exit code and all that it says."""
    monkeypatch.setenv("NOVADE_CONFIG", str(PROJECT / "novade.toml"))
    monkeypatch.setenv("NOVADE_HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str]:
        answer = CliRunner().invoke(commands.app, ["price", *arguments])
        return answer.exit_code, answer.output

    return run


def test_a_price_is_set_and_listed(said):
    assert said("set", "process.cpu_ms", "61.50", "--currency", "EUR", "--since", "2026-08-01", "--source", "ours") == (
        0, "process.cpu_ms costs 61.50 EUR for 1 vCPU for 730 h from 2026-08-01 on.\n",
    )  # fmt: skip
    assert said("set", "process.cpu_ms", "unknown", "--since", "2026-09-01")[0] == 0
    found = [p for p in json.loads(said("list", "--json")[1]) if p["meter"] == "process.cpu_ms"]
    assert [(p["since"], p["price"], p["currency"], p["per"]) for p in found] == [
        ("2026-09-01", None, "EUR", 2_628_000_000),
        ("2026-08-01", "61.50", "EUR", 2_628_000_000),
        ("2024-07-01", "126.29", "USD", 2_628_000_000),
    ]
    assert "Azure list price, Blob hot LRS" in said("list")[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("new.meter", "1"), "its source is missing"),
        (("process.cpu_ms", "cheap"), "is no price"),
        (("process.cpu_ms", "1", "--since", "soon"), "is no day"),
        (("process.cpu_ms", "1", "--basis", "guessed"), "is no basis"),
    ],
)
def test_what_makes_no_price_is_refused_with_its_reason(said, arguments, reason):
    code, output = said("set", *arguments)
    assert code in (1, 2)
    assert reason in output
