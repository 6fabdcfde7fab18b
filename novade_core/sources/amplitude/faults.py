"""What an error answer of Amplitude means: wait, halve the window, correct the configuration.

Source: amplitude.com/docs, "Export API", "Dashboard REST API" and "Taxonomy API"; bodies of the Export API's errors are
not documented, so that the status alone decides and the body is only quoted.
"""

from __future__ import annotations

import json

from novade_core.errors import (
    AccessMissing,
    AuthenticationFailed,
    ConfigurationError,
    NovadeError,
    RateLimited,
    SourceUnavailable,
)

#: Answers of edge proxies and of an overloaded service, all worth another try.
_TRY_AGAIN = {408, 420, 425}


class NoData(NovadeError):
    """404: no data in the range, or no such address. Never leaves the source."""


class Refused(ConfigurationError):
    """400: a parameter is not taken; of an export also that its result is too large."""


class TimedOut(SourceUnavailable):
    """504: the answer took too long to be made."""


def said_by(body: bytes) -> str:
    """What an error's body says, on one line: the taxonomy's ``errors``, the charts' ``error``, or plain text."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace")
        return "" if "<html" in text.lower() else " ".join(text.split())[:300]
    if isinstance(value, dict):
        value = value.get("errors") or value.get("error") or ""
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, dict):
        value = value.get("message") or ""
    return " ".join(str(value).split())[:300]


def fault(status: int, body: bytes, doing: str) -> NovadeError:
    """One of our errors for an error answer. ``doing`` says what was asked, e.g. "exporting 2024-11-20T13"."""
    text = said_by(body)
    detail = (
        f"Amplitude answered {status} while {doing}" + (f": {text}" if text else "") + ("" if text[-1:] == "." else ".")
    )
    if status in (401, 403):
        return AuthenticationFailed(
            detail,
            hint="Check amplitude.api_key and amplitude.secret_key, which belong to one project, and amplitude.region: "
            "a key of the other region is refused in the same way.",
        )
    if status == 404:
        return NoData(detail)
    if status == 429:
        return RateLimited(detail, hint="Look who else uses the project's keys; limits are per project and hour.")
    if status == 504:
        return TimedOut(detail)
    if status >= 500 or status in _TRY_AGAIN:
        return SourceUnavailable(
            detail, hint="Amplitude or the way to it is troubled; start the run again later, landed chunks are kept."
        )
    if 300 <= status < 400:
        return ConfigurationError(
            detail, hint="Amplitude sends elsewhere, and no key is sent after it: correct amplitude.endpoint.",
            origin="source",
        )  # fmt: skip
    return Refused(detail, hint="Amplitude refused the request as such; report it with the run's log.", origin="source")


def not_enterprise(doing: str) -> AccessMissing:
    """404 of the Taxonomy API, which belongs to the enterprise plan."""
    return AccessMissing(
        f"Amplitude offers this project no Taxonomy API (404 while {doing}).",
        hint="It belongs to Amplitude's Enterprise plan; without it, take the streams amplitude.event_types and "
        "amplitude.event_properties out of novade.toml. Events do not need it.",
    )
