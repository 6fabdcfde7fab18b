"""The pool's refusals: number, class and state as a client sees them."""

from __future__ import annotations

#: Our own, where the pool would do something that the stand-in does not know. No pool uses this number.
NOT_OFFERED = 104999


class SqlError(Exception):
    """One ERROR token. ``severity`` 20 and above ends the connection."""

    def __init__(self, number: int, message: str, severity: int = 16, state: int = 1) -> None:
        super().__init__(message)
        self.number = number
        self.message = message
        self.severity = severity
        self.state = state


class Cancelled(Exception):
    """The client sent ATTENTION while the statement ran."""


class Cut(Exception):
    """The connection is to break now, without another byte."""


def not_offered(what: str) -> SqlError:
    """For every form that the stand-in does not know by name: a pool may well know it."""
    return SqlError(NOT_OFFERED, f"stand-in: not offered: {what}")


def parse_error(near: str, line: int = 1, column: int = 1) -> SqlError:
    """What the pool's parser says of grammar that it does not have."""
    return SqlError(103010, f"Parse error at line: {line}, column: {column}: Incorrect syntax near '{near}'.")


def in_transaction() -> SqlError:
    return SqlError(111212, "Operation cannot be performed within a transaction.")


def no_transaction() -> SqlError:
    return SqlError(
        111214,
        "An attempt to complete a transaction has failed. No corresponding transaction found.",
    )


def aborted() -> SqlError:
    return SqlError(
        111233,
        "The current transaction has aborted, and any pending changes have been rolled back. Cause: A transaction in a "
        "rollback-only state was not explicitly rolled back before a DDL, DML or SELECT statement.",
    )


def no_object(name: str) -> SqlError:
    return SqlError(208, f"Invalid object name '{name}'.")


def denied(permission: str, thing: str, schema: str, database: str) -> SqlError:
    return SqlError(
        229,
        f"The {permission} permission was denied on the object '{thing}', database '{database}', schema '{schema}'.",
        14,
        5,
    )
