"""The console: ``streamlit run app.py``. The start hook opens the ledger and starts the worker; no visitor is needed.

This is the one place that starts both the pages and the jobs; they meet in the ledger. The screens are
in ``pages/``, beginning with ``pages/frame.py``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import streamlit as st

from jobs import api

_log = logging.getLogger("novade")
_console = api.Console()


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Open what the process needs, work the queue while it serves, and stop cleanly."""
    from anyio import to_thread

    from novade_core.ledger.database import open_ledger
    from novade_core.settings import load_settings

    refuse_strangers(st.get_option("server.address"))
    environment = load_settings()
    _console.environment = environment
    _console.ledger = await to_thread.run_sync(open_ledger, environment.ledger_url)
    worker = None
    if environment.worker.mode == "internal":
        from jobs.scheduler import start_worker

        worker = await to_thread.run_sync(start_worker, environment)
    _log.info("The console serves the environment %s.", environment.name)
    try:
        yield {}
    finally:
        if worker is not None:
            await to_thread.run_sync(worker.stop)
        _console.ledger.close()
        _console.ledger = None


def refuse_strangers(address: str | None) -> None:
    """Nobody can log in yet, so only this machine may reach the console. Raises ConfigurationError."""
    from novade_core.errors import ConfigurationError

    try:
        loopback = address == "localhost" or ip_address(address or "0.0.0.0").is_loopback  # noqa: S104 (refused)
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigurationError(
            f"The console would serve {address or 'every address'} without a login.",
            hint="Set server.address to 127.0.0.1 in .streamlit/config.toml.",
        )


app = st.App(Path(__file__).parent / "pages" / "frame.py", lifespan=lifespan, routes=api.routes(_console))
