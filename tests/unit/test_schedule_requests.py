"""What people and the start of a process change about schedules, on the ledger and by command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from jobs.__main__ import app
from novade_core.errors import ConfigurationError
from novade_core.ledger import schedules
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import Audit, Run, ScheduleRow
from novade_core.schedules import CANARY, FireState, Outage, Timing, interval_of, interval_text
from novade_core.streams import RunKind
from tests.ledgers import at_once
from tests.unit.test_fires import NOW, RULES, booked, reasons, spec, states, tick

CHANGE: dict[str, Any] = {"who": "ada", "rules": RULES}


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def names(ledger: Ledger) -> list[str]:
    return [s.spec.name for s in schedules.schedules(ledger)]


def audit(ledger: Ledger) -> list[str]:
    with ledger.read() as c:
        return list(c.execute(select(Audit.action).order_by(Audit.id)).scalars())


def run_count(ledger: Ledger) -> int:
    with ledger.read() as c:
        return len(c.execute(select(Run.id)).all())


def minutes(count: float) -> datetime:
    return NOW + timedelta(minutes=count)


# Pause, resume, edit, remove


def test_a_pause_skips_and_says_who(ledger):
    schedules.add(ledger, spec(), now=NOW, **CHANGE)
    tick(ledger, minutes(1))
    schedules.pause(ledger, "often", now=minutes(1.5), **CHANGE)
    assert schedules.schedule(ledger, "often").next_fires(minutes(2)) == ()
    tick(ledger, minutes(3.1))
    schedules.resume(ledger, "often", now=minutes(4.5), **CHANGE)
    tick(ledger, minutes(5))
    assert states(ledger)[:4] == ["on time", "skipped", "skipped", "skipped"]
    assert reasons(ledger)[1:4] == ["Paused by ada."] * 3
    assert reasons(ledger)[4] == "Salesforce Contact: run 1 still waits."
    assert audit(ledger) == ["schedule.added", "schedule.paused", "schedule.resumed"]
    assert schedules.schedule(ledger, "often").next_fires(minutes(5), 2) == (minutes(6), minutes(7))


@pytest.mark.parametrize("change", ["pause", "remove"])
def test_ending_a_schedule_that_is_owed_fires_starts_nothing(ledger, change):
    schedules.add(ledger, spec(timing=Timing(every_seconds=60, jitter_seconds=59)), now=NOW, **CHANGE)
    at = minutes(3) + timedelta(milliseconds=1)
    assert schedules.schedule(ledger, "often").spec.timing.due("often", minutes(3)) > at
    getattr(schedules, change)(ledger, "often", now=at, **CHANGE)
    assert states(ledger)[0] == "missed"
    assert states(ledger)[-1] == "skipped"
    verb = {"pause": "Paused", "remove": "Removed"}[change]
    assert reasons(ledger)[-1] == f"{verb} by ada before it was due."
    assert run_count(ledger) == 0


def test_pausing_twice_and_resuming_twice_change_nothing(ledger):
    schedules.add(ledger, spec(), now=NOW, **CHANGE)
    schedules.resume(ledger, "often", now=NOW, **CHANGE)
    schedules.pause(ledger, "often", now=NOW, who="ada", rules=RULES)
    schedules.pause(ledger, "often", now=minutes(1), who="bob", rules=RULES)
    assert schedules.schedule(ledger, "often").paused_by == "ada"
    assert audit(ledger) == ["schedule.added", "schedule.paused"]


def test_an_edit_settles_the_old_timing_and_promises_the_new_one_from_now_on(ledger):
    schedules.add(ledger, spec(), now=NOW, **CHANGE)
    changed = spec(timing=Timing(cron="*/5 * * * *"), outage=Outage.ALL)
    schedules.edit(ledger, changed, now=minutes(2.1), **CHANGE)
    tick(ledger, minutes(5))
    assert [promised for promised, _ in booked(ledger)] == [minutes(1), minutes(2), minutes(5)]
    schedules.edit(ledger, changed, now=minutes(6), **CHANGE)
    assert audit(ledger) == ["schedule.added", "schedule.edited"]
    with ledger.read() as c:
        details = c.execute(select(Audit.details).order_by(Audit.id.desc())).scalars().first()
    assert details["cron"] == [None, "*/5 * * * *"]
    assert details["outage"] == ["once", "all"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": " "}, "needs a name"),
        ({"name": "a\nb"}, "needs a name"),
        ({"name": "x" * 101}, "needs a name"),
        ({"streams": ()}, "needs a stream"),
        ({"streams": ("salesforce.nothing",)}, "neither a stream nor a source"),
        ({"kind": RunKind.BACKFILL}, "incremental runs or full reloads"),
        ({"name": "taken"}, "already"),
    ],
)
def test_what_cannot_be_added_is_refused_with_a_next_step(ledger, wrong, message):
    schedules.add(ledger, spec(name="taken"), now=NOW, **CHANGE)
    with pytest.raises(ConfigurationError, match=message) as refused:
        schedules.add(ledger, spec(**wrong), now=NOW, **CHANGE)
    assert refused.value.hint
    assert names(ledger) == ["taken"]


def test_an_unknown_name_is_refused(ledger):
    for change in (schedules.pause, schedules.resume, schedules.remove, schedules.reset):
        with pytest.raises(ConfigurationError, match="no schedule 'nothing'"):
            change(ledger, "nothing", now=NOW, **CHANGE)


# The configuration


def test_seeding_makes_each_schedule_once_and_what_people_changed_wins(ledger):
    said = (spec("a"), spec("b"), CANARY)
    schedules.seed(ledger, said, now=NOW)
    schedules.edit(ledger, spec("a", outage=Outage.SKIP), now=NOW, **CHANGE)
    schedules.remove(ledger, "b", now=NOW, **CHANGE)
    schedules.seed(ledger, said, now=minutes(9))
    assert names(ledger) == ["a", "canary"]
    found = schedules.schedule(ledger, "a")
    assert found.spec.outage is Outage.SKIP
    assert found.differs
    assert found.seed == said[0]
    schedules.reset(ledger, "a", now=minutes(10), **CHANGE)
    assert not schedules.schedule(ledger, "a").differs


def test_what_the_configuration_changes_later_is_shown_and_not_taken_over(ledger):
    schedules.seed(ledger, (spec("a"),), now=NOW)
    schedules.seed(ledger, (spec("a", timing=Timing(every_seconds=120)),), now=minutes(1))
    assert schedules.schedule(ledger, "a").differs
    schedules.seed(ledger, (), now=minutes(2))
    found = schedules.schedule(ledger, "a")
    assert (found.differs, found.seed) == (False, None)
    with pytest.raises(ConfigurationError, match="configuration has no schedule"):
        schedules.reset(ledger, "a", now=minutes(3), **CHANGE)


def test_a_canary_that_was_left_out_for_a_day_owes_nothing(ledger):
    schedules.seed(ledger, (CANARY,), now=NOW)
    tick(ledger, minutes(1))
    schedules.seed(ledger, (), now=minutes(2))
    assert names(ledger) == []
    tick(ledger, minutes(600))
    schedules.seed(ledger, (CANARY,), now=minutes(1440))
    tick(ledger, minutes(1441))
    assert booked(ledger, "canary") == [(minutes(1), "on time"), (minutes(1441), "on time")]


def test_the_canary_is_removed_in_the_configuration_only(ledger):
    schedules.seed(ledger, (CANARY,), now=NOW)
    with pytest.raises(ConfigurationError, match="cannot be removed here"):
        schedules.remove(ledger, "canary", now=NOW, **CHANGE)
    with pytest.raises(ConfigurationError, match="asks for nothing"):
        schedules.edit(ledger, replace(CANARY, streams=("salesforce",)), now=NOW, **CHANGE)
    schedules.edit(ledger, replace(CANARY, timing=Timing(every_seconds=300)), now=NOW, **CHANGE)
    assert schedules.schedule(ledger, "canary").differs


def _seed(together: Any, url: str, now: datetime) -> int:
    ledger = open_ledger(url)
    together.wait()
    schedules.seed(ledger, (*(spec(f"s{n}") for n in range(30)), CANARY), now=now)
    ledger.close()
    return 1


def test_consoles_that_start_at_once_seed_each_schedule_once(ledger, ledger_url):
    assert at_once(_seed, *[(ledger_url, NOW)] * 3) == [1, 1, 1]
    with ledger.read() as c:
        assert len(c.execute(select(ScheduleRow.id)).all()) == 31


# What pages read


def test_fires_are_read_by_window_schedule_and_state_in_pages(ledger):
    schedules.seed(ledger, (CANARY, spec(outage=Outage.SKIP)), now=NOW)
    for minute in (1, 2, 3, 7):
        tick(ledger, minutes(minute))
    window = {"since": NOW, "until": minutes(60)}
    whole = schedules.fires(ledger, **window)
    assert len(whole) == 14
    seen, before = [], None
    while page := schedules.fires(ledger, **window, before=before, limit=4):
        seen += page
        before = page[-1].id
    assert tuple(seen) == whole
    often = schedules.schedule(ledger, "often")
    missed = schedules.fires(ledger, **window, schedule_id=often.id, states=(FireState.MISSED,))
    assert [fire.promised for fire in missed] == [minutes(6), minutes(5), minutes(4)]
    counts = schedules.fire_counts(ledger, **window)
    assert counts[often.id] == {FireState.ON_TIME: 1, FireState.SKIPPED: 3, FireState.MISSED: 3}
    assert schedules.last_fires(ledger)[often.id].promised == minutes(7)
    first = whole[-1] if whole[-1].schedule == "often" else whole[-2]
    assert [(r.fire_id, r.subject) for r in schedules.runs_of_fires(ledger, [f.id for f in whole])] == [
        (first.id, "salesforce.contact")
    ]


def test_lateness_is_measured_where_something_was_booked(ledger):
    assert schedules.lateness(ledger, since=NOW, until=minutes(9)).p50 is None
    schedules.seed(ledger, (CANARY,), now=NOW)
    for minute in range(1, 101):
        tick(ledger, minutes(minute) + timedelta(seconds=0.1 if minute < 99 else 9))
    found = schedules.lateness(ledger, since=NOW, until=minutes(200))
    assert (found.fires, found.p50, found.p99, found.worst) == (100, 0.1, 9.0, 9.0)
    assert schedules.lateness(ledger, since=NOW, until=minutes(200), schedule_id=99).fires == 0


def test_who_leads(ledger):
    from novade_core.ledger import leases
    from novade_core.ledger.fires import SCHEDULER

    assert schedules.leader(ledger).holder is None
    with ledger.write() as c:
        leases.take(c, stream=SCHEDULER, holder="a:1:1", run_id=0, now=NOW, watcher=leases.Watcher(60))
    assert schedules.leader(ledger).holder == "a:1:1"


def test_next_fires_hold_back_what_waits_for_its_jitter(ledger):
    timing = Timing(every_seconds=600, jitter_seconds=500)
    schedules.add(ledger, spec(timing=timing), now=NOW, **CHANGE)
    due = timing.due("often", minutes(10))
    found = schedules.schedule(ledger, "often")
    assert found.next_fires(due - timedelta(seconds=1))[0] == due
    assert found.next_fires(due)[0] == timing.due("often", minutes(20))
    assert found.count_until(NOW, minutes(60)) == len(found.fires_until(NOW, minutes(60))) == 6


# Commands


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("6 h", 21_600), ("1d", 86_400)])
def test_intervals_are_written_short(text, seconds):
    assert interval_of(text) == seconds
    assert interval_of(interval_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "1.5h", "5 weeks", "٣m"])
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(ConfigurationError, match="is no interval"):
        interval_of(text)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "novade.toml").write_text(
        '[environments.local.ledger]\nurl = "sqlite:///var/ledger.sqlite"\n'
        '[streams]\n"salesforce.contact" = {}\n"salesforce.lead" = {}\n'
        '[schedules.nightly]\nstreams = ["salesforce"]\ncron = "0 3 * * *"\n'
    )
    monkeypatch.setenv("NOVADE_CONFIG", str(tmp_path / "novade.toml"))
    monkeypatch.setenv("NOVADE_HOME", str(tmp_path))

    def call(*words: str, code: int = 0) -> Any:
        answer = CliRunner().invoke(app, ["schedule", *words, "--json"])
        assert answer.exit_code == code, answer.output
        return json.loads(answer.stdout)

    return call


def test_the_commands_do_what_the_buttons_do(command):
    listed = command("list")
    assert [row["name"] for row in listed] == ["nightly", "canary"]
    assert list(listed[0])[:3] == ["name", "state", "when"]
    assert len(listed[0]["next"]) == 5
    added = command(
        "add", "often", "--streams", "salesforce.contact,salesforce.lead", "--every", "15m", "--jitter", "30s"
    )
    assert (added["every_seconds"], added["jitter_seconds"], added["outage"]) == (900, 30, "once")
    assert added["streams"] == ["salesforce.contact", "salesforce.lead"]
    edited = command("edit", "often", "--cron", "0 6 * * 1-5", "--timezone", "Europe/Berlin", "--kind", "full")
    assert (edited["cron"], edited["every_seconds"], edited["kind"]) == ("0 6 * * 1-5", None, "full")
    assert edited["jitter_seconds"] == 30
    assert command("pause", "often")["state"] == "paused"
    assert command("next", "often") == []
    assert command("resume", "often")["state"] == "active"
    assert len(command("next", "often", "--count", "7")) == 7
    assert command("edit", "nightly", "--outage", "skip")["differs"] is True
    shown = command("show", "nightly")
    assert shown["configuration"]["outage"] == "once"
    assert command("reset", "nightly")["differs"] is False
    assert command("remove", "often") == {"removed": "often"}
    assert [row["name"] for row in command("list")] == ["nightly", "canary"]
    assert command("fires", "--state", "missed", "--schedule", "nightly") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "nothing"], 1, "no schedule 'nothing'"),
        (["fires", "--state", "perhaps"], 2, "no state of a fire"),
        (["add", "x", "--streams", "salesforce"], 2, "needs --cron or --every"),
        (
            ["add", "x", "--streams", "salesforce", "--every", "1h", "--cron", "* * * * *"],
            2,
            "either --cron or --every",
        ),
        (["add", "x", "--streams", "salesforce", "--every", "soon"], 1, "no interval"),
        (["add", "x", "--streams", "hubspot", "--every", "1h"], 1, "neither a stream nor a source"),
        (["add", "x", "--every", "1h"], 1, "needs a stream"),
        (["add", "x", "--streams", "salesforce", "--cron", "61 * * * *"], 1, "no cron expression"),
        (["edit", "nightly", "--outage", "perhaps"], 2, "no rule for outages"),
        (["edit", "nightly", "--kind", "backfill"], 2, "nothing that a schedule asks for"),
        (["remove", "canary"], 1, "cannot be removed here"),
    ],
)
def test_a_command_that_cannot_work_says_why_and_what_next(command, words, code, said):
    answer = command(*words, code=code)
    assert said in answer["error"]
    assert answer["hint"]


def test_the_sentences_of_the_commands(command):
    command("list")
    for words, said in (
        (["list"], "nightly"),
        (["pause", "nightly"], "nightly: paused. It fires no more until it is resumed."),
        (["resume", "nightly"], "nightly: resumed. Next fire "),
        (["show", "nightly"], "nightly (active): at 03:00, UTC time, incremental, salesforce"),
        (["fires"], "schedule"),
        (["next", "nightly"], "03:00:00Z"),
        (["remove", "nightly"], "nightly: removed."),
    ):
        answer = CliRunner().invoke(app, ["schedule", *words])
        assert answer.exit_code == 0, answer.output
        assert said in answer.output
