"""A serverless pool that is not there: what settings have to say, and what becomes of its words."""

from __future__ import annotations

import pytest

from novade_core.errors import ConfigurationError, NovadeError, RetryableError
from novade_core.settings import LandingSettings, ServerlessSettings
from novade_core.warehouse.serverless import Counted, Serverless
from novade_core.warehouse.synapse_link import Link, Refused
from novade_core.warehouse.synapse_sql import Statement, Table

SETTINGS = ServerlessSettings(server="acme-ondemand.sql.azuresynapse.net", database="novade", auth="sql")
LANDING = LandingSettings(kind="azure_blob", account="acme")
FRAME = "[42000] [Microsoft][ODBC Driver 18 for SQL Server][SQL Server]"


@pytest.mark.parametrize(
    ("settings", "landing", "named"),
    [
        (ServerlessSettings(database="novade"), LANDING, "serverless.server"),
        (ServerlessSettings(server="x"), LANDING, "serverless.database"),
        (SETTINGS, LandingSettings(), "Azure Blob Storage"),
        (SETTINGS, LandingSettings(kind="azure_blob"), "its account"),
    ],
)
def test_what_is_missing_is_named(settings: ServerlessSettings, landing: LandingSettings, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Serverless(settings, landing)


def test_the_login_is_that_of_the_settings() -> None:
    login = SETTINGS.login()
    assert (login.kind, login.server, login.database, login.auth) == (
        "synapse", "acme-ondemand.sql.azuresynapse.net", "novade", "sql",
    )  # fmt: skip


class _Refusing(Link):
    """A link on which every query is refused with these words."""

    def __init__(self, words: str, number: int) -> None:
        super().__init__(SETTINGS.login())
        self._words, self._number = words, number

    def rows(self, statement: Statement) -> list[tuple[object, ...]]:
        raise Refused(
            statement.step, "acme", f"{FRAME}{self._words} ({self._number}) (SQLExecDirectW)", "", self._number
        )


def told(monkeypatch: pytest.MonkeyPatch, words: str, number: int = 50_000) -> NovadeError:
    """What our error says of a query that is refused so."""
    monkeypatch.setattr("novade_core.warehouse.serverless.Link", lambda settings: _Refusing(words, number))
    with pytest.raises(NovadeError) as refused:
        Serverless(SETTINGS, LANDING).count(Table("s", "t"))
    return refused.value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Content of directory on path 'https://a/b' cannot be listed.", "path 'https://a/b' cannot be listed (error"),
        ("Column 'Name' of type 'int' is not compatible.", "Column 'Name' of type 'int' is not compatible (error"),
        ("Error converting value 'Jane Doe' to data type int.", "Error converting value '…' to data type int (error"),
    ],
)
def test_the_pools_words_are_kept_but_for_values(monkeypatch: pytest.MonkeyPatch, words: str, said: str) -> None:
    error = told(monkeypatch, words)
    assert said in error.message
    assert "Jane" not in error.message


def test_a_limit_that_is_reached_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    error = told(monkeypatch, "Query is rejected because the daily limit of data processed is reached.")
    assert isinstance(error, RetryableError)
    assert "data_limit_tb" in error.hint


@pytest.mark.parametrize("version", [None, 0, -5, 12, 10**18])
def test_a_version_that_is_no_instant_is_none(version: int | None) -> None:
    at = Counted(rows=1, newest=version, bytes_processed=None).newest_at
    assert at is None or at.year == 1970
