"""One door for every request to Amplitude: keys, tries, waits, meters and clear errors.

It goes to the configured host alone, and a redirect is an error, so that the keys never travel elsewhere.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.auth import HTTPBasicAuth

from novade_core.errors import (
    ConfigurationError,
    NovadeError,
    ProtocolBroken,
    RateLimited,
    RetryableError,
    SourceUnavailable,
    TransferBroken,
)
from novade_core.settings import AmplitudeSettings
from novade_core.sources.amplitude.faults import NoData, Refused, TimedOut, fault

#: Where each region answers. ``analytics.amplitude.com`` is the web application and no address of the API.
HOSTS = {"us": "https://amplitude.com", "eu": "https://analytics.eu.amplitude.com"}
#: A longer wait than this is left to the run's next attempt, which holds no place at the source meanwhile.
_LONGEST_WAIT = 120.0
#: The first wait after a refusal for the rate that names none.
_LIMIT_SECONDS = 15.0
#: More than any list of definitions; beyond it something is wrong.
_LARGEST_JSON = 256 << 20
_BLOCK = 1 << 20

_Answer = TypeVar("_Answer")


class Client:
    """Requests with the project's keys. Not for several threads, but for the meters."""

    def __init__(self, settings: AmplitudeSettings) -> None:
        self.settings = settings
        self.endpoint = (settings.endpoint or HOSTS[settings.region]).rstrip("/")
        self.api_calls = 0
        self.bytes_in = 0
        self.on_wait: Callable[[float, str], None] = lambda _seconds, _reason: None
        self._clock: tuple[datetime, float] | None = None
        self._session = requests.Session()
        # Proxies and ~/.netrc of the process are not asked where an authority is named.
        self._session.trust_env = settings.ca_file is None
        self._session.headers["Accept-Encoding"] = "identity"
        if settings.ca_file:
            self._session.verify = str(settings.ca_file)

    def close(self) -> None:
        """Give back connections."""
        self._session.close()

    def json(self, path: str, doing: str, **parameters: Any) -> Any:
        """GET an address whose answer is JSON. Raises faults.NoData for 404."""

        def once() -> Any:
            with self._send(path, doing, **parameters) as response:
                body = b"".join(self._blocks(response, doing, _LARGEST_JSON))
            try:
                return json.loads(body)
            except (ValueError, RecursionError) as error:
                raise TransferBroken(f"Amplitude answered something that is not JSON while {doing}.") from error

        return self._retrying(once)

    def download(self, path: str, file: Path, doing: str, limit: int, **parameters: Any) -> int:
        """GET an address into a file; answers its bytes. Nothing but a block is held.

        Raises faults.NoData for 404, Refused for 400 and TimedOut for 504, none of which is tried again.
        """

        def once() -> int:
            size = 0
            with self._made(path, doing, **parameters) as response, file.open("wb") as out:
                for block in self._blocks(response, doing, limit):
                    size += out.write(block)
            return size

        return self._retrying(once)

    def server_time(self) -> datetime:
        """The clock of the service, from the Date header of its first answer and the seconds since.

        The export of an hour that is still to come is asked for: nothing has to be made for it, and the answer, which
        is 404 or 400, tells whether keys and region are right.
        """
        if self._clock is None:
            future = f"{datetime.now(UTC) + timedelta(days=2):%Y%m%dT%H}"

            def once() -> None:
                with self._send("/api/2/export", "reading its clock", params={"start": future, "end": future}):
                    pass

            with suppress(NoData, Refused):
                self._retrying(once)
        if self._clock is None:
            raise TransferBroken("Amplitude sent no Date header, so its clock is not known.")
        known, since = self._clock
        return known + timedelta(seconds=time.monotonic() - since)

    # One request

    @contextmanager
    def _made(self, path: str, doing: str, **parameters: Any) -> Iterator[requests.Response]:
        """A good answer that Amplitude makes as a whole before its first byte: minutes of silence are no standstill."""
        said = "Amplitude makes the export before it sends it."
        with ExitStack() as stack:
            self.on_wait(self.settings.timeout_seconds, said)
            try:
                response = stack.enter_context(self._send(path, doing, **parameters))
            finally:
                self.on_wait(0.0, said)
            yield response

    @contextmanager
    def _send(self, path: str, doing: str, **parameters: Any) -> Iterator[requests.Response]:
        """A good answer whose body is still to be read."""
        keys = (self.settings.api_key, self.settings.secret_key)
        if keys[0] is None or keys[1] is None:
            raise ConfigurationError(
                "Amplitude has no credentials.",
                hint="Set NOVADE_AMPLITUDE_API_KEY and NOVADE_AMPLITUDE_SECRET_KEY, or start the sandbox with "
                "`make run`.",
            )
        self.api_calls += 1
        seconds = self.settings.timeout_seconds
        with (
            self._translated(doing),
            self._session.get(
                self.endpoint + path,
                auth=HTTPBasicAuth(keys[0].get_secret_value(), keys[1].get_secret_value()),
                timeout=(min(30.0, seconds), seconds),
                allow_redirects=False,
                stream=True,
                **parameters,
            ) as response,
        ):
            self._note_clock(response)
            if not 200 <= response.status_code < 300:
                raised = fault(response.status_code, response.raw.read(1 << 16), doing)
                if isinstance(raised, RetryableError):
                    raised.retry_after = self._asked_to_wait(response)
                raise raised
            yield response

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Faults of the wire as our errors."""
        try:
            yield
        except requests.exceptions.SSLError as error:
            raise ConfigurationError(
                f"The certificate of Amplitude was not accepted while {doing}.",
                hint="Check amplitude.endpoint and amplitude.ca_file, and whether a proxy breaks TLS.",
                origin="source",
            ) from error
        except requests.exceptions.Timeout as error:
            raise SourceUnavailable(
                f"Amplitude did not answer within {self.settings.timeout_seconds:g} s while {doing}."
            ) from error
        except requests.exceptions.ConnectionError as error:
            host = urlsplit(self.endpoint).hostname
            raise SourceUnavailable(f"The connection to Amplitude ({host}) failed while {doing}.") from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise TransferBroken(f"The answer of Amplitude broke off while {doing}.") from error

    def _blocks(self, response: requests.Response, doing: str, limit: int) -> Iterator[bytes]:
        size = 0
        for block in response.iter_content(_BLOCK):
            size += len(block)
            self.bytes_in += len(block)
            if size > limit:
                raise ProtocolBroken(
                    f"Amplitude's answer exceeds {limit >> 20:,} MiB while {doing}.",
                    hint="Raise amplitude.max_archive_mb if exports are really so large, or lower "
                    "amplitude.hours_per_request.",
                )
            yield block

    def _note_clock(self, response: requests.Response) -> None:
        stamp = response.headers.get("Date")
        if self._clock is None and stamp:
            try:
                self._clock = parsedate_to_datetime(stamp).astimezone(UTC), time.monotonic()
            except ValueError:
                return

    @staticmethod
    def _asked_to_wait(response: requests.Response) -> float | None:
        """Retry-After in seconds, or as a date by the answer's own clock; None where it is not said."""
        told = response.headers.get("Retry-After", "")
        if told.isdecimal():
            return float(told)
        try:
            until, now = (parsedate_to_datetime(text) for text in (told, response.headers.get("Date", "")))
            return max(0.0, (until - now).total_seconds())
        except (ValueError, TypeError):
            return None

    # Tries and waits

    def _retrying(self, once: Callable[[], _Answer]) -> _Answer:
        """Call until it works, the tries are used up, or an error says that trying is of no use."""
        failed = 0
        while True:
            try:
                return once()
            except TimedOut:
                raise  # a smaller window helps, the same one again hardly does
            except (SourceUnavailable, TransferBroken, RateLimited) as error:
                failed += 1
                bound = min(60.0, self.settings.retry_base_seconds * 2 ** (failed - 1))
                # Spread, so that many clients do not come back together.
                seconds = error.retry_after or random.uniform(0, bound)  # noqa: S311  no secret
                if isinstance(error, RateLimited) and error.retry_after is None:
                    seconds = min(60.0, _LIMIT_SECONDS * self.settings.retry_base_seconds * 2 ** (failed - 1))
                self._wait(error, seconds, is_last=failed >= self.settings.tries)

    def _wait(self, error: NovadeError, seconds: float, *, is_last: bool) -> None:
        if is_last or seconds > _LONGEST_WAIT:
            raise error
        self.on_wait(seconds, error.message)
        time.sleep(seconds)
