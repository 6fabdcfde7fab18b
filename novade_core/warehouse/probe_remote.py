"""Facts that one statement cannot ask: Azure's management, the Blob service, and what a COPY leaves in the views."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError, HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import BlobBlock, BlobLeaseClient, BlobServiceClient, ContainerClient, ContentSettings

from novade_core.errors import ConfigurationError, NovadeError
from novade_core.settings import Environment, LandingSettings
from novade_core.warehouse.pool import ArmPool, PoolStatus
from novade_core.warehouse.probe_pool import CouldNotAsk, PoolConnection
from novade_core.warehouse.synapse_sql import Table, count_approximately

#: The service version that the landing speaks.
_SPOKEN = "2025-11-05"
_MOMENT = datetime(2024, 1, 2, 3, 4, 5, 123456)  # noqa: DTZ001  a pool's instants have no zone


class Remote:
    """The services beside the pool, and the place that was made to write in."""

    def __init__(self, environment: Environment, pool: PoolConnection, schema: str | None) -> None:
        self.pool = pool
        self.schema = schema
        self._warehouse = environment.warehouse
        self._management = environment.pool
        self._landing = environment.landing
        self._statuses: dict[str, PoolStatus | None] = {}
        self._container: ContainerClient | None = None

    def answer(self, name: str) -> str:
        """One of the questions by name. Raises CouldNotAsk."""
        return _QUESTIONS[name](self)

    # Azure's management

    def _status(self, kind: str) -> PoolStatus | None:
        """What one of the two routes says; None where it does not know the pool."""
        settings = self._management
        if settings.kind == "none":
            raise CouldNotAsk("the environment names no pool in Azure's management")
        if kind not in self._statuses:
            if settings.name is None:
                settings = settings.model_copy(update={"name": self._warehouse.database})
            try:
                self._statuses[kind] = ArmPool(settings.model_copy(update={"kind": kind})).status()
            except ConfigurationError:
                self._statuses[kind] = None
            except NovadeError as error:
                raise CouldNotAsk(f"Azure's management did not answer ({error.kind})") from None
        return self._statuses[kind]

    def management_route(self) -> str:
        """workspace, server, both or none."""
        known = [w for w, k in (("workspace", "workspace"), ("server", "standalone")) if self._status(k)]
        return known[0] if len(known) == 1 else "both" if known else "none"

    def _found(self) -> PoolStatus:
        found = self._status("workspace") or self._status("standalone")
        if found is None:
            raise CouldNotAsk("Azure's management does not know the pool")
        return found

    def management_status(self) -> str:
        """Azure's own word."""
        said = self._found().said
        return said if re.fullmatch(r"[A-Za-z]{1,20}", said) else "something else"

    def management_size(self) -> str:
        """Such as DW100c."""
        said = self._found().size
        return said if said and re.fullmatch(r"DW\d{1,5}c?", said) else "something else" if said else "no size"

    # Storage

    @property
    def folder(self) -> str:
        """Below which blobs are written."""
        return f"{self._landing.prefix.strip('/')}/{self.schema}".lstrip("/")

    def container(self) -> ContainerClient:
        """The landing's container. Raises CouldNotAsk where files land elsewhere."""
        if self._landing.kind != "azure_blob":
            raise CouldNotAsk("the environment lands in no Azure Blob Storage")
        if self._container is None:
            self._container = _service(self._landing).get_container_client(self._landing.container)
        return self._container

    def storage_version(self) -> str:
        """Does the service take the version that we speak?"""
        with _asking():
            return _refusal(lambda: next(iter(self.container().list_blob_names(results_per_page=1)), None))

    def storage_missing(self) -> str:
        """Reading what is not there."""
        blob = self.container().get_blob_client(f"novade-probe-{uuid4().hex}")
        return _refusal(lambda: blob.download_blob().readall())

    def _blob(self) -> Any:
        return self.container().get_blob_client(f"{self.folder}/{uuid4().hex}")

    def storage_create_once(self) -> str:
        """The second of two creations."""
        blob = self._blob()
        blob.upload_blob(b"1")
        return _refusal(lambda: blob.upload_blob(b"2"))

    def storage_if_match(self) -> str:
        """A write under a former ETag."""
        blob = self._blob()
        former = blob.upload_blob(b"1")["etag"]
        blob.upload_blob(b"2", overwrite=True)
        return _refusal(
            lambda: blob.upload_blob(b"3", overwrite=True, etag=former, match_condition=MatchConditions.IfNotModified)
        )

    def storage_wrong_md5(self) -> str:
        """A block that arrives otherwise than its MD5 says."""
        wrong = hashlib.md5(b"2", usedforsecurity=False).digest()
        blob = self._blob()
        # The library makes the header from the content; so it is set as one of ours.
        headers = {"Content-MD5": base64.b64encode(wrong).decode()}
        return _refusal(lambda: blob.stage_block("1", b"1", length=1, headers=headers))

    def storage_block_md5(self) -> str:
        """Does the service make an MD5 of a block upload?"""
        blob = self._blob()
        blob.stage_block("1", b"1", length=1)
        blob.commit_block_list([BlobBlock("1")], content_settings=ContentSettings())
        return "kept" if blob.get_blob_properties().content_settings.content_md5 else "none"

    def storage_staged_block(self) -> str:
        """Is a blob seen before its blocks are committed?"""
        blob = self._blob()
        blob.stage_block("1", b"1", length=1)
        listed = blob.blob_name in set(self.container().list_blob_names(name_starts_with=self.folder))
        return "visible" if listed or blob.exists() else "invisible"

    def storage_second_lease(self) -> str:
        """A lease on a leased blob."""
        blob = self._blob()
        blob.upload_blob(b"1")
        with _leased(blob):
            return _refusal(lambda: BlobLeaseClient(blob).acquire(lease_duration=15))

    def storage_write_on_lease(self) -> str:
        """A write without the lease's id."""
        blob = self._blob()
        blob.upload_blob(b"1")
        with _leased(blob):
            return _refusal(lambda: blob.upload_blob(b"2", overwrite=True))

    # The place to write in

    def make_files(self) -> dict[str, str]:
        """Put the files that COPY is asked to load; answers what ``{files}`` and the like stand for.

        Raises CouldNotAsk where files land elsewhere, and ConfigurationError where something lies there already.
        """
        container = self.container()
        with _asking():
            if next(iter(container.list_blob_names(name_starts_with=f"{self.folder}/")), None) is not None:
                raise ConfigurationError(
                    f"Blobs lie below {self.folder}/ already.",
                    hint="Give --write another name; what lies there is not the probe's to remove.",
                    origin="landing",
                )
            for name, content in _files().items():
                container.upload_blob(f"{self.folder}/{name}", content)
        landing = self._landing
        endpoint = landing.location_endpoint
        if endpoint == "auto":
            endpoint = "dfs" if landing.credential == "managed_identity" else "blob"
        made = {
            f"{kind}_files": f"https://{landing.account}.{kind}.core.windows.net/{landing.container}/{self.folder}"
            for kind in ("blob", "dfs")
        }
        other = f"https://{landing.account}.{endpoint}.core.windows.net/novade-probe-nothing"
        return {**made, "files": made[f"{endpoint}_files"], "other_container": other, "credential": self._credential()}

    def remove_files(self) -> None:
        """Remove every blob below the folder that was made."""
        with _asking():
            for name in list(self.container().list_blob_names(name_starts_with=f"{self.folder}/")):
                self.container().delete_blob(name)

    def _credential(self) -> str:
        settings = self._warehouse
        secret = settings.copy_secret.get_secret_value().replace("'", "''") if settings.copy_secret else ""
        match settings.copy_credential:
            case "managed_identity":
                return ", CREDENTIAL = (IDENTITY = 'Managed Identity')"
            case "key":
                return f", CREDENTIAL = (IDENTITY = 'Storage Account Key', SECRET = '{secret}')"
            case "sas":
                return f", CREDENTIAL = (IDENTITY = 'Shared Access Signature', SECRET = '{secret}')"
            case _:
                return ""

    # The pool, by more than one statement

    def server_version(self) -> str:
        """See PoolConnection.server_version."""
        return self.pool.server_version()

    def secret_in_view(self) -> str:
        """Load a file with the secret, and look for it in the pool's own list of statements."""
        secret = self._warehouse.copy_secret
        if secret is None or self._warehouse.copy_credential not in ("key", "sas"):
            raise CouldNotAsk("COPY reads with no secret here")
        label = f"nv_0_look_{uuid4().hex[:8]}"
        self.pool.run("CREATE TABLE {schema}.[t] ([k] int, [t] nvarchar(100), [at] datetime2(6)) WITH (HEAP)")
        self.pool.run(
            "COPY INTO {schema}.[t] FROM '{files}/plain.parquet' WITH (FILE_TYPE = 'PARQUET'{credential}) "
            f"OPTION (LABEL = '{label}')"
        )
        rows = self.pool.run("SELECT [command] FROM sys.dm_pdw_exec_requests WHERE [label] = ?", (label,)).rows
        if not rows:
            raise CouldNotAsk("the statement is not in the view")
        return "shown" if any(secret.get_secret_value() in str(row[0]) for row in rows) else "masked"

    def approximate_rows(self) -> str:
        """Three rows, as the pool's books have them."""
        self.pool.run("CREATE TABLE {schema}.[t] ([k] int) WITH (HEAP)")
        self.pool.run("INSERT INTO {schema}.[t] SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3")
        statement = count_approximately(Table(self.schema or "", "t"))
        [(rows,)] = self.pool.run(statement.text, statement.parameters).rows
        return str(int(rows)) if rows is not None else "null"


_QUESTIONS: dict[str, Callable[[Remote], str]] = {
    "server_version": Remote.server_version,
    "management_route": Remote.management_route,
    "management_status": Remote.management_status,
    "management_size": Remote.management_size,
    "storage_version": Remote.storage_version,
    "storage_missing": Remote.storage_missing,
    "storage_create_once": Remote.storage_create_once,
    "storage_if_match": Remote.storage_if_match,
    "storage_wrong_md5": Remote.storage_wrong_md5,
    "storage_block_md5": Remote.storage_block_md5,
    "storage_staged_block": Remote.storage_staged_block,
    "storage_second_lease": Remote.storage_second_lease,
    "storage_write_on_lease": Remote.storage_write_on_lease,
    "secret_in_view": Remote.secret_in_view,
    "approximate_rows": Remote.approximate_rows,
}


def _service(landing: LandingSettings) -> BlobServiceClient:
    options: dict[str, Any] = {
        "api_version": _SPOKEN,
        "retry_total": 1,
        "connection_timeout": 20,
        "read_timeout": 60,
        "connection_verify": str(landing.ca_file) if landing.ca_file else True,
    }
    try:
        if landing.credential == "connection_string" and landing.connection_string:
            return BlobServiceClient.from_connection_string(landing.connection_string.get_secret_value(), **options)
        address = landing.endpoint or f"https://{landing.account}.blob.core.windows.net"
        credential: Any
        if landing.credential == "key" and landing.key:
            credential = AzureNamedKeyCredential(landing.account or "", landing.key.get_secret_value())
        elif landing.credential == "sas" and landing.sas:
            credential = AzureSasCredential(landing.sas.get_secret_value().lstrip("?"))
        else:
            credential = DefaultAzureCredential(managed_identity_client_id=landing.client_id)
        return BlobServiceClient(address, credential=credential, **options)
    except ValueError:
        raise CouldNotAsk("the landing's endpoint or secret is none of Azure Blob Storage") from None


def _refusal(ask: Callable[[], object]) -> str:
    """``accepted``, or status and code of the service's refusal. Raises CouldNotAsk where it did not answer."""
    try:
        ask()
    except HttpResponseError as error:
        # Not allowed, throttled and out of order say nothing about the question.
        if error.status_code is None or error.status_code in (401, 403, 429) or error.status_code >= 500:
            raise CouldNotAsk(f"the storage answered {error.status_code}") from None
        code = getattr(error, "error_code", None)
        code = str(getattr(code, "value", code))
        return f"{error.status_code} {code if re.fullmatch(r'(?!None)[A-Za-z0-9]{1,60}', code) else 'without a code'}"
    except AzureError as error:
        raise CouldNotAsk(f"the storage did not answer ({type(error).__name__})") from None
    return "accepted"


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except AzureError as error:
        status = getattr(error, "status_code", None)
        raise CouldNotAsk(f"the storage did not answer ({status or type(error).__name__})") from None


@contextmanager
def _leased(blob: Any) -> Iterator[None]:
    lease = BlobLeaseClient(blob)
    lease.acquire(lease_duration=15)
    try:
        yield
    finally:
        lease.release()


def _files() -> dict[str, bytes]:
    """Parquet of three rows: as we write it, with another kind of instants, and with a column less."""
    rows = pa.table(
        {
            "k": pa.array([1, 2, 3], pa.int32()),
            "t": ["a", "", "text"],
            "at": pa.array([_MOMENT] * 3, pa.timestamp("us")),
        }
    )
    return {
        "plain.parquet": _parquet(rows, use_deprecated_int96_timestamps=True),
        "micros.parquet": _parquet(rows),
        "narrow.parquet": _parquet(rows.select(["k"])),
    }


def _parquet(rows: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows, out, **options)
    return out.getvalue()
