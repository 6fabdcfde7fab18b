"""Drift's JSON becomes columns without losing a digit or a field; the shelf keeps the newest, in order."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novade_core.catalogue import stream_of
from novade_core.errors import ConfigurationError, ProtocolBroken
from novade_core.sections import StreamSettings
from novade_core.sources.drift.listing import listed
from novade_core.sources.drift.records import FIELDS, Cells, Number, changed, dump, instant, parse, schema
from novade_core.sources.drift.shelf import Listed, Shelf
from novade_core.sources.textfile import write_text
from novade_core.streams import Batch, ColumnType, Window
from novade_core.sync.chunks import ChunkWriter

#: The sample of each stream, and where its records stand in a body.
SAMPLES = {
    "conversations": ("conversations_list", "conversation"),
    "messages": ("messages",),
    "contacts": ("contact",),
    "users": ("users_list", "users_get"),
    "accounts": ("accounts_list", "account"),
}


def records_in(body: Any) -> list[dict[str, Any]]:
    """The records of one answer, whatever it wraps them in."""
    data = body.get("data") if isinstance(body, dict) else None
    for name in ("messages", "accounts"):
        if isinstance(data, dict) and name in data:
            data = data[name]
    if isinstance(data, dict) and data and all(k.isdecimal() for k in data):
        data = list(data.values())
    return data if isinstance(data, list) else [data] if data else []


def landed(name: str, found: list[Any], folder: Path) -> list[dict[str, Any]]:
    """Rows as they stand in the landed file."""
    stream = stream_of(f"drift.{name}", StreamSettings())
    columns = schema(stream).columns
    cells = Cells(stream, columns)
    rows = [cells.row(r, {"_changed_at": str(1 if instant(changed(r)) is None else changed(r))}) for r in found]
    writer = ChunkWriter(stream, columns, folder, "sample")
    made = writer.write(Batch(text=write_text(folder / "in.csv", cells.header, rows), resume=None, rows=len(rows)), 0)
    writer.close()
    assert (made.rows, made.rejected) == (len(found), 0)
    table = duckdb.sql(f"SELECT * FROM read_parquet('{made.file}') ORDER BY _novade_place")
    return [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_vendors_samples_arrive_value_by_value(name: str, shared: Path, tmp_path: Path) -> None:
    texts = [(shared / "drift" / "api_responses" / f"{file}.json").read_text() for file in SAMPLES[name]]
    plain = [r for text in texts for body in json.loads(text) for r in records_in(body)]
    spelled = [r for text in texts for body in parse(text) for r in records_in(body)]
    assert len(plain) >= 1
    for record, row in zip(plain, landed(name, spelled, tmp_path), strict=True):
        left = dict(record)
        for field in FIELDS[name]:
            if not field.path:
                continue
            value: Any = record
            for part in field.path:
                value = value.get(part) if isinstance(value, dict) else None
            left.pop(field.path[0], None)
            found = row[field.column.name]
            if field.column.type is ColumnType.TIMESTAMP and value is not None:
                value = datetime.fromtimestamp(value / 1000, UTC).replace(tzinfo=None)
            elif field.column.type is ColumnType.JSON and value is not None:
                found = json.loads(found)
            elif field.column.type is ColumnType.TEXT and value is not None:
                value = str(value)  # a playbook's id is a number in one sample and a text in another
            assert found == value, field.column.name
        # Nothing of a record is dropped: what has no column is in _extra.
        assert (json.loads(row["_extra"]) if row["_extra"] else {}) == left


@pytest.mark.parametrize("name", SAMPLES)
def test_every_field_of_the_published_schemas_has_a_column(name: str, shared: Path) -> None:
    said = json.loads((shared / "drift" / "schemas" / f"{name}.schema.json").read_text())["properties"]
    known = {f.path[0] for f in FIELDS[name] if f.path}
    # A schema of somebody else's: it has names that neither the vendor's models nor its samples know.
    strange = {"accounts": {"id", "type", "createdAt", "updatedAt"}, "contacts": {"name"}}
    assert set(said) - known <= strange.get(name, set())


@pytest.mark.parametrize(
    "text",
    [
        "12345678901234567890123456789",
        "-0.0",
        "1E+400",
        "1.10",
        '{"b":1.0,"a":[1,{"c":null}],"":true}',
        '"\\u0000 \\ud800"',
        '"grün 緑 👍🏽 \\u2028"',
        "[]",
    ],
)
def test_json_keeps_the_vendors_spelling(text: str) -> None:
    assert json.loads(dump(parse(text)), parse_int=str, parse_float=str) == json.loads(
        text, parse_int=str, parse_float=str
    )
    dump(parse(text)).encode()
    if "\\" not in text:
        assert dump(parse(text)) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_survives(value: Any) -> None:
    assert json.loads(dump(parse(json.dumps(value)))) == value


def test_what_is_no_json_number_becomes_a_text_and_the_last_of_double_keys_counts() -> None:
    assert dump(parse('{"a": NaN, "b": -Infinity, "a2": 1, "a2": 2}')) == '{"a":"NaN","b":"-Infinity","a2":2}'


def test_values_of_other_types_are_kept_as_they_are_said() -> None:
    stream = stream_of("drift.messages", StreamSettings())
    cells = Cells(stream, schema(stream).columns)
    record = parse(
        '{"id": 1, "body": {"x": 1.50}, "type": "", "author": {"id": 7, "role": "x"}, "new": [1], "n": null}'
    )
    row = dict(zip(cells.header, cells.row(record, {"_changed_at": "5"}), strict=True))
    assert (row["body"], row["type"], row["author_id"], row["author_bot"]) == ('{"x":1.50}', "", "7", None)
    assert row["_extra"] == '{"new":[1],"n":null,"author":{"role":"x"}}'
    assert row["_changed_at"] == "5"
    odd = dict(zip(cells.header, cells.row({"author": "someone"}, {}), strict=True))
    assert (odd["author_id"], odd["_extra"]) == (None, '{"author":"someone"}')
    with pytest.raises(ProtocolBroken):
        cells.row([1], {})


def test_chosen_fields_are_kept_beside_those_that_a_sync_needs() -> None:
    stream = stream_of("drift.contacts", StreamSettings(fields=("attributes",)))
    found = schema(stream)
    assert found.names() == ("id", "createdAt", "attributes", "_deleted", "_changed_at")
    assert set(found.skipped) == {"_blocked", "_extra"}
    with pytest.raises(ConfigurationError, match="email"):
        schema(stream_of("drift.contacts", StreamSettings(fields=("email",))))


def test_the_time_of_change_falls_back_to_creation() -> None:
    assert changed({"createdAt": Number("5")}) == "5"
    assert changed({"createdAt": Number("5"), "updatedAt": Number("7")}) == "7"
    assert [instant(v) for v in (Number("7"), "7", Number("7.5"), None, Number("9" * 16))] == [
        7,
        None,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("record", [None, [], {}, {"id": None}, {"id": ""}, {"id": {"a": 1}}])
def test_a_listed_record_without_a_key_is_refused(record: Any) -> None:
    with pytest.raises(ProtocolBroken):
        listed(record)


@pytest.fixture
def shelf(tmp_path: Path) -> Any:
    made = Shelf(tmp_path)
    yield made
    made.close()


def ms(number: int) -> datetime:
    return datetime.fromtimestamp(number / 1000, UTC)


def test_the_shelf_keeps_the_newest_of_each_id(shelf: Shelf) -> None:
    shelf.put([Listed("1", 10), Listed("2", 20), Listed("1", 5)])
    assert shelf.kept == 2
    shelf.put([Listed("1", 10), Listed("2", 20)])
    assert shelf.kept == 2
    shelf.put([Listed("1", 30, record={"a": Number("1.50")})])
    assert (shelf.kept, shelf.highest()) == (3, 30)
    assert [(r.id, r.changed) for r in shelf.in_window(Window(low=None, high=None), None)] == [("2", 20), ("1", 30)]
    assert [dump(r.record) for r in shelf.in_window(Window(low=ms(21), high=None), None)] == ['{"a":1.50}']


def test_a_position_stays_true_among_equal_instants(shelf: Shelf) -> None:
    shelf.put([Listed(str(n), 7) for n in range(9)])
    shelf.put([Listed("odd", None)])
    window = Window(low=None, high=None)
    assert [r.id for r in shelf.in_window(window, (7, "5"))] == ["6", "7", "8", "odd"]
    assert [r.id for r in shelf.in_window(Window(low=ms(7), high=ms(8)), (7, "7"))] == ["8"]
    assert shelf.count(Window(low=ms(7), high=ms(8))) == 9


def test_contacts_come_once_with_their_newest_change(shelf: Shelf) -> None:
    shelf.put([Listed("1", 1, contact="a"), Listed("2", 5, contact="a"), Listed("3", 3, contact="b"), Listed("4", 4)])
    window = Window(low=None, high=None)
    assert [(c.id, c.changed) for c in shelf.contacts(window, None)] == [("b", 3), ("a", 5)]
    assert [(c.id, c.changed) for c in shelf.contacts(window, (3, "b"))] == [("a", 5)]
    assert shelf.count_contacts(window) == 2


def test_months_count_those_without_an_instant_apart(shelf: Shelf) -> None:
    at = int(datetime(2024, 2, 29, 23, 59, 59, 999000, tzinfo=UTC).timestamp() * 1000)
    shelf.put([Listed("1", 1, created=at), Listed("2", 2, created=at + 1, deleted=True), Listed("3", 3)])
    assert shelf.months("created", include_deleted=True) == {"2024-02": 1, "2024-03": 1, "": 1}
    assert shelf.months("created", include_deleted=False) == {"2024-02": 1, "": 1}
    assert (list(shelf.keys("2024-02")), list(shelf.keys("2024-03")), shelf.living()) == (["1"], [], 2)
