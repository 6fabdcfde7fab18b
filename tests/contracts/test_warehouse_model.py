"""Any sequence of landings, loaded in any order and grouping, ends where one rule says: the model below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novade_core.streams import DeleteMode, LandedFile, LoadResult, Stream
from tests.contracts.houses import ADAPTERS, House, parts, row, stream

#: (key, version, name, deleted); few of each, so that they meet.
RECORDS = st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from("xy"), st.booleans())
MANIFESTS = st.lists(st.lists(RECORDS, min_size=1, max_size=3), min_size=1, max_size=4)
CUTS = st.lists(st.booleans(), min_size=3, max_size=3)
Record = tuple[str, int, str, bool]
_numbers = count()


@pytest.fixture(scope="module", params=sorted(ADAPTERS))
def shared_house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One warehouse for all examples, a stream of its own for each."""
    folder: Path = tmp_path_factory.mktemp("model")
    house = House(adapter=ADAPTERS[request.param], folder=folder)
    yield house
    house.close()


def load_all(house: House, to: Stream, groups: list[list[LandedFile]], *, older_waiting: bool = True) -> None:
    """Load group by group; every row of every manifest is accounted for, and loading one again moves nothing."""
    with house.session() as session:

        def answered(group: list[LandedFile]) -> tuple[LoadResult, ...]:
            return session.load(house.request(to, group, older_waiting=older_waiting)).results

        for group in groups:
            for manifest, result in zip(group, answered(group), strict=True):
                assert sum(parts(result)) == result.staged == manifest.rows
        before = session.count(to)
        answered([groups[0][0]])
        assert session.count(to) == before


def grouped(manifests: list[LandedFile], cuts: list[bool]) -> list[list[LandedFile]]:
    """The manifests in this order, a new transaction after each cut."""
    groups = [[manifests[0]]]
    for manifest, cut in zip(manifests[1:], cuts, strict=False):
        if cut:
            groups.append([manifest])
        else:
            groups[-1].append(manifest)
    return groups


def model(landed: list[list[Record]], mode: DeleteMode) -> list[tuple[str, str, bool]]:
    """Per key the newest version, and of equal ones the later landing; a hard delete leaves nothing."""
    newest: dict[str, Any] = {}
    for landing, records in enumerate(landed):
        for place, (key, version, name, deleted) in enumerate(records):
            newest[key] = max(newest.get(key, ()), ((version, landing, place), key, name, deleted))
    kept = sorted((key, name, deleted) for _, key, name, deleted in newest.values())
    return [k for k in kept if not (k[2] and mode is DeleteMode.HARD)]


@settings(max_examples=35, deadline=None, suppress_health_check=list(HealthCheck))
@given(landed=MANIFESTS, order=st.randoms(use_true_random=False), cuts=CUTS, mode=st.sampled_from(DeleteMode))
def test_any_order_and_grouping_ends_where_the_model_says(shared_house: House, landed, order, cuts, mode):
    to = stream(f"model{next(_numbers)}", delete_mode=mode)
    manifests = [shared_house.land(to, *(row(k, v, n, deleted=d) for k, v, n, d in records)) for records in landed]
    order.shuffle(manifests)
    load_all(shared_house, to, grouped(manifests, cuts))
    assert shared_house.rows(to, "Id", "Name", "IsDeleted") == model(landed, mode)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(landed=MANIFESTS, cuts=CUTS, mode=st.sampled_from(DeleteMode))
def test_in_landing_order_nothing_needs_to_note_its_later_landing(shared_house: House, landed, cuts, mode):
    """As the engine loads: oldest first, so no load has an older manifest waiting behind it."""
    to = stream(f"model{next(_numbers)}", delete_mode=mode)
    manifests = [shared_house.land(to, *(row(k, v, n, deleted=d) for k, v, n, d in records)) for records in landed]
    load_all(shared_house, to, grouped(manifests, cuts), older_waiting=False)
    assert shared_house.rows(to, "Id", "Name", "IsDeleted") == model(landed, mode)
