"""What streams each source has, as data: keys, cursors, versions. A new source adds its line to ``SOURCES``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from novade_core.errors import ConfigurationError
from novade_core.sections import StreamSettings
from novade_core.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a source knows of one of its streams before it is asked."""

    object_name: str  #: as the source says it
    label: str
    primary_key: tuple[str, ...]
    cursor_field: str | None = None  #: None: every sync is a full one
    version_field: str | None = None  #: the newest wins; None: the later landing does
    created_field: str | None = None
    deleted_field: str | None = None
    overlap_seconds: int | None = None  #: in place of the setting's default


#: Salesforce objects that cannot be deleted, so that they have no IsDeleted.
_WITHOUT_DELETES = {"User"}


def _salesforce(name: str, settings: StreamSettings) -> Declared:
    """Any object; every one has these fields, deletable ones IsDeleted too."""
    object_name = settings.object or "".join(part.capitalize() for part in name.split("_"))
    return Declared(
        object_name=object_name,
        label=f"Salesforce {object_name}",
        primary_key=("Id",),
        cursor_field="SystemModstamp",
        version_field="SystemModstamp",
        created_field="CreatedDate",
        deleted_field=None if object_name in _WITHOUT_DELETES else "IsDeleted",
    )


def _drift(name: str, _settings: StreamSettings) -> Declared | None:
    """The five kinds of records that the API reads; instants and keys as the vendor's models name them."""
    created = {"accounts": "createDateTime"}.get(name, "createdAt")
    deleted = {"accounts": "deleted", "contacts": "_deleted"}.get(name)
    if name not in ("conversations", "messages", "contacts", "users", "accounts"):
        return None
    return Declared(
        object_name=name,
        label=f"Drift {name}",
        primary_key=("accountId",) if name == "accounts" else ("id",),
        cursor_field="_changed_at",
        version_field="_changed_at",
        created_field=created,
        deleted_field=deleted,
    )


def _tracking_plan(name: str, _settings: StreamSettings) -> Declared | None:
    """One model for plans of all formats; every version stays, so nothing is deleted."""
    if name not in ("plans", "events", "properties"):
        return None
    # Which version is current changes; events and properties of a version never do.
    changes = "changed_at" if name == "plans" else "first_seen_at"
    return Declared(
        object_name=name,
        label="Tracking plans" if name == "plans" else f"Tracking plan {name}",
        primary_key=("id",),
        cursor_field=changes,
        version_field=changes,
        created_field="first_seen_at",
    )


def _amplitude(name: str, settings: StreamSettings) -> Declared | None:
    """Events by upload; a late file of an hour comes within some hours. Definitions are listed whole each time."""
    if name == "events":
        by_insert_id = settings.key == "insert_id"
        return Declared(
            object_name=name,
            label="Amplitude events",
            primary_key=("device_id", "_insert_id") if by_insert_id else ("uuid",),
            cursor_field="server_upload_time",
            version_field="server_upload_time",
            created_field="server_upload_time",
            overlap_seconds=6 * 3600,
        )
    keys = {"event_types": ("event_type",), "event_properties": ("event_type", "event_property")}
    if name not in keys:
        return None
    return Declared(object_name=name, label=f"Amplitude {name.replace('_', ' ')}", primary_key=keys[name])


#: Source -> what it declares of the stream of this name; None where it has none of that name.
SOURCES: dict[str, Callable[[str, StreamSettings], Declared | None]] = {
    "salesforce": _salesforce,
    "amplitude": _amplitude,
    "drift": _drift,
    "tracking_plan": _tracking_plan,
}


#: Source -> ways in that a stream's transport may name; of every other source auto alone.
TRANSPORTS = {
    "salesforce": ("auto", "rest", "bulk"),
    "amplitude": ("auto", "export"),
    "drift": ("auto", "files"),
}


def stream_of(stream_id: str, settings: StreamSettings) -> Stream:
    """The stream ``source.name`` as configured. Raises ConfigurationError where no source has it."""
    source, _, name = stream_id.partition(".")
    known = ", ".join(SOURCES)
    if source not in SOURCES or not name or not name.replace("_", "").isalnum() or name != name.lower():
        raise ConfigurationError(f"a stream is named source.name in lower case; known sources: {known}.")
    declared = SOURCES[source](name, settings)
    if declared is None:
        raise ConfigurationError(f"{source} has no stream {name}.")
    if settings.transport not in (ways := TRANSPORTS.get(source, ("auto",))):
        raise ConfigurationError(f"transport {settings.transport} is none of {source}'s; known: {', '.join(ways)}.")
    if settings.key is not None and stream_id != "amplitude.events":
        raise ConfigurationError("key is a setting of amplitude.events alone.")
    overlap = settings.overlap_seconds
    if declared.overlap_seconds is not None and "overlap_seconds" not in settings.model_fields_set:
        overlap = declared.overlap_seconds
    return Stream(
        source=source,
        name=name,
        label=settings.label or declared.label,
        object_name=declared.object_name,
        primary_key=declared.primary_key,
        cursor_field=declared.cursor_field,
        version_field=declared.version_field,
        created_field=declared.created_field,
        deleted_field=declared.deleted_field,
        delete_mode=settings.delete_mode,
        schema_policy=settings.schema_policy,
        reject_limit=settings.reject_limit,
        overlap_seconds=overlap,
        fresh_within_minutes=settings.fresh_within_minutes,
        transport=settings.transport,
        fields=settings.fields,
    )
