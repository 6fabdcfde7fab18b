"""What must be true when calm has returned; and witnesses in the ledger itself, which our own code cannot talk over."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from novade_core.ledger.schedules import schedules
from tests.homes import Home

#: Triggers that note each movement of a checkpoint with the fence that its stream's lease had at that moment.
_SQLITE = (
    """CREATE TABLE witness (id INTEGER PRIMARY KEY, stream TEXT, run_id BIGINT, fence BIGINT, leased BIGINT,
       cursor TEXT)""",
    """CREATE TRIGGER checkpoint_made AFTER INSERT ON checkpoints BEGIN
       INSERT INTO witness (stream, run_id, fence, leased, cursor) VALUES (new.stream, new.run_id, new.fence,
         (SELECT fence FROM leases WHERE stream = new.stream), new.cursor); END""",
    """CREATE TRIGGER checkpoint_moved AFTER UPDATE ON checkpoints BEGIN
       INSERT INTO witness (stream, run_id, fence, leased, cursor) VALUES (new.stream, new.run_id, new.fence,
         (SELECT fence FROM leases WHERE stream = new.stream), new.cursor); END""",
)
_POSTGRESQL = (
    """CREATE TABLE witness (id BIGSERIAL PRIMARY KEY, stream TEXT, run_id BIGINT, fence BIGINT, leased BIGINT,
       cursor TEXT)""",
    """CREATE FUNCTION note_checkpoint() RETURNS trigger AS $$ BEGIN
       INSERT INTO witness (stream, run_id, fence, leased, cursor) VALUES (new.stream, new.run_id, new.fence,
         (SELECT fence FROM leases WHERE stream = new.stream), new.cursor::text); RETURN new; END $$
       LANGUAGE plpgsql""",
    """CREATE TRIGGER checkpoint_moved AFTER INSERT OR UPDATE ON checkpoints FOR EACH ROW
       EXECUTE FUNCTION note_checkpoint()""",
)


def post(home: Home) -> None:
    """Put the witnesses into a fresh ledger."""
    with home.services.ledger.write() as connection:
        for statement in _SQLITE if home.services.ledger.is_sqlite else _POSTGRESQL:
            connection.exec_driver_sql(statement)


def faults(home: Home, *, began: datetime) -> list[str]:
    """Every promise that was broken, in words; none when all is well."""
    return [
        *_one_holder_each(home),
        *_loads(home),
        *_nothing_stuck(home),
        *_fires(home, began=began),
    ]


def _one_holder_each(home: Home) -> list[str]:
    found = []
    holders: dict[tuple[str, int], set[int]] = {}
    newest: dict[str, int] = {}
    for row in home.ledger_rows("SELECT id, stream, fence, run_id FROM landed_files ORDER BY id"):
        holders.setdefault((row.stream, row.fence), set()).add(row.run_id)
        if row.fence < newest.get(row.stream, 0):
            found.append(f"manifest {row.id} of {row.stream} was registered under the old fence {row.fence}")
        newest[row.stream] = row.fence
    moved: dict[str, tuple[int, str]] = {}
    for row in home.ledger_rows("SELECT * FROM witness ORDER BY id"):
        holders.setdefault((row.stream, row.fence), set()).add(row.run_id)
        if row.fence != row.leased:
            found.append(f"the checkpoint of {row.stream} moved under fence {row.fence} while {row.leased} held it")
        fence, cursor = moved.get(row.stream, (0, ""))
        if row.fence <= fence or (row.cursor or "") < cursor:
            found.append(f"the checkpoint of {row.stream} went back: {(fence, cursor)} -> {(row.fence, row.cursor)}")
        moved[row.stream] = (row.fence, row.cursor or "")
    if not moved:
        found.append("no checkpoint ever moved")
    return found + [f"{key} had two holders: runs {runs}" for key, runs in holders.items() if len(runs) > 1]


def _loads(home: Home) -> list[str]:
    marked = Counter(row[0] for row in home.query("SELECT load_id FROM novade.novade_loads"))
    found = [f"load {load} was committed {n} times" for load, n in marked.items() if n > 1]
    fence_of = {row.id: row.fence for row in home.ledger_rows("SELECT id, fence FROM runs WHERE fence IS NOT NULL")}
    newest: dict[str, tuple[int, int]] = {}
    for stream, run_id in home.query("SELECT stream, run_id FROM novade.novade_loads ORDER BY rowid"):
        fence = fence_of[run_id]
        if (fence, run_id) < newest.get(stream, (0, 0)) and fence < newest[stream][0]:
            found.append(f"run {run_id} loaded {stream} under fence {fence} after {newest[stream]}")
        newest[stream] = max(newest.get(stream, (0, 0)), (fence, run_id))
    landed = home.ledger_rows(
        "SELECT l.load_id, l.loaded_at FROM landed_files l JOIN sync_plans p ON p.id = l.plan_id "
        "WHERE p.state NOT IN ('held', 'rejected')"
    )
    found += [f"manifest {row.load_id} is not in the warehouse" for row in landed if row.load_id not in marked]
    found += [f"manifest {row.load_id} is loaded and not noted" for row in landed if row.loaded_at is None]
    known = {row.load_id for row in home.ledger_rows("SELECT load_id FROM landed_files")}
    return found + [f"load {load} is of no registered manifest" for load in marked if load not in known]


def _nothing_stuck(home: Home) -> list[str]:
    held = home.ledger_rows("SELECT stream, holder, run_id FROM leases WHERE holder IS NOT NULL")
    found = [f"{row.stream} is still held by {row.holder} for run {row.run_id}" for row in held]
    open_runs = home.ledger_rows("SELECT id, state FROM runs WHERE state IN ('queued', 'running', 'cancelling')")
    found += [f"run {row.id} is still {row.state}" for row in open_runs]
    steps = home.ledger_rows("SELECT run_id, name FROM steps WHERE state = 'running'")
    return found + [f"step {row.name} of run {row.run_id} still runs" for row in steps]


def _fires(home: Home, *, began: datetime) -> list[str]:
    found = []
    for schedule in schedules(home.services.ledger):
        rows = home.ledger_rows("SELECT * FROM fires WHERE schedule_id = :id ORDER BY promised", id=schedule.id)
        booked = [_instant(row.promised) for row in rows]
        promised: list[datetime] = []
        for instant in schedule.spec.timing.instants(schedule.since):
            if schedule.booked_to is None or instant > schedule.booked_to:
                break
            promised.append(instant)
        if booked != promised:
            found.append(f"{schedule.spec.name}: {len(promised)} instants were promised, {len(booked)} booked")
        if schedule.spec.name == "beat" and len(booked) < (datetime.now(UTC) - began).total_seconds() * 0.5:
            found.append(f"only {len(booked)} fires of beat since {began}")
        asked: Counter[Any] = Counter(
            row.fire_id for row in home.ledger_rows("SELECT fire_id FROM runs WHERE fire_id IS NOT NULL")
        )
        found += [f"fire {r.id} says {r.runs} runs and has {asked[r.id]}" for r in rows if r.runs != asked[r.id]]
    return found


def _instant(value: Any) -> datetime:
    """Plain SQL gives SQLite's text."""
    instant = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
