"""The Drift stand-in over HTTP: shapes, both pagings, rows that jump while one pages, changes, faults, the export."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import socket
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import requests
import uvicorn

from sandbox.drift import export, seed
from sandbox.drift.app import make_app, with_drift
from sandbox.drift.workspace import Workspace
from tests.azurite import ACCOUNT, azurite

EPOCH = 1_700_000_000_000


class Client:
    """A workspace behind a real server, and ways to ask it."""

    def __init__(self, workspace: Workspace, url: str) -> None:
        self.workspace, self.url = workspace, url
        self.token = workspace.tokens.secret["access_token"]

    def get(self, path: str, method: str = "GET", token: str | None = None, **options) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return requests.request(method, self.url + path, headers=headers, timeout=10, **options)

    def control(self, name: str, body: dict | None = None, **params):
        method = "GET" if body is None else "POST"
        answer = requests.request(method, f"{self.url}/_sandbox/drift/{name}", json=body, params=params, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def listed(self, limit: int = 50, **params) -> list[dict]:
        """All rows of one walk through the list, in whatever paging is answered."""
        rows, more = [], {}
        while True:
            answer = self.get("/conversations/list", params={"limit": limit, **params, **more})
            assert answer.ok, answer.text
            body = answer.json()
            rows += body["data"]
            link = (body.get("links") or {}).get("next")
            number = body.get("pagination", {}).get("next")
            if link:
                more = {"page_token": parse_qs(urlsplit(link).query)["page_token"][0]}
            elif number:
                more = {"next": number}
            else:
                return rows


@contextmanager
def served(workspace: Workspace) -> Iterator[Client]:
    listener = socket.create_server(("127.0.0.1", 0))
    # Otherwise every answer waits 40 ms for a delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(make_app(workspace), log_level="critical", lifespan="off", http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Client(workspace, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(5)


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    with served(Workspace(tmp_path_factory.mktemp("drift"), size=300, seed=7, epoch=EPOCH)) as made:
        yield made


@pytest.fixture
def drift(serving):
    serving.control("reset", {"data": True})
    return serving


def test_the_columns_are_the_numbers():
    assert seed.draws(7, 3, 50).tolist() == [seed.draw(7, 3, n) for n in range(50)]
    created, updated, *_ = seed.Seed(7, 3_000, EPOCH).columns()
    assert (updated >= created).all()
    assert updated.max() < EPOCH
    blast = np.unique(updated, return_counts=True)[1].max()
    assert blast == 30


@pytest.mark.parametrize("paging", ["links", "pagination"])
@pytest.mark.parametrize("cursor", ["offset", "key"])
@pytest.mark.parametrize("last", ["null", "absent", "no_links"])
def test_every_conversation_is_listed_once_when_nothing_moves(drift, paging, cursor, last):
    drift.control("settings", {"conversation_paging": paging, "cursor": cursor, "last_links": last})
    rows = drift.listed(limit=40)
    assert len(rows) == len({r["id"] for r in rows}) == drift.control("counts")["conversations"] == 300
    seen = [r.get("updatedAt", r["createdAt"]) for r in rows]
    assert seen == sorted(seen, reverse=True)
    assert sum("updatedAt" not in r for r in rows) == 1
    assert sum("contactId" not in r for r in rows) == 4


def test_limits_and_statuses(drift):
    assert len(drift.get("/conversations/list").json()["data"]) == 25
    assert len(drift.get("/conversations/list?limit=500").json()["data"]) == 100
    drift.control("settings", {"conversation_paging": "pagination"})
    assert len(drift.get("/conversations/list?limit=500").json()["data"]) == 50
    drift.control("settings", {"over_limit": "reject"})
    assert drift.get("/conversations/list?limit=500").json()["errors"][0]["type"] == "validation_error"
    assert {r["status"] for r in drift.listed(statusId=["1", "3"])} == {"open", "pending"}
    assert {r["status"] for r in drift.listed()} == {"open", "closed", "pending", "bulk_sent"}
    assert drift.get("/conversations/list?statusId=4").json()["errors"][0]["param"] == "statusId"


def test_rows_that_jump_are_missed_by_one_walk_and_found_at_the_top(drift):
    drift.control("faults", {"reorder": {"moved": 2, "new": 1, "count": 3}})
    rows = drift.listed(limit=50)
    ids = {r["id"] for r in rows}
    truth = {r["id"] for r in drift.control("records", stream="conversations", count=1_000)["records"]}
    assert len(truth) == 303
    assert len(truth - ids) == 3 * 2 + 3
    assert len(rows) > len(ids)
    assert truth <= ids | {r["id"] for r in drift.get("/conversations/list?limit=50").json()["data"]}


def test_messages_come_in_pages_of_fifty(drift):
    number = seed.CONVERSATIONS + seed.MANY_MESSAGES
    for style, last in (("number", "absent"), ("opaque", "empty")):
        drift.control("settings", {"message_cursor": style, "last_messages": last})
        sizes, found, after = [], [], None
        while after is None or after:
            page = drift.get(f"/conversations/{number}/messages", params={"next": after} if after else {}).json()
            sizes.append(len(page["data"]["messages"]))
            found += page["data"]["messages"]
            after = page.get("pagination", {}).get("next", "")
        assert sizes == [50, 50, 30]
        assert len({m["id"] for m in found}) == 130
        assert [m["createdAt"] for m in found] == sorted(m["createdAt"] for m in found)
    drift.control("reset", {})
    full = drift.get(f"/conversations/{seed.CONVERSATIONS + seed.FULL_PAGE}/messages").json()
    assert len(full["data"]["messages"]) == 50
    assert "pagination" not in full
    empty = f"/conversations/{seed.CONVERSATIONS + seed.NO_MESSAGES}/messages"
    assert drift.get(empty).json()["data"] == {"messages": []}
    drift.control("settings", {"no_messages": "nothing"})
    assert drift.get(empty).json() == {}


def test_a_new_message_moves_its_conversation_and_leaves_the_others_as_they_were(drift):
    number = drift.listed()[-1]["id"]
    before = drift.get(f"/conversations/{number}/messages").json()["data"]["messages"]
    (message,) = drift.control("change", {"new_messages": [number]})["ids"]["new_messages"]
    top = drift.get("/conversations/list?limit=1").json()["data"][0]
    after = drift.get(f"/conversations/{number}/messages").json()["data"]["messages"]
    assert top["id"] == number
    assert after[:-1] == before
    assert (after[-1]["id"], after[-1]["createdAt"]) == (message, top["updatedAt"])


def test_people_and_companies(drift):
    users = drift.get("/users/list").json()["data"]
    assert len(users) == drift.control("counts")["users"]
    two = drift.get(f"/users?userId={users[0]['id']}&userId={users[1]['id']}").json()["data"]
    assert two == {str(u["id"]): u for u in users[:2]}
    assert drift.get("/users?" + "&".join(["userId=1"] * 21)).status_code == 400
    found, path = [], "/accounts?size=100"
    while path:
        data = drift.get(path).json()["data"]
        found += data["accounts"]
        path = data.get("next")
    assert len(found) == data["total"] == drift.control("counts")["accounts"]
    assert drift.get(f"/accounts/{found[0]['accountId']}").json()["data"] == found[0]
    assert drift.get("/accounts/nobody").json() == {"error": "not found"}
    assert {t["id"] for t in drift.get("/teams/org").json()["data"]} == {1001, 1002}
    assert len(drift.get("/playbooks/list").json()) == 5
    assert drift.get("/contacts/attributes").json()["data"]["properties"][0]["type"] == "STRING"


def test_addresses_are_not_unique_and_ids_only_with_their_type(drift):
    shared = drift.get("/contacts", params={"email": drift.workspace.seed.email(11), "limit": 1})
    assert shared.json()["data"][0]["id"] == drift.workspace.seed.contact_id(10)
    link = shared.headers["Link"]
    assert link.endswith("rel='next'")
    second = requests.get(
        link[1 : link.index(">")].replace("https", "http"),
        headers={"Authorization": f"Bearer {drift.token}"},
        timeout=9,
    ).json()["data"]
    assert [c["id"] for c in second] == [drift.workspace.seed.contact_id(11)]
    known = drift.workspace.seed.user_id(3)
    assert drift.get(f"/contacts/{known}").json()["data"]["id"] == drift.get(f"/users/{known}").json()["data"]["id"]
    big = drift.get(f"/contacts/{drift.workspace.seed.contact_id(5)}").json()["data"]["attributes"]
    assert big["score"] == 12345678901234567890123456789


def test_changes_deletions_and_counts(drift):
    before = drift.control("counts")
    done = drift.control(
        "change",
        {"new_conversations": 2, "contacts_edited": 2, "contacts_blocked": 1, "contacts_deleted": 3,
         "accounts_deleted": 1, "new_accounts": 1, "users_edited": 1},
    )["ids"]  # fmt: skip
    gone = {drift.get(f"/contacts/{i}").status_code for i in done["contacts_deleted"]}
    after = drift.control("counts")
    living = set(done["contacts_edited"]) - set(done["contacts_deleted"])
    shown = [drift.get(f"/contacts/{i}").json()["data"]["attributes"]["name"] for i in living]
    assert shown
    assert all(name.startswith("Edited ") for name in shown)
    assert gone == {404}
    assert drift.get(f"/contacts/{done['contacts_blocked'][0]}").status_code == 403
    removed = {r["id"] for r in drift.listed() if r.get("contactId") in done["contacts_deleted"]}
    assert not removed
    assert len(drift.listed()) == after["conversations"]
    assert (after["accounts"], after["accounts_deleted"]) == (before["accounts"] + 1, 1)
    reopened = Workspace(drift.workspace.folder, size=300, seed=7, epoch=EPOCH)
    assert reopened.counts() == after


@pytest.mark.parametrize("mode", ["anonymised", "kept"])
def test_a_privacy_deletion_may_leave_conversations(drift, mode):
    drift.control("settings", {"deleted_conversations": mode})
    row = next(r for r in drift.listed() if r.get("contactId", 0) % 7 == 1 and r["status"] != "bulk_sent")
    before = drift.get(f"/conversations/{row['id']}/messages").json()["data"]["messages"]
    drift.control("change", {"contacts_deleted": [row["contactId"]]})
    after = drift.get(f"/conversations/{row['id']}/messages").json()["data"]["messages"]
    assert (after == before) is (mode == "kept")
    assert len(after) == len(before)
    assert {m["body"] for m in after} == ({""} if mode == "anonymised" else {m["body"] for m in before})


def test_tokens_and_scopes(drift):
    assert requests.get(drift.url + "/users/list", timeout=9).json()["error"]["type"] == "authentication_error"
    users = drift.control("tokens", {"scopes": ["user_read"]})["access_token"]
    assert drift.get("/users/list", token=users).ok
    assert drift.get("/conversations/list", token=users).status_code == 403
    short = drift.control("tokens", {"seconds": 0})["access_token"]
    assert drift.get("/users/list", token=short).status_code == 401
    secret = drift.workspace.tokens.secret
    given = {"clientId": secret["client_id"], "clientSecret": secret["client_secret"],
             "refreshToken": secret["refresh_token"], "grantType": "refresh_token"}  # fmt: skip
    fresh = requests.post(drift.url + "/oauth2/token", data=given, timeout=9).json()["accessToken"]
    info = requests.post(drift.url + "/app/token_info", json={"accessToken": fresh}, timeout=9).json()
    assert "all_contact_read" in info["scope"].split()
    drift.control("faults", {"expire_after": 2})
    assert [drift.get("/users/list", token=fresh).status_code for _ in range(2)] == [200, 401]
    assert drift.get("/users/list").ok


def test_rate_limits(drift):
    drift.control("settings", {"calls_per_minute": 2, "minute_seconds": 0.4})
    assert [drift.get("/users/list").status_code for _ in range(3)] == [200, 200, 429]
    assert "Retry-After" not in drift.get("/users/list").headers
    drift.control("settings", {"limit_headers": True})
    assert drift.get("/users/list").headers["Retry-After"] == "1"
    time.sleep(0.45)
    assert drift.get("/users/list").headers["X-RateLimit-Remaining"] == "1"


def test_reports_say_nan(drift):
    asked = {"filters": [], "metrics": ["timeToCloseMillis", "relatedPlaybookId"]}
    body = drift.get("/reports/conversations", "POST", json=asked).json()
    assert body["count"] == len(body["data"]) == 300
    values = [v for row in body["data"] for v in row["metrics"]]
    assert {type(v) for v in values} == {int, str}
    assert {v for v in values if isinstance(v, str)} == {"NaN"}


def test_faults(drift):
    drift.control("faults", {"status": {"status": 503, "count": 1, "on": "users"}})
    assert [drift.get("/users/list").status_code for _ in range(2)] == [503, 200]
    drift.control("faults", {"invalid_json": 1})
    with pytest.raises(requests.JSONDecodeError):
        drift.get("/users/list").json()
    drift.control("faults", {"cut_page": 1})
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        drift.get("/users/list")
    drift.control("faults", {"slow": 0.2})
    begun = time.monotonic()
    assert drift.get("/users/list").ok
    assert time.monotonic() - begun >= 0.2
    drift.control("faults", {"slow": None, "retired": 410})
    assert drift.get("/users/list").status_code == 410
    drift.control("faults", {"retired": None, "foreign_link": 1, "empty_page": 1})
    assert drift.get("/conversations/list").json()["links"]["next"].startswith("https://elsewhere.example/")
    refused = requests.post(drift.url + "/_sandbox/drift/faults", json={"slwo": 1}, timeout=9)
    assert refused.status_code == 400
    assert drift.workspace.stats.get("stand_in_errors") is None


def test_the_content_is_hostile(drift):
    bodies = {m["body"] for m in drift.control("records", stream="messages", count=5_000)["records"]}
    names = {c["attributes"]["name"] for c in drift.control("records", stream="contacts", count=5_000)["records"]}
    for mark in ("<", "=cmd|", "\u0000", "👍"):
        assert any(mark in body for body in bodies), mark
    assert any(len(body) > 4_000 for body in bodies)
    assert any("<script>" in name for name in names)
    messages = drift.control("records", stream="messages", count=5_000)["records"]
    document = next(m["attachments"][0] for m in messages if "attachments" in m)
    assert drift.get(urlsplit(document["url"]).path).content.startswith(b"%PDF-")
    assert {m.get("author", {}).get("bot") for m in messages} == {True, False, None}


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_the_export_holds_every_record(drift, tmp_path, form):
    shape = export.Shape(format=form, gzip=form == "jsonl", rows_per_file=100, prefix="drop/", manifest="files.json")
    files = export.write(drift.workspace, tmp_path, shape)
    truth = drift.control("counts")
    for stream in ("conversations", "messages", "contacts", "users", "accounts"):
        parts = [f for f in files if f.stream == stream]
        assert sum(f.rows for f in parts) == truth[stream]
        read = 0
        for part in parts:
            data = (tmp_path / part.name).read_bytes()
            text = (gzip.decompress(data) if form == "jsonl" else data).decode()
            if form == "csv":
                csv.field_size_limit(1 << 20)
                read += len(list(csv.DictReader(text.splitlines(keepends=True))))
            else:
                read += len(
                    [json.loads(line) for line in text.split("\n") if line] if form == "jsonl" else json.loads(text)
                )
        assert read == truth[stream]
    assert len(json.loads((tmp_path / "drop/files.json").read_text())["files"]) == len(files)


def test_the_export_goes_into_a_container(drift):
    service = azurite()
    service.service.create_container("drift-drop")
    there = {"container_url": f"{service.endpoint()}/drift-drop", "account": ACCOUNT, "key": service.key}
    files = drift.control("export", {**there, "prefix": "in/", "gzip": True})["files"]
    container = service.service.get_container_client("drift-drop")
    assert {b.name for b in container.list_blobs()} == {f["name"] for f in files}
    rows = gzip.decompress(container.download_blob("in/conversations-00000.jsonl.gz").readall()).decode().splitlines()
    assert len(rows) == 300
    refused = requests.post(
        f"{drift.url}/_sandbox/drift/export", json={**there, "container_url": there["container_url"] + "no"}, timeout=9
    )
    assert refused.status_code == 400
    assert "ResourceNotFoundError" in refused.json()["error"]


def test_the_export_goes_into_a_folder_and_may_end_early(drift):
    files = drift.control("export", {"name": "once", "prefix": "", "truncated": "users"})["files"]
    folder = drift.workspace.folder / "exports" / "once"
    assert {f.name for f in folder.iterdir()} == {f["name"] for f in files}
    with pytest.raises(json.JSONDecodeError):
        json.loads((folder / "users-00000.jsonl").read_text().splitlines()[-1])
    for climbing in ({"name": "../out"}, {"prefix": "../../"}, {"prefix": "/tmp/"}):
        assert requests.post(f"{drift.url}/_sandbox/drift/export", json=climbing, timeout=9).status_code == 400


def test_other_addresses_are_left_to_the_other_application(drift):
    seen = []

    async def other(scope, receive, send):
        seen.append(scope["path"])

    async def own(path):
        sent = []

        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
        await with_drift(other, drift.workspace)(scope, receive, send)
        return sent[0]["status"] if sent else None

    paths = ("/services/oauth2/token", "/_sandbox/health", "/users/list", "/_sandbox/drift/counts", "/oauth2/token")
    answers = [asyncio.run(own(path)) for path in paths]
    assert answers == [None, None, 401, 200, 401]
    assert seen == ["/services/oauth2/token", "/_sandbox/health"]


def test_the_process_serves_it_beside_salesforce(sandbox):
    secret = tomllib.loads((sandbox.folder / "secrets.toml").read_text())["drift"]
    answer = sandbox.http.get(
        f"{secret['endpoint']}/users/list", headers={"Authorization": f"Bearer {secret['access_token']}"}, timeout=9
    )
    assert len(answer.json()["data"]) == 8
    assert sandbox.control("drift/counts")["conversations"] == 300
    assert sandbox.query("SELECT COUNT() FROM Contact").json()["totalSize"] > 0
