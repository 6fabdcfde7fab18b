"""The ledger's table of views and external tables over the landing zone, as they stand on the serverless pool."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from novade_core.ledger.tables import Base


class PublishedView(Base):
    """One view or external table: what was published last, and what its last check found."""

    __tablename__ = "published_views"

    name: Mapped[str] = mapped_column(String(300), primary_key=True)  #: as SQL: ``[salesforce].[contact]``
    kind: Mapped[str] = mapped_column(String(20))  #: published_views.Kind
    stream: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(20))  #: published_views.ViewState, when it was looked at last
    version: Mapped[str | None] = mapped_column(String(40))  #: that was published; NULL: never by us
    files: Mapped[int] = mapped_column(default=0)  #: that it names
    last_seq: Mapped[int] = mapped_column(default=0)  #: the newest manifest that it names
    sql: Mapped[str | None] = mapped_column(Text)  #: the statement that made it
    published_at: Mapped[datetime | None]
    looked_at: Mapped[datetime]
    checked_at: Mapped[datetime | None]
    rows: Mapped[int | None]  #: that the last check counted through it
    expected: Mapped[int | None]  #: that it should have been by the ledger; NULL: nothing to compare with
    newest_at: Mapped[datetime | None]  #: version of its newest row, where versions are instants
    bytes_processed: Mapped[int | None]  #: by the last check
    trouble: Mapped[str | None] = mapped_column(Text)
    hint: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("ix_published_views_stream", "stream"),)
