"""Opening a page: the gate, the environment's badge, and services that all sessions of the process share."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, TypeVar

import streamlit as st
from sqlalchemy.exc import DBAPIError

from novade_core.errors import NovadeError
from novade_core.ledger import summaries
from novade_core.ledger.database import Ledger
from novade_core.settings import Environment, load_settings
from novade_core.wiring import build_services, utc_now
from pages.ui import status, words
from pages.ui.markup import show, tag

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Where files land, and where tables are, as people say it.
_LANDINGS = {"folder": "Folder", "azure_blob": "Azure Blob"}
ENGINES = {"duckdb": "DuckDB", "synapse": "Synapse", "serverless": "Synapse serverless"}
#: Seconds between refreshes while something runs, and while nothing does.
LIVE, IDLE = 2.0, 30.0


@dataclass
class Beats:
    """Whether workers live: their beat moves between two looks. Clocks of machines are never compared."""

    seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def alive(self, workers: tuple[summaries.WorkerFacts, ...], *, lease_seconds: float, at: float) -> bool | None:
        """None: not known yet, because nobody has looked for as long as a lease lasts."""
        verdicts = []
        for worker in workers:
            beat, since = self.seen.get(worker.id, (None, at))
            if beat != worker.beat:
                since = at
                self.seen[worker.id] = (worker.beat, at)
                verdicts.append(True if beat is not None else None)
            else:
                verdicts.append(at - since < lease_seconds)
        if True in verdicts:
            return True
        return None if None in verdicts else False


@dataclass(frozen=True)
class Services:
    """What a page works with. One per environment and process; nothing in it is changed by a session."""

    environment: Environment
    ledger: Ledger
    beats: Beats = field(default_factory=Beats)
    sessions: dict[str, float] = field(default_factory=dict)  #: session -> last seen, monotonic

    @property
    def who(self) -> str:
        """Who asks. The local environment has no login and listens on loopback only."""
        return "local"

    def now(self) -> datetime:
        """The clock of pages."""
        return utc_now()

    def zone(self) -> tzinfo:
        """The viewer's time zone."""
        return words.zone_of(st.context.timezone)

    @property
    def engine(self) -> str:
        """The warehouse by name: Synapse, Synapse serverless or DuckDB."""
        return ENGINES[self.environment.warehouse.kind]

    def label(self, subject: str) -> str:
        """A stream as people say it."""
        return words.label_of(self.environment, subject)

    def read(self, query: Callable[..., _T], /, **arguments: Any) -> _T:
        """Ask the core, through a cache of one second that all sessions share; instants are cut to the second."""
        cut = {k: v.replace(microsecond=0) if isinstance(v, datetime) else v for k, v in arguments.items()}
        with guarded():
            answer: _T = _read((self.environment.name, query.__module__, query.__qualname__), cut, query, self.ledger)
            return answer

    def forget(self) -> None:
        """Drop what was read, so that whoever has just written sees it."""
        _read.clear()

    def interval(self, *, live: bool) -> float:
        """Seconds between refreshes; they grow with the number of open sessions."""
        open_now = len(self.sessions)
        return (LIVE if live else IDLE) * max(1.0, open_now / 10)


@st.cache_data(ttl=1, max_entries=500, show_spinner=False)
def _read(asked: tuple[str, str, str], arguments: dict[str, Any], _query: Callable[..., Any], _ledger: Ledger) -> Any:
    """Cached by what is ``asked`` for: environment, module, query; the two last arguments are not part of the key."""
    del asked
    return _query(_ledger, **arguments)


@st.cache_resource(show_spinner=False)
def open_services(environment: str | None = None) -> Services:
    """Settings and ledger of an environment, opened once per process."""
    settings = load_settings(environment)
    return Services(environment=settings, ledger=build_services(settings).ledger)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Show what the core says when it cannot answer, and end this run of the script there."""
    try:
        yield
    except NovadeError as error:
        _log.warning("A page could not answer: %s", error.message)
        status.failed(error.message, error.hint)
        st.stop()
    except DBAPIError as error:
        _log.exception("The ledger could not be read.")
        reason = str(error.orig).splitlines()[0] if error.orig else "no reason given"
        status.failed(f"The ledger cannot be read: {reason}.", "Check that it is reachable; /readyz says more.")
        st.stop()


def open_page(title: str, question: str) -> Services:
    """Draw the frame of a page and give its services. The gate has been passed in ``frame.py``."""
    with guarded():
        services = open_services()
    now = time.monotonic()
    st.session_state.setdefault("frame_session", f"{now}-{id(st.session_state)}")
    services.sessions[st.session_state["frame_session"]] = now
    for session in [s for s, seen in list(services.sessions.items()) if now - seen > 600]:
        services.sessions.pop(session, None)
    st.title(title, anchor=False, help=question)
    return services


def environment_badge(environment: Environment) -> None:
    """The environment's name and colour, in the frame of every page."""
    show(
        tag(
            "div",
            tag("strong", environment.label),
            tag("span", f"environment {environment.name}"),
            tag("span", f"{_LANDINGS[environment.landing.kind]} to {ENGINES[environment.warehouse.kind]}"),
            class_=f"nv-environment nv-env-{environment.colour}",
            role="note",
            aria_label=f"Environment {environment.label}",
        )
    )


def worker_notice(services: Services, *, queued: int) -> None:
    """Say so where runs wait and nobody takes them."""
    if not queued:
        return
    workers = services.read(summaries.workers)
    alive = services.beats.alive(workers, lease_seconds=services.environment.worker.lease_seconds, at=time.monotonic())
    if not workers or alive is False:
        status.notice(
            tag("strong", f"{words.counted(queued, 'run')} queued, and no worker takes them. "),
            "Start one with ",
            tag("code", "python -m jobs worker"),
            ".",
        )
