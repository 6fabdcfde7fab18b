"""A run's heartbeat: keeps lease and slots alive, publishes progress, hears of a cancel. One thread per run."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

from sqlalchemy.exc import DBAPIError

from novade_core.errors import LeaseLost, NovadeError, RunCancelled
from novade_core.ledger.writer import RunWriter

_log = logging.getLogger(__name__)


class Pulse:
    """Beats every ``beat_seconds``, at least each second. ``check()`` raises what the beat learnt.

    A cancel that is heard interrupts what the warehouse does; ``interrupt()`` does the same for the main thread,
    from a signal. Neither ever touches a COMMIT: it is entered and left by ``shielded()``. After the last COMMIT of
    a run, ``committed()`` makes a cancel come too late.
    """

    def __init__(self, writer: RunWriter, beat_seconds: float) -> None:
        self._writer = writer
        self._interval = min(beat_seconds, 1.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pulse", daemon=True)
        self._lock = threading.RLock()  #: a signal can come while the main thread holds it
        self._progress: dict[str, Any] = {"step": "plan", "rows": 0, "total": None, "bytes": 0}
        self._begun = time.monotonic()
        self._wait: tuple[float | None, dict[str, Any]] | None = None
        self._cancel = False
        self._lost: LeaseLost | None = None
        self._shield = False
        self._too_late = False
        self._end_asked = False
        self._stopping = False
        self._over = False
        self._interrupts: list[Callable[[], None]] = []
        self._moved = time.monotonic()
        self._stillest = 0.0
        self._signs = 0
        self.vital: Callable[[], int] = lambda: 0  #: a number that rises while the source talks to us
        self.slots: dict[str, int] = {}  #: name -> fence, of what is held beside the stream
        self.wrote = time.monotonic()  #: when the last beat was written

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._stop.set()
        self._thread.join(timeout=35)

    # Progress

    def update(self, **values: Any) -> None:
        """Change the progress that the next beat publishes."""
        with self._lock:
            if values.get("step") not in (None, self._progress.get("step")):
                self._begun = time.monotonic()
            if any(self._progress.get(key) != value for key, value in values.items()):
                self._wait = None
                self._note_movement()
            self._progress.update(values)

    def wait(self, seconds: float | None, reason: str) -> None:
        """Say that the run waits on purpose, for so long (None: nobody knows), and for what."""
        until = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
        ends = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            self._note_movement()
            self._moved = ends or math.inf
            self._wait = (ends, {"for": reason, "until": until.isoformat() if until else None})

    def waited(self) -> None:
        """The wait is over."""
        with self._lock:
            self._wait = None
            self._moved = time.monotonic()

    @property
    def stillest_ms(self) -> int:
        """The longest time so far without progress; waits on purpose end it."""
        return round(1000 * max(self._stillest, time.monotonic() - self._moved))

    def _note_movement(self) -> None:
        now = time.monotonic()
        self._stillest = max(self._stillest, now - self._moved)
        # A wait on purpose counts from its end.
        self._moved = now if self._wait is None else max(now, self._moved)

    def snapshot(self) -> Mapping[str, Any]:
        """The progress as it would be published now."""
        signs = self.vital()
        with self._lock:
            if signs != self._signs:
                self._signs = signs
                self._note_movement()
            value = dict(self._progress)
            if self._wait is not None:
                ends, said = self._wait
                if ends is None or time.monotonic() < ends:
                    value["waiting"] = said
        seconds = max(time.monotonic() - self._begun, 0.001)
        value["rows_per_second"] = round(value["rows"] / seconds)
        value["signs"] = signs
        value["at"] = datetime.now(UTC).isoformat()
        return value

    # Cancel

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the run's end."""
        return self._cancel

    def check(self) -> None:
        """Raise RunCancelled or LeaseLost if either was learnt, SystemExit where the process was told to end."""
        if self._lost is not None:
            raise self._lost
        if self._stopping:
            raise SystemExit(128 + signal.SIGTERM)
        if self._cancel and not self._too_late:
            raise RunCancelled("The run was cancelled.")

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """While the block runs, a cancel calls ``interrupt`` from the beat's thread."""
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)

    def shield(self) -> None:
        """The last look before a COMMIT: raises as ``check`` does, or nothing interrupts from here on."""
        with self._lock:
            self.check()
            self._shield = True

    def unshield(self, *, last: bool = False) -> None:
        """COMMIT has ended; after the last one of the run a cancel comes too late. Ends here if that was asked for."""
        with self._lock:
            # In this order: a signal may come between the two.
            self._too_late = self._too_late or last
            self._shield = False
            ask = self._end_asked
        if ask:
            self.interrupt()

    def interrupt(self) -> None:
        """From a signal, in the main thread: raise RunCancelled where the beat heard of a cancel, else end the
        process (SystemExit; the run is asked for again and goes on). A COMMIT goes on first, and so does a run that
        is about to record its end. What is raised inside a DuckDB call comes out of it as a RuntimeError; see
        ``cause``.
        """
        if self._over:
            return
        if self._shield:
            self._end_asked = True
            return
        self._end_asked = False
        self._stopping = not self._cancel
        self.check()

    def cause(self, raised: BaseException) -> BaseException:
        """What ended the run, where ``raised`` came out of it: an end that was asked for surfaces as a fault of
        whatever it interrupted.
        """
        if isinstance(raised, LeaseLost | RunCancelled):
            return raised
        try:
            self.check()
        except (LeaseLost, RunCancelled, SystemExit) as asked:
            return asked
        return raised

    def _loop(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                cancel = self._writer.progress(self.snapshot(), self.slots)
                self.wrote = time.monotonic()
            except LeaseLost as error:
                self._lost = error
                self._interrupt_all()
                return
            except (NovadeError, DBAPIError) as error:
                # A full disk, a busy ledger: the next beat tries again, and the run's own writes report it.
                _log.warning("beat not written: %s", type(error).__name__)
                continue
            if cancel:
                self._cancel = True
                if not self._too_late:
                    self._interrupt_all()

    def _interrupt_all(self) -> None:
        with self._lock:
            if not self._shield:
                for interrupt in self._interrupts:
                    interrupt()
