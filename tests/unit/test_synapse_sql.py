"""Every statement form that can be sent to a pool, and the rules that all of them keep."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime

import pytest

from novade_core.settings import WarehouseSettings
from novade_core.streams import Column, ColumnType
from novade_core.warehouse import synapse_load_sql as load_sql
from novade_core.warehouse import synapse_sql as sql
from novade_core.warehouse.synapse_driver import connection_string
from novade_core.warehouse.synapse_schema import SYNAPSE, storage, synapse_widened
from tests.contracts.houses import stream

NOW = datetime(2024, 11, 18, 14, tzinfo=UTC)
T, V, S, K = (sql.Table("sales]force", name) for name in ("order", "v", "s", "kept"))
KEYS = [sql.Key("the 'key'", True), sql.Key("n", False)]
PART = load_sql.Part(
    S, [load_sql.Value("a]b", "nvarchar(4000)", "a]b", binary=True), load_sql.Value("c", "int", kept="c0")]
)
PIECE = load_sql.Piece(7_000_001, 3, 7)
SWAP = sql.Swap("sw_1", 2, "open", True, "new", "old")

#: Every function that makes a statement, with an example. A new form has to be added here.
FORMS = {
    "lock_fences": sql.lock_fences(),
    "fence_of": sql.fence_of("s"),
    "make_fence": sql.make_fence("s"),
    "schemas": sql.schemas(),
    "tables": sql.tables("a", "b"),
    "columns": sql.columns(T),
    "columnstore": sql.columnstore(T),
    "create_schema": sql.create_schema("a]b"),
    "create_table": sql.create_table(T, {"a]b": "int"}, sql.STAGING),
    "create_fence_table": sql.create_fence_table(),
    "drop_table": sql.drop_table(sql.Table("it's", "x")),
    "add_columns": sql.add_columns(T, {"a": "int", "b": "bit"}),
    "widen_column": sql.widen_column(T, "a", "bigint"),
    "update_statistics": sql.update_statistics(T),
    "copy_into": sql.copy_into(S, ["a"], ["https://x/it's.parquet"], "Storage Account Key", "k=="),
    "swaps": sql.swaps("s"),
    "open_swap": sql.open_swap("s", SWAP),
    "close_swaps": sql.close_swaps("s"),
    "commit_swap": sql.commit_swap("s", "sw_1"),
    "forget_swap": sql.forget_swap("s", "sw_1"),
    "rename_in_swap": sql.rename_in_swap(T, "it's", "sw_1"),
    "rename": sql.rename(T, "x"),
    "count_all": sql.count_all(T),
    "count_live": sql.count_live(T),
    "count_approximately": sql.count_approximately(T),
    "count_by_month": sql.count_by_month(T, "Created"),
    "keys_of_month": sql.keys_of_month(T, KEYS, "Created", 2024, 2),
    "classify": load_sql.classify(V, [(S, [PIECE])], KEYS, T, "s"),
    "verdict_counts": load_sql.verdict_counts(V),
    "note_landing": load_sql.note_landing(T, V, KEYS),
    "note_tombstones": load_sql.note_tombstones(V, "s"),
    "keep": load_sql.keep(K, T, V, KEYS, ["c"]),
    "delete_replaced": load_sql.delete_replaced(T, V, KEYS),
    "delete_all": load_sql.delete_all(T),
    "insert_rows": load_sql.insert_rows(T, PART, V, KEYS, NOW, skip_deleted=True, kept=K),
    "replacement": load_sql.replacement(
        T, sql.Storage(hash_column="n"), [PART, PART], V, KEYS, NOW, skip_deleted=False
    ),
    "unbury": load_sql.unbury(V, "s"),
    "bury": load_sql.bury(V, "s"),
    "markers": load_sql.markers("s", ["a", "b"]),
    "unmark": load_sql.unmark("s", ["a"]),
    "mark": load_sql.mark("s", 7, NOW, [load_sql.Marker("a", 1, (1, 2, 3, 4, 5, 6))] * 2),
}


def test_every_form_is_listed():
    made = {
        name
        for module in (sql, load_sql)
        for name, made in inspect.getmembers(module, inspect.isfunction)
        if made.__module__ == module.__name__ and made.__annotations__.get("return") == "Statement"
    }
    assert made == set(FORMS)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_form_has_as_many_places_as_parameters_and_none_of_what_a_pool_refuses(name):
    statement = FORMS[name]
    bare = re.sub(r"\[(?:[^\]]|\]\])*\]|'(?:[^']|'')*'", "", statement.text)
    assert bare.count("?") == len(statement.parameters)
    assert len(statement.parameters) <= sql.MAX_PARAMETERS
    for refused in (r"\bIF EXISTS [^(]", r"\bVALUES\b", r"\bOFFSET\b", r"\bMERGE\b", r"\bTRUNCATE\b", r"CHECKSUM_AGG"):
        assert not re.search(refused, bare), refused
    assert statement.text.count("[") >= bare.count("[")


def test_steps_are_told_apart_and_labels_hold_letters_digits_and_underscores():
    steps = [s.step for s in FORMS.values()]
    assert len(set(steps)) == len(steps)
    assert all(re.fullmatch(r"[a-z_]+", s) for s in steps)
    assert sql.label(7, "two words; -- ü", "copy") == " OPTION (LABEL = 'nv_7_two_words_copy')"


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 129, "😀" * 65])
def test_what_no_pool_can_hold_is_no_identifier(name):
    with pytest.raises(ValueError, match="identifier"):
        sql.identifier(name)


@pytest.mark.parametrize("name", ["a]b", "[a]", "x" * 128, "😀" * 64, "select", "a.b", "it's"])
def test_an_identifier_is_one_bracketed_name(name):
    assert sql.identifier(name)[1:-1].replace("]]", "]") == name


def test_a_secret_is_taken_out_of_a_statement():
    text = sql.copy_into(S, ["a"], ["https://x"], "Storage Account Key", "it's secret").text
    assert "secret'" in text
    assert sql.redacted(text).endswith("SECRET = '***'))")


@pytest.mark.parametrize(
    ("current", "wanted", "expected"),
    [
        ("int", "bigint", "bigint"),
        ("bigint", "int", "bigint"),
        ("int", "decimal(18,2)", "decimal(18,2)"),
        ("nvarchar(4000)", "nvarchar(max)", "nvarchar(max)"),
        ("nvarchar(max)", "nvarchar(4000)", "nvarchar(max)"),
        ("int", "nvarchar(max)", None),
        ("date", "datetime2(6)", None),
        ("decimal(38,0)", "decimal(38,2)", None),
    ],
)
def test_a_type_widens_only_where_nothing_is_lost(current, wanted, expected):
    assert synapse_widened(current, wanted) == expected


def test_a_sideline_is_a_name_too_even_of_the_longest_column():
    one, other = ("x" * 127 + end for end in "yz")
    sides = {SYNAPSE.sideline(name, ColumnType.DECIMAL) for name in (one, other)}
    assert len(sides) == 2
    assert all(len(s) <= sql.MAX_IDENTIFIER and s.endswith("__decimal") for s in sides)


def test_a_table_is_spread_and_stored_by_its_size():
    settings = WarehouseSettings(hash_from_rows=10, columnstore_from_rows=100)
    types = {"Id": SYNAPSE.of(Column(name="Id", type=ColumnType.TEXT, length=18))}
    assert storage(settings, stream(), types, 9).sql == "DISTRIBUTION = ROUND_ROBIN, HEAP"
    assert storage(settings, stream(), types, 10).sql == "DISTRIBUTION = HASH([Id]), HEAP"
    assert storage(settings, stream(), types, 100).index == "CLUSTERED COLUMNSTORE INDEX"
    assert storage(settings, stream(), types | {"Long": "nvarchar(max)"}, 100).index == "HEAP"


def test_a_connection_to_another_machine_is_encrypted():
    given = {"kind": "synapse", "server": "acme.sql.azuresynapse.net", "database": "pool"}
    assert "Encrypt=yes" in connection_string(WarehouseSettings.model_validate(given), "x")
    with pytest.raises(Exception, match="another machine"):
        connection_string(WarehouseSettings.model_validate(given | {"encrypt": False}), "x")


def test_a_password_cannot_end_its_place_in_the_connection_string():
    given = {"server": "127.0.0.1", "database": "p", "auth": "sql", "user": "u", "password": "a;}UID=b"}
    text = connection_string(WarehouseSettings.model_validate(given), "x")
    assert text.endswith("UID=u;PWD={a;}}UID=b};")
