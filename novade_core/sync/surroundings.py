"""What a run meets around it: a place at its source, the warehouse, and what is told of both to later runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from typing import Any

from novade_core.errors import LoadWindowClosed, NovadeError
from novade_core.ledger.plans import Plan
from novade_core.ledger.queue import Claimed
from novade_core.ledger.writer import RunWriter
from novade_core.sources.base import Source
from novade_core.streams import Stream
from novade_core.sync.pulse import Pulse
from novade_core.sync.slots import Slots
from novade_core.sync.tools import Tools
from novade_core.warehouse.base import Session

#: Runs that load at the same time where the warehouse lets several processes in.
WAREHOUSE_SLOTS = 4


class Surroundings:
    """Of one run."""

    def __init__(self, tools: Tools, run: Claimed, stream: Stream, writer: RunWriter, pulse: Pulse) -> None:
        self._tools = tools
        self._stream = stream
        self._writer = writer
        self._pulse = pulse
        self._slots = Slots(tools.ledger, pulse, run_id=run.id, lease_seconds=tools.lease_seconds, clock=tools.clock)

    def source_slot(self) -> AbstractContextManager[None]:
        """A place at the source, while the block runs."""
        name = self._stream.source
        return self._slots.hold(name, self._tools.slots(name), f"a free place at {name.capitalize()}")

    def is_open(self) -> bool:
        """Whether the warehouse may be opened now, or is paused until the next load window."""
        return self._tools.admits_loads()

    @contextmanager
    def warehouse(self) -> Iterator[Session]:
        """The warehouse, opened late and closed early. A cancel ends the statement that runs in it.

        Raises LoadWindowClosed where a pool is paused until its next window.
        """
        warehouse = self._tools.warehouse
        places = WAREHOUSE_SLOTS if warehouse.capabilities.concurrent_processes else 1
        with self._slots.hold("warehouse", places, "the warehouse, where another run loads"):
            # Asked with the slot in hand: from here on the window sees us and does not close.
            if not self.is_open():
                raise LoadWindowClosed("The pool is paused until its next load window.")
            try:
                with warehouse.session() as session, self._pulse.interruptible(session.interrupt):
                    yield session
            except (NovadeError, RuntimeError) as error:
                # An interrupted statement is no fault of the warehouse.
                cause = self._pulse.cause(error)
                if cause is error:
                    raise
                raise cause from error

    def note_context(self, source: Source | None = None, plan: Plan | None = None) -> None:
        """What the run works with, so that a later one can say what changed since."""
        told: dict[str, Any] = {
            "configuration": {k: getattr(v, "value", v) for k, v in asdict(self._stream).items()},
            "credentials": self._tools.fingerprint(self._stream.source),
        }
        if source is not None:
            told["source"] = dict(source.facts().about)
        self._writer.context(told, plan_id=plan.id if plan is not None else None)

    def note_source(self, source: Source) -> None:
        """What the source said of itself, for whoever reads from it next."""
        facts = source.facts()
        if facts.calls_used is not None:
            self._writer.source_status(
                self._tools.clock(), source.name, used=facts.calls_used, allowed=facts.calls_allowed, facts=facts.about
            )
