"""The HTTP handlers beside the pages, and who may not be served."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from starlette.applications import Starlette

import app
from jobs import api
from novade_core.errors import ConfigurationError
from novade_core.settings import load_settings
from tests.pages import seed


@pytest.fixture
def console(ledger) -> api.Console:
    return api.Console(environment=load_settings(), ledger=ledger)


@dataclass
class Answer:
    """What came back."""

    status_code: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """Speaks ASGI to the routes; one GET is all it can."""

    def __init__(self, console: api.Console) -> None:
        self.app = Starlette(routes=api.routes(console))

    def get(self, path: str) -> Answer:
        sent: list[dict[str, Any]] = []

        async def call() -> None:
            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": ""}
            await self.app(scope, receive, send)

        anyio.run(call)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        body = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(status_code=sent[0]["status"], headers=headers, text=body.decode())


def client(console: api.Console) -> Client:
    return Client(console)


def test_before_the_start_hook_only_the_process_is_alive():
    starting = client(api.Console())
    assert starting.get("/healthz").status_code == 200
    assert starting.get("/readyz").json() == {"ready": False, "reasons": ["The console is starting."]}
    assert starting.get("/metrics").status_code == 503


def test_ready_until_the_ledger_is_not(console):
    served = client(console)
    assert served.get("/readyz").status_code == 200
    with console.ledger.write() as c:
        c.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    answer = served.get("/readyz")
    assert answer.status_code == 503
    assert "schema 0000" in answer.json()["reasons"][0]
    with console.ledger.write() as c:
        c.execute(text("DROP TABLE runs"))
    assert served.get("/readyz").json()["reasons"] == ["The ledger cannot be read."]
    assert served.get("/metrics").status_code == 503


def test_metrics_are_what_the_ledger_says(console):
    seed.failed(console.ledger)
    answer = client(console).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert "novade_queue_length 2" in lines
    assert 'novade_runs_24h{state="running"} 1' in lines
    assert 'novade_worker_beat{worker="console:41:9",kind="console"} 2700' in lines
    samples = [line for line in lines if not line.startswith("#")]
    assert len({s.rsplit(" ", 1)[0] for s in samples}) == len(samples)
    assert all(float(s.rsplit(" ", 1)[1]) >= 0 for s in samples)


def test_a_stream_never_loaded_has_no_age(console):
    said = api.metrics_text(console.environment, console.ledger, datetime.now(UTC))
    assert "novade_seconds_since_load{" not in said
    assert 'novade_rows_loaded_today{stream="salesforce.contact"} 0' in said


def test_label_values_are_escaped():
    assert api._metric("m", "gauge", "x", [({"a": 'q"b\\c\nd'}, 1)]).endswith('m{a="q\\"b\\\\c\\nd"} 1\n')


@pytest.mark.parametrize("address", [None, "", "0.0.0.0", "::", "10.0.0.5", "example.org"])
def test_strangers_are_refused(address):
    with pytest.raises(ConfigurationError, match="without a login"):
        app.refuse_strangers(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_is_served(address):
    app.refuse_strangers(address)
