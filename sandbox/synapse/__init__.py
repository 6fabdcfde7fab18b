"""A Synapse dedicated pool: TDS 7.4 over DuckDB, refusing what a pool refuses and what is not known here by name."""
