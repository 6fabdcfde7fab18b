"""Pure functions from facts to words and findings: no I/O, no clock.

``freshness`` how old is what we look at · ``estimates`` what a sync will probably take
"""
