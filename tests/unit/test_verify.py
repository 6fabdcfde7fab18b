"""Sums, keys and counts: what a comparison says and what it must never hide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novade_core.errors import VerificationFailed
from novade_core.ledger.models import ComparisonState
from novade_core.streams import LandedFile, LoadResult
from novade_core.sync import verify
from novade_core.sync.verify import Difference, KeyDifference, by_month, check_sums, name_difference, overall

KEYS = st.lists(st.text("abcd", min_size=1, max_size=3), unique=True)
LABEL = "Salesforce Contact"


def landed(rows: int, name: str = "m") -> LandedFile:
    return LandedFile(
        seq=1, stream="s", run_id=1, plan_id=1, window=0, chunk=0, manifest_path=f"{name}.json", load_id=name, files=(),
        rows=rows, rejected=3, columns=(),
    )  # fmt: skip


def result(staged: int, loaded: int = 0, unchanged: int = 0, superseded: int = 0, duplicates: int = 0, name: str = "m"):
    return LoadResult(
        load_id=name, staged=staged, loaded=loaded, deleted=0, unchanged=unchanged, superseded=superseded,
        duplicates=duplicates,
    )  # fmt: skip


def test_sums_that_add_up_pass():
    check_sums([landed(10), landed(0, "n")], [result(0, name="n"), result(10, 4, 3, 2, 1)])


@pytest.mark.parametrize(
    "wrong", [result(10, 4, 3, 2), result(9, 4, 3, 2), result(10, 4, 3, 2, 2), result(11, 4, 3, 2, 1), result(0)]
)
def test_sums_that_do_not_add_up_name_the_manifest(wrong):
    with pytest.raises(VerificationFailed, match=r"m\.json holds 10 rows"):
        check_sums([landed(10)], [wrong])


def test_a_manifest_without_a_marker_is_named():
    with pytest.raises(VerificationFailed, match=r"n\.json has no load marker"):
        check_sums([landed(10), landed(1, "n")], [result(10, 10)])


@given(windows=st.lists(st.tuples(KEYS, KEYS), max_size=5))
def test_keys_differ_as_sets_do(windows):
    found = KeyDifference()
    for source, warehouse in windows:
        found.add(iter(source), iter(warehouse))
    difference = found.result()
    missing = [key for source, warehouse in windows for key in sorted(set(source) - set(warehouse))]
    extra = [key for source, warehouse in windows for key in sorted(set(warehouse) - set(source))]
    assert (difference.missing, difference.extra) == (tuple(missing), tuple(extra))
    assert (difference.missing_total, difference.extra_total) == (len(missing), len(extra))


@given(
    sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=6),
    limit=st.integers(1, 12),
)
def test_totals_are_complete_also_where_only_some_keys_are_named(sizes, limit):
    before, verify.MAX_KEYS = verify.MAX_KEYS, limit
    try:
        found = KeyDifference()
        for number, (missing, extra) in enumerate(sizes):
            found.add([f"m{number}-{i}" for i in range(missing)], [f"x{number}-{i}" for i in range(extra)])
    finally:
        verify.MAX_KEYS = before
    totals = sum(m for m, _ in sizes), sum(x for _, x in sizes)
    assert (found.missing_total, found.extra_total) == totals
    assert (len(found.missing), len(found.extra)) == (min(totals[0], limit), min(totals[1], limit))


def test_a_key_that_the_warehouse_holds_twice_is_one_too_many():
    found = KeyDifference()
    found.add(["a"], ["a", "a"])
    assert (found.extra, found.missing) == (["a"], [])


@given(
    source=st.dictionaries(st.sampled_from(["2024-01", "2024-02", "2024-03"]), st.integers(0, 5)),
    warehouse=st.dictionaries(st.sampled_from(["2024-01", "2024-02", "2024-04"]), st.integers(0, 5)),
)
def test_every_month_of_either_side_is_compared(source, warehouse):
    counts = by_month(source, warehouse)
    assert [c.window for c in counts] == sorted({*source, *warehouse})
    for c in counts:
        assert (c.source, c.warehouse) == (source.get(c.window, 0), warehouse.get(c.window, 0))
        assert (c.state is ComparisonState.EQUAL) == (c.source == c.warehouse)
        assert c.sentence.startswith(c.window)


@pytest.mark.parametrize(
    ("source", "warehouse", "in_flight", "state", "sentence"),
    [
        (1234, 1234, 0, ComparisonState.EQUAL, "Equal: 1,234 on both sides."),
        (0, 0, 9, ComparisonState.EQUAL, "Equal: 0 on both sides."),
        (12, 10, 2, ComparisonState.IN_FLIGHT, "2 records of Salesforce Contact changed at the source since"),
        (10, 12, 2, ComparisonState.IN_FLIGHT, "2 records of Salesforce Contact changed at the source since"),
        (13, 10, 2, ComparisonState.DIFFERS, "13 at the source, 10 in the warehouse (-3)."),
        (1000, 1500, 0, ComparisonState.DIFFERS, "1,000 at the source, 1,500 in the warehouse (+500)."),
        (None, 10, 0, ComparisonState.UNKNOWN, "The source could not be counted."),
        (10, None, 99, ComparisonState.UNKNOWN, "The warehouse could not be counted."),
    ],
)
def test_whole_counts_and_their_sentence(source, warehouse, in_flight, state, sentence):
    counts = overall(LABEL, source, warehouse, in_flight)
    assert (counts.window, counts.source, counts.warehouse, counts.state) == ("all", source, warehouse, state)
    assert counts.sentence.startswith(sentence)


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (
            Difference(extra=("a",), extra_total=1),
            "1 record of Salesforce Contact in the warehouse no longer at the source (purged there): a.",
        ),
        (
            Difference(missing=("a", "b", "c", "d"), missing_total=1200),
            "1,200 records of Salesforce Contact at the source not in the warehouse: a, b, c ….",
        ),
        (
            Difference(missing=("m",), missing_total=1, extra=("x", "y"), extra_total=2),
            "2 records of Salesforce Contact in the warehouse no longer at the source (purged there): x, y; "
            "1 record of Salesforce Contact at the source not in the warehouse: m.",
        ),
        (
            Difference(extra_total=7, skipped=1),
            "7 records of Salesforce Contact in the warehouse no longer at the source (purged there); "
            "1 month too large to compare by key.",
        ),
    ],
)
def test_a_difference_names_its_first_keys(difference, sentence):
    assert name_difference(LABEL, difference) == sentence


def test_a_difference_that_is_gone_when_the_keys_are_read_says_so():
    sentence = name_difference(LABEL, Difference())
    assert "keys agree by now" in sentence
