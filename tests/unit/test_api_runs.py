"""Runs over HTTP: who may ask, what may be asked, what is answered, and that a key is one run."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select, text, update
from starlette.applications import Starlette

from jobs import api
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import Audit, RequestKey, Run
from novade_core.settings import load_settings

TOKEN = "t0ken-that-nobody-may-see"
ASK = {"stream": "salesforce.contact"}
NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = open_ledger(ledger_url)
    yield opened
    opened.close()


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """Speaks ASGI to the routes, byte by byte as a stranger could."""

    def __init__(self, ledger: Ledger | None, token: str | None = TOKEN, **more: str) -> None:
        environ = {"NOVADE_HOME": "/nowhere", **more} | ({} if token is None else {"NOVADE_API_TOKEN": token})
        environment = load_settings(environ=environ)
        self.app = Starlette(routes=api.routes(api.Console(environment=environment, ledger=ledger)))

    def send(self, method: str, path: str, body: bytes = b"", *headers: tuple[str, str], pieces: int = 1) -> Answer:
        sent: list[dict[str, Any]] = []
        size = -(-len(body) // pieces) or 1
        parts = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
        coming = iter(parts)
        self.read = 0

        async def receive() -> dict[str, Any]:
            part = next(coming, None)
            if part is None:
                return {"type": "http.disconnect"}
            self.read += 1
            return {"type": "http.request", "body": part, "more_body": self.read < len(parts)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "query_string": b"",
            "root_path": "",
        }
        anyio.run(self.app, scope, receive, send)
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        answer = Answer(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]).decode())
        assert TOKEN not in answer.text + str(found)
        return answer

    def ask(
        self, body: Any = ASK, *headers: tuple[str, str], key: str | None = None, raw: bytes | None = None
    ) -> Answer:
        keyed = [("Idempotency-Key", key)] if key is not None else []
        sent = json.dumps(body).encode() if raw is None else raw
        return self.send("POST", "/api/runs", sent, AUTHORIZED, JSON, *keyed, *headers)

    def look(self, run_id: object) -> Answer:
        return self.send("GET", f"/api/runs/{run_id}", b"", AUTHORIZED)


AUTHORIZED = ("Authorization", f"Bearer {TOKEN}")
JSON = ("Content-Type", "application/json")


def problem(answer: Answer, status: int, kind: str) -> dict[str, Any]:
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert list(found) == ["type", "title", "status", "detail", "hint"]
    assert (found["status"], found["type"]) == (status, f"urn:novade:problem:{kind}")
    assert found["detail"].endswith(".")
    assert found["hint"].endswith(".")
    return dict(found)


def runs(ledger: Ledger) -> int:
    with ledger.read() as c:
        return int(c.execute(select(func.count()).select_from(Run)).scalar_one())


def end(ledger: Ledger, run_id: int, **values: Any) -> None:
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == run_id).values(**({"state": "succeeded", "ended_at": NOW} | values)))


# --- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "   "])
def test_without_a_configured_token_nobody_may_ask(ledger, token):
    client = Client(ledger, token)
    for answer in (
        client.send("POST", "/api/runs", b"{}", JSON, ("Authorization", "Bearer ")),
        client.send("GET", "/api/runs/1", b"", AUTHORIZED),
    ):
        assert "NOVADE_API_TOKEN" in problem(answer, 403, "no-token-configured")["hint"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", f"Bearer {TOKEN.upper()}")],
        [("Authorization", "Bearer t0ken-th\xe4t")],
        [("Authorization", "Bearer wrong"), AUTHORIZED],
        [("X-Api-Key", TOKEN)],
    ],
)
def test_without_the_right_token_nothing_is_read_or_written(ledger, headers):
    client = Client(ledger)
    answer = client.send("POST", "/api/runs", json.dumps(ASK).encode(), JSON, *headers)
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert client.read == 0
    problem(client.send("GET", "/api/runs/1", b"", *headers), 401, "unauthorized")
    assert runs(ledger) == 0


def test_the_scheme_is_known_in_any_case(ledger):
    answer = Client(ledger).send("GET", "/api/runs/1", b"", ("Authorization", f"bearer {TOKEN}"))
    problem(answer, 404, "unknown-run")


def test_while_the_console_starts_the_caller_is_asked_to_wait():
    answer = Client(None).ask()
    problem(answer, 503, "starting")
    assert answer.headers["retry-after"] == "5"


# --- asking and looking ---------------------------------------------------------------------------


def test_a_run_is_asked_for_and_followed_to_its_end(ledger):
    client = Client(ledger)
    asked = client.ask(ASK, ("User-Agent", "n8n"))
    assert asked.status == 202
    run = asked.json()
    assert asked.headers["location"] == f"/api/runs/{run['id']}"
    said = {"stream": "salesforce.contact", "kind": "incremental", "state": "queued", "open": True, "origin": "webhook"}
    assert run | said == run
    with ledger.write() as c:
        c.execute(update(Run).values(state="running", started_at=NOW, progress={"step": "extract", "rows": 7}))
    under_way = client.look(run["id"])
    assert (under_way.status, under_way.headers["retry-after"]) == (202, "5")
    assert under_way.headers["cache-control"] == "no-store"
    assert under_way.json()["progress"] == {"step": "extract", "rows": 7}
    end(ledger, run["id"], loaded=12, headline="Loaded 12.")
    ended = client.look(run["id"])
    assert ended.status == 200
    assert "retry-after" not in ended.headers
    assert "location" not in ended.headers
    found = ended.json()
    assert (found["open"], found["headline"], found["counts"]["loaded"]) == (False, "Loaded 12.", 12)
    assert (found["counts"]["read"], found["error"], found["progress"]) == (None, None, None)
    assert found["ended_at"] == "2024-11-18T14:00:00+00:00"


def test_a_failed_run_says_why_and_names_its_next_attempt(ledger):
    client = Client(ledger)
    first = client.ask().json()["id"]
    error = {
        "error_kind": "SourceUnavailable",
        "error_origin": "source",
        "error_message": "It\n<b>",
        "error_hint": "Wait.",
    }
    end(ledger, first, state="failed", **error)
    second = client.ask().json()["id"]
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == second).values(retry_of=first, attempt=2))
    answer = client.look(first)
    assert answer.status == 200
    assert (answer.json()["state"], answer.json()["retry"]) == ("failed", second)
    assert answer.json()["error"] == {
        "class": "SourceUnavailable",
        "origin": "source",
        "message": "It\n<b>",
        "hint": "Wait.",
    }
    assert (client.look(second).json()["retry_of"], client.look(second).json()["attempt"]) == (first, 2)


def test_a_window_is_taken_with_its_time_zone(ledger):
    body = {"stream": "salesforce.contact", "kind": "backfill", "since": "2024-11-01T02:00:00+02:00"}
    answer = Client(ledger).ask(body | {"until": "2024-11-02T00:00:00Z"})
    assert answer.status == 202
    assert answer.json()["since"] == "2024-11-01T00:00:00+00:00"
    assert answer.json()["until"] == "2024-11-02T00:00:00+00:00"


def test_a_configured_address_makes_locations_absolute_whatever_the_caller_calls_us(ledger):
    client = Client(ledger, NOVADE_API_URL="https://novade.example.org/")
    answer = client.ask(ASK, ("Host", "evil.example"))
    assert answer.headers["location"] == f"https://novade.example.org/api/runs/{answer.json()['id']}"


@pytest.mark.parametrize("run_id", ["0", "7", "-1", "1.0", "x", "1%20", "9" * 18, "9" * 400, "١", "1;DROP"])
def test_an_unknown_run_is_a_problem(ledger, run_id):
    problem(Client(ledger).look(run_id), 404, "unknown-run")


def test_what_is_not_served_is_a_problem_and_no_page(ledger):
    client = Client(ledger)
    for path in ("/api/run", "/api/runs/", "/api/runs/1/log", "/api/"):
        problem(client.send("GET", path, b"", AUTHORIZED), 404, "no-such-route")
    for method, path, allowed in (("GET", "/api/runs", "POST"), ("DELETE", "/api/runs/1", "GET, HEAD")):
        answer = client.send(method, path, b"", AUTHORIZED)
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == allowed


# --- hostile requests -----------------------------------------------------------------------------


@pytest.mark.parametrize("media", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_another_media_type_is_refused(ledger, media):
    headers = [] if media is None else [("Content-Type", media)]
    answer = Client(ledger).send("POST", "/api/runs", json.dumps(ASK).encode(), AUTHORIZED, *headers)
    problem(answer, 415, "not-json")


def test_a_charset_beside_the_media_type_is_fine(ledger):
    headers = (AUTHORIZED, ("Content-Type", "Application/JSON; charset=utf-8"))
    assert Client(ledger).send("POST", "/api/runs", json.dumps(ASK).encode(), *headers).status == 202


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"stream=salesforce.contact",
        b"\xff\xfe{\x00}\x00",
        b'{"stream": "salesforce.contact"}\x00',
        b'{"stream": NaN}',
        b'{"stream": "salesforce.contact", "stream": "salesforce.lead"}',
        b'{"stream": "salesforce.contact", "since": ' + b"9" * 5000 + b"}",
        b"[" * 16_000,
        b'{"stream": "a\nb"}',
    ],
    ids=range(10),
)
def test_what_is_not_json_is_refused(ledger, raw):
    problem(Client(ledger).ask(raw=raw), 400, "malformed")
    assert runs(ledger) == 0


@pytest.mark.parametrize("raw", [b"[" * 8_000 + b"]" * 8_000, b'{"stream":' * 1_400 + b"1" + b"}" * 1_400])
def test_deep_nesting_is_refused(ledger, raw):
    answer = Client(ledger).ask(raw=raw)
    assert answer.status in (400, 422), answer.text
    assert answer.json()["hint"]


def test_what_a_source_said_is_shown_whatever_it_is(ledger):
    client = Client(ledger)
    run_id = client.ask().json()["id"]
    odd = "half \ud83d" if ledger.is_sqlite else "Z\u00fcrich \u2028"
    with ledger.write() as c:
        c.execute(update(Run).values(progress={"message": odd}))
    assert client.look(run_id).json()["progress"] == {"message": odd}


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (None, 422, "unfit"),
        ([], 422, "unfit"),
        ("salesforce.contact", 422, "unfit"),
        ({}, 422, "unfit"),
        ({"stream": ["salesforce.contact"]}, 422, "unfit"),
        ({"stream": ""}, 422, "unfit"),
        ({"stream": "s" * 201}, 422, "unfit"),
        (ASK | {"kind": "everything"}, 422, "unfit"),
        (ASK | {"kind": 7}, 422, "unfit"),
        (ASK | {"kind": None}, 422, "unfit"),
        (ASK | {"kind": ["full"]}, 422, "unfit"),
        (ASK | {"priority": 0}, 422, "unfit"),
        (ASK | {"\ud800\x00" * 100: 0}, 422, "unfit"),
        ({"stream": "salesforce.nothing"}, 404, "unknown-stream"),
        ({"stream": "salesforce"}, 404, "unknown-stream"),
        ({"stream": "\ud800\x00<b>"}, 404, "unknown-stream"),
        ({"stream": "x'; DROP TABLE runs --"}, 404, "unknown-stream"),
        (ASK | {"since": "2024-11-01T00:00:00Z"}, 422, "bad-window"),
        (ASK | {"kind": "backfill"}, 422, "bad-window"),
        (ASK | {"kind": "backfill", "since": 20241101}, 422, "bad-window"),
        (ASK | {"kind": "backfill", "since": 10**400}, 422, "bad-window"),
        (ASK | {"kind": "backfill", "since": "yesterday\x00\ud800"}, 422, "bad-window"),
        (ASK | {"kind": "backfill", "since": "2024-11-01"}, 422, "bad-window"),
        (ASK | {"kind": "backfill", "since": "2" * 10_000}, 422, "bad-window"),
        (ASK | {"kind": "backfill", "since": "9999-12-31T23:59:59-01:00"}, 422, "bad-window"),
        (ASK | {"kind": "backfill", "since": "0001-01-01T00:00:00+01:00"}, 422, "bad-window"),
        (
            ASK | {"kind": "backfill", "since": "2024-11-02T00:00:00Z", "until": "2024-11-01T00:00:00Z"},
            422,
            "bad-window",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_reason(ledger, body, status, kind):
    answer = Client(ledger).ask(body)
    problem(answer, status, kind)
    assert len(answer.text) < 1_000
    assert (runs(ledger), answer.text.isascii()) == (0, True)


@pytest.mark.parametrize("pieces", [1, 20])
def test_a_large_body_is_refused_before_all_of_it_is_read(ledger, pieces):
    client = Client(ledger)
    answer = client.send("POST", "/api/runs", b" " * 200_000, AUTHORIZED, JSON, pieces=pieces)
    problem(answer, 413, "too-large")
    assert client.read <= 2
    fits = json.dumps(ASK).encode().ljust(16 * 1024)
    assert client.ask(raw=fits).status == 202
    problem(client.ask(raw=fits + b" "), 413, "too-large")


def test_a_caller_who_goes_away_leaves_nothing(ledger):
    client = Client(ledger)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in (AUTHORIZED, JSON)]
    scope = {"type": "http", "method": "POST", "path": "/api/runs", "headers": headers, "query_string": b""}
    anyio.run(client.app, scope | {"root_path": ""}, receive, send)
    assert (sent[0]["status"], runs(ledger)) == (400, 0)


@pytest.mark.parametrize("key", ["", "k" * 201, "a\tb", "a\r\nX-Evil: 1", "k\x00", "schl\xfcssel", f"x{TOKEN}"])
def test_a_key_that_is_none_is_refused(ledger, key):
    answer = Client(ledger).ask(key=key)
    problem(answer, 400, "bad-key")
    assert "x-evil" not in answer.headers
    assert runs(ledger) == 0


def test_two_keys_are_none(ledger):
    problem(Client(ledger).ask(ASK, ("Idempotency-Key", "b"), key="a"), 400, "bad-key")


def test_who_asks_is_kept_short_and_printable(ledger):
    client = Client(ledger)
    for number, (agent, kept) in enumerate(
        [
            ("AzureDataFactory\r\nX-Evil: 1\x00\xe4" + "x" * 500, f"webhook AzureDataFactoryX-Evil: 1{'x' * 15}"),
            ("", "webhook"),
            (f"curl {TOKEN}", "webhook"),
            (f"{'x' * 30}{TOKEN}", "webhook"),
        ]
    ):
        run_id = client.ask({"stream": "salesforce.contact"}, ("User-Agent", agent), key=str(number)).json()["id"]
        with ledger.read() as c:
            assert c.execute(select(Run.requested_by).where(Run.id == run_id)).scalar() == kept
        end(ledger, run_id)


# --- idempotency ----------------------------------------------------------------------------------


def test_a_key_gives_its_run_again_before_and_after_the_end(ledger):
    client = Client(ledger)
    first = client.ask(key="k" * 200)
    again = client.ask(key="k" * 200)
    assert (first.status, again.status) == (202, 202)
    assert again.json() == first.json()
    end(ledger, first.json()["id"])
    ended = client.ask(key="k" * 200)
    assert (ended.status, ended.json()["id"], ended.json()["state"]) == (200, first.json()["id"], "succeeded")
    assert client.ask(key="other").json()["id"] != first.json()["id"]


def test_a_key_that_met_a_waiting_run_starts_no_other_one_later(ledger):
    client = Client(ledger)
    waiting = client.ask().json()["id"]
    assert client.ask(key="k").json()["id"] == waiting
    end(ledger, waiting)
    answer = client.ask(key="k")
    assert (answer.status, answer.json()["id"], runs(ledger)) == (200, waiting, 1)


@pytest.mark.parametrize("other", [ASK | {"kind": "full"}, {"stream": "salesforce.lead"}])
def test_a_key_with_another_body_is_refused(ledger, other):
    client = Client(ledger)
    client.ask(key="k")
    problem(client.ask(other, key="k"), 422, "key-reused")
    assert runs(ledger) == 1


def test_of_many_requests_with_one_key_at_once_one_makes_the_run(ledger):
    many, rounds = 6, 5
    clients = [Client(ledger) for _ in range(many)]
    for number in range(rounds):
        together = threading.Barrier(many)

        def one(client: Client, key: str = f"k{number}", together: threading.Barrier = together) -> Answer:
            together.wait(30)
            return client.ask(key=key)

        with ThreadPoolExecutor(many) as pool:
            answers = list(pool.map(one, clients))
        assert {a.status for a in answers} == {202}
        assert len({a.json()["id"] for a in answers}) == 1
        assert runs(ledger) == number + 1
        end(ledger, answers[0].json()["id"])


# --- faults, secrets ------------------------------------------------------------------------------


def test_a_ledger_that_is_away_is_a_503_that_names_no_address(ledger, caplog):
    client = Client(ledger)
    with ledger.write() as c:
        c.execute(text("DROP TABLE request_keys"))
    with caplog.at_level(logging.WARNING):
        answer = client.ask(key="k")
    found = problem(answer, 503, "ledger-away")
    assert answer.headers["retry-after"] == "5"
    assert "request_keys" not in answer.text
    assert "Idempotency-Key" in found["hint"]
    assert runs(ledger) == 0
    assert "request_keys" in caplog.text
    assert TOKEN not in caplog.text


def test_the_token_is_in_nothing_that_is_kept_or_logged(ledger, caplog, tmp_path: Path):
    client = Client(ledger)
    with caplog.at_level(logging.DEBUG):
        run_id = client.ask(ASK, ("User-Agent", TOKEN), key="k").json()["id"]
        client.look(run_id)
        client.ask(key=TOKEN)
        client.ask({"stream": "salesforce.x"}, key="l")
        client.send("POST", "/api/runs", b"{", ("Authorization", f"Bearer {TOKEN}x"), JSON)
    assert TOKEN not in caplog.text
    with ledger.read() as c:
        for table in (Run, Audit, RequestKey):
            kept = c.execute(select(table.__table__)).all()
            assert kept
            assert TOKEN not in str(kept)
    assert TOKEN not in repr(load_settings(environ={"NOVADE_API_TOKEN": TOKEN}))


def test_each_request_is_in_the_audit_with_who_asked(ledger):
    Client(ledger).ask(ASK, ("User-Agent", "n8n"))
    with ledger.read() as c:
        assert c.execute(select(Audit.who, Audit.action)).all() == [("webhook n8n", "run.asked")]
