"""A batch of text becomes a landed file: what is in it, what is rejected, and what it says about itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from novade_core.errors import ConfigurationError, StorageRefused, TransferBroken
from novade_core.sources.textfile import write_text
from novade_core.streams import Batch, Column, ColumnType, Stream, TextFile
from novade_core.sync.chunks import Chunk, ChunkWriter, rejects_as_lines
from tests.contracts.refusals import files_end_at

THING = Stream(
    source="test",
    name="thing",
    label="Thing",
    object_name="Thing",
    primary_key=("Id",),
    cursor_field="Stamp",
    version_field="Stamp",
    deleted_field="IsDeleted",
)
COLUMNS = (
    Column(name="Id", type=ColumnType.TEXT),
    Column(name="Stamp", type=ColumnType.TIMESTAMP),
    Column(name="IsDeleted", type=ColumnType.BOOLEAN),
    Column(name="Amount", type=ColumnType.DECIMAL, precision=18, scale=2),
    Column(name="Note", type=ColumnType.TEXT),
)
HEADER = tuple(c.name for c in COLUMNS)
NOON = "2024-11-18T12:00:00.000Z"
GOOD = ("a", NOON, "false", "1.50", "fine")

Write = Callable[..., Chunk]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write rows of text (or a finished file) as one chunk."""
    writers: list[ChunkWriter] = []

    def do(rows: Sequence[Sequence[str | None]] | TextFile, announced: int | None = None, **more: Any) -> Chunk:
        stream, columns = more.get("stream", THING), more.get("columns", COLUMNS)
        writers.append(ChunkWriter(stream, columns, tmp_path, f"run-{len(writers)}"))
        if not isinstance(rows, TextFile):
            announced = len(rows) if announced is None else announced
            rows = write_text(tmp_path / "batch.csv", [c.name for c in columns], rows)
        return writers[-1].write(Batch(text=rows, resume=None, rows=announced or 0), 0)

    yield do
    for writer in writers:
        writer.close()


def content(chunk: Chunk) -> list[dict[str, Any]]:
    assert chunk.file is not None
    rows: list[dict[str, Any]] = pyarrow.parquet.ParquetFile(chunk.file).read().to_pylist()
    return rows


def raw(folder: Path, text: str | bytes, *, quoted_empty_is_null: bool = True) -> TextFile:
    path = folder / "raw.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return TextFile(path=path, header=HEADER, quoted_empty_is_null=quoted_empty_is_null)


def hash63(canonical: str) -> int:
    """The documented hash, without any database."""
    return int.from_bytes(hashlib.md5(canonical.encode()).digest()[8:], "little") & (2**63 - 1)


def test_good_rows_land_typed_with_their_version_hash_and_delete_mark(write):
    chunk = write([GOOD, ("b", "2024-11-18T12:00:00.250+0000", "true", None, None)])
    assert (chunk.rows, chunk.rejects) == (2, [])
    first, second = content(chunk)
    ours = ["source_version", "row_hash", "deleted_at", "piece", "place"]
    assert list(first) == [*HEADER, *(f"_novade_{name}" for name in ours)]
    assert (first["_novade_place"], second["_novade_place"]) == (1, 2)
    assert (first["Id"], first["IsDeleted"], str(first["Amount"]), first["Note"]) == ("a", False, "1.50", "fine")
    assert first["_novade_source_version"] == 1_731_931_200_000_000
    assert first["_novade_deleted_at"] is None
    assert second["_novade_deleted_at"] == second["Stamp"] == datetime(2024, 11, 18, 12, 0, 0, 250000)  # noqa: DTZ001
    assert (second["Amount"], second["Note"]) == (None, None)


def test_the_hashes_are_those_of_the_documented_text(write):
    rows = content(write([GOOD, ("b", NOON, "true", None, "x\x1fy")]))
    # Amount, Id, IsDeleted, Note, Stamp: the order of the names.
    texts = ["1.50\x1fa\x1f0\x1ffine\x1f1731931200000000", "\x1e\x1fb\x1f1\x1fx\x1fy\x1f1731931200000000"]
    assert [r["_novade_row_hash"] for r in rows] == [hash63(t) for t in texts]


def test_rows_are_counted_by_the_hour_with_sums_of_both_hashes(write):
    stamps = ["2024-11-18T13:00:00.000Z", "2024-11-18T12:59:59.999Z", NOON, "2024-12-01T00:00:00.000Z"]
    chunk = write([(f"k{i}", stamp, "false", None, None) for i, stamp in enumerate(stamps)])
    rows = content(chunk)
    expected: dict[str, list[int]] = {}
    for row in rows:
        sums = expected.setdefault(f"{row['Stamp']:%Y-%m-%dT%H}", [0, 0, 0])
        sums[0] += 1
        sums[1] += hash63(f"{row['Id']}\x1f{row['_novade_source_version']}")
        sums[2] += row["_novade_row_hash"]
    found = {h.hour: [h.rows, int(h.key_hash), int(h.row_hash)] for h in chunk.hours}
    assert found == expected
    assert list(found) == ["2024-11-18T12", "2024-11-18T13", "2024-12-01T00"]
    assert chunk.cursor_low == datetime(2024, 11, 18, 12, tzinfo=UTC)
    assert chunk.cursor_high == datetime(2024, 12, 1, tzinfo=UTC)


def test_the_hashes_of_an_hour_do_not_depend_on_the_order(write):
    rows = [(f"k{i}", NOON, "false", str(i), None) for i in range(50)]
    assert write(rows).hours == write(rows[::-1]).hours


def test_hashes_of_two_batches_add_up_to_those_of_one(write):
    rows = [(f"k{i}", NOON, "false", str(i), None) for i in range(20)]
    (whole,), (one,), (two,) = write(rows).hours, write(rows[:7]).hours, write(rows[7:]).hours
    assert int(whole.row_hash) == int(one.row_hash) + int(two.row_hash)
    assert int(whole.key_hash) == int(one.key_hash) + int(two.key_hash)


def test_timestamps_are_millis_in_the_file(write):
    """A dedicated pool reads no MICROS."""
    chunk = write([GOOD])
    schema = pyarrow.parquet.ParquetFile(chunk.file).schema
    kinds = {schema.column(i).name: str(schema.column(i).logical_type) for i in range(len(schema))}
    for name in ("Stamp", "_novade_deleted_at"):
        assert "timeUnit=milliseconds" in kinds[name]
    assert not any("micro" in kind for kind in kinds.values())


def test_a_stream_without_a_cursor_has_one_count_and_no_bounds(write):
    plain = Stream(
        source="t", name="p", label="P", object_name="P", primary_key=("Id",), cursor_field=None, version_field=None
    )
    chunk = write([GOOD, ("b", None, None, None, None)], stream=plain)
    assert (chunk.cursor_low, chunk.cursor_high) == (None, None)
    assert [(h.hour, h.rows) for h in chunk.hours] == [("", 2)]
    assert {r["_novade_source_version"] for r in content(chunk)} == {0}


def test_a_stream_whose_version_is_hidden_cannot_be_written(tmp_path):
    with pytest.raises(ConfigurationError, match="no field Stamp"):
        ChunkWriter(THING, [c for c in COLUMNS if c.name != "Stamp"], tmp_path, "x")


# --- rejects --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (("a", NOON, "maybe", "1", "x"), "IsDeleted", "IsDeleted is neither true nor false"),
        (("a", NOON, "false", "1.005", "x"), "Amount", "Amount is not a number of at most 18 digits"),
        (("a", "12:00", "false", "1", "x"), "Stamp", "Stamp is not an instant"),
        (("a", "99999999999999999", "false", "1", "x"), "Stamp", "Stamp is not an instant"),
        (("a", "0000-01-01T00:00:00Z", "false", "1", "x"), "Stamp", "Stamp is not an instant"),
        (("a", None, "false", "1", "x"), "Stamp", "Stamp is"),
        ((None, NOON, "false", "1", "x"), "Id", "Id is missing"),
    ],
)
def test_a_record_that_cannot_be_typed_is_set_aside_with_its_reason(write, row, column, reason):
    chunk = write([GOOD, row, ("z", NOON, "false", None, None)])
    assert [r["Id"] for r in content(chunk)] == ["a", "z"]
    assert chunk.rows == 2
    (reject,) = chunk.rejects
    assert reject["column"] == column
    assert reject["reason"].startswith(reason)
    assert all(value in reject["record"] for value in row if value)


def test_all_bad_columns_of_a_record_are_named(write):
    (reject,) = write([("a", "x", "maybe", "much", "x")]).rejects
    assert sorted(reject["columns"]) == ["Amount", "IsDeleted", "Stamp"]


def test_a_batch_of_rejects_only_leaves_no_file(write, tmp_path):
    chunk = write([("a", "x", "false", "1", "x")] * 3)
    assert (chunk.file, chunk.rows, len(chunk.rejects), list(chunk.hours)) == (None, 0, 3, [])
    assert list(tmp_path.glob("*.parquet")) == []


def test_rejects_are_kept_as_a_json_object_a_line(write):
    rejects = write([("ü", "x", "false", "1", "a\nb"), ("b", "y", "false", "1", None)]).rejects
    lines = rejects_as_lines(rejects).decode().splitlines()
    assert [json.loads(line) for line in lines] == [dict(r) for r in rejects]


# --- broken transfers -----------------------------------------------------------------------------

LINE = f'"a","{NOON}","false","1","x"\n'
HEAD = ",".join(f'"{n}"' for n in HEADER) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + LINE[:-5] + "\n",
        HEAD + f'"a","{NOON}","false","1"\n',
        HEAD + LINE + f'"b","{NOON}","false","1","x","more"\n',
        HEAD + f'"a","{NOON}","false","1","never closed\n',
        HEAD + LINE + f'"b","{NOON}","false","1","cut o',
        HEAD + f'"a"b,"{NOON}","false","1","x"\n',
        HEAD.encode() + b'"\xff\xfe","' + NOON.encode() + b'","false","1","x"\n',
        b"\x1f\x8b\x08\x00garbage",
        "<html><body>503</body></html>\n<p>again</p>\n",
    ],
    ids=["cut", "short", "long", "open quote", "cut in quotes", "text after quote", "not utf-8", "gzip", "html"],
)
def test_a_malformed_file_is_a_broken_transfer_that_leaves_nothing(write, tmp_path, text):
    with pytest.raises(TransferBroken, match="A batch of Thing") as broken:
        write(raw(tmp_path, text), 2)
    assert broken.value.retryable
    assert NOON not in broken.value.message
    assert list(tmp_path.glob("*.parquet")) == []


@pytest.mark.parametrize("announced", [1, 3])
def test_another_number_of_records_than_announced_is_a_broken_transfer(write, tmp_path, announced):
    with pytest.raises(TransferBroken, match=f"announces {announced} records and holds 2"):
        write([GOOD, GOOD], announced)
    assert list(tmp_path.glob("*.parquet")) == []


def test_rejects_count_for_the_announced_number(write):
    assert write([GOOD, ("b", "x", "false", "1", "x")], 2).rows == 1
    with pytest.raises(TransferBroken, match="announces 3 records and holds 2"):
        write([GOOD, ("b", "x", "false", "1", "x")], 3)


@pytest.mark.parametrize("text", ["", HEAD], ids=["empty file", "header only"])
def test_a_file_without_records_is_an_empty_chunk(write, tmp_path, text):
    chunk = write(raw(tmp_path, text), 0)
    assert (chunk.file, chunk.rows, list(chunk.hours)) == (None, 0, [])


def test_a_disk_that_is_full_is_refused_and_not_a_fault_of_ours(write, tmp_path):
    import os

    rows = [(f"k{i}", NOON, "false", "1", os.urandom(500).hex()) for i in range(2_000)]
    text = write_text(tmp_path / "batch.csv", HEADER, rows)
    with files_end_at(100_000), pytest.raises(StorageRefused, match="cannot be written"):
        write(text, len(rows))
    assert list(tmp_path.glob("*.parquet")) == []


# --- NULL and text --------------------------------------------------------------------------------


@pytest.mark.parametrize(("quoted_empty_is_null", "expected"), [(True, [None, None]), (False, ["", None])])
def test_quoted_empty_cells_are_null_only_where_the_source_cannot_tell(write, tmp_path, quoted_empty_is_null, expected):
    text = HEAD + f'"a","{NOON}","false","1",""\n"b","{NOON}","false","1",\n'
    chunk = write(raw(tmp_path, text, quoted_empty_is_null=quoted_empty_is_null), 2)
    assert [r["Note"] for r in content(chunk)] == expected


def test_an_empty_cell_of_another_type_is_null_where_the_source_cannot_tell(write, tmp_path):
    chunk = write(raw(tmp_path, HEAD + f'"a","{NOON}","","",""\n'), 1)
    assert [(r["IsDeleted"], r["Amount"]) for r in content(chunk)] == [(None, None)]


@pytest.mark.parametrize(
    "value", ["NA", "N/A", "null", "NULL", "None", "nan", "\\N", "#N/A", "true", "a\nb", "a\r\nb", "\x1f", 'q"q', "a,b"]
)
def test_words_that_readers_take_for_missing_stay_text(write, value):
    assert content(write([("a", NOON, "false", None, value)]))[0]["Note"] == value


def test_two_rows_that_differ_only_in_null_and_empty_have_different_hashes(write):
    rows = content(write([("a", NOON, "false", None, ""), ("a", NOON, "false", None, None)]))
    assert rows[0]["_novade_row_hash"] != rows[1]["_novade_row_hash"]


def test_columns_follow_the_header_of_the_file_and_not_their_order(write, tmp_path):
    path = tmp_path / "turned.csv"
    path.write_text(f'Note,Id,Amount,Stamp,IsDeleted\n"x","a","1","{NOON}","false"\n')
    text = TextFile(path=path, header=("Note", "Id", "Amount", "Stamp", "IsDeleted"), quoted_empty_is_null=True)
    (row,) = content(write(text, 1))
    assert (row["Id"], row["Note"], row["IsDeleted"]) == ("a", "x", False)


def test_a_folder_whose_name_looks_like_a_pattern_is_that_folder(tmp_path):
    for name in ("a", "[ab]*?"):
        (tmp_path / name).mkdir()
        text = write_text(tmp_path / name / "batch.csv", HEADER, [(name, *GOOD[1:])])
        writer = ChunkWriter(THING, COLUMNS, tmp_path / name, "run")
        chunk = writer.write(Batch(text=text, resume=None, rows=1), 0)
        writer.close()
        assert [r["Id"] for r in content(chunk)] == [name]
        assert sum(h.rows for h in chunk.hours) == 1
