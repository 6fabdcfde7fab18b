"""Load windows: when is the pool online, for whom, and what does that cost? All of them, or one."""

from __future__ import annotations

import streamlit as st

from pages.ui import page, window_list, window_now, window_words

services = page.open_page("Load windows", "When is the pool online, for whom, and what does that cost?")

if (_window := window_list.number_of(st.query_params.get("window", ""))) is not None:
    window_list.draw_one(services, _window)
else:
    if window_words.has_pool(services) or window_words.standing(services).window is not None:
        window_now.draw(services)
    else:
        window_list.no_pool(services)
    window_list.draw(services)
