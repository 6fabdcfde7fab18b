"""Every Salesforce error code and what to do about it: retry, log in again, configure, or give up.

Source: Salesforce REST API Developer Guide, "Status Codes and Error Responses"; Bulk API 2.0 guide; the
tables in docs/connectors/salesforce.md say which codes are confirmed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

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

#: Bulk API 2.0 refuses these objects or queries; REST may serve them.
NOT_FOR_BULK = ("INVALIDENTITY", "compound data not supported", "does not support query")

#: Answers of edge proxies, often without a body; seen in the wild, all worth another try.
_TRY_AGAIN = {406, 408, 420, 429}

#: The allocation rolls over 24 hours; looking twice an hour finds what became free.
QUOTA_SECONDS = 1800.0


class SessionExpired(NovadeError):
    """INVALID_SESSION_ID: log in again, once. Never leaves the client."""


class NotForBulk(NovadeError):
    """Bulk API 2.0 cannot read this; REST may. Never leaves the source."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An error answer: code and text of the first error, whatever shape the body has."""

    status: int
    code: str
    text: str


def read_answer(status: int, body: bytes) -> Answer:
    """Lists (REST, Bulk 2.0), objects (OAuth, Bulk 1), HTML of a proxy, or nothing: all are understood."""
    try:
        value = json.loads(body)
    except ValueError:
        return Answer(status=status, code="", text="")
    if isinstance(value, list):
        value = value[0] if value else {}
    if not isinstance(value, dict):
        return Answer(status=status, code="", text="")
    code = value.get("errorCode") or value.get("exceptionCode") or value.get("error") or ""
    text = value.get("message") or value.get("exceptionMessage") or value.get("error_description") or ""
    return Answer(status=status, code=str(code), text=" ".join(str(text).split())[:500])


def fault(answer: Answer, doing: str) -> NovadeError:
    """One of our errors for an error answer. ``doing`` says what was asked, e.g. "describing Contact"."""
    status, code, text = answer.status, answer.code, answer.text
    said = f"Salesforce answered {status}{f' {code}' if code else ''} while {doing}"
    detail = f"{said}: {text}" if text else f"{said}."
    if status == 401:
        return SessionExpired(detail) if code in ("INVALID_SESSION_ID", "") else AuthenticationFailed(detail)
    if any(word in code or word in text for word in NOT_FOR_BULK):
        return NotForBulk(detail)
    if code == "QUERY_TIMEOUT" or "QUERY_TIMEOUT" in text or "retried more than" in text:
        return WindowTooLarge(detail, hint="The window is halved and asked again.")
    by_code = _by_code(code, text, detail)
    if by_code is not None:
        return by_code
    if status >= 500 or status in _TRY_AGAIN:
        return SourceUnavailable(
            detail, hint="Salesforce or the way to it is troubled; start the run again later, landed chunks are kept."
        )
    if status == 404:
        return ExtractionLost(detail)
    if status == 403:
        return AccessMissing(detail, hint="Check the permissions of the integration user.")
    if status == 410:
        return ConfigurationError(
            detail, hint="Raise salesforce.api_version; old versions are retired.", origin="source"
        )
    return ConfigurationError(
        detail, hint="Salesforce refused the request as such; check the stream's object and fields.", origin="source"
    )


def _by_code(code: str, text: str, detail: str) -> NovadeError | None:
    match code:
        case "REQUEST_LIMIT_EXCEEDED" if "ConcurrentRequests" in text or "concurrent" in text.lower():
            return RateLimited(
                detail, retry_after=30, hint="Too many long requests run at once; it waits and tries again."
            )
        case "REQUEST_LIMIT_EXCEEDED":
            return QuotaReserved(
                detail,
                hint="The daily API allocation is used up; it frees over the next 24 hours.",
                retry_after=QUOTA_SECONDS,
            )
        case "LIMIT_EXCEEDED":
            return QuotaReserved(
                detail, hint="The daily allocation of bulk query jobs is used up.", retry_after=QUOTA_SECONDS
            )
        case "INVALID_FIELD":
            return SchemaMoved(
                detail,
                hint="The field was deleted or hidden from the integration user. Start the run again: it describes "
                "the object anew and names the field.",
            )
        case "INVALID_TYPE":
            return AccessMissing(detail, hint="Give the integration user Read on the object, or correct its name.")
        case "INVALID_QUERY_LOCATOR" | "INVALID_ID_FIELD":
            return ExtractionLost(detail)
        case "API_DISABLED_FOR_ORG" | "API_CURRENTLY_DISABLED":
            return ConfigurationError(
                detail, hint="Enable the permission 'API Enabled' for the integration user.", origin="source"
            )
        case "TXN_SECURITY_METERING_ERROR":
            return ConfigurationError(
                detail, hint="Give the integration user 'Exempt from Transaction Security'.", origin="source"
            )
        case "UNABLE_TO_LOCK_ROW" | "SERVER_UNAVAILABLE" | "UNKNOWN_EXCEPTION":
            return SourceUnavailable(detail)
        case "MALFORMED_QUERY" | "EXCEEDED_ID_LIMIT" | "METHOD_NOT_ALLOWED":
            return ConfigurationError(
                detail, hint="This is a fault of ours; report it with the run's log.", origin="us"
            )
        case _ if code.startswith("INSUFFICIENT_ACCESS"):
            return AccessMissing(detail, hint="Give the integration user Read and View All on the object.")
    if "Implementation restriction" in text:
        return AccessMissing(detail, hint="Give the integration user 'View All Data' or 'View All' on the object.")
    return None


def login_fault(code: object, text: object, domain: str) -> NovadeError:
    """A refused login. The library's texts hold no secret."""
    if code == 404:
        return ConfigurationError(
            f"There is no Salesforce login at {domain}.",
            hint='Check salesforce.domain: "login", "test", or the My Domain without ".salesforce.com".',
            origin="source",
        )
    if isinstance(code, int) or str(code) == "rate_limit_exceeded":
        # A number is the HTTP status of an answer that was no JSON: a proxy's page, not Salesforce's word.
        return SourceUnavailable(f"The Salesforce login at {domain} is not available ({code}).")
    said = " ".join(f"{code}: {text}".split())[:300]
    hints = {
        "invalid_grant": "Check the user name, the External Client App's consumer key and certificate, and that an "
        "administrator has pre-authorised the user.",
        "invalid_client_id": "Check salesforce.consumer_key against the External Client App.",
        "invalid_client": "Check the consumer key and secret against the External Client App.",
        "invalid_client_credentials": "Check the consumer key and secret against the External Client App.",
        "inactive_user": "Activate the integration user.",
        "inactive_org": "The org is locked or expired.",
        "unsupported_grant_type": "Enable the flow on the External Client App and use the org's My Domain.",
    }
    return AuthenticationFailed(f"Salesforce refused the login at {domain}: {said}", hint=hints.get(str(code)))
