"""Typed configuration: ``novade.toml`` plus secrets from the process environment or a secrets file.

The chosen environment is a frozen value and is passed on; nothing reads the process environment later.
``load_settings`` is the only reader of ``os.environ`` in the core.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from novade_core.errors import ConfigurationError, UnknownStream
from novade_core.schedules import CANARY, Outage, ScheduleSpec, Timing
from novade_core.streams import DeleteMode, RunKind, SchemaPolicy, Stream

#: Where this checkout keeps its default configuration.
PROJECT = Path(__file__).resolve().parent.parent


class _Model(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LandingSettings(_Model):
    """Where landed files live. Secrets come from the environment or a secrets file."""

    kind: Literal["folder", "azure_blob"] = "folder"  #: adapter
    path: Path = Path("var/landing")  #: the folder; all below is for azure_blob
    account: Annotated[str, Field(pattern=r"^[a-z0-9]{3,24}$")] | None = None  #: the storage account's name
    container: Annotated[str, Field(pattern=r"^[a-z0-9](-?[a-z0-9]){2,62}$")] = "landing"  #: it is not made
    prefix: str = ""  #: of all names, so that environments can share a container
    endpoint: str | None = None  #: of the Blob service; None = https://ACCOUNT.blob.core.windows.net
    location_endpoint: Literal["auto", "blob", "dfs"] = "auto"  #: in the URLs that the warehouse is told
    ca_file: Path | None = None  #: certificate authority of the endpoint
    credential: Literal["managed_identity", "sas", "key", "connection_string"] = "managed_identity"  #: who we are
    client_id: str | None = None  #: of a user-assigned managed identity
    sas: SecretStr | None = None  #: shared access signature for the container
    key: SecretStr | None = None  #: the account's key
    connection_string: SecretStr | None = None  #: as the portal shows it
    block_mb: Annotated[int, Field(ge=1, le=100)] = 8  #: MiB of one request; larger files go in blocks of this size
    timeout_seconds: Annotated[float, Field(gt=0)] = 60  #: of one request without a byte
    tries: Annotated[int, Field(ge=1, le=10)] = 4  #: of one request, for retryable faults
    retry_base_seconds: Annotated[float, Field(ge=0)] = 1.0  #: doubled at each try, with jitter


class WarehouseSettings(_Model):
    """Where tables live. Secrets come from the environment or a secrets file."""

    kind: Literal["duckdb", "synapse"] = "duckdb"  #: adapter
    path: Path = Path("var/warehouse.duckdb")  #: the database file; this and the next three are for duckdb
    memory_limit_mb: Annotated[int, Field(ge=64)] = 160  #: for the engine's buffers
    threads: Annotated[int, Field(ge=1)] = 1  #: of the engine; two load a little faster for a third more processor time
    busy_wait_seconds: Annotated[float, Field(ge=0)] = 120  #: for another process to let go of the file
    server: str | None = None  #: e.g. "acme.sql.azuresynapse.net"; this and all below is for synapse
    port: Annotated[int, Field(ge=1, le=65535)] = 1433  #: of the server
    database: str | None = None  #: the dedicated pool's name
    auth: Literal["managed_identity", "service_principal", "token", "sql"] = "managed_identity"  #: who we are to it
    user: str | None = None  #: login, client id of a service principal, or object id of a user-assigned identity
    password: SecretStr | None = None  #: of the login, or the service principal's secret
    token: SecretStr | None = None  #: an access token; without one, auth = "token" asks azure-identity for it
    driver: str | None = None  #: ODBC driver by name or file; None = found by itself
    encrypt: bool = True  #: false is refused unless the server is this machine
    copy_credential: Literal["managed_identity", "key", "sas", "none"] = "managed_identity"  #: with which COPY reads
    copy_secret: SecretStr | None = None  #: the account's key or the shared access signature for COPY
    hash_from_rows: Annotated[int, Field(ge=0)] = 2_000_000  #: tables made with so many rows are spread by their key
    columnstore_from_rows: Annotated[int, Field(ge=0)] = 60_000_000  #: … are columnstores, unless a text is unlimited
    statistics_from_rows: Annotated[int, Field(ge=1)] = 100_000  #: rows of a load after which statistics are renewed
    login_timeout_seconds: Annotated[int, Field(ge=1)] = 60  #: for one try to connect
    statement_timeout_seconds: Annotated[int, Field(ge=1)] = 3600  #: for one statement
    tries: Annotated[int, Field(ge=1, le=10)] = 4  #: of what can be repeated, for passing faults
    retry_base_seconds: Annotated[float, Field(ge=0)] = 5.0  #: doubled at each try, up to a minute


class PoolSettings(_Model):
    """The dedicated pool as Azure's management sees it, and when it is resumed for loads and paused again."""

    kind: Literal["none", "workspace", "standalone"] = "none"  #: none: nobody here resumes or pauses anything
    subscription: str | None = None  #: its id
    resource_group: str | None = None  #: where the pool is
    workspace: str | None = None  #: its workspace, or the logical server of a standalone pool
    name: str | None = None  #: of the pool; None = the warehouse's database
    client_id: str | None = None  #: of a user-assigned managed identity
    endpoint: str = "https://management.azure.com"  #: of the management, for other clouds and a stand-in
    token: SecretStr | None = None  #: fixed, for a stand-in; without one azure-identity is asked
    gather_minutes: Annotated[float, Field(ge=0)] = 60  #: the oldest landed file waits at most so long for a window
    idle_minutes: Annotated[float, Field(ge=0)] = 5  #: nothing to load and nobody there for so long, then pause
    max_minutes: Annotated[float, Field(gt=0)] = 120  #: then no further load begins
    wait_minutes: Annotated[float, Field(gt=0)] = 20  #: for a resume or a pause, before it counts as stuck


class LedgerSettings(_Model):
    """Where runs and state are recorded."""

    url: str = "sqlite:///var/ledger.sqlite"  #: SQLAlchemy URL; a relative SQLite path starts at NOVADE_HOME


class SandboxSettings(_Model):
    """The loopback stand-ins that serve an environment without credentials."""

    dir: Path = Path("var/sandbox")  #: state: seed, journal, certificates
    port: Annotated[int, Field(ge=0, le=65535)] = 8543  #: on 127.0.0.1
    contacts: Annotated[int, Field(ge=10, le=2_000_000)] = 2_000  #: records of Contact; others scale with it
    seed: int = 7  #: the same seed gives the same org


class SalesforceSettings(_Model):
    """How to reach and use one Salesforce org. Secrets come from the environment or a secrets file."""

    domain: str = "login"  #: "login", "test" or a My Domain without ".salesforce.com", e.g. "acme.my"
    username: str | None = None  #: for JWT bearer
    consumer_key: SecretStr | None = None  #: of the External Client App
    consumer_secret: SecretStr | None = None  #: for client credentials
    private_key: SecretStr | None = None  #: PEM, for JWT bearer (preferred when both are given)
    api_version: str = "62.0"  #: without a leading v
    endpoint: str | None = None  #: loopback stand-in; None = the real service
    ca_file: Path | None = None  #: certificate authority of the endpoint
    bulk_from_rows: Annotated[int, Field(ge=0)] = 10_000  #: Bulk API 2.0 from this count on, REST below
    bulk_page_rows: Annotated[int, Field(ge=100, le=250_000)] = 50_000  #: rows of one result page
    window_rows: Annotated[int, Field(ge=1_000)] = 500_000  #: history is cut into windows of about this many rows
    poll_seconds: Annotated[float, Field(gt=0)] = 2.0  #: first wait for a bulk job; grows to ten times that
    job_timeout_minutes: Annotated[int, Field(ge=1)] = 120  #: then a bulk job is aborted
    api_reserve_percent: Annotated[int, Field(ge=0, le=100)] = 20  #: of the daily calls that a sync may not touch
    timeout_seconds: Annotated[float, Field(gt=0)] = 120  #: of one request without a byte
    slots: Annotated[int, Field(ge=1, le=20)] = 2  #: runs that read from the org at the same time
    tries: Annotated[int, Field(ge=1, le=10)] = 4  #: of one request, for retryable faults
    retry_base_seconds: Annotated[float, Field(ge=0)] = 1.0  #: doubled at each try, with jitter


class WorkerSettings(_Model):
    """Timing of leases, of the scheduler and of the supervisor."""

    mode: Literal["internal", "external"] = "internal"  #: does the console work the queue itself?
    lease_seconds: Annotated[float, Field(gt=0)] = 20  #: a lease whose beat does not move for so long is dead
    beat_seconds: Annotated[float, Field(gt=0)] = 4  #: how often a run moves its beat, at least each second
    poll_seconds: Annotated[float, Field(gt=0)] = 1  #: how often the tick looks for fires and work
    stop_seconds: Annotated[float, Field(gt=0)] = 20  #: from SIGTERM to SIGKILL
    max_runs: Annotated[int, Field(ge=1, le=32)] = 2  #: children that one worker has at the same time
    retry_seconds: tuple[Annotated[float, Field(ge=0)], ...] = (10, 30, 90, 270)  #: before each further attempt
    stall_seconds: Annotated[float, Field(gt=0)] = 900  #: a run without progress for so long is ended …
    stall_floor_seconds: Annotated[float, Field(gt=0)] = 120  #: … sooner where its stream is used to less, never below
    on_time_seconds: Annotated[float, Field(ge=0)] = 15  #: a fire booked later than this is late
    clock_step_seconds: Annotated[float, Field(gt=0)] = 5  #: a clock that jumps further stops scheduling for two leases


class ApiSettings(_Model):
    """The routes that other programs call. The token comes from the environment or a secrets file."""

    token: SecretStr | None = None  #: that ``POST /api/runs`` asks for; without one the route refuses
    url: Annotated[str, Field(pattern=r"^https?://[!-~]+$")] | None = None  #: where others reach us, for absolute links


class ScheduleSettings(_Model):
    """One schedule, as it is seeded. What people change on the page wins afterwards."""

    streams: tuple[str, ...]  #: stream ids, a source for all of its streams, or "*"
    kind: Literal[RunKind.INCREMENTAL, RunKind.FULL] = RunKind.INCREMENTAL  #: incremental or full
    cron: str | None = None  #: five fields, e.g. "*/15 6-20 * * 1-5"; either this or every_seconds
    every_seconds: Annotated[int, Field(ge=1)] | None = None  #: an interval, counted from 1970-01-01T00:00Z
    timezone: str = "UTC"  #: of the cron expression
    jitter_seconds: Annotated[int, Field(ge=0)] = 0  #: spreads fires over so many seconds
    outage: Outage = Outage.ONCE  #: once, all or skip: what happens to fires that nobody was there for


class PriceSettings(_Model):
    """What a meter costs, as it is seeded. What people change on the page wins afterwards."""

    price: Annotated[Decimal, Field(ge=0)]  #: of ``per``
    per: Annotated[int, Field(ge=1)] = 1  #: so much of the meter costs the price
    unit: Annotated[str, Field(max_length=40)]  #: what ``per`` is in words
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "EUR"  #: of the price
    region: Annotated[str, Field(max_length=40)] | None = None  #: where it holds
    since: date  #: the first day on which it holds
    basis: Literal["measured", "allocated", "estimated"] = "measured"  #: how the meter becomes money
    source: Annotated[str, Field(min_length=1)]  #: where the figure comes from


#: A meter of the ledger's ``usage``, or ``rate.USD``.
Meter = Annotated[str, Field(pattern=r"^[a-z_]+\.[A-Za-z_]+$", max_length=60)]


class StreamSettings(_Model):
    """One stream. Keys left out take the source's defaults."""

    object: str | None = None  #: the source's name, e.g. "Account"
    label: str | None = None  #: as people say it
    schema_policy: SchemaPolicy = SchemaPolicy.EVOLVE  #: evolve, freeze or quarantine
    delete_mode: DeleteMode = DeleteMode.SOFT  #: soft or hard
    reject_limit: Annotated[int, Field(ge=0)] = 100  #: more rejects fail the run
    overlap_seconds: Annotated[int, Field(ge=0)] = 600  #: re-read before the checkpoint
    fresh_within_minutes: Annotated[int, Field(ge=1)] = 1440  #: older data is stale
    transport: Literal["auto", "rest", "bulk"] = "auto"  #: Salesforce: by count, or always one of them
    fields: tuple[str, ...] = ()  #: only these; empty = all that can be read


class EnvironmentSettings(_Model):
    """One environment as ``novade.toml`` describes it."""

    label: str = ""  #: shown in the frame
    colour: Literal["green", "blue", "orange", "red", "violet", "gray"] = "green"  #: of the badge
    landing: LandingSettings = LandingSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    pool: PoolSettings = PoolSettings()
    ledger: LedgerSettings = LedgerSettings()
    worker: WorkerSettings = WorkerSettings()
    sandbox: SandboxSettings | None = None
    secrets_files: tuple[Path, ...] = ()  #: TOML files whose [salesforce] etc. complete the connection
    salesforce: SalesforceSettings = SalesforceSettings()
    api: ApiSettings = ApiSettings()
    prices: dict[Meter, PriceSettings] = {}  #: in place of the file's of the same meter


class _File(_Model):
    default_environment: str = "local"
    first_sync: bool = True  #: queue the first sync of each stream when the console starts
    canary: bool = True  #: book a fire each minute, to measure the scheduler itself
    environments: dict[str, EnvironmentSettings]
    streams: dict[str, StreamSettings]
    schedules: dict[str, ScheduleSettings] = {}
    prices: dict[Meter, PriceSettings] = {}


#: Settings of a source that say who we are to it, beside its secrets.
_IDENTITY = {"domain", "username"}


class Environment(_Model):
    """One environment, resolved: absolute paths, secrets filled in. Frozen; passed, never global."""

    name: str
    file: Path  #: the configuration it comes from
    home: Path  #: relative paths start here
    temp: Path  #: scratch space of runs
    label: str
    colour: str
    landing: LandingSettings
    warehouse: WarehouseSettings
    pool: PoolSettings
    ledger_url: str
    worker: WorkerSettings
    sandbox: SandboxSettings | None
    secrets_files: tuple[Path, ...]
    salesforce: SalesforceSettings
    api: ApiSettings
    streams: tuple[Stream, ...]
    schedules: tuple[ScheduleSpec, ...]  #: to be seeded; the ledger knows what they are now
    prices: dict[str, PriceSettings]  #: by meter, to be seeded like them
    first_sync: bool

    def slots(self, source: str) -> int:
        """How many runs may read from a source at the same time."""
        return int(getattr(getattr(self, source, None), "slots", 1))

    def fingerprint(self, source: str) -> str:
        """Twelve characters that change with any of a source's credentials and tell nothing of them."""
        section = getattr(self, source, None)
        values = section.model_dump() if isinstance(section, BaseModel) else {}
        plain = {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in values.items()}
        who = {k: plain[k] for k in sorted(plain) if k in _IDENTITY or isinstance(values[k], SecretStr)}
        return hashlib.sha256(repr(who).encode()).hexdigest()[:12]

    def stream(self, stream_id: str) -> Stream:
        """The stream of this id; UnknownStream names the nearest ones."""
        for stream in self.streams:
            if stream.id == stream_id:
                return stream
        import difflib

        near = difflib.get_close_matches(stream_id, [s.id for s in self.streams], n=3, cutoff=0.5)
        known = ", ".join(near) if near else ", ".join(s.id for s in self.streams)
        raise UnknownStream(f"There is no stream {stream_id!r}; known: {known}.")


#: Fields every Salesforce object has, except where DEFAULT_SALESFORCE_STREAMS says otherwise.
_WITHOUT_DELETES = {"User"}


def _stream(stream_id: str, value: StreamSettings, file: Path) -> Stream:
    source, _, name = stream_id.partition(".")
    if source != "salesforce" or not name or not name.replace("_", "").isalnum() or name != name.lower():
        raise ConfigurationError(
            f"{file}: streams.{stream_id!r}: a stream is named source.name in lower case; known sources: salesforce."
        )
    object_name = value.object or "".join(part.capitalize() for part in name.split("_"))
    return Stream(
        source=source,
        name=name,
        label=value.label or f"Salesforce {object_name}",
        object_name=object_name,
        primary_key=("Id",),
        cursor_field="SystemModstamp",
        version_field="SystemModstamp",
        created_field="CreatedDate",
        deleted_field=None if object_name in _WITHOUT_DELETES else "IsDeleted",
        delete_mode=value.delete_mode,
        schema_policy=value.schema_policy,
        reject_limit=value.reject_limit,
        overlap_seconds=value.overlap_seconds,
        fresh_within_minutes=value.fresh_within_minutes,
        transport=value.transport,
        fields=value.fields,
    )


def _explain(error: ValidationError, file: Path, root: type[BaseModel]) -> ConfigurationError:
    """pydantic's findings as sentences: file, key, what is wrong, what is allowed. Never the value."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            parent: Any = root
            for part in item["loc"][:-1]:
                parent = _annotation(parent, str(part))
            known = ", ".join(sorted(getattr(parent, "model_fields", {})))
            lines.append(f"{key} is not a setting; known here: {known}")
        else:
            lines.append(f"{key}: {item['msg'][0].lower()}{item['msg'][1:]}")
    return ConfigurationError(f"{file}: " + "; ".join(lines) + ".", hint=f"Correct {file} and try again.")


def _annotation(model: Any, part: str) -> Any:
    """The model that a path element of a validation error leads to, or the model itself."""
    fields = getattr(model, "model_fields", {})
    if part not in fields:
        return model
    annotation = fields[part].annotation
    arguments = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
    return arguments[-1] if arguments else annotation


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"The configuration file {file} does not exist.", hint="Set NOVADE_CONFIG to an existing file."
        ) from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The configuration file {file} cannot be read: {error}.", hint=f"Correct {file} and try again."
        ) from error


def _schedule(name: str, value: ScheduleSettings, streams: tuple[Stream, ...], file: Path) -> ScheduleSpec:
    known = {s.id for s in streams} | {s.source for s in streams} | {"*"}
    if unknown := [s for s in value.streams if s not in known]:
        raise ConfigurationError(
            f"{file}: schedules.{name}.streams: {', '.join(map(repr, unknown))} is neither a stream nor a source.",
            hint='Name streams of the section [streams], a source for all of its streams, or "*".',
        )
    if name == CANARY.name:
        raise ConfigurationError(f"{file}: schedules.{name}: this name is taken.", hint="canary = false leaves it out.")
    try:
        timing = Timing(
            cron=value.cron,
            every_seconds=value.every_seconds,
            timezone=value.timezone,
            jitter_seconds=value.jitter_seconds,
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: schedules.{name}: {error.message}", hint=error.hint) from error
    return ScheduleSpec(name=name, streams=value.streams, kind=value.kind, timing=timing, outage=value.outage)


def _secrets(name: str, files: tuple[Path, ...], environ: dict[str, str]) -> dict[str, Any]:
    """One section from the secrets files, then its NOVADE_<SECTION>_* variables on top."""
    section: dict[str, Any] = {}
    for file in files:
        if file.exists():
            found = _read_toml(file).get(name, {})
            if not isinstance(found, dict):
                raise ConfigurationError(f"{file}: {name} is not a section.", hint=f"Begin it with [{name}] in {file}.")
            section.update(found)
    prefix = f"NOVADE_{name.upper()}_"
    for variable, value in environ.items():
        if variable.startswith(prefix):
            section[variable.removeprefix(prefix).lower()] = value
    return section


_Section = TypeVar("_Section", bound=_Model)


def _section(model: type[_Section], value: dict[str, Any], file: Path, chosen: str, name: str) -> _Section:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _explain(error, Path(f"{file} (environment {chosen}, {name})"), model) from error


def _landing(raw: LandingSettings, given: dict[str, Any], file: Path, chosen: str, home: Path) -> LandingSettings:
    landing = _section(LandingSettings, raw.model_dump(exclude_unset=True) | given, file, chosen, "landing")
    landing = landing.model_copy(
        update={"path": home / landing.path, "ca_file": home / landing.ca_file if landing.ca_file else None}
    )
    if landing.kind != "azure_blob":
        return landing
    credential, missing, hint = landing.credential, "", f"Correct {file} and try again."
    if credential in ("sas", "key", "connection_string") and not getattr(landing, credential):
        missing = f"credential is {credential}, but there is no {credential}"
        hint = f"Set NOVADE_LANDING_{credential.upper()}, or {credential} in [landing] of a secrets file."
    elif credential != "connection_string" and not landing.account:
        missing = "account is missing, the storage account's name"
    elif landing.endpoint and not is_safe(landing.endpoint):
        missing = "endpoint must be https; plain http is for this machine alone"
    if missing:
        raise ConfigurationError(f"{file} (environment {chosen}, landing): {missing}.", hint=hint)
    return landing


def _pool(
    raw: PoolSettings, given: dict[str, Any], warehouse: WarehouseSettings, file: Path, chosen: str
) -> PoolSettings:
    pool = _section(PoolSettings, raw.model_dump(exclude_unset=True) | given, file, chosen, "pool")
    pool = pool.model_copy(update={"name": pool.name or warehouse.database})
    missing = [key for key in ("subscription", "resource_group", "workspace", "name") if not getattr(pool, key)]
    said = f"kind is {pool.kind}, which needs {', '.join(missing)}" if missing else ""
    said = said if is_safe(pool.endpoint) else "endpoint must be https; plain http is for this machine alone"
    said = said if warehouse.kind == "synapse" else f"kind is {pool.kind}, but the warehouse is {warehouse.kind}"
    if said and pool.kind != "none":
        raise ConfigurationError(f"{file} (environment {chosen}, pool): {said}.", hint=f"Correct {file} and try again.")
    return pool


def is_safe(url: str) -> bool:
    """Whether nobody can listen: HTTPS, or plain HTTP that stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))


def load_settings(
    name: str | None = None, *, file: Path | None = None, environ: dict[str, str] | None = None
) -> Environment:
    """Read ``novade.toml`` and give the environment called ``name`` (default: NOVADE_ENVIRONMENT, then the
    file's default_environment).

    NOVADE_CONFIG names another file, NOVADE_HOME the folder at which relative paths start.
    Raises ConfigurationError that names file, key and what is allowed; it never shows a secret.
    """
    environ = dict(os.environ) if environ is None else environ
    file = file or Path(environ.get("NOVADE_CONFIG") or PROJECT / "novade.toml")
    home = Path(environ.get("NOVADE_HOME") or file.resolve().parent).resolve()
    try:
        parsed = _File.model_validate(_read_toml(file))
    except ValidationError as error:
        raise _explain(error, file, _File) from error
    chosen = name or environ.get("NOVADE_ENVIRONMENT") or parsed.default_environment
    if chosen not in parsed.environments:
        known = ", ".join(sorted(parsed.environments))
        raise ConfigurationError(f"{file}: there is no environment {chosen!r}; known: {known}.")
    raw = parsed.environments[chosen]
    secrets_files = tuple(home / f for f in (*raw.secrets_files, Path(".streamlit/secrets.toml")))
    given = raw.salesforce.model_dump(exclude_unset=True) | _secrets("salesforce", secrets_files, environ)
    salesforce = _section(SalesforceSettings, given, file, chosen, "salesforce")
    given = raw.api.model_dump(exclude_unset=True) | _secrets("api", secrets_files, environ)
    api = _section(ApiSettings, given, file, chosen, "api")
    given = raw.warehouse.model_dump(exclude_unset=True) | _secrets("warehouse", secrets_files, environ)
    warehouse = _section(WarehouseSettings, given, file, chosen, "warehouse")
    streams = tuple(_stream(key, value, file) for key, value in parsed.streams.items())
    schedules = tuple(_schedule(key, value, streams, file) for key, value in parsed.schedules.items())
    if salesforce.ca_file is not None:
        salesforce = salesforce.model_copy(update={"ca_file": home / salesforce.ca_file})
    return Environment(
        name=chosen,
        file=file.resolve(),
        home=home,
        temp=home / "var" / "tmp",
        label=raw.label or chosen,
        colour=raw.colour,
        landing=_landing(raw.landing, _secrets("landing", secrets_files, environ), file, chosen, home),
        warehouse=warehouse.model_copy(update={"path": home / warehouse.path}),
        pool=_pool(raw.pool, _secrets("pool", secrets_files, environ), warehouse, file, chosen),
        ledger_url=_absolute_sqlite(raw.ledger.url, home),
        worker=raw.worker,
        sandbox=raw.sandbox.model_copy(update={"dir": home / raw.sandbox.dir}) if raw.sandbox else None,
        secrets_files=secrets_files,
        salesforce=salesforce,
        api=api,
        streams=streams,
        schedules=(*schedules, CANARY) if parsed.canary else schedules,
        prices=parsed.prices | raw.prices,
        first_sync=parsed.first_sync,
    )


def _absolute_sqlite(url: str, home: Path) -> str:
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(prefix + "/"):
        return f"{prefix}{home / url.removeprefix(prefix)}"
    return url
