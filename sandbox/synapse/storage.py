"""Blobs as the pool reaches them: addresses, credentials by the official matrix, files fetched over HTTP."""

from __future__ import annotations

import fnmatch
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerClient

from .errors import SqlError, not_offered

if TYPE_CHECKING:
    from .engine import Engine

_URL = re.compile(r"https://([a-z0-9]{3,24})\.(blob|dfs)\.core\.windows\.net/([a-z0-9-]{3,63})(?:/(.*))?", re.I)
_HADOOP = re.compile(r"(wasbs|abfss)://([a-z0-9-]{3,63})@([a-z0-9]{3,24})\.(blob|dfs)\.core\.windows\.net/?(.*)", re.I)
#: Old enough for every Azurite.
API_VERSION = "2021-12-02"
_PRINCIPAL = re.compile(r"[^@]+@https://login\.microsoftonline\.com/[^/]+/oauth2/(v2\.0/)?token", re.I)


@dataclass(frozen=True)
class Place:
    """A path in a container of an account. ``path`` may be a blob, a folder or hold wildcards."""

    account: str
    endpoint: str  #: blob or dfs
    container: str
    path: str


@dataclass(frozen=True)
class Credential:
    """What a statement or a database scoped credential gives."""

    identity: str
    secret: str = ""

    @property
    def kind(self) -> str:
        """sas, key, managed, principal; refused when it is none of these."""
        low = self.identity.lower()
        if low == "shared access signature":
            return "sas"
        if low == "storage account key":
            return "key"
        if low in ("managed identity", "managed service identity"):
            return "managed"
        if _PRINCIPAL.fullmatch(self.identity):
            return "principal"
        raise no_access(f"the credential's IDENTITY '{self.identity}' is none that is known")


def no_access(reason: str) -> SqlError:
    """What a client sees when the pool cannot read the storage; the useful text is at the end."""
    return SqlError(110802, f"An internal DMS error occurred that caused this operation to fail. Details: {reason}")


def place_of(url: str) -> Place:
    """From ``https://`` as COPY and OPENROWSET write it, or ``wasbs://`` and ``abfss://``."""
    if found := _URL.fullmatch(url):
        return Place(found[1], found[2].lower(), found[3], found[4] or "")
    if found := _HADOOP.fullmatch(url):
        return Place(found[3], found[4].lower(), found[2], found[5])
    raise SqlError(105215, f"External file access failed: the path '{url}' is not a valid storage address.")


def check_matrix(engine: Engine, place: Place, credential: Credential | None, file_type: str) -> None:
    """Which credential reads which file over which endpoint."""
    if credential is None or file_type == "CSV":
        return
    kind = credential.kind
    fits = {"key": ("blob", "dfs"), "sas": ("blob",), "managed": ("dfs",), "principal": ("dfs",)}[kind]
    if kind == "managed" and engine.pool.settings["managed_identity_on_blob"]:
        fits = ("blob", "dfs")
    if place.endpoint not in fits:
        raise no_access(f"{file_type} over the {place.endpoint} endpoint is not supported with {credential.identity}")


class Blobs:
    """The container of a place, opened with a credential."""

    def __init__(self, engine: Engine, place: Place, credential: Credential | None) -> None:
        known = engine.pool.storage.get(place.account)
        if known is None:
            raise no_access(f"the storage account {place.account} is not known to the stand-in")
        self.place = place
        self.client = ContainerClient(
            known["endpoint"],
            place.container,
            credential=self._key(engine, credential, known["key"]),
            api_version=API_VERSION,
            retry_total=0,
        )

    def _key(self, engine: Engine, credential: Credential | None, key: str) -> str | dict[str, str] | None:
        if credential is None:
            return None
        kind = credential.kind
        if kind == "sas":
            return credential.secret.removeprefix("?")
        if kind == "key":
            return {"account_name": self.place.account, "account_key": credential.secret}
        if kind == "managed" and credential.secret:
            raise no_access("a managed identity has no SECRET")
        if kind == "principal" and not credential.secret:
            raise no_access("a service principal needs a SECRET")
        if not engine.pool.settings["managed_identity_granted"]:
            raise no_access(
                "this request is not authorized to perform this operation, 403 (AuthorizationPermissionMismatch)"
            )
        return {"account_name": self.place.account, "account_key": key}

    def names(self, *, hidden: bool = False, recursive: bool = True) -> list[str]:
        """Blobs of the path: itself, those in the folder, or those that fit the wildcards; sorted.

        Names that start with ``_`` or ``.`` are skipped in folders, as COPY and external tables do.
        """
        path = self.place.path
        try:
            if path and "*" not in path and not path.endswith("/") and self.client.get_blob_client(path).exists():
                return [path]
            start = path.split("*")[0] if "*" in path else path.rstrip("/") + "/" if path else ""
            found = list(self.client.list_blob_names(name_starts_with=start or None))
        except (AzureError, ValueError) as error:
            raise no_access(_short(error)) from error
        kept = []
        for name in found:
            if "*" in path and not fnmatch.fnmatchcase(name, path):
                continue
            rest = name[len(start) :] if "*" not in path else name[len(start.rpartition("/")[0]) :].lstrip("/")
            parts = rest.split("/")
            if not hidden and any(p.startswith(("_", ".")) for p in parts):
                continue
            if recursive or len(parts) == 1:
                kept.append(name)
        return sorted(kept)

    def fetch(self, name: str, to: Path) -> Path:
        """Download one blob."""
        try:
            with to.open("wb") as out:
                self.client.download_blob(name).readinto(out)
        except (AzureError, ValueError) as error:
            raise no_access(f"{name}: {_short(error)}") from error
        return to


def _short(error: Exception) -> str:
    code = getattr(error, "error_code", None)
    return f"{code or type(error).__name__}: {str(error).splitlines()[0]}"


@contextmanager
def scratch(engine: Engine) -> Iterator[Path]:
    """A folder for downloaded files, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="copy-", dir=engine.pool.folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def credential_of(given: str | dict[str, str]) -> Credential:
    """``(IDENTITY = '...', SECRET = '...')``."""
    if not isinstance(given, dict) or set(given) - {"IDENTITY", "SECRET"} or "IDENTITY" not in given:
        raise not_offered("this form of CREDENTIAL")
    return Credential(given["IDENTITY"], given.get("SECRET", ""))
