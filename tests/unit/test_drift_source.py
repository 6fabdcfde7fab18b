"""Drift's faults and shapes, caused on the stand-in and met by the source alone: what recovers, what is told."""

from __future__ import annotations

import csv
import socket
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import requests

from novade_core import errors
from novade_core.catalogue import stream_of
from novade_core.sections import DriftSettings, StreamSettings
from novade_core.sources.drift import Drift
from novade_core.sources.drift.client import has_no_address
from novade_core.sources.drift.faults import fault
from novade_core.streams import TextFile, Window
from tests.homes import Sandbox

ALL = Window(low=None, high=None)
CONVERSATIONS = 30
Make = Callable[..., Drift]


def call(sandbox: Sandbox, route: str, **wanted: Any) -> Any:
    return sandbox.call("POST", f"/_sandbox/drift/{route}", wanted)


@pytest.fixture
def make(sandbox: Sandbox, tmp_path: Path) -> Iterator[Make]:
    """Sources with settings of their own against a workspace as seeded."""
    call(sandbox, "reset", data=True)
    made: list[Drift] = []

    def one(**settings: Any) -> Drift:
        given = tomllib.loads((sandbox.folder / "secrets.toml").read_text())["drift"]
        given |= {"retry_base_seconds": 0.01, "page_rows": 4, "details": False, **settings}
        made.append(Drift(DriftSettings.model_validate(given), tmp_path))
        return made[-1]

    yield one
    for source in made:
        source.close()
    call(sandbox, "reset", data=True)


def read(source: Drift, name: str = "conversations", transport: Literal["auto", "files"] = "auto") -> list[str]:
    """Keys of the records that arrive, in their order."""
    stream = stream_of(f"drift.{name}", StreamSettings(transport=transport))
    keys = []
    for batch in source.extract(stream, source.schema(stream), ALL, None):
        assert isinstance(batch.text, TextFile)
        with batch.text.path.open(newline="", encoding="utf-8") as file:
            keys += [row[0] for row in list(csv.reader(file))[1:]]
    return keys


RECOVERS: dict[str, dict[str, Any]] = {
    "three 503": {"status": {"status": 503, "count": 3, "body": "none"}},
    "500 in the other shape": {"status": {"status": 500, "count": 2, "body": "errors"}},
    "a page of HTML": {"html_error": 2},
    "a cut answer": {"cut_page": {"n": 3, "times": 2}},
    "half a JSON answer": {"invalid_json": 2},
    "an answer without a body": {"empty_body": 2},
    "429 that says how long": {"status": {"status": 429, "count": 1, "retry_after": 1}},
    "an empty page in between": {"empty_page": 2},
    "a link to another host": {"foreign_link": 3},
    "others who move and add": {"reorder": {"moved": 1, "count": 3}},
    "an app's token that ends": {"expire_after": 2},
}


@pytest.mark.parametrize("faults", RECOVERS.values(), ids=RECOVERS.keys())
def test_it_recovers_from(faults: dict[str, Any], make: Make, sandbox: Sandbox) -> None:
    source = make()
    waits: list[float] = []
    source.on_wait = lambda seconds, _reason: waits.append(seconds)
    call(sandbox, "faults", **faults)
    keys = read(source)
    assert len(keys) == len(set(keys)) == CONVERSATIONS
    told = faults.get("status", {}).get("retry_after")
    assert told is None or waits == [told]


FAILS: dict[str, tuple[dict[str, Any], str, str]] = {
    "every token refused": ({"always_401": True}, "AuthenticationFailed", "401"),
    "retired by 410": ({"retired": 410}, "SourceRetired", "retired"),
    "retired by 404": ({"retired": 404}, "SourceRetired", "No address"),
    "retired by 401": ({"retired": 401}, "AuthenticationFailed", "401"),
    "a page that leads to itself": ({"repeat_page": True}, "ProtocolBroken", "same continuation"),
    "empty pages without end": ({"empty_page": True}, "ProtocolBroken", "same continuation"),
    "503 for good": ({"status": {"status": 503, "on": "conversations"}}, "SourceUnavailable", "503"),
    "400": ({"status": {"status": 400}}, "Refused", "400"),
    "403": ({"status": {"status": 403}}, "Forbidden", "403"),
    "a redirect": ({"status": {"status": 302}}, "ConfigurationError", "302"),
    "one address gone": ({"status": {"status": 404, "on": "conversations"}}, "ConfigurationError", "404"),
    "no answer": ({"hang": "conversations"}, "SourceUnavailable", "0.3 s"),
    "an answer that trickles": ({"trickle": "conversations"}, "SourceUnavailable", "0.3 s"),
    "every answer too late": ({"slow": 0.5}, "SourceUnavailable", "0.3 s"),
}


@pytest.mark.parametrize(("faults", "kind", "said"), FAILS.values(), ids=FAILS.keys())
def test_it_tells(faults: dict[str, Any], kind: str, said: str, make: Make, sandbox: Sandbox) -> None:
    late = {"hang", "trickle", "slow"} & set(faults)
    source = make(timeout_seconds=0.3, tries=1) if late else make(tries=2)
    call(sandbox, "faults", **faults)
    with pytest.raises(errors.NovadeError) as raised:
        read(source)
    call(sandbox, "reset")
    assert type(raised.value).__name__ == kind
    assert said in raised.value.message
    assert raised.value.origin_of_fault == "source"
    token = source.settings.access_token
    assert token is not None
    assert token.get_secret_value() not in raised.value.message + raised.value.hint


VARIANTS: list[dict[str, Any]] = [
    {"conversation_paging": "pagination", "cursor": "key", "message_cursor": "opaque", "last_messages": "empty"},
    {"last_links": "absent", "no_messages": "nothing", "accounts_next": "absolute", "last_accounts": "null"},
    {"last_links": "no_links", "link_host": "driftapi.com", "page_token_required": True, "over_limit": "reject"},
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_every_spelling_of_paging_reads_the_same(settings: dict[str, Any], make: Make, sandbox: Sandbox) -> None:
    streams = ("conversations", "messages", "accounts")
    before = [sorted(read(make(), name)) for name in streams]
    call(sandbox, "settings", **settings)
    assert [sorted(read(make(), name)) for name in streams] == before
    truth = sandbox.call("GET", "/_sandbox/drift/records?stream=messages&count=1000000")["records"]
    assert before[1] == sorted(str(m["id"]) for m in truth)


def test_a_rate_limit_is_waited_out(make: Make, sandbox: Sandbox) -> None:
    call(sandbox, "settings", calls_per_minute=5, minute_seconds=1.0, limit_headers=True)
    source = make()
    waits: list[tuple[float, str]] = []
    source.on_wait = lambda seconds, reason: waits.append((seconds, reason))
    assert len(read(source)) == CONVERSATIONS
    assert waits
    assert all(seconds == 1 and "429" in reason for seconds, reason in waits)
    # Calls that are refused are calls as well.
    asked = sum(call(sandbox, "stats", reset=True)["requests"].values())
    assert source.usage()["drift.api_calls"] == asked


def test_a_rate_limit_without_end_is_left_to_the_next_run(make: Make, sandbox: Sandbox) -> None:
    call(sandbox, "faults", status={"status": 429, "retry_after": 3600})
    with pytest.raises(errors.RateLimited) as raised:
        read(make())
    assert raised.value.retry_after == 3600


def test_calls_are_paced(make: Make) -> None:
    source = make(calls_per_minute=1200)
    begun = time.monotonic()
    read(source)
    assert time.monotonic() - begun >= (source.usage()["drift.api_calls"] - 1) * 0.05


@pytest.mark.parametrize("name", ["conversations", "contacts", "users", "accounts"])
def test_a_token_without_the_scope_is_told(name: str, make: Make, sandbox: Sandbox) -> None:
    token = call(sandbox, "tokens", scopes=["playbook_read"])["access_token"]
    with pytest.raises(errors.AccessMissing, match="403"):
        read(make(access_token=token), name)


def test_a_token_that_ended_is_told(make: Make, sandbox: Sandbox) -> None:
    token = call(sandbox, "tokens", seconds=0)["access_token"]
    with pytest.raises(errors.AuthenticationFailed) as raised:
        read(make(access_token=token))
    assert "retired" in raised.value.hint


def test_addresses_that_all_say_not_found_take_nothing_as_deleted(make: Make, sandbox: Sandbox) -> None:
    from novade_core.sources.drift import source as module

    call(sandbox, "faults", status={"status": 404, "on": "contact"})
    source = make()
    named = {c.get("contactId") for c in sandbox.call("GET", "/_sandbox/drift/records?stream=conversations")["records"]}
    assert len(named) < module._GONE_AT_ONCE
    source._gone = module._GONE_AT_ONCE - 1
    with pytest.raises(errors.ProtocolBroken, match="do not exist"):
        read(source, "contacts")


EXPORTS: list[dict[str, Any]] = [
    {"format": "jsonl", "gzip": True, "rows_per_file": 7},
    {"format": "json", "wrapped": True},
    {"format": "json"},
    {"format": "csv", "gzip": True},
]


@pytest.mark.parametrize("shape", EXPORTS)
def test_an_export_is_read_in_every_shape(shape: dict[str, Any], make: Make, sandbox: Sandbox) -> None:
    folder = call(sandbox, "export", name=f"shape{EXPORTS.index(shape)}", **shape)["target"]
    for name in ("conversations", "messages", "contacts", "users", "accounts"):
        truth = sandbox.call("GET", f"/_sandbox/drift/records?stream={name}&count=1000000")["records"]
        source = make(export=folder, access_token=None)
        stream = stream_of(f"drift.{name}", StreamSettings(transport="files"))
        keys = {str(r["accountId" if name == "accounts" else "id"]) for r in truth}
        assert set(read(source, name, transport="files")) == keys
        assert source.count(stream) == sum(1 for r in truth if not r.get("deleted"))
        assert sum(source.counts_by_month(stream, "createdAt", include_deleted=False).values()) == len(truth)
        assert source.usage()["drift.api_calls"] == 0


def test_a_damaged_export_names_the_file(make: Make, sandbox: Sandbox) -> None:
    for number, shape in enumerate(({"format": "jsonl"}, {"format": "json"}, {"format": "jsonl", "gzip": True})):
        folder = call(sandbox, "export", name=f"broken{number}", truncated="users", **shape)["target"]
        with pytest.raises(errors.TransferBroken, match=r"users-00000\.json"):
            read(make(export=folder), "users", transport="files")


def test_an_export_that_is_not_there_is_told(make: Make, tmp_path: Path) -> None:
    for settings, said in (({}, "no folder"), ({"export": tmp_path}, "holds no file of users")):
        with pytest.raises(errors.ConfigurationError, match=said):
            read(make(**settings), "users", transport="files")


def test_no_credentials_are_told() -> None:
    source = Drift(DriftSettings(), Path("/nowhere"))
    with pytest.raises(errors.ConfigurationError) as raised:
        source.schema(stream_of("drift.users", StreamSettings()))
    assert "NOVADE_DRIFT_ACCESS_TOKEN" in raised.value.hint


def failed_connection(number: int) -> requests.exceptions.ConnectionError:
    error = requests.exceptions.ConnectionError("no")
    error.__context__ = socket.gaierror(number, "said the resolver")
    return error


def test_a_name_that_does_not_exist_is_not_a_resolver_in_trouble() -> None:
    assert has_no_address(failed_connection(socket.EAI_NONAME))
    assert not has_no_address(failed_connection(socket.EAI_AGAIN))
    assert not has_no_address(requests.exceptions.ConnectionError("refused"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"type": "x", "message": "no  such\\nthing"}}', "x: no such thing"),
        (
            b'{"errors": [{"type": "validation_error", "message": "bad", "param": "limit"}]}',
            "validation_error: limit: bad",
        ),
        (b'{"error": "not found"}', "not found"),
        (b'{"errors": []}', "400 while asking."),
        (b"<html>", "400 while asking."),
        (b"[1]", "400 while asking."),
        (b"", "400 while asking."),
    ],
)
def test_every_shape_of_an_error_is_understood(body: bytes, said: str) -> None:
    assert said in fault(400, body, "asking").message
