"""Salesforce: ``source`` the protocol · ``client`` one door for all requests · ``bulk`` and ``rest`` the two ways
to read · ``types`` describe to columns · ``soql`` statements · ``faults`` every error code and what it means.

Facts and their evidence are in docs/connectors/salesforce.md.
"""

from novade_core.sources.salesforce.source import Salesforce

__all__ = ["Salesforce"]
