"""Views: without a serverless pool, before the first view, all well, in trouble, hostile; the SQL of one."""

from __future__ import annotations

import csv
import io
import re
from html import unescape

import pytest
import streamlit as st

from novade_core.ledger import published_views
from pages.ui import view_list
from tests.pages import seed, seed_views
from tests.pages.conftest import text_of
from tests.pages.test_pages import headline, plain


@pytest.fixture
def serverless(ledger, tmp_path):
    """A console whose environment has a serverless pool."""
    seed_views.configure(tmp_path)
    st.cache_resource.clear()
    return ledger


def rows(app) -> dict[str, list[str]]:
    """Cells of each row by the name of the view."""
    found = re.findall(r"<tr>(<td.*?)</tr>", text_of(app))
    cells = [[unescape(re.sub(r"<[^>]+>", "", c)) for c in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in found]
    return {row[4]: row for row in cells}


@pytest.mark.usefixtures("ledger")
def test_an_environment_without_a_serverless_pool_says_how_to_get_one(visit):
    app = visit("views")
    assert not app.exception
    assert headline(app) == "The environment local publishes no views."
    assert "[environments.local.serverless]" in plain(app)


@pytest.mark.usefixtures("serverless")
def test_before_the_first_view_the_command_is_named(visit):
    app = visit("views")
    assert headline(app) == "No view has been published yet: 7 streams configured."
    assert "python -m jobs views apply" in plain(app)


def test_all_is_well(serverless, visit):
    seed_views.published(serverless)
    app = visit("views")
    assert not app.exception
    said = headline(app)
    assert said.startswith("7 of 7 views are current; the newest rows are 12 min ")
    assert said.endswith(" EUR of data this month, limit 1 TB a day.")
    found = rows(app)
    assert len(found) == 14
    contact = found["[salesforce].[contact]"]
    assert contact[0] == "Salesforce Contact"
    assert contact[1].endswith("current")
    assert contact[2:4] == ["8,000", "8,000"]
    assert contact[6:8] == ["24", "1 0123456789abcdef"]
    assert contact[9] == "10.0 MB"
    assert found["[novade_landed].[salesforce.contact]"][2] == "8,700"
    assert 'class="nv-notice' not in text_of(app)


def test_what_needs_somebody_is_said_with_the_next_step(serverless, visit):
    seed_views.troubled(serverless)
    app = visit("views")
    said = headline(app)
    assert said.startswith("5 of 7 views are current (1 not ours and 1 behind); 1 view differs from the warehouse; ")
    page = plain(app)
    assert "is a view whose text is not as we made it, so it is left as it is." in page
    assert "DROP VIEW [salesforce].[case]" in page
    found = rows(app)
    assert found["[salesforce].[case]"][1].endswith("not ours")
    assert found["[salesforce].[task]"][1].endswith("behind"), "something has landed since it was published"
    assert found["[novade_landed].[salesforce.task]"][1].endswith("current"), "an external table reads its folder"


def test_streams_that_were_never_published_are_missing(serverless, visit):
    seed_views.published(serverless, streams=("contact", "lead"))
    app = visit("views")
    assert headline(app).startswith("2 of 7 views are current (5 missing); ")
    assert "Salesforce Account" in plain(app)


def test_the_statement_of_a_view_is_there_to_copy(serverless, visit):
    seed_views.published(serverless)
    app = visit("views", view="[salesforce].[contact]")
    assert [c.value for c in app.code] == [seed_views.SQL.format("contact")]
    assert headline(app).startswith("[salesforce].[contact] was published ")
    app = visit("views", view="[x].[<b>]")
    assert headline(app) == "No statement of [x].[<b>] is known."


def test_hostile_text_stays_text(serverless, visit, tmp_path):
    seed_views.configure(tmp_path, hostile=True)
    st.cache_resource.clear()
    seed_views.troubled(serverless, text=seed.HOSTILE)
    app = visit("views")
    assert "<img" not in text_of(app)
    assert seed.HOSTILE in plain(app)


def test_the_download_has_every_fact(serverless):
    seed_views.published(serverless)
    found = published_views.views(serverless)
    table = list(csv.DictReader(io.StringIO(view_list.csv_of(found))))
    assert [row["name"] for row in table] == [view.name for view in found]
    assert table[0]["rows"] == "4000"
