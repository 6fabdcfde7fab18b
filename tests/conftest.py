"""What all tests share: a clean process environment, homes of their own, one stand-in per test process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.homes import Home, Sandbox

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings come from the test alone, never from the machine that runs it."""
    for name in list(os.environ):
        if name.startswith("NOVADE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def shared() -> Path:
    """The folder of sample data; tests that need it are skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the sample data beside the project is absent")
    return SHARED / "data"


@pytest.fixture(scope="session")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Sandbox]]:
    """Stand-ins by size or org, started once per test process and ended with it."""
    running: dict[tuple[int, str | None], Sandbox] = {}

    def get(contacts: int = 300, org: Path | None = None) -> Sandbox:
        key = (contacts, str(org) if org else None)
        if key not in running:
            running[key] = Sandbox.start(tmp_path_factory.mktemp("sandbox"), contacts, org)
        return running[key]

    yield get
    for sandbox in running.values():
        sandbox.stop()


@pytest.fixture
def sandbox(sandboxes: Callable[..., Sandbox]) -> Iterator[Sandbox]:
    """The small stand-in, without faults and with its data as generated."""
    small = sandboxes()
    small.reset()
    yield small
    small.reset()


@pytest.fixture
def home(tmp_path: Path, sandbox: Sandbox) -> Home:
    """An environment of its own against the small stand-in."""
    return Home.make(tmp_path, sandbox)
