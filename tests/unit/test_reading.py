"""JSON lines become a landed file: which value becomes which text, what is kept aside, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novade_core.streams import Batch, Column, ColumnType, JsonLines, Refused, Stream
from novade_core.sync import reading
from novade_core.sync.chunks import Chunk, ChunkWriter

EVENTS = Stream(
    source="test",
    name="events",
    label="Events",
    object_name="events",
    primary_key=("uuid",),
    cursor_field="at",
    version_field="at",
)
COLUMNS = (
    Column(name="uuid", type=ColumnType.TEXT),
    Column(name="at", type=ColumnType.TIMESTAMP, precision=6),
    Column(name="number", type=ColumnType.BIGINT),
    Column(name="properties", type=ColumnType.JSON),
    Column(name='it\'s [odd] "name"', type=ColumnType.TEXT),
    Column(name="_rest", type=ColumnType.JSON),
)
AT = "2024-11-20 00:00:00.024573"

Write = Callable[..., tuple[Chunk, list[dict[str, Any]]]]


def lines_of(path: Path) -> JsonLines:
    return JsonLines(path=path, fields=tuple(c.name for c in COLUMNS), as_json=frozenset({"properties"}), rest="_rest")


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write lines as one chunk; answers it and its rows."""
    writers: list[ChunkWriter] = []

    def do(*lines: str, refused: tuple[Refused, ...] = ()) -> tuple[Chunk, list[dict[str, Any]]]:
        path = tmp_path / "lines"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        writers.append(ChunkWriter(EVENTS, COLUMNS, tmp_path, f"run-{len(writers)}"))
        batch = Batch(text=lines_of(path), resume=None, rows=len(lines), refused=refused)
        chunk = writers[-1].write(batch, 0)
        return chunk, pyarrow.parquet.read_table(chunk.file).to_pylist() if chunk.file else []

    yield do
    for writer in writers:
        writer.close()


def event(**more: Any) -> str:
    return json.dumps({"uuid": "u", "at": AT, **more}, ensure_ascii=False)


def test_values_become_texts_and_microseconds_stay(write: Write) -> None:
    chunk, [row] = write(event(number=7, properties={"a": [1, {"b": None}]}, **{'it\'s [odd] "name"': "grün 😀"}))
    assert row["at"] == datetime(2024, 11, 20, 0, 0, 0, 24573)  # noqa: DTZ001  Parquet's INT96 knows no zone
    assert (row["uuid"], row["number"], row['it\'s [odd] "name"']) == ("u", 7, "grün 😀")
    assert json.loads(row["properties"]) == {"a": [1, {"b": None}]}
    assert row["_rest"] is None
    assert (chunk.rows, chunk.rejected) == (1, 0)
    assert chunk.cursor_high is not None
    assert chunk.cursor_high.microsecond == 24573
    assert chunk.file is not None
    assert pyarrow.parquet.ParquetFile(chunk.file).schema.column(1).physical_type == "INT96"
    with duckdb.connect() as connection:
        [(back,)] = connection.execute(
            f"SELECT epoch_us(\"at\") % 1000000 FROM read_parquet('{chunk.file}')"
        ).fetchall()
    assert back == 24573


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ('{"x": 123456789012345678901234567890}', '{"x":123456789012345678901234567890}'),
        ('{"x": 1, "x": 2}', '{"x":1,"x":2}'),
        ('"a text"', '"a text"'),
        ("null", None),
        ("[]", "[]"),
        ('{"n": "a\\u0000b"}', '{"n":"a\\u0000b"}'),
        ('{"deep": ' + "[" * 500 + "]" * 500 + "}", '{"deep":' + "[" * 500 + "]" * 500 + "}"),
    ],
)
def test_json_is_kept(write: Write, given_: str, kept: str | None) -> None:
    _, [row] = write(f'{{"uuid":"u","at":"{AT}","properties":{given_}}}')
    assert row["properties"] == kept


def test_the_first_of_two_equal_names_counts(write: Write) -> None:
    _, [row] = write(f'{{"uuid":"first","at":"{AT}","uuid":"second"}}')
    assert row["uuid"] == "first"


def test_a_nul_in_a_text_is_left_out(write: Write) -> None:
    _, [row] = write(f'{{"uuid":"a\\u0000b","at":"{AT}"}}')
    assert row["uuid"] == "ab"


def test_unknown_names_are_kept_aside(write: Write) -> None:
    _, [row, plain] = write(event(**{"new": {"a": 1}, 'q"/~': None, "UUID": "other"}), event())
    assert json.loads(row["_rest"]) == {"new": {"a": 1}, 'q"/~': None, "UUID": "other"}
    assert plain["_rest"] is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no json", "is no JSON object"),
        ('{"uuid": "u"', "is no JSON object"),
        ("[1, 2]", "is no JSON object"),
        ('"text"', "is no JSON object"),
        ('{"uuid": "\\ud800"}', "is no JSON object"),
        (f'{{"at": "{AT}"}}', "uuid is missing"),
        ('{"uuid": "u", "at": "yesterday"}', "at is not an instant"),
        (f'{{"uuid": "u", "at": "{AT}", "number": 99999999999999999999}}', "number is not a whole number"),
    ],
)
def test_what_cannot_be_taken_is_named_and_the_rest_arrives(write: Write, line: str, reason: str) -> None:
    chunk, rows = write(event(), line, event(uuid="v"))
    assert [row["uuid"] for row in rows] == ["u", "v"]
    [reject] = chunk.rejects
    assert reason in reject["reason"].strip()
    assert reject["record"] == line


def test_what_the_source_refused_counts_as_rejected(write: Write) -> None:
    chunk, rows = write(event(), refused=(Refused(reason="is longer than 16 MiB", record="{…"),))
    assert (len(rows), chunk.rows, chunk.rejected) == (1, 1, 1)
    assert chunk.rejects[0]["reason"] == "is longer than 16 MiB"


#: Any JSON text; NUL is left out of texts by rule, half a surrogate pair is no JSON.
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
_VALUES = st.recursive(
    _SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(_TEXT, v, max_size=4), max_leaves=12
)
_NAMES = _TEXT.filter(lambda name: name not in {c.name for c in COLUMNS})


@settings(max_examples=60, deadline=None)
@given(objects=st.lists(st.tuples(_VALUES, st.dictionaries(_NAMES, _VALUES, max_size=3)), min_size=1, max_size=6))
def test_any_json_survives(tmp_path_factory: pytest.TempPathFactory, objects: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / "lines"
    records = [{"uuid": str(n), "properties": value, **more} for n, (value, more) in enumerate(objects)]
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    with duckdb.connect() as connection:
        table = reading.table_of(lines_of(path))
        rows = connection.execute(f"SELECT uuid, properties, _rest FROM {table}").fetchall()
    assert [row[0] for row in rows] == [record["uuid"] for record in records]
    for (value, more), (_, properties, rest) in zip(objects, rows, strict=True):
        assert (json.loads(properties) if properties is not None else None) == value
        assert (json.loads(rest) if rest is not None else {}) == more
