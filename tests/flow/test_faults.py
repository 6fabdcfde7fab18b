"""Faults of Salesforce, caused: what recovers by itself, what fails, and what the sentence says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from novade_core.ledger.models import RunState
from tests.homes import Home, Sandbox


@pytest.fixture
def bulk(tmp_path: Path, sandbox: Sandbox) -> Home:
    """A home that reads everything through Bulk."""
    return Home.make(tmp_path, sandbox, salesforce="bulk_from_rows = 0")


@pytest.fixture
def rest(tmp_path: Path, sandbox: Sandbox) -> Home:
    """A home that reads everything through REST."""
    return Home.make(tmp_path, sandbox, salesforce="bulk_from_rows = 1000000")


def arrives(home: Home) -> None:
    """The sync succeeds, complete, and a second one has nothing to do."""
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
    assert home.sync().counts["loaded"] == 0


def fails(home: Home, kind: str, *words: str) -> None:
    """The run fails with this class and sentence, nothing is half written, and the lease is free."""
    outcome = home.sync()
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.hint != "") == (kind, True), outcome.headline
    for word in words:
        assert word in outcome.headline + outcome.error.hint
    [run] = home.ledger_rows("SELECT * FROM runs WHERE id = :run", run=outcome.run_id)
    assert (run.error_kind, run.error_message, run.error_hint) == (kind, outcome.headline, outcome.error.hint)
    assert home.ledger_rows("SELECT stream FROM leases WHERE holder IS NOT NULL") == []
    assert home.ledger_rows("SELECT stream FROM checkpoints") == []
    assert home.ledger_rows("SELECT id FROM steps WHERE state = 'running'") == []


RECOVERS = {
    "session ends while polling": {"expire_on": "poll"},
    "session ends while paging": {"expire_on": "page"},
    "session ends at describe": {"expire_on": "describe"},
    "session ends at job creation": {"expire_on": "create"},
    "connection cut in a page": {"cut_page": 2},
    "connection cut twice": {"cut_page": {"n": 1, "times": 2}},
    "three 503": {"status": {"status": 503, "count": 3, "body": "none"}},
    "429 without a body": {"status": {"status": 429, "count": 2, "body": "none"}},
    "420 of an edge": {"status": {"status": 420, "count": 1, "body": "html"}},
    "an HTML page": {"html_error": 2},
    "half a JSON answer": {"malformed_json": 1},
    "a broken CSV page once": {"malformed_csv": 1},
    "wrong cells once": {"malformed_csv": {"count": 1, "how": "cells"}},
    "a short page once": {"short_page": {"rows": 3, "count": 1}},
    "no number header once": {"no_number_header": 1},
    "a failed job without reason": {"job_state": {"state": "Failed", "count": 1}},
    "an aborted job": {"job_state": {"state": "Aborted", "count": 1}},
    "a job that takes its time": {"job_delay_polls": 4},
}


@pytest.mark.parametrize("faults", RECOVERS.values(), ids=RECOVERS.keys())
def test_bulk_recovers_from(faults: dict[str, object], bulk: Home, sandbox: Sandbox) -> None:
    sandbox.faults(**faults)
    arrives(bulk)


@pytest.mark.parametrize(
    "faults",
    [
        {"expire_on": "query"},
        {"expire_on": "query_more"},
        {"cut_page": 1},
        {"expired_locator": 1},
        {"html_error": 1},
        {"malformed_json": 2},
        {"status": {"status": 503, "count": 1, "on": "token"}},
    ],
    ids=lambda faults: next(iter(faults)),
)
def test_rest_recovers_from(faults: dict[str, object], rest: Home, sandbox: Sandbox) -> None:
    sandbox.faults(**faults)
    arrives(rest)


@pytest.mark.parametrize("every", [1, 2])
def test_a_session_that_keeps_ending_is_renewed_every_time(every: int, bulk: Home, sandbox: Sandbox) -> None:
    def observer(name: str, details: object) -> None:
        if name == "extract.batch":
            sandbox.faults(session_after=every)

    outcome = bulk.sync(observer=observer)
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert sandbox.requests("token") > 2


def test_a_lasting_401_is_one_clear_error_and_not_a_thousand_logins(bulk: Home, sandbox: Sandbox) -> None:
    sandbox.faults(always_401=True)
    fails(bulk, "AuthenticationFailed", "right after login")
    assert sandbox.requests("token") <= 3


FAILS: dict[str, tuple[dict[str, object], str, tuple[str, ...]]] = {
    "wrong credentials": ({"bad_credentials": True}, "AuthenticationFailed", ("refused the login",)),
    "API switched off": ({"api_disabled": True}, "ConfigurationError", ("API_DISABLED", "API Enabled")),
    "hidden object": ({"unreadable": "Contact"}, "AccessMissing", ("Contact", "Read")),
    "bulk jobs used up": ({"limit_exceeded": True}, "QuotaReserved", ("LIMIT_EXCEEDED",)),
    "broken CSV for good": ({"malformed_csv": True}, "TransferBroken", ("malformed", "Contact")),
    "short pages for good": ({"short_page": {"rows": 3}}, "TransferBroken", ("announces", "holds")),
    "503 for good": ({"status": {"status": 503, "body": "none"}}, "SourceUnavailable", ("503",)),
    "failed jobs for good": (
        {"job_state": {"state": "Failed", "errorMessage": "INVALIDQUERY: something"}},
        "ConfigurationError",
        ("INVALIDQUERY",),
    ),
}


@pytest.mark.parametrize(("faults", "kind", "words"), FAILS.values(), ids=FAILS.keys())
def test_a_clear_failure_and_the_next_run_succeeds(
    faults: dict[str, object], kind: str, words: tuple[str, ...], bulk: Home, sandbox: Sandbox
) -> None:
    sandbox.faults(**faults)
    fails(bulk, kind, *words)
    sandbox.faults(**dict.fromkeys(faults))
    arrives(bulk)


def test_the_reserve_of_the_quota_is_not_touched(bulk: Home, sandbox: Sandbox) -> None:
    sandbox.call("POST", "/_sandbox/quota", {"max": 1000, "used": 799})
    fails(bulk, "QuotaReserved", "daily API calls", "reserved")
    used = sandbox.call("GET", "/_sandbox/quota")["used"]
    assert used <= 802
    sandbox.call("POST", "/_sandbox/quota", {"max": 1000, "used": 100})
    arrives(bulk)


def test_an_exhausted_quota_is_not_looped_on(tmp_path: Path, sandbox: Sandbox) -> None:
    home = Home.make(tmp_path, sandbox, salesforce="api_reserve_percent = 0")
    sandbox.call("POST", "/_sandbox/quota", {"max": 1000, "used": 1000})
    fails(home, "QuotaReserved", "REQUEST_LIMIT_EXCEEDED")
    assert sandbox.requests("describe") <= 1


def test_too_many_at_once_is_waited_for(bulk: Home, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    sandbox.faults(concurrent=1)
    arrives(bulk)
    assert 30 in waits


def test_both_logins_work(tmp_path: Path, sandbox: Sandbox) -> None:
    secrets = sandbox.secrets()
    for name, left_out in (("jwt", "consumer_secret"), ("client", "private_key")):
        folder = tmp_path / name
        folder.mkdir()
        lines = [
            f"{key} = '''{value}'''" for key, value in secrets.items() if key != left_out and isinstance(value, str)
        ]
        (folder / "secrets.toml").write_text("[salesforce]\n" + "\n".join(lines))
        home = Home.make(folder, sandbox)
        text = (folder / "novade.toml").read_text().replace(str(sandbox.folder / "secrets.toml"), "secrets.toml")
        (folder / "novade.toml").write_text(text)
        assert Home.open(folder).sync("salesforce.user").state is RunState.SUCCEEDED
        assert home.environment.name == "test"


def test_bulk_falls_back_to_rest_for_objects_it_refuses(bulk: Home, sandbox: Sandbox) -> None:
    sandbox.faults(bulk_unsupported="Contact")
    arrives(bulk)


def test_nul_bytes_are_left_out_and_na_stays_text(bulk: Home, sandbox: Sandbox) -> None:
    sandbox.call("POST", "/_sandbox/settings", {"nul_bytes": True})
    arrives(bulk)
    texts = {row[0] for row in bulk.query("SELECT DISTINCT Department FROM salesforce.contact")}
    whole = str(bulk.query("SELECT * FROM salesforce.contact"))
    assert "\\x00" not in whole
    assert texts


def test_empty_texts_are_null_as_salesforce_stores_them(bulk: Home) -> None:
    bulk.sync()
    columns = [
        row[0]
        for row in bulk.query(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'salesforce' AND data_type = 'VARCHAR'"
        )
    ]
    empty = " + ".join(f"count(*) FILTER (WHERE \"{name}\" = '')" for name in columns)
    assert bulk.query(f"SELECT {empty} FROM salesforce.contact") == [(0,)]


def test_a_repeated_continuation_is_an_error_and_not_a_loop(sandboxes: Callable[..., Sandbox], tmp_path: Path) -> None:
    # A query page holds up to 2,000 records, so this needs more of them than the small org has.
    sandbox = sandboxes(4500)
    rest = Home.make(tmp_path, sandbox, salesforce="bulk_from_rows = 1000000")
    sandbox.faults(repeat_page=True)
    outcome = rest.sync()
    sandbox.reset()
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "ProtocolBroken"
    assert "announced" in outcome.headline


def test_finished_jobs_are_deleted_at_the_source(bulk: Home, sandbox: Sandbox) -> None:
    bulk.sync()
    assert sandbox.requests("bulk_create") > 0
    assert sandbox.stats()["jobs"] == 0


def test_secrets_are_nowhere(bulk: Home, sandbox: Sandbox) -> None:
    sandbox.faults(status={"status": 503, "count": 1, "body": "html"})
    bulk.sync()
    sandbox.faults(bad_credentials=True)
    bulk.sync()
    secrets = sandbox.secrets()
    forbidden = [secrets["consumer_secret"], secrets["consumer_key"], secrets["private_key"].splitlines()[1]]
    searched = 0
    for file in bulk.folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            searched += 1
            for secret in forbidden:
                assert secret.encode() not in content, file
    assert searched > 5
    assert secrets["consumer_secret"] not in repr(bulk.environment)
