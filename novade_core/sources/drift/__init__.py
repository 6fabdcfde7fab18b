"""Drift: ``source`` the protocol · ``client`` one door for all requests · ``paging`` every way in which Drift pages ·
``shelf`` what was listed, on disk · ``listing`` the walk that loses nothing · ``records`` JSON to columns · ``faults``
answers and what they mean.

Facts and their evidence are in docs/connectors/drift.md.
"""

from novade_core.sources.drift.source import Drift

__all__ = ["Drift"]
