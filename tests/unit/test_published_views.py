"""Which manifests a view shows and how views are noted, on each kind of ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from novade_core.ledger import leases, plans, published_views
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import PlanState, StreamStatus
from novade_core.ledger.published_views import Kind, ViewState
from novade_core.streams import Column, ColumnType, RunKind, Window

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)
STREAM = "salesforce.contact"
COLUMNS = (Column(name="Id", type=ColumnType.TEXT, length=18),)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    with ledger.write() as connection:
        watcher = leases.Watcher(60)
        leases.take(connection, stream=STREAM, holder="x:1:1", run_id=1, now=NOW, watcher=watcher)
    yield ledger
    ledger.close()


def land(
    ledger: Ledger, name: str, kind: RunKind = RunKind.INCREMENTAL, state: PlanState = PlanState.DONE, *, rows: int = 5
) -> int:
    """A plan with one manifest; answers the manifest's number."""
    with ledger.write() as connection:
        plan = plans.add_plan(
            connection, stream=STREAM, kind=kind, run_id=1, now=NOW, seam=NOW, windows=(Window(low=None, high=NOW),),
            columns=COLUMNS, details={},
        )  # fmt: skip
        seq = plans.register(
            connection, fence=1, now=NOW, stream=STREAM, run_id=1, plan_id=plan.id, window=0, chunk=1,
            manifest_path=name, load_id=name, files=[f"{name}.parquet"], rows=rows, rejected=0, size=100,
            max_cursor=NOW, resume=None,
        )  # fmt: skip
        plans.close_plan(connection, plan.id, state)
    return seq


def shown(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return [m.manifest_path for m in published_views.manifests(connection, STREAM)]


def note(ledger: Ledger, **values: object) -> None:
    with ledger.write() as connection:
        published_views.note(
            connection, name="[salesforce].[contact]", kind=Kind.VIEW, stream=STREAM, now=NOW, **values
        )


def test_what_was_set_aside_is_not_shown(ledger: Ledger) -> None:
    assert shown(ledger) == []
    land(ledger, "open", state=PlanState.OPEN)
    land(ledger, "landed", state=PlanState.LANDED)
    land(ledger, "void", state=PlanState.VOID)
    land(ledger, "held", state=PlanState.HELD)
    land(ledger, "rejected", state=PlanState.REJECTED)
    assert shown(ledger) == ["open", "landed", "void"]


@pytest.mark.parametrize("state", [PlanState.OPEN, PlanState.LANDED])
def test_a_full_reload_counts_when_it_is_done(ledger: Ledger, state: PlanState) -> None:
    land(ledger, "before")
    land(ledger, "waits", RunKind.FULL, state)
    assert shown(ledger) == ["before"]
    land(ledger, "reload", RunKind.FULL)
    land(ledger, "after")
    assert shown(ledger) == ["reload", "after"]
    land(ledger, "again", RunKind.FULL)
    assert shown(ledger) == ["again"]


def test_rows_are_expected_where_the_warehouse_holds_them_all(ledger: Ledger) -> None:
    first, second = land(ledger, "one"), land(ledger, "two")
    with ledger.write() as connection:
        connection.execute(insert(StreamStatus).values(stream=STREAM, source="salesforce", warehouse_count=7))
        plans.mark_loaded(connection, stream=STREAM, fence=1, run_id=1, now=NOW, seqs=[first])
        half = published_views.expected(connection, STREAM, [first, second])
        plans.mark_loaded(connection, stream=STREAM, fence=1, run_id=1, now=NOW, seqs=[second])
        whole = published_views.expected(connection, STREAM, [first, second])
    assert (half.rows, half.at_most, half.bytes, half.newest_at) == (None, 10, 200, NOW)
    assert whole.rows == 7


def test_a_view_falls_behind_by_what_lands(ledger: Ledger) -> None:
    assert published_views.views(ledger) == ()
    first = land(ledger, "one")
    note(ledger, state=ViewState.CURRENT.value, version="1 abc", files=1, last_seq=first, sql="CREATE VIEW …")
    (view,) = published_views.views(ledger)
    assert (view.state, view.version, view.rows, view.trouble) == (ViewState.CURRENT, "1 abc", None, None)
    assert published_views.statement_of(ledger, view.name) == "CREATE VIEW …"
    assert published_views.statement_of(ledger, "another") is None
    land(ledger, "empty", rows=0)
    land(ledger, "held", state=PlanState.HELD)
    land(ledger, "waits", RunKind.FULL, PlanState.OPEN)
    assert published_views.views(ledger)[0].state is ViewState.CURRENT
    land(ledger, "two")
    assert published_views.views(ledger)[0].state is ViewState.BEHIND
    note(ledger, trouble="It hurts.")
    (view,) = published_views.views(ledger)
    assert (view.version, view.trouble) == ("1 abc", "It hurts."), "what is not named stays"


def test_bytes_are_summed_by_day(ledger: Ledger) -> None:
    today, tomorrow = NOW.date(), NOW.date() + timedelta(days=1)
    with ledger.write() as connection:
        for day, stream, quantity in (
            (today, STREAM, 10),
            (today, STREAM, 20),
            (today, "x.y", 5),
            (tomorrow, "x.y", 1),
        ):
            published_views.book(connection, stream, day, quantity)
    assert published_views.processed(ledger, since=today, until=today) == {today: 35}
    assert published_views.processed(ledger, since=today, until=tomorrow) == {today: 35, tomorrow: 1}
