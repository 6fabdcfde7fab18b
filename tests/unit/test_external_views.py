"""Views over the landing zone: their text, and, with DuckDB in the place of the serverless pool, what they show."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from novade_core.errors import ConfigurationError
from novade_core.streams import Column, ColumnType, LandedFile, Stream, piece
from novade_core.warehouse import external_views

STREAM = Stream(
    source="salesforce",
    name="contact",
    label="Contact",
    object_name="Contact",
    primary_key=("Id",),
    cursor_field="SystemModstamp",
)
NAME = (Column(name="Id", type=ColumnType.TEXT, length=18), Column(name="Name", type=ColumnType.TEXT, length=80))
AGE = (*NAME, Column(name="Age", type=ColumnType.INTEGER))


def manifest(seq: int, files: tuple[str, ...] = ("a.parquet",), columns: tuple[Column, ...] = NAME) -> LandedFile:
    return LandedFile(
        seq=seq, stream=STREAM.id, run_id=seq, plan_id=1, window=0, chunk=0, manifest_path=f"_m{seq}",
        load_id=f"l{seq}", files=files, rows=1, rejected=0, columns=columns,
    )  # fmt: skip


def land(folder: Path, seq: int, columns: tuple[Column, ...], rows: list[dict[str, Any]]) -> LandedFile:
    """A Parquet file as a run lands it. ``version`` and ``deleted`` of a row are ours, the others its columns."""
    file = folder / f"part-{seq}.parquet"
    made = [
        {c.name: row.get(c.name) for c in columns}
        | {
            "_novade_source_version": row["version"],
            "_novade_row_hash": 1,
            "_novade_deleted_at": datetime(2026, 1, 1) if row.get("deleted") else None,  # noqa: DTZ001 (as it lands)
            "_novade_piece": piece(row.get("run", seq), 0),
            "_novade_place": place,
        }
        for place, row in enumerate(rows)
    ]
    types = [(c.name, pa.int32() if c.type is ColumnType.INTEGER else pa.string()) for c in columns]
    ours = [(n, pa.int64()) for n in ("_novade_source_version", "_novade_row_hash")]
    ours += [("_novade_deleted_at", pa.timestamp("us"))]
    ours += [(n, pa.int64()) for n in ("_novade_piece", "_novade_place")]
    pq.write_table(pa.Table.from_pylist(made, schema=pa.schema(types + ours)), file)
    return manifest(seq, (str(file),), columns)


def shown(columns: tuple[Column, ...], manifests: list[LandedFile]) -> list[tuple[Any, ...]]:
    """What the view shows, sorted: DuckDB reads its SELECT with the words changed that only T-SQL has."""
    text = external_views.view(STREAM, manifests).text.partition(" AS\n")[2]
    text = re.sub(
        r"OPENROWSET\(BULK \((.*?)\), DATA_SOURCE = '\w+', FORMAT = 'PARQUET'\) WITH \(.*?\) AS r",
        r"read_parquet([\1]) AS r",
        text,
    )
    for tsql, other in (
        (r"nvarchar\((\d+|max)\)", "VARCHAR"), (r" COLLATE \w+", ""), (r"datetime2\(6\)", "TIMESTAMP"),
        (r"DATALENGTH", "strlen"), (r"\[(\w+)\]", r'"\1"'),
    ):  # fmt: skip
        text = re.sub(tsql, other, text)
    return sorted(row[: len(columns)] for row in duckdb.sql(text).fetchall())


def test_the_newest_version_of_each_key_is_shown(tmp_path: Path) -> None:
    first = land(tmp_path, 1, NAME, [{"Id": "a", "Name": "old", "version": 1}, {"Id": "b", "Name": "b", "version": 5}])
    second = land(tmp_path, 2, NAME, [{"Id": "a", "Name": "new", "version": 2}, {"Id": "b", "Name": "x", "version": 4}])
    assert shown(NAME, [first, second]) == [("a", "new"), ("b", "b")]


def test_of_equal_versions_the_later_landing_wins(tmp_path: Path) -> None:
    first = land(tmp_path, 1, NAME, [{"Id": "a", "Name": "earlier", "version": 1}])
    second = land(tmp_path, 2, NAME, [{"Id": "a", "Name": "later", "version": 1}])
    assert shown(NAME, [first, second]) == [("a", "later")]


def test_deleted_records_are_not_shown_and_do_not_come_back(tmp_path: Path) -> None:
    first = land(tmp_path, 1, NAME, [{"Id": "a", "Name": "a", "version": 1}, {"Id": "b", "Name": "b", "version": 1}])
    second = land(tmp_path, 2, NAME, [{"Id": "a", "Name": "a", "version": 2, "deleted": True}])
    assert shown(NAME, [first, second]) == [("b", "b")]


def test_keys_differ_by_trailing_blanks(tmp_path: Path) -> None:
    only = land(tmp_path, 1, NAME, [{"Id": "a", "Name": "1", "version": 1}, {"Id": "a ", "Name": "2", "version": 1}])
    assert shown(NAME, [only]) == [("a", "1"), ("a ", "2")]


def test_files_of_another_shape_fill_up_with_null(tmp_path: Path) -> None:
    first = land(tmp_path, 1, NAME, [{"Id": "a", "Name": "a", "version": 1}])
    second = land(tmp_path, 2, AGE, [{"Id": "b", "Name": "b", "Age": 7, "version": 1}])
    third = land(tmp_path, 3, NAME, [{"Id": "c", "Name": "c", "version": 1}])
    assert shown(AGE, [first, second, third]) == [("a", "a", None), ("b", "b", 7), ("c", "c", None)]


def test_rows_of_a_chunk_that_is_not_registered_are_not_shown(tmp_path: Path) -> None:
    only = land(tmp_path, 1, NAME, [{"Id": "a", "Name": "a", "version": 1}, {"Id": "x", "version": 1, "run": 99}])
    assert shown(NAME, [only]) == [("a", "a")]


def test_a_view_names_its_files_one_by_one() -> None:
    manifests = [manifest(1, ("p/one.parquet",)), manifest(2, ("p/o'two.parquet",))]
    view = external_views.view(STREAM, manifests)
    again = external_views.view(STREAM, manifests, replacing=True)
    assert again.text == view.text.replace("CREATE", "ALTER", 1)
    assert "BULK ('p/one.parquet', 'p/o''two.parquet'), DATA_SOURCE = 'novade_landing'" in view.text
    assert "*" not in view.text.partition("BULK (")[2].partition(")")[0]
    assert view.text.startswith("CREATE VIEW [salesforce].[contact] AS\n/* novade view 1 ")
    assert not view.labelled


def test_the_version_is_that_of_the_text() -> None:
    def version(*manifests: LandedFile) -> str | None:
        return external_views.version_of(external_views.view(STREAM, manifests).text)

    assert version(manifest(1)) == version(manifest(1))
    assert version(manifest(1)) != version(manifest(1), manifest(2))
    assert re.fullmatch(r"1 [0-9a-f]{16}", version(manifest(1)) or "")
    assert external_views.version_of("CREATE VIEW v AS SELECT 1") is None


def test_an_edited_view_has_no_version() -> None:
    text = external_views.view(STREAM, [manifest(1)]).text
    assert external_views.version_of(f"{text}\n") is not None
    assert external_views.version_of(text.replace("IS NULL", "IS NOT NULL")) is None


def test_a_column_that_vanished_keeps_its_last_values(tmp_path: Path) -> None:
    first = land(tmp_path, 1, AGE, [{"Id": "a", "Age": 1, "version": 1}, {"Id": "b", "Age": 2, "version": 1}])
    second = land(tmp_path, 2, AGE, [{"Id": "a", "Age": None, "version": 2}])
    third = land(tmp_path, 3, NAME, [{"Id": k, "Name": "new", "version": 3} for k in "abc"])
    assert shown(AGE, [first, second, third]) == [("a", "new", None), ("b", "new", 2), ("c", "new", None)]


def test_a_type_that_does_not_fit_goes_to_a_column_of_its_own(tmp_path: Path) -> None:
    other = (NAME[0], Column(name="Name", type=ColumnType.INTEGER))
    first = land(tmp_path, 1, NAME, [{"Id": "a", "Name": "a", "version": 1}])
    second = land(tmp_path, 2, other, [{"Id": "b", "Name": 7, "version": 1}])
    assert shown((*NAME, other[1]), [first, second]) == [("a", "a", None), ("b", None, 7)]


def test_notes_on_columns_make_no_shape() -> None:
    noted = (NAME[0], replace(NAME[1], note="a formula"))
    text = external_views.view(STREAM, [manifest(1), manifest(2, columns=noted)]).text
    assert text.count("OPENROWSET") == 1


def test_nothing_landed_is_said() -> None:
    with pytest.raises(ConfigurationError, match="landed nothing yet"):
        external_views.view(STREAM, [manifest(1, files=())])


def test_too_many_chunks_for_one_statement_are_said() -> None:
    many = [manifest(n) for n in range(1, external_views.MOST_MANIFESTS + 2)]
    with pytest.raises(ConfigurationError, match="4,001 landed chunks"):
        external_views.view(STREAM, many)
    widest = external_views.view(STREAM, many[:-1]).text
    assert len(re.findall(r"'[^']*'|\b\d+\b", widest)) < 20_000


def test_foundations_differ_by_engine() -> None:
    serverless = [s.text for s in external_views.foundations("serverless", "acme", "landing")]
    dedicated = [s.text for s in external_views.foundations("dedicated", "acme", "landing")]
    assert serverless == [
        "CREATE DATABASE SCOPED CREDENTIAL [novade_landing] WITH IDENTITY = 'Managed Identity'",
        "CREATE EXTERNAL DATA SOURCE [novade_landing] WITH (LOCATION = 'https://acme.dfs.core.windows.net/landing', "
        "CREDENTIAL = [novade_landing])",
        "CREATE EXTERNAL FILE FORMAT [novade_parquet] WITH (FORMAT_TYPE = PARQUET)",
    ]
    assert "IDENTITY = 'Managed Service Identity'" in dedicated[0]
    assert "LOCATION = 'abfss://landing@acme.dfs.core.windows.net'" in dedicated[1]
    assert dedicated[1].endswith("TYPE = HADOOP)")


def test_the_limit_is_in_whole_terabytes() -> None:
    assert external_views.data_limit(1, "daily").text == (
        "EXEC sp_set_data_processed_limit @type = N'daily', @limit_tb = 1"
    )
    with pytest.raises(ValueError, match="smallest is 1"):
        external_views.data_limit(0, "daily")


def test_an_external_table_has_the_columns_whose_type_never_changed() -> None:
    wider = (NAME[0], AGE[2], Column(name="Name", type=ColumnType.INTEGER))
    types = external_views.landed_columns([manifest(1), manifest(2, columns=wider)])
    text = external_views.external_table(
        external_views.landed_table(STREAM), types, external_views.landed_path(STREAM)
    ).text
    assert text.startswith(
        "CREATE EXTERNAL TABLE [novade_landed].[salesforce.contact] ([Id] nvarchar(4000) NULL, [Age] int NULL, "
        "[_novade_source_version] bigint NULL"
    )
    assert "LOCATION = '/salesforce/contact/*/*/*/*/part-*.parquet'" in text


def test_a_landing_is_a_part_of_its_container() -> None:
    place = external_views.location("acme", "landing", prefix="one/", endpoint="blob")
    assert place == "https://acme.blob.core.windows.net/landing/one"
    (_, source, _) = external_views.foundations("serverless", "acme", "landing", place=place)
    assert f"LOCATION = '{place}'" in source.text
