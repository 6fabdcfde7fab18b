"""Load windows: a fortnight of past ones, one under way, streams that wait, one whose load failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from novade_core.ledger import prices, window_usage, windows
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import LandedFileRow, Lease, LoadWindow, Run, SyncPlan, WindowState
from novade_core.settings import load_settings
from tests.pages import seed

MINUTE = timedelta(minutes=1)


def configure(home: Path, **more: Any) -> Path:
    """A configuration whose environment has a pool that is resumed for loads."""
    file = seed.configure(home, **more)
    body = file.read_text()
    synapse = 'kind = "synapse"\nserver = "acme.sql.azuresynapse.net"\ndatabase = "novade"'
    blob = 'kind = "azure_blob"\naccount = "acme"\ncontainer = "landing"'
    body = body.replace('kind = "folder"\npath = "var/landing"', blob, 1)
    pool = (
        '[environments.local.pool]\nkind = "workspace"\nsubscription = "s"\nresource_group = "g"\nworkspace = "w"\n\n'
    )
    body = body.replace('kind = "duckdb"\npath = "var/warehouse.duckdb"', synapse, 1)
    file.write_text(body.replace("[environments.local.ledger]", pool + "[environments.local.ledger]", 1))
    return file


def priced(ledger: Ledger, now: datetime) -> None:
    """The prices of the configuration."""
    prices.seed(ledger, load_settings(file=seed.CONFIG, environ={}).prices, now=now - timedelta(days=90))


def gathered(ledger: Ledger, now: datetime, *, stream: str, rows: int, minutes: int, files: int = 1) -> None:
    """Files of a stream that landed so many minutes ago and wait."""
    at = now - minutes * MINUTE
    with ledger.write() as c:
        plan = c.execute(
            insert(SyncPlan)
            .values(
                stream=stream, kind="incremental", state="landed", run_id=1, created_at=at, windows=[], columns=[],
                details={},
            )
            .returning(SyncPlan.id)
        ).scalar_one()  # fmt: skip
        for n in range(files):
            c.execute(
                insert(LandedFileRow).values(
                    stream=stream, run_id=1, plan_id=plan, window=0, chunk=n, manifest_path=f"{stream}{plan}-{n}",
                    load_id=f"{stream}{plan}-{n}", files=[], rows=rows // files, rejected=0, bytes=9_000,
                    window_done=True, fence=1, registered_at=at,
                )
            )  # fmt: skip


def stuck(ledger: Ledger, now: datetime, *, stream: str = "lead", said: str = "A column is gone.") -> int:
    """A stream that waits and whose run in the last window failed; gives the run."""
    gathered(ledger, now, stream=f"salesforce.{stream}", rows=77, minutes=300)
    with ledger.write() as c:
        return seed.failure(c, stream=stream, at=now - 30 * MINUTE, message=said, origin=windows.ORIGIN)


def past(
    ledger: Ledger,
    opened: datetime,
    *,
    minutes: int = 14,
    streams: tuple[str, ...] = ("contact", "account"),
    trouble: str | None = None,
    copied: bool = True,
    **more: Any,
) -> int:
    """A window that loaded these streams and closed after so many minutes, booked as it is in truth."""
    resumed, closed = opened + 4 * MINUTE, opened + minutes * MINUTE
    ours = more.get("ours", True)
    with ledger.write() as c:
        known = set(c.execute(select(Lease.stream)).scalars())
        for name in {windows.POOL, *(f"salesforce.{stream}" for stream in streams)} - known:
            c.execute(insert(Lease).values(stream=name, fence=1, beat=0))
        labels = {}
        for stream in streams:
            run = seed.add_run(c, stream=stream, at=resumed, origin=windows.ORIGIN, rows=12_000)
            labels[f"nv_{run}_{stream}_copy"] = {"statements": 4, "ms": 41_000, "failed": 0}
            labels[f"nv_{run}_{stream}_upsert"] = {"statements": 3, "ms": 18_500, "failed": 0}
        work = {"statements": 7 * len(streams), "ms": 59_500 * len(streams), "labels": labels} if copied else None
        values: dict[str, Any] = {
            "state": WindowState.PAUSING, "reason": f"{len(streams)} streams waited since 10:02 UTC", "ours": ours,
            "opened_at": opened, "resume_asked_at": opened if ours else None, "resumed_at": resumed,
            "loads_from": resumed, "drained_at": closed - 2 * MINUTE,
            "pause_asked_at": closed - MINUTE if ours else None, "size": "DW100c", "loads": len(streams), "others": [],
            "work": work,
        }  # fmt: skip
        window = c.execute(insert(LoadWindow).values(**(values | more)).returning(LoadWindow.id)).scalar_one()
    for stream in streams:
        gathered(ledger, opened - 60 * MINUTE, stream=f"salesforce.{stream}", rows=12_000, minutes=0)
    with ledger.write() as c:
        new = LandedFileRow.registered_at == opened - 60 * MINUTE
        c.execute(update(LandedFileRow).where(new).values(loaded_at=resumed + MINUTE))
        for stream in streams:
            run = c.execute(
                select(Run.id).where(Run.subject == f"salesforce.{stream}").order_by(Run.id.desc()).limit(1)
            )
            own = LandedFileRow.stream == f"salesforce.{stream}"
            c.execute(update(LandedFileRow).where(new, own).values(loaded_by=run.scalar_one()))
    online = (minutes - 1) * 60 if ours else None
    paused = closed if ours else None
    window_usage.close(
        ledger, window, fence=1,
        values={"state": WindowState.CLOSED, "closed_at": closed, "paused_at": paused, "online_seconds": online,
                "trouble": trouble},
    )  # fmt: skip
    return int(window)


def fortnight(ledger: Ledger, now: datetime | None = None) -> list[int]:
    """Two windows a day, one in a pool of somebody else, one that somebody paused."""
    now = now or datetime.now(UTC)
    found = []
    for half_days in range(28, 0, -1):
        opened = now - timedelta(hours=12 * half_days) + timedelta(hours=9)
        more: dict[str, Any] = {}
        if half_days == 9:
            more = {"ours": False, "reason": "the pool is online already"}
        if half_days == 4:
            more = {"trouble": "The pool was paused by somebody else.", "copied": False, "end_asked_by": "ada"}
        found.append(past(ledger, opened, minutes=11 + half_days % 5 * 3, **more))
    return found


def under_way(ledger: Ledger, now: datetime, state: WindowState = WindowState.OPEN, **more: Any) -> int:
    """A window that began six minutes ago; the pool has been online for two of them."""
    online = None if state is WindowState.RESUMING else now - 2 * MINUTE
    values: dict[str, Any] = {
        "state": state, "reason": "5 streams waited since 10:02 UTC", "ours": True, "opened_at": now - 6 * MINUTE,
        "resume_asked_at": now - 6 * MINUTE, "resumed_at": online, "loads_from": online, "size": "DW100c", "loads": 3,
        "others": [],
    }  # fmt: skip
    if state in (WindowState.CLOSING, WindowState.PAUSING):
        values |= {"drained_at": now - MINUTE, "work": {"statements": 12, "ms": 60_000, "labels": {}}}
    with ledger.write() as c:
        return int(c.execute(insert(LoadWindow).values(**(values | more)).returning(LoadWindow.id)).scalar_one())


def loading(ledger: Ledger, now: datetime, *, stream: str) -> None:
    """A run of a stream that holds the warehouse."""
    with ledger.write() as c:
        run = seed.add_run(c, stream=stream, at=now - MINUTE, state="running", origin=windows.ORIGIN)
        c.execute(insert(Lease).values(stream=f"slot:warehouse:{run}", holder="h:1:1", fence=1, beat=1, run_id=run))
