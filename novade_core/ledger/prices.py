"""Prices as people see and change them: dated, each with its source, each change with a line in ``audit``.

They are seeded from the configuration once; afterwards the ledger wins, and the difference is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, text, update

from novade_core.errors import ConfigurationError
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Audit, PriceRow
from novade_core.settings import PriceSettings

#: ``rate.USD`` is what one dollar costs in euros.
RATE = "rate."
_AT_MOST = 2_000


class Basis(StrEnum):
    """How a meter becomes money."""

    MEASURED = "measured"  #: the meter counts what the bill counts
    ALLOCATED = "allocated"  #: the bill is for something shared, and the meter says whose part this is
    ESTIMATED = "estimated"  #: price or quantity stands in for one that is not known


@dataclass(frozen=True, kw_only=True)
class Price:
    """What ``per`` of a meter costs from a UTC day on, until the meter's next price. ``price`` None: not known."""

    meter: str
    since: date
    price: Decimal | None
    per: int = 1
    unit: str = ""
    currency: str = "EUR"
    region: str | None = None
    basis: Basis = Basis.MEASURED
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class KnownPrice(Price):
    """A price of the ledger, and who entered it."""

    changed_at: datetime
    changed_by: str


def prices(ledger: Ledger) -> tuple[KnownPrice, ...]:
    """All of them by meter, a meter's newest first."""
    query = select(PriceRow.__table__).order_by(PriceRow.meter, PriceRow.since.desc()).limit(_AT_MOST)
    with ledger.read() as connection:
        return tuple(_known(row._mapping) for row in connection.execute(query))


def _known(row: Mapping[Any, Any]) -> KnownPrice:
    values = {f.name: row[f.name] for f in fields(KnownPrice)}
    price = values.pop("price")
    return KnownPrice(
        **(values | {"price": None if price is None else Decimal(price), "basis": Basis(values["basis"])})
    )


def from_settings(said: Mapping[str, PriceSettings]) -> tuple[Price, ...]:
    """The configuration's prices by meter."""
    return tuple(
        Price(meter=meter, **(value.model_dump() | {"basis": Basis(value.basis)}))
        for meter, value in sorted(said.items())
    )


def seed(ledger: Ledger, said: Mapping[str, PriceSettings], *, now: datetime) -> None:
    """Take over the prices of meters that the ledger has none for yet."""
    with ledger.read() as connection:
        if said.keys() <= _meters(connection):
            return
    with ledger.write() as connection:
        if connection.dialect.name != "sqlite":  # several consoles start at once; SQLite's writers queue anyway
            connection.execute(text("SELECT pg_advisory_xact_lock(7262337)"))
        known = _meters(connection)
        rows = [
            _columns(price) | {"changed_at": now, "changed_by": "novade.toml"}
            for price in from_settings(said)
            if price.meter not in known
        ]
        if rows:
            connection.execute(insert(PriceRow), rows)


def _meters(connection: Connection) -> set[str]:
    return set(connection.execute(select(PriceRow.meter).distinct()).scalars())


def _columns(price: Price) -> dict[str, Any]:
    values = {f.name: getattr(price, f.name) for f in fields(Price)}
    return values | {"price": None if price.price is None else f"{price.price:f}", "basis": price.basis.value}


def amount(given: str) -> Decimal | None:
    """A price as people type it; empty = not known. Raises ConfigurationError."""
    plain = given.strip().replace(",", ".") if given.count(",") == 1 and "." not in given else given.strip()
    if not plain:
        return None
    try:
        value = Decimal(plain)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0 or len(f"{value:f}") > 40:
        raise ConfigurationError(
            f"{given[:40]!r} is no price.",
            hint="Write a number such as 0.055, or leave it empty where it is not known.",
        )
    return value


def enter(ledger: Ledger, price: Price, *, now: datetime, who: str) -> None:
    """A price from its day on; one of the same meter and day is corrected. Raises ConfigurationError."""
    check(price)
    after = _columns(price)
    with ledger.write() as connection:
        same = (PriceRow.meter == price.meter, PriceRow.since == price.since)
        row = connection.execute(select(PriceRow.__table__).where(*same).with_for_update()).first()
        before = None if row is None else {name: row._mapping[name] for name in after}
        if before == after:
            return
        stamped = after | {"changed_at": now, "changed_by": who}
        if row is None:
            connection.execute(insert(PriceRow).values(**stamped))
        else:
            connection.execute(update(PriceRow).where(PriceRow.id == row.id).values(**stamped))
        plain = {k: v.isoformat() if isinstance(v, date) else v for k, v in after.items()}
        details = (
            plain if before is None else {k: [str(before[k]), str(after[k])] for k in after if before[k] != after[k]}
        )
        action = "price.entered" if before is None else "price.corrected"
        subject = f"price {price.meter} from {price.since}"
        connection.execute(insert(Audit).values(at=now, who=who, action=action, subject=subject, details=details))


def check(price: Price) -> None:
    """Raises ConfigurationError that names what is wrong with a price."""
    kind, _, name = price.meter.partition(".")
    wrong = None
    if not kind or not name or not price.meter.replace(".", "").replace("_", "").isalnum() or len(price.meter) > 60:
        wrong = f"{price.meter[:60]!r} is no meter: it is named source.what, such as salesforce.api_calls"
    elif price.per < 1 or price.per > 10**18:
        wrong = "a price is for at least one of its meter"
    elif len(price.currency) != 3 or not price.currency.isalpha() or not price.currency.isupper():
        wrong = f"{price.currency[:10]!r} is no currency; write its three letters, such as EUR"
    elif kind == RATE.rstrip(".") and (price.currency != "EUR" or price.per != 1):
        wrong = "an exchange rate says what one unit of a currency costs in EUR"
    elif not price.source.strip():
        wrong = "its source is missing: say where the figure comes from"
    elif not price.unit.strip() or len(price.unit) > 40 or len(price.region or "") > 40:
        wrong = "unit and region have at most 40 characters, and the unit must be there"
    if wrong is not None:
        raise ConfigurationError(f"This price cannot be entered: {wrong}.", hint="Correct it and save again.")
