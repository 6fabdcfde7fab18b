"""Schedules in every state, and what its buttons do."""

from __future__ import annotations

import csv
import io
import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest
import streamlit as st
from sqlalchemy import delete, func, select, update
from typer.testing import CliRunner

from jobs.__main__ import app as commands
from novade_core.ledger import schedules
from novade_core.ledger.models import Audit, Fire, Lease, ScheduleRow
from novade_core.schedules import FireState, Outage, Timing
from novade_core.streams import RunKind
from pages.ui import schedule_fires, schedule_words, status
from tests.pages import seed, seed_schedules
from tests.pages.conftest import text_of
from tests.pages.test_pages import headline, plain

QUARTER = "every quarter"


def button(app, key: str):
    return next(b for b in app.button if b.key == key)


def found(ledger, name: str) -> schedules.Schedule:
    return schedules.schedule(ledger, name)


def press(app, key: str):
    app = button(app, key).click().run()
    assert not app.exception
    return app


# The states of the list


def test_empty_says_what_the_file_holds_and_how_to_begin(ledger, visit):
    app = visit("schedules")
    assert not app.exception
    assert headline(app).startswith("Nothing is scheduled yet: 2 schedules of novade.toml will be taken over")
    assert "python -m jobs worker" in plain(app)


def test_normal(ledger, visit):
    seed_schedules.scheduled(ledger)
    app = visit("schedules")
    assert not app.exception
    sentence = headline(app)
    assert re.fullmatch(
        r"2 schedules promise 9\d fires in the next 24 h; of 9\d in the last 24 h all were on time\.", sentence
    ), sentence
    said = plain(app)
    for part in (QUARTER, "weekly reload", "canary", "measures the scheduler", "every 15 minutes", "all of Salesforce"):
        assert part in said
    drawn = text_of(app)
    assert 'aria-label="canary: 1,440 fires, every minute"' in drawn
    assert drawn.count("<i style=") <= 2 * 48
    assert "not yet seen to live" in said or "process 41" in said


def test_trouble_is_counted_in_the_sentence_and_each_clause_is_a_link(ledger, visit):
    states = (FireState.LATE, FireState.SKIPPED, FireState.SKIPPED, FireState.MISSED)
    seed_schedules.scheduled(ledger, trouble=states)
    app = visit("schedules")
    sentence = headline(app)
    assert re.search(r"of 9\d in the last 24 h 9\d were on time, 1 missed, 1 late, 2 skipped\.$", sentence), sentence
    for state in ("missed", "late", "skipped"):
        assert f'href="/schedules?state={state}"' in text_of(app)
    for reason, _ in seed_schedules.TROUBLE.values():
        assert reason in plain(app)


def test_nobody_schedules(ledger, visit):
    seed_schedules.scheduled(ledger, holder=None)
    app = visit("schedules")
    assert headline(app).startswith("Nobody schedules, though 2 schedules promise")
    assert "python -m jobs worker" in plain(app)
    assert "but nobody schedules" in headline(visit("schedules", schedule=QUARTER))


def test_whose_worker_is_gone_schedules_no_more(ledger, visit):
    from novade_core.ledger.leases import own_name

    gone = f"{own_name().rpartition(':')[0]}:1"
    seed_schedules.scheduled(ledger, holder=gone)
    app = visit("schedules")
    assert headline(app).startswith("Nobody schedules")
    assert "its worker is gone" in plain(app)


def test_a_paused_schedule_stands_in_the_sentence(ledger, visit):
    seed_schedules.scheduled(ledger)
    with ledger.write() as c:
        values = {"paused_at": datetime.now(UTC), "paused_by": "ada"}
        c.execute(update(ScheduleRow).where(ScheduleRow.name == QUARTER).values(**values))
    app = visit("schedules")
    assert headline(app).endswith("every quarter is paused.")
    assert "paused, no fire" in plain(app)
    one = visit("schedules", schedule=QUARTER)
    assert headline(one).startswith("every quarter is paused by ada since")
    assert "schedule_pause" not in [b.key for b in one.button]


def test_missed_fires_are_a_filter_in_the_url(ledger, visit):
    seed_schedules.scheduled(ledger, trouble=(FireState.MISSED, FireState.LATE))
    app = visit("schedules", state="missed")
    table = text_of(app).split('aria-label="Past fires, the latest first"')[2]
    assert table.count("<tr>") == 2
    assert "The schedule&#x27;s rule is to skip." in table
    both = visit("schedules", state="problems")
    assert text_of(both).split('aria-label="Past fires, the latest first"')[2].count("<tr>") == 3
    nothing = visit("schedules", state="skipped")
    assert "No fire matches." in plain(nothing)
    app.radio(key="fires_state").set_value("late").run()
    assert app.query_params["state"] == "late"


def test_an_unknown_name_is_explained(ledger, visit):
    seed_schedules.scheduled(ledger)
    app = visit("schedules", schedule="<b>nothing</b>")
    assert not app.exception
    assert headline(app) == "There is no schedule <b>nothing</b>."
    assert "<b>nothing</b>" not in text_of(app)
    assert 'href="/schedules"' in text_of(app)


def test_a_hostile_name_is_text(ledger, visit):
    hostile = seed_schedules.spec(seed.HOSTILE[:100])
    seed_schedules.scheduled(ledger, more=(hostile,))
    schedules.pause(ledger, hostile.name, now=datetime.now(UTC), who=seed.HOSTILE, rules=schedule_rules(ledger))
    for app in (
        visit("schedules"),
        visit("schedules", schedule=hostile.name),
        visit("schedules", schedule=hostile.name, view="edit"),
    ):
        assert not app.exception
        assert "<img" not in text_of(app)
        assert hostile.name in plain(app)
    command = schedule_words.command("resume", hostile.name)
    assert shlex.split(command)[-1] == hostile.name


def schedule_rules(ledger):
    from novade_core.ledger.fires import Rules
    from novade_core.settings import load_settings

    return Rules(streams=load_settings().streams, on_time_seconds=15, booked_by="x")


def test_fifty_schedules_and_1440_canary_fires_stay_quick(ledger, visit):
    import time

    timings = (Timing(cron="*/20 * * * *", timezone="Europe/Berlin"), Timing(every_seconds=1), Timing(cron="0 6 * * 1"))
    many = tuple(seed_schedules.spec(f"schedule {n}", timing=timings[n % 3]) for n in range(48))
    seed_schedules.scheduled(ledger)
    for one in many:
        schedules.add(ledger, one, now=datetime.now(UTC), who="ada", rules=schedule_rules(ledger))
    app = visit("schedules")
    assert not app.exception
    assert headline(app).startswith("50 schedules promise 1,383,")
    st.cache_data.clear()
    started = time.perf_counter()
    app.run()
    assert time.perf_counter() - started < 2
    canary = visit("schedules", schedule="canary")
    assert not canary.exception
    assert "Older" in text_of(canary)
    assert "It asks for nothing" in headline(canary)
    older = visit("schedules", schedule="canary", before=re.search(r"before=(\d+)", text_of(canary)).group(1))
    assert "Newest" in text_of(older)
    assert plain(older).count("on time") == 30 + 2


def test_the_ledger_without_fires_says_what_will_be_here(ledger, visit):
    seed_schedules.scheduled(ledger)
    with ledger.write() as c:
        c.execute(delete(Fire))
        c.execute(delete(Lease))
    app = visit("schedules")
    assert "Nothing has been due yet." in plain(app)
    assert "none was due in the last 24 h" in headline(app)


def test_the_runs_of_a_fire_are_links(ledger, visit):
    ids = seed_schedules.scheduled(ledger)
    with ledger.read() as c:
        newest = c.execute(select(func.max(Fire.id)).where(Fire.schedule_id == ids[QUARTER])).scalar()
    assert newest
    app = visit("schedules", schedule=QUARTER)
    assert len(re.findall(r'href="/runs\?run=\d+"', text_of(app))) == 6


def test_csv_holds_what_is_filtered_and_no_formula(ledger):
    seed_schedules.scheduled(ledger, trouble=(FireState.MISSED,), more=(seed_schedules.spec("=cmd()"),))
    now = datetime.now(UTC)
    window = {"since": now - timedelta(days=2), "until": now, "limit": 5000}
    rows = list(csv.DictReader(io.StringIO(schedule_fires.csv_of(iter(schedules.fires(ledger, **window))))))
    assert len(rows) > 1_500
    assert {row["schedule"] for row in rows} == {QUARTER, "weekly reload", "canary", "'=cmd()"} - (
        {"weekly reload"} if not any(r["schedule"] == "weekly reload" for r in rows) else set()
    )
    assert sum(row["state"] == "missed" for row in rows) == 1
    assert float(rows[0]["late_seconds"]) > 0


def test_every_state_has_its_badge():
    assert set(status.FIRES) == {state.value for state in FireState}
    assert all(status.badge(state.value) for state in FireState)


# What differs, and actions


def test_what_differs_is_shown_and_taken_over(ledger, visit):
    seed_schedules.scheduled(ledger)
    before = found(ledger, QUARTER).spec
    from dataclasses import replace

    changed = replace(before, timing=Timing(every_seconds=3_600), outage=Outage.ALL)
    schedules.edit(ledger, changed, now=datetime.now(UTC), who="ada", rules=schedule_rules(ledger))
    listed = visit("schedules")
    assert headline(listed).endswith("every quarter differs from novade.toml.")
    app = visit("schedules", schedule=QUARTER)
    said = plain(app)
    for part in ("Interval", "3600", "*/15 * * * *", "all"):
        assert part in said or part in text_of(app)
    assert f"python -m jobs schedule reset '{QUARTER}'" in [c.value for c in app.code]
    app = press(app, "schedule_reset")
    assert found(ledger, QUARTER).spec == before
    assert "is as novade.toml says" in plain(app)


def test_pause_and_resume(ledger, visit):
    seed_schedules.scheduled(ledger)
    app = visit("schedules", schedule=QUARTER)
    assert f"python -m jobs schedule pause '{QUARTER}'" in [c.value for c in app.code]
    app = press(app, "schedule_pause")
    assert found(ledger, QUARTER).paused_by == "local"
    assert "every quarter is paused: its fires are skipped until it is resumed." in plain(app)
    assert headline(app).startswith("every quarter is paused by local")
    app = press(app, "schedule_resume")
    assert found(ledger, QUARTER).paused_at is None
    with ledger.read() as c:
        assert list(c.execute(select(Audit.action).order_by(Audit.id)).scalars()) == [
            "schedule.paused",
            "schedule.resumed",
        ]


def test_remove_asks_once(ledger, visit):
    seed_schedules.scheduled(ledger)
    app = press(visit("schedules", schedule=QUARTER), "schedule_remove")
    assert found(ledger, QUARTER)
    assert "a restart does not bring it back" in plain(app)
    app = press(app, "schedule_remove_confirm")
    assert QUARTER not in [s.spec.name for s in schedules.schedules(ledger)]
    assert "every quarter was removed" in plain(app)
    assert headline(app).startswith("1 schedule promises ")


def test_the_canary_cannot_be_removed_and_says_why(ledger, visit):
    seed_schedules.scheduled(ledger)
    remove = button(visit("schedules", schedule="canary"), "schedule_remove")
    assert remove.disabled
    assert "canary = false" in remove.help


def test_edit_previews_and_saves(ledger, visit):
    seed_schedules.scheduled(ledger)
    app = press(visit("schedules", schedule=QUARTER), "schedule_edit")
    assert app.query_params["view"] == "edit"
    assert button(app, "schedule_save").disabled
    app.text_input(key="schedule_cron").set_value("0 6 * * 1-5").run()
    app.selectbox(key="schedule_timezone").set_value("Europe/Berlin").run()
    said = plain(app)
    assert "It fires at 06:00, Monday through Friday, Europe/Berlin time" in said
    assert text_of(app).count("<li>") == 5
    assert any("--cron '0 6 * * 1-5' --timezone Europe/Berlin" in c.value for c in app.code)
    app = press(app, "schedule_save")
    assert found(ledger, QUARTER).spec.timing == Timing(cron="0 6 * * 1-5", timezone="Europe/Berlin", jitter_seconds=60)
    assert "every quarter was changed" in plain(app)


@pytest.mark.parametrize(
    ("cron", "said"),
    [("61 * * * *", "no cron expression: bad minute"), ("* * *", "five fields"), ("0 0 31 2 *", "bad day-of-month")],
)
def test_a_wrong_expression_is_said_in_place_with_a_hint(ledger, visit, cron, said):
    seed_schedules.scheduled(ledger)
    app = visit("schedules", schedule=QUARTER, view="edit")
    app.text_input(key="schedule_cron").set_value(cron).run()
    assert not app.exception
    assert said in plain(app)
    assert button(app, "schedule_save").disabled
    app.text_input(key="schedule_cron").set_value("*/30 * * * *").run()
    assert not button(app, "schedule_save").disabled


def test_a_long_jitter_is_refused_in_place(ledger, visit):
    seed_schedules.scheduled(ledger)
    app = visit("schedules", schedule=QUARTER, view="edit")
    app.number_input(key="schedule_jitter").set_value(900).run()
    assert "is not shorter than the 900 s between two fires" in plain(app)


def test_add_from_the_list(ledger, visit):
    seed_schedules.scheduled(ledger)
    app = press(visit("schedules"), "schedule_add")
    assert app.query_params["view"] == "add"
    assert "Name it first." in plain(app)
    app.text_input(key="schedule_name").set_value("leads by night").run()
    app.multiselect(key="schedule_streams").set_value(["salesforce.lead"]).run()
    app.radio(key="schedule_how").set_value("every").run()
    app.number_input(key="schedule_every").set_value(6).run()
    app.selectbox(key="schedule_unit").set_value("hours").run()
    app.radio(key="schedule_outage").set_value(Outage.SKIP).run()
    assert "It fires every 6 hours: " in plain(app)
    assert "4 fires in 24 h, which ask for 4 runs" in plain(app)
    app = press(app, "schedule_save")
    spec = found(ledger, "leads by night").spec
    assert (spec.streams, spec.timing.every_seconds, spec.outage) == (("salesforce.lead",), 21_600, Outage.SKIP)
    assert headline(app).startswith("leads by night fires every 6 hours; the next one in")


def test_a_name_that_is_taken_is_refused_in_place(ledger, visit):
    seed_schedules.scheduled(ledger)
    app = visit("schedules", view="add")
    app.text_input(key="schedule_name").set_value(QUARTER).run()
    app.multiselect(key="schedule_streams").set_value(["*"]).run()
    app = press(app, "schedule_save")
    assert "There is a schedule 'every quarter' already." in plain(app)


def test_the_overview_says_what_comes_next(ledger, visit):
    seed_schedules.scheduled(ledger)
    drawn = plain(visit("overview"))
    comes = drawn[drawn.index("Comes next") :]
    assert comes.count("every quarter") == 5 or comes.count("weekly reload") == 1


def test_the_overview_says_when_nothing_does(ledger, visit):
    assert "Nothing is scheduled." in plain(visit("overview"))


@pytest.mark.parametrize(
    "spec",
    [
        seed_schedules.spec("plain"),
        seed_schedules.spec("it's $HOME; `x`", timing=Timing(cron="*/15 6-20 * * 1-5", timezone="Europe/Berlin")),
        seed_schedules.spec(
            "all of it",
            streams=("salesforce", "salesforce.lead"),
            kind=RunKind.FULL,
            timing=Timing(every_seconds=5_400, jitter_seconds=45),
            outage=Outage.ALL,
        ),
    ],
)
def test_the_command_that_is_shown_makes_the_same_schedule(ledger, spec):
    def run(command: str) -> None:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "jobs"]
        answer = CliRunner().invoke(commands, words[3:])
        assert answer.exit_code == 0, answer.output

    run(schedule_words.add_command(spec))
    assert found(ledger, spec.name).spec == spec
    from dataclasses import replace

    other = replace(spec, timing=Timing(cron="5 4 * * *"), streams=("*",), outage=Outage.ONCE, kind=RunKind.INCREMENTAL)
    run(schedule_words.edit_command(spec, other))
    assert found(ledger, spec.name).spec == other
