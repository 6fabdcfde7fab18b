"""The ledger's table of tracking plans: every version that was ever read, whatever their files hold now."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from novade_core.ledger.tables import Base


class PlanVersionRow(Base):
    """One version of a tracking plan."""

    __tablename__ = "plan_versions"

    plan: Mapped[str] = mapped_column(String(300), primary_key=True)  #: its name
    version: Mapped[str] = mapped_column(String(12), primary_key=True)  #: hash of its events and properties
    file: Mapped[str] = mapped_column(Text)  #: where it stood when it became current
    format: Mapped[str] = mapped_column(String(20))
    events: Mapped[int]
    properties: Mapped[int]
    current: Mapped[bool]
    first_seen_at: Mapped[datetime]
    changed_at: Mapped[datetime]  #: when it became current, or ceased to be
    seen_at: Mapped[datetime]  #: the last read that had a say on its plan
    model: Mapped[bytes] = mapped_column(LargeBinary)  #: the whole plan as JSON, compressed with zlib
