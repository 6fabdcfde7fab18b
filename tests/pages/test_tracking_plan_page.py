"""Page Tracking plan: the sentence, search, one event, versions and their differences; hostile text stays text."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from novade_core.ledger.plan_versions import PlanMemory
from novade_core.sources.tracking_plan import Event, Plan, Property, differences
from novade_core.streams import PlanVersion
from pages.ui import plan_changes, plan_events
from tests.pages import seed
from tests.pages.conftest import text_of

HOSTILE = seed.HOSTILE
OLD = Plan(
    name="Product",
    source="amplitude",
    events=(
        Event(
            name="Task Created",
            description="Somebody made one.",
            properties=(
                Property(path=("priority",), types=("string",), required=True, enum=('"low"', '"high"')),
                Property(path=("due", "in_days"), types=("number",), minimum=0, maximum=60),
            ),
        ),
        Event(name=HOSTILE, description="=cmd|'/c calc'!A0", allows_unplanned=False, deprecated=True),
        Event(name="task created", type="page", version="2", properties=(Property(path=("=1+1",), pattern="^<b>"),)),
    ),
)
NEW = Plan(name="Product", source="amplitude", events=(*OLD.events[:2], Event(name="Task Deleted")))
OTHER = Plan(name="Ops", source="iglu", events=())


def note(ledger, at: datetime, *plans: Plan) -> None:
    seen = [
        (
            PlanVersion(
                plan=plan.name, version=plan.version, file="Product.csv", format=plan.source, events=len(plan.events),
                properties=plan.size, current=True, first_seen_at=at, changed_at=at,
            ),
            plan.to_json(),
        )
        for plan in plans
    ]  # fmt: skip
    PlanMemory(ledger).note(seen, at)


@pytest.fixture
def planned(ledger):
    now = datetime.now(UTC)
    note(ledger, now - timedelta(days=9), OLD, OTHER)
    note(ledger, now - timedelta(hours=3), NEW, OTHER)
    return ledger


def headline(app) -> str:
    return next(e.proto.body for e in app.get("html") if "nv-headline" in e.proto.body)


def test_without_a_plan_the_page_says_what_to_do(ledger, visit, tmp_path: Path):
    app = visit("tracking_plan")
    assert "Nobody has said where the tracking plans are." in text_of(app)
    assert "NOVADE_TRACKING_PLAN_PATH" in text_of(app)
    assert not app.exception


def test_with_a_path_and_no_plan_the_first_step_is_a_sync(ledger, visit, tmp_path: Path):
    (tmp_path / "var" / "sandbox").mkdir(parents=True, exist_ok=True)
    (tmp_path / "var" / "sandbox" / "secrets.toml").write_text('[tracking_plan]\npath = "plans"\n')
    app = visit("tracking_plan")
    assert "No tracking plan has been read yet." in text_of(app)
    assert "/sync?streams=tracking_plan.plans" in text_of(app)


def test_the_current_version_is_told_and_its_events_listed(planned, visit):
    app = visit("tracking_plan")
    assert not app.exception
    said = headline(app)
    assert "plans 3 events with 2 properties in version" in said
    assert NEW.version in said
    assert "it became current" in said
    assert "3 h ago" in said
    page = text_of(app)
    assert page.count("event=") == 3
    assert "Task Deleted" in page
    assert "<img" not in page
    assert "&lt;img src=x onerror" in page
    assert f"version={NEW.version}&amp;old={OLD.version}" in page
    assert "plan=Ops" in page
    assert "1 event of them no longer to be sent." in page


def test_an_older_version_stays_readable(planned, visit):
    app = visit("tracking_plan", plan="Product", version=OLD.version)
    said = headline(app)
    assert "plans 3 events with 3 properties" in said
    assert "which ceased to be current" in said
    assert f">{NEW.version}</a> is current." in said
    assert "page, version 2" in text_of(app)


def test_search_finds_properties_and_says_when_nothing_fits(planned, visit):
    app = visit("tracking_plan", text="IN_DAYS")
    page = text_of(app)
    assert "1 of 3 events holds “IN_DAYS”." in page
    assert "Found: <code>due.in_days</code>" in page
    assert "Task Deleted" not in page
    assert "No event or property holds “nowhere”." in text_of(visit("tracking_plan", text="nowhere"))


def test_one_event_shows_what_is_allowed(planned, visit):
    page = text_of(visit("tracking_plan", event=json.dumps(["track", "Task Created", "1"])))
    assert "<code>&quot;low&quot;</code>, <code>&quot;high&quot;</code>" in page
    assert "0 to 60" in page
    assert "Properties beyond these are allowed." in page
    hostile = visit("tracking_plan", event=json.dumps(["track", HOSTILE, "1"]))
    assert "<h2>&lt;img src=x onerror" in text_of(hostile)
    assert not hostile.header
    assert "does not plan that event" in text_of(visit("tracking_plan", event="[]"))


def test_differences_are_shown_between_two_versions(planned, visit):
    page = text_of(visit("tracking_plan", plan="Product", version=NEW.version, old=OLD.version))
    assert "1 added and 1 removed" in page
    assert "track event is new" in page
    assert "There is no version 000 of this plan" in text_of(visit("tracking_plan", plan="Product", old="000"))


@pytest.mark.parametrize("query", [{"plan": "Nope"}, {"plan": "Product", "version": HOSTILE}, {"plan": HOSTILE}])
def test_what_is_not_there_is_said(planned, visit, query: dict[str, str]):
    app = visit("tracking_plan", **query)
    assert "There is no " in text_of(app)
    assert "<img" not in text_of(app)
    assert not app.exception


def test_a_plan_whose_file_is_gone_has_no_current_version(planned, visit):
    note(planned, datetime.now(UTC), OTHER)
    assert "because its file is gone." in headline(visit("tracking_plan", plan="Product"))
    assert "This version plans no event." in text_of(visit("tracking_plan", plan="Ops"))


def test_downloads_hold_everything_and_no_formula():
    lines = plan_events.csv_of(OLD).splitlines()
    assert len(lines) == 5
    assert "'=1+1" in lines[4]
    assert "'=cmd|" in lines[3]
    changed = plan_changes.csv_of(differences(OLD, NEW))
    assert "'" not in changed.replace("no longer", "")
    assert [line.split(",")[0] for line in changed.splitlines()] == ["kind", "removed", "added"]


def test_a_large_plan_draws_a_part_of_it():
    many = Plan(name="Large", source="plain", events=tuple(Event(name=f"Event {n:05}") for n in range(5_000)))
    assert len(plan_events.matching(many, "event 0000")) == 10
    assert len(plan_events.csv_of(many).splitlines()) == 5_001
