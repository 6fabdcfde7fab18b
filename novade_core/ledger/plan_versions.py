"""Versions of tracking plans: what was read, what is current, and the plan itself as it stood."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from novade_core.ledger.database import Ledger
from novade_core.ledger.models_plans import PlanVersionRow
from novade_core.streams import PlanVersion

_FIELDS = tuple(PlanVersion.__dataclass_fields__)


class PlanMemory:
    """What the source of tracking plans remembers, kept in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def note(self, seen: Sequence[tuple[PlanVersion, Mapping[str, Any]]], read_at: datetime) -> None:
        """These are the plans, each with its model, as they were read at ``read_at``; others are no longer current.

        A plan on which a later read has spoken stays as it is, so that a slow reader takes nothing back.
        """
        of = PlanVersionRow
        with self._ledger.write() as connection:
            query = select(of.plan, of.version, of.current, of.seen_at).order_by(of.plan, of.version)
            known = connection.execute(query.with_for_update()).all()
            later = {row.plan for row in known if row.seen_at > read_at}
            there = {(row.plan, row.version) for row in known}
            now = {(version.plan, version.version) for version, _ in seen}
            for version, model in sorted(seen, key=lambda one: (one[0].plan, one[0].version)):
                if version.plan not in later:
                    is_new = (version.plan, version.version) not in there
                    _note_one(connection, version, model, read_at, is_new=is_new)
            for row in known:
                if row.current and (row.plan, row.version) not in now and row.plan not in later:
                    values = {"current": False, "changed_at": read_at, "seen_at": read_at}
                    connection.execute(update(of).where(*_is(row.plan, row.version)).values(values))

    def versions(self) -> tuple[PlanVersion, ...]:
        """See :func:`versions`."""
        return versions(self._ledger)

    def model(self, plan: str, version: str) -> Mapping[str, Any] | None:
        """See :func:`model`."""
        return model(self._ledger, plan, version)


def _is(plan: str, version: str) -> tuple[Any, Any]:
    return PlanVersionRow.plan == plan, PlanVersionRow.version == version


def _note_one(
    connection: Connection, version: PlanVersion, model: Mapping[str, Any], read_at: datetime, *, is_new: bool
) -> None:
    of = PlanVersionRow
    packed = zlib.compress(json.dumps(model).encode())
    if is_new:
        values = {name: getattr(version, name) for name in _FIELDS}
        values |= {"first_seen_at": read_at, "changed_at": read_at, "seen_at": read_at}
        made = (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(of)
        # Another reader may have been as fast; it read the same.
        connection.execute(made.values(**values | {"current": True, "model": packed}).on_conflict_do_nothing())
        return
    key = _is(version.plan, version.version)
    # A version that is current again, since its plan went back to it.
    again = {"current": True, "changed_at": read_at, "file": version.file, "model": packed}
    connection.execute(update(of).where(*key, ~of.current).values(again))
    connection.execute(update(of).where(*key).values(seen_at=read_at))


def versions(ledger: Ledger) -> tuple[PlanVersion, ...]:
    """All versions, by plan; the current one first, then the newest."""
    of = PlanVersionRow
    query = select(*(getattr(of, name) for name in _FIELDS))
    with ledger.read() as connection:
        found = [PlanVersion(**row._mapping) for row in connection.execute(query)]
    return tuple(sorted(found, key=lambda v: (v.plan, not v.current, -v.changed_at.timestamp(), v.version)))


def model(ledger: Ledger, plan: str, version: str) -> Mapping[str, Any] | None:
    """The plan of a version as its model says it in JSON; None where it is not known."""
    with ledger.read() as connection:
        packed = connection.execute(select(PlanVersionRow.model).where(*_is(plan, version))).scalar()
    return None if packed is None else dict(json.loads(zlib.decompress(packed)))
