"""Every answer that Salesforce is known to give, and what becomes of it."""

from __future__ import annotations

import json
import traceback

import pytest
from pydantic import SecretStr

from novade_core.errors import (
    AccessMissing,
    AuthenticationFailed,
    ConfigurationError,
    ExtractionLost,
    NovadeError,
    QuotaReserved,
    RateLimited,
    SchemaMoved,
    SourceUnavailable,
    WindowTooLarge,
)
from novade_core.settings import SalesforceSettings
from novade_core.sources.salesforce.client import Client
from novade_core.sources.salesforce.faults import Answer, NotForBulk, SessionExpired, fault, login_fault, read_answer

DOING = "describing Contact"

#: status, code, message -> class; the rows of the vendor's table.
TABLE = [
    (400, "MALFORMED_QUERY", "unexpected token", ConfigurationError),
    (400, "INVALID_FIELD", "No such column 'X__c' on entity 'Contact'", SchemaMoved),
    (400, "INVALID_TYPE", "sObject type 'X__c' is not supported", AccessMissing),
    (400, "QUERY_TIMEOUT", "Your query request was running for too long", WindowTooLarge),
    (400, "API_ERROR", "QUERY_TIMEOUT: too long", WindowTooLarge),
    (400, "", "retried more than 15 times", WindowTooLarge),
    (400, "INVALID_QUERY_LOCATOR", "invalid query locator", ExtractionLost),
    (400, "INVALIDENTITY", "Entity 'CaseStatus' is not supported by the Bulk API.", NotForBulk),
    (400, "INVALIDJOB", "compound data not supported in Bulk Query", NotForBulk),
    (400, "API_ERROR", "Implementation restriction: ContentDocumentLink requires a filter", AccessMissing),
    (400, "API_ERROR", "the job is not terminated", ConfigurationError),
    (400, "LIMIT_EXCEEDED", "maximum number of query jobs", QuotaReserved),
    (400, "EXCEEDED_ID_LIMIT", "too many ids", ConfigurationError),
    (401, "INVALID_SESSION_ID", "Session expired or invalid", SessionExpired),
    (401, "", "", SessionExpired),
    (401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE", AuthenticationFailed),
    (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", QuotaReserved),
    (403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded.", RateLimited),
    (403, "REQUEST_LIMIT_EXCEEDED", "Concurrent API limit", RateLimited),
    (403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization.", ConfigurationError),
    (403, "API_CURRENTLY_DISABLED", "API is disabled for this User", ConfigurationError),
    (403, "INSUFFICIENT_ACCESS", "insufficient access rights", AccessMissing),
    (403, "INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id", AccessMissing),
    (400, "TXN_SECURITY_METERING_ERROR", "policy took too long", ConfigurationError),
    (404, "NOT_FOUND", "The requested resource does not exist", ExtractionLost),
    (405, "METHOD_NOT_ALLOWED", "HTTP Method 'PUT' not allowed", ConfigurationError),
    (415, "UNSUPPORTED_MEDIA_TYPE", "", ConfigurationError),
    (406, "", "", SourceUnavailable),
    (408, "", "", SourceUnavailable),
    (420, "", "", SourceUnavailable),
    (429, "", "", SourceUnavailable),
    (409, "", "results asked with another version", ConfigurationError),
    (410, "GONE", "The requested resource has been retired", ConfigurationError),
    (500, "UNKNOWN_EXCEPTION", "An unexpected error occurred", SourceUnavailable),
    (503, "SERVER_UNAVAILABLE", "Server is too busy", SourceUnavailable),
    (500, "", "", SourceUnavailable),
    (502, "", "", SourceUnavailable),
    (504, "", "", SourceUnavailable),
    (520, "", "", SourceUnavailable),
    (400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access", SourceUnavailable),
    (403, "", "", AccessMissing),
    (400, "SOMETHING_NEW", "nobody has seen this", ConfigurationError),
]


@pytest.mark.parametrize(("status", "code", "text", "kind"), TABLE)
def test_an_answer_becomes_the_error_that_says_what_to_do(status, code, text, kind):
    error = fault(Answer(status=status, code=code, text=text), DOING)
    assert type(error) is kind
    assert str(status) in error.message
    assert DOING in error.message
    assert code in error.message
    assert text in error.message
    assert error.hint


def test_hints_name_what_to_change():
    wanted = {
        "API_CURRENTLY_DISABLED": "API Enabled",
        "TXN_SECURITY_METERING_ERROR": "Exempt from Transaction Security",
        "INSUFFICIENT_ACCESS": "View All",
        "INVALID_TYPE": "Read",
    }
    for code, words in wanted.items():
        assert words in fault(Answer(status=403, code=code, text=""), DOING).hint
    assert "api_version" in fault(Answer(status=410, code="", text=""), DOING).hint


def test_too_many_at_once_says_how_long_to_wait():
    error = fault(Answer(status=403, code="REQUEST_LIMIT_EXCEEDED", text="ConcurrentRequests Limit"), DOING)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 30


def test_a_fault_of_ours_is_not_blamed_on_the_source():
    assert fault(Answer(status=400, code="MALFORMED_QUERY", text=""), DOING).origin_of_fault == "us"
    assert fault(Answer(status=400, code="SOMETHING_NEW", text=""), DOING).origin_of_fault == "source"


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b'[{"message": "m", "errorCode": "C", "fields": ["a"]}]', "C", "m"),
        (b'[{"message": "m", "errorCode": "C"}, {"message": "n", "errorCode": "D"}]', "C", "m"),
        (b'{"exceptionCode": "C", "exceptionMessage": "m"}', "C", "m"),
        (b'{"error": "C", "error_description": "m"}', "C", "m"),
        (b'{"errorCode": null, "message": null}', "", ""),
        (b'{"errorCode": 7, "message": ["m"]}', "7", "['m']"),
        ('[{"message": "Grüße\\n  zwei", "errorCode": "C"}]'.encode(), "C", "Grüße zwei"),
        *((body, "", "") for body in (b"[]", b"{}", b"null", b"[1]", b"[[]]", b'"text"', b"7")),
        *((body, "", "") for body in (b"", b"<html><body>502</body></html>", b"\xff\xfe", b"[{", b"\x1f\x8b\x08")),
    ],
)
def test_every_shape_of_body_is_understood(body, code, text):
    assert read_answer(400, body) == Answer(status=400, code=code, text=text)
    assert isinstance(fault(read_answer(503, body), DOING), NovadeError)


def test_a_long_text_is_cut():
    body = json.dumps([{"errorCode": "C", "message": "x" * 10_000}]).encode()
    assert len(read_answer(400, body).text) == 500


# --- login ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("invalid_grant", "pre-authorised"),
        ("invalid_client_id", "consumer_key"),
        ("invalid_client", "consumer key and secret"),
        ("invalid_client_credentials", "consumer key and secret"),
        ("inactive_user", "Activate"),
        ("inactive_org", "locked or expired"),
        ("unsupported_grant_type", "My Domain"),
        ("never_seen", "Check the connection"),
        (None, "Check the connection"),
    ],
)
def test_a_refused_login_says_what_to_check(code, words):
    error = login_fault(code, "said so", "acme.my")
    assert type(error) is AuthenticationFailed
    assert words in error.hint
    assert "acme.my" in error.message
    assert "said so" in error.message


@pytest.mark.parametrize("code", [500, 502, 503, 504, "rate_limit_exceeded"])
def test_a_login_that_is_not_available_is_tried_again_and_shows_no_page_of_a_proxy(code):
    error = login_fault(code, "<html>secret page</html>", "login")
    assert type(error) is SourceUnavailable
    assert "secret page" not in f"{error.message} {error.hint}"


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "private_key", [SECRET, f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----", ""]
)
def test_a_private_key_that_cannot_be_used_is_not_shown(private_key):
    """It fails while it signs, before anything is sent."""
    settings = SalesforceSettings(
        username="ada@example.com", consumer_key=SecretStr(SECRET), private_key=SecretStr(private_key), tries=1
    )
    client = Client(settings)
    with pytest.raises(AuthenticationFailed, match="private key cannot be used") as refused:
        client.json("GET", "limits", "looking")
    client.close()
    shown = "".join(traceback.format_exception(refused.value))
    assert SECRET not in f"{refused.value.message} {refused.value.hint} {shown}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no credentials"),
        ({"consumer_key": SECRET}, "incomplete"),
        ({"consumer_key": SECRET, "username": "ada"}, "incomplete"),
        ({"consumer_key": SECRET, "private_key": SECRET}, "incomplete"),
        ({"consumer_key": SECRET, "consumer_secret": SECRET}, "My Domain"),
        ({"consumer_key": SECRET, "consumer_secret": SECRET, "domain": "test"}, "My Domain"),
    ],
)
def test_credentials_that_are_not_whole_are_named_and_not_shown(given, words):
    client = Client(SalesforceSettings(**given))
    with pytest.raises(ConfigurationError, match=words) as refused:
        client.json("GET", "limits", "looking")
    client.close()
    assert SECRET not in f"{refused.value.message} {refused.value.hint}"
