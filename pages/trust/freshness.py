"""Freshness: how old is what we look at? All streams by days, or one stream's age over time; both are links."""

from __future__ import annotations

import streamlit as st

from pages.ui import page

services = page.open_page("Freshness", "How old is what we look at?")

if st.query_params.get("stream"):
    from pages.ui import one_age

    one_age.draw(services, st.query_params["stream"])
else:
    from pages.ui import age_list

    age_list.draw(services)
