"""Measurements: how long, how much memory, and next to what. ``python -m bench`` runs them; README.md explains."""
