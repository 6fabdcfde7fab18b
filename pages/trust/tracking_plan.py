"""Tracking plan: what do apps have to send? A plan in one of its versions, and what changed before it."""

from __future__ import annotations

from pages.ui import page, plan_view

services = page.open_page("Tracking plan", "What was agreed to be sent, and since when?")
plan_view.draw(services)
