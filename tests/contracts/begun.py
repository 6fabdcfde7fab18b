"""A pool in a known state, copied for each case of a test: to load it anew each time would take most of the time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from novade_core.errors import NovadeError
from novade_core.streams import ColumnType, DeleteMode, LandedFile
from tests.contracts.houses import ADAPTERS, COLUMNS, House, column, row, stream
from tests.pools import copy_pool, pool_in

THING = stream(delete_mode=DeleteMode.HARD)
_OLDER = (*COLUMNS, column("More"), column("Number", ColumnType.INTEGER))
_NEWER = (*COLUMNS, column("Number", ColumnType.BIGINT), column("Extra"))


def empty(folder: Path, *, tries: int = 1) -> House:
    """A pool that no load has seen. It updates statistics after every load, so that a load sends all that it can."""
    folder.mkdir(exist_ok=True)
    make = lambda folder: pool_in(folder).warehouse(statistics_from_rows=1, tries=tries)  # noqa: E731 as in ADAPTERS
    return House(adapter=replace(ADAPTERS["synapse"], make=make), folder=folder)


def begun(house: House) -> House:
    """A table with rows, a column that the next load lacks and one that it widens, and a tombstone."""
    first = [row("a", 1), row("b", 1), row("c", 1, deleted=True)]
    house.load(THING, house.land(THING, *((*r, "kept", "1") for r in first), columns=_OLDER))
    return house


def halfway(house: House) -> House:
    """The same, and a full reload that could neither rename its second table nor clear up behind itself."""
    begun(house)
    faults = pool_in(house.folder).pool.faults
    breaks = {"cut": {"match": "^RENAME", "n": 2}, "login": {"number": 42109, "times": 9}}
    manifest = house.land(THING, (*row("z", 9), "gone", "1"), columns=_OLDER)
    with pytest.raises(NovadeError):
        house.replace(THING, manifest, before_commit=lambda: faults.update(breaks))
    faults.clear()
    return house


def land_more(house: House) -> LandedFile:
    """Each verdict once, a hard delete, a new column and a wider one."""
    rows = (row("a", 2, "new"), row("b", 2, deleted=True), row("d", 1), row("d", 0), row("c", 0))
    return house.land(THING, *((*r, "5000000000", "extra") for r in rows), columns=_NEWER)


def copied(house: House, folder: Path) -> House:
    """The same warehouse and the same landed files, with a pool of its own."""
    copy_pool(house.folder, folder)
    return House(adapter=house.adapter, folder=folder, landed=dict(house.landed))
