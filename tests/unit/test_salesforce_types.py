"""From describe to columns: every field type, what is skipped and why, and what must not be hidden."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from novade_core.errors import ConfigurationError
from novade_core.sources.salesforce.types import column, is_name, schema
from novade_core.streams import Column, ColumnType, Stream

CONTACT = Stream(
    source="salesforce",
    name="contact",
    label="Salesforce Contact",
    object_name="Contact",
    primary_key=("Id",),
    cursor_field="SystemModstamp",
    created_field="CreatedDate",
    deleted_field="IsDeleted",
    version_field="SystemModstamp",
)


def field(type_: str, name: str = "X__c", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, "length": 0, "precision": 0, "scale": 0, "calculated": False, **more}


NEEDED = [
    field("id", "Id", length=18),
    field("datetime", "SystemModstamp"),
    field("datetime", "CreatedDate"),
    field("boolean", "IsDeleted"),
]


def made(described: dict[str, Any]) -> Column:
    result = column(described)
    assert isinstance(result, Column)
    return result


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("boolean", ColumnType.BOOLEAN),
        ("int", ColumnType.INTEGER),
        ("long", ColumnType.BIGINT),
        ("double", ColumnType.DOUBLE),
        ("percent", ColumnType.DOUBLE),
        ("date", ColumnType.DATE),
        ("datetime", ColumnType.TIMESTAMP),
        ("time", ColumnType.TIME),
        ("json", ColumnType.JSON),
        *(
            (name, ColumnType.TEXT)
            for name in "id reference string textarea picklist multipicklist combobox email phone url encryptedstring "
            "anyType complexvalue masterrecord datacategorygroupreference".split()
        ),
    ],
)
def test_a_field_type_has_one_column_type(type_, expected):
    assert made(field(type_)) == Column(name="X__c", type=expected)


def test_text_keeps_the_sources_length():
    assert made(field("string", length=80)).length == 80
    assert made(field("string", length=0)).length is None
    assert made({"name": "X", "type": "string", "length": None}).length is None


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (field("currency", precision=18, scale=2), (ColumnType.DECIMAL, 18, 2)),
        (field("currency", precision=38, scale=0), (ColumnType.DECIMAL, 38, 0)),
        (field("currency", precision=18, scale=2, calculated=True), (ColumnType.DOUBLE, None, None)),
        (field("currency", precision=0, scale=0), (ColumnType.DOUBLE, None, None)),
        (field("currency", precision=39, scale=2), (ColumnType.DOUBLE, None, None)),
        (field("currency", precision=2, scale=3), (ColumnType.DOUBLE, None, None)),
        ({"name": "X__c", "type": "currency"}, (ColumnType.DOUBLE, None, None)),
    ],
)
def test_only_a_stored_amount_is_an_exact_decimal(described, expected):
    found = made(described)
    assert (found.type, found.precision, found.scale) == expected


@pytest.mark.parametrize("type_", ["string", "double", "boolean", "currency", "date"])
def test_a_formula_says_that_its_changes_are_silent(type_):
    assert "does not move SystemModstamp" in made(field(type_, calculated=True, precision=18, scale=2)).note
    assert made(field(type_, precision=18, scale=2)).note == ""


def test_an_unknown_type_is_text_with_a_note():
    found = made(field("hologram", length=9))
    assert (found.type, found.length, found.note) == (ColumnType.TEXT, 9, "unknown type hologram, kept as text")


@pytest.mark.parametrize(
    ("type_", "reason"), [("address", "compound"), ("location", "compound"), ("base64", "file content")]
)
def test_what_cannot_be_loaded_is_skipped_with_its_reason(type_, reason):
    assert reason in column(field(type_))
    described = schema(CONTACT, [*NEEDED, field(type_)])
    assert described.names() == ("Id", "SystemModstamp", "CreatedDate", "IsDeleted")
    assert reason in described.skipped["X__c"]


def test_a_hidden_field_is_skipped():
    assert column(field("string", deprecatedAndHidden=True)) == "deprecated and hidden"


def test_columns_stand_in_the_order_of_describe():
    fields = [field("string", "B"), *NEEDED, field("int", "A")]
    assert schema(CONTACT, fields).names() == ("B", "Id", "SystemModstamp", "CreatedDate", "IsDeleted", "A")


@pytest.mark.parametrize("name", ["Id", "SystemModstamp", "CreatedDate", "IsDeleted"])
def test_a_field_that_the_sync_needs_must_not_be_hidden(name):
    with pytest.raises(ConfigurationError, match=f"Contact shows no field {name}, which the sync needs") as refused:
        schema(CONTACT, [f for f in NEEDED if f["name"] != name])
    assert refused.value.origin_of_fault == "source"
    assert "read access" in refused.value.hint


def test_a_needed_field_of_a_type_that_is_skipped_is_hidden_too():
    with pytest.raises(ConfigurationError, match="no field IsDeleted"):
        schema(CONTACT, [*NEEDED[:3], field("base64", "IsDeleted")])


def test_only_the_listed_fields_are_loaded_and_those_that_the_sync_needs():
    few = replace(CONTACT, fields=("Name",))
    described = schema(few, [*NEEDED, field("string", "Name"), field("string", "Phone")])
    assert described.names() == ("Id", "SystemModstamp", "CreatedDate", "IsDeleted", "Name")
    assert described.skipped == {"Phone": "not among the stream's fields"}


def test_a_listed_field_that_is_not_shown_is_named():
    with pytest.raises(ConfigurationError, match=r"no field Nmae, which novade\.toml lists"):
        schema(replace(CONTACT, fields=("Nmae",)), NEEDED)


def test_a_listed_field_that_cannot_be_loaded_is_skipped_and_not_missing():
    described = schema(replace(CONTACT, fields=("X__c",)), [*NEEDED, field("address")])
    assert "compound" in described.skipped["X__c"]


def test_a_name_that_is_none_never_enters_a_statement():
    described = schema(CONTACT, [*NEEDED, field("string", "Robert'); --")])
    assert described.skipped == {"Robert'); --": "not an API name"}


@pytest.mark.parametrize("name", ["Id", "X__c", "ns__X__c", "A1", "a" * 80])
def test_names(name):
    assert is_name(name)


@pytest.mark.parametrize("name", [None, "", "1A", "_A", "a b", "a'b", 'a"b', "a;b", "ä", "a.b", "a\n", "a" * 81])
def test_no_names(name):
    assert not is_name(name)


@pytest.mark.shared
def test_real_descriptions_become_columns(shared: Path):
    files = [f for f in sorted((shared / "salesforce" / "describe").glob("*.json")) if not f.name.startswith("_")]
    assert len(files) >= 6
    for file in files:
        fields = json.loads(file.read_text(encoding="utf-8"))["fields"]
        described = schema(replace(CONTACT, object_name=file.stem), fields)
        assert len(described.columns) + len(described.skipped) == len(fields)
        assert set(described.skipped.values()) <= {column(f) for f in fields if not isinstance(column(f), Column)}
        kinds = {f["name"]: f["type"] for f in fields}
        assert not any(c.note.startswith("unknown type") for c in described.columns)
        assert all(kinds[name] in ("address", "location", "base64") for name in described.skipped)
        for c in described.columns:
            if c.type is ColumnType.DECIMAL:
                assert kinds[c.name] == "currency"
