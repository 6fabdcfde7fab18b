"""SOQL over REST: shapes, rules and refusals."""

from __future__ import annotations

import re

import pytest


def total(sandbox, soql, route="query"):
    return sandbox.query(soql, route).json()["totalSize"]


def test_count_and_count_id_have_different_shapes(sandbox):
    plain = sandbox.query("SELECT COUNT() FROM Contact").json()
    assert plain["records"] == []
    assert plain["totalSize"] > 2500
    row = sandbox.query("SELECT COUNT(Id) FROM Contact").json()
    assert row["totalSize"] == 1
    assert row["records"] == [{"attributes": {"type": "AggregateResult"}, "expr0": plain["totalSize"]}]


def test_pages_are_opaque_uneven_and_complete(sandbox):
    first = sandbox.query("SELECT Id FROM Contact").json()
    assert first["done"] is False
    assert re.fullmatch(r"/services/data/v60\.0/query/0r8\w{15}", first["nextRecordsUrl"])
    rows = sandbox.rows("SELECT Id FROM Contact")
    assert len({r["Id"] for r in rows}) == first["totalSize"] == len(rows)


def test_page_size_is_a_hint_between_200_and_2000(sandbox):
    def first(size):
        return len(sandbox.api("/query", params={"q": "SELECT Id FROM Contact"},
                               headers={"Sforce-Query-Options": f"batchSize={size}"}).json()["records"])  # fmt: skip

    assert [first(1), first(500), first(90_000)] == [200, 500, 2000]


def test_old_locator_form(sandbox):
    sandbox.control("settings", {"locator_form": "01g"})
    url = sandbox.query("SELECT Id FROM Contact").json()["nextRecordsUrl"]
    assert re.search(r"/01g\w{15}-2000$", url)
    assert sandbox.api(url).json()["done"] is True


def test_expired_locator(sandbox):
    url = sandbox.query("SELECT Id FROM Contact").json()["nextRecordsUrl"]
    sandbox.control("settings", {"locator_seconds": 0})
    answer = sandbox.api(url)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "INVALID_QUERY_LOCATOR")


def test_a_cursor_does_not_move_while_the_org_changes(sandbox):
    before = sandbox.query("SELECT Id, SystemModstamp FROM Contact ORDER BY Id").json()
    sandbox.control("change", {"object": "Contact", "update": 400, "delete": 200, "new": 50})
    rest = sandbox.api(before["nextRecordsUrl"]).json()
    ids = [r["Id"] for r in before["records"] + rest["records"]]
    assert len(ids) == len(set(ids)) == before["totalSize"]
    assert ids == sorted(ids, key=str.lower) or ids == sorted(ids)


def test_query_all_sees_deleted_rows_and_archived_tasks(sandbox):
    assert total(sandbox, "SELECT COUNT() FROM Contact WHERE IsDeleted = true") == 0
    assert total(sandbox, "SELECT COUNT() FROM Contact WHERE IsDeleted = true", "queryAll") > 10
    assert total(sandbox, "SELECT COUNT() FROM Task WHERE IsArchived = true") == 0
    assert total(sandbox, "SELECT COUNT() FROM Task WHERE IsArchived = true", "queryAll") > 5
    assert total(sandbox, "SELECT COUNT() FROM Contact WHERE MasterRecordId != null", "queryAll") > 5


def test_records_in_rest_form(sandbox):
    row = sandbox.rows(
        "SELECT id, name, account.name, Account.Owner.Username, MailingAddress, CREATEDDATE, Birthdate, Home__c, "
        "Preferred_Time__c, Lifetime_Value__c FROM contact WHERE AccountId != null AND Preferred_Time__c != null "
        "AND MailingCity != null AND Home__c_x = null LIMIT 1".replace("AND Home__c_x = null ", "")
    )[0]
    assert row["attributes"]["type"] == "Contact"
    assert row["attributes"]["url"].endswith(row["Id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", row["CreatedDate"])
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}Z", row["Preferred_Time__c"])
    assert set(row["MailingAddress"]) == {
        "city", "country", "geocodeAccuracy", "latitude", "longitude", "postalCode", "state", "street",
    }  # fmt: skip
    assert row["Account"]["attributes"]["type"] == "Account"
    assert row["Account"]["Owner"]["Username"].endswith("@novade.sandbox")


def test_missing_parent_is_null(sandbox):
    row = sandbox.rows("SELECT Id, Account.Name FROM Contact WHERE AccountId = null LIMIT 1")[0]
    assert row["Account"] is None


def test_polymorphic_parent(sandbox):
    rows = sandbox.rows("SELECT Id, WhoId, Who.Name, Who.Type FROM Task WHERE WhoId != null LIMIT 50")
    assert {r["Who"]["Type"] for r in rows} == {"Contact", "Lead"}
    assert {r["WhoId"][:3] for r in rows} == {"003", "00Q"}


def test_links_lead_to_living_records_of_the_right_kind(sandbox):
    accounts = {r["Id"] for r in sandbox.rows("SELECT Id FROM Account")}
    linked = {r["AccountId"] for r in sandbox.rows("SELECT AccountId FROM Opportunity WHERE AccountId != null")}
    assert linked <= accounts
    users = {r["Id"] for r in sandbox.rows("SELECT Id FROM User")}
    assert {r["OwnerId"] for r in sandbox.rows("SELECT OwnerId FROM Case")} <= users


def test_stamps_are_in_order(sandbox):
    rows = sandbox.rows("SELECT CreatedDate, LastModifiedDate, SystemModstamp FROM Lead")
    assert all(r["CreatedDate"] <= r["LastModifiedDate"] <= r["SystemModstamp"] for r in rows)
    assert any(r["SystemModstamp"] > r["LastModifiedDate"] for r in rows)


def test_windows_are_half_open_and_literals_know_zones(sandbox):
    stamp = sandbox.rows("SELECT SystemModstamp FROM Contact ORDER BY SystemModstamp DESC LIMIT 1")[0]["SystemModstamp"]
    plain = stamp[:-5]
    assert total(sandbox, f"SELECT COUNT() FROM Contact WHERE SystemModstamp >= {plain}Z") >= 1
    assert total(sandbox, f"SELECT COUNT() FROM Contact WHERE SystemModstamp > {plain}+00:00") == 0
    assert total(sandbox, f"SELECT COUNT() FROM Contact WHERE SystemModstamp < {plain}Z") < total(
        sandbox, f"SELECT COUNT() FROM Contact WHERE SystemModstamp <= {plain}Z"
    )


def test_text_ignores_case_and_ids_have_two_lengths(sandbox):
    assert total(sandbox, "SELECT COUNT() FROM Contact WHERE LastName = 'o\\'brien'") == total(
        sandbox, "SELECT COUNT() FROM Contact WHERE LastName = 'O\\'BRIEN'"
    )
    some = sandbox.rows("SELECT Id FROM Contact LIMIT 1")[0]["Id"]
    assert total(sandbox, f"SELECT COUNT() FROM Contact WHERE Id = '{some[:15]}'") == 1
    assert total(sandbox, f"SELECT COUNT() FROM Contact WHERE Id IN ('{some}')") == 1


def test_null_counts_as_different_and_not_knows_no_unknown(sandbox):
    everything = total(sandbox, "SELECT COUNT() FROM Contact")
    same = total(sandbox, "SELECT COUNT() FROM Contact WHERE Title = 'CEO'")
    assert total(sandbox, "SELECT COUNT() FROM Contact WHERE Title != 'CEO'") == everything - same
    assert total(sandbox, "SELECT COUNT() FROM Contact WHERE NOT Visits__c > 10") == everything - total(
        sandbox, "SELECT COUNT() FROM Contact WHERE Visits__c > 10"
    )


@pytest.mark.parametrize(
    "condition",
    [
        "Name LIKE 'J%' AND (Title = null OR Visits__c >= 3)",
        "NOT (Name LIKE '%\\_x%')",
        "CreatedDate = LAST_N_DAYS:400",
        "CreatedDate < THIS_YEAR",
        "Birthdate > 1990-01-01",
        "Account.Industry = 'Energy'",
        "AccountId IN (SELECT Id FROM Account WHERE Industry = 'Energy')",
        "Interests__c INCLUDES ('Safety;Quality', 'Permits')",
        "HasOptedOutOfEmail = true",
        "Lifetime_Value__c > 1.5e3",
        "LastName NOT IN ('NA', 'Null')",
    ],
)
def test_conditions_find_some_but_not_all(sandbox, condition):
    everything = total(sandbox, "SELECT COUNT() FROM Contact")
    assert 0 < total(sandbox, f"SELECT COUNT() FROM Contact WHERE {condition}") <= everything


def test_groups(sandbox):
    rows = sandbox.rows(
        "SELECT StageName, COUNT(Id) n, SUM(Amount), MAX(CloseDate) FROM Opportunity GROUP BY StageName "
        "HAVING COUNT(Id) > 1 ORDER BY COUNT(Id) DESC"
    )
    assert set(rows[0]) == {"attributes", "StageName", "n", "expr0", "expr1"}
    assert [r["n"] for r in rows] == sorted((r["n"] for r in rows), reverse=True)
    years = sandbox.rows(
        "SELECT CALENDAR_YEAR(CreatedDate) y, COUNT(Id) FROM Contact GROUP BY CALENDAR_YEAR(CreatedDate)"
    )
    assert sum(r["expr0"] for r in years) == total(sandbox, "SELECT COUNT() FROM Contact")


@pytest.mark.parametrize(
    ("soql", "code", "words"),
    [
        ("SELECT Id FRM Contact", "MALFORMED_QUERY", "unexpected token: 'Contact'"),
        ("SELECT FROM Contact", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id, Nope FROM Contact", "INVALID_FIELD", "No such column 'Nope' on entity 'Contact'."),
        ("SELECT Id FROM Nope", "INVALID_TYPE", "sObject type 'Nope' is not supported."),
        ("SELECT Id FROM Secret__c", "INVALID_TYPE", "sObject type 'Secret__c' is not supported."),
        ("SELECT Id FROM AccountChangeEvent", "INVALID_TYPE_FOR_OPERATION", "does not support query"),
        ("SELECT Id FROM Contact WHERE CreatedDate > 2024-01-01T00:00:00", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id FROM Contact WHERE CreatedDate > 2024-01-01T00:00:00 02:00", "MALFORMED_QUERY", "unexpected"),
        ("SELECT Id FROM Contact WHERE CreatedDate > '2024-01-01T00:00:00Z'", "INVALID_FIELD", "dateTime"),
        ("SELECT Id FROM Contact WHERE CreatedDate > 2024-01-01", "INVALID_FIELD", "dateTime"),
        ("SELECT Id FROM Contact WHERE Visits__c = '3'", "INVALID_FIELD", "must be of type int"),
        ("SELECT Id FROM Contact WHERE Description = 'x'", "INVALID_FIELD", "can not be filtered"),
        ("SELECT Id FROM Contact ORDER BY Description", "MALFORMED_QUERY", "can not be sorted"),
        ("SELECT Id FROM Contact WHERE Name = 'a' AND Title = 'b' OR Title = 'c'", "MALFORMED_QUERY", "'OR'"),
        ("SELECT Id, Id FROM Contact", "INVALID_FIELD", "duplicate field selected: Id"),
        ("SELECT Id FROM Contact WHERE Id = 'zzz'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: zzz"),
        ("SELECT Foo.Name FROM Contact", "INVALID_FIELD", "Didn't understand relationship 'Foo'"),
        ("SELECT Name, COUNT(Id) FROM Contact", "MALFORMED_QUERY", "Field must be grouped or aggregated: Name"),
        ("SELECT Id FROM Contact OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "2000"),
        ("SELECT Id FROM Contact WHERE Name = 'open", "MALFORMED_QUERY", "unexpected token"),
    ],
)  # fmt: skip
def test_refusals(sandbox, soql, code, words):
    found, message = sandbox.error(soql)
    assert found == code
    assert words in message


def test_an_unencoded_plus_becomes_a_blank_and_is_malformed(sandbox):
    answer = sandbox.api("/query?q=SELECT+Id+FROM+Contact+WHERE+CreatedDate>2024-01-01T00:00:00+00:00")
    assert answer.json()[0]["errorCode"] == "MALFORMED_QUERY"


def test_long_address_is_414(sandbox):
    names = ", ".join(f"Field_{n}__c" for n in range(1500))
    assert sandbox.query(f"SELECT {names} FROM Contact").status_code == 414


def test_every_field_can_be_selected_together(sandbox):
    for name in ("Account", "Contact", "Lead", "Opportunity", "Case", "Task", "User", "Campaign", "Inspection__c"):
        fields = [f["name"] for f in sandbox.api(f"/sobjects/{name}/describe").json()["fields"]]
        rows = sandbox.query(f"SELECT {', '.join(fields)} FROM {name} LIMIT 3").json()["records"]
        assert set(rows[0]) == {"attributes", *fields}


def test_versions(sandbox):
    listed = sandbox.http.get("https://login.salesforce.com/services/data/").json()
    assert [v["version"] for v in listed][:1] == ["47.0"]
    assert sandbox.api("/services/data/v99.0/limits").json()[0]["errorCode"] == "NOT_FOUND"
    assert sandbox.api("/services/data/v28.0/limits").status_code == 410
    assert sandbox.api("/limits", "POST").status_code == 405


def test_composite_batch(sandbox):
    wanted = [{"method": "GET", "url": f"v60.0/sobjects/{n}/describe"} for n in ("Contact", "Nope", "Account")]
    answer = sandbox.api("/composite/batch", "POST", json={"batchRequests": wanted, "haltOnError": False}).json()
    assert [r["statusCode"] for r in answer["results"]] == [200, 404, 200]
    assert answer["hasErrors"] is True


def test_binary_field_is_an_address_of_its_bytes(sandbox):
    row = sandbox.rows("SELECT Id, Body, BodyLength FROM Attachment LIMIT 1")[0]
    content = sandbox.api(row["Body"]).content
    assert len(content) == row["BodyLength"]
