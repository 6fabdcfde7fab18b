"""Ledgers in the states that pages are designed for: empty, normal, stale, failed, and one that is hostile."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, update

from novade_core.ledger import backfills
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import (
    Artifact,
    BackfillChunk,
    Comparison,
    Daily,
    FindingRow,
    LogEntry,
    Run,
    SourceStatus,
    Step,
    StreamStatus,
    SyncPlan,
    Usage,
    WorkerRow,
)
from novade_core.settings import PROJECT
from novade_core.streams import Stream
from tests.templates import sqlite_ledger

STREAMS = ("account", "contact", "lead", "opportunity", "case", "task", "user")
#: Looks like markup, a link, a directive, an icon, an emoji and a formula; has to come out as it is.
HOSTILE = "<img src=x onerror=alert(1)> [click](javascript:alert(1)) :red[boo] :material/home: :smile: $x$ `a` **b**"

CONFIG = PROJECT / "novade.toml"


def configure(home: Path, *, label: str = "Local sandbox", colour: str = "green", hostile: bool = False) -> Path:
    """Write a configuration into ``home`` whose console starts no worker; gives the file."""
    worker = '[environments.local.worker]\nmode = "external"\n\n[environments.local.landing]'
    body = CONFIG.read_text().replace("[environments.local.landing]", worker, 1)
    # Pages are drawn over what is seeded here: streams of Salesforce.
    body = re.sub(r'^"(?!salesforce)\w+\.\w+" = \{\}\n', "", body, flags=re.MULTILINE)
    body = re.sub(r'\[schedules\."[^"]+"\]\nstreams = \["(?!salesforce)(?:.+\n)+', "", body)
    body = re.sub(r'^streams = \["salesforce".*\]$', 'streams = ["salesforce"]', body, flags=re.MULTILINE)
    body = body.replace('label = "Local sandbox"', f'label = "{label}"').replace('"green"', f'"{colour}"')
    if hostile:
        body = body.replace('"salesforce.contact" = {}', f"\"salesforce.contact\" = {{ label = '''{HOSTILE}''' }}")
    file = home / "novade.toml"
    file.write_text(body)
    return file


def ledger_at(home: Path) -> Ledger:
    """The ledger that ``configure`` points to."""
    return open_ledger(sqlite_ledger(home / "var" / "ledger.sqlite"))


def add_run(
    c: Connection,
    *,
    stream: str,
    at: datetime,
    state: str = "succeeded",
    kind: str = "incremental",
    rows: int | None = 480,
    seconds: float = 42.0,
    **more: Any,
) -> int:
    """One run with steps, log, usage and, where it ended well, a comparison. ``at`` is when it was asked for."""
    started = None if state in ("queued",) else at + timedelta(seconds=1)
    ended = started + timedelta(seconds=seconds) if started and state not in ("running", "cancelling") else None
    worked = state in ("succeeded", "partial")
    rejected = 3 if state == "partial" else 0
    unchanged = (rows or 0) // 5
    loaded = (rows or 0) - unchanged - rejected if worked else None
    values: dict[str, Any] = {
        "subject": f"salesforce.{stream}",
        "source": "salesforce",
        "kind": kind,
        "state": state,
        "origin": "schedule",
        "requested_by": "schedule",
        "requested_at": at,
        "priority": 50,
        "attempt": 1,
        "parameters": {},
        "started_at": started,
        "ended_at": ended,
        "read": None if state == "queued" else rows,
        "landed": None if state == "queued" else (rows or 0) - rejected,
        "loaded": loaded,
        "deleted": 2 if worked else None,
        "unchanged": unchanged if worked else None,
        "superseded": 0 if worked else None,
        "duplicates": 0 if worked else None,
        "rejected": rejected if worked else None,
        "bytes_in": None if state == "queued" else (rows or 0) * 640,
        "api_calls": None if state == "queued" else 6 + (rows or 0) // 400,
        "cpu_ms": None if state == "queued" else 1_840,
        "source_count": 20_014 if worked else None,
        "warehouse_count": 20_014 if worked else None,
        "data_to": at if worked else None,
        "code_version": "0.1.0+4f2a91c",
        "headline": f"Read {rows:,} records, loaded {loaded:,}." if worked and loaded is not None else None,
    } | more
    run_id = c.execute(insert(Run).values(**values).returning(Run.id)).scalar_one()
    if started is None:
        return run_id
    clock = started
    for name, share in (("plan", 0.08), ("extract", 0.5), ("land", 0.12), ("load", 0.22), ("verify", 0.08)):
        failed = state == "failed" and name == "load"
        step_end = clock + timedelta(seconds=seconds * share)
        running = ended is None and name == "extract"
        overlap = name == "extract"
        c.execute(
            insert(Step).values(
                run_id=run_id,
                name=name,
                state="failed" if failed else "running" if running else "succeeded",
                started_at=clock,
                ended_at=None
                if running
                else step_end + (timedelta(seconds=seconds * 0.12) if overlap else timedelta()),
                busy_ms=int(seconds * share * 1000),
                rows=None if name == "plan" else rows,
                bytes=(rows or 0) * 210 if name == "land" else None,
                message=values.get("error_message") if failed else None,
            )
        )
        clock = step_end
        if failed or running:
            break
    lines = [
        ("info", "The object was described.", {"fields": 64, "skipped": 2}),
        ("info", "A window was read.", {"rows": rows, "seconds": 11.2, "transport": "rest"}),
        ("warning", "The source asked to slow down.", {"retry_after": 2}),
    ]
    if worked:
        lines.append(("info", "A manifest was loaded.", {"rows": rows, "load_id": "9f31c0de"}))
    if values.get("error_message"):
        lines.append(("error", values["error_message"], {"kind": values.get("error_kind")}))
    for i, (level, message, fields) in enumerate(lines):
        c.execute(
            insert(LogEntry).values(
                run_id=run_id,
                at=started + timedelta(seconds=i * seconds / 5),
                level=level,
                message=message,
                fields=fields,
            )
        )
    for step, meter, quantity in (
        ("extract", "salesforce.api_calls", values["api_calls"] or 0),
        ("extract", "salesforce.bytes_received", values["bytes_in"] or 0),
        ("land", "landing.bytes_written", (rows or 0) * 210),
        ("load", "process.cpu_ms", 1_240),
    ):
        c.execute(insert(Usage).values(run_id=run_id, step=step, meter=meter, quantity=quantity))
    if worked:
        c.execute(
            insert(Comparison).values(
                run_id=run_id,
                stream=f"salesforce.{stream}",
                at=ended,
                window="all",
                source_count=values["source_count"],
                warehouse_count=values["warehouse_count"],
                state="equal" if values["source_count"] == values["warehouse_count"] else "differs",
                sentence=f"Equal: {values['source_count']:,} records on both sides."
                if values["source_count"] == values["warehouse_count"]
                else f"{values['source_count']:,} at the source, {values['warehouse_count']:,} in the warehouse.",
            )
        )
    return run_id


def status(
    c: Connection, *, stream: str, run_id: int, load_at: datetime | None, state: str = "succeeded", **more: Any
) -> None:
    """The stream's latest facts."""
    values = {
        "stream": f"salesforce.{stream}",
        "source": "salesforce",
        "first_loaded_at": load_at,
        "last_run_id": run_id,
        "last_run_state": state,
        "last_success_id": run_id,
        "last_load_at": load_at,
        "data_to": None if load_at is None else load_at - timedelta(minutes=3),
        "source_count": 20_014,
        "warehouse_count": 20_014,
        "comparison_state": "equal",
        "comparison_sentence": "Equal: 20,014 records on both sides.",
        "paused": False,
    } | more
    c.execute(insert(StreamStatus).values(**values))


def daily(c: Connection, *, now: datetime, days: int = 14) -> None:
    """Two weeks of totals."""
    dice = random.Random(7)
    for back in range(days):
        day = (now - timedelta(days=back)).date()
        for stream in STREAMS:
            rows = int(dice.uniform(300, 900) * (1.2 if back < 7 else 1.0))
            c.execute(
                insert(Daily).values(
                    day=day,
                    stream=f"salesforce.{stream}",
                    runs=24,
                    failed=1 if dice.random() < 0.1 else 0,
                    read=rows,
                    loaded=int(rows * 0.8),
                    rejected=0,
                    bytes_in=rows * 640,
                    api_calls=150,
                    busy_ms=240_000,
                )
            )


def normal(ledger: Ledger, now: datetime | None = None) -> dict[str, int]:
    """All streams fresh, one run under way, two queued. Gives the ids of notable runs."""
    now = now or datetime.now(UTC)
    dice = random.Random(3)
    ids: dict[str, int] = {}
    with ledger.write() as c:
        for hours in range(30, 0, -1):
            for stream in STREAMS[:4]:
                at = now - timedelta(hours=hours, minutes=dice.uniform(0, 5))
                roll = dice.random()
                if roll > 0.97 and hours > 6:
                    failure(c, stream=stream, at=at)
                else:
                    add_run(
                        c,
                        stream=stream,
                        at=at,
                        state="partial" if roll < 0.02 else "succeeded",
                        rows=dice.randint(40, 900),
                    )
        for i, stream in enumerate(STREAMS):
            at = now - timedelta(minutes=12 + 3 * i)
            ids[stream] = add_run(c, stream=stream, at=at, rows=dice.randint(200, 900))
            status(c, stream=stream, run_id=ids[stream], load_at=at + timedelta(seconds=43))
        ids["running"] = add_run(
            c,
            stream="contact",
            at=now - timedelta(seconds=95),
            state="running",
            kind="full",
            rows=None,
            origin="person",
            requested_by="local",
            progress={
                "step": "extract",
                "rows": 12_400,
                "total": 20_014,
                "bytes": 7_936_000,
                "rows_per_second": 412.0,
                "message": "Reading Contact, window 3 of 5.",
                "at": now.isoformat(),
            },
        )
        ids["queued"] = add_run(c, stream="lead", at=now - timedelta(seconds=20), state="queued", priority=10)
        add_run(
            c,
            stream="case",
            at=now - timedelta(seconds=50),
            state="queued",
            attempt=2,
            not_before=now + timedelta(minutes=2),
        )
        daily(c, now=now)
        c.execute(
            insert(WorkerRow).values(
                id="console:41:9", kind="console", started_at=now - timedelta(hours=3), beat=2_700, stopped_at=None
            )
        )
    return ids


def failure(c: Connection, *, stream: str, at: datetime, message: str | None = None, **more: Any) -> int:
    """A run that the source broke."""
    return add_run(
        c,
        stream=stream,
        at=at,
        state="failed",
        error_kind="SourceUnavailable",
        error_origin="source",
        error_message=message or "Salesforce answered 503 four times while a page of Opportunity was read.",
        error_hint="It is tried again by itself; start the run again if it was the last try.",
        headline=message or "Failed in load: Salesforce answered 503 four times.",
        **more,
    )


def stale(ledger: Ledger, now: datetime | None = None) -> dict[str, int]:
    """Contact is stale, Lead late, Case never loaded, Task paused; Account differs. Nothing failed."""
    now = now or datetime.now(UTC)
    ages = {"account": 1, "contact": 27, "lead": 21, "opportunity": 2, "task": 50, "user": 1}
    ids = {}
    with ledger.write() as c:
        for stream, hours in ages.items():
            at = now - timedelta(hours=hours)
            counts = {"source_count": 20_014, "warehouse_count": 20_011} if stream == "account" else {}
            sentence = "3 accounts of the source are missing in the warehouse."
            ids[stream] = add_run(c, stream=stream, at=at, **counts, **({"headline": sentence} if counts else {}))
            differs = {"comparison_state": "differs", "comparison_sentence": sentence} if counts else {}
            status(c, stream=stream, run_id=ids[stream], load_at=at, paused=stream == "task", **counts, **differs)
        c.execute(
            insert(Artifact).values(
                run_id=ids["account"],
                stream="salesforce.account",
                kind="missing_keys",
                at=now,
                content=[{"key": f"001000000000{i:03d}AAA"} for i in range(3)],
            )
        )
        c.execute(
            insert(FindingRow).values(
                subject="salesforce.account",
                kind="count_difference",
                severity="fail",
                summary="3 accounts of the source are missing in the warehouse.",
                evidence={"source": 20_014, "warehouse": 20_011},
                next_step="Sync Account in full, or reconcile it.",
                run_id=ids["account"],
                opened_at=now - timedelta(hours=1),
                closed_at=None,
            )
        )
        daily(c, now=now, days=3)
    return ids


def failed(ledger: Ledger, now: datetime | None = None, *, message: str | None = None) -> dict[str, int]:
    """As normal, but Opportunity has failed three times since it last worked, with another column and version."""
    now = now or datetime.now(UTC)
    ids = normal(ledger, now)
    columns = [
        {"name": "Id", "type": "text", "length": 18},
        {"name": "Amount", "type": "decimal", "precision": 16, "scale": 2},
    ]
    with ledger.write() as c:
        plans = [
            c.execute(
                insert(SyncPlan)
                .values(
                    stream="salesforce.opportunity",
                    kind="incremental",
                    state="done",
                    run_id=ids["opportunity"],
                    created_at=now,
                    windows=[],
                    columns=own,
                    details={},
                )
                .returning(SyncPlan.id)
            ).scalar_one()
            for own in (
                columns,
                [
                    *columns[:1],
                    {"name": "Amount", "type": "text", "length": 40},
                    {"name": "Margin__c", "type": "double"},
                ],
            )
        ]
        ids["worked"] = add_run(c, stream="opportunity", at=now - timedelta(minutes=9), plan_id=plans[0])
        for minutes in (8, 6, 4):
            ids["failed"] = failure(
                c,
                stream="opportunity",
                at=now - timedelta(minutes=minutes),
                message=message,
                plan_id=plans[1],
                code_version="0.1.1+b81d332",
                rows=4_100,
            )
        c.execute(
            update(StreamStatus)
            .where(StreamStatus.stream == "salesforce.opportunity")
            .values(last_run_id=ids["failed"], last_run_state="failed", last_success_id=ids["worked"])
        )
        ids["partial"] = add_run(c, stream="user", at=now - timedelta(minutes=3), state="partial", rows=120)
        c.execute(
            insert(Artifact).values(
                run_id=ids["partial"],
                stream="salesforce.user",
                kind="rejects",
                at=now,
                content=[
                    {
                        "column": "LastLoginDate",
                        "reason": "not a timestamp",
                        "value": "=cmd|'/c calc'!A0",
                        "key": "0050001",
                    },
                    {
                        "column": "Fax",
                        "reason": "longer than 40",
                        "value": message or "+49 30 1234567890",
                        "key": "0050002",
                    },
                ],
            )
        )
    return ids


def backfilled(ledger: Ledger, now: datetime | None = None) -> dict[str, int]:
    """A backfill of each kind: months that are open, days that are paused, weeks that are done but for one."""
    now = now or datetime.now(UTC)
    at = now - timedelta(days=2)
    until = datetime(2024, 10, 31, tzinfo=UTC)
    ids = {}
    for stream, chunk, days, states in (
        ("task", "month", 1_000, ["succeeded"] * 9 + ["partial", "failed", "abandoned", "running"]),
        ("lead", "day", 75, ["succeeded"] * 20 + ["cancelled"]),
        ("account", "week", 100, ["succeeded"] * 8 + ["failed"] + ["succeeded"] * 7),
    ):
        ids[chunk] = backfills.start(
            ledger,
            stream=Stream(
                source="salesforce", name=stream, label=stream, object_name=stream, primary_key=("Id",),
                cursor_field="SystemModstamp",
            ),
            since=until - timedelta(days=days),
            until=until,
            chunk=chunk,
            newest_first=chunk != "day",
            scope="all",
            who="local",
            now=at,
        )  # fmt: skip
        with ledger.write() as c:
            mine = BackfillChunk.backfill_id == ids[chunk]
            c.execute(update(BackfillChunk).where(mine).values(expected=1_240))
            if chunk != "week":
                why = {"left_out": "It has been read already."}
                c.execute(update(BackfillChunk).where(mine, BackfillChunk.position.in_((22, 23, 30))).values(**why))
            for position, state in enumerate(states):
                more = {"backfill_id": ids[chunk], "kind": "backfill", "priority": 80, "origin": "backfill"}
                if state == "failed":
                    run = failure(c, stream=stream, at=at, **more)
                else:
                    run = add_run(c, stream=stream, at=at, state=state, rows=1_204 + 7 * position, **more)
                c.execute(update(BackfillChunk).where(mine, BackfillChunk.position == position).values(run_id=run))
    with ledger.write() as c:
        c.execute(insert(SourceStatus).values(source="salesforce", at=now, calls_used=1_900, calls_allowed=15_000))
    backfills.pause(ledger, ids["day"], "local", now)
    backfills.feed(ledger, now=now)
    return ids
