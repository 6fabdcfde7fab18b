"""Amplitude's stand-in over HTTP: export, limits, regions, charts, taxonomy, and archives as none should be sent."""

from __future__ import annotations

import base64
import gzip
import io
import json
import socket
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests
import uvicorn

from sandbox.amplitude.app import make_app
from sandbox.amplitude.generate import Shape
from sandbox.amplitude.plan import tracking_plan
from sandbox.amplitude.project import Amplitude

NOW = datetime(2024, 11, 20, 12, 30, tzinfo=UTC)
FIRST = datetime(2024, 11, 18, 0, tzinfo=UTC)
US, EU = "amplitude.com", "analytics.eu.amplitude.com"


class Running:
    """The stand-in on a port, and its clock."""

    def __init__(self, folder) -> None:
        self.now = NOW
        shape = Shape(events_per_hour=60, files_per_hour=2, first_hour=FIRST, repeat_after_hours=30)
        self.amplitude = Amplitude(shape, "a secret", clock=lambda: self.now, cache=folder)
        self.keys = {region: one.keys for region, one in self.amplitude.projects.items()}
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(make_app(self.amplitude), log_level="critical", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)
        self.thread.start()

    def get(self, path: str, host: str = US, region: str = "us", **params: str) -> requests.Response:
        keys = self.keys[region]
        basic = base64.b64encode(f"{keys.api_key}:{keys.secret_key}".encode()).decode()
        headers = {"Host": host, "Authorization": f"Basic {basic}"}
        return requests.get(self.url + path, params=params, headers=headers, timeout=30)

    def export(self, start: str, end: str, **more: str) -> requests.Response:
        return self.get("/api/2/export", start=start, end=end, **more)

    def control(self, name: str, body: dict | None = None, **params: str) -> dict:
        method = "GET" if body is None else "POST"
        answer = requests.request(method, f"{self.url}/_sandbox/amplitude/{name}", json=body, params=params, timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    def chart(self, event: str, start: str, end: str, **more: str) -> requests.Response:
        return self.get("/api/2/events/segmentation", e=json.dumps({"event_type": event}), start=start, end=end, **more)


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("amplitude"))
    yield made
    made.server.should_exit = True
    made.thread.join(5)


@pytest.fixture
def amplitude(running: Running) -> Running:
    running.control("reset", {"data": True})
    running.now = NOW
    return running


def members(answer: requests.Response) -> dict[str, bytes]:
    assert answer.status_code == 200, answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    return {name: archive.read(name) for name in archive.namelist()}


def events(answer: requests.Response) -> list[dict]:
    return [json.loads(line) for packed in members(answer).values() for line in gzip.decompress(packed).splitlines()]


def test_an_export_holds_the_hours_of_upload_with_both_ends(amplitude: Running) -> None:
    answer = amplitude.export("20241119T08", "20241119T9")
    names = list(members(answer))
    assert names == [f"187520/187520_2024-11-19_{hour}#{n}.json.gz" for hour in (8, 9) for n in (0, 1)]
    rows = events(answer)
    uploads = Counter(row["server_upload_time"][:13] for row in rows if row["uuid"])
    # Repeats of the hour before keep their own upload time.
    assert set(uploads) <= {"2024-11-19 07", "2024-11-19 08", "2024-11-19 09"}
    truth = amplitude.control("truth", start="2024-11-19T08", end="2024-11-19T09")
    assert len(rows) == truth["lines"] >= 120
    assert amplitude.export("20241119T08", "20241119T9").content == answer.content


def test_an_hour_comes_two_hours_after_its_end(amplitude: Running) -> None:
    assert amplitude.export("20241120T10", "20241120T10").status_code == 404
    assert amplitude.export("20241120T09", "20241120T12").status_code == 200
    amplitude.now += timedelta(minutes=30)
    names = list(members(amplitude.export("20241120T10", "20241120T12")))
    assert names == [f"187520/187520_2024-11-20_10#{n}.json.gz" for n in (0, 1)]
    assert amplitude.export("20241101T00", "20241101T23").status_code == 404


def test_limits_and_refusals(amplitude: Running) -> None:
    assert amplitude.export("2024-11-19", "20241119T09").status_code == 400
    assert amplitude.export("20241119T09", "20241119T08").status_code == 400
    amplitude.control("settings", {"max_export_bytes": 100_000, "timeout_events": 100})
    assert amplitude.export("20241119T00", "20241119T08").status_code == 400
    assert amplitude.export("20241119T00", "20241119T01").status_code == 504
    assert amplitude.export("20241119T00", "20241119T00").status_code == 200
    amplitude.control("faults", {"status": {"status": 429, "count": 1, "on": "export", "retry_after": 3}})
    refused = amplitude.export("20241119T00", "20241119T00")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    assert amplitude.export("20241119T00", "20241119T00").status_code == 200
    amplitude.control("settings", {"concurrent": 0})
    assert amplitude.export("20241119T00", "20241119T00").status_code == 429


def test_keys_belong_to_a_region(amplitude: Running) -> None:
    window = {"start": "20241119T00", "end": "20241119T00"}
    assert amplitude.get("/api/2/export", EU, "eu", **window).status_code == 200
    assert amplitude.get("/api/2/export", US, "eu", **window).status_code == 403
    assert amplitude.get("/api/2/export", EU, "us", **window).status_code == 403
    assert amplitude.get("/api/2/export", "analytics.amplitude.com", "us", **window).status_code == 404
    assert requests.get(amplitude.url + "/api/2/export", params=window, timeout=30).status_code == 401


def test_charts_count_what_the_files_hold(amplitude: Running) -> None:
    """Each uuid once, by event_time; repeats of an $insert_id after the time in which they are dropped count again."""
    rows = events(amplitude.export("20241118T00", "20241120T11"))
    amplitude.now = datetime(2024, 11, 20, 10, 0, tzinfo=UTC)
    name = "Task Viewed"
    answer = amplitude.chart(name, "20241118", "20241119", m="totals").json()["data"]
    assert answer["xValues"] == ["2024-11-18", "2024-11-19"]
    seen = {row["uuid"]: row for row in rows if row["event_type"] == name}
    days = Counter(row["event_time"][:10] for row in seen.values())
    assert answer["series"] == [[days["2024-11-18"], days["2024-11-19"]]]
    all_of = amplitude.chart("_all", "20241118", "20241119", m="totals").json()["data"]["series"][0]
    whole = Counter(row["event_time"][:10] for row in {row["uuid"]: row for row in rows}.values())
    assert all_of == [whole["2024-11-18"], whole["2024-11-19"]]
    people = amplitude.chart(name, "20241118", "20241119").json()["data"]["series"][0]
    assert 0 < people[0] <= days["2024-11-18"]
    amplitude.control("settings", {"dropped_events": [name]})
    assert amplitude.chart(name, "20241118", "20241119", m="totals").json()["data"]["series"] == [[0, 0]]


def test_queries_cost_days_times_events(amplitude: Running) -> None:
    amplitude.control("settings", {"cost_per_5_minutes": 5})
    assert amplitude.chart("Task Viewed", "20241118", "20241120").ok
    refused = amplitude.chart("Task Viewed", "20241118", "20241120")
    assert refused.status_code == 429
    assert "limit" in refused.json()["error"]["message"]
    amplitude.now += timedelta(minutes=6)
    assert amplitude.chart("Task Viewed", "20241118", "20241120").ok


def test_the_taxonomy_is_the_plan(amplitude: Running) -> None:
    listed = amplitude.get("/api/2/taxonomy/event").json()
    assert listed["success"]
    assert [row["event_type"] for row in listed["data"]] == [event.name for event in tracking_plan()]
    props = amplitude.get("/api/2/taxonomy/event-property", event_type="Defect Created").json()["data"]
    (severity,) = [row for row in props if row["event_property"] == "severity"]
    assert (severity["type"], severity["enum_values"], severity["is_required"]) == (
        "enum",
        "minor,major,critical",
        True,
    )
    assert amplitude.get("/api/2/taxonomy/event/Nobody").json()["success"] is False
    assert amplitude.get("/api/2/taxonomy/user-property").json()["data"][0]["user_property"] == "gp:role"
    amplitude.control("settings", {"plan_version": 2, "taxonomy_per_hour": 5})
    assert amplitude.get("/api/2/taxonomy/event/Debug Ping").ok
    assert amplitude.get("/api/2/taxonomy/category").status_code == 429
    listing = amplitude.get("/api/2/events/list").json()["data"]
    assert sum(row["totals"] for row in listing) > 1000


def test_a_changed_hour_and_a_late_file(amplitude: Running) -> None:
    before = {row["uuid"] for row in events(amplitude.export("20241119T08", "20241119T08"))}
    amplitude.control("change", {"rewrite": ["2024-11-19T08"]})
    after = {row["uuid"] for row in events(amplitude.export("20241119T08", "20241119T08"))}
    assert after < before
    amplitude.control("change", {"late": ["2024-11-19T08"]})
    assert len(members(amplitude.export("20241119T08", "20241119T08"))) == 3
    truth = amplitude.control("truth", start="2024-11-19T08", end="2024-11-19T08")
    rows = events(amplitude.export("20241119T08", "20241119T08"))
    assert truth["lines"] == len(rows)
    own = {row["uuid"] for row in rows if row["server_upload_time"].startswith("2024-11-19 08")}
    assert truth["events"] == len(own)


def test_a_connection_that_breaks(amplitude: Running) -> None:
    amplitude.control("faults", {"cut": 1})
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        amplitude.export("20241119T08", "20241119T08")
    assert amplitude.export("20241119T08", "20241119T08").ok
    deadline = time.monotonic() + 5
    while amplitude.control("stats")["under_way"]["us"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert amplitude.control("stats")["under_way"]["us"] == 0


def test_archives_as_no_service_should_send_them(amplitude: Running) -> None:
    window = ("20241119T08", "20241119T09")
    amplitude.control("faults", {"empty_export": 1})
    assert members(amplitude.export(*window)) == {}
    amplitude.control("faults", {"missing_hour": "2024-11-19T09"})
    assert len(members(amplitude.export(*window))) == 2
    amplitude.control("faults", {"missing_hour": None, "bad_member": 1})
    archive = zipfile.ZipFile(io.BytesIO(amplitude.export(*window).content))
    assert archive.testzip() == "187520/187520_2024-11-19_8#0.json.gz"
    amplitude.control("faults", {"climbing_path": 1, "zip_bomb": 1})
    amplitude.control("settings", {"bomb_bytes": 200 << 20})
    found = members(amplitude.export(*window))
    assert "../../../climbed/out.json.gz" in found
    assert len(found["187520/bomb.json.gz"]) < 1 << 20
    amplitude.control("faults", {"truncated_gz": 1, "odd_names": 1})
    first, *rest = members(amplitude.export(*window)).values()
    with pytest.raises((EOFError, zlib.error)):
        gzip.decompress(first)
    assert gzip.decompress(rest[0])


def test_a_fault_or_setting_nobody_knows_is_refused(amplitude: Running) -> None:
    for name in ("faults", "settings", "change"):
        answer = requests.post(f"{amplitude.url}/_sandbox/amplitude/{name}", json={"no such": 1}, timeout=30)
        assert answer.status_code == 400
        assert "known" in answer.json()["error"]
