"""Every statement form that runs on a dedicated pool, as ``forms.txt`` lists them: a new one has to be added there.

A form is a statement without names, values and repetitions. They are taken from what runs on the pool, the driver's own
questions among it.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from novade_core.errors import LeaseLost, NovadeError
from novade_core.streams import ColumnType, DeleteMode
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_sql import Statement
from novade_core.warehouse.synapse_watch import copy_work, look_for_others
from sandbox.synapse.engine import Engine, Result
from tests.contracts.begun import THING, begun, empty, halfway, land_more
from tests.contracts.houses import ADAPTERS, COLUMNS, House, column, row, stream
from tests.contracts.test_warehouse_grants import prepare
from tests.pools import pool_in

LIST = Path(__file__).with_name("forms.txt")
CORE = Path(__file__).parents[2] / "novade_core"
#: What else makes statements: those of published views go to a pool or to the serverless endpoint.
OTHERS = {"external_views", "published", "serverless", "publish"}

_TYPE = r"(?:nvarchar|decimal|datetime2)\((?:\d+|max)(?:, ?\d+)?\)|\b(?:bigint|int|bit|float|date)\b"
_RULES = (
    (r"N?'nv_[^']*'", "'label'"),
    (r"'(?:[^']|'')*'", lambda m: "'…'" if m[0] not in _OWN_WORDS else m[0]),
    (r"\[(?!_?novade)(?:[^\]]|\]\])*\]", "[…]"),
    (r"\[_novade_(?:new|old)_[^\]]*\]", "[…]"),
    (r"@P\d+", "?"),
    (rf"(?:{_TYPE})(?: COLLATE Latin1_General_100_BIN2)?", "type"),
    (r"(?<![\w#@])\d+\b", "0"),
    (r"\s+", " "),
)
_OWN_WORDS = {
    *("'load'", "'unchanged'", "'superseded'", "'duplicate'", "'open'", "'closed'", "'committed'", "'U'", "'PARQUET'"),
}


_BREAKS = re.compile(r"((?:^| )(?:SELECT|FROM|WHERE|ON|BY|SET|WHEN|THEN|JOIN|END|WITH|OPTION|GROUP|ORDER) )")


def form(text: str) -> str:
    """The statement without what differs from one use to the next: names, values, how many columns or keys."""
    for pattern, by in _RULES:
        text = re.sub(pattern, by, text)  # type: ignore[arg-type]  # a text or a function
    inner: list[str] = []
    while "(" in text:  # the innermost parentheses first, each then stands for itself
        shorter = re.sub(r"\(([^()]*)\)", lambda m: _kept(inner, f"({_once(m[1])})"), text)
        if shorter == text:
            break
        text = shorter
    text = _once(text)
    while "\x01" in text:
        text = re.sub(r"\x01(\d+)\x02", lambda m: inner[int(m[1])], text)
    return text.strip()


def _kept(inner: list[str], text: str) -> str:
    if text not in inner:
        inner.append(text)
    return f"\x01{inner.index(text)}\x02"


def _once(text: str) -> str:
    """Equal items of a list once."""
    unions = dict.fromkeys(_lists(part) for part in text.split(" UNION ALL "))
    return " UNION ALL ".join(unions)


def _lists(text: str) -> str:
    clauses = _BREAKS.split(text)
    for between in (", ", " AND "):
        clauses = [between.join(dict.fromkeys(clause.split(between))) for clause in clauses]
    return "".join(clauses)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = empty(tmp_path / "house")
    yield house
    house.close()


class Sent:
    """What runs on a pool, and the steps of those statements that are ours."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: set[str] = set()
        self.steps: set[str] = set()
        sent, run = self, Link._run

        class Recording(Engine):
            def batch(self, text: str, values: Mapping[str, tuple[str, Any]]) -> Iterator[Result]:
                sent.texts.add(text)  # also what stands inside of an IF or an EXEC
                yield from super().batch(text, values)

        def noted(link: Link, statement: Statement) -> Any:
            self.steps.add(statement.step)
            return run(link, statement)

        pool_in(house.folder).pool.session = Recording
        monkeypatch.setattr(Link, "_run", noted)


@pytest.fixture
def sent(house: House, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """After all that can be asked of a pool was asked once."""
    sent = Sent(house, monkeypatch)
    pool = pool_in(house.folder)
    begun(house)
    house.load(THING, land_more(house))
    house.load(THING, house.land(THING, row("a", 1)), older_waiting=False)
    with pytest.raises(LeaseLost):
        house.load(THING, house.land(THING, row("q", 1)), fence=0)
    halfway(house)
    house.replace(THING, *house.landed.values())
    house.replace(THING, *house.landed.values())
    house.replace(THING)
    _particular_tables(house)
    with house.session() as session:
        pool.pool.faults.update({"cut": {"match": "^COMMIT", "when": "after"}})
        session.load(house.request(THING, [house.land(THING, row("k", 1), row("l", 1))]))
    with pool.warehouse().session() as own:
        own.count(THING)
        own.count_approximately(THING)
        own.counts_by_month(THING, "Stamp")
        list(own.keys(THING, "Stamp", "2024-11"))
    pool.pool.faults.update({"cut": {"match": "^DROP TABLE .novade_stage"}})
    house.load(THING, house.land(THING, row("m", 1)))
    house.load(THING, house.land(THING, row("n", 1)))
    look_for_others(pool.settings())
    copy_work(pool.settings())
    prepare(pool)
    return sent


def _particular_tables(house: House) -> None:
    """Soft deletes, a key of several parts, columnstore and hash, storage that takes other credentials."""
    pair = stream("pair", primary_key=("Id", "Number"), delete_mode=DeleteMode.SOFT)
    columns = (column("Id", length=18), *COLUMNS[1:3], column("Number", ColumnType.INTEGER))
    large = {"hash_from_rows": 1, "columnstore_from_rows": 1}
    spread = replace(house.adapter, make=lambda folder: pool_in(folder).warehouse(**large))
    big = House(adapter=spread, folder=house.folder, landed=house.landed)
    first = big.land(pair, row("a", 1, "1"), row("b", 1, "2", deleted=True), columns=columns)
    more = big.land(pair, (*row("a", 2, "1"), "text"), columns=(*columns, column("Text")))
    big.load(pair, first)
    big.load(pair, more)
    big.replace(pair, first, more)
    with big.session() as session:
        list(session.keys(pair, "Stamp", "2024-11"))
    for credential in ("none", "managed_identity"):  # whether the stand-in's storage lets them in is another matter
        with contextlib.suppress(NovadeError):
            own = pool_in(house.folder).warehouse(copy_credential=credential)
            with own.session() as session:
                session.load(house.request(THING, [house.land(THING, row("p", 1))]))


def test_every_form_that_runs_on_a_pool_is_listed_and_every_statement_that_can_be_built_is_among_them(sent: Sent):
    forms = {form(text) for text in sent.texts}
    listed = set(LIST.read_text("utf-8").splitlines())
    assert sorted(forms - listed) == []
    assert sorted(listed - forms) == [], "nothing sends these any more"
    assert {
        b for b in built() if b not in sent.steps and not (b[-1] == "_" and any(b in s for s in sent.steps))
    } == set()


def built() -> set[str]:
    """The steps of all statements that our code makes; one that ends with an underscore begins several."""
    found = set()
    for path in sorted(CORE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            if node.func.id not in ("Statement", "_ddl"):
                continue
            assert path.stem.startswith("synapse_") or path.stem in OTHERS, f"{path} makes statements of its own"
            if path.stem.startswith("synapse_"):
                found |= {n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)}
    assert len(found) > 50
    return found - {"INSERT"}  # by which the fence's two statements are told apart


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT [a] FROM [s].[t] WHERE [k] = @P1", "SELECT [b]]c] FROM [s].[it's] WHERE [x] = @P2"),
        (
            "CREATE TABLE [a].[b] ([c] int NULL)",
            "CREATE TABLE [a].[b] ([c] nvarchar(max) NULL, [d] decimal(3, 1) NULL)",
        ),
    ],
)
def test_a_form_is_the_same_for_all_names_and_types(one: str, other: str):
    assert form(one) == form(other)


def test_another_condition_is_another_form():
    assert form("DELETE FROM [a].[b] WHERE [c] = 1") != form("DELETE FROM [a].[b] WHERE [c] = 1 OR [d] = 1")


HARD_NAMES = ("a]b [c]]", "select", "x" * 127 + "]", "two 'words' \"quoted\"")


@pytest.mark.parametrize("engine", sorted(ADAPTERS))
def test_a_hard_name_is_taken_as_a_table_as_a_key_and_as_a_column(engine: str, tmp_path: Path):
    house = House(adapter=ADAPTERS[engine], folder=tmp_path)
    for number, name in enumerate(HARD_NAMES):
        key, other = HARD_NAMES[number - 1], HARD_NAMES[number - 2]
        to = stream(name, primary_key=(key,))
        columns = (column(key), *COLUMNS[1:], column(other))
        house.load(to, house.land(to, (*row("a", 1), "one"), columns=columns))
        house.load(to, house.land(to, (*row("a", 2), "two"), (*row("b", 1), "new"), columns=columns))
        assert house.rows(to, key, other) == [("a", "two"), ("b", "new")]
        house.replace(to, house.land(to, (*row("c", 1), "three"), columns=columns))
        assert house.rows(to, key, other) == [("c", "three")]
        with house.session() as session:
            assert list(session.keys(to, "Stamp", "2024-11")) == ["c"]
    house.close()
