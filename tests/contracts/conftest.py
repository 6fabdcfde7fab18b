"""One suite per protocol, run over every adapter of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from novade_core.landing.azure_blob import AzureBlob
from novade_core.landing.base import Landing
from novade_core.landing.local_folder import LocalFolder
from tests.azurite import azurite
from tests.contracts.houses import ADAPTERS, House

#: Name -> how to make a landing in a folder. Another adapter joins the whole suite here.
LANDINGS: dict[str, Callable[[Path], Landing]] = {
    "folder": lambda folder: LocalFolder(folder / "landing"),
    "azure_blob": lambda folder: AzureBlob(azurite().settings(prefix="some/where"), folder / "scratch"),
}


@pytest.fixture(params=sorted(ADAPTERS))
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """An empty warehouse."""
    house = House(adapter=ADAPTERS[request.param], folder=tmp_path)
    yield house
    house.close()


@pytest.fixture(params=sorted(LANDINGS))
def landing(request: pytest.FixtureRequest, tmp_path: Path) -> Landing:
    """An empty landing."""
    return LANDINGS[request.param](tmp_path)
