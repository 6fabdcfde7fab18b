"""Tracking plans of every format become one model; what is wrong is named with its place."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest

from novade_core.errors import ConfigurationError
from novade_core.sources.tracking_plan import Plan, differences, parse

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tracking_plans"

ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "pattern": "^o-", "description": "order"},
        "total": {"type": ["number", "null"], "minimum": 0},
        "state": {"enum": ["new", 1, True, None]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
    },
}


def segment(schema: dict, **rule: object) -> bytes:
    rules = [{"type": "TRACK", "key": "Order Placed", "version": 1, "jsonSchema": schema, **rule}]
    return json.dumps({"id": "tp_1", "name": "Shop", "rules": rules}).encode()


def whole(schema: dict) -> dict:
    return {"type": "object", "properties": {"context": {}, "traits": {}, "properties": schema}}


def table(*rows: dict[str, str]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, sorted({name for row in rows for name in row}))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def workbook(*rows: list[str], prefix: str = "", shared: str = "") -> bytes:
    cells = "".join(
        "<row>" + "".join(f'<c t="inlineStr"><is><t>{c}</t></is></c>' for c in row) + "</row>" for row in rows
    )
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "xl/worksheets/sheet1.xml", f"{prefix}<worksheet {space}><sheetData>{cells}</sheetData></worksheet>"
        )
        if shared:
            archive.writestr("xl/sharedStrings.xml", shared)
    return out.getvalue()


def shown(plan: Plan) -> dict[str, tuple]:
    (event,) = plan.events
    return {p.name: (p.types, p.required, p.enum) for p in event.properties}


WANTED = {
    "id": (("string",), True, None),
    "total": (("null", "number"), False, None),
    "state": (("any",), False, ('"new"', "1", "true", "null")),
    "lines": (("array",), False, None),
    "lines[]": (("object",), False, None),
    "lines[].sku": (("string",), False, None),
}


def test_the_same_plan_in_every_kind_of_json_is_one():
    old = {"name": "workspaces/w/tracking-plans/rs_1", "display_name": "Shop",
           "rules": {"events": [{"name": "Order Placed", "version": 1, "rules": whole(ORDER)}]}}  # fmt: skip
    rudder = {"name": "Shop", "events": [{"name": "Order Placed", "eventType": "track", "rules": whole(ORDER)}]}
    plans = [
        parse(data, "plan.json")
        for data in (
            segment(whole(ORDER)),
            segment(ORDER),
            b'{"data": {"trackingPlan": ' + segment(whole(ORDER)) + b"}}",
            json.dumps(old).encode(),
            json.dumps(rudder).encode(),
        )
    ]
    assert [shown(p) for p in plans] == [WANTED] * 5
    assert len({p.version for p in plans}) == 1
    assert [p.id for p in plans] == ["tp_1", "tp_1", "tp_1", "rs_1", ""]


def test_rules_of_people_are_traits_and_deprecation_is_told():
    schema = {
        "type": "object",
        "properties": {"traits": {"properties": {"email": {"type": "string", "format": "email"}}}},
    }
    plan = parse(segment(schema, type="IDENTIFY", key="", deprecatedAt="2024-01-01T00:00:00.000Z"), "p.json")
    (event,) = plan.events
    assert (event.type, event.deprecated, event.properties[0].section) == ("identify", True, "traits")
    assert not parse(segment(ORDER, deprecatedAt="0001-01-01T00:00:00.000Z"), "p.json").events[0].deprecated
    closed = parse(segment(whole({**ORDER, "additionalProperties": False})), "p.json").events[0]
    assert not closed.allows_unplanned


def test_references_and_parts_are_followed():
    schema = {
        "definitions": {"id": {"type": "string"}},
        "properties": {
            "order": {"allOf": [{"properties": {"id": {"$ref": "#/definitions/id"}}}, {"required": ["id"]}]}
        },
    }
    assert shown(parse(segment(schema), "p.json"))["order.id"] == (("string",), True, None)


def test_differences_are_readable():
    new = json.loads(json.dumps(ORDER))
    new["required"] = ["id", "total"]
    new["properties"]["id"]["pattern"] = "^p-"
    del new["properties"]["state"]
    new["properties"]["note"] = {"type": "string"}
    before, after = parse(segment(ORDER), "a.json"), parse(segment(new), "b.json")
    assert before.version != after.version
    assert [(d.kind, d.property, d.text) for d in differences(before, after)] == [
        ("changed", "id", "pattern: ^o- → ^p-"),
        ("added", "note", "string, optional"),
        ("removed", "state", "no longer planned"),
        ("changed", "total", "required: no → yes"),
    ]
    assert [d.kind for d in differences(Plan(name="", source="plain"), after)] == ["added"]
    assert differences(after, after) == []


AMPLITUDE = {
    "Object type": "Event",
    "Object name": "Order Placed",
    "Event property name": "",
    "Property value type": "",
    "Property required": "",
    "Property is array": "",
    "Enum values": "",
    "Number is integer": "",
    "Action": "",
}


def test_amplitude_rows_repeat_the_event_or_leave_it_blank():
    plan = parse(
        table(
            AMPLITUDE,
            {**AMPLITUDE, "Event property name": "id", "Property value type": "string", "Property required": "True"},
            {**AMPLITUDE, "Object name": "", "Event property name": "state", "Property value type": "enum",
             "Enum values": 'new, "a, b"'},
            {**AMPLITUDE, "Event property name": "n", "Property value type": "number", "Number is integer": "True"},
            {**AMPLITUDE, "Object name": "Gone", "Action": "Remove"},
        ),
        "plan.csv",
    )  # fmt: skip
    assert shown(plan) == {
        "id": (("string",), True, None),
        "state": (("string",), False, ('"new"', '"a, b"')),
        "n": (("integer",), False, None),
    }


def test_plain_columns_in_csv_and_xlsx_are_the_same_plan():
    rows = [
        ["event", "property", "type", "required"],
        ["Order", "lines[].sku", "string|null", "yes"],
        ["", "id", "", ""],
    ]
    text = "\n".join(",".join(r) for r in rows).encode()
    plans = [parse(text, "plan.csv"), parse(workbook(*rows), "plan.xlsx")]
    assert shown(plans[0]) == {"lines[].sku": (("null", "string"), True, None), "id": (("any",), False, None)}
    assert plans[0] == plans[1]


BAD = {
    "not JSON": (b'{\n"a": }', "p.json", "p.json, line 2: is not JSON"),
    "deep": (b"[" * 100_000, "p.json", "is not JSON that can be read"),
    "not UTF-8": (b'{"a": "\xff"}', "p.json", "byte 7"),
    "no plan": (b'{"a": 1}', "p.json", "is no tracking plan"),
    "type": (segment({"properties": {"a/b": {"type": "text"}}}), "p.json", "/rules/0/jsonSchema/properties/a~1b/type"),
    "loop": (segment({"properties": {"a": {"$ref": "#/properties/a"}}}), "p.json", "refers to itself"),
    "self": (segment({"properties": {"a": {"$ref": "#"}}}), "p.json", "nested deeper than 24 levels"),
    "elsewhere": (segment({"properties": {"a": {"$ref": "https://x.example/"}}}), "p.json", "another document"),
    "no name": (segment({}, key=""), "p.json", "/rules/0/key"),
    "boolean": (b"event,property,required\nA,b,maybe\n", "p.csv", "p.csv, row 2: required is 'maybe'"),
    "no event": (b"event,property\n,b\n", "p.csv", "row 2: names no event"),
    "twice": (b"event,property\nA,b\nA,b\n", "p.csv", "row 3: 'A' has the property 'b' twice"),
    "too wide": (b"event,property\nA,b,c,d\n", "p.csv", "row 2: has 4 cells"),
    "columns": (b"name,kind\nA,b\n", "p.csv", "lacks the columns event, property"),
    "empty": (b"\n\n", "p.csv", "is empty"),
    "no zip": (b"PK\x03\x04rest", "p.xlsx", "is no XLSX file"),
    "entity": (
        workbook(["event"], prefix='<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'),
        "p.xlsx",
        "entities",
    ),
    "bomb": (workbook(["event"], shared="<a>" + "0" * 5_000_000 + "</a>"), "p.xlsx", "zip bomb"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_with_its_place(case):
    data, file, words = BAD[case]
    with pytest.raises(ConfigurationError) as caught:
        parse(data, file)
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.shared
def test_published_plans_are_read_whole():
    if not SHARED.exists():
        pytest.skip("the sample data is not here")
    old, new = (parse((SHARED / "segment" / f"plan_{n}.json").read_bytes(), n) for n in ("protocols_v1", "public_api"))
    names = {e.name for e in new.events}
    assert (len(old.events), len(new.events)) == (24, 25)
    assert "42_--terrible==\\\"event'++name~!3" in names
    assert {e.name for e in old.events} - names == {f"Property Object Name Collision #{n}" for n in (1, 2)}
    same = {e.name: e.properties for e in old.events}
    shared = [e for e in new.events if e.name in same]
    assert all({p.path for p in e.properties} == {p.path for p in same[e.name]} for e in shared)
    assert len(shared) == 22
    for file in (SHARED / "iglu").rglob("*-*-*"):
        (event,) = parse(file.read_bytes(), file.name).events
        assert event.version == file.name
        assert event.properties
