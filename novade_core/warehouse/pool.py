"""A dedicated pool as Azure's management sees it: is it online, resume it, pause it. Nothing here opens the pool.

Both calls only ask: Azure answers 202 and takes minutes. So nobody waits here; whoever asked looks again later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote

import requests

from novade_core.errors import AuthenticationFailed, ConfigurationError, NovadeError, RetryableError
from novade_core.settings import PoolSettings

_SCOPE = "https://management.azure.com/.default"
_TIMEOUT = 30.0
#: A token is renewed when it has less than this left, in seconds.
_TOKEN_ROOM = 300.0
_API = {"workspace": "2021-03-01", "standalone": "2020-08-01-preview"}


class PoolState(StrEnum):
    """Where a pool stands. Azure has more names than these; what is neither of the two is on its way."""

    ONLINE = "online"
    PAUSED = "paused"
    MOVING = "moving"  #: resuming, pausing, scaling, or a word that we do not know


@dataclass(frozen=True, kw_only=True)
class PoolStatus:
    """What the management says of a pool."""

    state: PoolState
    said: str  #: Azure's own word
    size: str | None  #: such as DW100c, where it says so


class PoolControl(Protocol):
    """Looks at a pool and asks for its resume or pause."""

    def status(self) -> PoolStatus:
        """Where it stands now."""

    def resume(self) -> None:
        """Ask for it; nothing happens to a pool that is online or on its way."""

    def pause(self) -> None:
        """Ask for it; it ends every session. Nothing happens to a pool that is paused or on its way."""


def state_of(said: str) -> PoolState:
    """Azure's word as one of ours; case does not matter."""
    return {"online": PoolState.ONLINE, "paused": PoolState.PAUSED}.get(said.strip().lower(), PoolState.MOVING)


class ArmPool:
    """A pool behind Azure's management, in a workspace or standalone (formerly SQL DW), which differ in the route."""

    def __init__(self, settings: PoolSettings, *, token: Callable[[], tuple[str, float]] | None = None) -> None:
        """``token``: gives a token and the instant (seconds of the epoch) at which it ends; default: azure-identity."""
        self._settings = settings
        self._ask_token = token or self._fixed_or_asked
        self._token: tuple[str, float] = ("", 0.0)

    @property
    def called(self) -> str:
        """The pool in words."""
        return f"the SQL pool {self._settings.name} of {self._settings.workspace}"

    def status(self) -> PoolStatus:
        """Where it stands. Raises ConfigurationError, AuthenticationFailed, RetryableError."""
        answer = self._call("GET", "")
        try:
            body = answer.json()
            said = str(body["properties"]["status"])
        except (ValueError, KeyError, TypeError) as error:
            raise RetryableError(
                f"Azure's answer about {self.called} has no status.",
                hint="It may work later; if it stays, look at the pool in the portal.",
                origin="warehouse",
            ) from error
        size = body.get("sku", {}).get("name") if isinstance(body.get("sku"), dict) else None
        return PoolStatus(state=state_of(said), said=said, size=str(size) if size else None)

    def resume(self) -> None:
        """Ask for it. Raises as ``status`` does."""
        self._call("POST", "/resume")

    def pause(self) -> None:
        """Ask for it. Raises as ``status`` does."""
        self._call("POST", "/pause")

    def _url(self, action: str) -> str:
        s = self._settings
        group, server, name = (quote(part or "", safe="") for part in (s.resource_group, s.workspace, s.name))
        provider = (
            f"Microsoft.Synapse/workspaces/{server}/sqlPools/{name}"
            if s.kind == "workspace"
            else f"Microsoft.Sql/servers/{server}/databases/{name}"
        )
        scope = f"subscriptions/{quote(s.subscription or '', safe='')}/resourceGroups/{group}"
        return f"{s.endpoint.rstrip('/')}/{scope}/providers/{provider}{action}?api-version={_API[s.kind]}"

    def _call(self, method: str, action: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._current_token()}"}
        authority = self._settings.ca_file
        try:
            answer = requests.request(
                method,
                self._url(action),
                headers=headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
                verify=str(authority) if authority else True,
            )
        except requests.RequestException as error:
            raise RetryableError(
                f"Azure's management was not reached about {self.called}: {type(error).__name__}.", origin="warehouse"
            ) from error
        # 409: it is on its way already, which the next look shows.
        if answer.status_code < 300 or (method == "POST" and answer.status_code == 409):
            return answer
        raise self._fault(answer, action.removeprefix("/") or "look")

    def _fault(self, answer: requests.Response, what: str) -> NovadeError:
        if answer.status_code == 401:
            self._token = ("", 0.0)
            return AuthenticationFailed(
                f"Azure did not take our token for {self.called}.",
                hint="Give this machine an identity, or log in with `az login` to the subscription's tenant.",
                origin="warehouse",
            )
        if answer.status_code == 403:
            return ConfigurationError(
                f"Our identity may not {what} {self.called}.",
                hint="Assign it the role Novade pool operator; `python -m jobs azure plan` prints the command.",
                origin="warehouse",
            )
        if answer.status_code in (400, 404, 405):
            return ConfigurationError(
                f"Azure does not know {self.called} ({answer.status_code}).",
                hint="Check kind, subscription, resource_group, workspace and name of the environment's pool.",
                origin="warehouse",
            )
        return RetryableError(
            f"Azure's management answered {answer.status_code} about {self.called}.", origin="warehouse"
        )

    # Tokens

    def _current_token(self) -> str:
        if self._token[1] - time.time() < _TOKEN_ROOM:
            self._token = self._ask_token()
        return self._token[0]

    def _fixed_or_asked(self) -> tuple[str, float]:
        if self._settings.token is not None:
            return self._settings.token.get_secret_value(), float("inf")
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import DefaultAzureCredential

        try:
            credential = DefaultAzureCredential(managed_identity_client_id=self._settings.client_id)
            given = credential.get_token(_SCOPE)
        except ClientAuthenticationError as error:
            raise AuthenticationFailed(
                f"There is no Azure identity to ask about {self.called}.",
                hint="Give this machine a managed identity, or log in with `az login`.",
                origin="warehouse",
            ) from error
        return given.token, float(given.expires_on)
