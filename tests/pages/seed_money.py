"""Prices, usage by day, ages by day and comparisons by month, beside the runs of ``seed``."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import delete, insert, select, update

from novade_core.ledger import prices
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import (
    Artifact,
    Comparison,
    Daily,
    DailyAge,
    DailyUsage,
    LandedFileRow,
    StreamStatus,
    SyncPlan,
)
from novade_core.ledger.prices import Price
from novade_core.settings import load_settings
from tests.pages.seed import CONFIG, STREAMS

#: Of one run of a thousand rows.
USED = {
    "salesforce.api_calls": 9,
    "salesforce.bytes_in": 640_000,
    "landing.write_operations": 6,
    "landing.bytes_written": 210_000,
    "process.cpu_ms": 1_900,
}


def priced(ledger: Ledger, now: datetime, *, days: int = 60, unpriced: bool = False) -> None:
    """What is configured as prices, two months of usage, and a price of the processor that changed this month."""
    prices.seed(ledger, load_settings(file=CONFIG, environ={}).prices, now=now - timedelta(days=90))
    cpu = next(p for p in prices.prices(ledger) if p.meter == "process.cpu_ms")
    changed = Price(
        meter=cpu.meter, since=now.date().replace(day=1), price=Decimal("61.5"), per=cpu.per, unit=cpu.unit,
        currency="EUR", basis=cpu.basis, source="our container's contract",
    )  # fmt: skip
    prices.enter(ledger, changed, now=now - timedelta(days=3), who="ada")
    used(ledger, now, days=days, unpriced=unpriced)


def used(ledger: Ledger, now: datetime, *, days: int = 60, unpriced: bool = False) -> None:
    """Rows and usage by day, a twelfth of each ninth day by runs that failed."""
    dice = random.Random(11)
    rows: list[dict[str, object]] = []
    with ledger.write() as c:
        c.execute(delete(Daily).where(Daily.day < now.date() - timedelta(days=13)))
        known = {tuple(row) for row in c.execute(select(Daily.day, Daily.stream))}
        for back in range(days):
            day = (now - timedelta(days=back)).date()
            for name in STREAMS:
                stream = f"salesforce.{name}"
                size = dice.uniform(0.5, 1.6)
                if (day, stream) not in known:
                    read = int(700 * size)
                    values = {"runs": 24, "failed": 0, "read": read, "loaded": int(read * 0.8), "api_calls": 150}
                    c.execute(insert(Daily).values(day=day, stream=stream, **values))
                for meter, quantity in USED.items():
                    used = int(quantity * size * 24)
                    bad = used // 12 if back % 9 == 0 else 0
                    rows.append({"day": day, "stream": stream, "meter": meter, "quantity": used, "failed": bad})
        if unpriced:
            rows.append({"day": now.date(), "stream": "salesforce.user", "meter": "landing.archive", "quantity": 5})
        for row in rows:
            row.setdefault("failed", 0)
            row["repeated"] = 0
        c.execute(insert(DailyUsage), rows)


def aged(ledger: Ledger, now: datetime, *, days: int = 45) -> None:
    """Ages by day: Account grew old for three days two weeks ago, Lead comes close to its limit on Sundays."""
    with ledger.write() as c:
        c.execute(update(StreamStatus).values(first_loaded_at=now - timedelta(days=days)))
        c.execute(
            insert(DailyAge),
            [
                {
                    "day": (day := (now - timedelta(days=back)).date()),
                    "stream": f"salesforce.{name}",
                    "loads": 24,
                    "oldest_seconds": _oldest(name, back, day),
                }
                for back in range(1, days)
                for name in STREAMS
            ],
        )


def _oldest(name: str, back: int, day: date) -> int:
    if name == "account" and 13 <= back <= 15:
        return (17 - back) * 86_400
    return 76_000 if name == "lead" and day.weekday() == 6 else 3_700


def compared(ledger: Ledger, now: datetime, run_id: int, *, stream: str = "case") -> None:
    """A stream that differs by three records in one of ten months, and a file that waits for its loading."""
    at, name = now - timedelta(minutes=5), f"salesforce.{stream}"
    said = "20,045 at the source, 20,042 in the warehouse (-3)."
    with ledger.write() as c:
        for number in range(11):
            there, here = 2_000 + number, 2_000 + number - (3 if number == 4 else 0)
            window, sentence = f"2025-{number + 1:02d}", f"{there:,} at the source, {here:,} in the warehouse."
            if number == 10:
                there, here, window, sentence = 20_045, 20_042, "all", said
            state = "equal" if there == here else "differs"
            values = {"source_count": there, "warehouse_count": here, "state": state, "sentence": sentence}
            c.execute(insert(Comparison).values(run_id=run_id, stream=name, at=at, window=window, **values))
        keys = [{"key": f"500000000000{i:03d}AAA"} for i in range(3)]
        c.execute(insert(Artifact).values(run_id=run_id, stream=name, kind="missing_keys", at=at, content=keys))
        plan = c.execute(
            insert(SyncPlan)
            .values(
                stream="salesforce.lead", kind="incremental", state="open", run_id=run_id, created_at=now, windows=[],
                columns=[], details={},
            )
            .returning(SyncPlan.id)
        ).scalar_one()  # fmt: skip
        c.execute(
            insert(LandedFileRow).values(
                stream="salesforce.lead", run_id=run_id, plan_id=plan, window=0, chunk=0, manifest_path="m",
                load_id="l", files=[], rows=412, rejected=0, bytes=9_000, window_done=True, fence=1, registered_at=now,
            )
        )  # fmt: skip


def all_of_it(ledger: Ledger, run_id: int, *, text: str | None = None) -> None:
    """Everything that the pages Costs, Freshness and Reconciliation show; ``text`` is the source of a price."""
    now = datetime.now(UTC)
    priced(ledger, now, unpriced=True)
    aged(ledger, now)
    compared(ledger, now, run_id)
    if text is not None:
        odd = Price(meter="odd.meter", since=now.date(), price=Decimal(1), unit=text[:40], source=text)
        prices.enter(ledger, odd, now=now, who=text[:200])
