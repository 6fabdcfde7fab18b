"""Every page in its four states: empty, normal, stale, failed; started from the frame as the server does."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
import streamlit as st
from sqlalchemy import select, text

from novade_core.ledger.models import ComparisonState, Run, RunState
from novade_core.monitoring.freshness import FreshState
from pages.ui import markup, page, status, tables, words
from tests.pages import seed
from tests.pages.conftest import text_of


def headline(app) -> str:
    """The sentence as a reader sees it."""
    found = re.search(r'<p class="nv-headline">(.*?)</p>', text_of(app))
    assert found, text_of(app)[-500:]
    return unescape(re.sub(r"<[^>]+>", "", found.group(1)))


def plain(app) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", text_of(app)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("overview", "Nothing has been loaded yet: 7 streams configured."),
        ("sync", "Nothing runs. Choose streams below to bring them up to date now."),
        ("runs", "No run was asked for within 24 hours."),
    ],
)
def test_empty(ledger, visit, name, sentence):
    app = visit(name)
    assert not app.exception
    assert headline(app) == sentence
    if name != "sync":
        assert 'href="/sync"' in text_of(app)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("overview", r"All 7 streams are fresh; 3,\d+ rows arrived today; cost not known yet\."),
        ("sync", r"Salesforce Contact is running; 2 runs queued\."),
        ("runs", r"\d+ runs in 24 hours: \d+ succeeded, .*3 under way or queued.*"),
    ],
)
def test_normal(ledger, visit, name, sentence):
    seed.normal(ledger)
    app = visit(name)
    assert not app.exception
    assert re.fullmatch(sentence, headline(app)), headline(app)
    assert "Local sandbox" in text_of(app)


def test_normal_overview_shows_what_runs(ledger, visit):
    ids = seed.normal(ledger)
    said = plain(visit("overview"))
    assert "12,400 of 20,014 rows" in said
    assert "412 rows/s" in said
    assert re.search(r"Attempt 2 of 5 starts in\s+\d", said)
    assert f"run {ids['running']}" in said


def test_stale(ledger, visit):
    seed.stale(ledger)
    app = visit("overview")
    sentence = headline(app)
    assert sentence.startswith("3 of 7 streams need you: ")
    assert "Salesforce Account differs from its source" in sentence
    assert "Salesforce Contact is 3 h" in sentence
    assert "Salesforce Lead is late" in sentence
    assert "Task" not in sentence
    assert "Sync Account in full, or reconcile it." in plain(app)
    assert "Late, stale or never loaded (3)" in [b.label for b in visit("sync").button]


def test_failed(ledger, visit):
    ids = seed.failed(ledger)
    app = visit("overview")
    assert headline(app).startswith("1 of 7 streams needs you: Salesforce Opportunity failed.")
    assert f'href="/runs?run={ids["failed"]}"' in text_of(app)
    assert re.search(r"\d+ failed", headline(visit("runs")))


def test_the_ledger_cannot_be_read(ledger, visit):
    seed.normal(ledger)
    app = visit("overview")
    with ledger.write() as c:
        c.execute(text("DROP TABLE stream_status"))
    st.cache_data.clear()
    app.run()
    assert not app.exception
    assert "The ledger cannot be read" in plain(app)
    assert "Traceback" not in text_of(app)


def test_a_wrong_configuration_is_said_with_its_remedy(tmp_path, monkeypatch, visit):
    (tmp_path / "novade.toml").write_text("wrong = 1")
    monkeypatch.setenv("NOVADE_CONFIG", str(tmp_path / "novade.toml"))
    st.cache_resource.clear()
    from streamlit.testing.v1 import AppTest

    from novade_core.settings import PROJECT

    app = AppTest.from_file(str(PROJECT / "pages" / "frame.py"), default_timeout=30).run()
    assert not app.exception
    assert "wrong is not a setting" in plain(app)


def test_one_run_that_failed(ledger, visit):
    ids = seed.failed(ledger)
    app = visit("runs", run=str(ids["failed"]))
    assert not app.exception
    assert headline(app).startswith(f"Run {ids['failed']}: Salesforce Opportunity failed")
    said = plain(app)
    for part in (
        "3 failures in a row",
        "SourceUnavailable; the fault lies with the source.",
        f"python -m jobs retry {ids['failed']}",
        "0.1.0+4f2a91c",
        "Column Margin__c",
        "decimal(16,2)",
    ):
        assert part in said
    assert "Salesforce answered 503" in app.code[0].value


def test_one_run_that_worked(ledger, visit):
    ids = seed.stale(ledger)
    app = visit("runs", run=str(ids["account"]))
    said = plain(app)
    assert "Every record that was read is accounted for." in said
    assert "differs" in said
    assert "3 records in the source only" in said
    assert "001000000000000AAA" in said


def test_one_run_that_rejected_and_one_that_runs(ledger, visit):
    ids = seed.failed(ledger)
    assert "not a timestamp" in plain(visit("runs", run=str(ids["partial"])))
    running = visit("runs", run=str(ids["running"]))
    assert "is running" in headline(running)
    assert [b.key for b in running.button] == ["run_cancel"]


@pytest.mark.parametrize("number", ["999999", "x", "-1", "²", "9" * 40, "<b>"])
def test_a_run_that_is_not_there(ledger, visit, number):
    app = visit("runs", run=number)
    assert not app.exception
    assert "There is no run" in plain(app)


@pytest.mark.parametrize(
    "query",
    [
        {"state": "nonsense"},
        {"stream": "no.such"},
        {"before": "x"},
        {"since": "yesterday", "until": "2024-13-01"},
        {"span": "<b>"},
        {"kind": "'; DROP TABLE runs"},
        {"text": "%_\\' OR 1=1"},
        {"before": "99999999999999999999"},
    ],
)
def test_a_url_that_makes_no_sense_shows_a_page(ledger, visit, query):
    seed.normal(ledger)
    app = visit("runs", **query)
    assert not app.exception
    assert "runs in 24 hours" in headline(app)


def test_a_filter_is_in_the_url(ledger, visit):
    seed.failed(ledger)
    app = visit("runs")
    app.selectbox(key="runs_state").set_value("failed").run()
    assert "failed" in app.query_params["state"]
    assert "succeeded</span>" not in text_of(app).split('aria-label="Runs, newest first"')[-1]
    app.text_input(key="runs_text").set_value("no run says this").run()
    assert "No run matches." in plain(app)


def test_paging_by_key(ledger, visit):
    seed.normal(ledger)
    first = visit("runs")
    older = re.search(r'href="/runs\?before=(\d+)"', text_of(first))
    assert older
    second = visit("runs", before=older.group(1))
    numbers = [int(n) for n in re.findall(r'<td><a href="/runs\?run=(\d+)"', text_of(second))]
    assert numbers[0] < int(older.group(1))
    assert f"/runs?after={numbers[0]}" in text_of(second)


def runs_of(ledger) -> list:
    with ledger.read() as c:
        return list(c.execute(select(Run.subject, Run.kind, Run.state, Run.origin, Run.parameters).order_by(Run.id)))


def test_starting_a_sync(ledger, visit):
    app = visit("sync")
    assert app.button(key="sync_start").disabled
    app.multiselect(key="sync_streams").set_value(["salesforce.contact", "salesforce.user"]).run()
    assert "salesforce.contact,salesforce.user" in app.query_params["streams"]
    assert app.code[0].value == "python -m jobs sync salesforce.contact salesforce.user"
    app.button(key="sync_start").click().run()
    assert not app.exception
    found = runs_of(ledger)
    assert [(r.subject, r.kind, r.state, r.origin) for r in found] == [
        ("salesforce.contact", "incremental", "queued", "person"),
        ("salesforce.user", "incremental", "queued", "person"),
    ]
    assert "Just asked for" in [h.value for h in app.header]
    assert 'href="/runs?run=1"' in text_of(app)
    assert "no worker takes them" in plain(app)


def test_all_of_a_source(ledger, visit):
    app = visit("sync")
    app.button(key="sync_all_salesforce").click().run()
    assert len(app.multiselect(key="sync_streams").value) == 7


def test_a_full_reload_asks_once(ledger, visit):
    app = visit("sync", streams="salesforce.contact", kind="full")
    app.button(key="sync_start").click().run()
    assert runs_of(ledger) == []
    app.button(key="sync_confirm").click().run()
    assert [r.kind for r in runs_of(ledger)] == ["full"]


def test_a_window(ledger, visit):
    app = visit("sync", streams="salesforce.lead", kind="backfill", since="2024-01-01T00:00", until="2024-02-01T00:00")
    assert app.code[0].value.endswith("--since 2024-01-01T00:00Z --until 2024-02-01T00:00Z")
    app.button(key="sync_start").click().run()
    assert runs_of(ledger)[0].parameters == {"since": "2024-01-01T00:00:00+00:00", "until": "2024-02-01T00:00:00+00:00"}
    backwards = visit(
        "sync", streams="salesforce.lead", kind="backfill", since="2024-03-01T00:00", until="2024-02-01T00:00"
    )
    assert backwards.button(key="sync_start").disabled


def test_running_again_and_cancelling(ledger, visit):
    ids = seed.failed(ledger)
    app = visit("runs", run=str(ids["failed"]))
    app.button(key="run_again").click().run()
    assert "is queued." in plain(app)
    assert "local asked for it again as" in plain(app)
    assert runs_of(ledger)[-1].state == "queued"
    app = visit("runs", run=str(ids["queued"]))
    app.button(key="run_cancel").click().run()
    app.button(key="run_cancel_confirm").click().run()
    assert "was cancelled" in headline(app)


@pytest.mark.parametrize("name", ["overview", "sync", "runs"])
def test_a_foreign_label_or_message_is_text(tmp_path, ledger, visit, name):
    seed.configure(tmp_path, hostile=True)
    st.cache_resource.clear()
    seed.failed(ledger, message=seed.HOSTILE)
    app = visit(name)
    assert not app.exception
    assert "<img" not in text_of(app)
    assert "&lt;img src=x onerror=alert(1)&gt;" in text_of(app)


def test_every_state_has_an_icon_and_a_tone():
    assert set(status.STREAMS) == {s.value for s in FreshState}
    assert set(status.RUNS) == {s.value for s in RunState}
    assert set(status.COMPARISONS) == {s.value for s in ComparisonState}


def test_csv_is_no_formula():
    given = ["=1+1", "+x", "-2", "@a", "\t=a", " =a", "fine", None, -5, "a,b", "\r=x"]
    out = list(csv.reader(io.StringIO(tables.csv_text(["=head"], ([v] for v in given)), newline="")))
    assert [r[0] for r in out] == [
        "'=head", "'=1+1", "'+x", "'-2", "'@a", "'\t=a", "' =a", "fine", "", "-5", "a,b", "'\r=x",
    ]  # fmt: skip


def test_markup_escapes_and_links_stay_inside():
    assert markup.tag("b", "<i>", title='"x"') == '<b title="&quot;x&quot;">&lt;i&gt;</b>'
    assert markup.address("runs", run=5, text="a&b", state=None) == "/runs?run=5&text=a%26b"
    for href in ("javascript:alert(1)", "//evil.example", "https://evil.example"):
        with pytest.raises(ValueError, match="within the console"):
            markup.link("x", href)


def test_figures_in_words():
    now = datetime(2024, 11, 18, 14, tzinfo=UTC)
    assert words.number(None) == words.DASH
    assert words.number(1234567) == "1,234,567"
    assert words.size(7_936_000) == "7.9 MB"
    assert words.relative(now - timedelta(minutes=12, seconds=5), now) == "12 min ago"
    assert words.relative(now + timedelta(seconds=40), now) == "in 40 s"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    title = words.when(now, now, words.zone_of("Europe/Berlin"))
    assert "15:00:00 CET · 2024-11-18 14:00:00 UTC" in title
    assert words.zone_of("No/Where") is UTC


def test_a_worker_lives_while_its_beat_moves():
    from novade_core.ledger.summaries import WorkerFacts

    def worker(beat: int):
        return (WorkerFacts(id="w", kind="console", started_at=datetime(2024, 1, 1, tzinfo=UTC), beat=beat),)

    beats = page.Beats()
    assert beats.alive(worker(1), lease_seconds=20, at=0) is None
    assert beats.alive(worker(2), lease_seconds=20, at=5) is True
    assert beats.alive(worker(2), lease_seconds=20, at=24) is True
    assert beats.alive(worker(2), lease_seconds=20, at=26) is False
    assert beats.alive((), lease_seconds=20, at=0) is False
