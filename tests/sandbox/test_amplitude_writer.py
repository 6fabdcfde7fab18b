"""Generated events and the native destination: names, repeats, merges, plan and files that change."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox.amplitude import bad
from sandbox.amplitude.__main__ import main
from sandbox.amplitude.blobs import FolderBlobs
from sandbox.amplitude.envelope import FIELDS
from sandbox.amplitude.generate import Generator, Shape, hour_number
from sandbox.amplitude.native import NativeWriter
from sandbox.amplitude.plan import UNPLANNED, tracking_plan

HOUR = hour_number(datetime(2024, 11, 19, 7, tzinfo=UTC))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(Shape(events_per_hour=2000))


@pytest.fixture(scope="module")
def rows(generator: Generator) -> list[dict]:
    return read(generator, HOUR)


def text(generator: Generator, hour: int, part: int = 0, revision: int = 0) -> bytes:
    return b"".join(map(bytes, generator.lines(hour, part, revision)))


def read(generator: Generator, hour: int, part: int = 0, revision: int = 0) -> list[dict]:
    return [json.loads(line) for line in text(generator, hour, part, revision).splitlines()]


def test_equal_shapes_give_equal_bytes(generator: Generator) -> None:
    again = text(Generator(Shape(events_per_hour=2000)), HOUR)
    assert again == text(generator, HOUR)
    assert again != text(Generator(Shape(events_per_hour=2000, seed=8)), HOUR)


def test_lines_have_the_fields_of_an_export(rows: list[dict]) -> None:
    assert all(tuple(row) == FIELDS for row in rows)
    assert len(FIELDS) == 55
    assert max(row["amplitude_id"] for row in rows) > 1 << 31
    assert any(row["event_properties"].get("record_ref", 0) > 1 << 53 for row in rows)
    for row in rows:
        assert row["server_upload_time"][10:13] in (" 06", " 07")
        assert row["event_time"] <= row["server_upload_time"]
    assert {row["server_upload_time"][-6:] for row in rows} != {
        row["server_upload_time"][-6:-3] + "000" for row in rows
    }
    assert any(row["event_time"] < "2024-11-19 00" for row in rows)


def test_repeats_have_a_rule_each(generator: Generator, rows: list[dict]) -> None:
    uuids = [row["uuid"] for row in rows]
    assert len(uuids) - len(set(uuids)) >= 3
    before = {row["uuid"] for row in read(generator, HOUR - 1)}
    assert before & set(uuids)
    week = {row["$insert_id"]: row for row in read(generator, HOUR - 192)}
    again = [row for row in rows if row["$insert_id"] and row["$insert_id"] in week]
    assert again
    for row in again:
        first = week[row["$insert_id"]]
        assert row["uuid"] != first["uuid"]
        assert (row["device_id"], row["event_time"]) == (first["device_id"], first["event_time"])


def test_merges_name_ids_that_events_have(generator: Generator) -> None:
    merges = [json.loads(line) for h in range(HOUR, HOUR + 24) for line in generator.merges(h).splitlines()]
    assert list(merges[0]) == ["scope", "merge_time", "merge_server_time", "amplitude_id", "merged_amplitude_id"]
    gone = {merge["amplitude_id"] for merge in merges}
    assert gone & {merge["merged_amplitude_id"] for merge in merges}, "no chain"
    assert gone & {row["amplitude_id"] for row in read(generator, HOUR)}
    later = {row["amplitude_id"] for row in read(generator, HOUR + 24)}
    assert not gone & later, "an id that went away is used again"


def broken_rules(row: dict) -> set[str]:
    """What a line does wrong, told from the plan alone."""
    planned = {event.name: {p.name: p for p in event.properties} for event in tracking_plan()}
    rules = planned.get(row["event_type"])
    if rules is None:
        return {"unplanned event"}
    found = set()
    if any(p.required and p.name not in row["event_properties"] for p in rules.values()):
        found.add("missing required")
    for name, value in row["event_properties"].items():
        rule = rules.get(name)
        if rule is None:
            found.add("unexpected property")
            continue
        for one in value if rule.is_array else [value]:
            kinds = {"number": (int, float), "boolean": (bool,)}.get(rule.type, (str,))
            if not isinstance(one, kinds):
                found.add("wrong type")
            if rule.enum and one not in rule.enum:
                found.add("value not allowed")
    return found


def test_the_plan_is_what_the_generator_keeps_and_breaks(generator: Generator) -> None:
    sample = [row for h in range(HOUR, HOUR + 2) for row in read(generator, h)]
    even = hour_number(datetime(2024, 11, 14, 0, tzinfo=UTC)) // 168 * 168
    even += 168 if even // 168 % 2 else 0
    sample += read(generator, even)
    found = [broken_rules(row) for row in sample]
    assert set().union(*found) == {
        "unplanned event", "missing required", "wrong type", "value not allowed", "unexpected property",
    }  # fmt: skip
    assert {row["event_type"] for row in sample if "unplanned event" in broken_rules(row)} <= set(UNPLANNED)
    assert 0 < sum(map(bool, found)) < len(found) // 10
    clean = Generator(Shape(events_per_hour=500, violations=False))
    assert not any(broken_rules(row) for row in read(clean, even))


def test_the_writer_names_and_keeps_its_blobs(tmp_path: Path) -> None:
    writer = NativeWriter(Generator(Shape(events_per_hour=600, files_per_hour=2)), FolderBlobs(tmp_path))
    done = writer.write(HOUR, 4, missing={HOUR + 1}, empty={HOUR + 2})
    events = sorted(p.name for p in (tmp_path / "187520").iterdir())
    assert events == [f"187520_2024-11-19_{hour}#{n}.json.gz" for hour in (10, 7, 9) for n in (1, 2)]
    assert all(p.name.startswith("-36958_2024-11-19_") for p in (tmp_path / "-36958").iterdir())
    assert gzip.decompress((tmp_path / "187520/187520_2024-11-19_9#1.json.gz").read_bytes()) == b""
    assert set(writer.write(HOUR, 1).kept) <= set(done.names)
    name = tmp_path / "187520/187520_2024-11-19_7#1.json.gz"
    before = {json.loads(line)["uuid"] for line in gzip.decompress(name.read_bytes()).splitlines()}
    writer.rewrite(HOUR)
    after = {json.loads(line)["uuid"] for line in gzip.decompress(name.read_bytes()).splitlines()}
    assert after < before
    (late,) = writer.write_late(HOUR).names
    assert late == "187520/187520_2024-11-19_7#3.json.gz"
    assert not before & {
        json.loads(line)["uuid"] for line in gzip.decompress((tmp_path / late).read_bytes()).splitlines()
    }


def test_bad_lines_are_bad_and_good_ones_stay(tmp_path: Path) -> None:
    writer = NativeWriter(Generator(Shape(events_per_hour=20)), FolderBlobs(tmp_path), layout="flat")
    (name,) = [n for n in writer.write_hour(HOUR, faults=tuple(bad.LINES)).names if n.startswith("187520")]
    lines = gzip.decompress((tmp_path / name).read_bytes()).split(b"\n")
    assert max(map(len, lines)) > 16 << 20
    good = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and not row["uuid"].startswith("0bad"):
            good.append(row)
    assert [row["uuid"] for row in good] == [row["uuid"] for row in read(writer.generator, HOUR)]


def test_the_command_line_writes(tmp_path: Path) -> None:
    place = ["--to", str(tmp_path), "--from-hour", "2024-11-19T07", "--events-per-hour", "20", "--layout", "flat"]
    assert main(["write", *place, "--hours", "3", "--missing", "2024-11-19T08"]) == 0
    assert sorted(p.name for p in tmp_path.glob("187520*")) == [
        "187520_2024-11-19_7#1.json.gz", "187520_2024-11-19_9#1.json.gz",
    ]  # fmt: skip
    before = (tmp_path / "187520_2024-11-19_7#1.json.gz").read_bytes()
    assert main(["rewrite", *place, "--times", "2"]) == 0
    assert (tmp_path / "187520_2024-11-19_7#1.json.gz").read_bytes() != before
    with pytest.raises(SystemExit):
        main(["write", *place, "--fault", "no such fault"])
