"""External data sources, file formats and tables, and OPENROWSET."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import not_offered
from .tokens import Statement

if TYPE_CHECKING:
    from .catalog import Table
    from .engine import Engine


def scan(engine: Engine, table: Table) -> str:
    """The DuckDB query that reads an external table."""
    raise not_offered("external tables")


def take_openrowset(engine: Engine, statement: Statement) -> tuple[Statement, list[str]]:
    """The statement with each OPENROWSET replaced by a name, and what stands for it."""
    return statement, []


def put_openrowset(tree: Any, scans: list[str]) -> None:
    """Put the scans in the place of their names."""
