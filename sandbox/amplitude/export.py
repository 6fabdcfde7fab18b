"""The Export API: raw events of whole hours, by the hour of upload, as one zip."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime

from . import bad, files
from .generate import hour_at, hour_number
from .http import Asked, Refused, Reply
from .project import Amplitude, Project

#: Packed bytes of a line, measured over the generator's own; estimates the size of an export before it is made.
PACKED_BYTES = 375


def hour_of(text: str) -> int:
    """The hour of `YYYYMMDDTHH`; an hour of one digit is taken too. Raises Refused for anything else."""
    found = re.fullmatch(r"(\d{4})(\d\d)(\d\d)T(\d{1,2})", text)
    try:
        return hour_number(datetime(*map(int, found.groups()), tzinfo=UTC)) if found else _bad(text)  # type: ignore[arg-type, misc]  # four whole numbers
    except ValueError:
        return _bad(text)


def _bad(text: str) -> int:
    # What a real body says is not documented; clients go by the status.
    raise Refused(400, f"Invalid date {text!r}: start and end must have the form YYYYMMDDTHH")


def export(amplitude: Amplitude, project: Project, asked: Asked) -> Reply:
    """GET /api/2/export: `start` and `end` are both included. 404 without data, 400 and 504 for too much of it."""
    settings = amplitude.settings
    first, last = hour_of(asked.given.get("start", "")), hour_of(asked.given.get("end", ""))
    if last < first or last - first >= settings["max_days"] * 24:
        raise Refused(400, f"Invalid range: end must follow start by less than {settings['max_days']} days")
    newest = int(amplitude.clock().timestamp()) // 3600 - 1 - int(settings["delay_hours"])
    hours = [hour for hour in range(first, min(last, newest) + 1) if project.generator.exists(hour)]
    if not hours:
        raise Refused(404, "No data available for the requested range")
    lines = project.lines_of(len(hours))
    if lines * PACKED_BYTES > settings["max_export_bytes"]:
        raise Refused(400, "The export exceeds the size limit of 4 GB; request a smaller range")
    if settings["timeout_events"] is not None and lines > settings["timeout_events"]:
        raise Refused(504, "Gateway timeout; request a smaller range")
    method = zipfile.ZIP_STORED if settings["zip_method"] == "stored" else zipfile.ZIP_DEFLATED
    if amplitude.faults.strikes("empty_export"):
        return _zip(files.zipped((), method))
    struck = amplitude.faults.of_export(label(hours[0]), {label(hour) for hour in hours})
    broken = next((hour for hour in hours if "bad_member" in struck.get(label(hour), ())), None)
    odd = amplitude.faults.strikes("odd_names") is not None
    named = _name(project, broken, int(settings["first_part"]), odd) if broken is not None else ""
    extra = tuple(name for name in ("climbing_path", "zip_bomb") if amplitude.faults.strikes(name))
    members = _members(amplitude, project, hours, struck, odd, extra)
    return _zip(files.zipped(members, method, named))


def label(hour: int) -> str:
    """The hour as faults name it: 2024-11-20T13."""
    return f"{hour_at(hour):%Y-%m-%dT%H}"


def _name(project: Project, hour: int, number: int, odd: bool) -> str:
    number_of = project.shape.project_id
    if odd:
        return f"export/{number_of} ({hour_at(hour):%d.%m.%Y %Hh}) – Teil {number}.JSON.GZ"
    return f"{number_of}/{files.event_name(number_of, hour, number)}"


def _members(
    amplitude: Amplitude,
    project: Project,
    hours: list[int],
    struck: dict[str, tuple[str, ...]],
    odd: bool,
    extra: tuple[str, ...],
) -> Iterator[tuple[str, Iterator[bytes]]]:
    for place, hour in enumerate(hours):
        faults = tuple(f for f in struck.get(label(hour), ()) if f != "bad_member")
        if "missing_hour" in faults:
            continue
        for part in project.parts(hour):
            name = _name(project, hour, part + int(amplitude.settings["first_part"]), odd)
            yield name, amplitude.event_file(project, hour, part, faults if part == 0 else ())
        if place == 0 and "climbing_path" in extra:
            yield "../../../climbed/out.json.gz", files.gzipped([b'{"uuid":"0bad0000-0000-4000-8000-000000000090"}\n'])
        if place == 0 and "zip_bomb" in extra:
            yield f"{project.shape.project_id}/bomb.json.gz", bad.bomb(int(amplitude.settings["bomb_bytes"]))


def _zip(pieces: Iterator[bytes]) -> Reply:
    # The type is not documented; nothing may rest on it.
    return Reply(200, chunks=pieces, headers={"Content-Type": "application/zip"})
