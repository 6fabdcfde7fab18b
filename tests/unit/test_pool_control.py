"""Azure's management over HTTP: both routes, what its answers mean, and that no token is shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from novade_core.errors import AuthenticationFailed, ConfigurationError, NovadeError, RetryableError
from novade_core.settings import PoolSettings
from novade_core.warehouse.pool import ArmPool, PoolState, state_of


class Management:
    """Answers one request after the other as it is told, and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, str]] = []
        management = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                management.asked.append((self.command, self.path, self.headers["Authorization"]))
                code, body = management.answers.pop(0)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def pool(self, kind: Literal["workspace", "standalone"] = "workspace") -> ArmPool:
        return ArmPool(
            PoolSettings(
                kind=kind,
                subscription="s-1",
                resource_group="group one",
                workspace="acme",
                name="dw",
                endpoint=f"http://127.0.0.1:{self.server.server_port}",
                token=SecretStr("very-secret"),
            )
        )


@pytest.fixture
def management() -> Iterator[Management]:
    made = Management()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_pool_of_a_workspace_has_its_route(management: Management) -> None:
    management.answers = [(200, {"properties": {"status": "Online"}, "sku": {"name": "DW100c"}}), (202, {}), (202, {})]
    pool = management.pool()
    status = pool.status()
    assert (status.state, status.said, status.size) == (PoolState.ONLINE, "Online", "DW100c")
    pool.pause()
    pool.resume()
    base = "/subscriptions/s-1/resourceGroups/group%20one/providers/Microsoft.Synapse/workspaces/acme/sqlPools/dw"
    assert [(method, path) for method, path, _ in management.asked] == [
        ("GET", f"{base}?api-version=2021-03-01"),
        ("POST", f"{base}/pause?api-version=2021-03-01"),
        ("POST", f"{base}/resume?api-version=2021-03-01"),
    ]
    assert {token for _, _, token in management.asked} == {"Bearer very-secret"}


def test_a_standalone_pool_has_another_one(management: Management) -> None:
    management.answers = [(202, {})]
    management.pool("standalone").resume()
    assert management.asked[0][1] == (
        "/subscriptions/s-1/resourceGroups/group%20one/providers/Microsoft.Sql/servers/acme/databases/dw"
        "/resume?api-version=2020-08-01-preview"
    )


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("Online", PoolState.ONLINE),
        ("ONLINE", PoolState.ONLINE),
        (" paused", PoolState.PAUSED),
        ("Pausing", PoolState.MOVING),
        ("Resuming", PoolState.MOVING),
        ("Scaling", PoolState.MOVING),
        ("Something new", PoolState.MOVING),
        ("", PoolState.MOVING),
    ],
)
def test_what_is_not_known_is_on_its_way(said: str, state: PoolState) -> None:
    assert state_of(said) is state


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (401, AuthenticationFailed, "token"),
        (403, ConfigurationError, "may not pause"),
        (404, ConfigurationError, "does not know"),
        (429, RetryableError, "429"),
        (500, RetryableError, "500"),
        (302, RetryableError, "302"),
    ],
)
def test_refusals_say_what_to_do(management: Management, code: int, error: type[NovadeError], said: str) -> None:
    management.answers = [(code, {"error": {"message": "no"}})]
    with pytest.raises(error, match=said) as caught:
        management.pool().pause()
    assert caught.value.hint
    assert caught.value.origin_of_fault == "warehouse"
    assert "very-secret" not in f"{caught.value} {caught.value.hint}"


def test_a_pool_that_is_on_its_way_takes_a_request_as_done(management: Management) -> None:
    management.answers = [(409, {})]
    management.pool().resume()


@pytest.mark.parametrize("body", [b"<html>", {}, {"properties": None}, [1]])
def test_an_answer_without_a_status_is_no_status(management: Management, body: Any) -> None:
    management.answers = [(200, body)]
    with pytest.raises(RetryableError, match="no status"):
        management.pool().status()


def test_a_management_that_is_not_reached_may_be_later(management: Management) -> None:
    pool = management.pool()
    management.server.shutdown()
    management.server.server_close()
    with pytest.raises(RetryableError, match="not reached"):
        pool.status()


def test_a_token_is_asked_for_when_it_runs_out(management: Management) -> None:
    given = iter([("first", 0.0), ("second", float("inf"))])
    management.answers = [(202, {})] * 3
    settings = management.pool()._settings
    pool = ArmPool(settings, token=lambda: next(given))
    for _ in range(3):
        pool.pause()
    assert [token for _, _, token in management.asked] == ["Bearer first", "Bearer second", "Bearer second"]
