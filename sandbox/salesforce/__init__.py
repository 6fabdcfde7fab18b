"""A Salesforce org: what it holds, how it is asked, and how it goes wrong.

Map, from the data outwards
    ids            18-character ids and their checksum
    schema         SObject and Field, read from a compact table
    catalogue      the objects of the default org (people, business and other objects)
    describe       describe documents made from the schema
    generate       seed data for the default org, in SQL
    folder_org     an org loaded from CSV or JSON files instead
    store          versioned rows in DuckDB plus the journal of changes
    changes        random but repeatable changes, turned into journal entries
    soql, planner, plan    the query language, its translation to SQL, and what comes of it
    results        result sets frozen at one moment, read page by page
    render         rows as REST JSON or Bulk CSV
    faults, quota  how it fails on request, and how many calls are left
    oauth, rest, bulk, control, app    the HTTP surface
"""
