"""The facts of the probe as data: each is whole, and docs/probe.md lists them as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from novade_core.warehouse.probe import FACTS
from novade_core.warehouse.probe_facts import READ_FACTS
from novade_core.warehouse.probe_questions import Call, Columns, Count, Fact, Outcome, Value
from novade_core.warehouse.probe_remote import _QUESTIONS
from novade_core.warehouse.probe_writes import WRITE_FACTS
from sandbox.synapse import facts as followed

PROJECT = Path(__file__).resolve().parents[2]
IDS = [fact.id for fact in FACTS]


def documented() -> list[list[str]]:
    text = (PROJECT / "docs" / "probe.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if re.match(r"\| `[a-z_]+\.[a-z_0-9]+` \|", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def follows(fact: Fact) -> bool:
    known = {*followed.PLAIN, *followed.CHOICES, *followed.VIEWS, *followed.NUMBERED}
    return fact.id in known


def test_the_document_lists_every_fact_as_it_is() -> None:
    wanted = [[f"`{f.id}`", f.says, f.stand_in, "yes" if follows(f) else "no", f.decides, f.source] for f in FACTS]
    assert documented() == wanted


def test_names_are_used_once() -> None:
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("fact", FACTS, ids=IDS)
def test_a_fact_is_whole(fact: Fact) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_0-9]+", fact.id)
    assert fact.says.endswith(".")
    assert fact.decides.endswith(".")
    assert fact.source
    assert "|" not in fact.says + fact.decides + fact.source
    if isinstance(fact.asks, Value):
        assert re.fullmatch(fact.asks.shape, fact.stand_in) or fact.asks.refusable
    elif isinstance(fact.asks, Outcome):
        assert re.fullmatch(r"accepted|refused \d+", fact.stand_in)
    elif isinstance(fact.asks, Columns):
        assert fact.stand_in == "all there"
    elif isinstance(fact.asks, Count):
        assert fact.stand_in in ("told", "not told")
    else:
        assert fact.asks.name in _QUESTIONS


def test_facts_that_write_say_so() -> None:
    assert not any(fact.writes for fact in READ_FACTS)
    assert all(fact.writes for fact in WRITE_FACTS)
    changing = re.compile(r"\b(CREATE|DROP|ALTER|INSERT|UPDATE|DELETE|COPY|RENAME|TRUNCATE|KILL|GRANT|INTO)\b", re.I)
    for fact in READ_FACTS:
        if not isinstance(fact.asks, Call | Columns | Count):
            assert not [text for text in (*fact.asks.before, fact.asks.sql) if changing.search(text)], fact.id


def test_every_question_of_the_other_services_is_a_fact() -> None:
    assert {fact.asks.name for fact in FACTS if isinstance(fact.asks, Call)} == set(_QUESTIONS)


def test_what_the_stand_in_follows_are_facts() -> None:
    known = {*followed.PLAIN, *followed.CHOICES, *followed.VIEWS, *followed.NUMBERED}
    assert known <= set(IDS)
    stand_in = {fact.id: fact.stand_in for fact in FACTS}
    for name, (_, choices) in followed.CHOICES.items():
        assert stand_in[name] in choices, name
    numbers = [stand_in[name] for name in followed.NUMBERED]
    assert len(set(numbers)) == len(numbers), "one number cannot be replaced in two ways"
    for number in numbers:
        assert [f.id for f in FACTS if f.stand_in == number and f.id not in followed.NUMBERED] == []
