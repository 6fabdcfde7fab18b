"""Three workers on one ledger, and everything that can happen to them; afterwards nothing is lost, doubled or stuck.

``python -m tests.chaos --runs 200 --seed 1`` (``make chaos``) · ``worker`` and ``child`` are the processes that are
made to suffer · ``arena`` builds the place, hurts them, waits for calm · ``witness`` judges what is left.
"""
