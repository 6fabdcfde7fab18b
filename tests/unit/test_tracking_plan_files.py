"""Folders of plans: what lies in them is hostile until looked at; versions are remembered as they were."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from novade_core.errors import ConfigurationError
from novade_core.ledger import plan_versions
from novade_core.ledger.database import open_ledger
from novade_core.ledger.plan_versions import PlanMemory
from novade_core.sources.tracking_plan.files import read_plans
from novade_core.sources.tracking_plan.model import Plan
from novade_core.sources.tracking_plan.rudder_project import parse_project
from novade_core.streams import PlanVersion
from sandbox import plan as demo
from sandbox.amplitude.plan import tracking_plan

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tracking_plans"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

EVENTS = """
version: rudder/v1
kind: events
metadata: {name: shop}
spec:
  events:
    - {id: order, name: Order Placed, event_type: track, description: paid}
    - {id: who, event_type: identify}
"""
PROPERTIES = """
version: rudder/v1
kind: properties
metadata: {name: shop}
spec:
  properties:
    - {id: state, name: state, types: [string, "null"], config: {enum: [no, 2024-01-01, 1, true, null]}}
    - {id: lines, name: lines, type: array, item_types: ["#custom-type:line"]}
    - {id: sku, name: sku, type: string, config: {min_length: 3, pattern: "^S"}}
    - {id: mail, name: mail, type: string}
"""
TYPES = """
version: rudder/v1
kind: custom-types
metadata: {name: shop}
spec:
  types:
    - {id: line, name: Line, type: object, properties: [{property: "#property:sku", required: true}]}
"""
PLAN = """
version: rudder/v1
kind: tracking-plan
metadata: {name: shop}
spec:
  id: shop
  display_name: Shop
  rules:
    - type: event_rule
      event: "#event:order"
      additional_properties: false
      properties: [{property: "#property:state", required: true}, {property: "#property:lines"}]
      variants:
        - cases: [{properties: [{property: "#property:mail", required: true}]}]
    - {type: event_rule, event: "#event:who", properties: [{property: "#property:mail", required: true}]}
"""
PROJECT = {"e.yaml": EVENTS, "p.yaml": PROPERTIES, "t.yml": TYPES, "plan.yaml": PLAN}


def project(**changed: str) -> dict[str, bytes]:
    return {name: changed.get(name.split(".")[0], text).encode() for name, text in PROJECT.items()}


def shown(plan: Plan) -> dict[str, list[tuple]]:
    return {e.name: [(p.section, p.name, p.types, p.required, p.enum) for p in e.properties] for e in plan.events}


def test_a_project_is_read_with_all_that_it_refers_to():
    ((file, plan),) = parse_project(project())
    assert (file, plan.name, plan.id, plan.source) == ("plan.yaml", "Shop", "shop", "rudderstack")
    assert shown(plan) == {
        "Order Placed": [
            ("properties", "state", ("null", "string"), True, ('"no"', '"2024-01-01"', "1", "true", "null")),
            ("properties", "lines", ("array",), False, None),
            ("properties", "lines[]", ("object",), False, None),
            ("properties", "lines[].sku", ("string",), True, None),
            ("properties", "mail", ("string",), False, None),
        ],
        "identify": [("traits", "mail", ("string",), True, None)],
    }
    order = plan.events[0]
    assert (order.allows_unplanned, order.description) == (False, "paid")
    assert (order.properties[3].min_length, order.properties[3].pattern) == (3, "^S")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{n}: &{n} [{','.join([f'*{b}'] * 9)}]\n" for b, n in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p", "kind: x\n\tbad", "p.yaml, line 2: is not YAML"),
        ("p", BOMB, "more than 200,000 values"),
        ("p", "a: &a [*a]", "refers to itself"),
        ("p", "[" * 5_000, "is not YAML"),
        ("p", "x" * 2_000_001, "larger than 2,000,000 bytes"),
        ("p", "kind: events\nkind: properties", "has the key 'kind' twice"),
        ("p", "!!python/object/apply:os.system ['true']", "is not YAML"),
        ("p", "just text", "has no kind"),
        ("plan", PLAN.replace("#event:who", "#event:nobody"), "refers to #event:nobody, which is not there"),
        ("plan", PLAN.replace("#event:who", "#event:order"), "track 'Order Placed' has a rule already"),
        ("plan", PLAN.replace("#event:who", "#property:mail"), "is no reference to events"),
        ("t", TYPES.replace("#property:sku", "#property:lines"), "or refers to itself"),
        ("p", PROPERTIES.replace("id: sku", "id: state"), "defines 'state' twice"),
        ("p", PROPERTIES.replace("type: array", "type: list"), "type is 'list'"),
    ],
)
def test_what_is_wrong_in_a_project_is_named(name: str, text: str, said: str):
    with pytest.raises(ConfigurationError) as raised:
        parse_project(project(**{name: text}))
    assert said in raised.value.message
    assert ".y" in raised.value.message.split(":")[0]


CHOSEN = ["1-0-0", "1-0-1", "deep/Orders.csv", *PROJECT]


def plain(*rows: str) -> str:
    return "\n".join(["event,property,type,required", *rows])


def test_a_folder_holds_many_plans_and_other_things(tmp_path: Path):
    (tmp_path / "README.md").write_text("no plan")
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "Orders.csv").write_text("\ufeff" + plain("Order,id,string,true", "Empty,,,"))
    (tmp_path / "link.csv").symlink_to(tmp_path / "deep" / "Orders.csv")
    (tmp_path / "1-0-0").write_text(json.dumps({"self": {"vendor": "v", "name": "n", "version": "1-0-0"}}))
    (tmp_path / "1-0-1").write_text(json.dumps({"self": {"vendor": "v", "name": "n", "version": "1-0-1"}}))
    for name, text in PROJECT.items():
        (tmp_path / name).write_text(text)
    found = {one.plan.name: (one.file, len(one.plan.events)) for one in read_plans(tmp_path, CHOSEN)}
    assert found == {"Shop": ("plan.yaml", 2), tmp_path.name: (".", 2), "Orders": ("deep/Orders.csv", 2)}
    (only,) = read_plans(tmp_path, ["deep/Orders.csv"])
    assert [(e.name, len(e.properties)) for e in only.plan.events] == [("Order", 1), ("Empty", 0)]
    (alone,) = read_plans(tmp_path / "deep" / "Orders.csv")
    assert alone.plan.version == only.plan.version


def spoiled(folder: Path, case: str) -> None:
    """A folder with one plan and one thing that is wrong."""
    file = folder / "bad.csv"
    if case == "outside":
        outside = folder.parent / "outside.csv"
        outside.write_text(plain("Secret,id,string,true"))
        file.symlink_to(outside)
    elif case == "folder outside":
        (folder / "bad").symlink_to(folder.parent)
    elif case == "pipe":
        os.mkfifo(file)
    elif case == "large":
        with file.open("wb") as out:
            out.truncate(50_000_000)
    elif case == "control":
        (folder / "bad\x1b[2J.csv").write_text(plain("A,b,string,true"))
    elif case == "not utf-8 name":
        os.close(os.open(os.fsencode(folder) + b"/bad\xff.csv", os.O_CREAT | os.O_WRONLY))
    elif case == "not utf-8":
        file.write_bytes(b"event,property\n\xff,b\n")
    elif case == "truncated":
        (folder / "bad.json").write_text('{"name": "Shop", "rules": [')
    elif case == "twice":
        (folder / "deep").mkdir()
        (folder / "deep" / "good.csv").write_text(plain("A,b,string,true"))
    elif case == "cyclic":
        schema = {"properties": {"properties": {"$ref": "#/properties/properties"}}}
        (folder / "bad.json").write_text(json.dumps({"name": "Shop", "rules": [{"key": "A", "jsonSchema": schema}]}))
    elif case == "multiplied":
        parts = {f"d{n}": {"properties": {k: {"$ref": f"#/d{n + 1}"} for k in "abcdefgh"}} for n in range(9)}
        schema = {**parts, "d9": {}, "properties": {"properties": {"$ref": "#/d0"}}}
        (folder / "bad.json").write_text(json.dumps({"name": "Shop", "rules": [{"key": "A", "jsonSchema": schema}]}))


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("outside", "bad.csv: is a link that leads out of the folder"),
        ("folder outside", "bad: is a link that leads out of the folder"),
        ("pipe", "bad.csv: is no regular file"),
        ("large", "bad.csv: is larger than 15,000,000 bytes"),
        ("control", "has a name that cannot be shown"),
        ("not utf-8 name", "has a name that cannot be shown"),
        ("not utf-8", "bad.csv, byte 15: is not UTF-8"),
        ("truncated", "bad.json, line 1: is not JSON"),
        ("twice", "deep/good.csv and good.csv hold the same plan, good"),
        ("cyclic", "refers to itself"),
        ("multiplied", "has more than 100,000 properties"),
    ],
)
def test_what_a_folder_must_not_hold(tmp_path: Path, case: str, said: str):
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "good.csv").write_text(plain("Order,id,string,true"))
    spoiled(folder, case)
    with pytest.raises(ConfigurationError) as raised:
        read_plans(folder)
    assert said in raised.value.message
    assert raised.value.message.isprintable()
    assert raised.value.hint


def test_an_empty_folder_and_a_missing_file_say_so(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="holds no tracking plan"):
        read_plans(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_plans(tmp_path / "nowhere")
    (tmp_path / "a.csv").write_text(plain("A,b,string,true"))
    with pytest.raises(ConfigurationError, match=r"has no b\.csv, which tracking_plan.files names"):
        read_plans(tmp_path, ["b.csv"])


@pytest.mark.parametrize("version", [1, 2])
def test_the_demo_plan_is_the_generators(tmp_path: Path, version: int):
    (found,) = read_plans(demo.write(tmp_path, version))
    planned = tracking_plan(version)
    assert [e.name for e in found.plan.events] == [e.name for e in planned]
    for event, wanted in zip(found.plan.events, planned, strict=True):
        assert event.description == wanted.description
        for one, prop in zip(event.properties, wanted.properties, strict=True):
            kind = "array" if prop.is_array else "integer" if prop.integer else prop.type.replace("enum", "string")
            enum = tuple(json.dumps(v, ensure_ascii=False) for v in prop.enum) or None
            expected = (prop.name, (kind,), prop.required, enum, prop.regex)
            assert (one.name, one.types, one.required, one.enum, one.pattern) == expected


def test_a_demo_plan_that_somebody_edited_stays(tmp_path: Path):
    demo.write(tmp_path)
    (tmp_path / demo.NAME).write_text("mine")
    demo.write(tmp_path)
    assert (tmp_path / demo.NAME).read_text() == "mine"


# Memory


def version(plan: str, digits: str, at: datetime = NOW) -> tuple[PlanVersion, dict[str, str]]:
    made = PlanVersion(
        plan=plan, version=digits, file="f", format="plain", events=1, properties=2, current=True, first_seen_at=at,
        changed_at=at,
    )  # fmt: skip
    return made, {"name": digits}


def test_versions_come_go_and_come_back(ledger_url: str):
    ledger = open_ledger(ledger_url)
    memory = PlanMemory(ledger)
    minutes = [NOW + timedelta(minutes=n) for n in range(6)]

    def said() -> list[tuple[str, str, bool, int, int]]:
        return [
            (v.plan, v.version, v.current, minutes.index(v.first_seen_at), minutes.index(v.changed_at))
            for v in memory.versions()
        ]

    memory.note([version("A", "1"), version("B", "1")], minutes[0])
    memory.note([version("A", "1"), version("B", "1")], minutes[1])
    assert said() == [("A", "1", True, 0, 0), ("B", "1", True, 0, 0)]
    memory.note([version("A", "2"), version("B", "1")], minutes[2])
    assert said() == [("A", "2", True, 2, 2), ("A", "1", False, 0, 2), ("B", "1", True, 0, 0)]
    # A reader that began before does not take it back, nor does it add what stood there then.
    memory.note([version("A", "0")], minutes[1])
    assert [s for s in said() if s[0] == "A"] == [("A", "2", True, 2, 2), ("A", "1", False, 0, 2)]
    memory.note([version("A", "1"), version("B", "1")], minutes[3])
    assert [s for s in said() if s[0] == "A"] == [("A", "1", True, 0, 3), ("A", "2", False, 2, 3)]
    memory.note([version("A", "1")], minutes[4])
    assert said()[2] == ("B", "1", False, 0, 4)
    assert plan_versions.model(ledger, "A", "2") == {"name": "2"}
    assert plan_versions.model(ledger, "A", "3") is None
    ledger.close()


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the samples are not here")
def test_published_folders_survive_the_memory(tmp_path: Path):
    for name in ("iglu", "rudderstack"):
        shutil.copytree(SHARED / name, tmp_path / "plans" / name)
    shutil.copy(SHARED / "segment" / "plan_public_api.json", tmp_path / "plans")
    found = read_plans(tmp_path / "plans")
    sizes = {one.plan.name: (len(one.plan.events), one.plan.size) for one in found}
    assert sizes == {
        "API Tracking": (3, 14),
        "Typer Test Tracking Plan": (4, 40),
        "Typewriter E2E": (25, 160),
        "plans": (26, 515),
    }
    for one in found:
        again = Plan.from_json(json.loads(json.dumps(one.plan.to_json())))
        assert again == one.plan
        assert again.version == one.plan.version
