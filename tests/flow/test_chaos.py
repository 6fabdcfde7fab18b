"""A short chaos on each ledger; ``make chaos`` is the long one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from tests.homes import Sandbox
from tests.ledgers import KINDS, url_of


@pytest.fixture
def org(tmp_path: Path) -> Iterator[Sandbox]:
    """A stand-in of its own, since it is made to fail at any moment."""
    folder = tmp_path / "org"
    folder.mkdir()
    sandbox = Sandbox.start(folder, 600)
    yield sandbox
    sandbox.stop()


@pytest.mark.timeout(420)
@pytest.mark.parametrize(("kind", "seed"), list(zip(KINDS, (3, 4), strict=True)))
def test_whatever_happens_to_three_workers_nothing_is_lost_doubled_or_stuck(
    kind: str, seed: int, tmp_path: Path, org: Sandbox, record_property: Callable[[str, object], None]
) -> None:
    with url_of(kind, tmp_path) as url:
        report = Arena(tmp_path, org, url, seed).run(20, limit_seconds=300)
    record_property("chaos", str(report))
    assert report.faults == [], str(report)
    assert report.runs >= 20
    assert sum(report.deeds.values()) >= 5, str(report)
    assert report.states["succeeded"] >= 3, str(report)
    assert report.states["abandoned"] >= 1, str(report)
