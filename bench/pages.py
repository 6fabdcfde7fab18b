"""Pages: queries and reruns on a million runs and a month of fires.

The ledger is built once into ``var/bench`` and used again. Limits are those of docs/console.md: 20 ms for
a query, 100 ms for a rerun of a page.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, text, update

from novade_core.ledger import ages, comparisons_of, costs_of, prices, queries, schedules, summaries
from novade_core.ledger.database import Ledger, create, open_ledger
from novade_core.ledger.models import DailyAge, DailyUsage, Fire, RunState, ScheduleRow
from novade_core.schedules import FireState
from novade_core.settings import PROJECT, load_settings
from novade_core.streams import RunKind

QUERY_LIMIT_MS = 20.0
PAGE_LIMIT_MS = 100.0
RUNS = {"small": 100_000}

_RUNS_SQL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :runs),
r AS (
    SELECT i, abs((i * 2654435761) % 1000) AS dice, abs((i * 40503) % 5000) AS rows,
           :end - (:runs - i) * (1095.0 * 86400 / :runs) AS at
    FROM n
)
INSERT INTO runs (id, subject, source, kind, state, origin, requested_by, requested_at, priority, attempt, parameters,
    worker, fence, started_at, ended_at, read, landed, loaded, deleted, unchanged, superseded, duplicates, rejected,
    bytes_in, api_calls, cpu_ms, source_count, warehouse_count, data_to, headline, error_kind, error_origin,
    error_message, error_hint, code_version, plan_id)
SELECT i, 'salesforce.' || CASE i % 7 WHEN 0 THEN 'account' WHEN 1 THEN 'contact' WHEN 2 THEN 'lead'
        WHEN 3 THEN 'opportunity' WHEN 4 THEN 'case' WHEN 5 THEN 'task' ELSE 'user' END,
    'salesforce', CASE WHEN dice < 940 THEN 'incremental' WHEN dice < 980 THEN 'full' ELSE 'backfill' END,
    CASE WHEN i > :runs - 3 THEN 'queued' WHEN i > :runs - 5 THEN 'running'
         WHEN dice % 100 < 95 THEN 'succeeded' WHEN dice % 100 < 97 THEN 'failed'
         WHEN dice % 100 < 98 THEN 'partial' WHEN dice % 100 < 99 THEN 'abandoned' ELSE 'cancelled' END,
    'schedule', 'schedule', strftime('%Y-%m-%d %H:%M:%f', at, 'unixepoch') || '000', 50, 1, '{}',
    'host:1:1', i,
    CASE WHEN i > :runs - 3 THEN NULL ELSE strftime('%Y-%m-%d %H:%M:%f', at + 1, 'unixepoch') || '000' END,
    CASE WHEN i > :runs - 5 THEN NULL ELSE strftime('%Y-%m-%d %H:%M:%f', at + 40, 'unixepoch') || '000' END,
    rows, rows, rows, 0, 0, 0, 0, 0, rows * 200, 7, 400, 100000, 100000,
    strftime('%Y-%m-%d %H:%M:%f', at, 'unixepoch') || '000',
    'Read ' || rows || ' records, loaded ' || rows || '.',
    CASE WHEN dice % 100 IN (95, 96) THEN 'SourceUnavailable' END, CASE WHEN dice % 100 IN (95, 96) THEN 'source' END,
    CASE WHEN dice % 100 IN (95, 96) THEN 'Salesforce answered 503 while contacts were read.' END, NULL, '1.0', NULL
FROM r
"""


def ledger_of(runs: int, folder: Path) -> Path:
    """The SQLite file of a ledger with so many runs over three years; built where it is missing or a day old."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    file = folder / f"ledger-{runs}-money-{today:%Y%m%d}.sqlite"
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"ledger-{runs}-*"):
        old.unlink()
    partial = folder / f"ledger-{runs}-building.sqlite"
    ledger = open_ledger(f"sqlite:///{partial}")
    end = int(datetime.now(UTC).timestamp())
    with ledger.write() as c:
        indexes = c.execute(
            text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'runs' AND sql IS NOT NULL")
        ).all()
        for name, _ in indexes:
            c.execute(text(f'DROP INDEX "{name}"'))
        c.execute(text(_RUNS_SQL), {"runs": runs, "end": end})
        for _, statement in indexes:
            c.execute(text(statement))
        c.execute(
            text(
                "INSERT INTO steps (run_id, name, state, started_at, ended_at, busy_ms, rows) SELECT r.id, s.name,"
                " 'succeeded', r.started_at, r.ended_at, 9000, r.read FROM runs r, (SELECT 'plan' AS name UNION ALL"
                " SELECT 'extract' UNION ALL SELECT 'land' UNION ALL SELECT 'load' UNION ALL SELECT 'verify') s"
                " WHERE r.id > :low AND r.started_at IS NOT NULL"
            ),
            {"low": runs - 20_000},
        )
        c.execute(
            text(
                "INSERT INTO run_log (run_id, at, level, message, fields) SELECT id, requested_at, 'info',"
                " 'A window was read.', '{\"rows\": 5000}' FROM runs WHERE id > :low"
            ),
            {"low": runs - 200_000},
        )
        c.execute(
            text(
                "INSERT INTO daily (day, stream, runs, failed, read, loaded, rejected, bytes_in, api_calls, busy_ms)"
                " SELECT substr(requested_at, 1, 10), subject, count(*), sum(state = 'failed'), sum(read), sum(loaded),"
                " 0, sum(bytes_in), sum(api_calls), 0 FROM runs GROUP BY 1, 2"
            )
        )
        c.execute(
            text(
                "INSERT INTO stream_status (stream, source, first_loaded_at, last_run_id, last_run_state,"
                " last_success_id, last_load_at, data_to, source_count, warehouse_count, comparison_state,"
                " comparison_sentence, paused)"
                " SELECT subject, source, min(requested_at), max(id), 'succeeded', max(id),"
                " max(ended_at), max(data_to),"
                " 100000, 100000, 'equal', '100,000 records on both sides.', 0 FROM runs WHERE state = 'succeeded'"
                " GROUP BY subject, source"
            )
        )
    _add_fires(ledger, datetime.fromtimestamp(end, UTC))
    _add_money(ledger, datetime.fromtimestamp(end, UTC))
    with ledger.write() as c:
        c.execute(text("ANALYZE"))
    ledger.close()
    partial.rename(file)
    return file


def _add_fires(ledger: Ledger, end: datetime) -> None:
    """Configured schedules, booked for 30 days: the canary's 43,200 fires, and others with seven runs each."""
    specs = load_settings(environ={}).schedules
    schedules.seed(ledger, specs, now=end)
    begin = end - timedelta(days=30)
    with ledger.write() as c:
        for schedule in c.execute(select(ScheduleRow.id, ScheduleRow.name)).all():
            spec = next(spec for spec in specs if spec.name == schedule.name)
            runs = 7 if spec.streams else 0
            c.execute(
                insert(Fire),
                [
                    {
                        "schedule_id": schedule.id,
                        "promised": promised,
                        "due_at": promised,
                        "booked_at": promised + timedelta(milliseconds=5 + number % 40),
                        "state": (FireState.LATE if number % 500 == 0 else FireState.ON_TIME).value,
                        "runs": runs,
                        "booked_by": "host:1:1",
                    }
                    for number, promised in enumerate(spec.timing.between(begin, end))
                ],
            )
            c.execute(update(ScheduleRow).where(ScheduleRow.id == schedule.id).values(booked_to=end))
        c.execute(
            text(
                "UPDATE runs SET fire_id = (SELECT id FROM (SELECT id, row_number() OVER (ORDER BY promised DESC) AS n"
                " FROM fires WHERE runs > 0) WHERE n = (:newest - runs.id) / 7 + 1)"
                " WHERE id > :newest - 7 * (SELECT min(count(*), 2000) FROM fires WHERE runs > 0)"
            ),
            {"newest": c.execute(text("SELECT max(id) FROM runs")).scalar_one()},
        )


def _add_money(ledger: Ledger, end: datetime) -> None:
    """What is configured as prices; three years of usage and ages by day; 20,000 comparisons of each stream."""
    settings = load_settings(environ={})
    prices.seed(ledger, settings.prices, now=end)
    days = [(end - timedelta(days=back)).date() for back in range(1_095)]
    meters = [meter for meter in settings.prices if not meter.startswith(prices.RATE)]
    with ledger.write() as c:
        for stream in settings.streams:
            day_of = [{"day": day, "stream": stream.id} for day in days]
            c.execute(
                insert(DailyUsage),
                [d | {"meter": m, "quantity": 100_000, "failed": 90, "repeated": 9} for d in day_of for m in meters],
            )
            c.execute(insert(DailyAge), [d | {"loads": 130, "oldest_seconds": 4_000} for d in day_of])
            c.execute(
                text(
                    "INSERT INTO comparisons (run_id, stream, at, window, source_count, warehouse_count, state,"
                    " sentence) SELECT id, subject, ended_at, 'all', 100000, 100000, 'equal', 'Equal.'"
                    " FROM runs WHERE subject = :stream AND ended_at IS NOT NULL ORDER BY id DESC LIMIT 20000"
                ),
                {"stream": stream.id},
            )


def _median(action: Callable[[], Any], times: int = 15) -> float:
    """Milliseconds, after one warm-up."""
    action()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def measured_queries(ledger: Ledger) -> dict[str, Callable[[], Any]]:
    """Every query that pages make, in its dearest shape."""
    now = datetime.now(UTC)
    streams = load_settings(environ={}).streams
    day, week, month = timedelta(days=1), timedelta(days=7), timedelta(days=30)
    top = queries.recent_runs(ledger, limit=1).rows[0].id
    middle, failed = (
        top // 2,
        queries.recent_runs(ledger, filters=queries.RunFilter(states=(RunState.FAILED,)), limit=1).rows[0],
    )

    canary = next(s.id for s in schedules.schedules(ledger) if s.is_canary)
    newest = schedules.fires(ledger, since=now - month, until=now, without=canary, limit=50)
    asking = [fire.id for fire in newest]

    def listed(**parts: Any) -> Callable[[], Any]:
        where = {k: parts.pop(k) for k in ("before", "after") if k in parts}
        return lambda: queries.recent_runs(ledger, filters=queries.RunFilter(**parts), **where)

    return {
        "runs, newest": listed(),
        "runs, page in the middle": listed(before=middle),
        "runs, page above the middle": listed(after=middle),
        "runs of a state": listed(states=(RunState.FAILED,)),
        "runs of three states": listed(states=queries.PROBLEMS),
        "runs of a stream": listed(subject="salesforce.contact"),
        "runs of a stream and a state": listed(subject="salesforce.contact", states=(RunState.ABANDONED,)),
        "runs of a stream that worked": listed(subject="salesforce.contact", states=(RunState.SUCCEEDED,)),
        "runs of a source": listed(source="salesforce"),
        "runs of a source never seen": listed(source="drift"),
        "runs of a kind": listed(kind="backfill"),
        "runs of a kind never seen": listed(kind="repair"),
        "runs of a day": listed(since=now - 400 * day, until=now - 399 * day),
        "runs with a text": listed(text="503"),
        "runs with a text never seen": listed(text="no run says this"),
        "runs by number": listed(text=str(top - 10)),
        "one run": lambda: queries.run(ledger, top - 10),
        "before a failed run": lambda: queries.before_run(ledger, failed),
        "log": lambda: queries.log(ledger, top - 10),
        "usage": lambda: queries.usage(ledger, top - 10),
        "comparisons": lambda: queries.comparisons(ledger, top - 10),
        "artifacts": lambda: queries.artifacts(ledger, top - 10),
        "open runs": lambda: queries.open_runs(ledger),
        "histogram of a day": lambda: summaries.histogram(ledger, since=now - day, until=now),
        "histogram of a week": lambda: summaries.histogram(ledger, since=now - week, until=now),
        "histogram of a week and a stream": lambda: summaries.histogram(
            ledger, since=now - week, until=now, subject="salesforce.contact"
        ),
        "histogram of 30 days by day": lambda: summaries.histogram(ledger, since=now - month, until=now, by_day=True),
        "counts by state in a day": lambda: summaries.count_by_state(ledger, since=now - day, until=now),
        "stream facts": lambda: summaries.stream_facts(ledger, streams),
        "daily totals of 14 days": lambda: summaries.daily_totals(
            ledger, since=(now - 13 * day).date(), until=now.date()
        ),
        "open findings": lambda: summaries.open_findings(ledger),
        "history of all streams": lambda: summaries.stream_history(ledger, streams, RunKind.FULL),
        "schedules": lambda: schedules.schedules(ledger),
        "fires of 30 days, newest": lambda: schedules.fires(ledger, since=now - month, until=now, limit=51),
        "fires of 30 days without the canary's": lambda: schedules.fires(
            ledger, since=now - month, until=now, without=canary, limit=51
        ),
        "late fires of 30 days": lambda: schedules.fires(
            ledger, since=now - month, until=now, states=(FireState.LATE,), limit=51
        ),
        "missed fires of 30 days, none": lambda: schedules.fires(
            ledger, since=now - month, until=now, states=(FireState.MISSED,), limit=51
        ),
        "last fires": lambda: schedules.last_fires(ledger),
        "fires by state in a day": lambda: schedules.fire_counts(ledger, since=now - day, until=now),
        "runs of 50 fires": lambda: schedules.runs_of_fires(ledger, asking),
        "lateness of a day": lambda: schedules.lateness(ledger, since=now - day, until=now),
        "leader": lambda: schedules.leader(ledger),
        "prices": lambda: prices.prices(ledger),
        "usage of 31 days by stream": lambda: costs_of.used_by_stream(
            ledger, since=(now - month).date(), until=now.date()
        ),
        "usage of 31 days by day": lambda: costs_of.used_by_day(ledger, since=(now - month).date(), until=now.date()),
        "rows of 31 days by stream": lambda: costs_of.rows_by_stream(
            ledger, since=(now - month).date(), until=now.date()
        ),
        "ages of 90 days": lambda: ages.daily_ages(ledger, since=(now - 3 * month).date(), until=now.date()),
        "loads of a stream in 7 days": lambda: ages.loads(ledger, stream="salesforce.contact", since=now - week),
        "runs of a stream that ended badly in 30 days": lambda: ages.culprits(
            ledger, stream="salesforce.contact", since=now - month, until=now
        ),
        "latest comparisons": lambda: comparisons_of.latest(ledger, [s.id for s in streams]),
        "comparisons by month": lambda: comparisons_of.by_month(ledger, "salesforce.contact"),
        "landed and not loaded": lambda: comparisons_of.waiting(ledger, [s.id for s in streams]),
        "queue length": lambda: summaries.queue_length(ledger),
        "workers": lambda: summaries.workers(ledger),
    }


def measured_pages(home: Path, file: Path) -> dict[str, Callable[[], Any]]:
    """A rerun of each page without cached reads, started from the frame as the server does."""
    import streamlit
    from streamlit.testing.v1 import AppTest

    config = home / "novade.toml"
    config.write_text(
        (PROJECT / "novade.toml")
        .read_text()
        .replace("var/ledger.sqlite", str(file))
        .replace(
            "[environments.local.sandbox]",
            '[environments.local.worker]\nmode = "external"\n\n[environments.local.sandbox]',
        )
    )
    os.environ["NOVADE_CONFIG"], os.environ["NOVADE_HOME"] = str(config), str(home)

    def page(path: str | None, **query: str) -> Callable[[], Any]:
        app = AppTest.from_file(str(PROJECT / "pages" / "frame.py"), default_timeout=60)
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        if path is not None:
            (script,) = (PROJECT / "pages").glob(f"*/{path}")
            app.switch_page(str(script)).run()
        assert not app.exception, [e.message for e in app.exception]

        def again() -> None:
            streamlit.cache_data.clear()  # the dearest rerun: nobody else has read within the last second
            app.run()

        return again

    return {
        "Overview, rerun": page(None),
        "Sync, rerun": page("sync.py"),
        "Runs, rerun": page("runs.py"),
        "Runs, failed ones, rerun": page("runs.py", state="failed"),
        "one run, rerun": page("runs.py", run="1000"),
        "Schedules, rerun": page("schedules.py"),
        "one schedule, rerun": page("schedules.py", schedule="every quarter"),
        "Freshness, rerun": page("freshness.py"),
        "Freshness of 90 days, rerun": page("freshness.py", span="90 days"),
        "one stream's age, rerun": page("freshness.py", stream="salesforce.contact"),
        "Reconciliation, rerun": page("reconciliation.py"),
        "one comparison, rerun": page("reconciliation.py", stream="salesforce.contact"),
        "Costs, rerun": page("costs.py"),
    }


def run(size: str = "full") -> list[dict[str, Any]]:
    """Measure and give rows of name, unit, ours, limit, peer, ratio (no peer: these limits are our own)."""
    count = RUNS.get(size, 1_000_000)
    folder = PROJECT / "var" / "bench"
    file = ledger_of(count, folder)
    ledger = Ledger(create(f"sqlite:///{file}"))
    rows: list[dict[str, Any]] = []

    def add(name: str, ours: float, limit: float) -> None:
        rows.append({"name": name, "unit": "ms", "ours": round(ours, 2), "limit": limit, "peer": None, "ratio": None})

    for name, action in measured_queries(ledger).items():
        add(f"query: {name} ({count:,} runs)", _median(action), QUERY_LIMIT_MS)
    ledger.close()
    for name, action in measured_pages(folder, file).items():
        add(f"page: {name} ({count:,} runs)", _median(action, 10), PAGE_LIMIT_MS)
    return rows


if __name__ == "__main__":
    import sys

    for row in run(sys.argv[1] if len(sys.argv) > 1 else "full"):
        print(f"{row['ours']:>9.2f} {row['unit']} of {row['limit']:>5.0f}  {row['name']}")
