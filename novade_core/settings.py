"""Typed configuration: ``novade.toml`` plus secrets from the process environment or a secrets file.

The chosen environment is a frozen value and is passed on; nothing reads the process environment later.
``load_settings`` is the only reader of ``os.environ`` in the core.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from novade_core.errors import ConfigurationError, UnknownStream
from novade_core.streams import DeleteMode, SchemaPolicy, Stream

#: Where this checkout keeps its default configuration.
PROJECT = Path(__file__).resolve().parent.parent


class _Model(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LandingSettings(_Model):
    """Where landed files live."""

    kind: Literal["folder"] = "folder"  #: adapter
    path: Path = Path("var/landing")  #: the folder


class WarehouseSettings(_Model):
    """Where tables live."""

    kind: Literal["duckdb"] = "duckdb"  #: adapter
    path: Path = Path("var/warehouse.duckdb")  #: the database file
    memory_limit_mb: Annotated[int, Field(ge=64)] = 160  #: for the engine's buffers
    threads: Annotated[int, Field(ge=1)] = 1  #: of the engine; two load a little faster for a third more processor time
    busy_wait_seconds: Annotated[float, Field(ge=0)] = 120  #: for another process to let go of the file


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
    tries: Annotated[int, Field(ge=1, le=10)] = 4  #: of one request, for retryable faults
    retry_base_seconds: Annotated[float, Field(ge=0)] = 1.0  #: doubled at each try, with jitter


class WorkerSettings(_Model):
    """Timing of leases and of the supervisor."""

    mode: Literal["internal", "external"] = "internal"  #: does the console work the queue itself?
    lease_seconds: Annotated[float, Field(gt=0)] = 20  #: a lease whose beat does not move for so long is dead
    beat_seconds: Annotated[float, Field(gt=0)] = 4  #: how often a run moves its beat, at least each second
    poll_seconds: Annotated[float, Field(gt=0)] = 1  #: how often the supervisor looks for work
    stop_seconds: Annotated[float, Field(gt=0)] = 20  #: from SIGTERM to SIGKILL


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
    ledger: LedgerSettings = LedgerSettings()
    worker: WorkerSettings = WorkerSettings()
    sandbox: SandboxSettings | None = None
    secrets_files: tuple[Path, ...] = ()  #: TOML files whose [salesforce] etc. complete the connection
    salesforce: SalesforceSettings = SalesforceSettings()


class _File(_Model):
    default_environment: str = "local"
    first_sync: bool = True  #: queue the first sync of each stream when the console starts
    environments: dict[str, EnvironmentSettings]
    streams: dict[str, StreamSettings]


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
    ledger_url: str
    worker: WorkerSettings
    sandbox: SandboxSettings | None
    secrets_files: tuple[Path, ...]
    salesforce: SalesforceSettings
    streams: tuple[Stream, ...]
    first_sync: bool

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


def _secrets(files: tuple[Path, ...], environ: dict[str, str]) -> dict[str, Any]:
    """The ``salesforce`` section from secrets files, then NOVADE_SALESFORCE_* variables on top."""
    section: dict[str, Any] = {}
    for file in files:
        if file.exists():
            found = _read_toml(file).get("salesforce", {})
            if not isinstance(found, dict):
                raise ConfigurationError(
                    f"{file}: salesforce is not a section.", hint=f"Begin it with [salesforce] in {file}."
                )
            section.update(found)
    prefix = "NOVADE_SALESFORCE_"
    for name, value in environ.items():
        if name.startswith(prefix):
            section[name.removeprefix(prefix).lower()] = value
    return section


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
    given = raw.salesforce.model_dump(exclude_unset=True) | _secrets(secrets_files, environ)
    try:
        salesforce = SalesforceSettings.model_validate(given)
    except ValidationError as error:
        where = Path(f"{file} (environment {chosen}, salesforce)")
        raise _explain(error, where, SalesforceSettings) from error
    if salesforce.ca_file is not None:
        salesforce = salesforce.model_copy(update={"ca_file": home / salesforce.ca_file})
    return Environment(
        name=chosen,
        file=file.resolve(),
        home=home,
        temp=home / "var" / "tmp",
        label=raw.label or chosen,
        colour=raw.colour,
        landing=raw.landing.model_copy(update={"path": home / raw.landing.path}),
        warehouse=raw.warehouse.model_copy(update={"path": home / raw.warehouse.path}),
        ledger_url=_absolute_sqlite(raw.ledger.url, home),
        worker=raw.worker,
        sandbox=raw.sandbox.model_copy(update={"dir": home / raw.sandbox.dir}) if raw.sandbox else None,
        secrets_files=secrets_files,
        salesforce=salesforce,
        streams=tuple(_stream(key, value, file) for key, value in parsed.streams.items()),
        first_sync=parsed.first_sync,
    )


def _absolute_sqlite(url: str, home: Path) -> str:
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(prefix + "/"):
        return f"{prefix}{home / url.removeprefix(prefix)}"
    return url
