"""What is asked of an open pool beside loads: who else is there, and what our statements took."""

from __future__ import annotations

from typing import Any

from novade_core.settings import WarehouseSettings
from novade_core.warehouse.synapse_link import Link, Refused
from novade_core.warehouse.synapse_sql import Statement

#: How our connections call themselves, see ``synapse_driver``.
APPLICATION = "novade"
#: Whose the pool's own sessions are.
_THE_POOL = "System"
#: Labels that are kept with a window; a load has a dozen statements.
_MOST_LABELS = 500


def sessions() -> Statement:
    """Open sessions, idle ones too, with our own among them. Needs VIEW DATABASE STATE."""
    return Statement(
        "sessions",
        "SELECT [login_name], [app_name], CASE WHEN [session_id] = SESSION_ID() THEN 1 ELSE 0 END "
        "FROM sys.dm_pdw_exec_sessions WHERE [status] <> 'Closed'",
        labelled=False,
    )


def labelled_work() -> Statement:
    """Our statements by label: how many, milliseconds, how many failed. A pause empties the view."""
    return Statement(
        "work",
        f"SELECT TOP {_MOST_LABELS} [label], COUNT_BIG(*), SUM(CAST([total_elapsed_time] AS bigint)), "
        "SUM(CASE WHEN [status] = 'Failed' THEN 1 ELSE 0 END) FROM sys.dm_pdw_exec_requests "
        "WHERE [label] LIKE 'nv%' GROUP BY [label] ORDER BY SUM(CAST([total_elapsed_time] AS bigint)) DESC",
        labelled=False,
    )


def look_for_others(settings: WarehouseSettings) -> tuple[str, ...]:
    """Who else has a session that a pause would end: "login (program)", each once.

    Ours have our program's name and our login: another installation, or a person at the command line, is not us.
    Raises what a refused connection means.
    """
    rows = [
        (str(login), str(program or "no program"), bool(own)) for login, program, own in _asked(settings, sessions())
    ]
    us = {login for login, _, own in rows if own}
    foreign = {
        f"{login} ({program})"
        for login, program, own in rows
        if not own and login != _THE_POOL and not (program == APPLICATION and login in us)
    }
    return tuple(sorted(foreign))


def copy_work(settings: WarehouseSettings) -> dict[str, Any]:
    """What our statements took, by label, with totals. Raises what a refused connection means."""
    rows = _asked(settings, labelled_work())
    ours = [row for row in rows if str(row[0]).startswith("nv_")]  # in a pattern, _ is any character
    labels = {str(r[0]): {"statements": int(r[1]), "ms": int(r[2] or 0), "failed": int(r[3] or 0)} for r in ours}
    return {
        "statements": sum(w["statements"] for w in labels.values()),
        "ms": sum(w["ms"] for w in labels.values()),
        "labels": labels,
    }


def _asked(settings: WarehouseSettings, statement: Statement) -> list[tuple[Any, ...]]:
    link = Link(settings)
    try:
        return link.rows(statement)
    except Refused as refused:
        raise refused.told() from refused
    finally:
        link.close()
