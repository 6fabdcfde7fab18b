"""Views: what can analysts read without a pool, and is it what has landed? All of them, or the SQL of one."""

from __future__ import annotations

import streamlit as st

from pages.ui import page, view_list

services = page.open_page("Views", "What can be read without a pool, and is it what has landed?")

if services.environment.serverless is None:
    view_list.absent(services)
elif st.query_params.get("view"):
    view_list.draw_sql(services, st.query_params["view"])
else:
    view_list.draw(services)
