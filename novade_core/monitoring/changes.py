"""What a run worked with against the last run that worked: from two runs to the differences and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from novade_core.ledger.queries import RunDetail


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that differs. None: it was not there."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Everything but what a run did: code, columns, configuration, credentials, source."""

    changed: tuple[Change, ...]
    differs: tuple[str, ...]  #: aspects
    same: tuple[str, ...]
    unknown: tuple[str, ...]  #: of which one of the two runs says nothing

    @property
    def sentence(self) -> str:
        """What changed, what did not, and what is not known."""
        if self.differs:
            said = f"{_listed(self.differs).capitalize()} changed"
            said += f"; the same {_listed(self.same)}." if self.same else "."
        elif self.same:
            said = f"Nothing that we know of changed: same {_listed(self.same)}."
        else:
            return "Nothing is known of what either run worked with."
        return said + (f" Not known: {_listed(self.unknown)}." if self.unknown else "")


def changes(
    before: RunDetail,
    run: RunDetail,
    *,
    columns_before: Mapping[str, str] | None,
    columns_now: Mapping[str, str] | None,
) -> Changes:
    """Compare ``run`` with the last one that worked. Columns are name -> type, None where no plan is known."""
    old, new = before.context or {}, run.context or {}
    aspects: tuple[tuple[str, Mapping[str, Any] | None, Mapping[str, Any] | None], ...] = (
        ("code", _single("Code", before.code_version), _single("Code", run.code_version)),
        ("columns", _named("Column", columns_before), _named("Column", columns_now)),
        ("configuration", _named("Setting", old.get("configuration")), _named("Setting", new.get("configuration"))),
        ("credentials", _single("Credentials", old.get("credentials")), _single("Credentials", new.get("credentials"))),
        ("source", _named("Source:", old.get("source")), _named("Source:", new.get("source"))),
    )
    changed: list[Change] = []
    differs: list[str] = []
    same: list[str] = []
    unknown: list[str] = []
    for aspect, was, now in aspects:
        if was is None or now is None:
            unknown.append(aspect)
            continue
        found = [
            Change(what=name, before=_text(was, name), after=_text(now, name))
            for name in dict.fromkeys([*now, *was])
            if was.get(name) != now.get(name) or (name in was) != (name in now)
        ]
        changed += found
        (differs if found else same).append(aspect)
    return Changes(changed=tuple(changed), differs=tuple(differs), same=tuple(same), unknown=tuple(unknown))


def _single(name: str, value: str | None) -> Mapping[str, Any] | None:
    return None if value is None else {name: value}


def _named(prefix: str, values: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if not values else {f"{prefix} {name}": value for name, value in values.items()}


def _text(values: Mapping[str, Any], name: str) -> str | None:
    if name not in values:
        return None
    value = values[name]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value) or "none"
    return "none" if value is None else str(value)


def _listed(parts: tuple[str, ...]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
