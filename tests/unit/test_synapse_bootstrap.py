"""Preparing a pool: every statement that it can take, and that a second time takes none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from novade_core.errors import ConfigurationError
from novade_core.warehouse import synapse_bootstrap as bootstrap
from novade_core.warehouse import synapse_sql
from novade_core.warehouse.synapse_bootstrap import NOTHING, Facts, Grant, Place, Wanted, assignments, changes
from novade_core.warehouse.synapse_sql import Statement

PROJECT = Path(__file__).resolve().parents[2]
WANTED = Wanted(pool="novade", sources=("salesforce",), console="acme-console", analysts=("Data Analysts",))

PREPARED = [
    ("master", "ALTER DATABASE [novade] SET READ_COMMITTED_SNAPSHOT ON"),
    ("pool", "CREATE SCHEMA [novade]"),
    ("pool", "CREATE SCHEMA [novade_stage]"),
    ("pool", "CREATE SCHEMA [salesforce]"),
    ("pool", "CREATE TABLE [novade].[novade_fence] WITH"),
    ("pool", "CREATE TABLE [novade].[novade_loads] ("),
    ("pool", "CREATE TABLE [novade].[novade_tombstones] ("),
    ("pool", "CREATE TABLE [novade].[novade_swaps] ("),
    ("pool", "CREATE MASTER KEY"),
    ("pool", "CREATE DATABASE SCOPED CREDENTIAL [novade_landing] WITH IDENTITY = 'Managed Service Identity'"),
    ("pool", "CREATE ROLE [novade_loader]"),
    ("pool", "CREATE ROLE [novade_reader]"),
    ("pool", "GRANT CREATE TABLE TO [novade_loader]"),
    ("pool", "GRANT ADMINISTER DATABASE BULK OPERATIONS TO [novade_loader]"),
    ("pool", "GRANT VIEW DATABASE STATE TO [novade_loader]"),
    *(
        ("pool", f"GRANT {right} ON SCHEMA::[{schema}] TO [novade_loader]")
        for schema in ("salesforce", "novade_stage", "novade")
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "ALTER")
    ),
    ("pool", "GRANT SELECT ON SCHEMA::[salesforce] TO [novade_reader]"),
    ("pool", "CREATE USER [acme-console] FROM EXTERNAL PROVIDER"),
    ("pool", "EXEC sp_addrolemember N'novade_loader', N'acme-console'"),
    ("pool", "CREATE USER [Data Analysts] FROM EXTERNAL PROVIDER"),
    ("pool", "EXEC sp_addrolemember N'novade_reader', N'Data Analysts'"),
    (
        "pool",
        "CREATE WORKLOAD GROUP [novade_load] WITH (MIN_PERCENTAGE_RESOURCE = 0, CAP_PERCENTAGE_RESOURCE = 50, "
        "REQUEST_MIN_RESOURCE_GRANT_PERCENT = 25)",
    ),
    (
        "pool",
        "CREATE WORKLOAD CLASSIFIER [novade_load_members] WITH (WORKLOAD_GROUP = 'novade_load', "
        "MEMBERNAME = 'novade_loader')",
    ),
]


class CataloguePool:
    """A pool's catalogue alone: takes the statements of a preparation and answers its questions."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[Any, ...]]] = {name: [] for name in bootstrap.questions(WANTED)}
        self.answers["snapshot"] = [(False,)]

    def run(self, text: str) -> None:
        tell = self.answers
        if match := re.fullmatch(r"CREATE SCHEMA \[(\w+)\]", text):
            tell["schemas"].append((match[1],))
        elif match := re.match(r"CREATE TABLE \[(\w+)\]\.\[(\w+)\]", text):
            tell["tables"].append((match[1], match[2]))
        elif text == "CREATE MASTER KEY":
            tell["master_key"].append(("##MS_DatabaseMasterKey##",))
        elif match := re.match(r"CREATE DATABASE SCOPED CREDENTIAL \[(\w+)\]", text):
            tell["credentials"].append((match[1],))
        elif match := re.fullmatch(r"CREATE ROLE \[(\w+)\]", text):
            tell["principals"].append((match[1], "R"))
        elif match := re.fullmatch(r"CREATE USER \[(.+)\] FROM EXTERNAL PROVIDER", text):
            tell["principals"].append((match[1], "E"))
        elif match := re.fullmatch(r"GRANT ([A-Z ]+?)(?: ON SCHEMA::\[(\w+)\])? TO \[(\w+)\]", text):
            tell["grants"].append((match[3], match[1], 3 if match[2] else 0, match[2]))
        elif match := re.fullmatch(r"EXEC sp_addrolemember N'(\w+)', N'(.+)'", text):
            tell["members"].append((match[1], match[2]))
        elif match := re.match(r"CREATE WORKLOAD GROUP \[(\w+)\]", text):
            tell["workload_groups"].append((match[1],))
        elif match := re.match(r"CREATE WORKLOAD CLASSIFIER \[(\w+)\]", text):
            tell["classifiers"].append((match[1],))
        elif text.endswith("SET READ_COMMITTED_SNAPSHOT ON"):
            tell["snapshot"] = [(True,)]
        else:
            raise AssertionError(f"not a statement of a preparation: {text}")

    def facts(self) -> Facts:
        return bootstrap.facts(self.answers)

    def both(self, _database: str, statement: Statement) -> list[tuple[Any, ...]]:
        """Questions are answered, everything else is done."""
        if statement.step.startswith("see_"):
            return self.answers[statement.step.removeprefix("see_")]
        self.run(statement.text)
        return []


def test_an_empty_pool_takes_exactly_these_statements() -> None:
    made = changes(WANTED, NOTHING)
    assert len(made) == len(PREPARED)
    for change, (database, text) in zip(made, PREPARED, strict=True):
        assert change.on == database
        assert change.statement.text == text or (text[-1] in "(H" and change.statement.text.startswith(text))
        assert change.why
        assert not change.statement.parameters


def test_a_second_time_nothing_is_left_to_do() -> None:
    pool = CataloguePool()
    for change in changes(WANTED, pool.facts()):
        pool.run(change.statement.text)
    assert changes(WANTED, pool.facts()) == ()


def test_apply_runs_what_is_missing_and_looks_again() -> None:
    pool = CataloguePool()
    heard: list[str] = []
    assert bootstrap.apply(pool.both, WANTED, lambda change: heard.append(change.statement.text)) == len(PREPARED)
    assert len(heard) == len(PREPARED)
    assert bootstrap.apply(pool.both, WANTED) == 0
    assert bootstrap.look(pool.both, replace(WANTED, console="ACME-Console")) == ()


def test_a_pool_that_says_yes_and_does_nothing_is_an_error() -> None:
    class Deaf(CataloguePool):
        def run(self, text: str) -> None:
            if not text.startswith("GRANT"):
                super().run(text)

    with pytest.raises(ConfigurationError, match="does not show the effect of: GRANT CREATE TABLE"):
        bootstrap.apply(Deaf().both, WANTED)


def test_every_step_can_be_the_last_one_before_a_crash() -> None:
    whole = [change.statement.text for change in changes(WANTED, NOTHING)]
    for done in range(len(whole)):
        pool = CataloguePool()
        for text in whole[:done]:
            pool.run(text)
        assert [change.statement.text for change in changes(WANTED, pool.facts())] == whole[done:]


def test_a_new_source_and_a_new_analyst_add_only_their_own() -> None:
    pool = CataloguePool()
    for change in changes(WANTED, pool.facts()):
        pool.run(change.statement.text)
    more = replace(WANTED, sources=("salesforce", "drift"), analysts=("Data Analysts", "o'neill@acme.com"))
    added = [change.statement.text for change in changes(more, pool.facts())]
    assert added == [
        "CREATE SCHEMA [drift]",
        *(f"GRANT {r} ON SCHEMA::[drift] TO [novade_loader]" for r in bootstrap.SCHEMA_GRANTS),
        "GRANT SELECT ON SCHEMA::[drift] TO [novade_reader]",
        "CREATE USER [o'neill@acme.com] FROM EXTERNAL PROVIDER",
        "EXEC sp_addrolemember N'novade_reader', N'o''neill@acme.com'",
    ]


def test_a_pool_has_none_of_the_forms_that_it_refuses() -> None:
    for change in changes(WANTED, NOTHING):
        assert "IF EXISTS" not in change.statement.text
        assert "IF NOT EXISTS" not in change.statement.text
        assert "ALTER ROLE" not in change.statement.text
        assert not change.statement.labelled or change.statement.step == "create_fence"


def test_the_loader_may_nothing_beyond_what_its_statements_need() -> None:
    pool = CataloguePool()
    for change in changes(WANTED, pool.facts()):
        pool.run(change.statement.text)
    held = pool.facts().grants
    loader = {grant.permission for grant in held if grant.to == bootstrap.LOADER}
    assert loader == set(bootstrap.DATABASE_GRANTS) | set(bootstrap.SCHEMA_GRANTS)
    assert not {"CONTROL", "ALTER ANY SCHEMA", "ALTER ANY EXTERNAL DATA SOURCE"} & loader
    assert {grant for grant in held if grant.to == bootstrap.READER} == {
        Grant(bootstrap.READER, "SELECT", "salesforce")
    }


def test_control_tables_are_those_of_the_loads() -> None:
    made = [c.statement for c in changes(WANTED, NOTHING)]
    assert synapse_sql.create_fence_table() in made
    for table, (columns, storage) in synapse_sql.OWN_TABLES.items():
        assert synapse_sql.create_table(table, columns, storage) in made


def test_a_user_where_a_role_is_needed_is_an_error_with_a_way_out() -> None:
    with pytest.raises(ConfigurationError, match="a user called novade_loader") as caught:
        changes(WANTED, replace(NOTHING, principals={"novade_loader": "S"}))
    assert "Drop or rename" in caught.value.hint


def test_names_that_no_pool_holds_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be a name"):
        changes(replace(WANTED, console=""), NOTHING)


def test_role_assignments_name_role_receiver_reason_and_command() -> None:
    place = Place(subscription="s-1", resource_group="novade", workspace="acme-ws", account="acmelake")
    made = assignments(WANTED, place)
    assert [a.role for a in made] == [
        "Storage Blob Data Contributor",
        "Storage Blob Data Contributor",
        "Novade pool operator",
        "Novade pool operator",
    ]
    for assignment in made:
        assert assignment.why
        assert assignment.command.startswith("az role ")
        assert "s-1" in assignment.command
    definition = json.loads(re.search(r"'(\{.*\})'", made[2].command)[1])  # type: ignore[index]  # it is there
    assert definition["Actions"] == list(bootstrap.POOL_ACTIONS)
    assert "acmelake/blobServices/default/containers/landing" in made[0].command
    assert "SUBSCRIPTION" in assignments(WANTED, Place())[0].command


def test_bicep_grants_the_same() -> None:
    text = (PROJECT / "deploy" / "bicep" / "modules" / "grants.bicep").read_text()
    granted = re.findall(r"'(Microsoft\.Synapse/[\w/]+)'\n", text)
    assert tuple(granted) == bootstrap.POOL_ACTIONS
