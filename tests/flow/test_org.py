"""Real orgs: every value in the warehouse equals the file's, field by field."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from novade_core.ledger.models import RunState
from tests.homes import Home, Sandbox

pytestmark = pytest.mark.shared

#: Labels of the file and the fields that they became at the stand-in.
NAMES = {
    "name": "Name",
    "amount": "Amount",
    "stage_name": "StageName",
    "close_date": "CloseDate",
    "status": "Status",
    "dont_create_payments": "dont_create_payments__c",
}


def value(text: str, here: Any, ids: dict[str, str]) -> Any:
    """The file's text as the type that the warehouse holds."""
    if text == "":
        return None
    if isinstance(here, bool):
        return text == "True"
    if isinstance(here, float):
        return float(text)
    if isinstance(here, int):
        return int(float(text))
    if isinstance(here, Decimal):
        return Decimal(text)
    if isinstance(here, date):
        return date.fromisoformat(text)
    return ids.get(text, text)


@pytest.mark.parametrize("rows", [0, 1_000_000], ids=["bulk", "rest"])
def test_npsp_dev_org_arrives_field_by_field(
    rows: int, shared: Path, sandboxes: Callable[..., Sandbox], tmp_path: Path
) -> None:
    folder = shared / "salesforce" / "npsp_dev_org"
    sandbox = sandboxes(10, folder)
    objects = ["Account", "Contact", "Opportunity", "OpportunityContactRole", "Campaign", "CampaignMember"]
    snake = {name: "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_") for name in objects}
    streams = "\n".join(f'"salesforce.{snake[name]}" = {{}}' for name in objects)
    home = Home.make(tmp_path, sandbox, salesforce=f"bulk_from_rows = {rows}", streams=streams)
    ids = {name: sandbox.call("GET", f"/_sandbox/idmap?object={name}") for name in objects}
    # {"ids": {...}} or the plain map
    ids = {name: answer.get("ids", answer) for name, answer in ids.items()}
    references = {
        "AccountId": "Account", "ContactId": "Contact", "OpportunityId": "Opportunity", "CampaignId": "Campaign",
        "Primary_Contact__c": "Contact", "Primary_Affiliation__c": "Account",
    }  # fmt: skip
    compared = 0
    for name in objects:
        outcome = home.sync(f"salesforce.{snake[name]}")
        assert outcome.state is RunState.SUCCEEDED, outcome.headline
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            records = list(csv.DictReader(file))
        table = home.query(f"SELECT * FROM salesforce.{snake[name]}")
        columns = [
            row[0]
            for row in home.query(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'salesforce' "
                "AND table_name = ? ORDER BY ordinal_position",
                snake[name],
            )
        ]
        by_id = {row[columns.index("Id")]: dict(zip(columns, row, strict=True)) for row in table}
        assert len(table) == len(records)
        assert outcome.counts["source_count"] == outcome.counts["warehouse_count"] == len(records)
        for record in records:
            here = by_id[ids[name][record["id"]]]
            for label, text in record.items():
                if label == "id":
                    continue
                field = NAMES.get(label, label)
                target = references.get(label)
                known = ids[target] if target else {}
                assert here[field] == value(text, here[field], known), (name, record["id"], label)
                compared += 1
    assert compared > 9_000


def test_json_orgs_arrive(shared: Path, sandboxes: Callable[..., Sandbox], tmp_path: Path) -> None:
    folder = shared / "salesforce" / "sfdx_tree" / "coralcloud"
    sandbox = sandboxes(10, folder)
    home = Home.make(tmp_path, sandbox, streams='"salesforce.contact" = {}\n"salesforce.case" = {}')
    assert home.sync("salesforce.case").state is RunState.SUCCEEDED
    outcome = home.sync("salesforce.contact")
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    records = json.loads((folder / "data-Contact.json").read_text())["records"]
    names = sorted(
        {key for record in records for key in record if key not in ("attributes",) and "@" not in str(record[key])}
    )
    listed = ", ".join(f'"{name}"' for name in names)
    here = home.query(f"SELECT {listed} FROM salesforce.contact")

    def plain(item: Any) -> str:
        return item.isoformat() if isinstance(item, date) else "" if item is None else str(item)

    wanted = sorted(tuple(plain(record.get(name)) for name in names) for record in records)
    assert sorted(tuple(plain(item) for item in row) for row in here) == wanted
