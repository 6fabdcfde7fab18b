"""Stand-ins for the remote services, on loopback, with seeded data that changes on request.

The sandbox imports nothing of the console and the console nothing of it: both meet over the wire only, so a test
that passes here speaks the same protocol as production.

    python -m sandbox serve --dir var/sandbox --port 8543 --size 10000

Map
    __main__      the command line
    process       lock, certificates, secrets, the HTTPS server and its end
    salesforce/   the Salesforce org: schema, seed data, SOQL, REST, Bulk API 2.0, OAuth, faults
    amplitude/    two Amplitude projects: export, charts, taxonomy, the native destination into blobs, faults
    drift/        the Drift workspace: conversations, messages, people, both pagings, the bulk export, faults
    synapse/      a Synapse dedicated pool: TDS over DuckDB, COPY INTO from Blob Storage, pause and resume, faults
"""
