"""What every warehouse promises about a load: exactly once in effect, whatever is repeated, late or interrupted."""

from __future__ import annotations

import pytest

from novade_core.errors import ConfigurationError, LeaseLost, NovadeError
from novade_core.streams import LoadResult
from tests.contracts.houses import ADAPTERS, COLUMNS, House, column, parts, row, stream

THING = stream()


class Stop(NovadeError):
    """A lost lease, as the engine's last question before COMMIT meets it."""


def refuse() -> None:
    raise Stop("stop here")


# --- one load -------------------------------------------------------------------------------------


def test_the_first_load_makes_the_table_and_counts_its_rows(house: House):
    outcome = house.load(THING, house.land(THING, row("a", 1), row("b", 2, deleted=True)))
    (result,) = outcome.results
    assert (result.staged, result.loaded, result.deleted) == (2, 2, 1)
    assert outcome.changes == ()
    assert house.names(THING) == {"a": "x", "b": "x"}


def test_every_row_says_where_it_came_from(house: House):
    house.load(THING, house.land(THING, row("a", 1)))
    ((run, loaded, version, hashed, deleted, seq),) = house.rows(
        THING,
        "_novade_run_id",
        "_novade_loaded_at",
        "_novade_source_version",
        "_novade_row_hash",
        "_novade_deleted_at",
        "_novade_landed_seq",
    )
    assert (run, seq, deleted) == (101, 1, None)
    assert loaded.isoformat() == "2024-11-18T14:00:00"
    assert version == 1_731_888_001_000_000
    assert 0 <= hashed < 2**63


def test_a_manifest_that_is_in_already_changes_nothing_and_is_answered_from_its_marker(house: House):
    manifest = house.land(THING, row("a", 1), row("a", 2), row("b", 1))
    first = house.load(THING, manifest)
    before = house.everything()
    again = house.load(THING, manifest, fence=2)
    assert again.results == first.results
    assert house.everything() == before


def test_a_marker_answers_even_when_the_files_are_gone(house: House, tmp_path):
    manifest = house.land(THING, row("a", 1))
    first = house.load(THING, manifest)
    for file in manifest.files:
        (tmp_path / file).unlink()
    assert house.load(THING, manifest).results == first.results


def test_answers_come_in_the_order_of_the_manifests(house: House):
    one, two, three = (house.land(THING, row(k, 1)) for k in "abc")
    house.load(THING, two)
    results = house.load(THING, three, two, one).results
    assert [r.load_id for r in results] == [three.load_id, two.load_id, one.load_id]
    assert [r.loaded for r in results] == [1, 1, 1]


def test_a_manifest_of_rejects_only_loads_as_nothing(house: House):
    bad = house.land(THING, ("a", "yesterday", "false", "x"))
    assert (bad.files, bad.rows, bad.rejected) == ((), 0, 1)
    good = house.land(THING, row("b", 1))
    results = house.load(THING, bad, good).results
    assert [r.staged for r in results] == [0, 1]
    assert house.names(THING) == {"b": "x"}
    alone = house.land(THING, ("c", "never", "false", "x"))
    assert house.load(THING, alone).results[0].staged == 0


def test_a_manifest_of_several_files_loads_whole(house: House):
    manifest = house.land(THING, *(row(f"k{i}", i) for i in range(9)), row("k0", 20, "newest"), files=3)
    assert len(manifest.files) == 3
    (result,) = house.load(THING, manifest).results
    assert (result.staged, *parts(result)) == (10, 9, 0, 0, 1)
    assert house.names(THING)["k0"] == "newest"


def test_only_the_named_files_are_read_when_a_folder_looks_like_a_pattern(tmp_path):
    """A folder called ``[ab]`` is one folder, not two others."""
    for name, value in (("a", "wrong"), ("[ab]*", "right")):
        (tmp_path / name).mkdir()
        house = House(adapter=ADAPTERS["duckdb"], folder=tmp_path / name)
        manifest = house.land(THING, row("k", 1, value))
        house.load(THING, manifest)
        assert house.names(THING) == {"k": value}
        house.close()


def test_a_load_of_nothing_is_nothing(house: House):
    assert house.load(THING).results == ()


# --- versions -------------------------------------------------------------------------------------


def test_the_newest_version_wins_inside_a_load_and_the_others_are_duplicates(house: House):
    (result,) = house.load(
        THING, house.land(THING, row("a", 2, "old"), row("a", 3, "new"), row("a", 1, "oldest"))
    ).results
    assert (result.staged, *parts(result)) == (3, 1, 0, 0, 2)
    assert house.names(THING) == {"a": "new"}


def test_of_equal_versions_in_one_manifest_the_last_row_wins(house: House):
    (result,) = house.load(THING, house.land(THING, row("a", 1, "first"), row("a", 1, "last"))).results
    assert parts(result) == (1, 0, 0, 1)
    assert house.names(THING) == {"a": "last"}


def test_an_older_manifest_after_a_newer_one_is_superseded(house: House):
    older, newer = house.land(THING, row("a", 1, "old")), house.land(THING, row("a", 2, "new"))
    house.load(THING, newer)
    (result,) = house.load(THING, older).results
    assert parts(result) == (0, 0, 1, 0)
    assert house.names(THING) == {"a": "new"}


def test_equal_version_and_equal_content_is_unchanged(house: House):
    house.load(THING, house.land(THING, row("a", 1)))
    (result,) = house.load(THING, house.land(THING, row("a", 1))).results
    assert parts(result) == (0, 1, 0, 0)
    assert house.rows(THING, "_novade_run_id") == [(101,)]


@pytest.mark.parametrize("in_order", [True, False])
def test_of_equal_versions_with_other_content_the_later_landing_wins(house: House, in_order: bool):
    earlier, later = house.land(THING, row("a", 1, "earlier")), house.land(THING, row("a", 1, "later"))
    loads = [earlier, later] if in_order else [later, earlier]
    results = [house.load(THING, m).results[0] for m in loads]
    assert [parts(r) for r in results] == [(1, 0, 0, 0), (1, 0, 0, 0) if in_order else (0, 0, 1, 0)]
    assert house.names(THING) == {"a": "later"}


def test_what_landed_again_unchanged_outranks_what_landed_in_between(house: House):
    """Formula fields change without a version: B landed between two A, so A is the truth, whatever loads last."""
    first, between, last = (house.land(THING, row("a", 1, name)) for name in ("A", "B", "A"))
    for manifest in (first, last, between):
        house.load(THING, manifest)
    assert house.names(THING) == {"a": "A"}


def test_what_is_unchanged_is_left_alone_where_nothing_older_can_still_come(house: House):
    house.load(THING, house.land(THING, row("a", 1), row("b", 1)))
    content = 'SELECT * FROM "test"."thing" ORDER BY "Id"'
    before = house.query(content)
    again = house.land(THING, row("b", 1), row("a", 1), row("c", 1))
    (result,) = house.load(THING, again, older_waiting=False).results
    assert parts(result) == (1, 2, 0, 0)
    assert house.query(content)[:2] == before


def test_keys_that_repeat_across_manifests_of_one_load_are_counted_where_they_stand(house: House):
    house.load(THING, house.land(THING, row("a", 5, "held"), row("b", 1, "held")))
    one = house.land(THING, row("a", 4), row("b", 2, "two"), row("c", 1))
    two = house.land(THING, row("b", 3, "three"), row("c", 1), row("d", 1))
    first, second = house.load(THING, one, two).results
    assert (first.staged, *parts(first)) == (3, 0, 0, 1, 2)
    assert (second.staged, *parts(second)) == (3, 3, 0, 0, 0)
    assert house.names(THING) == {"a": "held", "b": "three", "c": "x", "d": "x"}


def test_a_stream_without_versions_takes_the_later_landing(house: House):
    plain = stream("plain", version_field=None, cursor_field=None, deleted_field=None)
    for name in ("one", "two"):
        house.load(plain, house.land(plain, row("a", 1, name)))
    assert house.names(plain) == {"a": "two"}


def test_composite_keys_are_told_apart_by_all_their_parts(house: House):
    pair = stream("pair", primary_key=("Id", "Name"))
    house.load(pair, house.land(pair, row("a", 1, "1"), row("a", 1, "2"), row("b", 1, "1")))
    (result,) = house.load(pair, house.land(pair, row("a", 2, "1", deleted=True), row("b", 1, "1"))).results
    assert parts(result) == (1, 1, 0, 0)
    assert house.rows(pair, "Id", "Name", "IsDeleted") == [("a", "1", True), ("a", "2", False), ("b", "1", False)]
    with house.session() as session:
        assert sorted(session.keys(pair, "Stamp", "2024-11")) == ["a\x1f2", "b\x1f1"]


def test_a_key_that_the_table_holds_twice_stops_the_load_and_changes_nothing(house: House):
    house.load(THING, house.land(THING, row("a", 1), row("b", 1)))
    house.execute('INSERT INTO "test"."thing" SELECT * FROM "test"."thing" WHERE "Id" = \'a\'')
    before = house.everything()
    with pytest.raises(ConfigurationError, match=r"test\.thing: .* holds a key twice") as refused:
        house.load(THING, house.land(THING, row("a", 2), row("b", 2)))
    assert "--full" in refused.value.hint
    assert house.everything() == before
    house.replace(THING, house.land(THING, row("a", 3)))
    assert house.names(THING) == {"a": "x"}


# --- fences and transactions ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["load", "replace"])
def test_a_fence_lower_than_the_stored_one_changes_nothing(house: House, method: str):
    house.load(THING, house.land(THING, row("a", 1)), fence=5)
    before = house.everything()
    with pytest.raises(LeaseLost, match="fence 4"):
        getattr(house, method)(THING, house.land(THING, row("a", 2)), fence=4)
    assert house.everything() == before
    getattr(house, method)(THING, house.landed[2], fence=5)
    assert house.rows(THING, "_novade_landed_seq") == [(2,)]


def test_a_low_fence_is_refused_even_where_there_is_nothing_to_do(house: House):
    manifest = house.land(THING, row("a", 1))
    house.load(THING, manifest, fence=5)
    with pytest.raises(LeaseLost):
        house.load(THING, manifest, fence=4)


def test_fences_are_kept_by_stream(house: House):
    other = stream("other")
    house.load(THING, house.land(THING, row("a", 1)), fence=9)
    house.load(other, house.land(other, row("a", 1)), fence=1)
    assert house.names(other) == {"a": "x"}


@pytest.mark.parametrize("method", ["load", "replace"])
def test_a_lease_lost_before_commit_takes_the_first_load_back_with_its_table(house: House, method: str):
    other = stream("other")
    house.load(other, house.land(other, row("a", 1)))
    before = house.everything()
    manifest = house.land(THING, row("a", 1))
    with pytest.raises(Stop):
        getattr(house, method)(THING, manifest, before_commit=refuse)
    assert house.everything() == before
    assert house.taken_back(THING)
    assert getattr(house, method)(THING, manifest).results[0].loaded == 1


@pytest.mark.parametrize("method", ["load", "replace"])
def test_a_lease_lost_before_commit_takes_rows_columns_and_markers_back(house: House, method: str):
    house.load(THING, house.land(THING, row("a", 1)))
    before, columns = house.everything(), house.columns_of(THING)
    wider = (*COLUMNS, column("More"))
    manifest = house.land(THING, (*row("a", 2), "more"), columns=wider)
    with pytest.raises(Stop):
        getattr(house, method)(THING, manifest, before_commit=refuse)
    assert house.everything() == before
    if house.warehouse.capabilities.transactional_ddl:
        assert house.columns_of(THING) == columns
    getattr(house, method)(THING, manifest)
    assert house.rows(THING, "Id", "More") == [("a", "more")]


def test_the_lease_is_asked_once_a_load(house: House):
    asked: list[int] = []
    house.load(THING, house.land(THING, row("a", 1)), before_commit=lambda: asked.append(1))
    assert asked == [1]


def test_a_session_goes_on_after_a_load_that_failed(house: House):
    one, two = house.land(THING, row("a", 1)), house.land(THING, row("b", 1))
    with house.session() as session:
        with pytest.raises(Stop):
            session.load(house.request(THING, [one], before_commit=refuse))
        session.load(house.request(THING, [two]))
        assert session.count(THING) == 1
    assert house.names(THING) == {"b": "x"}


def test_a_missing_file_takes_the_whole_load_back(house: House, tmp_path):
    good, bad = house.land(THING, row("a", 1)), house.land(THING, row("b", 1))
    (tmp_path / bad.files[0]).unlink()
    with pytest.raises(NovadeError):
        house.load(THING, good, bad)
    assert house.taken_back(THING)


# --- full reload ----------------------------------------------------------------------------------


def test_a_full_reload_leaves_exactly_its_rows(house: House):
    house.load(THING, house.land(THING, row("a", 1), row("b", 1), row("vanished", 1)))
    one = house.land(THING, row("a", 1, "again"), row("b", 2), row("b", 1, "older"))
    two = house.land(THING, row("c", 1))
    first, second = house.replace(THING, one, two).results
    assert (first.staged, *parts(first)) == (3, 2, 0, 0, 1)
    assert (second.staged, *parts(second)) == (1, 1, 0, 0, 0)
    assert house.names(THING) == {"a": "again", "b": "x", "c": "x"}


def test_a_full_reload_drops_columns_that_are_gone(house: House):
    house.load(THING, house.land(THING, row("a", 1)))
    house.replace(THING, house.land(THING, row("a", 1)[:3], columns=COLUMNS[:3]))
    assert list(house.columns_of(THING)) == ["Id", "Stamp", "IsDeleted"]


def test_a_full_reload_that_was_done_is_not_done_again(house: House):
    manifest = house.land(THING, row("a", 1), row("a", 2))
    first = house.replace(THING, manifest)
    house.load(THING, house.land(THING, row("b", 1)))
    assert house.replace(THING, manifest).results == first.results
    assert house.names(THING) == {"a": "x", "b": "x"}


def test_a_full_reload_that_fails_leaves_the_old_table(house: House, tmp_path):
    house.load(THING, house.land(THING, row("a", 1, "old")))
    before = house.everything()
    bad = house.land(THING, row("a", 2))
    (tmp_path / bad.files[0]).write_bytes(b"PAR1 no more")
    with pytest.raises(NovadeError):
        house.replace(THING, bad)
    assert house.everything() == before


def test_a_full_reload_of_nothing_empties_the_table_and_keeps_its_columns(house: House):
    assert house.replace(THING).results == ()
    assert house.count(THING) is None
    house.load(THING, house.land(THING, row("a", 1)))
    columns = house.columns_of(THING)
    assert house.replace(THING).results == ()
    assert house.count(THING) == 0
    assert house.columns_of(THING) == columns


def test_loads_go_on_after_a_full_reload(house: House):
    house.replace(THING, house.land(THING, row("a", 3)))
    (result,) = house.load(THING, house.land(THING, row("a", 2), row("b", 1))).results
    assert parts(result) == (1, 0, 1, 0)


# --- counting -------------------------------------------------------------------------------------


def test_counts_leave_out_what_is_marked_deleted(house: House):
    house.load(
        THING,
        house.land(
            THING,
            ("a", "2024-01-31T23:59:59.999Z", "false", "x"),
            ("b", "2024-02-01T00:00:00.000Z", "false", "x"),
            ("c", "2024-02-29T12:00:00.000Z", "true", "x"),
            ("d", "2024-02-29T12:00:00.000Z", "false", "x"),
        ),
    )
    with house.session() as session:
        assert session.count(THING) == 3
        assert session.counts_by_month(THING, "Stamp") == {"2024-01": 1, "2024-02": 2}
        assert sorted(session.keys(THING, "Stamp", "2024-02")) == ["b", "d"]
        assert list(session.keys(THING, "Stamp", "2023-12")) == []


def test_a_table_that_does_not_exist_counts_as_unknown_or_nothing(house: House):
    with house.session() as session:
        assert session.count(THING) is None
        assert session.counts_by_month(THING, "Stamp") == {}
        assert list(session.keys(THING, "Stamp", "2024-01")) == []


def test_many_keys_arrive_whole(house: House):
    house.load(THING, house.land(THING, *(row(f"{i:06d}", 1) for i in range(25_000))))
    with house.session() as session:
        assert sorted(session.keys(THING, "Stamp", "2024-11")) == [f"{i:06d}" for i in range(25_000)]


def test_capabilities_say_what_generic_code_needs(house: House):
    capabilities = house.warehouse.capabilities
    assert capabilities.engine
    assert capabilities.max_rows_per_load > 0


def test_results_add_up():
    one = LoadResult(load_id="a", staged=4, loaded=1, deleted=1, unchanged=1, superseded=1, duplicates=1)
    assert one + one == LoadResult(load_id="a", staged=8, loaded=2, deleted=2, unchanged=2, superseded=2, duplicates=2)
