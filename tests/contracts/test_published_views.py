"""Views of a serverless pool, through the Microsoft driver: they show what the tables of a warehouse hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import jobs.__main__ as commands
from novade_core.errors import AuthenticationFailed, ConfigurationError
from novade_core.ledger import published_views
from novade_core.ledger.models import PlanState
from novade_core.ledger.published_views import Kind, ViewState
from novade_core.settings import LandingSettings
from novade_core.streams import ColumnType, RunKind, Stream
from novade_core.sync import publish
from novade_core.sync.publish import Desk
from novade_core.warehouse.serverless import Serverless
from tests.contracts.houses import COLUMNS, NOW, column, row, stream
from tests.contracts.shops import Shop

THING = stream()
AWKWARD = 'Na]me "of" the [x]\'s ü 表'


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.end()


def states(items: Any) -> dict[str, ViewState]:
    return {item.name: item.state for item in items}


def names(shop: Shop) -> dict[str, str]:
    return dict(shop.remote.rows("SELECT [Id], [Name] FROM [test].[thing]"))  # type: ignore[arg-type]  # two columns


def test_a_view_shows_what_the_table_holds(shop: Shop) -> None:
    more = (
        *COLUMNS,
        column("Amount", ColumnType.DECIMAL, precision=18, scale=2),
        column("Count", ColumnType.INTEGER),
        column("Extra", ColumnType.JSON),
        column(AWKWARD, ColumnType.TEXT, length=80),
    )
    wider = tuple(column("Count", ColumnType.BIGINT) if c.name == "Count" else c for c in more)
    other = tuple(column("Count", ColumnType.BOOLEAN) if c.name == "Count" else c for c in more)
    shop.land(THING, row("a", 1, "old"), row("b", 5, "b"), row("B", 1, "capital"), row("b ", 1, "blank"), row("d", 1))
    shop.land(THING, row("a", 2, "new 😀"), row("b", 4, "late"), row("d", 2, deleted=True), row("e", 1, ""))
    shop.land(THING, (*row("f", 3), "12.50", "2147483647", '{"k": "ü"}', "it's"), columns=more)
    shop.land(THING, (*row("g", 3), None, "2147483648", None, "表"), columns=wider)
    shop.land(THING, (*row("h", 3), "-0.01", "true", None, None), columns=other)
    shop.land(THING, row("f", 3, "equal version, later landing"))
    shop.land(THING, ("t", "2024-11-18T14:00:00.123Z", "false", None))
    publish.apply(shop.desk, [THING])
    assert shop.view(THING) == shop.table(THING)
    assert len(shop.table(THING)) == 9
    (view, table) = publish.check(shop.desk, [THING])
    assert (view.rows, view.expected, view.trouble) == (9, 9, None)
    assert view.newest_at is not None
    assert view.newest_at.isoformat() == "2024-11-18T14:00:00.123000+00:00"
    assert (table.kind, table.rows, table.expected, table.trouble) == (Kind.TABLE, 14, 14, None)


def test_what_is_not_registered_or_set_aside_is_in_no_view(shop: Shop) -> None:
    shop.land(THING, row("a", 1, "right"))
    shop.land(THING, row("a", 9, "left by a dead run"), row("x", 1), registered=False, loaded=False)
    shop.land(THING, row("a", 8, "rejected"), row("y", 1), state=PlanState.REJECTED, loaded=False)
    shop.land(THING, row("a", 7, "held"), row("z", 1), state=PlanState.HELD, loaded=False)
    publish.apply(shop.desk, [THING])
    assert names(shop) == {"a": "right"}
    # To see what is behind a view is what the external table is for.
    landed = shop.remote.rows("SELECT COUNT_BIG(*) FROM [novade_landed].[test.thing]")
    assert landed == [(7,)]
    assert [c.trouble for c in publish.check(shop.desk, [THING])] == [None, None]


def test_a_view_begins_anew_with_a_full_reload_that_took_the_tables_place(shop: Shop) -> None:
    shop.land(THING, row("a", 1, "before"), row("purged", 1))
    shop.land(THING, row("a", 2, "reload"), kind=RunKind.FULL, state=PlanState.OPEN, loaded=False)
    publish.apply(shop.desk, [THING])
    assert names(shop) == {"a": "before", "purged": "x"}
    shop.land(THING, row("a", 1, "reloaded"), kind=RunKind.FULL)
    shop.land(THING, row("c", 1, "after"))
    publish.apply(shop.desk, [THING])
    assert names(shop) == {"a": "reloaded", "c": "after"}
    assert shop.view(THING) == shop.table(THING)


def test_publishing_twice_changes_nothing_and_new_files_make_a_view_behind(shop: Shop) -> None:
    shop.land(THING, row("a", 1, "one"))
    first = publish.apply(shop.desk, [THING])
    assert [s.step for s in first.done] == [
        "master_key", "credential", "data_source", "file_format", "schema", "schema", "data_limit", "view",
        "external_table",
    ]  # fmt: skip
    again = publish.apply(shop.desk, [THING])
    assert again.done == ()
    assert set(states(again.items).values()) == {ViewState.CURRENT}
    shop.land(THING, row("a", 2, "two"))
    assert [v.state for v in published_views.views(shop.ledger)] == [ViewState.BEHIND, ViewState.CURRENT]
    planned = publish.plan(shop.desk, [THING])
    assert states(planned.items) == {
        "[test].[thing]": ViewState.BEHIND,
        "[novade_landed].[test.thing]": ViewState.CURRENT,
    }
    assert names(shop) == {"a": "one"}, "a plan changes nothing"
    assert [s.text.split()[0] for s in publish.apply(shop.desk, [THING]).done] == ["ALTER"]
    assert names(shop) == {"a": "two"}
    shop.land(THING, (*row("b", 1), "7"), columns=(*COLUMNS, column("Size", ColumnType.INTEGER)))
    assert [s.step for s in publish.apply(shop.desk, [THING]).done] == ["view", "drop_external_table", "external_table"]


def test_nothing_landed_makes_no_view(shop: Shop) -> None:
    assert set(states(publish.apply(shop.desk, [THING]).items).values()) == {ViewState.NOTHING}
    assert publish.check(shop.desk, [THING]) == ()
    only = shop.desk_with(external_tables=False)
    assert list(states(publish.plan(only, [THING]).items)) == ["[test].[thing]"]


@pytest.mark.parametrize("edited", [False, True])
def test_a_view_that_is_not_ours_is_named_and_left_alone(shop: Shop, edited: bool) -> None:
    shop.land(THING, row("a", 1, "ours"))
    other = stream("other")
    shop.land(other, row("o", 1))
    if edited:
        publish.apply(shop.desk, [THING])
        found = published_views.statement_of(shop.ledger, "[test].[thing]")
        assert found is not None
        shop.remote.do(found.replace("CREATE", "ALTER", 1).replace("AND v.[_novade_deleted_at] IS NULL", ""))
    else:
        shop.remote.do("CREATE SCHEMA [test]", "CREATE VIEW [test].[thing] AS SELECT 'theirs' AS [Name], 'a' AS [Id]")
    shop.land(THING, row("a", 2, "newer"))
    done = publish.apply(shop.desk, [THING, other])
    ours = {item.name: item for item in done.items}
    assert ours["[test].[thing]"].state is ViewState.NOT_OURS
    assert "left as it is" in str(ours["[test].[thing]"].trouble)
    assert ours["[test].[other]"].state is ViewState.CURRENT, "others are published all the same"
    assert names(shop) == {"a": "ours" if edited else "theirs"}
    (noted,) = (v for v in published_views.views(shop.ledger) if v.name == "[test].[thing]")
    assert (noted.state, noted.trouble) == (ViewState.NOT_OURS, ours["[test].[thing]"].trouble)


def test_a_check_finds_rows_that_the_warehouse_has_not_and_books_what_it_read(shop: Shop) -> None:
    shop.land(THING, row("a", 1))
    shop.land(THING, row("b", 1))
    publish.apply(shop.desk, [THING])
    before = shop.remote.pool.processed()[0]["data_processed_mb"]
    shop.house.execute('DELETE FROM "test"."thing" WHERE "Id" = \'b\'')
    shop.note_count(THING)
    (view, table) = publish.check(shop.desk, [THING])
    assert (view.rows, view.expected) == (2, 1)
    assert view.trouble == "It shows 2 rows, the warehouse held 1 when it was counted last."
    assert shop.remote.pool.processed()[0]["data_processed_mb"] - before == 20, "two queries at 10 MB"
    assert (view.bytes_processed, table.bytes_processed) == (10_000_000, 10_000_000)
    assert published_views.processed(shop.ledger, since=NOW.date(), until=NOW.date()) == {NOW.date(): 20_000_000}
    publish.apply(shop.desk, [THING])
    (noted, _) = published_views.views(shop.ledger)
    assert noted.trouble == view.trouble, "publishing a current view again forgets nothing"
    shop.land(THING, row("c", 1), loaded=False)
    publish.apply(shop.desk, [THING])
    (view, _) = publish.check(shop.desk, [THING])
    assert (view.rows, view.expected, view.trouble) == (3, None, None), "what waits for the warehouse has no count"


def test_where_the_pools_counter_lags_a_check_is_booked_with_the_least(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.land(THING, row("a", 1))
    publish.apply(shop.desk, [THING])
    monkeypatch.setattr(shop.remote.pool, "process", lambda megabytes: None)
    (view, _) = publish.check(shop.desk, [THING])
    assert (view.rows, view.bytes_processed) == (1, 10_000_000)


def test_troubles_of_a_check_are_sentences(shop: Shop) -> None:
    shop.land(THING, row("a", 1))
    publish.apply(shop.desk, [THING])
    shop.remote.pool.settings["managed_identity_granted"] = False
    (view, _) = publish.check(shop.desk, [THING])
    assert view.rows is None
    assert "not authorized" in str(view.trouble)
    assert "grants" in str(view.hint)
    shop.remote.pool.settings["managed_identity_granted"] = True
    shop.remote.pool.process(1_000_000)
    (view, _) = publish.check(shop.desk, [THING])
    assert "reads no more data for now" in str(view.trouble)
    assert "data_limit_tb" in str(view.hint)


def test_what_cannot_be_asked_says_why(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="refused the login"):
        publish.plan(shop.desk_with(password="wrong"), [THING])
    with pytest.raises(ConfigurationError, match="no database elsewhere") as refused:
        publish.plan(shop.desk_with(database="elsewhere"), [THING])
    assert "CREATE DATABASE elsewhere COLLATE" in refused.value.hint
    with pytest.raises(ConfigurationError, match="Azure Blob Storage") as refused:
        Serverless(shop.remote.settings(), LandingSettings(path=tmp_path))
    assert "azure_blob" in refused.value.hint
    shop.land(THING, row("a", 1))
    publish.apply(shop.desk, [THING])
    moved = shop.landing_settings.model_copy(update={"prefix": "elsewhere"})
    with pytest.raises(ConfigurationError, match=r"leads to https://.*some/where, the landing is .*elsewhere"):
        publish.plan(Desk(shop.ledger, Serverless(shop.remote.settings(), moved), lambda: NOW), [THING])


class _Services:
    """The part of the services that refreshing asks for."""

    def __init__(self, desk: Desk | None) -> None:
        self.desk = desk

    def views(self) -> Desk | None:
        return self.desk


def test_a_view_is_renewed_after_a_sync_and_a_failure_is_noted_and_not_raised(shop: Shop) -> None:
    publish.refresh(_Services(None), THING)
    shop.land(THING, row("a", 1, "one"))
    publish.refresh(_Services(shop.desk), THING)
    assert names(shop) == {"a": "one"}
    shop.land(THING, row("a", 2, "two"))
    publish.refresh(_Services(shop.desk_with(password="wrong")), THING)
    (noted, _) = published_views.views(shop.ledger)
    assert (noted.state, noted.version is not None) == (ViewState.BEHIND, True)
    assert "It was not renewed after the last sync: 127.0.0.1 refused the login" in str(noted.trouble)
    publish.refresh(_Services(shop.desk), THING)
    (noted, _) = published_views.views(shop.ledger)
    assert (noted.state, noted.trouble, names(shop)) == (ViewState.CURRENT, None, {"a": "two"})


def test_the_commands(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contact = Stream(
        source="salesforce", name="contact", label="Contact", object_name="Contact", primary_key=("Id",),
        cursor_field="Stamp", version_field="Stamp", deleted_field="IsDeleted",
    )  # fmt: skip
    serverless, landing = shop.remote.settings(), shop.landing_settings
    assert serverless.password is not None
    assert landing.key is not None
    (tmp_path / "novade.toml").write_text(f"""
default_environment = "test"
[environments.test.ledger]
url = "sqlite:///{tmp_path}/ledger.sqlite"
[environments.test.landing]
kind = "azure_blob"
account = "{landing.account}"
container = "{landing.container}"
prefix = "{landing.prefix}"
endpoint = "{landing.endpoint}"
credential = "key"
[environments.test.warehouse]
kind = "synapse"
[environments.test.serverless]
server = "{serverless.server}"
port = {serverless.port}
database = "{serverless.database}"
auth = "sql"
user = "{serverless.user}"
encrypt = false
[environments.without.ledger]
url = "sqlite:///{tmp_path}/ledger.sqlite"
[streams]
"salesforce.contact" = {{}}
""")
    monkeypatch.setenv("NOVADE_CONFIG", str(tmp_path / "novade.toml"))
    monkeypatch.setenv("NOVADE_SERVERLESS_PASSWORD", serverless.password.get_secret_value())
    monkeypatch.setenv("NOVADE_LANDING_KEY", landing.key.get_secret_value())

    def run(*arguments: str) -> tuple[int, str, str]:
        ended = CliRunner().invoke(commands.app, ["views", *arguments])
        return ended.exit_code, ended.stdout, ended.stderr

    shop.land(contact, row("a", 1, "one"))
    code, out, _ = run("plan", "--json")
    assert code == 0
    assert [(v["name"], v["state"]) for v in json.loads(out)["views"]] == [
        ("[salesforce].[contact]", "missing"), ("[novade_landed].[salesforce.contact]", "missing"),
    ]  # fmt: skip
    code, out, _ = run("plan")
    assert "CREATE VIEW [salesforce].[contact] AS" in out
    code, out, err = run("apply", "--stream", "salesforce.contact")
    assert (code, "9 statements were run." in err) == (0, True)
    assert run("apply")[2].endswith("Nothing was missing.\n")
    code, out, _ = run("check", "--json")
    assert (code, [v["rows"] for v in json.loads(out)]) == (0, [1, 1])
    shop.remote.do("ALTER VIEW [salesforce].[contact] AS SELECT 1 AS [x]")
    code, out, err = run("apply")
    assert code == 1
    assert "[salesforce].[contact] is a view whose text is not as we made it, so it is left as it is." in err
    assert run("check")[0] == 1
    assert run("plan", "--stream", "salesforce.nothing")[0] == 2
    code, _, err = run("plan", "--environment", "without")
    assert (code, "has no serverless pool" in err) == (1, True)
