"""Schedules: will it run, did it run on time? All of them, one of them, or the form of a new one; all are links."""

from __future__ import annotations

import streamlit as st

from pages.ui import page

services = page.open_page("Schedules", "Will it run, did it run on time?")

if st.query_params.get("view") == "add":
    from pages.ui import schedule_form

    schedule_form.add(services)
elif st.query_params.get("schedule"):
    from pages.ui import one_schedule

    one_schedule.draw(services, st.query_params["schedule"])
else:
    from pages.ui import schedule_list

    schedule_list.draw(services)
