"""Amplitude without a server: hours, lines, archives, columns, and what each status means."""

from __future__ import annotations

import gzip
import io
import itertools
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novade_core.catalogue import stream_of
from novade_core.errors import ConfigurationError, NotOffered, ProtocolBroken, TransferBroken
from novade_core.sections import StreamSettings
from novade_core.settings import AmplitudeSettings
from novade_core.sources.amplitude import Amplitude, fields
from novade_core.sources.amplitude.archive import Archive
from novade_core.sources.amplitude.export import HOUR, hour_of, spans
from novade_core.sources.amplitude.faults import fault
from novade_core.sources.amplitude.lines import LONGEST, Splitter
from novade_core.streams import JsonLines, RunKind, Window
from novade_core.sync import planning, reading

EVENTS = stream_of("amplitude.events", StreamSettings())
NOW = datetime(2024, 11, 20, 14, tzinfo=UTC)


# --- hours ----------------------------------------------------------------------------------------


@given(
    low=st.datetimes(datetime(2014, 1, 1), datetime(2024, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    seconds=st.integers(1, 40 * 86_400),
    most=st.integers(1, 100),
)
def test_requests_tile_the_hours_that_a_window_touches(low: datetime, seconds: int, most: int) -> None:
    high = low + timedelta(seconds=seconds)
    made = spans(low, high, most)
    hours = [span.first + HOUR * n for span in made for n in range(span.hours)]
    assert hours[0] == hour_of(low)
    assert hours[-1] < high <= hours[-1] + HOUR
    assert all(b - a == HOUR for a, b in itertools.pairwise(hours))
    assert all(1 <= span.hours <= most for span in made)


def test_both_ends_of_a_request_are_included() -> None:
    [day] = spans(datetime(2024, 11, 19, tzinfo=UTC), datetime(2024, 11, 20, tzinfo=UTC), 24)
    assert day.parameters() == {"start": "20241119T00", "end": "20241119T23"}
    [hour] = spans(NOW, NOW + HOUR, 24)
    assert hour.parameters() == {"start": "20241120T14", "end": "20241120T14"}


@pytest.mark.parametrize(("hours", "middle"), [(2, 13), (3, 12), (5, 11), (7, 10)])
def test_halves_of_whole_hours_are_whole_hours(hours: int, middle: int) -> None:
    halves = Window(low=NOW - HOUR * hours, high=NOW).halves(NOW)
    assert halves is not None
    assert [h.high for h in halves] == [NOW.replace(hour=middle), NOW]


class Still(Amplitude):
    """Its clock stands."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture
def source(tmp_path: Path) -> Still:
    return Still(AmplitudeSettings(since=datetime(2024, 11, 18, tzinfo=UTC).date()), tmp_path)


def test_the_first_sync_goes_back_to_since_and_has_a_window_for_each_request(source: Still) -> None:
    windows, seam = planning.windows_for(EVENTS, RunKind.INCREMENTAL, {}, None, source, 1000)
    assert seam == NOW
    assert [(w.low, w.high, w.part) for w in windows] == [
        (datetime(2024, 11, 18, tzinfo=UTC), datetime(2024, 11, 19, tzinfo=UTC), "history"),
        (datetime(2024, 11, 19, tzinfo=UTC), datetime(2024, 11, 20, tzinfo=UTC), "history"),
        (datetime(2024, 11, 20, tzinfo=UTC), NOW, "history"),
    ]


def test_later_syncs_read_the_last_six_hours_again_unless_the_stream_says_otherwise(source: Still) -> None:
    from novade_core.ledger.plans import CheckpointValue

    at = CheckpointValue(cursor=NOW - timedelta(minutes=10), seam=None)
    [window], seam = planning.windows_for(EVENTS, RunKind.INCREMENTAL, {}, at, source, 1000)
    assert (window.low, window.high, seam) == (NOW - timedelta(hours=7), NOW, None)
    short = stream_of("amplitude.events", StreamSettings(overlap_seconds=60))
    [window], _ = planning.windows_for(short, RunKind.INCREMENTAL, {}, at, source, 1000)
    assert window.low == NOW - HOUR


def test_what_cannot_be_counted_is_said(source: Still) -> None:
    with pytest.raises(NotOffered, match="each line of its files is accounted for"):
        source.count(EVENTS)
    assert source.window_count(EVENTS, planning.live_window(EVENTS, NOW)) is None


# --- lines ----------------------------------------------------------------------------------------


def split(data: bytes, size: int) -> tuple[bytes, int, list[tuple[str, str]]]:
    """What a splitter makes of data that come in blocks of this size."""
    splitter = Splitter()
    pieces = [splitter.feed(data[i : i + size]) for i in range(0, len(data), size)] + [splitter.finish()]
    refused = [(r.reason, r.record) for piece in pieces for r in piece.refused]
    return b"".join(p.text for p in pieces), sum(p.rows for p in pieces), refused


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=20),
    size=st.integers(1, 50),
    ended=st.booleans(),
)
def test_however_bytes_come_each_line_is_taken_or_refused(lines: list[bytes], size: int, ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    text, rows, refused = split(data, size)
    assert (text, rows, refused) == split(data, len(data) + 1)
    assert text.count(b"\n") == rows
    assert text.decode("utf-8") is not None
    assert b"" not in text.split(b"\n")[:-1]
    assert rows + len(refused) == len(data.split(b"\n")) - (data.endswith(b"\n") or not data)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "is an empty line"),
        (b"a\0b", "holds a raw control character"),
        (b"a\rb", "holds a raw control character"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"\xed\xa0\x80", "is not UTF-8"),
    ],
)
def test_a_refused_line_costs_no_other(line: bytes, reason: str) -> None:
    text, rows, [(said, _)] = split(b"one\r\n" + line + b"\ntwo\tand\n", 1 << 20)
    assert (text, rows, said) == (b"one\ntwo\tand\n", 2, reason)


def test_a_line_of_sixteen_mebibytes_is_refused_and_its_beginning_kept() -> None:
    longest = b"x" * (LONGEST - 1)
    text, rows, refused = split(b"a\n" + longest + b"\nb\n" + longest + b"y\nc\n", 1 << 20)
    assert (len(text), rows) == (6 + LONGEST, 4)
    assert refused == [("is longer than 16 MiB", "x" * 1000)]


# --- archives -------------------------------------------------------------------------------------


def archive(folder: Path, members: dict[str, bytes], **limits: int) -> Archive:
    """A zip of these members."""
    path = folder / "export.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    given_ = {"max_ratio": 200, "max_unpacked": 1 << 30, **limits}
    return Archive(path, name="The export of an hour", **given_)


def content(opened: Archive) -> list[bytes]:
    return [b"".join(opened.blocks(member)) for member in range(len(opened))]


def test_names_only_tell_how_to_read(tmp_path: Path) -> None:
    members = {
        "../../climbed.json.gz": gzip.compress(b"one\n"),
        "/etc/absolute.JSON.GZ": gzip.compress(b"two\n") + gzip.compress(b"three\n") + b"\0" * 9,
        "folder/": b"",
        "complete": b"",
        "plain.json": b"four\n",
        "empty.json.gz": b"",
    }
    assert content(archive(tmp_path, members)) == [b"one\n", b"two\nthree\n", b"four\n", b""]
    assert sorted(p.name for p in tmp_path.parent.rglob("*climbed*")) == []


def test_a_block_boundary_inside_a_gzip_file_loses_nothing(tmp_path: Path) -> None:
    text = b"".join(b"%d\n" % n for n in range(2_000_000))
    assert content(archive(tmp_path, {"a.gz": gzip.compress(text, 1)})) == [text]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda data: data[:-4], "ends too early"),
        (lambda data: data[: len(data) // 2], "ends too early"),
        (lambda data: data[:30] + bytes([data[30] ^ 255]) + data[31:], "cannot be unpacked"),
        (lambda _: b"no gzip at all", "cannot be unpacked"),
        (lambda data: data + b"rubbish", "cannot be unpacked"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, harm: Any, said: str) -> None:
    with pytest.raises(TransferBroken, match=rf"'bad\.json\.gz' .*{said}"):
        content(archive(tmp_path, {"bad.json.gz": harm(gzip.compress(bytes(range(256)) * 40))}))


def test_no_archive_at_all_is_a_broken_transfer(tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"<html>an error page</html>")
    with pytest.raises(TransferBroken, match="The export of an hour is not a zip archive"):
        Archive(tmp_path / "export.zip", name="The export of an hour", max_ratio=200, max_unpacked=1)


@pytest.mark.parametrize("deflated", [True, False])
def test_a_bomb_is_stopped_by_ratio_and_by_size(tmp_path: Path, deflated: bool) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for _ in range(70):
            file.write(b" " * (1 << 20))
    bomb = {"bomb.json.gz": packed.getvalue()} if deflated else {"bomb.json": b" " * (3 << 20)}
    limits = {"max_ratio": 100} if deflated else {"max_unpacked": 1 << 20}
    with pytest.raises(ProtocolBroken, match=r"bomb\.json"):
        content(archive(tmp_path, bomb, **limits))


# --- columns --------------------------------------------------------------------------------------


def test_a_promoted_property_has_a_column_by_rule() -> None:
    settings = AmplitudeSettings(promoted=("event_properties.ad_metrics.cost", "user_properties.City"))
    assert fields.promoted(settings) == {
        "event_properties_ad_metrics_cost": ("event_properties", "ad_metrics.cost"),
        "user_properties_City": ("user_properties", "City"),
    }
    assert "user_properties_City" in fields.schema(EVENTS, settings).names()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"said"', "said"),
        ("1.5", "1.5"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("true", "true"),
        ('{"a": [1]}', '{"a":[1]}'),
        ('"a\\u0000b"', "ab"),
        ('""', ""),
        ("null", None),
        (None, None),
    ],
)
def test_a_promoted_property_is_its_text(tmp_path: Path, value: str | None, text: str | None) -> None:
    inside = "{}" if value is None else f'{{"a~b/c.d": {value}}}'
    path = tmp_path / "lines"
    path.write_text(f'{{"uuid": "u", "event_properties": {inside}}}\n{{"$insert_id": "i"}}\n')
    lines = JsonLines(
        path=path,
        fields=("promoted", "_insert_id"),
        inner={"promoted": ("event_properties", "a~b/c.d")},
        first_of={"_insert_id": ("$insert_id", "uuid")},
    )
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT promoted, _insert_id FROM {reading.table_of(lines)}").fetchall()
    assert rows == [(text, "u"), (None, "i")]


@pytest.mark.parametrize("second", ["user_properties.City", "user_properties.city"])
def test_two_properties_of_one_column_are_refused(second: str) -> None:
    with pytest.raises(ConfigurationError, match="which there is already"):
        fields.promoted(AmplitudeSettings(promoted=("user_properties.city", second)))


@pytest.mark.parametrize(
    ("stream", "given_", "said"),
    [
        ("amplitude.events", {"transport": "bulk"}, "transport bulk is none of amplitude's; known: auto, export"),
        ("salesforce.lead", {"transport": "export"}, "known: auto, rest, bulk"),
        ("amplitude.event_types", {"key": "uuid"}, r"key is a setting of amplitude\.events alone"),
        ("amplitude.users", {}, "amplitude has no stream users"),
    ],
)
def test_what_another_stream_knows_is_refused(stream: str, given_: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        stream_of(stream, StreamSettings(**given_))


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        (AmplitudeSettings(), "https://amplitude.com"),
        (AmplitudeSettings(region="eu"), "https://analytics.eu.amplitude.com"),
        (AmplitudeSettings(region="eu", endpoint="https://127.0.0.1:1/"), "https://127.0.0.1:1"),
    ],
)
def test_each_region_has_its_host(settings: AmplitudeSettings, host: str, tmp_path: Path) -> None:
    source = Amplitude(settings, tmp_path)
    assert source.facts().about == {"host": host.removeprefix("https://"), "region": settings.region}
    with pytest.raises(ConfigurationError, match="no credentials"):
        source.now()


def test_a_stream_of_few_fields_keeps_what_the_sync_needs() -> None:
    few = stream_of("amplitude.events", StreamSettings(fields=("event_type",)))
    assert set(fields.schema(few, AmplitudeSettings()).names()) == {"uuid", "server_upload_time", "event_type"}
    with pytest.raises(ConfigurationError, match="no field colour"):
        fields.schema(stream_of("amplitude.events", StreamSettings(fields=("colour",))), AmplitudeSettings())


# --- statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (401, b"", "AuthenticationFailed", "Amplitude answered 401 while exporting."),
        (403, b"Forbidden", "AuthenticationFailed", ": Forbidden."),
        (404, b"<html>nothing</html>", "NoData", "Amplitude answered 404 while exporting."),
        (400, b'{"error": {"message": "bad date"}}', "Refused", ": bad date."),
        (400, b'{"success": false, "errors": [{"message": "no such event"}]}', "Refused", ": no such event."),
        (429, b"Exceeded", "RateLimited", ": Exceeded."),
        (504, b"", "TimedOut", "504"),
        (502, b"[" * 100_000, "SourceUnavailable", "502"),
        (302, b"", "ConfigurationError", "302"),
    ],
)
def test_each_status_says_what_to_do(status: int, body: bytes, kind: str, said: str) -> None:
    error = fault(status, body, "exporting")
    assert error.kind == kind
    assert said in error.message
    assert len(error.message) < 400
    assert error.hint
