"""What a window took is booked once, whatever happens: to runs and their streams, and the idle rest to the pool."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from novade_core.errors import LeaseLost, RetryableError
from novade_core.ledger import window_usage, window_views, windows
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import DailyUsage, Lease, LoadWindow, Run, RunState, Usage, WindowState
from novade_core.ledger.prices import Price
from novade_core.ledger.totals import POOL
from novade_core.ledger.window_usage import IDLE, WORKED, factor, seconds_by_day, shares, spread
from novade_core.ledger.windows import Window
from novade_core.monitoring.costs import PriceBook
from novade_core.monitoring.window_costs import cost_of_window, costs_of_windows, hour, summary
from tests.templates import sqlite_ledger
from tests.unit.test_load_window import Azure, World

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = NOW.date()
PRICE = Price(meter=IDLE, since=date(2026, 1, 1), price=Decimal("1.80"), per=3_600, source="s")
BOOK = PriceBook([PRICE, Price(meter=WORKED, since=PRICE.since, price=PRICE.price, per=3_600, source="s")])


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(sqlite_ledger(tmp_path / "ledger.sqlite"))
    yield opened
    opened.close()


def labels(**took: int) -> dict[str, object]:
    """``r5=900``: run 5's statements took 900 ms."""
    found = {f"nv_{name[1:]}_contact_copy": {"statements": 1, "ms": ms, "failed": 0} for name, ms in took.items()}
    return {"statements": len(found), "ms": sum(took.values()), "labels": found}


def a_run(ledger: Ledger, *, ended: datetime | None, stream: str = "s.a", started: datetime = NOW) -> int:
    values = {"subject": stream, "source": "s", "kind": "incremental", "origin": windows.ORIGIN, "requested_by": "n"}
    state = RunState.RUNNING if ended is None else RunState.SUCCEEDED
    with ledger.write() as c:
        return c.execute(
            insert(Run)
            .values(**values, state=state, requested_at=started, started_at=started, ended_at=ended)
            .returning(Run.id)
        ).scalar_one()


def a_window(ledger: Ledger, **more: object) -> int:
    values = {
        "state": WindowState.PAUSING, "reason": "r", "ours": True, "opened_at": NOW, "resume_asked_at": NOW,
        "resumed_at": NOW, "size": "DW100c", "loads": 1, "others": [],
    }  # fmt: skip
    with ledger.write() as c:
        return c.execute(insert(LoadWindow).values(**(values | more)).returning(LoadWindow.id)).scalar_one()


def close(ledger: Ledger, window_id: int, *, seconds: int | None = 600, fence: int | None = None, **more) -> None:
    """As whoever holds the lease does; the window was open for ten minutes."""
    if fence is None:
        with ledger.write() as c:
            held = c.execute(select(Lease.fence).where(Lease.stream == windows.POOL)).scalar()
            if held is None:
                c.execute(insert(Lease).values(stream=windows.POOL, fence=1, beat=0))
        fence = 1
    closed = more.pop("at", NOW + timedelta(seconds=600))
    values = {"state": WindowState.CLOSED, "closed_at": closed, "online_seconds": seconds, "trouble": None} | more
    window_usage.close(ledger, window_id, fence=fence, values=values)


def used(ledger: Ledger) -> dict[tuple[str, str, date], int]:
    with ledger.read() as c:
        rows = c.execute(select(DailyUsage.stream, DailyUsage.meter, DailyUsage.day, DailyUsage.quantity)).all()
    return {(row[0], row[1], row[2]): row[3] for row in rows}


def of_runs(ledger: Ledger) -> dict[int, int]:
    with ledger.read() as c:
        rows = c.execute(
            select(Usage.run_id, func.sum(Usage.quantity)).where(Usage.meter == WORKED).group_by(Usage.run_id)
        )
        return {run_id: int(quantity) for run_id, quantity in rows}


def test_what_the_pool_did_goes_to_runs_and_the_rest_is_idle(ledger: Ledger) -> None:
    one, other = a_run(ledger, ended=NOW + timedelta(minutes=5)), a_run(ledger, ended=None, stream="s.b")
    close(ledger, a_window(ledger, work=labels(**{f"r{one}": 90_400, f"r{other}": 30_900, "r99": 5_000})))
    assert of_runs(ledger) == {one: 90, other: 31}
    # The one that has not ended counts into its day when it does.
    assert used(ledger) == {("s.a", WORKED, DAY): 90, (POOL, IDLE, DAY): 600 - 121}
    (window,) = window_views.past(ledger)
    found = window_usage.booked(window)
    assert found is not None
    assert (found.worked, found.idle, found.loaded.runs) == ({DAY: 121}, {DAY: 479}, (one, other))
    assert window.trouble is None


def test_it_is_booked_on_each_kind_of_ledger(ledger_url: str) -> None:
    ledger = open_ledger(ledger_url)
    one = a_run(ledger, ended=NOW + timedelta(minutes=5))
    close(ledger, a_window(ledger, work=labels(**{f"r{one}": 90_400})))
    assert used(ledger) == {("s.a", WORKED, DAY): 90, (POOL, IDLE, DAY): 510}
    assert window_views.past(ledger)[0].work == {"booked": {
        "worked": {"2026-03-01": 90}, "idle": {"2026-03-01": 510}, "rows": 0, "streams": [], "runs": [one],
    }}  # fmt: skip
    assert window_views.standing(ledger, streams=("s.a",)).window is None
    ledger.close()


def test_a_window_is_booked_once(ledger: Ledger) -> None:
    one = a_run(ledger, ended=NOW + timedelta(minutes=5))
    window = a_window(ledger, work=labels(**{f"r{one}": 60_000}))
    close(ledger, window)
    close(ledger, window, seconds=900)
    assert used(ledger) == {("s.a", WORKED, DAY): 60, (POOL, IDLE, DAY): 540}
    assert window_views.past(ledger)[0].online_seconds == 600


def test_who_lost_the_lease_books_nothing(ledger: Ledger) -> None:
    window = a_window(ledger, work=labels(r1=60_000))
    with pytest.raises(LeaseLost):
        close(ledger, window, fence=7)
    assert used(ledger) == {}
    assert window_views.past(ledger)[0].closed_at is None


def test_a_crash_in_the_middle_of_booking_leaves_nothing_behind(ledger: Ledger, monkeypatch) -> None:
    one = a_run(ledger, ended=NOW + timedelta(minutes=5))
    window = a_window(ledger, work=labels(**{f"r{one}": 60_000}))

    class Crash(BaseException):
        pass

    def crash(*_a: object, **_k: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(window_usage, "add_pool_usage", crash)  # after the runs' part is written
        with pytest.raises(Crash):
            close(ledger, window)
    assert (used(ledger), of_runs(ledger)) == ({}, {})
    close(ledger, window)
    assert used(ledger) == {("s.a", WORKED, DAY): 60, (POOL, IDLE, DAY): 540}


def test_overlapping_statements_never_take_longer_than_the_pool_was_online() -> None:
    assert shares({1: 900_000, 2: 300_000}, most=600, times=1) == {1: 450, 2: 150}
    assert shares({1: 900_000, 2: 300_000}, most=1_800, times=3) == {1: 1_350, 2: 450}
    assert shares({1: 400, 2: 400, 3: 400}, most=600, times=1) == {1: 0, 2: 1, 3: 0}
    assert shares({}, most=600, times=1) == {}
    for many in (1, 7, 50):
        found = shares({run: 997 * run for run in range(1, many + 1)}, most=33, times=1)
        assert sum(found.values()) == min(33, round(sum(997 * run for run in range(1, many + 1)) / 1000))


def test_idle_time_goes_to_the_days_on_which_it_was(ledger: Ledger) -> None:
    late = datetime(2026, 3, 1, 23, 50, tzinfo=UTC)
    ended = late + timedelta(minutes=40)
    one = a_run(ledger, started=late, ended=late + timedelta(minutes=20))
    window = a_window(ledger, opened_at=late, resume_asked_at=late, work=labels(**{f"r{one}": 400_000}))
    close(ledger, window, seconds=2_400, at=ended)
    tomorrow = date(2026, 3, 2)
    # The run ended on the second day; a quarter of the window lies on the first.
    assert used(ledger) == {("s.a", WORKED, tomorrow): 400, (POOL, IDLE, DAY): 500, (POOL, IDLE, tomorrow): 1_500}
    assert seconds_by_day(late, ended) == {DAY: 600, tomorrow: 1_800}
    assert seconds_by_day(ended, late) == {}
    assert spread(10, {DAY: 1, tomorrow: 2}) == {DAY: 3, tomorrow: 7}


def test_a_larger_pool_counts_each_second_several_times(ledger: Ledger) -> None:
    one = a_run(ledger, ended=NOW + timedelta(minutes=5))
    close(ledger, a_window(ledger, size="DW300c", work=labels(**{f"r{one}": 100_000})))
    assert used(ledger) == {("s.a", WORKED, DAY): 300, (POOL, IDLE, DAY): 1_500}
    assert [factor(s) for s in ("DW100c", "dw1000c", "DW30000c", "DW200", "DW150c", "large", None)] == [
        1, 10, 300, 2, None, None, None,
    ]  # fmt: skip


def test_what_is_not_known_is_idle_and_said(ledger: Ledger) -> None:
    close(ledger, a_window(ledger))
    assert used(ledger) == {(POOL, IDLE, DAY): 600}
    said = "What its statements took is not known, so all of its time online is booked as idle."
    assert window_views.past(ledger)[0].trouble == said
    close(ledger, a_window(ledger, size=None, work=labels()))
    assert "size of the pool is not known" in (window_views.past(ledger)[0].trouble or "")


def test_a_pool_that_was_paused_while_loads_went_on_says_so(ledger: Ledger) -> None:
    one = a_run(ledger, ended=NOW + timedelta(minutes=5))
    work, drained = labels(**{f"r{one}": 60_000}), NOW + timedelta(minutes=6)
    close(
        ledger, a_window(ledger, state=WindowState.OPEN, work=work, drained_at=drained),
        trouble="The pool was paused by somebody else.",
    )  # fmt: skip
    assert used(ledger) == {("s.a", WORKED, DAY): 60, (POOL, IDLE, DAY): 540}
    assert window_views.past(ledger)[0].trouble == (
        "The pool was paused by somebody else. What was loaded after 12:06 UTC is not known, and its time is booked as "
        "idle."
    )


def test_a_pool_of_somebody_else_has_no_idle_time_and_counts_each_statement_once(ledger: Ledger) -> None:
    theirs = {"ours": False, "resume_asked_at": None}
    one = a_run(ledger, ended=NOW + timedelta(minutes=5))
    close(ledger, a_window(ledger, **theirs, work=labels(**{f"r{one}": 60_000})), seconds=None)
    assert used(ledger) == {("s.a", WORKED, DAY): 60}
    # Nobody paused it, so its view still shows the first run, which goes on beside a second one.
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == one).values(ended_at=NOW + timedelta(minutes=15)))
    two = a_run(ledger, started=NOW + timedelta(minutes=11), ended=NOW + timedelta(minutes=14), stream="s.b")
    later = {"opened_at": NOW + timedelta(minutes=11), "resumed_at": NOW + timedelta(minutes=11)}
    work = labels(**{f"r{one}": 65_000, f"r{two}": 20_000})
    close(ledger, a_window(ledger, **theirs | later, work=work), seconds=None, at=NOW + timedelta(minutes=20))
    assert of_runs(ledger) == {one: 65, two: 20}
    assert (POOL, IDLE, DAY) not in used(ledger)
    close(ledger, a_window(ledger, **theirs | later), seconds=None, at=NOW + timedelta(minutes=21))
    assert window_views.past(ledger)[0].trouble == (
        "What its statements took is not known, so nothing is booked for them."
    )


def test_labels_of_another_installation_are_nobodys(ledger: Ledger) -> None:
    before = a_run(ledger, started=NOW - timedelta(hours=2), ended=NOW - timedelta(hours=1))
    close(ledger, a_window(ledger, work=labels(**{f"r{before}": 60_000, "r123456789012345678901": 1_000})))
    assert used(ledger) == {(POOL, IDLE, DAY): 600}


# --- with the machinery ---------------------------------------------------------------------------


@pytest.fixture
def world(ledger: Ledger) -> World:
    return World(ledger, Azure())


def taken(world: World) -> None:
    """Runs end, and the pool's view shows ten seconds of each."""
    world.finish_runs()
    with world.ledger.read() as c:
        world.work = labels(**{f"r{run_id}": 10_000 for run_id in c.execute(select(Run.id)).scalars()})


@pytest.mark.parametrize("minute", [66, 70, 76])
def test_a_window_that_a_crash_interrupts_books_what_an_undisturbed_one_does(world: World, minute: int) -> None:
    with world.ledger.write() as c:
        c.execute(insert(Lease), [{"stream": name, "fence": 1, "beat": 0} for name in ("s.a", "s.b")])
    world.land("s.a")
    world.land("s.b")
    world.run(minute, each=lambda: taken(world))
    world.crash()
    world.run(60, each=lambda: taken(world))
    window = world.window
    assert window.state is WindowState.CLOSED
    assert of_runs(world.ledger) == {1: 10, 2: 10}
    assert used(world.ledger)[POOL, IDLE, DAY] == (window.online_seconds or 0) - 20
    assert window_usage.booked(window).loaded.rows == 2


def test_work_that_cannot_be_copied_makes_all_of_it_idle(world: World) -> None:
    world.land("s.a")
    world.work = RetryableError("The login is refused.")
    world.run(100, each=world.finish_runs)
    window = world.window
    assert window.state is WindowState.CLOSED
    assert used(world.ledger) == {(POOL, IDLE, DAY): window.online_seconds}
    assert "not known, so all of its time online is booked as idle" in (window.trouble or "")


def test_a_resume_that_never_came_costs_nothing(world: World, monkeypatch) -> None:
    monkeypatch.setattr(world.azure, "resume", lambda: None)  # taken, and never done
    windows.ask_for_window(world.ledger, who="ada", now=NOW)
    world.run(2)
    windows.ask_to_end(world.ledger, who="ada", now=world.azure.now)
    world.run(10)
    assert world.window.state is WindowState.CLOSED
    assert world.window.resume_asked_at is not None
    assert (world.window.online_seconds, used(world.ledger)) == (0, {})


# --- euros ----------------------------------------------------------------------------------------


def closed(number: int, *, hours: float, minutes: int = 10, **more: object) -> Window:
    """A window of so many minutes, so many hours after noon."""
    opened = NOW + timedelta(hours=hours)
    values = {
        "id": number, "state": WindowState.CLOSED, "reason": "r", "ours": True, "opened_at": opened,
        "resume_asked_at": opened, "closed_at": opened + timedelta(minutes=minutes),
        "online_seconds": minutes * 60, "size": "DW100c",
    }  # fmt: skip
    return Window(**(values | more))


def test_a_window_and_the_pool_that_is_always_on() -> None:
    two, one = closed(2, hours=4), closed(1, hours=0, minutes=60)
    costs = costs_of_windows([two, one], BOOK, NOW + timedelta(hours=9))
    assert costs[1].euros == costs[1].always_on == Decimal("1.80")  # the first: over its own time
    # 3 h 10 min since the first one closed.
    assert (costs[2].euros, costs[2].always_on) == (Decimal("0.30"), Decimal("5.70"))
    assert costs[2].since == one.closed_at
    large = cost_of_window(closed(3, hours=0, minutes=60, size="DW500c"), BOOK, since=None, now=NOW)
    assert large.euros == Decimal("9.00")
    assert hour("DW500c", BOOK, DAY) == Decimal("9.00")


def test_what_is_under_way_costs_what_it_took_so_far() -> None:
    window = closed(1, hours=0, closed_at=None, online_seconds=None, state=WindowState.OPEN)
    cost = cost_of_window(window, BOOK, since=NOW - timedelta(hours=1), now=NOW + timedelta(minutes=20))
    assert (cost.euros, cost.online_seconds, cost.always_on) == (Decimal("0.60"), 1_200, Decimal("2.40"))
    paused = cost_of_window(
        closed(1, hours=0, closed_at=None, online_seconds=None, pause_asked_at=NOW + timedelta(minutes=10)),
        BOOK, since=None, now=NOW + timedelta(minutes=20),
    )  # fmt: skip
    assert paused.euros == Decimal("0.30")


def test_booked_parts_have_prices_of_their_own_and_each_day_its_own() -> None:
    dearer = Price(meter=IDLE, since=date(2026, 3, 2), price=Decimal("3.60"), per=3_600, source="s")
    book = PriceBook([PRICE, dearer, Price(meter=WORKED, since=DAY, price=Decimal("7.20"), per=3_600, source="s")])
    kept = {"worked": {"2026-03-01": 300}, "idle": {"2026-03-01": 300, "2026-03-02": 600}, "rows": 0, "streams": [],
            "runs": []}  # fmt: skip
    window = closed(1, hours=11.9, minutes=20, work={"booked": kept})
    assert cost_of_window(window, book, since=None, now=NOW).euros == Decimal("0.60") + Decimal("0.15") + Decimal(
        "0.60"
    )


def test_a_price_or_a_size_that_is_not_known_gives_no_cost_and_no_zero() -> None:
    for book, window in (
        (PriceBook([]), closed(1, hours=0)),
        (PriceBook([]), closed(1, hours=0, online_seconds=0)),
        (BOOK, closed(1, hours=0, size=None)),
        (PriceBook([Price(meter=IDLE, since=date(2027, 1, 1), price=Decimal(1), source="s")]), closed(1, hours=0)),
    ):
        cost = cost_of_window(window, book, since=None, now=NOW)
        assert (cost.euros, cost.always_on) == (None, None)
        together = summary([window], book, NOW + timedelta(hours=2))
        assert (together.euros, together.always_on, together.unknown) == (None, None, 1)
        assert cost.missing or window.online_seconds == 0
    theirs = closed(1, hours=0, ours=False, closed_at=None, online_seconds=None, resume_asked_at=None)
    assert cost_of_window(theirs, BOOK, since=None, now=NOW + timedelta(hours=1)).euros is None


def test_thirty_days_of_windows() -> None:
    now = NOW + timedelta(days=60)
    found = [closed(n, hours=24 * n, minutes=60) for n in range(59, -1, -1)]
    together = summary(found, BOOK, now)
    assert (together.windows, together.days, together.online_seconds) == (30, Decimal(30), 30 * 3_600)
    assert (together.euros, together.always_on) == (Decimal("54.00"), Decimal("1296.00"))
    young = summary(found[-2:], BOOK, NOW + timedelta(days=2))
    assert (young.since, young.windows, young.always_on) == (NOW, 2, Decimal("86.40"))
    assert summary([], BOOK, now).euros is None
    asked = closed(60, hours=24 * 60, closed_at=None, online_seconds=None, resume_asked_at=None, size=None)
    assert summary([asked, *found], BOOK, now).unknown == 0
