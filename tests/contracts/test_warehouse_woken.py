"""A worker that slept through the loss of its lease: whatever it goes on with, the newer holder's content stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from novade_core.errors import LeaseLost, NovadeError
from novade_core.streams import ColumnType
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_sql import Statement
from tests.contracts.begun import THING, begun, copied, empty, land_more
from tests.contracts.houses import COLUMNS, House, column, row
from tests.pools import pool_in

OLD, NEW = 1, 2
NUMBER = column("Number", ColumnType.BIGINT)
FENCES = "SELECT fence FROM novade.novade_fence WHERE stream <> N''"


class Sleeper:
    """Stops the first worker before one of its statements and does something else meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.at: int | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        run = Link._run

        def stopping(link: Link, statement: Statement) -> Any:
            if threading.current_thread() is threading.main_thread():
                self.steps.append(statement.step)
                if len(self.steps) == self.at:
                    self.at = None
                    self.meanwhile()
            return run(link, statement)

        monkeypatch.setattr(Link, "_run", stopping)

    def sleep(self, at: int | None, meanwhile: Callable[[], None]) -> None:
        """Stop before the statement of this number, counted from now on."""
        self.steps, self.at, self.meanwhile = [], at, meanwhile


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    return Sleeper(monkeypatch)


class Case:
    """An old holder that is stopped once, and a newer one that works meanwhile."""

    def __init__(self, house: House, sleeper: Sleeper, old: str, new: str) -> None:
        self.house, self.sleeper, self.old, self.new = house, sleeper, old, new
        self.pool = pool_in(house.folder).pool
        self.asked = self.lost = False
        self.worker = threading.Thread(target=self._newer, daemon=True)
        self.outcome: list[object] = []

    def _newer(self) -> None:
        try:
            self.outcome += getattr(self.house, self.new)(THING, self.house.landed[3], fence=NEW).results
        except NovadeError as error:  # pragma: no cover - shown by the assertion on the outcome
            self.outcome.append(error)

    def _meanwhile(self, cut: bool) -> None:
        """The newer holder works until it is done or waits for what the old one holds."""
        self.lost = True
        if cut:
            for connection in [c for c in self.pool.connections if c.engine is not None and c.engine.in_transaction]:
                connection.close()
        self.worker.start()
        until = time.monotonic() + 20
        while self.worker.is_alive() and not self.pool.locks.waiting and time.monotonic() < until:
            time.sleep(0.005)

    def _ask(self) -> None:
        if self.lost:
            raise LeaseLost("the stream has a later holder")
        self.asked = True

    def run(self, at: int, *, cut: bool) -> NovadeError | None:
        """How the old holder ended that was stopped before its statement ``at``."""
        refused = None
        self.sleeper.sleep(at, lambda: self._meanwhile(cut))
        try:
            getattr(self.house, self.old)(THING, self.house.landed[2], fence=OLD, before_commit=self._ask)
        except NovadeError as error:
            refused = error
        assert self.lost
        self.worker.join(20)
        assert len(self.outcome) == 1
        assert not isinstance(self.outcome[0], Exception), self.outcome
        return refused


@pytest.fixture(params=[("load", "replace"), ("replace", "load")], ids="-then-".join)
def places(request: pytest.FixtureRequest, tmp_path: Path, sleeper: Sleeper) -> Iterator[Places]:
    made = Places(tmp_path, sleeper, *request.param)
    yield made
    made.origin.close()


class Places:
    """Where the old holder can be stopped, and what the table holds after the newer one alone and after both."""

    def __init__(self, folder: Path, sleeper: Sleeper, old: str, new: str) -> None:
        self.folder, self.sleeper, self.old, self.new = folder, sleeper, old, new
        self.origin = begun(empty(folder / "origin", tries=3))
        land_more(self.origin)
        self.origin.land(THING, (*row("a", 3, "newer"), "5"), (*row("e", 1), "6"), columns=(*COLUMNS, NUMBER))
        self.newer_alone, self.both = self._content(new), self._content(old, new)

    def _content(self, *methods: str) -> dict[Any, Any]:
        house = copied(self.origin, self.folder / "-".join(methods))
        self.sleeper.sleep(None, lambda: None)
        for method in methods:
            fence = OLD if method == self.old else NEW
            getattr(house, method)(THING, house.landed[1 + fence], fence=fence)
            if method == self.old:
                self.steps = list(self.sleeper.steps)
        content = dict(house.everything())
        house.close()
        return content

    def stop(self, at: int, *, cut: bool, rcsi: bool) -> None:
        """One case."""
        house = copied(self.origin, self.folder / f"{at}-{cut}")
        pool_in(house.folder).pool.catalog.put_named("option", "rcsi", {"on": rcsi}, replace=True)
        case = Case(house, self.sleeper, self.old, self.new)
        where = (at, self.steps[at - 1], cut)
        refused = case.run(at, cut=cut)
        if refused is None:  # all that is left to do for the old holder came before the newer one's fence
            assert case.asked, where
            assert dict(house.everything()) == self.both, where
        else:
            seen = dict(house.everything())
            assert {table: seen.get(table) for table in self.newer_alone} == self.newer_alone, (where, refused)
            if self.old == "replace":  # the next load clears up what the old one may not any more
                house.load(THING, house.landed[3], fence=NEW)
            assert dict(house.everything()) == self.newer_alone, (where, refused)
        assert house.query(FENCES) == [(NEW,)], where
        house.close()

    @property
    def ended(self) -> list[int]:
        """Numbers of the statements before which an open transaction is ended: of a swap all, for its other connection
        lives on. A load has only the one, and tries again from the beginning unless COMMIT was what it sent.
        """
        first, last = self.steps.index("fence") + 1, self.steps.index("commit") + 1
        return list(range(first, last + 1)) if self.old == "replace" else [last - 1, last]

    @property
    def awake(self) -> range:
        """Every statement of a load; of a full reload those of its swap, for it prepares and stages as a load does."""
        first = 1 if self.old == "load" else self.steps.index("fence_row") + 1
        return range(first, len(self.steps) + 1)


def test_a_worker_woken_late_at_any_statement_is_refused_or_was_first(places: Places):
    """Without RCSI it sleeps with its connections open, and the newer holder reads what it has not committed. With
    RCSI its transaction was ended meanwhile; a second connection of its own, such as the one that renames, was not.
    """
    assert len(places.awake) > 15
    for at in places.awake:
        places.stop(at, cut=False, rcsi=False)
    for at in places.ended:
        places.stop(at, cut=True, rcsi=True)
