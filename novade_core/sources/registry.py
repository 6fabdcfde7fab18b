"""Name to class, a plain dictionary; a new source adds its line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from novade_core.settings import Environment
from novade_core.sources.base import Source


def _salesforce(environment: Environment, temp: Path) -> Source:
    from novade_core.sources.salesforce import Salesforce

    return Salesforce(environment.salesforce, temp)


def _drift(environment: Environment, temp: Path) -> Source:
    from novade_core.sources.drift import Drift

    return Drift(environment.drift, temp)


def _amplitude(environment: Environment, temp: Path) -> Source:
    from novade_core.sources.amplitude import Amplitude

    return Amplitude(environment.amplitude, temp)


#: How each source is built. The import is inside: a command that reads only the ledger needs none of it.
SOURCES: dict[str, Callable[[Environment, Path], Source]] = {
    "salesforce": _salesforce,
    "amplitude": _amplitude,
    "drift": _drift,
}
