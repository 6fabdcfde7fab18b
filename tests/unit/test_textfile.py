"""Records as text files, read back by the engine that types them."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novade_core.sources.textfile import write_text
from novade_core.streams import TextFile
from novade_core.sync import reading


def read(text: TextFile) -> list[tuple[str | None, ...]]:
    with duckdb.connect(config={"threads": "1"}) as connection:
        return connection.execute(f"SELECT * FROM {reading.table_of(text)}").fetchall()


def test_the_file_is_what_the_format_says(tmp_path):
    text = write_text(tmp_path / "x.csv", ["Id", 'a "b"'], [["1", None], ["", 'say "hi"'], [None, "a\nb"]])
    assert text.path.read_bytes() == b'"Id","a ""b"""\n"1",\n"","say ""hi"""\n,"a\nb"\n'
    assert text.header == ("Id", 'a "b"')
    assert text.quoted_empty_is_null is False


@pytest.mark.parametrize(
    "value",
    [None, "", " ", '"', '""', ",", "\n", "\r\n", "\r", 'a,b\n"c"', "NA", "null", "None", "\\N", "#N/A", "😀", "\x1f"],
)
def test_a_value_is_read_back_as_it_was(tmp_path, value):
    text = write_text(tmp_path / "x.csv", ["a", "b"], [["1", value], ["2", "end"]])
    assert read(text) == [("1", value), ("2", "end")]


def test_what_no_file_can_hold_is_left_out_or_replaced(tmp_path):
    text = write_text(tmp_path / "x.csv", ["a", "b"], [["a\0b", "\ud83d"], ["\ud83d\ude00", "ok"]])
    assert read(text) == [("ab", "�"), ("😀", "ok")]


def test_no_rows_are_no_records(tmp_path):
    assert read(write_text(tmp_path / "x.csv", ["a", "b"], [])) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(*[st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))] * 3),
        max_size=6,
    )
)
def test_any_text_is_read_back_as_it_was(tmp_path, rows):
    rows = [("key", *row) for row in rows]
    assert read(write_text(tmp_path / "x.csv", ["k", "a", "b", "c"], rows)) == rows
