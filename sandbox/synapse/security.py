"""Logins, roles and grants: recorded as they are made, and checked before a statement runs."""

# ruff: noqa: ARG001 - handlers share one signature.
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .datatypes import datatype_info
from .errors import SqlError, denied, in_transaction, not_offered
from .tokens import Statement

if TYPE_CHECKING:
    from .engine import Engine, Result

ADMIN = "sandbox_admin"
_FIXED_ROLES = {
    "db_owner": {"CONTROL"},
    "db_datareader": {"SELECT"},
    "db_datawriter": {"INSERT", "UPDATE", "DELETE"},
    "db_ddladmin": {"CREATE TABLE", "CREATE VIEW", "CREATE SCHEMA", "ALTER"},
}
#: Resource classes are roles too.
_RESOURCE_CLASSES = {"smallrc", "mediumrc", "largerc", "xlargerc"} | {
    f"staticrc{n}" for n in (10, 20, 30, 40, 50, 60, 70, 80)
}
_PERMISSIONS = {
    "ADMINISTER DATABASE BULK OPERATIONS", "ALTER", "ALTER ANY EXTERNAL DATA SOURCE", "ALTER ANY EXTERNAL FILE FORMAT",
    "ALTER ANY SCHEMA", "CONNECT", "CONTROL", "CREATE SCHEMA", "CREATE TABLE", "CREATE VIEW", "DELETE", "EXECUTE",
    "INSERT", "REFERENCES", "SELECT", "UPDATE", "VIEW DATABASE STATE", "VIEW DEFINITION",
}  # fmt: skip
_ON_OBJECTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "ALTER", "CONTROL", "REFERENCES", "VIEW DEFINITION")


def _roles(engine: Engine, user: str) -> set[str]:
    """The user and every role that it is a member of, in small letters."""
    found = {user.lower()}
    members = engine.pool.catalog.all_named("member").values()
    while True:
        more = {m["role"].lower() for m in members if m["member"].lower() in found} - found
        if not more:
            return found
        found |= more


def is_member(engine: Engine, user: str, role: str) -> bool:
    return user == ADMIN or role.lower() in _roles(engine, user)


def allowed(engine: Engine, permission: str, schema: str = "", name: str = "") -> bool:
    """Whether the session's user holds a permission on an object, its schema or the database."""
    if engine.user == ADMIN:
        return True
    roles = _roles(engine, engine.user)
    for role in roles:
        fixed = _FIXED_ROLES.get(role, set())
        if permission in fixed or "CONTROL" in fixed:
            return True
    for grant in engine.pool.catalog.all_named("grant").values():
        if grant["to"].lower() not in roles or grant["permission"] not in (permission, "CONTROL"):
            continue
        if grant["kind"] == "DATABASE" or (
            (grant["kind"] == "SCHEMA" and grant["target"].lower() == schema.lower() and schema)
            or (grant["kind"] == "OBJECT" and grant["target"].lower() == f"{schema}.{name}".lower())
        ):
            return True
    return False


def need(engine: Engine, permission: str, schema: str = "", name: str = "") -> None:
    """Raises what the pool answers to a missing grant."""
    if allowed(engine, permission, schema, name):
        return
    if permission in _ON_OBJECTS and name:
        raise denied(permission, name, schema, engine.pool.database)
    if permission == "ALTER":
        raise SqlError(
            2760, f'The specified schema name "{schema}" either does not exist or you do not have permission to use it.'
        )
    raise SqlError(262, f"{permission} permission denied in database '{engine.pool.database}'.", 14)


def has_perms(engine: Engine, arguments: list[str]) -> str:
    """HAS_PERMS_BY_NAME(securable, class, permission)."""
    thing, _, permission = (*arguments, "", "")[:3]
    schema, _, name = "" if thing.upper() == "NULL" else thing.replace("[", "").replace("]", ""), "", ""
    if "." in schema:
        schema, name = schema.split(".", 1)
    return str(int(allowed(engine, permission.upper(), schema, name)))


# Statements

Values = Mapping[str, Any]


def _done() -> Result:
    from .engine import Result

    return Result()


def _database_ddl(engine: Engine) -> None:
    if engine.in_transaction:
        raise in_transaction()
    need(engine, "CONTROL")


def create_login(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE LOGIN n WITH PASSWORD = '...'; in master."""
    _database_ddl(engine)
    statement.expect("CREATE", "LOGIN")
    name = statement.name()
    statement.expect("WITH", "PASSWORD", "=")
    password = statement.string()
    statement.end()
    if engine.database.lower() != "master":
        raise SqlError(5001, "User must be in the master database.")
    if engine.pool.catalog.named("login", name) is not None:
        raise SqlError(15025, f"The server principal '{name}' already exists.")
    engine.pool.catalog.put_named("login", name, {"password": password})
    return _done()


def create_user(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE USER n FROM EXTERNAL PROVIDER | FOR LOGIN l | WITHOUT LOGIN [WITH DEFAULT_SCHEMA = s]."""
    _database_ddl(engine)
    statement.expect("CREATE", "USER")
    name = statement.name()
    kind = "S"
    if statement.accept("FROM", "EXTERNAL", "PROVIDER"):
        kind = "E"
    elif statement.accept("FOR", "LOGIN") or statement.accept("FROM", "LOGIN"):
        login = statement.name()
        if engine.pool.catalog.named("login", login) is None:
            raise SqlError(15007, f"'{login}' is not a valid login or you do not have permission.")
    elif not statement.accept("WITHOUT", "LOGIN"):
        raise statement.unexpected()
    if statement.accept("WITH", "DEFAULT_SCHEMA", "="):
        statement.name()
    statement.end()
    return _principal(engine, name, kind)


def create_role(engine: Engine, statement: Statement, values: Values) -> Result:
    _database_ddl(engine)
    statement.expect("CREATE", "ROLE")
    name = statement.name()
    statement.end()
    return _principal(engine, name, "R")


def _principal(engine: Engine, name: str, kind: str) -> Result:
    if engine.pool.catalog.named("principal", name) is not None:
        raise SqlError(15023, f"User, group, or role '{name}' already exists in the current database.")
    engine.pool.catalog.put_named("principal", name, {"type": kind})
    return _done()


def drop_principal(engine: Engine, statement: Statement, values: Values) -> Result:
    """DROP USER | ROLE | LOGIN n."""
    _database_ddl(engine)
    statement.expect("DROP")
    kind = "login" if statement.word() == "LOGIN" else "principal"
    statement.at += 1
    name = statement.name()
    statement.end()
    if engine.pool.catalog.named(kind, name) is None:
        raise SqlError(
            15151, f"Cannot drop the {kind} '{name}', because it does not exist or you do not have permission."
        )
    engine.pool.catalog.drop_named(kind, name)
    return _done()


def alter_role(engine: Engine, statement: Statement, values: Values) -> Result:
    """ALTER ROLE r ADD | DROP MEMBER m."""
    _database_ddl(engine)
    statement.expect("ALTER", "ROLE")
    role = statement.name()
    adding = statement.accept("ADD", "MEMBER")
    if not adding:
        statement.expect("DROP", "MEMBER")
    member = statement.name()
    statement.end()
    return _member(engine, role, member, adding=adding)


def _member(engine: Engine, role: str, member: str, *, adding: bool) -> Result:
    catalog = engine.pool.catalog
    if (
        role.lower() not in _FIXED_ROLES
        and role.lower() not in _RESOURCE_CLASSES
        and not catalog.named("principal", role)
    ):
        raise SqlError(
            15151, f"Cannot alter the role '{role}', because it does not exist or you do not have permission."
        )
    if catalog.named("principal", member) is None:
        raise SqlError(
            15151, f"Cannot add the principal '{member}', because it does not exist or you do not have permission."
        )
    key = f"{role}\x1f{member}"
    if adding:
        catalog.put_named("member", key, {"role": role, "member": member}, replace=True)
    else:
        catalog.drop_named("member", key)
    return _done()


def execute(engine: Engine, statement: Statement, values: Values) -> Result:
    """EXEC of the procedures that are offered."""
    statement.at = 1
    name = statement.name().lower()
    while statement.accept("."):
        name = statement.name().lower()
    arguments = []
    while statement.left:
        if statement.accept("@"):
            statement.name()
            statement.expect("=")
        sign = "-" if statement.accept("-") else ""
        arguments.append(sign + statement.value())
        if not statement.accept(","):
            break
    statement.end()
    if name == "sp_datatype_info_100" and arguments:
        return datatype_info(int(arguments[0]))
    if name == "sp_addrolemember" and len(arguments) == 2:
        _database_ddl(engine)
        return _member(engine, arguments[0], arguments[1], adding=True)
    if name == "sp_droprolemember" and len(arguments) == 2:
        _database_ddl(engine)
        return _member(engine, arguments[0], arguments[1], adding=False)
    raise SqlError(2812, f"Could not find stored procedure '{name}'.")


def grant(engine: Engine, statement: Statement, values: Values) -> Result:
    """GRANT | REVOKE permissions [ON [SCHEMA:: | OBJECT:: | DATABASE ::] thing] TO | FROM principal."""
    _database_ddl(engine)
    giving = statement.word() == "GRANT"
    statement.at = 1
    permissions = []
    while True:
        words = []
        while statement.word() not in (",", "ON", "TO", "FROM", ""):
            words.append(statement.value().upper())
        permissions.append(" ".join(words))
        if permissions[-1] not in _PERMISSIONS:
            raise not_offered(f"the permission {permissions[-1]}")
        if not statement.accept(","):
            break
    kind, target = "DATABASE", ""
    if statement.accept("ON"):
        kind, target = _securable(engine, statement)
    statement.expect("TO" if giving else "FROM")
    who = statement.name()
    statement.end()
    catalog = engine.pool.catalog
    if catalog.named("principal", who) is None:
        raise SqlError(15151, f"Cannot find the user '{who}', because it does not exist or you do not have permission.")
    for permission in permissions:
        key = "\x1f".join((who, permission, kind, target))
        if giving:
            body = {"to": who, "permission": permission, "kind": kind, "target": target}
            catalog.put_named("grant", key, body, replace=True)
        else:
            catalog.drop_named("grant", key)
    return _done()


def _securable(engine: Engine, statement: Statement) -> tuple[str, str]:
    scope = "OBJECT"
    if statement.word(1) in ("::", ":"):
        scope = statement.value().upper()
        while statement.accept(":") or statement.accept("::"):
            pass
    elif statement.accept("DATABASE", "SCOPED"):
        statement.expect("CREDENTIAL")
        while statement.accept(":") or statement.accept("::"):
            pass
        return "CREDENTIAL", statement.name()
    if scope in ("SCHEMA", "DATABASE"):
        name = statement.name()
        if scope == "SCHEMA" and not engine.pool.catalog.has_schema(name):
            raise SqlError(
                15151, f"Cannot find the schema '{name}', because it does not exist or you do not have permission."
            )
        return scope, name if scope == "SCHEMA" else ""
    schema, name = statement.object_name()
    if engine.pool.catalog.table(schema, name) is None:
        raise SqlError(
            15151, f"Cannot find the object '{name}', because it does not exist or you do not have permission."
        )
    return "OBJECT", f"{schema}.{name}"


def alter_database(engine: Engine, statement: Statement, values: Values) -> Result:
    """ALTER DATABASE d SET READ_COMMITTED_SNAPSHOT ON | OFF, from master, with nobody else in the database."""
    _database_ddl(engine)
    statement.expect("ALTER", "DATABASE")
    name = statement.name()
    statement.expect("SET", "READ_COMMITTED_SNAPSHOT")
    on = statement.accept("ON")
    if not on:
        statement.expect("OFF")
    statement.end()
    if engine.database.lower() != "master":
        raise SqlError(5058, f"Option 'READ_COMMITTED_SNAPSHOT' cannot be set in database '{engine.database}'.")
    if name.lower() != engine.pool.database.lower():
        raise SqlError(5011, f"User does not have permission to alter database '{name}', or it does not exist.", 14)
    engine.pool.catalog.put_named("option", "rcsi", {"on": on}, replace=True)
    return _done()


def workload(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE | DROP WORKLOAD GROUP | CLASSIFIER."""
    _database_ddl(engine)
    creating = statement.accept("CREATE")
    if not creating:
        statement.expect("DROP")
    statement.expect("WORKLOAD")
    kind = f"workload {statement.value().lower()}"
    name = statement.name()
    body = {}
    if creating:
        statement.expect("WITH")
        body = statement.options()
    statement.end()
    if creating:
        engine.pool.catalog.put_named(kind, name, body)
    else:
        engine.pool.catalog.drop_named(kind, name)
    return _done()


HANDLERS = {
    ("CREATE", "LOGIN"): create_login,
    ("CREATE", "USER"): create_user,
    ("CREATE", "ROLE"): create_role,
    ("DROP", "USER"): drop_principal,
    ("DROP", "ROLE"): drop_principal,
    ("DROP", "LOGIN"): drop_principal,
    ("ALTER", "ROLE"): alter_role,
    ("ALTER", "DATABASE"): alter_database,
    ("EXEC",): execute,
    ("EXECUTE",): execute,
    ("GRANT",): grant,
    ("REVOKE",): grant,
    ("CREATE", "WORKLOAD"): workload,
    ("DROP", "WORKLOAD"): workload,
}
