"""Slots: so many runs at a time read from a source, so many write to the warehouse.

A slot is a lease like a stream's. The order is always stream, source slot, warehouse slot, so nobody waits in a
circle; and nobody waits for the network while it holds the warehouse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from sqlalchemy import select

from novade_core.errors import LeaseHeld, NovadeError
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Lease
from novade_core.sync.pulse import Pulse


def slot_name(kind: str, number: int) -> str:
    """``slot:salesforce:0``; a lease of this name is one run's place at a source or in the warehouse."""
    return f"slot:{kind}:{number}"


class Slots:
    """The slots of one run."""

    def __init__(
        self, ledger: Ledger, pulse: Pulse, *, run_id: int, lease_seconds: float, clock: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._pulse = pulse
        self._run_id = run_id
        self._clock = clock
        self._watcher = leases.Watcher(lease_seconds)
        self._poll_seconds = min(0.2, lease_seconds / 10)

    @contextmanager
    def hold(self, kind: str, count: int, called: str) -> Iterator[None]:
        """Wait for one of ``count`` slots of a kind and hold it. ``called`` is what people read while it waits."""
        name, fence = self._take(kind, count, called)
        # The beat reads them from its own thread, so the mapping is replaced and never changed.
        self._pulse.slots = {**self._pulse.slots, name: fence}
        try:
            yield
        finally:
            self._pulse.slots = {n: f for n, f in self._pulse.slots.items() if n != name}
            # A slot that cannot be given back now is taken from us once our beat stands still.
            with suppress(NovadeError), self._ledger.write() as connection:
                leases.release(connection, stream=name, fence=fence)

    def _take(self, kind: str, count: int, called: str) -> tuple[str, int]:
        names = [slot_name(kind, number) for number in range(count)]
        waited = False
        while True:
            for name in self._free(names):
                try:
                    with self._ledger.write() as connection:
                        taken = leases.take(
                            connection,
                            stream=name,
                            holder=leases.own_name(),
                            run_id=self._run_id,
                            now=self._clock(),
                            watcher=self._watcher,
                        )
                except LeaseHeld:
                    continue
                if waited:
                    self._pulse.waited()
                return name, taken.fence
            if not waited:
                self._pulse.wait(None, called)
                waited = True
            self._pulse.check()
            time.sleep(self._poll_seconds)

    def _free(self, names: list[str]) -> list[str]:
        """Slots that seem free, by reading alone."""
        # Whoever cannot write judges nobody; the beat is what we write while we wait.
        if time.monotonic() - self._pulse.wrote < self._watcher.lease_seconds / 2:
            self._watcher.note_write()
        with self._ledger.read() as connection:
            held = {
                row.stream: row
                for row in connection.execute(
                    select(Lease.stream, Lease.holder, Lease.beat).where(
                        Lease.stream.in_(names), Lease.holder.is_not(None)
                    )
                )
            }
        return [n for n in names if n not in held or self._watcher.is_expired(n, held[n].holder, held[n].beat)]
