"""What an error answer of Drift means: retry, grant, correct, or accept that the service has ended.

Source: devdocs.drift.com, "Errors"; two shapes of bodies are documented, and a body may be missing.
"""

from __future__ import annotations

import json

from novade_core.errors import (
    AccessMissing,
    AuthenticationFailed,
    ConfigurationError,
    NovadeError,
    RateLimited,
    SourceRetired,
    SourceUnavailable,
)

#: Answers of edge proxies and of an overloaded service, all worth another try.
_TRY_AGAIN = {408, 420, 425}


class NotFound(NovadeError):
    """404: the record, or the address itself. Never leaves the source."""


class Forbidden(AccessMissing):
    """403: a scope is missing, or a contact is blocked."""


class Refused(ConfigurationError):
    """400: a parameter is not taken."""


def said_by(body: bytes) -> str:
    """Type and message of an error body, on one line: ``{"error": {…}}``, ``{"errors": [{…}]}``, ``{"error": "…"}``,
    or nothing."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    value = value.get("error") or value.get("errors") if isinstance(value, dict) else None
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        value = ": ".join(str(value[k]) for k in ("type", "param", "message") if value.get(k))
    return " ".join(str(value or "").split())[:300]


def fault(status: int, body: bytes, doing: str) -> NovadeError:
    """One of our errors for an error answer. ``doing`` says what was asked, e.g. "listing conversations"."""
    text = said_by(body)
    detail = (
        f"Drift answered {status} while {doing}" + (f": {text}" if text else "") + ("" if text[-1:] == "." else ".")
    )
    if status == 401:
        return AuthenticationFailed(
            detail,
            hint="Check drift.access_token: tokens end when an app is removed or reinstalled. If Drift refuses every "
            "token, the service may have been retired; everything that was loaded stays.",
        )
    if status == 403:
        return Forbidden(
            detail,
            hint="Give the app the scopes conversation_read, contact_read, user_read and account_read, then install "
            "it again: a token keeps the scopes it was made with.",
        )
    if status == 404:
        return NotFound(detail)
    if status == 410:
        return SourceRetired(f"Drift says that the service has been retired ({detail[:-1]}).")
    if status == 429:
        return RateLimited(detail, hint="Lower drift.calls_per_minute, or look who else uses the token.")
    if status >= 500 or status in _TRY_AGAIN:
        return SourceUnavailable(
            detail, hint="Drift or the way to it is troubled; start the run again later, landed chunks are kept."
        )
    if 300 <= status < 400:
        return ConfigurationError(
            detail,
            hint="Drift sends elsewhere, and no token is sent after it: correct drift.endpoint.",
            origin="source",
        )
    return Refused(detail, hint="Drift refused the request as such; report it with the run's log.", origin="source")
