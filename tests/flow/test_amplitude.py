"""Amplitude by Export API and Taxonomy API: events arrive once, whatever the archives look like."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from novade_core.ledger.models import RunState
from novade_core.streams import RunKind, Window
from tests.amplitudes import Vendor, home_of, serve
from tests.flow.test_gathering import Windowed, window
from tests.homes import Home


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    vendor = Vendor(tmp_path_factory.mktemp("vendor"))
    yield vendor
    vendor.stop()


@pytest.fixture
def vendor(running: Vendor) -> Vendor:
    running.call("reset", data=True)
    return running


@pytest.fixture
def home(tmp_path: Path, vendor: Vendor) -> Home:
    return home_of(tmp_path / "home", vendor.folder / "secrets.toml")


def rows_of(home: Home, select: str = "*") -> list[dict[str, Any]]:
    """Rows of the table, by name of column."""
    names = [row[0] for row in home.query(f"DESCRIBE SELECT {select} FROM amplitude.events")]
    return [dict(zip(names, row, strict=True)) for row in home.query(f"SELECT {select} FROM amplitude.events")]


def plain(value: Any) -> Any:
    """A value of the warehouse as the export spells it."""
    return f"{value:%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else value


def assert_equal_to(record: dict[str, Any], row: dict[str, Any]) -> None:
    """Every field of an exported record, nested JSON and microseconds included."""
    for name, wanted in record.items():
        held = plain(row[name])
        if isinstance(wanted, dict | list):
            held = json.loads(held)
        assert held == wanted, name


def test_events_arrive_once_with_every_value(home: Home, vendor: Vendor) -> None:
    lines = vendor.lines()
    outcome = home.sync("amplitude.events")
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    newest = {line["uuid"]: line for line in sorted(lines, key=lambda line: line["server_upload_time"])}
    assert (outcome.counts["read"], outcome.counts["loaded"]) == (len(lines), len(newest))
    rows = {row["uuid"]: row for row in rows_of(home)}
    assert rows.keys() == newest.keys()
    for key, row in rows.items():
        assert_equal_to(newest[key], row)
        assert row["_other"] is None
    [run] = home.ledger_rows("SELECT * FROM runs")
    assert run.read == run.loaded + run.unchanged + run.superseded + run.duplicates + run.rejected
    before = home.table("amplitude.events")
    again = home.sync("amplitude.events")
    assert (again.state, again.counts["loaded"]) == (RunState.SUCCEEDED, 0)
    assert again.counts["read"] == again.counts["unchanged"] + again.counts["duplicates"] > 0
    assert home.table("amplitude.events") == before


def test_a_late_file_is_found_by_reading_the_last_hours_again(home: Home, vendor: Vendor) -> None:
    before = home.sync("amplitude.events").counts["warehouse_count"]
    vendor.call("change", late=[vendor.label(1)])
    late = {line["uuid"] for line in vendor.lines()}
    outcome = home.sync("amplitude.events")
    assert outcome.counts["loaded"] == len(late) - before > 0
    assert {row["uuid"] for row in rows_of(home, "uuid")} == late


def test_an_hour_that_is_written_again_replaces_its_rows(home: Home, vendor: Vendor) -> None:
    home.sync("amplitude.events")
    vendor.call("change", rewrite=[vendor.label(1)])
    newest = {line["uuid"]: line["processed_time"] for line in vendor.lines()}
    assert home.sync("amplitude.events").counts["loaded"] > 0
    rows = {row["uuid"]: plain(row["processed_time"]) for row in rows_of(home, "uuid, processed_time")}
    assert newest.items() <= rows.items()


def test_definitions_arrive_whole_each_time(home: Home, vendor: Vendor) -> None:
    for stream, number in (("event_types", 52), ("event_types", 52), ("event_properties", 633)):
        outcome = home.sync(f"amplitude.{stream}")
        assert outcome.state is RunState.SUCCEEDED, outcome.headline
        assert outcome.counts["source_count"] == outcome.counts["warehouse_count"] == number
    shared = home.query("SELECT count(*), count(DISTINCT type) FROM amplitude.event_properties WHERE event_type = ''")
    assert shared[0][0] > 0
    vendor.call("settings", enterprise=False)
    refused = home.sync("amplitude.event_types")
    assert refused.error is not None
    assert (refused.error.kind, "Enterprise" in refused.error.hint) == ("AccessMissing", True)


def test_too_large_a_window_is_halved_down_to_hours(home: Home, vendor: Vendor) -> None:
    vendor.call("settings", timeout_events=150)
    outcome = home.sync("amplitude.events")
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert {row["uuid"] for row in rows_of(home, "uuid")} == {line["uuid"] for line in vendor.lines()}
    assert vendor.call("stats")["requests"]["error_504"] >= 2


@pytest.mark.parametrize(
    ("limit", "kind", "said"),
    [
        ({"max_export_bytes": 10}, "ConfigurationError", "even a single hour"),
        ({"timeout_events": 1}, "SourceUnavailable", "a single hour in time"),
    ],
)
def test_a_single_hour_that_is_too_large_is_a_clear_failure(
    home: Home, vendor: Vendor, limit: dict[str, int], kind: str, said: str
) -> None:
    vendor.call("settings", **limit)
    error = home.sync("amplitude.events").error
    assert error is not None
    assert (error.kind, said in error.message) == (kind, True)
    assert "storage" in error.hint


def test_keys_of_the_other_region_are_told(tmp_path: Path, vendor: Vendor) -> None:
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(vendor.folder.joinpath("secrets.toml").read_text().replace('secret_key = "', 'secret_key = "x'))
    outcome = home_of(tmp_path / "home", secrets).sync("amplitude.events")
    assert outcome.error is not None
    assert outcome.error.kind == "AuthenticationFailed"
    assert "amplitude.region" in outcome.error.hint


#: Fault of lines -> reasons of its rejects, and uuids that arrive beside the good ones.
HARM: dict[str, tuple[list[str], int]] = {
    "not_json": (["is no JSON object"] * 7 + ["is an empty line"], 0),
    "big_numbers": ([], 5),
    "lone_surrogates": (["is no JSON object"] * 2, 0),
    "nul": (["holds a raw control character"], 1),
    "invalid_utf8": (["is not UTF-8"], 0),
    "duplicate_keys": ([], 2),
    "deep_nesting": ([], 2),
    "long_line": (["is longer than 16 MiB"], 0),
    "two_types": ([], 7),
    "climbing_path": (["server_upload_time is missing"], 0),
    "odd_names": ([], 0),
}


def test_each_line_arrives_by_rule_or_is_rejected_with_its_reason(home: Home, vendor: Vendor, tmp_path: Path) -> None:
    vendor.call("faults", **dict.fromkeys(HARM, 1))
    outcome = home.sync("amplitude.events")
    assert outcome.state is RunState.PARTIAL, outcome.headline
    files = [p for p in (home.folder / "var").rglob("*") if p.is_file() and "_rejects" in str(p)]
    found = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert Counter(r["reason"].strip() for r in found) == Counter(
        reason for reasons, _ in HARM.values() for reason in reasons
    )
    assert all(len(r["record"]) <= 4096 for r in found)
    rows = {row["uuid"]: row for row in rows_of(home, "uuid, event_type, event_properties")}
    good = {line["uuid"] for line in vendor.lines()}
    assert good <= rows.keys()
    bad = {key[-2:]: rows[key] for key in rows.keys() - good}
    assert len(bad) == sum(more for _, more in HARM.values())
    said = {key: row["event_properties"] for key, row in bad.items()}
    assert "123456789012345678901234567890" in said["12"]
    assert said["13"] == '{"source":"api","number":1e400}'
    assert json.loads(said["30"]) == {"text": "before\0after"}
    assert said["40"] == '{"source":"api","source":"toolbar"}'
    assert bad["41"]["event_type"] != "Second Winner"
    assert said["50"].count("[") == 10_000
    assert [json.loads(said[f"7{n}"])["duration_ms"] for n in range(7)] == [1, "one", {"one": 1}, [1], True, None, 1.5]
    assert list(tmp_path.rglob("climbed")) == []
    [run] = home.ledger_rows("SELECT * FROM runs")
    assert run.read == run.loaded + run.unchanged + run.superseded + run.duplicates + run.rejected


@pytest.mark.parametrize("fault", ["truncated_gz", "bad_member", "cut"])
def test_a_damaged_archive_is_fetched_again_and_named_where_it_stays(home: Home, vendor: Vendor, fault: str) -> None:
    vendor.call("faults", **{fault: 1})
    assert home.sync("amplitude.events").state is RunState.SUCCEEDED
    assert {row["uuid"] for row in rows_of(home, "uuid")} == {line["uuid"] for line in vendor.lines()}
    vendor.call("faults", **{fault: True})
    error = home.sync("amplitude.events").error
    assert error is not None
    assert error.kind == "TransferBroken"
    assert (".json.gz'" in error.message) == (fault != "cut")


def test_a_bomb_is_not_unpacked(home: Home, vendor: Vendor) -> None:
    vendor.call("settings", bomb_bytes=256 << 20)
    vendor.call("faults", zip_bomb=1)
    error = home.sync("amplitude.events").error
    assert error is not None
    assert (error.kind, "bomb.json.gz" in error.message) == ("ProtocolBroken", True)
    assert home.sync("amplitude.events").state is RunState.SUCCEEDED


@pytest.mark.parametrize("fault", ["empty_export", "missing_hour"])
def test_what_an_export_leaves_out_comes_with_the_next_sync(home: Home, vendor: Vendor, fault: str) -> None:
    vendor.call("faults", **{fault: 1 if fault == "empty_export" else vendor.label(1)})
    assert home.sync("amplitude.events").state is RunState.SUCCEEDED
    good = {line["uuid"] for line in vendor.lines()}
    assert {row["uuid"] for row in (rows_of(home, "uuid") if fault == "missing_hour" else [])} < good
    vendor.call("faults", **{fault: None})
    home.sync("amplitude.events")
    assert {row["uuid"] for row in rows_of(home, "uuid")} == good


def test_a_refusal_for_the_rate_is_waited_for(home: Home, vendor: Vendor) -> None:
    vendor.call("faults", status={"status": 429, "count": 1, "on": "export", "retry_after": 1})
    begun = datetime.now(UTC)
    assert home.sync("amplitude.events").state is RunState.SUCCEEDED
    assert datetime.now(UTC) - begun > timedelta(seconds=1)


def test_while_an_export_is_made_the_run_says_that_it_waits(home: Home, vendor: Vendor, tmp_path: Path) -> None:
    told: list[float] = []
    source = home.services.source("amplitude", tmp_path)
    source.on_wait = lambda seconds, _reason: told.append(seconds)
    stream = home.environment.stream("amplitude.events")
    window = Window(low=vendor.hours()[0], high=None)
    with closing(source.extract(stream, source.schema(stream), window, None)) as batches:
        assert sum(batch.rows for batch in batches) == len(vendor.lines())
    assert told == [home.environment.amplitude.timeout_seconds, 0.0]
    source.close()


class Died(Exception):
    """The process ended."""


def test_a_run_goes_on_inside_the_same_archive(tmp_path: Path, vendor: Vendor) -> None:
    home = home_of(tmp_path / "home", vendor.folder / "secrets.toml", amplitude="batch_rows = 50")

    def die(name: str, details: Any) -> None:
        if name == "land.registered" and details["chunk"] == 1:
            raise Died

    assert home.sync("amplitude.events", observer=die).state is RunState.FAILED
    outcome = home.sync("amplitude.events")
    assert outcome.state is RunState.SUCCEEDED
    lines = vendor.lines()
    assert home.ledger_rows("SELECT sum(rows) AS rows FROM landed_files")[0].rows == len(lines)
    assert {row["uuid"] for row in rows_of(home, "uuid")} == {line["uuid"] for line in lines}


def test_a_changed_archive_is_read_from_its_beginning(tmp_path: Path, vendor: Vendor) -> None:
    home = home_of(tmp_path / "home", vendor.folder / "secrets.toml", amplitude="batch_rows = 50")

    def die(name: str, details: Any) -> None:
        if name == "land.registered" and details["chunk"] == 1:
            raise Died

    assert home.sync("amplitude.events", observer=die).state is RunState.FAILED
    vendor.call("change", rewrite=[vendor.label(0)])
    assert home.sync("amplitude.events").state is RunState.SUCCEEDED
    newest = {line["uuid"]: line["processed_time"] for line in vendor.lines()}
    rows = {row["uuid"]: plain(row["processed_time"]) for row in rows_of(home, "uuid, processed_time")}
    assert newest.items() <= rows.items()


def test_promoted_columns_and_events_told_apart_by_insert_id(tmp_path: Path, vendor: Vendor) -> None:
    home = home_of(
        tmp_path / "home",
        vendor.folder / "secrets.toml",
        amplitude='promoted = ["event_properties.duration_ms", "user_properties.City"]',
        streams='"amplitude.events" = { key = "insert_id" }',
    )
    outcome = home.sync("amplitude.events")
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    lines = vendor.lines()
    keys = {(line["device_id"], line["$insert_id"] or line["uuid"]) for line in lines}
    rows = rows_of(home)
    assert {(row["device_id"], row["_insert_id"]) for row in rows} == keys
    for row in rows:
        duration = json.loads(row["event_properties"]).get("duration_ms")
        assert row["event_properties_duration_ms"] == (None if duration is None else str(duration))
        assert row["user_properties_City"] == json.loads(row["user_properties"]).get("City")


def test_a_backfill_reads_its_hours_alone(home: Home, vendor: Vendor) -> None:
    home.sync("amplitude.events")
    before = home.table("amplitude.events")
    since = vendor.hours()[1]
    window = {"since": since, "until": since + timedelta(hours=1)}
    outcome = home.sync("amplitude.events", RunKind.BACKFILL, **window)
    assert outcome.state is RunState.SUCCEEDED
    assert 0 < outcome.counts["read"] == outcome.counts["unchanged"] + outcome.counts["duplicates"]
    assert home.table("amplitude.events") == before


def test_real_records_keep_every_value(tmp_path: Path, shared: Path) -> None:
    content = (shared / "amplitude/derived/export_434735_20230825T00_20230826T23.zip").read_bytes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked = dict(pair.split("=") for pair in scope["query_string"].decode().split("&"))
        there = asked["start"] <= "20230825T00" and asked["end"] >= "20230826T23"
        await send({"type": "http.response.start", "status": 200 if there else 404, "headers": []})
        await send({"type": "http.response.body", "body": content if there else b""})

    url, stop = serve(app)
    (tmp_path / "secrets.toml").write_text(f'[amplitude]\napi_key = "a"\nsecret_key = "b"\nendpoint = "{url}"\n')
    home = home_of(tmp_path / "home", tmp_path / "secrets.toml", amplitude="since = 2023-08-25")
    try:
        outcome = home.sync("amplitude.events")
    finally:
        stop()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    records = [json.loads(line) for line in (shared / "amplitude/events_normalised.jsonl").read_text().splitlines()]
    rows = {row["uuid"]: row for row in rows_of(home)}
    assert rows.keys() == {record["uuid"] for record in records}
    for record in records:
        row = rows[record["uuid"]]
        for name in record:
            if record[name] is not None and name.endswith("_time"):
                instant = datetime.fromisoformat(record[name]).replace(tzinfo=None)
                record[name] = plain(instant)
        assert_equal_to(record, row)


def test_hours_that_gather_for_a_load_window_are_whole_hours(home: Home) -> None:
    windowed = replace(home, services=Windowed(home.environment))
    first = windowed.sync("amplitude.events")
    assert first.state is RunState.LANDED, first.headline
    assert windowed.sync("amplitude.events").state is RunState.LANDED
    [plan] = home.ledger_rows("SELECT windows FROM sync_plans")
    bounds = [bound for window in json.loads(plan.windows) for bound in (window["low"], window["high"])]
    assert all(bound and datetime.fromisoformat(bound).minute == 0 for bound in bounds)
    with window(windowed):
        assert windowed.sync("amplitude.events").state is RunState.SUCCEEDED
