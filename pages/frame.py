"""The frame of every page: page config, environment badge, access gate, navigation. No numbers, no queries."""

from pathlib import Path

import streamlit as st

from pages.ui import page

_HERE = Path(__file__).parent

st.set_page_config(layout="wide")
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
            default=True,
            help="Is data moving, can I believe it, what does it cost?",
        ),
        st.Page(
            _HERE / "flow" / "sync.py",
            title="Sync",
            url_path="sync",
            help="Bring streams here now.",
        ),
        st.Page(
            _HERE / "flow" / "schedules.py",
            title="Schedules",
            url_path="schedules",
            help="Will it run, did it run on time?",
        ),
        st.Page(
            _HERE / "flow" / "runs.py",
            title="Runs",
            url_path="runs",
            help="What happened, and why?",
        ),
    ],
    "Trust": [
        st.Page(
            _HERE / "trust" / "freshness.py",
            title="Freshness",
            url_path="freshness",
            help="How old is what we look at?",
        ),
        st.Page(
            _HERE / "trust" / "reconciliation.py",
            title="Reconciliation",
            url_path="reconciliation",
            help="Is it all there?",
        ),
        st.Page(
            _HERE / "trust" / "tracking_plan.py",
            title="Tracking plan",
            url_path="tracking-plan",
            help="What was agreed to be sent, and since when?",
        ),
    ],
    "Control": [
        st.Page(
            _HERE / "control" / "costs.py",
            title="Costs",
            url_path="costs",
            help="What does a thousand rows cost, and why did it change?",
        ),
        st.Page(
            _HERE / "control" / "views.py",
            title="Views",
            url_path="views",
            help="What can be read without a pool, and is it what has landed?",
        ),
        st.Page(
            _HERE / "control" / "load_windows.py",
            title="Load windows",
            url_path="load-windows",
            help="When is the pool online, for whom, and what does that cost?",
        ),
    ],
}
# Streamlit's own sidebar is a list that screen readers cannot follow once it has sections, so ours is drawn here.
_chosen = st.navigation(_pages, position="hidden")
with st.sidebar:
    for _section, _members in _pages.items():
        st.caption(_section)
        for _member in _members:
            st.page_link(_member, width="stretch")
# Pages have no icon: Streamlit would fetch it as a favicon from a foreign server.
st.set_page_config(page_title=f"{_chosen.title} · {_environment.label}", page_icon=str(_HERE / "ui" / "favicon.svg"))
with page.guarded():
    _chosen.run()
