"""Published views: seven current ones with external tables, or two that need somebody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from novade_core.ledger import prices, published_views
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import LandedFileRow, SyncPlan
from novade_core.ledger.published_views import Kind, ViewState
from novade_core.settings import load_settings
from tests.pages import seed

MINUTE = timedelta(minutes=1)
SQL = "CREATE VIEW [salesforce].[{}] AS\n/* novade view 1 0123456789abcdef */\nSELECT v.[Id] FROM (…) AS v"


def configure(home: Path, **more: Any) -> Path:
    """A configuration whose environment has a serverless pool."""
    file = seed.configure(home, **more)
    section = '[environments.local.serverless]\nserver = "acme-ondemand.sql.azuresynapse.net"\ndatabase = "novade"\n\n'
    body = file.read_text()
    file.write_text(body.replace("[environments.local.ledger]", section + "[environments.local.ledger]", 1))
    return file


def published(ledger: Ledger, now: datetime | None = None, *, streams: tuple[str, ...] = seed.STREAMS) -> None:
    """All is well: views and external tables were published an hour ago and checked since."""
    now = now or datetime.now(UTC)
    prices.seed(ledger, load_settings(file=seed.CONFIG, environ={}).prices, now=now - timedelta(days=90))
    with ledger.write() as connection:
        for number, stream in enumerate(streams, 1):
            rows = 4_000 * number
            common: dict[str, Any] = {
                "stream": f"salesforce.{stream}", "state": ViewState.CURRENT.value, "files": 12 * number,
                "published_at": now - 60 * MINUTE, "checked_at": now - 20 * MINUTE, "bytes_processed": 10_000_000,
            }  # fmt: skip
            published_views.note(
                connection, name=f"[salesforce].[{stream}]", kind=Kind.VIEW, now=now - 10 * MINUTE,
                version="1 0123456789abcdef", rows=rows, expected=rows, newest_at=now - (11 + number) * MINUTE,
                sql=SQL.format(stream), **common,
            )  # fmt: skip
            published_views.note(
                connection, name=f"[novade_landed].[salesforce.{stream}]", kind=Kind.TABLE, now=now - 10 * MINUTE,
                version="0123456789abcdef", rows=rows + 700, expected=rows + 700,
                newest_at=now - (11 + number) * MINUTE,
                sql=f"CREATE EXTERNAL TABLE [novade_landed].[salesforce.{stream}] (…)", **common,
            )  # fmt: skip
            published_views.book(connection, f"salesforce.{stream}", now.date(), 20_000_000)


def troubled(ledger: Ledger, now: datetime | None = None, text: str = "") -> None:
    """One view is not ours, one differs from the warehouse; something landed that a third does not show yet."""
    now = now or datetime.now(UTC)
    published(ledger, now)
    with ledger.write() as connection:
        published_views.note(
            connection, name="[salesforce].[case]", kind=Kind.VIEW, stream="salesforce.case", now=now,
            state=ViewState.NOT_OURS.value, version=None, rows=None, expected=None,
            trouble=f"[salesforce].[case] is a view whose text is not as we made it, so it is left as it is.{text}",
            hint="Rename or drop it (DROP VIEW [salesforce].[case]), then run `python -m jobs views apply` again.",
        )  # fmt: skip
        published_views.note(
            connection, name="[salesforce].[lead]", kind=Kind.VIEW, stream="salesforce.lead", now=now,
            rows=12_003, expected=12_000, trouble="It shows 12,003 rows, the warehouse held 12,000 when it was "
            "counted last.", hint="Sync the stream once more and check again.",
        )  # fmt: skip
    landed(ledger, "salesforce.task", now)


def landed(ledger: Ledger, stream: str, now: datetime) -> None:
    """A manifest that no view names."""
    with ledger.write() as connection:
        plan = connection.execute(
            insert(SyncPlan)
            .values(
                stream=stream, kind="incremental", state="done", run_id=1, created_at=now, seam=None, windows=[],
                columns=[], details={},
            )
            .returning(SyncPlan.id)
        ).scalar_one()  # fmt: skip
        connection.execute(
            insert(LandedFileRow).values(
                stream=stream, run_id=1, plan_id=plan, window=0, chunk=1, manifest_path=f"{stream}-new",
                load_id=f"{stream}-new", files=["new.parquet"], rows=3, rejected=0, bytes=900, window_done=True,
                fence=1, registered_at=now,
            )
        )  # fmt: skip
