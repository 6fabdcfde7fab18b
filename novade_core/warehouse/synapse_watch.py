"""What is asked of an open pool beside loads: who else is there, and what our statements took."""

from __future__ import annotations

from typing import Any

from novade_core.settings import WarehouseSettings
from novade_core.warehouse.synapse_link import Link, Refused
from novade_core.warehouse.synapse_sql import Statement

#: How our connections call themselves, see ``synapse_driver``.
APPLICATION = "novade"
#: Labels that are kept with a window; a load has a dozen statements.
_MOST_LABELS = 500


def other_sessions() -> Statement:
    """Sessions that are not ours, idle ones too: a pause would end them. Needs VIEW DATABASE STATE.

    Ours have our program's name and our login: another installation, or a person at this command line, is not us.
    The pool's own are called System.
    """
    return Statement(
        "sessions",
        "SELECT [login_name], [app_name], [status] FROM sys.dm_pdw_exec_sessions "
        "WHERE [status] <> 'Closed' AND [session_id] <> SESSION_ID() AND [login_name] <> 'System' "
        "AND NOT (COALESCE([app_name], '') = ? AND [login_name] = SUSER_SNAME())",
        (APPLICATION,),
        labelled=False,
    )


def labelled_work() -> Statement:
    """Our statements by label: how many, milliseconds, how many failed. A pause empties the view."""
    return Statement(
        "work",
        f"SELECT TOP {_MOST_LABELS} [label], COUNT_BIG(*), SUM(CAST([total_elapsed_time] AS bigint)), "
        "SUM(CASE WHEN [status] = 'Failed' THEN 1 ELSE 0 END) FROM sys.dm_pdw_exec_requests "
        "WHERE [label] LIKE 'nv[_]%' GROUP BY [label] ORDER BY SUM(CAST([total_elapsed_time] AS bigint)) DESC",
        labelled=False,
    )


def look_for_others(settings: WarehouseSettings) -> tuple[str, ...]:
    """Who else has a session: "login (program)", each once. Raises what a refused connection means."""
    rows = _asked(settings, other_sessions())
    return tuple(sorted({f"{row[0]} ({row[1] or 'no program'})" for row in rows}))


def copy_work(settings: WarehouseSettings) -> dict[str, Any]:
    """What our statements took, by label, with totals. Raises what a refused connection means."""
    rows = _asked(settings, labelled_work())
    labels = {str(r[0]): {"statements": int(r[1]), "ms": int(r[2] or 0), "failed": int(r[3] or 0)} for r in rows}
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
