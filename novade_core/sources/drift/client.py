"""One door for every request to Drift: token, tries, waits, meters and clear errors.

It goes to the configured host alone. Links in answers name hosts of their own; only their parameters are used, and
a redirect is an error, so that the token never travels elsewhere.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from novade_core.errors import (
    ConfigurationError,
    NovadeError,
    ProtocolBroken,
    RateLimited,
    RetryableError,
    SourceRetired,
    SourceUnavailable,
    TransferBroken,
)
from novade_core.settings import DriftSettings
from novade_core.sources.base import Facts
from novade_core.sources.drift.faults import fault
from novade_core.sources.drift.records import parse

#: A longer wait than this is left to the run's next attempt, which holds no place at the source meanwhile.
_LONGEST_WAIT = 120.0
#: The first wait after a refusal for the rate; Drift publishes neither a figure nor Retry-After.
_LIMIT_SECONDS = 5.0
#: More than any page of records; beyond it something is wrong.
_LARGEST_ANSWER = 256 << 20


class Client:
    """Requests with the token. Not for several threads, but for the meters."""

    def __init__(self, settings: DriftSettings) -> None:
        self.settings = settings
        self.api_calls = 0
        self.bytes_in = 0
        self.on_wait: Callable[[float, str], None] = lambda _seconds, _reason: None
        self._server_time: datetime | None = None
        self._last_call = 0.0
        self._session = requests.Session()
        # As ``auth``, because a header would lose to the host's entry in ~/.netrc.
        self._session.auth = self._authorise
        if settings.ca_file:
            self._session.verify = str(settings.ca_file)
            # Without this, REQUESTS_CA_BUNDLE of the process would win over the file.
            self._session.trust_env = False

    def close(self) -> None:
        """Give back connections."""
        self._session.close()

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        token = self.settings.access_token
        request.headers["Authorization"] = f"Bearer {token.get_secret_value() if token else ''}"
        return request

    def get(self, path: str, doing: str, **query: Any) -> Any:
        """GET an address whose answer is JSON. Raises NotFound and Forbidden as they are."""
        return self._retrying(lambda: self._once("GET", path, doing, params=query))

    def is_known_token(self) -> bool:
        """Whether Drift knows the token, at an address that needs no scope.

        Source: devdocs.drift.com, ``POST /app/token_info``. Raises NotFound where even that address is gone.
        """
        token = self.settings.access_token
        body = {"accessToken": token.get_secret_value() if token else ""}
        answer = self._retrying(lambda: self._once("POST", "/app/token_info", "checking the token", json=body))
        return isinstance(answer, dict)

    def server_time(self) -> datetime:
        """The clock of the service, from the Date header of its last answer (whole seconds)."""
        if self._server_time is None:
            raise TransferBroken("Drift sent no Date header, so its clock is not known.")
        return self._server_time

    def facts(self) -> Facts:
        """Who answers; Drift tells no quota."""
        return Facts(about={"host": urlsplit(self.settings.endpoint).netloc})

    # One request

    def _once(self, method: str, path: str, doing: str, **parameters: Any) -> Any:
        if self.settings.access_token is None:
            raise ConfigurationError(
                "Drift has no credentials.",
                hint="Set NOVADE_DRIFT_ACCESS_TOKEN, or start the sandbox with `make run`.",
            )
        self._pace()
        self.api_calls += 1
        seconds = self.settings.timeout_seconds
        try:
            with self._session.request(
                method,
                self.settings.endpoint.rstrip("/") + path,
                timeout=(min(30.0, seconds), seconds),
                allow_redirects=False,
                stream=True,
                **parameters,
            ) as response:
                body = self._read(response, doing)
        except requests.exceptions.SSLError as error:
            raise ConfigurationError(
                f"The certificate of Drift was not accepted while {doing}.",
                hint="Check drift.endpoint and drift.ca_file, and whether a proxy breaks TLS.",
                origin="source",
            ) from error
        except requests.exceptions.Timeout as error:
            raise SourceUnavailable(f"Drift did not answer within {seconds:g} s while {doing}.") from error
        except requests.exceptions.ConnectionError as error:
            if has_no_address(error):
                raise SourceRetired(
                    f"There is no host {urlsplit(self.settings.endpoint).hostname} any more; Drift may be retired.",
                    hint="Check drift.endpoint and this machine's name resolution. Everything that was loaded stays.",
                ) from error
            raise SourceUnavailable(f"The connection to Drift failed while {doing}.") from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise TransferBroken(f"The answer of Drift broke off while {doing}.") from error
        self._note_clock(response)
        if not 200 <= response.status_code < 300:
            raised = fault(response.status_code, body, doing)
            if isinstance(raised, RetryableError):
                raised.retry_after = self._asked_to_wait(response)
            raise raised
        try:
            return parse(body)
        except RecursionError as error:
            raise ProtocolBroken(f"Drift's answer nests too deeply to be read, while {doing}.") from error
        except ValueError as error:
            raise TransferBroken(f"Drift answered something that is not JSON while {doing}.") from error

    def _read(self, response: requests.Response, doing: str) -> bytes:
        """The whole body; an answer that only trickles is given up in the time that one may take."""
        deadline = time.monotonic() + self.settings.timeout_seconds
        parts = []
        size = 0
        while block := response.raw.read1(1 << 16, decode_content=True):
            parts.append(block)
            size += len(block)
            self.bytes_in += len(block)
            if time.monotonic() > deadline:
                raise SourceUnavailable(
                    f"Drift did not end its answer within {self.settings.timeout_seconds:g} s while {doing}."
                )
            if size > _LARGEST_ANSWER:
                raise ProtocolBroken(f"Drift's answer exceeds {_LARGEST_ANSWER >> 20} MiB while {doing}.")
        return b"".join(parts)

    def _note_clock(self, response: requests.Response) -> None:
        stamp = response.headers.get("Date")
        if stamp:
            try:
                self._server_time = parsedate_to_datetime(stamp).astimezone(UTC)
            except ValueError:
                return

    def _asked_to_wait(self, response: requests.Response) -> float | None:
        """Retry-After in seconds or as a date by Drift's own clock; None where it is not said."""
        told = response.headers.get("Retry-After", "")
        if told.isdecimal():
            return float(told)
        try:
            return max(0.0, (parsedate_to_datetime(told) - self.server_time()).total_seconds())
        except (ValueError, TypeError, TransferBroken):
            return None

    # Tries and waits

    def _pace(self) -> None:
        if not self.settings.calls_per_minute:
            return
        wait = self._last_call + 60.0 / self.settings.calls_per_minute - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._last_call = time.monotonic()

    def _retrying(self, once: Callable[[], Any]) -> Any:
        """Call until it works, the tries are used up, or an error says that trying is of no use."""
        failed = limited = 0
        while True:
            try:
                return once()
            except RateLimited as error:
                limited += 1
                seconds = error.retry_after or min(60.0, _LIMIT_SECONDS * 2 ** (limited - 1))
                self._wait(error, seconds, is_last=limited >= self.settings.limit_tries)
            except (SourceUnavailable, TransferBroken) as error:
                failed += 1
                bound = min(60.0, self.settings.retry_base_seconds * 2 ** (failed - 1))
                # Spread, so that many clients do not come back together.
                seconds = error.retry_after or random.uniform(0, bound)  # noqa: S311  no secret
                self._wait(error, seconds, is_last=failed >= self.settings.tries)

    def _wait(self, error: NovadeError, seconds: float, *, is_last: bool) -> None:
        if is_last or seconds > _LONGEST_WAIT:
            raise error
        self.on_wait(seconds, error.message)
        time.sleep(seconds)


def has_no_address(error: BaseException | None) -> bool:
    """Whether a failed connection came from a name that does not exist, rather than from a resolver in trouble."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error.errno == socket.EAI_NONAME
        error = error.__cause__ or error.__context__
    return False
