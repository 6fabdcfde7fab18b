"""Bulk API 2.0 query jobs and their traps."""

from __future__ import annotations

import csv
import gzip
import io
import re
import urllib.request

import pytest
import requests


def parsed(answer, delimiter=","):
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8")), delimiter=delimiter))


def all_rows(sandbox, job_id, size=None):
    rows, locator = [], None
    while locator != "null":
        params = {k: v for k, v in (("maxRecords", size), ("locator", locator)) if v}
        answer = sandbox.page(job_id, **params)
        assert answer.ok, answer.text
        page = parsed(answer)
        assert len(page) == int(answer.headers["Sforce-NumberOfRecords"])
        rows += page
        locator = answer.headers["Sforce-Locator"]
    return rows


def test_simple_salesforce_reads_all_pages(sandbox):
    client = sandbox.salesforce()
    pages = list(client.bulk2.Contact.query("SELECT Id, Name FROM Contact", max_records=1000, wait=0.01))
    ids = [row["Id"] for page in pages for row in csv.DictReader(io.StringIO(page))]
    assert len(pages) == 3
    assert len(ids) == len(set(ids)) == client.query("SELECT COUNT() FROM Contact")["totalSize"]


def test_simple_salesforce_downloads(sandbox, tmp_path):
    files = sandbox.salesforce().bulk2.Lead.download(
        "SELECT Id FROM Lead", path=str(tmp_path), max_records=300, wait=0.01
    )
    assert sum(f["number_of_records"] for f in files) == sandbox.query("SELECT COUNT() FROM Lead").json()["totalSize"]


def test_job_json_and_states(sandbox):
    sandbox.control("faults", {"job_delay_polls": 2})
    made = sandbox.job("SELECT Id FROM Lead").json()
    assert made["state"] == "UploadComplete"
    assert made["id"].startswith("750")
    assert made["apiVersion"] == 60.0
    assert made["object"] == "Lead"
    assert made["jobType"] == "V2Query"
    assert sandbox.page(made["id"]).status_code == 204
    states = [sandbox.api(f"/jobs/query/{made['id']}").json()["state"] for _ in range(3)]
    assert states == ["InProgress", "InProgress", "JobComplete"]
    done = sandbox.api(f"/jobs/query/{made['id']}").json()
    assert done["numberRecordsProcessed"] > 0
    assert {"retries", "totalProcessingTime"} <= set(done)
    listed = sandbox.api("/jobs/query", params={"jobType": "V2Query"}).json()
    assert made["id"] in [j["id"] for j in listed["records"]]


def test_every_page_has_the_header_and_the_last_says_null(sandbox):
    job = sandbox.finished("SELECT Id FROM Contact")
    first = sandbox.page(job)
    assert first.headers["Sforce-NumberOfRecords"] == "1000"
    second = sandbox.page(job, locator=first.headers["Sforce-Locator"])
    assert first.text.startswith('"Id"\n')
    assert second.text.startswith('"Id"\n')
    assert sandbox.page(job, maxRecords=100_000).headers["Sforce-Locator"] == "null"


def test_pages_repeat_and_do_not_move_while_the_org_changes(sandbox):
    job = sandbox.finished("SELECT Id, Title, SystemModstamp FROM Contact")
    first = sandbox.page(job)
    sandbox.control("change", {"object": "Contact", "update": 500, "delete": 300, "new": 100, "purge": 20})
    assert sandbox.page(job).content == first.content
    ids = [r["Id"] for r in all_rows(sandbox, job)]
    assert len(ids) == len(set(ids)) == sandbox.api(f"/jobs/query/{job}").json()["numberRecordsProcessed"]
    assert len(all_rows(sandbox, sandbox.finished("SELECT Id FROM Contact"))) < len(ids)


def test_values_survive_csv(sandbox):
    columns = (
        "Id, FirstName, LastName, Description, MailingStreet, Visits__c, Lifetime_Value__c, CreatedDate, Birthdate"
    )
    rest = {r["Id"]: r for r in sandbox.rows(f"SELECT {columns} FROM Contact")}
    bulk = all_rows(sandbox, sandbox.finished(f"SELECT {columns} FROM Contact"))
    for row in bulk:
        truth = rest[row["Id"]]
        for name in ("FirstName", "LastName", "Description", "MailingStreet", "Birthdate"):
            assert row[name] == (truth[name] or "")
        assert row["CreatedDate"] == truth["CreatedDate"].replace("+0000", "Z")
        for name in ("Visits__c", "Lifetime_Value__c"):
            assert (float(row[name]) if row[name] else None) == truth[name]
    texts = {r["LastName"] for r in bulk} | {r["Description"] for r in bulk}
    assert {"NA", "null", "Line one\nLine two\nLine three", 'He said "yes", then "no".'} <= texts
    assert any("\n" in r["MailingStreet"] for r in bulk)
    assert any(re.search(r"\d\.\d+E\d", r["Lifetime_Value__c"]) for r in bulk)
    assert any(re.fullmatch(r"\d+\.0", r["Visits__c"]) for r in bulk)
    assert any(len(r["Description"]) > 4000 for r in bulk)


def test_all_values_are_quoted_and_null_is_an_empty_cell(sandbox):
    job = sandbox.finished("SELECT Id, Jigsaw FROM Contact LIMIT 1")
    assert re.fullmatch(r'"Id","Jigsaw"\n"003\w{15}",""\n', sandbox.page(job).text)
    sandbox.control("settings", {"bare_null": True})
    assert re.fullmatch(r'"Id","Jigsaw"\n"003\w{15}",\n', sandbox.page(job).text)


@pytest.mark.parametrize(
    ("name", "char"),
    [("BACKQUOTE", "`"), ("CARET", "^"), ("PIPE", "|"), ("SEMICOLON", ";"), ("TAB", "\t"), ("COMMA", ",")],
)
def test_dialects(sandbox, name, char):
    job = sandbox.finished("SELECT Id, Subject FROM Task", columnDelimiter=name, lineEnding="CRLF")
    answer = sandbox.page(job, maxRecords=50)
    assert answer.text.startswith(f'"Id"{char}"Subject"\r\n')
    assert len(parsed(answer, char)) == 50


def test_gzip_when_asked(sandbox):
    job = sandbox.finished("SELECT Id, Name FROM Contact")
    plain = sandbox.page(job, maxRecords=2000)
    assert plain.headers["Content-Encoding"] == "gzip"
    bare = sandbox.api(
        f"/jobs/query/{job}/results", params={"maxRecords": 2000}, headers={"Accept-Encoding": "identity"}
    )
    assert "Content-Encoding" not in bare.headers
    assert bare.content == plain.content


def test_parents_and_formulas(sandbox):
    job = sandbox.finished("SELECT Id, Account.Name, Account_Industry__c, Account.Industry FROM Contact")
    rows = all_rows(sandbox, job)
    assert all(r["Account_Industry__c"] == r["Account.Industry"] for r in rows)
    assert any(r["Account.Name"] for r in rows)


def test_order_by_is_kept(sandbox):
    rows = all_rows(sandbox, sandbox.finished("SELECT Id, CreatedDate FROM Contact ORDER BY CreatedDate DESC"), 700)
    assert [r["CreatedDate"] for r in rows] == sorted((r["CreatedDate"] for r in rows), reverse=True)


def test_query_all_brings_deleted_rows(sandbox):
    rows = all_rows(sandbox, sandbox.finished("SELECT Id, IsDeleted FROM Contact", "queryAll"))
    assert {r["IsDeleted"] for r in rows} == {"true", "false"}


@pytest.mark.parametrize(
    ("soql", "code", "words"),
    [
        (
            "SELECT Id, MailingAddress FROM Contact",
            "FEATURE_NOT_ENABLED",
            "Selecting compound data not supported in Bulk",
        ),
        ("SELECT Id, Home__c FROM Contact", "FEATURE_NOT_ENABLED", "compound data"),
        ("SELECT COUNT() FROM Contact", "API_ERROR", "aggregate"),
        ("SELECT Name, COUNT(Id) FROM Contact GROUP BY Name", "API_ERROR", "GROUP BY"),
        ("SELECT Id FROM Contact LIMIT 5 OFFSET 2", "API_ERROR", "OFFSET"),
        ("SELECT Id, (SELECT Id FROM Contacts) FROM Account", "API_ERROR", "nested"),
        ("SELECT TYPEOF Who WHEN Contact THEN Name END FROM Task", "API_ERROR", "TYPEOF"),
        ("SELECT FIELDS(ALL) FROM Contact LIMIT 200", "API_ERROR", "FIELDS"),
        ("SELECT Id, Body FROM Attachment", "INVALIDENTITY", "is not supported by the Bulk API"),
        ("SELECT Id FROM TaskStatus", "INVALIDENTITY", "is not supported by the Bulk API"),
        ("SELECT Id FROM Secret__c", "INVALID_TYPE", "Secret__c"),
        ("SELECT Nope FROM Contact", "INVALID_FIELD", "No such column 'Nope'"),
        ("SELECT Id FROM", "MALFORMED_QUERY", "unexpected token: <EOF>"),
    ],
)
def test_refusals(sandbox, soql, code, words):
    answer = sandbox.job(soql)
    assert answer.status_code == 400
    assert answer.json()[0]["errorCode"] == code
    assert words in answer.json()[0]["message"]


def test_other_version_is_409(sandbox):
    job = sandbox.finished("SELECT Id FROM Lead")
    assert sandbox.api(f"/services/data/v59.0/jobs/query/{job}/results").status_code == 409


def test_delete_is_204_without_body_and_only_at_the_end(sandbox):
    sandbox.control("faults", {"job_delay_polls": 5})
    job = sandbox.job("SELECT Id FROM Lead").json()["id"]
    early = sandbox.api(f"/jobs/query/{job}", "DELETE")
    assert (early.status_code, early.json()[0]["errorCode"]) == (400, "API_ERROR")
    assert "job is not terminated" in early.json()[0]["message"]
    assert sandbox.api(f"/jobs/query/{job}", "PATCH", json={"state": "Aborted"}).json()["state"] == "Aborted"
    gone = sandbox.api(f"/jobs/query/{job}", "DELETE")
    assert (gone.status_code, gone.content) == (204, b"")
    assert sandbox.api(f"/jobs/query/{job}").status_code == 404


def test_result_pages_side_by_side(sandbox):
    job = sandbox.finished("SELECT Id FROM Contact")
    answer = sandbox.api(f"/jobs/query/{job}/resultPages").json()
    assert answer["done"] is True
    rows = [r for page in answer["resultPages"] for r in parsed(sandbox.api(page["resultUrl"]))]
    assert len({r["Id"] for r in rows}) == sandbox.api(f"/jobs/query/{job}").json()["numberRecordsProcessed"]
    assert sandbox.api(f"/services/data/v57.0/jobs/query/{job}/resultPages").status_code == 404


def test_no_rows(sandbox):
    job = sandbox.finished("SELECT Id FROM Contact WHERE Name = 'nobody at all'")
    answer = sandbox.page(job)
    assert answer.text == '"Id"\n'
    assert (answer.headers["Sforce-Locator"], answer.headers["Sforce-NumberOfRecords"]) == ("null", "0")
    sandbox.control("faults", {"empty_body": True})
    assert sandbox.page(job).content == b""


# -- faults


def test_cut_connection_then_the_same_page_again(sandbox):
    job = sandbox.finished("SELECT Id, Name FROM Contact")
    sandbox.control("faults", {"cut_page": 2})
    first = sandbox.page(job)
    with pytest.raises(requests.exceptions.RequestException):
        sandbox.page(job, locator=first.headers["Sforce-Locator"])
    again = sandbox.page(job, locator=first.headers["Sforce-Locator"])
    assert len(parsed(again)) == 1000
    fetched = sandbox.control("stats")["bulk_pages"]
    assert [p["locator"] for p in fetched] == ["", "MTAwMA", "MTAwMA"]


def test_cut_query_page(sandbox):
    sandbox.control("faults", {"cut_page": {"n": 1, "on": "query"}})
    with pytest.raises(requests.exceptions.RequestException):
        sandbox.query("SELECT Id, Name FROM Contact")
    assert sandbox.query("SELECT Id FROM Contact").ok


def test_broken_pages(sandbox):
    job = sandbox.finished("SELECT Id, Name FROM Contact")
    good = sandbox.page(job)
    sandbox.control("faults", {"malformed_csv": 1, "no_number_header": 1})
    broken = sandbox.page(job)
    assert broken.text.endswith('"003000000000000AAA","an open quote')
    assert "Sforce-NumberOfRecords" not in broken.headers
    sandbox.control("faults", {"short_page": {"rows": 3, "count": 1}})
    short = sandbox.page(job)
    assert (len(parsed(short)), short.headers["Sforce-NumberOfRecords"]) == (997, "1000")
    assert sandbox.page(job).content == good.content


def test_nul_bytes(sandbox):
    sandbox.control("settings", {"nul_bytes": True})
    assert b"\x00" in sandbox.page(sandbox.finished("SELECT Id, Name FROM Contact")).content


@pytest.mark.parametrize(
    ("fault", "state"), [({"state": "Failed", "errorMessage": "no"}, "Failed"), ("Aborted", "Aborted")]
)
def test_jobs_that_do_not_complete(sandbox, fault, state):
    sandbox.control("faults", {"job_state": fault})
    job = sandbox.job("SELECT Id FROM Lead").json()["id"]
    body = sandbox.api(f"/jobs/query/{job}").json()
    assert body["state"] == state
    assert body.get("errorMessage") == ("no" if state == "Failed" else None)
    assert sandbox.page(job).status_code == 400


def test_query_timeout_by_size(sandbox):
    sandbox.control("faults", {"query_timeout": 100})
    job = sandbox.job("SELECT Id FROM Contact").json()["id"]
    assert "QUERY_TIMEOUT" in sandbox.api(f"/jobs/query/{job}").json()["errorMessage"]
    assert sandbox.error("SELECT Id FROM Contact")[0] == "QUERY_TIMEOUT"
    assert sandbox.query("SELECT Id FROM User").ok


def test_quota_of_jobs_and_unsupported_objects(sandbox):
    sandbox.control("faults", {"limit_exceeded": 1, "bulk_unsupported": "Case"})
    assert sandbox.job("SELECT Id FROM Lead").json()[0]["errorCode"] == "LIMIT_EXCEEDED"
    assert sandbox.job("SELECT Id FROM Case").json()[0]["errorCode"] == "INVALIDENTITY"


def test_compressed_pages_are_proper_gzip(sandbox):
    job = sandbox.finished("SELECT Id FROM User")
    import ssl

    request = urllib.request.Request(
        f"{sandbox.url}/services/data/v60.0/jobs/query/{job}/results",
        headers={"Authorization": f"Bearer {sandbox._token}", "Accept-Encoding": "gzip"},
    )
    context = ssl.create_default_context(cafile=sandbox.about["ca_file"])
    with urllib.request.urlopen(request, context=context) as answer:
        assert gzip.decompress(answer.read()).startswith(b'"Id"\n')
