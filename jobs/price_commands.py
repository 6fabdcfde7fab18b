"""``python -m jobs price …``: the same as the form of the page Costs."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import EnvironmentOption, JsonOption, emit, errors, say, table, who
from novade_core.errors import BadWindow

if TYPE_CHECKING:
    from novade_core.ledger.prices import KnownPrice
    from novade_core.wiring import Services

app = typer.Typer(help="What meters cost.", no_args_is_help=True, rich_markup_mode=None)


def _open(environment: str | None) -> tuple[Services, datetime]:
    """Services and the time; what the configuration says is in the ledger then."""
    from novade_core.ledger import prices
    from novade_core.settings import load_settings
    from novade_core.wiring import build_services, utc_now

    services, now = build_services(load_settings(environment)), utc_now()
    prices.seed(services.ledger, services.environment.prices, now=now)
    return services, now


@app.command("list")
def list_(environment: EnvironmentOption = None, as_json: JsonOption = False) -> None:
    """All prices by meter, a meter's newest first."""
    from novade_core.ledger import prices

    with errors(as_json=as_json):
        services, _ = _open(environment)
        found = prices.prices(services.ledger)
    rows = [_plain(price) for price in found]
    if as_json:
        emit(rows)
        return
    columns = ["meter", "since", "price", "currency", "unit", "basis", "source"]
    table(columns, [[row[name] for name in columns] for row in rows], right=["price"])


def _plain(price: KnownPrice) -> dict[str, Any]:
    """As JSON takes it; a price keeps its digits as text."""
    values = {f.name: getattr(price, f.name) for f in fields(price)}
    return values | {"price": None if price.price is None else f"{price.price:f}", "basis": price.basis.value}


@app.command("set")
def set_(
    meter: Annotated[str, typer.Argument(help="Such as process.cpu_ms, or rate.USD.")],
    price: Annotated[str, typer.Argument(help='Such as 0.055; "unknown" where it is not known from then on.')],
    since: Annotated[str | None, typer.Option(help="The first day (UTC) it holds.", show_default="today")] = None,
    per: Annotated[int | None, typer.Option(help="So much of the meter costs the price.")] = None,
    unit: Annotated[str | None, typer.Option(help="What --per is in words.")] = None,
    currency: Annotated[str | None, typer.Option(help="Three letters.", show_default="EUR")] = None,
    region: Annotated[str | None, typer.Option(help="Where it holds.")] = None,
    basis: Annotated[str | None, typer.Option(help="measured, allocated or estimated.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the figure comes from.")] = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enter a price from a day on; what is left out stays as the meter's last price has it."""
    from novade_core.ledger import prices
    from novade_core.ledger.prices import Basis, Price

    with errors(as_json=as_json):
        services, now = _open(environment)
        day = _day(since, now)
        if basis is not None and basis not in set(Basis):
            raise BadWindow(f"{basis!r} is no basis.", hint=f"Bases: {', '.join(Basis)}.")
        own = [p for p in prices.prices(services.ledger) if p.meter == meter and p.since <= day]
        before = Price(**{f.name: getattr(own[0], f.name) for f in fields(Price)}) if own else None
        given: dict[str, Any] = {
            "per": per, "unit": unit, "currency": currency, "region": region, "source": source,
            "basis": None if basis is None else Basis(basis),
        }  # fmt: skip
        entered = replace(
            before or Price(meter=meter, since=day, price=None),
            since=day,
            price=None if price == "unknown" else prices.amount(price),
            **{name: value for name, value in given.items() if value is not None},
        )
        prices.enter(services.ledger, entered, now=now, who=who())
    if as_json:
        emit({"meter": meter, "since": day, "price": None if entered.price is None else str(entered.price)})
        return
    costs = "is not known" if entered.price is None else f"costs {entered.price} {entered.currency} for {entered.unit}"
    say(f"{meter} {costs} from {day} on.")


def _day(given: str | None, now: datetime) -> date:
    """The day that was named, or today. Raises BadWindow."""
    if given is None:
        return now.date()
    try:
        return date.fromisoformat(given)
    except ValueError as error:
        raise BadWindow(f"{given!r} is no day.", hint="Write it as 2026-11-24.") from error
