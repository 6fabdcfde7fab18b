"""One sync, step by step: ``plan`` what to read · ``typed`` text into types · ``chunks`` a batch into a landed
file · ``engine`` the loop you can read · ``verify`` do the counts add up, and do both sides agree?
"""
