"""What a dedicated SQL pool needs before its first load, as statements: compared with what is there, made once.

Pure: ``questions()`` reads the pool's own catalogue, ``facts()`` makes sense of the answers, ``changes()`` is what is
still missing. The pool has no IF NOT EXISTS, hence the reading first. Whoever runs them administers the pool; what
the product itself may do there afterwards is exactly what is granted here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from novade_core.errors import ConfigurationError
from novade_core.warehouse import synapse_sql as sql
from novade_core.warehouse.synapse_sql import Statement, identifier, literal

#: Roles of the pool: what loads, and who reads.
LOADER, READER = "novade_loader", "novade_reader"
CREDENTIAL = "novade_landing"
WORKLOAD_GROUP, CLASSIFIER = "novade_load", "novade_load_members"
CONTROL_SCHEMA = sql.FENCE.schema

Database = Literal["pool", "master"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the pool is prepared for."""

    pool: str  #: the database's name
    sources: tuple[str, ...]  #: one schema each
    console: str  #: the console's identity as Entra shows it: the managed identity's name
    analysts: tuple[str, ...] = ()  #: Entra users or groups that read


class Grant(NamedTuple):
    """A right of a principal, on the whole database (``schema`` None) or on a schema."""

    to: str
    permission: str
    schema: str | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is there, by the pool's own views."""

    schemas: frozenset[str] = frozenset()
    tables: frozenset[tuple[str, str]] = frozenset()
    #: Name in lower case -> type: R role, E and X Entra user and group, S SQL user. Names differ in case from what
    #: somebody types, and a pool takes both for the same.
    principals: Mapping[str, str]
    members: frozenset[tuple[str, str]] = frozenset()  #: (role, member), in lower case
    grants: frozenset[Grant] = frozenset()
    has_master_key: bool = False
    credentials: frozenset[str] = frozenset()
    workload_groups: frozenset[str] = frozenset()
    classifiers: frozenset[str] = frozenset()
    snapshot: bool = False  #: READ_COMMITTED_SNAPSHOT


#: A pool as it is created.
NOTHING = Facts(principals={})


class Change(NamedTuple):
    """One statement that is still to run, with the reason that it is needed."""

    statement: Statement
    why: str
    on: Database = "pool"  #: in which database it has to run


#: What the loader may do on the whole database, each with its reason.
DATABASE_GRANTS: Mapping[str, str] = {
    "CREATE TABLE": "staging tables are made for each load, and a full reload makes the new table beside the old one",
    "ADMINISTER DATABASE BULK OPERATIONS": "COPY INTO asks for it",
    "VIEW DATABASE STATE": "costs by label, other people's sessions and approximate row counts stand in the views",
}
#: On the schemas of the sources, of staging and of the control tables.
SCHEMA_GRANTS: Mapping[str, str] = {
    "SELECT": "keys and versions are compared, rows are counted",
    "INSERT": "rows are loaded",
    "UPDATE": "the fence, markers and the order of landings are moved on",
    "DELETE": "rows with a newer version make room",
    "ALTER": "tables are created, renamed, widened and dropped in it, statistics are brought up to date",
}


# --- reading --------------------------------------------------------------------------------------


def questions(wanted: Wanted) -> dict[str, Statement]:
    """What to ask the pool before anything is changed; ``facts`` takes the answers under the same names."""
    asked = {
        "schemas": "SELECT [name] FROM sys.schemas",
        "tables": "SELECT s.[name], t.[name] FROM sys.tables AS t JOIN sys.schemas AS s "
        "ON s.[schema_id] = t.[schema_id]",
        "principals": "SELECT [name], [type] FROM sys.database_principals",
        "members": "SELECT r.[name], m.[name] FROM sys.database_role_members AS x "
        "JOIN sys.database_principals AS r ON r.[principal_id] = x.[role_principal_id] "
        "JOIN sys.database_principals AS m ON m.[principal_id] = x.[member_principal_id]",
        # Class 0 is the database, 3 a schema; state G is granted, W granted with the right to pass on.
        "grants": "SELECT g.[name], p.[permission_name], p.[class], s.[name] FROM sys.database_permissions AS p "
        "JOIN sys.database_principals AS g ON g.[principal_id] = p.[grantee_principal_id] "
        "LEFT JOIN sys.schemas AS s ON s.[schema_id] = p.[major_id] AND p.[class] = 3 "
        "WHERE p.[state] IN ('G', 'W') AND p.[class] IN (0, 3)",
        "master_key": "SELECT [name] FROM sys.symmetric_keys WHERE [name] = '##MS_DatabaseMasterKey##'",
        "credentials": "SELECT [name] FROM sys.database_scoped_credentials",
        "workload_groups": "SELECT [name] FROM sys.workload_management_workload_groups",
        "classifiers": "SELECT [name] FROM sys.workload_management_workload_classifiers",
    }
    statements = {name: Statement(f"see_{name}", text, labelled=False) for name, text in asked.items()}
    statements["snapshot"] = Statement(
        "see_snapshot",
        "SELECT [is_read_committed_snapshot_on] FROM sys.databases WHERE [name] = ?",
        (wanted.pool,),
        labelled=False,
    )
    return statements


def facts(answers: Mapping[str, Sequence[Sequence[Any]]]) -> Facts:
    """The answers to ``questions``, in a form that can be compared."""

    def names(of: str) -> frozenset[str]:
        return frozenset(str(row[0]) for row in answers[of])

    return Facts(
        schemas=names("schemas"),
        tables=frozenset((str(row[0]), str(row[1])) for row in answers["tables"]),
        principals={str(row[0]).lower(): str(row[1]).strip() for row in answers["principals"]},
        members=frozenset((str(row[0]).lower(), str(row[1]).lower()) for row in answers["members"]),
        grants=frozenset(
            Grant(str(row[0]), str(row[1]).upper(), None if int(row[2]) == 0 else str(row[3]))
            for row in answers["grants"]
        ),
        has_master_key=bool(answers["master_key"]),
        credentials=names("credentials"),
        workload_groups=names("workload_groups"),
        classifiers=names("classifiers"),
        snapshot=any(bool(row[0]) for row in answers["snapshot"]),
    )


# --- what is missing ------------------------------------------------------------------------------


def changes(wanted: Wanted, there: Facts) -> tuple[Change, ...]:
    """What is still to run, in order. Empty where the pool is prepared.

    Raises ConfigurationError for names that no pool can hold, and where a role's name is taken by somebody else.
    """
    _check(wanted, there)
    return (
        *_isolation(wanted, there),
        *_schemas(wanted, there),
        *_control_tables(there),
        *_credential(there),
        *_roles(wanted, there),
        *_people(wanted, there),
        *_workload(there),
    )


def _check(wanted: Wanted, there: Facts) -> None:
    for name in (wanted.pool, wanted.console, *wanted.sources, *wanted.analysts):
        try:
            identifier(name)
        except ValueError as error:
            raise ConfigurationError(
                f"{name!r} cannot be a name in a pool: {error}.", hint="Give another name.", origin="warehouse"
            ) from error
    for role in (LOADER, READER):
        if there.principals.get(role, "R") != "R":
            raise ConfigurationError(
                f"The pool has a user called {role}; a role of that name is needed.",
                hint=f"Drop or rename the user {role}, then apply again.",
                origin="warehouse",
            )


def _isolation(wanted: Wanted, there: Facts) -> Iterable[Change]:
    if not there.snapshot:
        # Before the tables: it waits for every other session of the pool, and now there are the fewest.
        yield Change(
            _ddl("snapshot", f"ALTER DATABASE {identifier(wanted.pool)} SET READ_COMMITTED_SNAPSHOT ON"),
            "readers see a load whole or not at all; without it they read rows that are not committed",
            "master",
        )


def _loaded_schemas(wanted: Wanted) -> tuple[str, ...]:
    return (*wanted.sources, sql.STAGE_SCHEMA, CONTROL_SCHEMA)


def _schemas(wanted: Wanted, there: Facts) -> Iterable[Change]:
    reasons = {
        CONTROL_SCHEMA: "fences, load markers, tombstones and the journal of swaps",
        sql.STAGE_SCHEMA: "staging tables, so that analysts never see one",
    }
    for schema in dict.fromkeys((CONTROL_SCHEMA, sql.STAGE_SCHEMA, *wanted.sources)):
        if schema not in there.schemas:
            yield Change(sql.create_schema(schema), reasons.get(schema, f"the tables of {schema}"))


def _control_tables(there: Facts) -> Iterable[Change]:
    if tuple(sql.FENCE) not in there.tables:
        yield Change(sql.create_fence_table(), "one row a stream that only the latest holder can move")
    reasons = {
        sql.LOADS: "which manifests are in, with their counts, so that none is loaded twice",
        sql.TOMBSTONES: "what hard deletes removed, so that an older version does not come back",
        sql.SWAPS: "full reloads under way, so that a crash between two renames is finished or undone",
    }
    for table, (columns, storage) in sql.OWN_TABLES.items():
        if tuple(table) not in there.tables:
            yield Change(sql.create_table(table, columns, storage), reasons[table])


def _credential(there: Facts) -> Iterable[Change]:
    if not there.has_master_key:
        yield Change(_ddl("master_key", "CREATE MASTER KEY"), "credentials of the database are encrypted with it")
    if CREDENTIAL not in there.credentials:
        yield Change(
            _ddl(
                "credential",
                f"CREATE DATABASE SCOPED CREDENTIAL {identifier(CREDENTIAL)} "
                "WITH IDENTITY = 'Managed Service Identity'",
            ),
            "external tables read the landing zone as the workspace's own identity; it holds no secret",
        )


def _roles(wanted: Wanted, there: Facts) -> Iterable[Change]:
    for role, why in ((LOADER, "what the product may do, and nothing else"), (READER, "what analysts may do")):
        if role not in there.principals:
            yield Change(_ddl("role", f"CREATE ROLE {identifier(role)}"), why)
    for permission, why in DATABASE_GRANTS.items():
        yield from _grant(Grant(LOADER, permission), why, there)
    for schema in dict.fromkeys(_loaded_schemas(wanted)):
        for permission, why in SCHEMA_GRANTS.items():
            yield from _grant(Grant(LOADER, permission, schema), why, there)
    for schema in wanted.sources:
        yield from _grant(Grant(READER, "SELECT", schema), "analysts read the tables of the sources, not ours", there)


def _grant(grant: Grant, why: str, there: Facts) -> Iterable[Change]:
    if grant not in there.grants:
        on = f" ON SCHEMA::{identifier(grant.schema)}" if grant.schema is not None else ""
        yield Change(_ddl("grant", f"GRANT {grant.permission}{on} TO {identifier(grant.to)}"), why)


def _people(wanted: Wanted, there: Facts) -> Iterable[Change]:
    who = [(wanted.console, LOADER, "the console's identity")]
    who += [(name, READER, "an analyst") for name in dict.fromkeys(wanted.analysts)]
    for name, role, why in who:
        if name.lower() not in there.principals:
            yield Change(
                _ddl("user", f"CREATE USER {identifier(name)} FROM EXTERNAL PROVIDER"),
                f"{why} comes with its Entra identity, so there is no password",
            )
        if (role, name.lower()) not in there.members:
            yield Change(
                _ddl("member", f"EXEC sp_addrolemember {literal(role)}, {literal(name)}"), f"{why} is in {role}"
            )


def _workload(there: Facts) -> Iterable[Change]:
    if WORKLOAD_GROUP not in there.workload_groups:
        # 25 percent is the smallest grant of a DW100c and allowed on every larger size.
        yield Change(
            _ddl(
                "workload_group",
                f"CREATE WORKLOAD GROUP {identifier(WORKLOAD_GROUP)} WITH (MIN_PERCENTAGE_RESOURCE = 0, "
                "CAP_PERCENTAGE_RESOURCE = 50, REQUEST_MIN_RESOURCE_GRANT_PERCENT = 25)",
            ),
            "at most two loads at a time, and half of the pool stays for people",
        )
    if CLASSIFIER not in there.classifiers:
        yield Change(
            _ddl(
                "classifier",
                f"CREATE WORKLOAD CLASSIFIER {identifier(CLASSIFIER)} WITH (WORKLOAD_GROUP = "
                f"'{WORKLOAD_GROUP}', MEMBERNAME = '{LOADER}')",
            ),
            "members of the loader's role work in that group",
        )


def _ddl(step: str, text: str) -> Statement:
    return Statement(step, text, labelled=False)


# --- doing it -------------------------------------------------------------------------------------

#: Runs one statement in one of the two databases and answers its rows; autocommit, for DDL takes no transaction.
Run = Callable[[Database, Statement], Sequence[Sequence[Any]]]


def look(run: Run, wanted: Wanted) -> tuple[Change, ...]:
    """What is still to run on a pool that can be asked; changes nothing."""
    return changes(wanted, facts({name: run("pool", asked) for name, asked in questions(wanted).items()}))


def apply(run: Run, wanted: Wanted, done: Callable[[Change], None] = lambda _: None) -> int:
    """Run what is missing and answer how many statements that took; ``done`` hears of each.

    Can be cut off anywhere and called again. Raises ConfigurationError where the pool took everything and yet does
    not show it.
    """
    missing = look(run, wanted)
    for change in missing:
        run(change.on, change.statement)
        done(change)
    if left := look(run, wanted):
        raise ConfigurationError(
            f"The pool took {len(missing)} statements, but does not show the effect of: {left[0].statement.text}.",
            hint="Sign in as the workspace's Entra administrator, who sees and may change all of it, and apply again.",
            origin="warehouse",
        )
    return len(missing)


# --- Azure's own roles ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the parts are in Azure; what is None is shown as a placeholder."""

    subscription: str | None = None
    resource_group: str | None = None
    workspace: str | None = None
    account: str | None = None
    container: str | None = None


class Assignment(NamedTuple):
    """A role that Azure has to give, outside of the databases."""

    role: str
    to: str  #: in words
    why: str
    command: str  #: for az


#: Rights of the role that pauses and resumes; no built-in role has these without the right to delete.
POOL_ACTIONS = (
    "Microsoft.Synapse/workspaces/read",
    "Microsoft.Synapse/workspaces/sqlPools/read",
    "Microsoft.Synapse/workspaces/sqlPools/pause/action",
    "Microsoft.Synapse/workspaces/sqlPools/resume/action",
    "Microsoft.Synapse/workspaces/sqlPools/operationResults/read",
    "Microsoft.Synapse/workspaces/operationStatuses/read",
)
POOL_OPERATOR = "Novade pool operator"


def assignments(wanted: Wanted, place: Place) -> tuple[Assignment, ...]:
    """Roles to assign with az; deploy/bicep/modules/grants.bicep makes the same ones."""
    group = f"/subscriptions/{place.subscription or 'SUBSCRIPTION'}/resourceGroups/{place.resource_group or 'GROUP'}"
    name, workspace = place.resource_group or "GROUP", place.workspace or "WORKSPACE"
    account = f"{group}/providers/Microsoft.Storage/storageAccounts/{place.account or 'ACCOUNT'}"
    container = f"{account}/blobServices/default/containers/{place.container or 'landing'}"
    pools = f"{group}/providers/Microsoft.Synapse/workspaces/{workspace}"
    console = f'$(az identity show --resource-group {name} --name "{wanted.console}" --query principalId --output tsv)'
    itself = f"$(az synapse workspace show --resource-group {name} --name {workspace} --query identity.principalId "
    itself += "--output tsv)"
    actions = ", ".join(f'"{action}"' for action in POOL_ACTIONS)

    def given(role: str, who: str, scope: str) -> str:
        return (
            f'az role assignment create --role "{role}" --assignee-object-id "{who}" '
            f"--assignee-principal-type ServicePrincipal --scope {scope}"
        )

    return (
        Assignment(
            "Storage Blob Data Contributor",
            "the console's identity, on the landing container",
            "it writes landed files and manifests, reads them back, and removes what was never registered",
            given("Storage Blob Data Contributor", console, container),
        ),
        Assignment(
            "Storage Blob Data Contributor",
            "the workspace's own identity, on the storage account",
            "COPY INTO and external tables read the landed files as this identity",
            given("Storage Blob Data Contributor", itself, account),
        ),
        Assignment(
            POOL_OPERATOR,
            "a role of our own, to be made once",
            "no built-in role may pause and resume a pool without also being allowed to delete it",
            f'az role definition create --role-definition \'{{"Name": "{POOL_OPERATOR}", "Description": "Sees, pauses '
            f'and resumes dedicated SQL pools.", "Actions": [{actions}], "AssignableScopes": ["{group}"]}}\'',
        ),
        Assignment(
            POOL_OPERATOR,
            "the console's identity, on the workspace",
            "load windows resume the pool and pause it again",
            given(POOL_OPERATOR, console, pools),
        ),
    )
