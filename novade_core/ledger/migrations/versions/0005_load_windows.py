"""Load windows: times in which a dedicated pool was online for our loads"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    instant = sa.DateTime(timezone=True)
    op.create_table(
        "load_windows",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ours", sa.Boolean(), nullable=False),
        sa.Column("opened_at", instant, nullable=False),
        sa.Column("resume_asked_at", instant, nullable=True),
        sa.Column("resumed_at", instant, nullable=True),
        sa.Column("loads_from", instant, nullable=True),
        sa.Column("busy_at", instant, nullable=True),
        sa.Column("drained_at", instant, nullable=True),
        sa.Column("end_asked_at", instant, nullable=True),
        sa.Column("end_asked_by", sa.String(length=200), nullable=True),
        sa.Column("pause_asked_at", instant, nullable=True),
        sa.Column("paused_at", instant, nullable=True),
        sa.Column("closed_at", instant, nullable=True),
        sa.Column("online_seconds", sa.BigInteger(), nullable=True),
        sa.Column("size", sa.String(length=20), nullable=True),
        sa.Column("loads", sa.BigInteger(), nullable=False),
        sa.Column("others", sa.JSON(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("work", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("load_windows", schema=None) as batch_op:
        batch_op.create_index("ix_load_windows_closed_at", ["closed_at"], unique=False)
