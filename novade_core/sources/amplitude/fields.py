"""Columns of the streams, as the vendor documents its fields and as they were seen in real exports.

Source: amplitude.com/docs, "Export API" (event record), "Amazon S3 export" and "Google BigQuery export" (further
fields), "Taxonomy API".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from novade_core.errors import ConfigurationError
from novade_core.settings import AmplitudeSettings
from novade_core.streams import Column, ColumnType, Stream, StreamSchema

#: The column of whatever has another name.
REST = "_other"
#: With ``key = "insert_id"``: the sender's id of an event, or its uuid where the sender gave none.
INSERT_KEY = "_insert_id"

_BIG = "amplitude_id app event_id session_id $schema"
_TIMES = (
    "event_time client_event_time client_upload_time server_received_time server_upload_time processed_time "
    "user_creation_time"
)
#: ``amplitude_attribution_ids`` is documented as a text on one page and as an array on another.
_OBJECTS = (
    "event_properties user_properties group_properties groups data plan global_user_properties "
    "amplitude_attribution_ids"
)
_TEXTS = (
    "uuid $insert_id user_id device_id event_type amplitude_event_type platform os_name os_version version_name "
    "start_version library device_family device_type device_brand device_manufacturer device_model device_carrier "
    "language country region city dma ip_address adid idfa $insert_key data_type source_id partner_id sample_rate"
)
_FLAGS = "paying is_attribution_event"
_PLACES = "location_lat location_lng"


def _events() -> tuple[Column, ...]:
    made = [Column(name=name, type=ColumnType.TEXT) for name in _TEXTS.split()]
    made += [Column(name=name, type=ColumnType.BIGINT) for name in _BIG.split()]
    made += [Column(name=name, type=ColumnType.TIMESTAMP, precision=6) for name in _TIMES.split()]
    made += [Column(name=name, type=ColumnType.BOOLEAN) for name in _FLAGS.split()]
    made += [Column(name=name, type=ColumnType.DOUBLE) for name in _PLACES.split()]
    made += [Column(name=name, type=ColumnType.JSON) for name in _OBJECTS.split()]
    return tuple(made)


#: The fields of an event.
EVENTS = _events()

_T, _B, _J = ColumnType.TEXT, ColumnType.BOOLEAN, ColumnType.JSON
_TAXONOMY: dict[str, tuple[tuple[str, ColumnType], ...]] = {
    "event_types": (
        ("event_type", _T), ("display_name", _T), ("description", _T), ("category", _J), ("is_active", _B),
        ("is_hidden_from_dropdowns", _B), ("is_hidden_from_persona_results", _B), ("is_hidden_from_pathfinder", _B),
        ("is_hidden_from_timeline", _B), ("tags", _J), ("owner", _T),
    ),
    "event_properties": (
        ("event_type", _T), ("event_property", _T), ("description", _T), ("type", _T), ("regex", _T),
        ("enum_values", _T), ("is_array_type", _B), ("is_required", _B), ("is_hidden", _B), ("classifications", _J),
    ),
}  # fmt: skip


def promoted(settings: AmplitudeSettings) -> dict[str, tuple[str, str]]:
    """Column -> object and name inside of it, for each of ``amplitude.promoted``.

    ``event_properties.ad_metrics.cost`` is the property ``ad_metrics.cost``: everything behind the first point is one
    name, as real properties have points in theirs. The column has an underscore for whatever is no letter or digit.
    Raises ConfigurationError where two would be one column; no warehouse tells capitals in them apart.
    """
    columns: dict[str, tuple[str, str]] = {}
    known = {column.name.lower() for column in EVENTS}
    for path in settings.promoted:
        owner, _, name = path.partition(".")
        column = re.sub(r"\W", "_", path)
        if column.lower() in known:
            raise ConfigurationError(
                f"amplitude.promoted: {path} would be the column {column}, which there is already.",
                hint="Leave one of the two out; both stay readable in the JSON.",
            )
        known.add(column.lower())
        columns[column] = (owner, name)
    return columns


def schema(stream: Stream, settings: AmplitudeSettings) -> StreamSchema:
    """The columns of a stream. ``fields`` of the stream leaves others out; keys and cursor always come."""
    if stream.name in _TAXONOMY:
        columns: Sequence[Column] = tuple(Column(name=name, type=kind) for name, kind in _TAXONOMY[stream.name])
    else:
        columns = EVENTS
        more = [*promoted(settings), *([INSERT_KEY] if INSERT_KEY in stream.primary_key else [])]
        columns = (*columns, *(Column(name=name, type=ColumnType.TEXT) for name in more))
    columns = (*columns, Column(name=REST, type=ColumnType.JSON))
    if not stream.fields:
        return StreamSchema(columns=tuple(columns))
    if unknown := sorted(set(stream.fields) - {c.name for c in columns}):
        raise ConfigurationError(
            f"{stream.id} has no field {', '.join(unknown)}, which novade.toml lists.",
            hint="Correct the stream's fields; those that Amplitude adds are in _other.",
        )
    wanted = {*stream.fields, *stream.primary_key, stream.cursor_field, stream.version_field, stream.created_field}
    return StreamSchema(
        columns=tuple(c for c in columns if c.name in wanted),
        skipped={c.name: "not among the stream's fields" for c in columns if c.name not in wanted},
    )
