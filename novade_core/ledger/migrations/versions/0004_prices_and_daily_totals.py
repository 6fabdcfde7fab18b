"""Prices, and totals per day: what was used, how old streams became. Both totals are made for the runs so far"""

from datetime import UTC, datetime, time, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_HISTORY = timedelta(days=400)


def upgrade() -> None:
    op.create_table(
        "prices",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("meter", sa.String(length=60), nullable=False),
        sa.Column("since", sa.Date(), nullable=False),
        sa.Column("price", sa.String(length=40), nullable=True),
        sa.Column("per", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(length=40), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=True),
        sa.Column("basis", sa.String(length=10), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("prices", schema=None) as batch_op:
        batch_op.create_index("ix_prices_meter_since", ["meter", "since"], unique=True)
    op.create_table(
        "daily_usage",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("stream", sa.String(length=200), nullable=False),
        sa.Column("meter", sa.String(length=60), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("repeated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "stream", "meter"),
    )
    op.create_table(
        "daily_ages",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("stream", sa.String(length=200), nullable=False),
        sa.Column("loads", sa.BigInteger(), nullable=False),
        sa.Column("oldest_seconds", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "stream"),
    )
    connection = op.get_bind()
    _count_usage(connection)
    _count_ages(connection)


def _count_usage(connection: sa.Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    day = "substr(r.ended_at, 1, 10)" if sqlite else "(r.ended_at AT TIME ZONE 'UTC')::date"
    connection.execute(
        sa.text(
            "INSERT INTO daily_usage (day, stream, meter, quantity, failed, repeated)"  # noqa: S608 (a constant)
            f" SELECT {day}, r.subject, u.meter, sum(u.quantity),"
            " sum(CASE WHEN r.state IN ('failed', 'cancelled', 'abandoned') THEN u.quantity ELSE 0 END),"
            " sum(CASE WHEN r.state IN ('succeeded', 'partial') AND r.attempt > 1 THEN u.quantity ELSE 0 END)"
            " FROM usage u JOIN runs r ON r.id = u.run_id"
            " WHERE r.ended_at IS NOT NULL AND u.meter <> 'process.peak_memory_bytes' GROUP BY 1, 2, 3"
        )
    )


def _count_ages(connection: sa.Connection) -> None:
    """From the last 400 days; older ones are on no page."""
    runs = sa.table(
        "runs", sa.column("subject"), sa.column("state"), sa.column("kind"), sa.column("ended_at", sa.DateTime(True))
    )
    since = datetime.now(UTC) - _HISTORY
    if connection.dialect.name == "sqlite":
        since = since.replace(tzinfo=None)
    found = connection.execute(
        sa.select(runs.c.subject, runs.c.ended_at)
        .where(
            runs.c.ended_at > since,
            runs.c.state.in_(["succeeded", "partial"]),
            runs.c.kind.in_(["incremental", "full"]),
        )
        .order_by(runs.c.subject, runs.c.ended_at)
    )
    rows: dict[tuple[object, str], dict[str, int]] = {}
    before: dict[str, datetime] = {}
    for subject, ended in found:
        at = ended.replace(tzinfo=UTC) if ended.tzinfo is None else ended.astimezone(UTC)
        last = before.get(subject, at)
        day = last.date()
        while day < at.date():
            midnight = datetime.combine(day + timedelta(days=1), time(), UTC)
            _older(rows, day, subject, (midnight - last).total_seconds())
            day += timedelta(days=1)
        _older(rows, day, subject, (at - last).total_seconds())
        rows[day, subject]["loads"] += 1
        before[subject] = at
    ages = sa.table(
        "daily_ages", sa.column("day", sa.Date), sa.column("stream"), sa.column("loads"), sa.column("oldest_seconds")
    )
    if rows:
        connection.execute(
            sa.insert(ages), [{"day": day, "stream": stream, **counts} for (day, stream), counts in rows.items()]
        )


def _older(rows: dict[tuple[object, str], dict[str, int]], day: object, stream: str, seconds: float) -> None:
    row = rows.setdefault((day, stream), {"loads": 0, "oldest_seconds": 0})
    row["oldest_seconds"] = max(row["oldest_seconds"], int(seconds))
