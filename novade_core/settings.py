"""Typed configuration: ``novade.toml`` plus secrets from the process environment or a secrets file.

The chosen environment is a frozen value and is passed on; nothing reads the process environment later.
``load_settings`` is the only reader of ``os.environ`` in the core.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr, ValidationError

from novade_core.catalogue import stream_of
from novade_core.errors import ConfigurationError, UnknownStream
from novade_core.schedules import CANARY, ScheduleSpec, Timing
from novade_core.sections import AmplitudeSettings as AmplitudeSettings
from novade_core.sections import ApiSettings as ApiSettings
from novade_core.sections import DriftSettings as DriftSettings
from novade_core.sections import EnvironmentSettings as EnvironmentSettings
from novade_core.sections import LandingSettings as LandingSettings
from novade_core.sections import LedgerSettings as LedgerSettings
from novade_core.sections import Meter
from novade_core.sections import PoolSettings as PoolSettings
from novade_core.sections import PriceSettings as PriceSettings
from novade_core.sections import SalesforceSettings as SalesforceSettings
from novade_core.sections import SandboxSettings as SandboxSettings
from novade_core.sections import ScheduleSettings as ScheduleSettings
from novade_core.sections import Section as Section
from novade_core.sections import ServerlessSettings as ServerlessSettings
from novade_core.sections import StreamSettings as StreamSettings
from novade_core.sections import TrackingPlanSettings as TrackingPlanSettings
from novade_core.sections import WarehouseSettings as WarehouseSettings
from novade_core.sections import WorkerSettings as WorkerSettings
from novade_core.streams import Stream

#: Where this checkout keeps its default configuration.
PROJECT = Path(__file__).resolve().parent.parent


class _File(Section):
    default_environment: str = "local"
    first_sync: bool = True  #: queue the first sync of each stream when the console starts
    canary: bool = True  #: book a fire each minute, to measure the scheduler itself
    environments: dict[str, EnvironmentSettings]
    streams: dict[str, StreamSettings]
    schedules: dict[str, ScheduleSettings] = {}  # noqa: RUF012  pydantic copies defaults
    prices: dict[Meter, PriceSettings] = {}  # noqa: RUF012  pydantic copies defaults


#: Settings of a source that say who we are to it, beside its secrets.
_IDENTITY = {"domain", "username"}


class Environment(Section):
    """One environment, resolved: absolute paths, secrets filled in. Frozen; passed, never global."""

    name: str
    file: Path  #: the configuration it comes from
    home: Path  #: relative paths start here
    temp: Path  #: scratch space of its runs alone, since numbers of runs mean nothing beside another ledger
    label: str
    colour: str
    landing: LandingSettings
    warehouse: WarehouseSettings
    pool: PoolSettings
    serverless: ServerlessSettings | None
    ledger_url: str
    worker: WorkerSettings
    sandbox: SandboxSettings | None
    secrets_files: tuple[Path, ...]
    salesforce: SalesforceSettings
    amplitude: AmplitudeSettings
    drift: DriftSettings
    tracking_plan: TrackingPlanSettings
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


def _stream(stream_id: str, value: StreamSettings, file: Path) -> Stream:
    try:
        return stream_of(stream_id, value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: streams.{stream_id!r}: {error.message}", hint=error.hint) from error


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


_Section = TypeVar("_Section", bound=Section)


def _section(model: type[_Section], value: dict[str, Any], file: Path, chosen: str, name: str) -> _Section:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _explain(error, Path(f"{file} (environment {chosen}, {name})"), model) from error


def _landing(
    raw: LandingSettings, given: dict[str, Any], file: Path, chosen: str, home: Path, *, is_ready: bool
) -> LandingSettings:
    """``is_ready``: false where a stand-in writes the secret, at its first start or later."""
    landing = _section(LandingSettings, raw.model_dump(exclude_unset=True) | given, file, chosen, "landing")
    landing = landing.model_copy(
        update={"path": home / landing.path, "ca_file": home / landing.ca_file if landing.ca_file else None}
    )
    if landing.kind != "azure_blob":
        return landing
    credential, missing, hint = landing.credential, "", f"Correct {file} and try again."
    if is_ready and credential in ("sas", "key", "connection_string") and not getattr(landing, credential):
        missing = f"credential is {credential}, but there is no {credential}"
        hint = f"Set NOVADE_LANDING_{credential.upper()}, or {credential} in [landing] of a secrets file."
    elif credential != "connection_string" and not landing.account:
        missing = "account is missing, the storage account's name"
    elif landing.endpoint and not is_safe(landing.endpoint):
        missing = "endpoint must be https; plain http is for this machine alone"
    if missing:
        raise ConfigurationError(f"{file} (environment {chosen}, landing): {missing}.", hint=hint)
    return landing


def _amplitude(raw: AmplitudeSettings, given: dict[str, Any], file: Path, chosen: str, home: Path) -> AmplitudeSettings:
    amplitude = _section(AmplitudeSettings, raw.model_dump(exclude_unset=True) | given, file, chosen, "amplitude")
    if amplitude.endpoint and not is_safe(amplitude.endpoint):
        said = "endpoint must be https; plain http is for this machine alone"
        hint = f"Correct {file} and try again."
        raise ConfigurationError(f"{file} (environment {chosen}, amplitude): {said}.", hint=hint)
    return amplitude.model_copy(update={"ca_file": home / amplitude.ca_file if amplitude.ca_file else None})


def _drift(raw: DriftSettings, given: dict[str, Any], file: Path, chosen: str, home: Path) -> DriftSettings:
    drift = _section(DriftSettings, raw.model_dump(exclude_unset=True) | given, file, chosen, "drift")
    if not is_safe(drift.endpoint):
        said = "endpoint must be https; plain http is for this machine alone"
        hint = f"Correct {file} and try again."
        raise ConfigurationError(f"{file} (environment {chosen}, drift): {said}.", hint=hint)
    paths = {name: home / path if (path := getattr(drift, name)) else None for name in ("ca_file", "export")}
    return drift.model_copy(update=paths)


def _pool(
    raw: PoolSettings, given: dict[str, Any], warehouse: WarehouseSettings, file: Path, chosen: str, home: Path
) -> PoolSettings:
    pool = _section(PoolSettings, raw.model_dump(exclude_unset=True) | given, file, chosen, "pool")
    authority = home / pool.ca_file if pool.ca_file else None
    pool = pool.model_copy(update={"name": pool.name or warehouse.database, "ca_file": authority})
    missing = [key for key in ("subscription", "resource_group", "workspace", "name") if not getattr(pool, key)]
    said = f"kind is {pool.kind}, which needs {', '.join(missing)}" if missing else ""
    said = said if is_safe(pool.endpoint) else "endpoint must be https; plain http is for this machine alone"
    hint = f"Correct {file} and try again."
    if warehouse.kind != "synapse":
        said = f"kind is {pool.kind}, but the warehouse is {warehouse.kind}, which has no pool to resume and pause"
        hint = 'Remove the section pool, or set warehouse.kind = "synapse".'
    if said and pool.kind != "none":
        raise ConfigurationError(f"{file} (environment {chosen}, pool): {said}.", hint=hint)
    return pool


#: Which landing a warehouse can load from, and how it reads.
_LANDING_OF = {
    "duckdb": ("folder", "which opens files of this machine"),
    "synapse": ("azure_blob", "whose COPY INTO reads from a storage account alone"),
    "serverless": ("azure_blob", "whose views read from a storage account alone"),
}


def _refuse_apart(landing: LandingSettings, warehouse: WarehouseSettings, file: Path, chosen: str) -> None:
    """Raises ConfigurationError where what lands could never be loaded."""
    needed, reads = _LANDING_OF[warehouse.kind]
    if landing.kind != needed:
        raise ConfigurationError(
            f"{file} (environment {chosen}, landing.kind): the landing is {landing.kind}, "
            f"but the warehouse is {warehouse.kind}, {reads}.",
            hint=f'Set landing.kind = "{needed}", or choose another warehouse.kind.',
        )


def _refuse_without_views(
    serverless: ServerlessSettings | None, warehouse: WarehouseSettings, file: Path, chosen: str, *, is_ready: bool
) -> None:
    """``is_ready``: see ``_landing``. Raises ConfigurationError where there is no serverless pool to publish on."""
    if warehouse.kind != "serverless":
        return
    missing = "the section serverless"
    if serverless is not None:
        missing = " and ".join(f"serverless.{k}" for k in ("server", "database") if not getattr(serverless, k))
    if serverless is None or (missing and is_ready):
        raise ConfigurationError(
            f"{file} (environment {chosen}, warehouse.kind): the warehouse is serverless, but {missing} is missing.",
            hint=f"Name the endpoint and its database in [environments.{chosen}.serverless], "
            "or choose another warehouse.kind.",
        )


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_safe(url: str) -> bool:
    """Whether nobody can listen: HTTPS, or plain HTTP that stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


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
    amplitude = _amplitude(raw.amplitude, _secrets("amplitude", secrets_files, environ), file, chosen, home)
    drift = _drift(raw.drift, _secrets("drift", secrets_files, environ), file, chosen, home)
    given = raw.tracking_plan.model_dump(exclude_unset=True) | _secrets("tracking_plan", secrets_files, environ)
    tracking_plan = _section(TrackingPlanSettings, given, file, chosen, "tracking_plan")
    if tracking_plan.path is not None:
        tracking_plan = tracking_plan.model_copy(update={"path": home / tracking_plan.path})
    given = raw.api.model_dump(exclude_unset=True) | _secrets("api", secrets_files, environ)
    api = _section(ApiSettings, given, file, chosen, "api")
    given = raw.warehouse.model_dump(exclude_unset=True) | _secrets("warehouse", secrets_files, environ)
    warehouse = _section(WarehouseSettings, given, file, chosen, "warehouse")
    given = _secrets("landing", secrets_files, environ)
    is_ready = raw.sandbox is None or not raw.sandbox.azure
    landing = _landing(raw.landing, given, file, chosen, home, is_ready=is_ready)
    _refuse_apart(landing, warehouse, file, chosen)
    serverless = None
    if raw.serverless is not None:
        given = raw.serverless.model_dump(exclude_unset=True) | _secrets("serverless", secrets_files, environ)
        serverless = _section(ServerlessSettings, given, file, chosen, "serverless")
    _refuse_without_views(serverless, warehouse, file, chosen, is_ready=is_ready)
    streams = tuple(_stream(key, value, file) for key, value in parsed.streams.items())
    schedules = tuple(_schedule(key, value, streams, file) for key, value in parsed.schedules.items())
    if salesforce.ca_file is not None:
        salesforce = salesforce.model_copy(update={"ca_file": home / salesforce.ca_file})
    return Environment(
        name=chosen,
        file=file.resolve(),
        home=home,
        temp=home / "var" / "tmp" / chosen,
        label=raw.label or chosen,
        colour=raw.colour,
        landing=landing,
        warehouse=warehouse.model_copy(update={"path": home / warehouse.path}),
        pool=_pool(raw.pool, _secrets("pool", secrets_files, environ), warehouse, file, chosen, home),
        serverless=serverless,
        ledger_url=_absolute_sqlite(raw.ledger.url, home),
        worker=raw.worker,
        sandbox=raw.sandbox.model_copy(update={"dir": home / raw.sandbox.dir}) if raw.sandbox else None,
        secrets_files=secrets_files,
        salesforce=salesforce,
        amplitude=amplitude,
        drift=drift,
        tracking_plan=tracking_plan,
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
