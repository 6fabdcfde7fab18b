"""The ingestion core: everything that works without a screen and without a clock.

Read it in the order in which one record travels:

==================  =========================================================================
``settings``        typed configuration; an Environment is a frozen value chosen by name
``errors``          the whole error tree, grouped by what the caller should do
``streams``         the nouns that all stages share: Stream, Column, Batch, LandedFile
``rowhash``         the canonical text of a row and its hash, for every engine
``sources``         where data comes from; a source yields batches and knows nothing beyond
``landing``         immutable files and their manifests
``warehouse``       staging, fenced upsert, load marker
``ledger``          runs, steps, checkpoints, leases, usage: what happened and what is asked for
``sync``            plan -> extract -> land -> load -> verify -> checkpoint
``monitoring``      pure functions from facts to findings
``wiring``          the only file that picks concrete adapters
==================  =========================================================================

It imports neither Streamlit nor APScheduler; pages and jobs meet in the ledger.
"""
