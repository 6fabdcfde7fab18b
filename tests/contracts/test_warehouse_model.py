"""Any sequence of landings, loaded in any order and grouping, ends where one rule says: the model below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novade_core.streams import DeleteMode
from tests.contracts.houses import ADAPTERS, House, parts, row, stream

#: (key, version, name, deleted); few of each, so that they meet.
RECORDS = st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from("xy"), st.booleans())
MANIFESTS = st.lists(st.lists(RECORDS, min_size=1, max_size=3), min_size=1, max_size=4)
_numbers = count()


@pytest.fixture(scope="module", params=sorted(ADAPTERS))
def shared_house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One warehouse for all examples, a stream of its own for each."""
    folder: Path = tmp_path_factory.mktemp("model")
    house = House(adapter=ADAPTERS[request.param], folder=folder)
    yield house
    house.close()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(landed=MANIFESTS, data=st.data(), mode=st.sampled_from(list(DeleteMode)))
def test_the_end_is_the_newest_version_and_of_equal_ones_the_later_landing(shared_house: House, landed, data, mode):
    house = shared_house
    to = stream(f"model{next(_numbers)}", delete_mode=mode)
    manifests = [house.land(to, *(row(k, v, n, deleted=d) for k, v, n, d in records)) for records in landed]
    order = data.draw(st.permutations(manifests), label="order")
    cuts = data.draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)), label="cuts")
    again = data.draw(st.sampled_from(manifests), label="loaded once more")
    groups = [[order[0]]]
    for manifest, cut in zip(order[1:], cuts[1:], strict=True):
        groups += [[manifest]] if cut else []
        if not cut:
            groups[-1].append(manifest)
    with house.session() as session:
        for group in groups:
            for manifest, result in zip(group, session.load(house.request(to, group)).results, strict=True):
                assert sum(parts(result)) == result.staged == manifest.rows
        before = session.count(to)
        session.load(house.request(to, [again]))
        assert session.count(to) == before
    newest = {}
    for landing, records in enumerate(landed):
        for place, (key, version, name, deleted) in enumerate(records):
            newest[key] = max(newest.get(key, ()), ((version, landing, place), key, name, deleted))
    expected = [
        (key, name, deleted)
        for _, key, name, deleted in sorted(newest.values(), key=lambda n: n[1])
        if not (deleted and mode is DeleteMode.HARD)
    ]
    assert house.rows(to, "Id", "Name", "IsDeleted") == expected
