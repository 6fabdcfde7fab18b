"""Run history and state.

``models`` the tables · ``database`` opening, migrating, transactions · ``writer`` what sync and jobs write ·
``leases`` who works on a stream · ``plans`` sync plans and landed files · ``requests`` all that people may
write · ``queries`` and ``summaries`` all that pages read.
"""
