"""What is particular to a dedicated pool: connections that break at any statement, labels, pauses, waking workers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from novade_core.errors import AuthenticationFailed, LeaseLost, NovadeError, RetryableError, WarehouseBusy
from novade_core.streams import LandedFile
from tests.contracts.begun import THING, begun, copied, empty, halfway, land_more
from tests.contracts.houses import ADAPTERS, House, parts, row, stream
from tests.pools import RunningPool, pool_in


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(adapter=ADAPTERS["synapse"], folder=tmp_path)
    yield house
    house.close()


@pytest.fixture
def pool(house: House) -> RunningPool:
    return pool_in(house.folder)


def attempt(house: House, method: str, manifest: LandedFile) -> object:
    """What a load answers, or None where it can be tried again."""
    try:
        return getattr(house, method)(THING, manifest).results
    except RetryableError:
        return None


#: Name -> (state at the beginning, what is done, the first and the last statement that is cut): a load and a full
#: reload anywhere, beyond that only what these two do not send.
DISTURBED: dict[str, tuple[Callable[[House], House], str, str]] = {
    "load": (begun, "load", ""),
    "full reload": (begun, "replace", ""),
    "first load": (lambda house: house, "load", r"CREATE SCHEMA|CREATE TABLE \[(novade|test)\]"),
    "load that mends": (halfway, "load", r".*\[novade_swaps\]"),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", DISTURBED)
def test_a_connection_cut_at_any_statement_then_a_run_again_ends_like_an_undisturbed_one(tmp_path, what, when):
    begin, method, ends = DISTURBED[what]
    origin = begin(empty(tmp_path / "origin"))
    manifest = land_more(origin)
    undisturbed = copied(origin, tmp_path / "undisturbed")
    getattr(undisturbed, method)(THING, manifest)
    said, expected = list(pool_in(undisturbed.folder).pool.faults.seen), undisturbed.everything()
    undisturbed.close()
    matching = [number for number, text in enumerate(said) if re.match(ends, text)]
    first, last = matching[0], matching[-1]
    if when == "after":  # a query has no effect: its lost answer is the same as a cut before it
        strikes = [number for number, text in enumerate(said) if not text.startswith("SELECT")]
    else:
        strikes = list(range(len(said)))
    cuts = [(n, said[at]) for n, at in enumerate(strikes, 1) if first <= at <= last]
    assert len(cuts) > 4
    for number, statement in cuts:
        house = copied(origin, tmp_path / str(number))
        faults = pool_in(house.folder).pool.faults
        faults.update({"cut": {"n": number, "when": when}})
        result = attempt(house, method, manifest)
        assert not faults.set, (number, statement)
        again = getattr(house, method)(THING, manifest).results
        assert house.everything() == expected, (number, statement)
        assert result in (None, again), (number, statement)
        left = house.query("SELECT name FROM sys.tables WHERE name LIKE '%[_]r7[_]%' OR name LIKE '[_]novade[_]%'")
        assert left == [], (number, statement)
        house.close()
    origin.close()


def test_a_lost_answer_to_commit_is_looked_up_and_not_done_twice(house: House, pool: RunningPool):
    begun(house)
    manifest = land_more(house)
    with house.session() as session:
        pool.pool.faults.update({"cut": {"match": "^COMMIT", "when": "after"}})
        (result,) = session.load(house.request(THING, [manifest])).results
    assert parts(result) == (3, 0, 1, 1)
    assert not pool.pool.faults.set


def test_a_commit_that_did_not_happen_is_retryable_and_leaves_no_marker(house: House, pool: RunningPool):
    begun(house)
    before = house.everything()
    manifest = land_more(house)
    with house.session() as session:
        pool.pool.faults.update({"cut": {"match": "^COMMIT", "when": "before"}})
        with pytest.raises(RetryableError, match="not in the warehouse"):
            session.load(house.request(THING, [manifest]))
    house.query("SELECT 1")
    assert [t for t in house.everything() if t[0][0] != "novade_stage"] == before


def test_a_passing_fault_before_commit_is_overcome_in_place(house: House, pool: RunningPool):
    begun(house)
    manifest = land_more(house)
    with pool.warehouse(tries=3).session() as session:
        pool.pool.faults.update({"error": {"number": 40501, "match": "COPY INTO"}, "cut": {"match": "^DELETE"}})
        (result,) = session.load(house.request(THING, [manifest])).results
    assert parts(result) == (3, 0, 1, 1)
    assert not pool.pool.faults.set


def test_the_number_of_statements_does_not_depend_on_rows_or_manifests(house: House, pool: RunningPool):
    begun(house)
    numbers = set()
    for rows, manifests in ((1, 1), (3_000, 1), (10, 7)):
        landed = [
            house.land(THING, *(row(f"{rows}-{manifests}-{m}-{i}", 1) for i in range(rows))) for m in range(manifests)
        ]
        with house.session() as session:
            pool.pool.faults.seen.clear()
            session.load(house.request(THING, landed))
        numbers.add(len(pool.pool.faults.seen))
    assert len(numbers) == 1
    assert numbers.pop() < 40


def test_statements_say_which_run_table_and_step_they_are_of(house: House, pool: RunningPool):
    begun(house)
    labels = {r.label for r in pool.pool.requests if r.label}
    assert {"nv_7_thing_copy", "nv_7_thing_classify", "nv_7_thing_delete", "nv_7_thing_insert"} <= labels
    assert all(re.fullmatch(r"nv_\d+_[A-Za-z0-9_]+", text) for text in labels if text.startswith("nv_"))


def test_a_paused_pool_is_busy_and_says_what_to_do(house: House, pool: RunningPool):
    pool.pool.pause()
    with pytest.raises(WarehouseBusy, match="is paused") as paused, house.session():
        pass
    assert "Resume" in paused.value.hint
    assert paused.value.retryable


def test_a_pool_that_warms_up_is_waited_for(pool: RunningPool):
    pool.pool.faults.update({"login": {"number": 42109, "times": 2}})
    with pool.warehouse(tries=3).session() as session:
        assert session.count(THING) is None


def test_a_refused_login_is_not_tried_again(pool: RunningPool):
    with pytest.raises(AuthenticationFailed) as refused, pool.warehouse(tries=9, password="wrong").session():
        pass
    assert "wrong" not in refused.value.message + refused.value.hint


def test_a_worker_that_lost_its_fence_in_a_full_reload_renames_nothing(house: House, pool: RunningPool):
    """Its guard is cut after the lease was asked, a later holder reloads, then it wakes and goes on renaming."""
    begun(house)
    stale, later = house.land(THING, row("a", 2, "stale")), house.land(THING, row("a", 3, "later"))
    woken = []

    def sleep() -> None:
        if not woken:
            woken.append(True)
            pool.pool.connections[-1].close()  # the guard, which was opened last
            house.replace(THING, later, fence=2)

    with house.session() as session, pytest.raises((LeaseLost, NovadeError)):
        session.replace(house.request(THING, [stale], before_commit=sleep))
    assert house.names(THING) == {"a": "later"}
    house.load(THING, house.land(THING, row("b", 1)), fence=2)
    assert house.names(THING) == {"a": "later", "b": "x"}


def test_a_secret_is_never_part_of_an_error_or_log(house: House, pool: RunningPool, caplog):
    manifest = house.land(THING, row("a", 1))
    with (
        pytest.raises(NovadeError) as refused,
        pool.warehouse(copy_secret="c2VjcmV0IG9mIG91cnM=").session() as session,
    ):
        session.load(house.request(THING, [manifest]))
    assert "c2VjcmV0" not in refused.value.message + refused.value.hint + caplog.text


def test_freetds_loads_and_counts_as_well(house: House, pool: RunningPool):
    manifest = house.land(THING, row("a", 1), row("ä😀", 2), row("c", 1, deleted=True))
    with pool.warehouse(driver="FreeTDS").session() as session:
        (result,) = session.load(house.request(THING, [manifest])).results
        assert session.count(THING) == 2
        assert session.counts_by_month(THING, "Stamp") == {"2024-11": 2}
        assert sorted(session.keys(THING, "Stamp", "2024-11")) == ["a", "ä😀"]
        session.replace(house.request(THING, [house.land(THING, row("b", 1))]))
        assert session.count(THING) == 1
    assert parts(result) == (3, 0, 0, 0)


def test_the_approximate_count_is_named_so_and_counts_the_marked_too(house: House, pool: RunningPool):
    soft = stream("soft")
    house.load(soft, house.land(soft, row("a", 1), row("b", 1, deleted=True)))
    with pool.warehouse().session() as session:
        assert session.count(soft) == 1
        assert session.count_approximately(soft) == 2
