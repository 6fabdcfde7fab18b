"""The sections of ``novade.toml``, as typed models: frozen, and an unknown key is an error.

Each setting says in its comment what it is for; docs/settings.md says it to people.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from novade_core.schedules import Outage
from novade_core.streams import DeleteMode, RunKind, SchemaPolicy

#: An object of an Amplitude event, and a name inside of it.
PROMOTED = r"^(event_properties|user_properties|group_properties|groups|data)\..{1,100}$"


class Section(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LandingSettings(Section):
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


class WarehouseSettings(Section):
    """Where tables live. Secrets come from the environment or a secrets file."""

    kind: Literal["duckdb", "synapse", "serverless"] = "duckdb"  #: adapter; serverless: views alone, without a pool
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


class ServerlessSettings(Section):
    """The serverless SQL pool on which views over the landing zone are published. Without this section there are none.

    Secrets come from the environment or a secrets file.
    """

    server: str | None = None  #: e.g. "acme-ondemand.sql.azuresynapse.net"
    port: Annotated[int, Field(ge=1, le=65535)] = 1433  #: of the server
    database: str | None = None  #: that holds the views; it is not made
    auth: Literal["managed_identity", "service_principal", "token", "sql"] = "managed_identity"  #: who we are to it
    user: str | None = None  #: login, client id of a service principal, or object id of a user-assigned identity
    password: SecretStr | None = None  #: of the login, or the service principal's secret
    token: SecretStr | None = None  #: an access token; without one, auth = "token" asks azure-identity for it
    driver: str | None = None  #: ODBC driver by name or file; None = found by itself
    encrypt: bool = True  #: false is refused unless the server is this machine
    login_timeout_seconds: Annotated[int, Field(ge=1)] = 60  #: for one try to connect
    statement_timeout_seconds: Annotated[int, Field(ge=1)] = 1800  #: for one statement
    external_tables: bool = True  #: beside each view, a table of every landed row
    data_limit_tb: Annotated[int, Field(ge=1)] = 1  #: so many TB may all queries of the workspace read in a period
    data_limit_per: Literal["daily", "weekly", "monthly"] = "daily"  #: that period

    def login(self) -> WarehouseSettings:
        """The same as the link to a SQL pool takes it."""
        shared = self.model_dump(exclude={"external_tables", "data_limit_tb", "data_limit_per"})
        return WarehouseSettings(kind="synapse", **shared)


class PoolSettings(Section):
    """The dedicated pool as Azure's management sees it, and when it is resumed for loads and paused again."""

    kind: Literal["none", "workspace", "standalone"] = "none"  #: none: nobody here resumes or pauses anything
    subscription: str | None = None  #: its id
    resource_group: str | None = None  #: where the pool is
    workspace: str | None = None  #: its workspace, or the logical server of a standalone pool
    name: str | None = None  #: of the pool; None = the warehouse's database
    client_id: str | None = None  #: of a user-assigned managed identity
    endpoint: str = "https://management.azure.com"  #: of the management, for other clouds and a stand-in
    ca_file: Path | None = None  #: certificate authority of the endpoint
    token: SecretStr | None = None  #: fixed, for a stand-in; without one azure-identity is asked
    gather_minutes: Annotated[float, Field(ge=0)] = 60  #: the oldest landed file waits at most so long for a window
    idle_minutes: Annotated[float, Field(ge=0)] = 5  #: nothing to load and nobody there for so long, then pause
    max_minutes: Annotated[float, Field(gt=0)] = 120  #: then no further load begins
    wait_minutes: Annotated[float, Field(gt=0)] = 20  #: for a resume or a pause, before it counts as stuck


class LedgerSettings(Section):
    """Where runs and state are recorded."""

    url: str = "sqlite:///var/ledger.sqlite"  #: SQLAlchemy URL; a relative SQLite path starts at NOVADE_HOME


class SandboxSettings(Section):
    """The loopback stand-ins that serve an environment without credentials."""

    dir: Path = Path("var/sandbox")  #: state: seed, journal, certificates
    port: Annotated[int, Field(ge=0, le=65535)] = 8543  #: on 127.0.0.1
    contacts: Annotated[int, Field(ge=10, le=2_000_000)] = 2_000  #: records of Contact; others scale with it
    seed: int = 7  #: the same seed gives the same org
    azure: bool = False  #: Azurite and a Synapse pool too
    facts: Path | None = None  #: a real pool's answers, as `python -m jobs probe` wrote them; the stand-in follows them


class SalesforceSettings(Section):
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


class DriftSettings(Section):
    """How to reach and use one Drift workspace. Secrets come from the environment or a secrets file."""

    access_token: SecretStr | None = None  #: of a private app
    endpoint: str = "https://driftapi.com"  #: the vendor's newer pages say https://api.drift.com
    ca_file: Path | None = None  #: certificate authority of the endpoint
    details: bool = True  #: a call per conversation for participants, tags and playbook, which the list leaves out
    export: Path | None = None  #: folder of the vendor's bulk export, for streams with transport = "files"
    export_names: str = "**/{stream}-*"  #: of its files
    count: Literal["full", "always", "never"] = "full"  #: when conversations are counted at Drift; see the connector
    page_rows: Annotated[int, Field(ge=1, le=100)] = 50  #: conversations asked for at once
    batch_rows: Annotated[int, Field(ge=1, le=100_000)] = 1_000  #: records that land together
    calls_per_minute: Annotated[int, Field(ge=0)] = 0  #: never more than this; 0 = as fast as answers come
    slots: Annotated[int, Field(ge=1, le=20)] = 1  #: runs that read from the workspace at the same time
    timeout_seconds: Annotated[float, Field(gt=0)] = 60  #: of one answer, to its last byte
    tries: Annotated[int, Field(ge=1, le=10)] = 4  #: of one request, for retryable faults
    limit_tries: Annotated[int, Field(ge=1, le=100)] = 10  #: of one request that the rate limit refuses
    retry_base_seconds: Annotated[float, Field(ge=0)] = 1.0  #: doubled at each try, with jitter


class TrackingPlanSettings(Section):
    """Where tracking plans are read from."""

    path: Path | None = None  #: a folder of plans, or one file; None: nobody said where
    files: tuple[str, ...] = ()  #: only these of the folder, relative to it; empty = all


class AmplitudeSettings(Section):
    """How to reach and use one Amplitude project. Secrets come from the environment or a secrets file."""

    api_key: SecretStr | None = None  #: of the project
    secret_key: SecretStr | None = None  #: of the project
    region: Literal["us", "eu"] = "us"  #: where the project's data are; the other region refuses its keys
    endpoint: str | None = None  #: a stand-in; None = the region's host
    ca_file: Path | None = None  #: certificate authority of the endpoint
    since: date | None = None  #: first day of the first sync and of full reloads; None = 30 days back
    promoted: tuple[Annotated[str, Field(pattern=PROMOTED)], ...] = ()  #: properties with a column of their own
    settle_minutes: Annotated[int, Field(ge=0)] = 180  #: hours are read so long after their end; Amplitude needs 120
    hours_per_request: Annotated[int, Field(ge=1, le=8_760)] = 24  #: of one export
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000  #: lines that land together …
    batch_mb: Annotated[int, Field(ge=1, le=1_024)] = 32  #: … and MiB of them
    max_archive_mb: Annotated[int, Field(ge=1)] = 5_000  #: a larger export is refused; Amplitude's own limit is 4 GB
    max_unpacked_gb: Annotated[int, Field(ge=1)] = 200  #: an export that unpacks to more is refused
    max_ratio: Annotated[int, Field(ge=10, le=1_000)] = 200  #: a file that unpacks to more times its size is refused
    slots: Annotated[int, Field(ge=1, le=4)] = 1  #: runs that read from the project at the same time
    timeout_seconds: Annotated[float, Field(gt=0)] = 600  #: of one request without a byte; exports are made first
    tries: Annotated[int, Field(ge=1, le=10)] = 4  #: of one request, for faults that may pass
    retry_base_seconds: Annotated[float, Field(ge=0)] = 1.0  #: doubled at each try, with jitter


class WorkerSettings(Section):
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


class ApiSettings(Section):
    """The routes that other programs call. The token comes from the environment or a secrets file."""

    token: SecretStr | None = None  #: that ``POST /api/runs`` asks for; without one the route refuses
    url: Annotated[str, Field(pattern=r"^https?://[!-~]+$")] | None = None  #: where others reach us, for absolute links


class ScheduleSettings(Section):
    """One schedule, as it is seeded. What people change on the page wins afterwards."""

    streams: tuple[str, ...]  #: stream ids, a source for all of its streams, or "*"
    kind: Literal[RunKind.INCREMENTAL, RunKind.FULL] = RunKind.INCREMENTAL  #: incremental or full
    cron: str | None = None  #: five fields, e.g. "*/15 6-20 * * 1-5"; either this or every_seconds
    every_seconds: Annotated[int, Field(ge=1)] | None = None  #: an interval, counted from 1970-01-01T00:00Z
    timezone: str = "UTC"  #: of the cron expression
    jitter_seconds: Annotated[int, Field(ge=0)] = 0  #: spreads fires over so many seconds
    outage: Outage = Outage.ONCE  #: once, all or skip: what happens to fires that nobody was there for


class PriceSettings(Section):
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


class StreamSettings(Section):
    """One stream. Keys left out take the source's defaults."""

    object: str | None = None  #: the source's name, e.g. "Account"
    label: str | None = None  #: as people say it
    schema_policy: SchemaPolicy = SchemaPolicy.EVOLVE  #: evolve, freeze or quarantine
    delete_mode: DeleteMode = DeleteMode.SOFT  #: soft or hard
    reject_limit: Annotated[int, Field(ge=0)] = 100  #: more rejects fail the run
    overlap_seconds: Annotated[int, Field(ge=0)] = 600  #: re-read before the checkpoint
    fresh_within_minutes: Annotated[int, Field(ge=1)] = 1440  #: older data is stale
    transport: Literal["auto", "rest", "bulk", "export", "files"] = "auto"  #: way in; each source knows some of them
    key: Literal["uuid", "insert_id"] | None = None  #: amplitude.events: what tells events apart; None = uuid
    fields: tuple[str, ...] = ()  #: only these; empty = all that can be read


class EnvironmentSettings(Section):
    """One environment as ``novade.toml`` describes it."""

    label: str = ""  #: shown in the frame
    colour: Literal["green", "blue", "orange", "red", "violet", "gray"] = "green"  #: of the badge
    landing: LandingSettings = LandingSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    pool: PoolSettings = PoolSettings()
    serverless: ServerlessSettings | None = None  #: None: no views are published
    ledger: LedgerSettings = LedgerSettings()
    worker: WorkerSettings = WorkerSettings()
    sandbox: SandboxSettings | None = None
    secrets_files: tuple[Path, ...] = ()  #: TOML files whose [salesforce] etc. complete the connection
    salesforce: SalesforceSettings = SalesforceSettings()
    amplitude: AmplitudeSettings = AmplitudeSettings()  #: the project whose events are read
    drift: DriftSettings = DriftSettings()
    tracking_plan: TrackingPlanSettings = TrackingPlanSettings()  #: where plans are read from
    api: ApiSettings = ApiSettings()
    prices: dict[Meter, PriceSettings] = {}  #: in place of the file's of the same meter
