"""What is asked of an open pool beside loads, on the stand-in through the driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from novade_core.errors import NovadeError
from novade_core.warehouse.synapse_driver import connection_string
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_sql import Statement
from novade_core.warehouse.synapse_watch import APPLICATION, copy_work, look_for_others
from tests import pools
from tests.pools import RunningPool


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RunningPool]:
    yield pools.pool_in(tmp_path)
    pools.end(tmp_path)


def test_our_own_sessions_are_nobody_else(pool: RunningPool) -> None:
    ours = Link(pool.settings())
    ours.open()
    assert look_for_others(pool.settings()) == ()
    ours.close()


def test_a_session_of_another_login_is_named_idle_or_not(pool: RunningPool) -> None:
    master = Link(pool.settings(database="master"))
    master.hit(Statement("login", "CREATE LOGIN bob WITH PASSWORD = 'B0b-and-his-secret'", labelled=False))
    master.close()
    pool.execute("CREATE USER bob FOR LOGIN bob")
    theirs = Link(pool.settings(user="bob", password="B0b-and-his-secret"))
    theirs.open()
    # The same program by another login: another installation, whose loads a pause would end.
    assert look_for_others(pool.settings()) == (f"bob ({APPLICATION})",)
    theirs.close()


def test_our_name_is_that_of_our_connections(pool: RunningPool) -> None:
    assert f"APP={APPLICATION};" in connection_string(pool.settings(), "any")


def test_work_is_counted_by_label(pool: RunningPool) -> None:
    link = Link(pool.settings())
    link.tag = (7, "contact")
    for _ in range(3):
        link.rows(Statement("count", "SELECT COUNT_BIG(*) FROM sys.tables"))
    link.rows(Statement("look", "SELECT 1", labelled=False))
    link.close()
    work = copy_work(pool.settings())
    assert set(work["labels"]) == {"nv_7_contact_count"}
    assert work["labels"]["nv_7_contact_count"]["statements"] == work["statements"] == 3
    assert work["ms"] >= 0


def test_a_paused_pool_cannot_be_asked(pool: RunningPool) -> None:
    pool.pool.pause()
    with pytest.raises(NovadeError, match="is paused"):
        look_for_others(pool.settings())
    pool.pool.resume()
