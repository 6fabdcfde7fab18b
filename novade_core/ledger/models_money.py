"""The ledger's tables of money and age: prices, and totals per day of what was used and how old streams became."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import Date, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from novade_core.ledger.tables import Base, BigId


class PriceRow(Base):
    """What a meter costs from a day on. Seeded from the configuration once; afterwards these rows win."""

    __tablename__ = "prices"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    meter: Mapped[str] = mapped_column(String(60))  #: of ``usage``, or ``rate.USD``: euros for one dollar
    since: Mapped[date] = mapped_column(Date)  #: the first UTC day on which it holds
    price: Mapped[str | None] = mapped_column(String(40))  #: a decimal number as text; NULL: not known from then on
    per: Mapped[int]  #: so much of the meter costs the price
    unit: Mapped[str] = mapped_column(String(40))  #: what ``per`` is in words: "10,000 operations"
    currency: Mapped[str] = mapped_column(String(3))
    region: Mapped[str | None] = mapped_column(String(40))
    basis: Mapped[str] = mapped_column(String(10))  #: prices.Basis
    source: Mapped[str] = mapped_column(Text)  #: where the figure comes from
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(200))

    __table_args__ = (Index("ix_prices_meter_since", "meter", "since", unique=True),)


class DailyUsage(Base):
    """What runs that ended on a UTC day used, per stream and meter, so that no page aggregates ``usage``."""

    __tablename__ = "daily_usage"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    stream: Mapped[str] = mapped_column(String(200), primary_key=True)
    meter: Mapped[str] = mapped_column(String(60), primary_key=True)
    quantity: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)  #: of it, by runs that failed, were cancelled or abandoned
    repeated: Mapped[int] = mapped_column(default=0)  #: of it, by further attempts that worked


class DailyAge(Base):
    """How old a stream became on a UTC day, whatever its limit is or will be."""

    __tablename__ = "daily_ages"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    stream: Mapped[str] = mapped_column(String(200), primary_key=True)
    loads: Mapped[int] = mapped_column(default=0)  #: times that it was proven up to date
    oldest_seconds: Mapped[int] = mapped_column(default=0)
