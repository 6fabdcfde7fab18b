"""A Drift workspace: conversations, messages, contacts, users, accounts, and how reading them goes wrong.

What is imitated comes from the vendor's documentation (devdocs.drift.com), its Python client and the published API
collection. Where those leave something open it is a setting (`faults.SETTINGS`), so that a reader can be tried
against every variant.

Map, from the data outwards
    words       names and texts of the kind that break careless readers
    seed        seeded records as pure functions of their number: any size, no stored rows
    workspace   the seed plus a journal of changes; the order by updatedAt
    changes     changes made to order: new, moved, edited, deleted
    tokens      bearer tokens, their scopes, refresh
    faults      how it fails on request, the variants, the rate limit
    api         what each address answers
    export      the bulk export as files in a folder or a container
    control     control routes under /_sandbox/drift/
    app         the ASGI application, alone or before another one
"""
