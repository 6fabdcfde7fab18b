"""Deletes at the source: marked or removed, and never revived by something older."""

from __future__ import annotations

import pytest

from novade_core.streams import DeleteMode
from tests.contracts.houses import House, parts, row, stream

SOFT = stream("soft")
HARD = stream("hard", delete_mode=DeleteMode.HARD)
BOTH = pytest.mark.parametrize("to", [SOFT, HARD], ids=["soft", "hard"])


def test_a_soft_delete_keeps_the_row_and_says_when(house: House):
    house.load(SOFT, house.land(SOFT, row("a", 1)))
    (result,) = house.load(SOFT, house.land(SOFT, row("a", 5, deleted=True))).results
    assert (result.loaded, result.deleted) == (1, 1)
    ((key, deleted_at, stamp),) = house.rows(SOFT, "Id", "_novade_deleted_at", "Stamp")
    assert key == "a"
    assert deleted_at == stamp
    assert house.count(SOFT) == 0


def test_a_hard_delete_removes_the_row_and_leaves_a_tombstone(house: House):
    house.load(HARD, house.land(HARD, row("a", 1), row("b", 1)))
    (result,) = house.load(HARD, house.land(HARD, row("a", 5, deleted=True))).results
    assert (result.loaded, result.deleted) == (1, 1)
    assert house.names(HARD) == {"b": "x"}
    assert house.query('SELECT stream, "key" FROM novade.novade_tombstones') == [("test.hard", "a")]


@BOTH
def test_an_older_record_revives_nothing(house: House, to):
    old = house.land(to, row("a", 1))
    house.load(to, house.land(to, row("a", 5, deleted=True)))
    (result,) = house.load(to, old).results
    assert parts(result) == (0, 0, 1, 0)
    assert house.count(to) == 0


@BOTH
def test_a_delete_that_is_older_than_the_row_deletes_nothing(house: House, to):
    delete = house.land(to, row("a", 1, deleted=True))
    house.load(to, house.land(to, row("a", 5)))
    (result,) = house.load(to, delete).results
    assert (parts(result), result.deleted) == ((0, 0, 1, 0), 0)
    assert house.count(to) == 1


@BOTH
def test_a_newer_record_undeletes(house: House, to):
    house.load(to, house.land(to, row("a", 5, deleted=True)))
    house.load(to, house.land(to, row("a", 6, "back")))
    assert house.count(to) == 1
    assert house.rows(to, "Id", "Name", "_novade_deleted_at") == [("a", "back", None)]
    assert house.query('SELECT "key" FROM novade.novade_tombstones') == []
    (result,) = house.load(to, house.land(to, row("a", 7))).results
    assert result.loaded == 1


@BOTH
def test_the_same_delete_again_is_unchanged(house: House, to):
    house.load(to, house.land(to, row("a", 1)), house.land(to, row("a", 5, deleted=True)))
    (result,) = house.load(to, house.land(to, row("a", 5, deleted=True))).results
    assert parts(result) == (0, 1, 0, 0)


@BOTH
def test_of_a_record_and_its_delete_in_one_load_the_newer_decides(house: House, to):
    house.load(to, house.land(to, row("a", 1), row("a", 2, deleted=True), row("b", 2), row("b", 1, deleted=True)))
    with house.session() as session:
        assert list(session.keys(to, "Stamp", "2024-11")) == ["b"]


def test_a_delete_of_the_same_version_that_landed_later_wins_and_is_not_revived(house: House):
    alive, gone = house.land(HARD, row("a", 1)), house.land(HARD, row("a", 1, deleted=True))
    house.load(HARD, gone)
    (result,) = house.load(HARD, alive).results
    assert parts(result) == (0, 0, 1, 0)
    assert house.count(HARD) == 0


def test_a_hard_delete_of_what_never_was_there_is_remembered(house: House):
    old = house.land(HARD, row("a", 1))
    house.load(HARD, house.land(HARD, row("a", 2, deleted=True)))
    house.load(HARD, old)
    assert house.count(HARD) == 0


def test_tombstones_are_kept_by_stream(house: House):
    other = stream("other", delete_mode=DeleteMode.HARD)
    house.load(HARD, house.land(HARD, row("a", 5, deleted=True)))
    (result,) = house.load(other, house.land(other, row("a", 1))).results
    assert result.loaded == 1


def test_a_full_reload_of_a_hard_stream_leaves_deleted_records_out_and_remembers_them(house: House):
    old = house.land(HARD, row("a", 1))
    (result,) = house.replace(HARD, house.land(HARD, row("a", 3, deleted=True), row("b", 1))).results
    assert (result.loaded, result.deleted) == (2, 1)
    assert house.names(HARD) == {"b": "x"}
    house.load(HARD, old)
    assert house.names(HARD) == {"b": "x"}


def test_a_full_reload_that_holds_a_record_again_takes_its_tombstone_away(house: House):
    """Otherwise table and tombstone both hold the key, and every later load of it would be refused."""
    house.load(HARD, house.land(HARD, row("a", 2, deleted=True)))
    house.replace(HARD, house.land(HARD, row("a", 3)))
    (result,) = house.load(HARD, house.land(HARD, row("a", 4, "newer"))).results
    assert parts(result) == (1, 0, 0, 0)
    assert house.names(HARD) == {"a": "newer"}


def test_a_full_reload_of_a_soft_stream_keeps_the_marked(house: House):
    house.replace(SOFT, house.land(SOFT, row("a", 1, deleted=True), row("b", 1)))
    assert house.names(SOFT) == {"a": "x", "b": "x"}
    assert house.count(SOFT) == 1


def test_composite_keys_leave_tombstones_of_all_their_parts(house: House):
    pair = stream("pair", primary_key=("Id", "Name"), delete_mode=DeleteMode.HARD)
    house.load(pair, house.land(pair, row("a", 2, "1", deleted=True)))
    house.load(pair, house.land(pair, row("a", 1, "1"), row("a", 1, "2")))
    assert house.rows(pair, "Id", "Name") == [("a", "2")]
