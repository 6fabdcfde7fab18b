"""Costs: what does a thousand rows cost, and why did it change? A month, one stream of it, or the form of a price."""

from __future__ import annotations

import streamlit as st

from pages.ui import page

services = page.open_page("Costs", "What does a thousand rows cost, and why did it change?")

if st.query_params.get("view") == "price":
    from pages.ui import price_form

    price_form.draw(services)
else:
    from pages.ui import cost_month

    cost_month.draw(services)
