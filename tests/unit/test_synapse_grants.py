"""Which grant a refused step lacks, by the pool's words or by the step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from novade_core.warehouse.synapse_grants import STEP_GRANTS, missing_grant

WAREHOUSE = Path(__file__).resolve().parents[2] / "novade_core" / "warehouse"
#: These read what every user of a database may, or change nothing.
FREE = {"begin", "commit", "rollback", "schemas", "tables", "columns", "columnstore"}


@pytest.mark.parametrize(
    ("text", "grant"),
    [
        (
            "The INSERT permission was denied on the object 'contact', database 'dw', schema 'salesforce'. (229)",
            "INSERT ON SCHEMA::[salesforce]",
        ),
        (
            "[Microsoft][ODBC Driver 18][SQL Server]CREATE TABLE permission denied in database 'dw'. (262)",
            "CREATE TABLE",
        ),
        (
            'The specified schema name "novade" either does not exist or you do not have permission to use it. (2760)',
            "ALTER ON SCHEMA::[novade]",
        ),
        ("User does not have permission to perform this action. (15247)", STEP_GRANTS["copy"]),
    ],
)
def test_the_pools_words_name_the_grant_and_else_the_step_does(text: str, grant: str):
    assert missing_grant("copy", text) == grant


def test_a_step_that_nothing_is_known_of_names_none():
    assert missing_grant("connect", "No.") is None


def test_every_step_of_a_load_and_no_other_is_in_the_table():
    named = re.compile(r'Statement\(\s*"([a-z_]+)"')
    steps = {
        step
        for module in ("synapse_sql", "synapse_load_sql", "synapse_watch")
        for step in named.findall((WAREHOUSE / f"{module}.py").read_text(encoding="utf-8"))
    }
    assert set(STEP_GRANTS) - {"fence", "fence_row"} == steps - FREE
