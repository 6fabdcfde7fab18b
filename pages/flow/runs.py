"""Runs: what happened, and why? A list with filters, or one run; both are links."""

from __future__ import annotations

import streamlit as st

from pages.ui import page

services = page.open_page("Runs", "What happened, and why?")

if st.query_params.get("run"):
    from pages.ui import one_run

    one_run.draw(services, st.query_params["run"])
else:
    from pages.ui import run_list

    run_list.draw(services)
