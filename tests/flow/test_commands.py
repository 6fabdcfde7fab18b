"""The command line: shapes, exit codes, and how little it costs to start."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from jobs.__main__ import SYNC_KEYS
from novade_core.ledger.database import SCHEMA_VERSION
from tests.homes import PROJECT, Home, Sandbox


def answer(home: Home, *arguments: str, code: int = 0) -> Any:
    """A command's JSON, with its exit code checked and nothing said on standard error."""
    done = home.jobs(*arguments, "--json")
    assert done.returncode == code, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_sync_answers_the_promised_keys(home: Home, sandbox: Sandbox) -> None:
    first = answer(home, "sync", "salesforce.contact")
    assert list(first) == SYNC_KEYS
    assert first["state"] == "succeeded"
    assert first["source_count"] == first["warehouse_count"] == first["loaded"] - first["deleted"]
    assert answer(home, "sync", "salesforce.contact")["loaded"] == 0
    sandbox.change(update=10, new=5, delete=3)
    third = answer(home, "sync", "salesforce.contact")
    assert (third["loaded"], third["deleted"]) == (18, 3)


def test_several_streams_answer_a_list_and_one_failure_does_not_stop_the_next(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(unreadable="Lead")
    answers = answer(home, "sync", "salesforce.lead", "salesforce.user", code=1)
    assert [a["state"] for a in answers] == ["failed", "succeeded"]
    assert "Lead" in answers[0]["error"]
    assert answers[0]["hint"]


def test_usage_errors_are_2_with_a_sentence(home: Home) -> None:
    for arguments, word in (
        (["sync", "salesforce.nothing"], "There is no stream"),
        (["sync", "salesforce.contact", "--since", "2024-01-01"], "no time zone"),
        (["sync", "salesforce.contact", "--since", "2024-02-01T00:00:00Z", "--until", "2024-01-01T00:00:00Z"], "end"),
        (["sync", "salesforce.contact", "--since", "2024-02-01T00:00:00Z"], "both"),
        (["sync", "salesforce.contact", "--full", "--since", "2024-02-01T00:00:00Z"], "--full"),
        (["sync", "salesforce.contact", "--since", "yesterday"], "not an instant"),
        (["sync"], "streams"),
        (["runs", "list", "--state", "happy"], "no state"),
    ):
        done = home.jobs(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert word in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_backfill_by_command(home: Home) -> None:
    answer(home, "sync", "salesforce.contact")
    window = ["--since", "2024-06-01T00:00:00Z", "--until", "2025-06-01T00:00:00Z"]
    again = answer(home, "sync", "salesforce.contact", *window)
    assert again["state"] == "succeeded"
    assert again["read"] == again["unchanged"] > 0


def test_streams_as_json_is_a_list_of_four_keys(home: Home) -> None:
    before = answer(home, "streams")
    assert len(before) == 7
    assert all(list(row) == ["stream", "state", "rows", "last_load_at"] for row in before)
    assert {row["state"] for row in before} == {"never loaded"}
    done = answer(home, "sync", "salesforce.contact")
    after = {row["stream"]: row for row in answer(home, "streams")}["salesforce.contact"]
    assert (after["state"], after["rows"]) == ("fresh", done["warehouse_count"])


def test_runs_can_be_listed_shown_and_read(home: Home) -> None:
    run = answer(home, "sync", "salesforce.contact")["run_id"]
    [listed] = answer(home, "runs", "list")
    assert (listed["id"], listed["state"]) == (run, "succeeded")
    assert answer(home, "runs", "list", "--state", "failed") == []
    shown = answer(home, "runs", "show", str(run))
    assert [step["name"] for step in shown["steps"]] == ["plan", "extract", "land", "load", "verify"]
    assert shown["comparisons"][0]["state"] == "equal"
    assert any(line["message"] == "Planned." for line in answer(home, "runs", "logs", str(run)))
    assert answer(home, "runs", "show", "999", code=1)["error"] == "There is no run 999."
    assert "succeeded" in home.jobs("runs", "show", str(run)).stderr


def test_the_ledger_can_be_upgraded_and_an_environment_chosen(home: Home) -> None:
    assert answer(home, "ledger", "upgrade") == {"schema": SCHEMA_VERSION}
    assert answer(home, "streams", "--environment", "test")
    done = home.jobs("streams", "--environment", "nowhere")
    assert done.returncode == 1
    assert "known: test" in done.stderr


def test_the_sandbox_is_reached_by_command(home: Home) -> None:
    done = home.jobs("sandbox", "status")
    assert done.returncode == 1
    assert "no sandbox" in done.stderr


@pytest.mark.parametrize("command", [["streams"], ["runs", "list"], ["--help"]])
def test_a_cold_start_imports_nothing_heavy(command: list[str], home: Home) -> None:
    home.jobs("streams")
    script = (
        "import sys, runpy; sys.argv = ['jobs', *sys.argv[1:]]\n"
        "try: runpy.run_module('jobs', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = 'duckdb pyarrow pandas numpy streamlit plotly alembic apscheduler requests'.split()\n"
        "print('HEAVY', [name for name in heavy if name in sys.modules])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", script, *command],
        cwd=PROJECT,
        env=home.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert used.ru_utime > before.ru_utime


#: A shell's background job ignores Ctrl-C, and so would what it starts.
_LISTENING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "jobs", *sys.argv[1:]])
"""


def test_ctrl_c_ends_the_run_and_frees_the_stream(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(slow=0.4)
    command = [sys.executable, "-c", _LISTENING, "sync", "salesforce.contact"]
    process = subprocess.Popen(command, cwd=PROJECT, env=home.environ, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    # While it reads: once the last COMMIT is done, a cancel comes too late.
    while not home.ledger_rows("SELECT id FROM steps WHERE name = 'extract'") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    sandbox.faults(slow=None)
    assert process.returncode == 1
    assert "interrupted from the keyboard" in said
    assert [row.state for row in home.ledger_rows("SELECT state FROM runs")] == ["cancelled"]
    assert home.ledger_rows("SELECT stream FROM leases WHERE holder IS NOT NULL") == []
    fetched = len(sandbox.stats()["bulk_pages"])
    again = answer(home, "sync", "salesforce.contact")
    assert again["source_count"] == again["warehouse_count"]
    assert fetched == 0 or len(sandbox.stats()["bulk_pages"]) > fetched
