"""A console on a ledger in a temporary folder, drawn by AppTest from the frame script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from novade_core.ledger.database import Ledger
from novade_core.settings import PROJECT
from tests.pages import seed


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty ledger; the console's configuration points to it."""
    monkeypatch.setenv("NOVADE_CONFIG", str(seed.configure(tmp_path)))
    monkeypatch.setenv("NOVADE_HOME", str(tmp_path))
    st.cache_resource.clear()
    st.cache_data.clear()
    opened: Ledger = seed.ledger_at(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def visit() -> Callable[..., AppTest]:
    """Open a page with query parameters, as a first visit."""

    def go(name: str = "overview", **query: str) -> AppTest:
        app = AppTest.from_file(str(PROJECT / "pages" / "frame.py"), default_timeout=30)
        app.run()
        for key, value in query.items():
            app.query_params[key] = value
        (file,) = (PROJECT / "pages").glob(f"*/{name}.py")
        return app.switch_page(str(file)).run()

    return go


def text_of(app: AppTest) -> str:
    """All HTML that the page drew."""
    return "\n".join(e.proto.body for e in app.get("html"))
