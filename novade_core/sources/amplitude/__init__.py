"""Amplitude: ``source`` the protocol · ``client`` one door for all requests · ``export`` hours to batches · ``archive``
a zip of gzip files, read without trust · ``lines`` which lines are taken · ``fields`` columns of each stream ·
``taxonomy`` definitions of events and properties · ``faults`` answers and what they mean.

Facts and their evidence are in docs/connectors/amplitude.md.
"""

from novade_core.sources.amplitude.source import Amplitude

__all__ = ["Amplitude"]
