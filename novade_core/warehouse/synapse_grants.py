"""Which grant a refused step lacks: by the pool's own words where they name it, else by what the step needs."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: A permission was denied on an object, on the database, on a database of the server; no such schema or no right to
#: it; no such credential; COPY without its permission.
RIGHTS = frozenset({229, 230, 262, 297, 300, 2760, 15247, 6004, 105249})

_TABLE = "CREATE TABLE, ALTER on the table's schema"
_CONTROL = "SELECT, INSERT, UPDATE, DELETE on the schema novade"
_READ = "SELECT on the schemas of the sources, novade_stage and novade"
_STATE = "VIEW DATABASE STATE"
#: Step -> grants that it needs; each is made by ``jobs azure apply``, see synapse_bootstrap for the reasons.
STEP_GRANTS: Mapping[str, str] = {
    "create_schema": "CREATE SCHEMA; the loader has it on purpose not, the schema is made by `jobs azure apply`",
    **dict.fromkeys(("create", "create_fence"), _TABLE),
    **dict.fromkeys(("add", "widen", "drop", "rename", "statistics"), "ALTER on the table's schema"),
    "replace": f"{_TABLE}, {_READ}",
    "copy": "ADMINISTER DATABASE BULK OPERATIONS, INSERT on the schema novade_stage",
    **dict.fromkeys(("classify", "keep"), f"INSERT on the schema novade_stage, {_READ}"),
    "insert": f"INSERT on the source's schema, {_READ}",
    **dict.fromkeys(("delete", "delete_all"), f"DELETE on the source's schema, {_READ}"),
    "note": f"UPDATE on the source's schema, {_READ}",
    **dict.fromkeys(
        (
            "fence", "fence_row", "fence_lock", "fence_make", "mark", "unmark", "bury", "unbury", "note_tombstones",
            "swap_open", "swap_close", "swap_commit", "swap_forget", "swap_rename",
        ),
        _CONTROL,
    ),
    **dict.fromkeys(
        ("fence_read", "markers", "verdicts", "swaps", "count", "count_staged", "count_months", "keys"), _READ
    ),
    **dict.fromkeys(("count_approximate", "sessions", "work"), _STATE),
}  # fmt: skip
_ON_AN_OBJECT = re.compile(
    r"The ([A-Z ]+) permission was denied on the object '[^']*', database '[^']*', schema '([^']*)'"
)
_ON_THE_DATABASE = re.compile(r"([A-Z][A-Z ]+) permission (?:was )?denied in database")
_ON_A_SCHEMA = re.compile(r'The specified schema name "([^"]*)" either does not exist or')


def missing_grant(step: str, text: str) -> str | None:
    """The grant as it is written after GRANT, or the step's grants in words; None where nothing is known.

    ``text`` is the pool's message, of which permission and schema are taken and nothing else.
    """
    if found := _ON_AN_OBJECT.search(text):
        return f"{found[1]} ON SCHEMA::[{found[2]}]"
    if found := _ON_A_SCHEMA.search(text):
        return f"ALTER ON SCHEMA::[{found[1]}]"
    if found := _ON_THE_DATABASE.search(text):
        return found[1].strip()
    return STEP_GRANTS.get(step)
