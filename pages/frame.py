"""The frame of every page: page config, environment badge, access gate, navigation. No numbers, no queries."""

from pathlib import Path

import streamlit as st

from pages.ui import page

_HERE = Path(__file__).parent

st.set_page_config(page_title="Novade", layout="wide", initial_sidebar_state="auto")
st.html(_HERE / "ui" / "console.css")

with page.guarded():
    _environment = page.open_services().environment
# The gate: there is no login yet, so app.py serves loopback addresses only and whoever is here is local.
page.environment_badge(_environment)

_pages = {
    "Flow": [
        st.Page(
            _HERE / "flow" / "overview.py",
            title="Overview",
            icon=":material/monitor_heart:",
            default=True,
            help="Is data moving, can I believe it, what does it cost?",
        ),
        st.Page(
            _HERE / "flow" / "sync.py",
            title="Sync",
            icon=":material/sync:",
            url_path="sync",
            help="Bring streams here now.",
        ),
        st.Page(
            _HERE / "flow" / "runs.py",
            title="Runs",
            icon=":material/list_alt:",
            url_path="runs",
            help="What happened, and why?",
        ),
    ],
}
with page.guarded():
    st.navigation(_pages, expanded=True).run()
