"""The landing in Azure Blob Storage: create-once by condition, whole by block list, checked by MD5.

No leases: a file that is created once has nobody to be kept away from. Of two writers at once, one creates it; the
other finds the same content, which is success, or another one, which is refused.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobServiceClient,
    ContainerClient,
    ContentSettings,
    ExponentialRetry,
)
from pydantic import SecretStr

from novade_core.errors import ConfigurationError, NovadeError, StorageRefused
from novade_core.landing import azure_faults
from novade_core.settings import LOOPBACK, LandingSettings, is_safe

#: The service version that we speak. The library's default is newer than what Azurite accepts.
API_VERSION = "2025-11-05"
_MIB = 1 << 20
#: Seconds, whatever the settings say.
_LONGEST_WAIT, _CONNECTING = 60.0, 20.0


class AzureBlob:
    """Blobs below one prefix of one container. A blob appears whole, at the last request of its upload."""

    def __init__(self, settings: LandingSettings, scratch: Path) -> None:
        """``scratch``: a local folder for files before they are put. Connects to nothing yet."""
        self._settings = settings
        self._folder = scratch
        self._root = f"{settings.prefix.strip('/')}/".lstrip("/")
        self._used: Counter[str] = Counter()

    def put_file(self, path: str, local: Path) -> int:
        """See Landing.put_file; the local file is gone afterwards. Keeps one block in memory."""
        try:
            with local.open("rb") as content:
                size = self._create(path, content)
            local.unlink()
        except OSError as error:
            raise StorageRefused(
                f"The file {local} for the landing's {path} cannot be read: {error.strerror or error}.",
                hint=f"Check that {self._folder} is writable and has free space, then start the run again.",
            ) from error
        return size

    def put_once(self, path: str, content: bytes) -> None:
        """See Landing.put_once."""
        self._create(path, io.BytesIO(content))

    def read(self, path: str) -> bytes:
        """See Landing.read. Where it takes several requests, all of them are bound to the first one's ETag."""
        blob = self._blob(path)
        with self._asking(path):
            content = blob.download_blob().readall()
        self._used["landing.bytes_read"] += len(content)
        return content

    def location(self, path: str) -> str:
        """The URL that COPY INTO names, at the blob or the dfs endpoint; it holds no secret.

        An endpoint on this machine is only our own way to an account: its first part is the account's name.
        """
        blob = self._blob(path)
        address = blob.url.partition("?")[0]
        if (parts := urlsplit(address)).hostname in LOOPBACK:
            _, account, rest = parts.path.split("/", 2)
            address = f"https://{account}.blob.core.windows.net/{rest}"
        return address.replace(".blob.", ".dfs.", 1) if self._is_named_at_dfs else address

    def paths(self, prefix: str) -> list[str]:
        """See Landing.paths. Folders of an account with hierarchical namespace are no files and left out."""
        start = self._root + (f"{self._checked(prefix)}/" if prefix else "")
        with self._asking(prefix):
            found = list(self._container.list_blobs(name_starts_with=start or None, include=["metadata"]))
        files = [b.name for b in found if (b.metadata or {}).get("hdi_isfolder", "").lower() != "true"]
        return sorted(name.removeprefix(self._root) for name in files)

    def scratch(self) -> Path:
        """See Landing.scratch."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageRefused(
                f"The temporary folder {self._folder} cannot be made: {error.strerror or error}.",
                hint=f"Check that {self._folder.parent} is writable and has free space, then start the run again.",
            ) from error
        return self._folder

    def usage(self) -> Mapping[str, int]:
        """See Landing.usage: requests by billing class, tries that failed included, and bytes of content."""
        return dict(self._used)

    # Creating

    def _create(self, path: str, content: IO[bytes]) -> int:
        blob = self._blob(path)
        block = content.read(self._block)
        digest = hashlib.md5(block, usedforsecurity=False)
        size = len(block)
        blocks: list[BlobBlock] = []
        # Ids of this attempt alone: with the library's, which count from 0, two writers mix their blocks unseen.
        attempt = uuid4().hex
        with self._asking(path):
            while len(block) == self._block:
                blocks.append(BlobBlock(f"{attempt}-{len(blocks):05d}"))
                blob.stage_block(blocks[-1].id, block, length=len(block), validate_content="md5")
                block = content.read(self._block)
                digest.update(block)
                size += len(block)
            if blocks and block:
                blocks.append(BlobBlock(f"{attempt}-{len(blocks):05d}"))
                blob.stage_block(blocks[-1].id, block, length=len(block), validate_content="md5")
            try:
                self._commit(blob, blocks, block, digest.digest())
            except AzureError as error:
                # Also what a retry meets when the answer to a request that was carried out got lost.
                if azure_faults.code(error) not in azure_faults.TAKEN:
                    raise
                self._check_same(blob, path, size, digest.digest(), error)
            else:
                self._used["landing.bytes_written"] += size
        return size

    @staticmethod
    def _commit(blob: BlobClient, blocks: list[BlobBlock], only: bytes, digest: bytes) -> None:
        # A block list carries no MD5 by itself, and the service takes ours unchecked: the blocks were checked.
        settings = ContentSettings(content_md5=bytearray(digest))
        if blocks:
            blob.commit_block_list(blocks, content_settings=settings, match_condition=MatchConditions.IfMissing)
        else:
            blob.upload_blob(only, length=len(only), overwrite=False, validate_content="md5", content_settings=settings)

    @staticmethod
    def _check_same(blob: BlobClient, path: str, size: int, digest: bytes, error: AzureError) -> None:
        try:
            there = blob.get_blob_properties()
        except ResourceNotFoundError:
            raise error from None
        if there.size != size or bytes(there.content_settings.content_md5 or b"") != digest:
            raise StorageRefused(
                f"The landing already holds another {path}.",
                hint="Landed files are never rewritten; start the run again, it takes a new folder.",
            )

    # Names

    @staticmethod
    def _checked(path: str) -> str:
        # Clients and servers resolve dots in a URL, each in its own way.
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise StorageRefused(f"The path {path!r} climbs out of the landing or has an empty part.")
        return path

    def _blob(self, path: str) -> BlobClient:
        return self._container.get_blob_client(self._root + self._checked(path))

    # Connecting

    @property
    def _block(self) -> int:
        return self._settings.block_mb * _MIB

    @property
    def _is_named_at_dfs(self) -> bool:
        settings = self._settings
        wanted = settings.location_endpoint
        return wanted == "dfs" or (wanted == "auto" and settings.credential == "managed_identity")

    @cached_property
    def _container(self) -> ContainerClient:
        settings = self._settings
        if settings.credential in ("sas", "connection_string"):
            # At DEBUG it writes whole URLs, and a SAS is part of them.
            logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
        options: dict[str, Any] = {
            "api_version": API_VERSION,
            "max_single_put_size": self._block,
            "retry_policy": _Retries(settings),
            "raw_request_hook": self._count,
            "connection_timeout": min(_CONNECTING, settings.timeout_seconds),
            "read_timeout": settings.timeout_seconds,
            "connection_verify": os.fspath(settings.ca_file) if settings.ca_file else True,
        }
        try:
            if settings.credential == "connection_string":
                service = BlobServiceClient.from_connection_string(_with_secret(settings.connection_string), **options)
            else:
                service = BlobServiceClient(self._address, credential=self._credential(), **options)
            if not is_safe(service.url):
                raise ValueError
            return service.get_container_client(settings.container)
        except ValueError:
            # The library's sentence may repeat what it was given.
            raise ConfigurationError(
                "The landing's endpoint or connection string is none of Azure Blob Storage over HTTPS, with a secret.",
                hint="Correct endpoint, or NOVADE_LANDING_CONNECTION_STRING, then start again.",
                origin="landing",
            ) from None

    @property
    def _address(self) -> str:
        return self._settings.endpoint or f"https://{self._settings.account}.blob.core.windows.net"

    def _credential(self) -> AzureSasCredential | AzureNamedKeyCredential | ManagedIdentityCredential:
        settings = self._settings
        if settings.credential == "sas":
            return AzureSasCredential(_plain(settings.sas).lstrip("?"))
        if settings.credential == "key":
            return AzureNamedKeyCredential(settings.account or "", _plain(settings.key))
        return ManagedIdentityCredential(client_id=settings.client_id)

    def _count(self, request: Any) -> None:
        """Told of every request as it is sent, each try by itself, which is how Azure bills them."""
        sent = request.http_request
        meter = _billing_class(sent.method, parse_qs(urlsplit(sent.url).query))
        if meter:
            self._used[f"landing.{meter}_operations"] += 1

    @contextmanager
    def _asking(self, path: str) -> Iterator[None]:
        try:
            yield
        except AzureError as error:
            # Without its cause, whose text may hold the URL and with it a SAS.
            raise self._translated(error, path) from None

    def _translated(self, error: AzureError, path: str) -> NovadeError:
        settings = self._settings
        end = parse_qs(_plain(settings.sas).lstrip("?")).get("se", [""])[0] if settings.credential == "sas" else ""
        return azure_faults.translated(
            error,
            path=path,
            account=settings.account or self._container.account_name or self._address,
            container=settings.container,
            credential=settings.credential,
            sas_ends=quote(end, safe=":"),
        )


def _plain(secret: SecretStr | None) -> str:
    return secret.get_secret_value().strip() if secret else ""


def _with_secret(text: SecretStr | None) -> str:
    """A connection string; ValueError where it would log in as nobody."""
    plain = _plain(text)
    if not re.search(r"(AccountKey|SharedAccessSignature|UseDevelopmentStorage)=", plain, re.IGNORECASE):
        raise ValueError
    return plain


class _Retries(ExponentialRetry):
    """The library's rules on what is tried again, with our bounds."""

    def __init__(self, settings: LandingSettings) -> None:
        self._base = settings.retry_base_seconds
        tries = settings.tries - 1
        super().__init__(retry_total=tries, retry_connect=tries, retry_read=tries, retry_status=tries)

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        return random.uniform(0, min(_LONGEST_WAIT, self._base * 2 ** settings["count"]))  # noqa: S311 - no secret


def _billing_class(method: str, query: Mapping[str, list[str]]) -> str:
    """write, list, read or other; empty = free."""
    asked = query.get("comp", [""])[0]
    if method == "DELETE":
        return ""
    if asked == "list":
        return "list"
    if method == "PUT" and asked in ("", "block", "blocklist"):
        return "write"
    return "read" if method == "GET" and not asked else "other"
