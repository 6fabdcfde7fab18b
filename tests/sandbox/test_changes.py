"""Changes, schema changes, faults at the door, quota, and what survives a restart."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests

from .conftest import SHARED, Sandbox


def count(sandbox, where="", route="query", name="Contact"):
    return sandbox.query(f"SELECT COUNT() FROM {name} {where}", route).json()["totalSize"]


def change(sandbox, **wanted):
    return sandbox.control("change", {"object": "Contact", **wanted})["ids"]


def test_changes_are_exactly_those_reported(sandbox):
    before, start = count(sandbox), sandbox.control("change", {"object": "Lead", "update": 1})["at"]
    ids = change(sandbox, update=10, new=5, delete=3, purge=2)
    assert {k: len(v) for k, v in ids.items()} == {"update": 10, "new": 5, "delete": 3, "purge": 2}
    moved = {r["Id"] for r in sandbox.rows(f"SELECT Id FROM Contact WHERE SystemModstamp > {start}", "queryAll")}
    assert moved == {*ids["update"], *ids["new"], *ids["delete"]}
    gone = sandbox.control("records", object="Contact", ids=",".join(ids["purge"]))
    assert gone == {"records": []}
    assert count(sandbox) == before + 5 - 3 - (2 if before else 0) or count(sandbox) == before + 5 - 3


def test_changes_are_repeatable(sandbox):
    first = change(sandbox, update=5, delete=5)
    sandbox.control("reset", {"data": True})
    assert change(sandbox, update=5, delete=5) == first


def test_delete_undelete_purge(sandbox):
    (victim,) = change(sandbox, delete=1)["delete"]
    assert count(sandbox, f"WHERE Id = '{victim}'") == 0
    assert count(sandbox, f"WHERE Id = '{victim}' AND IsDeleted = true", "queryAll") == 1
    assert change(sandbox, undelete=[victim])["undelete"] == [victim]
    assert count(sandbox, f"WHERE Id = '{victim}'") == 1
    change(sandbox, purge=1, keys=[victim])
    assert count(sandbox, f"WHERE Id = '{victim}'", "queryAll") == 0


def test_a_delete_may_leave_the_stamp_alone(sandbox):
    sandbox.control("settings", {"delete_moves_stamp": False})
    some = sandbox.rows("SELECT Id, SystemModstamp FROM Contact LIMIT 1")[0]
    change(sandbox, delete=[some["Id"]])
    after = sandbox.rows(f"SELECT SystemModstamp FROM Contact WHERE Id = '{some['Id']}'", "queryAll")[0]
    assert after["SystemModstamp"] == some["SystemModstamp"]


def test_backdated_rows_and_exact_values(sandbox):
    (made,) = change(sandbox, new=1, months_ago=14)["new"]
    row = sandbox.rows(f"SELECT CreatedDate, SystemModstamp FROM Contact WHERE Id = '{made}'")[0]
    age = datetime.now(UTC) - datetime.strptime(row["SystemModstamp"], "%Y-%m-%dT%H:%M:%S.%f%z")
    assert 400 < age.days < 450
    values = {"Title": "Chef d'équipe", "Visits__c": 7, "Birthdate": None, "HasOptedOutOfEmail": True,
              "SystemModstamp": "2030-01-02T03:04:05.678Z"}  # fmt: skip
    change(sandbox, set={made: values})
    fields = ", ".join(values)
    row = sandbox.rows(f"SELECT {fields} FROM Contact WHERE Id = '{made}'")[0]
    assert {k: row[k] for k in values} == {**values, "SystemModstamp": "2030-01-02T03:04:05.678+0000"}


def test_users_cannot_be_deleted(sandbox):
    answer = sandbox.http.post(f"{sandbox.url}/_sandbox/change", json={"object": "User", "delete": 1})
    assert answer.status_code == 400
    assert "IsDeleted" not in [f["name"] for f in sandbox.api("/sobjects/User/describe").json()["fields"]]


def test_deleted_and_updated_lists(sandbox):
    ids = change(sandbox, delete=3, purge=1, update=2)
    client = sandbox.salesforce()
    start, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    listed = client.Contact.deleted(start, end)
    assert {*ids["delete"], *ids["purge"]} <= {r["id"] for r in listed["deletedRecords"]}
    assert set(listed) == {"deletedRecords", "earliestDateAvailable", "latestDateCovered"}
    assert set(ids["update"]) <= set(client.Contact.updated(start, end)["ids"])
    sandbox.control("settings", {"deleted_days": 2, "deleted_limit": 1})
    refused = sandbox.api("/sobjects/Contact/deleted/", params={"start": start.isoformat(), "end": end.isoformat()})
    assert refused.json()[0]["errorCode"] == "EXCEEDED_ID_LIMIT"
    old = (datetime.now(UTC) - timedelta(days=20)).isoformat()
    refused = sandbox.api("/sobjects/Contact/deleted/", params={"start": old, "end": end.isoformat()})
    assert refused.status_code == 400


# -- schema


def test_describe_has_the_keys_of_real_ones(sandbox):
    client = sandbox.salesforce()
    document = client.Contact.describe()
    assert len(document["fields"][0]) == 57
    by_name = {f["name"]: f for f in document["fields"]}
    assert by_name["MailingAddress"]["type"] == "address"
    assert by_name["MailingCity"]["compoundFieldName"] == "MailingAddress"
    assert by_name["AccountId"]["referenceTo"] == ["Account"]
    assert by_name["Account_Industry__c"]["calculated"] is True
    names = {o["name"]: o for o in client.describe()["sobjects"]}
    assert "Secret__c" not in names
    assert names["AccountChangeEvent"]["queryable"] is False
    assert client.Contact.metadata()["objectDescribe"]["name"] == "Contact"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="sample data is not here")
@pytest.mark.parametrize("name", ["Account", "Contact", "Lead", "Opportunity", "Case"])
def test_describe_against_recorded_ones(sandbox, name):
    recorded = json.loads((SHARED / "describe" / f"{name}.json").read_text())
    ours = sandbox.api(f"/sobjects/{name}/describe").json()
    assert set(recorded) <= set(ours) | {"associateEntityType", "associateParentEntity"}
    theirs = {f["name"]: f for f in recorded["fields"]}
    for field in ours["fields"]:
        assert set(field) == set(recorded["fields"][0])
        if field["name"] in theirs:
            assert field["type"] == theirs[field["name"]]["type"], field["name"]
            assert field["soapType"] == theirs[field["name"]]["soapType"], field["name"]


def test_conditional_describe(sandbox):
    first = sandbox.api("/sobjects/Contact/describe")
    again = sandbox.api("/sobjects/Contact/describe", headers={"If-Modified-Since": first.headers["Last-Modified"]})
    assert (again.status_code, again.content) == (304, b"")


def test_field_level_security_looks_like_a_missing_column(sandbox):
    sandbox.control("fields", {"object": "Contact", "hide": ["Title"]})
    assert "Title" not in [f["name"] for f in sandbox.api("/sobjects/Contact/describe").json()["fields"]]
    assert sandbox.error("SELECT Title FROM Contact")[0] == "INVALID_FIELD"
    assert sandbox.error("SELECT Id FROM Contact WHERE Title = 'x'")[0] == "INVALID_FIELD"
    assert sandbox.error("SELECT Contact.Title FROM Case")[0] == "INVALID_FIELD"
    sandbox.control("fields", {"object": "Contact", "show": ["Title"]})
    assert sandbox.query("SELECT Title FROM Contact").ok


def test_hidden_object_new_field_and_changed_type(sandbox):
    sandbox.control("fields", {"object": "Lead", "hide_object": True})
    assert sandbox.error("SELECT Id FROM Lead")[0] == "INVALID_TYPE"
    assert sandbox.api("/sobjects/Lead/describe").status_code == 404
    sandbox.control("fields", {"object": "Contact", "add": {"Tier__c": {"type": "double", "value": 2.5}}})
    sandbox.control("fields", {"object": "Contact", "change": {"AssistantName": {"type": "int", "length": 0}}})
    row = sandbox.rows("SELECT Tier__c, AssistantName FROM Contact LIMIT 1")[0]
    assert (row["Tier__c"], row["AssistantName"]) == (2.5, None)
    made = change(sandbox, new=1)["new"][0]
    assert count(sandbox, f"WHERE Id = '{made}' AND Tier__c > 2") == 1
    sandbox.control("fields", {"reset": True})
    assert sandbox.error("SELECT Tier__c FROM Contact")[0] == "INVALID_FIELD"
    assert sandbox.query("SELECT Id FROM Lead LIMIT 1").ok


# -- faults at the door and quota


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ({"status": 503, "count": 2}, 503),
        ({"status": 429, "count": 2}, 429),
        ({"status": {"status": 500, "count": 2, "body": "none"}}, 500),
        ({"html_error": 2}, 503),
    ],
)
def test_edge_troubles_end(sandbox, fault, status):
    sandbox.control("faults", fault)
    answers = [sandbox.query("SELECT Id FROM User LIMIT 1") for _ in range(3)]
    assert [a.status_code for a in answers] == [status, status, 200]
    assert all("Retry-After" not in a.headers for a in answers)


def test_faults_on_one_kind_only(sandbox):
    sandbox.control("faults", {"status": {"status": 503, "on": "describe"}})
    assert sandbox.query("SELECT Id FROM User LIMIT 1").ok
    assert sandbox.api("/sobjects/User/describe").status_code == 503


def test_permission_faults(sandbox):
    sandbox.control("faults", {"api_disabled": True})
    assert sandbox.query("SELECT Id FROM User").json()[0]["errorCode"] == "API_DISABLED_FOR_ORG"
    sandbox.control("reset", {})
    sandbox.control("faults", {"concurrent": 1, "unreadable": "Case"})
    assert "ConcurrentRequests" in sandbox.query("SELECT Id FROM User").json()[0]["message"]
    assert sandbox.error("SELECT Id FROM Case")[0] == "INVALID_TYPE"


def test_a_mistyped_fault_is_refused(sandbox):
    answer = sandbox.http.post(f"{sandbox.url}/_sandbox/faults", json={"cut_pgae": 1})
    assert answer.status_code == 400
    assert "cut_page" in answer.text


def test_always_401(sandbox):
    sandbox.control("faults", {"always_401": True})
    assert sandbox.api("/limits").status_code == 401


def test_usage_rises_to_the_limit_then_403(sandbox):
    sandbox.control("quota", {"max": 20, "used": 18})
    used = [sandbox.api("/limits").headers["Sforce-Limit-Info"] for _ in range(2)]
    assert used == ["api-usage=19/20", "api-usage=20/20"]
    answer = sandbox.api("/limits")
    assert answer.status_code == 403
    assert answer.json()[0]["errorCode"] == "REQUEST_LIMIT_EXCEEDED"
    assert "Retry-After" not in answer.headers
    sandbox.control("quota", {"max": 100})
    sandbox.control("settings", {"app_name": "novade"})
    assert sandbox.api("/limits").headers["Sforce-Limit-Info"].endswith("(appName=novade)")


def test_limits_show_the_usage(sandbox):
    sandbox.control("quota", {"max": 1000, "used": 500})
    assert sandbox.api("/limits").json()["DailyApiRequests"] == {"Max": 1000, "Remaining": 499}


# -- the process


def test_a_restart_changes_nothing(tmp_path):
    first = Sandbox(tmp_path, "--size", "200")
    try:
        first.control("change", {"object": "Contact", "update": 20, "delete": 5, "new": 7, "purge": 2})
        first.control("fields", {"object": "Contact", "hide": ["Title"]})
        wanted = "SELECT Id, Name, SystemModstamp, IsDeleted FROM Contact ORDER BY Id"
        before, ca = first.rows(wanted, "queryAll"), (tmp_path / "ca.pem").read_bytes()
    finally:
        assert first.stop() == 0
    assert not (tmp_path / "sandbox.json").exists()
    assert (tmp_path / "secrets.toml").stat().st_mode & 0o777 == 0o600
    for database in (None, *tmp_path.glob("*.duckdb")):
        # The second time the cached database is lost too: seed and journal bring everything back.
        if database is not None:
            database.unlink()
        again = Sandbox(tmp_path)
        try:
            assert again.about["size"] == 200
            assert again.rows(wanted, "queryAll") == before
            assert again.error("SELECT Title FROM Contact")[0] == "INVALID_FIELD"
            assert (tmp_path / "ca.pem").read_bytes() == ca
        finally:
            again.stop()


def test_a_torn_journal_line_never_happened(tmp_path):
    first = Sandbox(tmp_path, "--size", "50")
    first.control("change", {"object": "Contact", "delete": 2})
    left = count(first)
    first.process.kill()
    first.process.wait()
    (journal,) = tmp_path.glob("journal-*.jsonl")
    with journal.open("a") as out:
        out.write('{"seq": 2, "kind": "del')
    again = Sandbox(tmp_path)
    assert count(again) == left
    again.control("change", {"object": "Contact", "delete": 1})
    assert count(again) == left - 1
    again.stop()


def test_one_sandbox_per_folder(running):
    command = [sys.executable, "-m", "sandbox", "serve", "--dir", str(running.folder), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 3
    assert "already running" in second.stderr


def test_it_ends_with_its_parent(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child = Sandbox(tmp_path, "--size", "10", "--parent-pid", str(parent.pid))
    parent.kill()
    parent.wait()
    assert child.process.wait(timeout=4) == 0


def test_it_stops_quickly_in_the_middle_of_a_request(tmp_path):
    made = Sandbox(tmp_path, "--size", "200")
    made.control("faults", {"slow": 30})
    made._token = "any"

    def wait_for_an_answer():
        with contextlib.suppress(requests.RequestException):
            made.query("SELECT Id FROM User")

    waiting = threading.Thread(target=wait_for_an_answer)
    waiting.start()
    time.sleep(0.3)
    began = time.monotonic()
    os.kill(made.process.pid, signal.SIGTERM)
    assert made.process.wait(timeout=5) == 0
    assert time.monotonic() - began < 2
    waiting.join()


# -- orgs from folders


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="sample data is not here")
@pytest.mark.parametrize(
    ("folder", "name", "rows", "fields"),
    [
        ("npsp_dev_org", "Opportunity", 342, {"StageName", "CloseDate", "Amount", "dont_create_payments__c"}),
        ("cumulusci_dataset", "Contact", 97, {"Birthdate", "AccountId"}),
        ("fivetran_seeds", "Account", 10, {"BillingCity", "IsDeleted", "AnnualRevenue"}),
        ("sfdx_tree/coralcloud", "Contact", 156, {"External_Id__c", "Birthdate"}),
        ("sfdx_tree/easyspaces", "Contact", 12, {"AccountId"}),
        ("sfdx_tree/ecars", "Case", 1, {"ContactId"}),
        ("sfdx_tree/ebikes", "Account", 3, {"BillingStreet"}),
    ],
)
def test_orgs_from_folders(tmp_path, folder, name, rows, fields):
    made = Sandbox(tmp_path, "--org", str(SHARED / folder))
    try:
        names = {f["name"] for f in made.api(f"/sobjects/{name}/describe").json()["fields"]}
        assert fields | {"Id", "CreatedDate", "SystemModstamp"} <= names
        assert count(made, "", "queryAll", name) == rows
        idmap = made.control("idmap", object=name)
        assert len(idmap) == rows
        if folder == "npsp_dev_org":
            assert count(made, "WHERE StageName = 'Closed Won'", name="Opportunity") == 294
            for child, link, parent in [("Contact", "AccountId", "Account"), ("CampaignMember", "ContactId", "Contact"),
                                        ("OpportunityContactRole", "OpportunityId", "Opportunity")]:  # fmt: skip
                ids = {r["Id"] for r in made.rows(f"SELECT Id FROM {parent}")}
                assert {r[link] for r in made.rows(f"SELECT {link} FROM {child}")} <= ids
            made.control("change", {"object": "Opportunity", "update": 3, "new": 2, "delete": 1})
            assert count(made, name="Opportunity") == 343
    finally:
        made.stop()


def test_an_impossible_change_leaves_no_trace(sandbox):
    some = sandbox.rows("SELECT Id FROM Contact LIMIT 1")[0]["Id"]
    wanted = {"object": "Contact", "set": {some: {"Visits__c": "many"}}}
    assert sandbox.http.post(f"{sandbox.url}/_sandbox/change", json=wanted).status_code == 400
    assert sandbox.control("health")["journal"] == 0
    change(sandbox, update=1)
    assert sandbox.control("health")["journal"] == 1
