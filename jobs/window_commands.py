"""``python -m jobs window``: load windows of a pool that is resumed for loads and paused again."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from jobs.cli import EnvironmentOption, JsonOption, emit, errors, say, table, who
from novade_core.errors import ConfigurationError

app = typer.Typer(
    help="Load windows: times in which the pool is online for loads.", no_args_is_help=True, rich_markup_mode=None
)

_KEYS = (
    "id state ours reason opened_at resume_asked_at resumed_at drained_at end_asked_by pause_asked_at paused_at "
    "closed_at size loads others trouble"
).split()
#: Days whose cost is summed up.
_DAYS = 30


def _services(environment: str | None) -> Any:
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services

    return build_services(load_settings(environment))


def _with_a_pool(environment: str | None) -> Any:
    services = _services(environment)
    if services.environment.pool.kind == "none":
        raise ConfigurationError(
            f"Environment {services.environment.name} has no pool that is resumed and paused.",
            hint=f"Set kind in [environments.{services.environment.name}.pool]; docs/azure.md, Load windows, says how.",
        )
    return services


def _euros(value: Any) -> str | None:
    return None if value is None else f"{value:.4f}"


@app.command("list")
def list_all(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest windows with what they cost, the one under way first, and what waits for the next."""
    from novade_core.ledger import prices, window_views
    from novade_core.ledger.window_usage import booked
    from novade_core.monitoring.costs import PriceBook
    from novade_core.monitoring.window_costs import costs_of_windows, summary
    from novade_core.wiring import utc_now

    with errors(as_json=as_json):
        services = _services(environment)
        now = utc_now()
        found = window_views.past(services.ledger, since=now - timedelta(days=_DAYS), limit=limit + 1)
        stands = window_views.standing(services.ledger, streams=[s.id for s in services.environment.streams])
        book = PriceBook(prices.prices(services.ledger))
        costs, total = costs_of_windows(found, book, now), summary(found, book, now, days=_DAYS)
    due = stands.waiting.due(timedelta(minutes=services.environment.pool.gather_minutes))
    rows = []
    for window in found[:limit]:
        cost, kept = costs[window.id], booked(window)
        loaded = kept.loaded.rows if kept is not None else None if window.closed_at else stands.loaded.rows
        rows.append(
            {key: getattr(window, key) for key in _KEYS}
            | {
                "others": list(window.others),
                "online_seconds": cost.online_seconds,
                "rows": loaded,
                "eur": _euros(cost.euros),
                "always_on_eur": _euros(cost.always_on),
                "always_on_since": cost.since,
            }
        )
    if as_json:
        waiting = {
            "streams": list(stands.waiting.streams),
            "since": stands.waiting.oldest,
            "next_window_by": due if stands.window is None else None,
            "held_back": list(stands.waiting.stuck),
        }
        days = {
            "since": total.since, "windows": total.windows, "online_seconds": total.online_seconds,
            "eur": _euros(total.euros), "always_on_eur": _euros(total.always_on), "windows_not_known": total.unknown,
        }  # fmt: skip
        emit({"windows": rows, "waiting": waiting, "days": days})
        return
    columns = ["id", "state", "opened_at", "online_seconds", "loads", "rows", "eur", "always_on_eur", "trouble"]
    table(columns, [[row[k] for k in columns] for row in rows], right=[*columns[3:-1], "id"])
    count = len(stands.waiting.streams)
    if count and stands.window is None and due is not None:
        by = (
            f"the next window opens by {due:%Y-%m-%d %H:%M} UTC" if due > now else f"due since {due:%Y-%m-%d %H:%M} UTC"
        )
        say(f"{count} stream{'s' * (count > 1)} wait{'s' * (count == 1)}: {', '.join(stands.waiting.streams)}; {by}.")
    if stands.waiting.stuck:
        say(f"Held back, because the last load failed: {', '.join(stands.waiting.stuck)}.")


@app.command("open")
def open_now(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """Open a window now, without waiting for files to gather; a worker resumes the pool."""
    from novade_core.ledger import windows
    from novade_core.wiring import utc_now

    with errors(as_json=as_json):
        ledger = _with_a_pool(environment).ledger
        with ledger.read() as connection:
            before = windows.current(connection)
        number = windows.ask_for_window(ledger, who=who(), now=utc_now())
    new = before is None or before.id != number
    if as_json:
        emit({"window": number, "new": new})
    else:
        said = "was asked for; a worker resumes the pool" if new else "is under way already"
        say(f"Window {number} {said}. Watch it with `python -m jobs window list`.")


@app.command()
def end(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """End the window under way: no further load begins, and the pool is paused after the running ones."""
    from novade_core.ledger import windows
    from novade_core.wiring import utc_now

    with errors(as_json=as_json):
        number = windows.ask_to_end(_services(environment).ledger, who=who(), now=utc_now())
    if as_json:
        emit({"window": number})
    else:
        say(f"Window {number} ends: no further load begins, and the pool is paused after the running ones.")
