"""One door for every request to Salesforce, on top of simple-salesforce's login and session.

The library is used for what it does well: the OAuth flows and the URLs of the org. Its request helpers are
not, because they log in again without end on a lasting 401, lose the session in Bulk 2.0, and trip over a
204; each of these has a test. Here an expired session is renewed once per request, everywhere.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from jwt.exceptions import PyJWTError
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce as SimpleSalesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from novade_core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    QuotaReserved,
    RateLimited,
    RetryableError,
    SourceUnavailable,
    TransferBroken,
)
from novade_core.settings import SalesforceSettings
from novade_core.sources.base import Facts
from novade_core.sources.salesforce.faults import QUOTA_SECONDS, SessionExpired, fault, login_fault, read_answer

_log = logging.getLogger(__name__)
_USAGE = re.compile(r"api-usage=(\d+)/(\d+)")
#: A longer wait than this is left to the run's next attempt, which holds no place at the source meanwhile.
_LONGEST_WAIT = 120.0


class _Loopback(HTTPAdapter):
    """Sends what is meant for *.salesforce.com to a stand-in on this machine, Host header unchanged.

    simple-salesforce writes https:// and .salesforce.com into every URL; this is the one way around it.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = urlsplit(endpoint)
        host = self._endpoint.hostname or ""
        loopback = host == "localhost" or (host.replace(".", "").isdigit() and ip_address(host).is_loopback)
        if not loopback or self._endpoint.scheme != "https":
            raise ConfigurationError(
                f"salesforce.endpoint must be https on this machine, not {endpoint}.",
                hint="Leave salesforce.endpoint out for the real service.",
            )
        super().__init__(pool_maxsize=4)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        parts = urlsplit(request.url or "")
        request.headers.setdefault("Host", parts.netloc)
        request.url = urlunsplit(("https", self._endpoint.netloc, parts.path, parts.query, ""))
        return super().send(request, *args, **kwargs)


class _Patience(wait_base):
    """Exponential with jitter, unless the error knows how long."""

    def __init__(self, base: float) -> None:
        self._otherwise = wait_random_exponential(multiplier=base, max=60)

    def __call__(self, retry_state: Any) -> float:
        error = retry_state.outcome.exception()
        told = getattr(error, "retry_after", None)
        return float(told) if told else float(self._otherwise(retry_state))


def _transient(error: BaseException) -> bool:
    passes = isinstance(error, SourceUnavailable | TransferBroken | RateLimited)
    return passes and (getattr(error, "retry_after", None) or 0.0) <= _LONGEST_WAIT


def _retry_after(response: requests.Response) -> float | None:
    """What the answer asks to wait, in seconds; given as seconds or as a date by the answer's own clock."""
    told = response.headers.get("Retry-After", "")
    if told.isdecimal():
        return float(told)
    try:
        until, now = (parsedate_to_datetime(text) for text in (told, response.headers.get("Date", "")))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


class Client:
    """Requests with login, one renewal, retries, quota and clear errors. Not for several threads."""

    def __init__(self, settings: SalesforceSettings) -> None:
        self.settings = settings
        self.api_calls = 0
        self.bytes_in = 0
        self.on_wait: Callable[[float, str], None] = lambda _seconds, _reason: None
        self._used: int | None = None
        self._allowed: int | None = None
        self._server_time: datetime | None = None
        self._sf: Any = None
        self._session = requests.Session()
        self._session.headers["Accept-Encoding"] = "gzip"
        if settings.endpoint:
            self._session.mount("https://", _Loopback(settings.endpoint))
        if settings.ca_file:
            self._session.verify = str(settings.ca_file)
            # Without this, REQUESTS_CA_BUNDLE of the process would win over the file.
            self._session.trust_env = False

    def close(self) -> None:
        """Give back connections."""
        self._session.close()

    # Login

    def _login(self) -> None:
        """JWT bearer where a private key is given, client credentials otherwise."""
        s = self.settings
        common: dict[str, Any] = {"session": self._session, "version": s.api_version, "domain": s.domain}
        if s.consumer_key is None:
            raise ConfigurationError(
                "Salesforce has no credentials.",
                hint="Set NOVADE_SALESFORCE_CONSUMER_KEY with either NOVADE_SALESFORCE_USERNAME and _PRIVATE_KEY (JWT "
                "bearer) or _CONSUMER_SECRET (client credentials), or start the sandbox with `make run`.",
            )
        key = s.consumer_key.get_secret_value()
        if s.private_key is not None and s.username:
            flow: dict[str, Any] = {
                "username": s.username,
                "consumer_key": key,
                "privatekey": s.private_key.get_secret_value(),
            }
        elif s.consumer_secret is not None:
            if s.domain in ("login", "test"):
                raise ConfigurationError(
                    f"Client credentials need the org's My Domain, not {s.domain!r}.",
                    hint='Set salesforce.domain to the My Domain without ".salesforce.com", e.g. "acme.my".',
                )
            flow = {"consumer_key": key, "consumer_secret": s.consumer_secret.get_secret_value()}
        else:
            raise ConfigurationError(
                "Salesforce credentials are incomplete: neither a private key with a user name nor a consumer secret.",
                hint="Set NOVADE_SALESFORCE_PRIVATE_KEY and _USERNAME, or NOVADE_SALESFORCE_CONSUMER_SECRET.",
            )
        try:
            with warnings.catch_warnings(), self._translated("logging in"):
                # The library warns with a URL that holds the consumer key.
                warnings.simplefilter("ignore")
                self._sf = SimpleSalesforce(**common, **flow)
        except SalesforceAuthenticationFailed as error:
            raise login_fault(error.code, error.auth_message, s.domain) from None
        except (AttributeError, KeyError) as error:
            # The library takes any JSON for a token's answer; an outage answers with a list of errors.
            raise SourceUnavailable(
                f"The Salesforce login at {s.domain} answered something that is no token ({type(error).__name__})."
            ) from None
        except (ValueError, TypeError, PyJWTError) as error:
            raise AuthenticationFailed(
                f"The Salesforce private key cannot be used ({type(error).__name__}).",
                hint="NOVADE_SALESFORCE_PRIVATE_KEY must be the PEM text of an RSA private key.",
            ) from None

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Faults of the wire as our errors; the library's own texts can hold URLs with parameters."""
        try:
            yield
        except requests.exceptions.SSLError as error:
            raise ConfigurationError(
                f"The certificate of Salesforce was not accepted while {doing}.",
                hint="Check salesforce.ca_file and whether a proxy breaks TLS.",
                origin="source",
            ) from error
        except requests.exceptions.ConnectionError as error:
            raise SourceUnavailable(f"The connection to Salesforce failed while {doing}.") from error
        except requests.exceptions.Timeout as error:
            raise SourceUnavailable(
                f"Salesforce did not answer within {self.settings.timeout_seconds:g} s while {doing}."
            ) from error
        except requests.exceptions.RequestException as error:
            raise TransferBroken(f"The answer of Salesforce broke off while {doing}.") from error

    # Requests

    def json(self, method: str, path: str, doing: str, **parameters: Any) -> Any:
        """A request whose answer is JSON; numbers stay text, so that no digit is lost."""

        def once() -> Any:
            with self._send(method, path, doing, **parameters) as response:
                body = response.content
                self.bytes_in += len(body)
                if not body:
                    return None
                try:
                    return json.loads(body, parse_float=str, parse_int=str)
                except ValueError as error:
                    raise TransferBroken(f"Salesforce answered something that is not JSON while {doing}.") from error

        return self.retrying(once)

    def retrying(self, once: Callable[[], Any]) -> Any:
        """Call ``once`` until it works, the tries are used up, or an error says that trying is of no use."""
        attempts = Retrying(
            stop=stop_after_attempt(self.settings.tries),
            wait=_Patience(self.settings.retry_base_seconds),
            retry=retry_if_exception(_transient),
            before_sleep=self._say_wait,
            reraise=True,
        )
        with_translation = self._translated_call(once)
        return attempts(with_translation)

    def _say_wait(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0.0
        self.on_wait(seconds, getattr(error, "message", "Salesforce"))

    def _translated_call(self, once: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            with self._translated("reading an answer"):
                return once()

        return call

    @contextmanager
    def _send(self, method: str, path: str, doing: str, **parameters: Any) -> Iterator[requests.Response]:
        """One request, with one new login where the session has expired; yields a good answer, streamed."""
        if self._sf is None:
            self.retrying(self._login)
        for renewed in (False, True):
            self._check_quota(doing)
            with self._translated(doing):
                headers = {"Authorization": f"Bearer {self._sf.session_id}", **parameters.get("headers", {})}
                response = self._session.request(
                    method,
                    self._url(path),
                    **{**parameters, "headers": headers},
                    timeout=(min(30.0, self.settings.timeout_seconds), self.settings.timeout_seconds),
                    stream=True,
                )
            self._note(response)
            if response.status_code < 300:
                try:
                    yield response
                finally:
                    response.close()
                return
            with self._translated(doing):
                body = response.content
            error = fault(read_answer(response.status_code, body), doing)
            if isinstance(error, RetryableError):
                error.retry_after = max(error.retry_after or 0.0, _retry_after(response) or 0.0) or None
            if not isinstance(error, SessionExpired):
                raise error
            if renewed:
                raise AuthenticationFailed(
                    f"Salesforce refused a session right after login, while {doing}.",
                    hint="Check the session settings of the org and whether another process logs this user out.",
                )
            _log.info("salesforce session expired, logging in again")
            self._login()

    @contextmanager
    def stream(self, method: str, path: str, doing: str, **parameters: Any) -> Iterator[requests.Response]:
        """A good answer whose body the caller reads in blocks; wrap the whole in :meth:`retrying`."""
        with self._send(method, path, doing, **parameters) as response:
            yield response

    def _url(self, path: str) -> str:
        """``path`` is relative to the version's root, or absolute on the host as in nextRecordsUrl."""
        base = str(self._sf.base_url)
        return f"https://{self._sf.sf_instance}{path}" if path.startswith("/") else base + path

    # Clock and quota

    def _note(self, response: requests.Response) -> None:
        self.api_calls += 1
        usage = _USAGE.search(response.headers.get("Sforce-Limit-Info", ""))
        if usage:
            self._used, self._allowed = int(usage[1]), int(usage[2])
        stamp = response.headers.get("Date")
        if stamp:
            self._server_time = parsedate_to_datetime(stamp).astimezone(UTC)

    def _check_quota(self, doing: str) -> None:
        if self._used is None or not self._allowed:
            return
        limit = self._allowed * (100 - self.settings.api_reserve_percent) // 100
        if self._used >= limit:
            raise QuotaReserved(
                f"Salesforce has {self._used:,} of {self._allowed:,} daily API calls used; the last "
                f"{self.settings.api_reserve_percent} % are reserved, so the run stopped while {doing}.",
                hint="Wait until the rolling 24-hour allocation frees calls, or lower salesforce.api_reserve_percent.",
                retry_after=QUOTA_SECONDS,
            )

    def facts(self) -> Facts:
        """Calls used and allowed in the rolling 24 hours as the last answer said, and who answered."""
        about = {"API version": self.settings.api_version}
        if self._sf is not None:
            about["instance"] = str(self._sf.sf_instance)
        return Facts(calls_used=self._used, calls_allowed=self._allowed, about=about)

    def server_time(self) -> datetime:
        """The clock of the service, from an answer's Date header (whole seconds)."""
        # The list of resources, which every user may read.
        self.json("GET", "", "reading its clock")
        if self._server_time is None:
            raise TransferBroken("Salesforce sent no Date header, so its clock is not known.")
        return self._server_time
