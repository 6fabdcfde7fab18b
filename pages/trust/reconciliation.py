"""Reconciliation: is it all there? Source against warehouse for all streams, or one of them; both are links."""

from __future__ import annotations

import streamlit as st

from pages.ui import page

services = page.open_page("Reconciliation", "Is it all there?")

if st.query_params.get("stream"):
    from pages.ui import one_comparison

    one_comparison.draw(services, st.query_params["stream"])
else:
    from pages.ui import comparison_list

    comparison_list.draw(services)
