"""The plans in a folder or a file. Names are hostile until looked at, and nothing outside the folder is read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import ConfigurationError
from .documents import parse_document
from .model import MAX_BYTES, MAX_PROPERTIES, Event, Plan, unreadable
from .rudder_project import parse_project
from .tables import parse_table

#: Files that may hold a plan, links and empty folders aside, and how deep they may lie.
MAX_FILES = 2_000
MAX_DEPTH = 12
#: Of all files together.
MAX_TOTAL = 60_000_000
MAX_NAME = 300
#: Iglu's files have no ending; they are called as their version.
_IGLU = re.compile(r"\d+-\d+-\d+")
_TABLES, _DOCUMENTS, _PROJECT = (".csv", ".xlsx"), (".json",), (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A plan and where it stood."""

    plan: Plan
    file: str  #: relative to the folder; of plans in several files the one that names the plan


def read_plans(path: Path, only: Sequence[str] = ()) -> list[Found]:
    """The plans under ``path``, by name; ``only`` chooses files of the folder.

    Iglu's schemas, one a file, are one plan with the folder's name; the YAML files of RudderStack are one project.
    Raises ConfigurationError that names the file: what is no plan, too large, a link that leads out of the folder,
    two files with a plan of one name, a folder without a plan.
    """
    contents = dict(_contents(path, only))
    found = [Found(plan=plan, file=file) for file, plan in parse_project(_those(contents, _PROJECT))]
    schemas: dict[tuple[str, str, str], tuple[Event, str]] = {}
    for file, data in _those(contents, (*_TABLES, *_DOCUMENTS, "")).items():
        plan = parse_table(data, file) if file.lower().endswith(_TABLES) else parse_document(data, file)
        if plan.source != "iglu" or not path.is_dir():
            found.append(Found(plan=plan, file=file))
            continue
        for event in plan.events:
            key = (event.type, event.name, event.version)
            if key in schemas:
                raise unreadable(file, "", f"holds {event.name} {event.version}, and so does {schemas[key][1]}")
            schemas[key] = event, file
    if schemas:
        events = tuple(event for _, (event, _) in sorted(schemas.items()))
        found.append(Found(plan=Plan(name=path.name, source="iglu", id=path.name, events=events), file="."))
    if not found:
        raise ConfigurationError(
            f"{path} holds no tracking plan.",
            hint="Put the plan's files there (.json, .csv, .xlsx, .yaml), or correct tracking_plan.path.",
            origin="source",
        )
    return [_checked(one, found) for one in sorted(found, key=lambda one: one.plan.name)]


def _checked(one: Found, found: Sequence[Found]) -> Found:
    name = one.plan.name.strip()
    if not name or len(name) > MAX_NAME:
        raise unreadable(one.file, "", f"gives the plan no name of 1 to {MAX_NAME} characters")
    if "\0" in name or not name.isprintable():
        raise unreadable(one.file, "", f"gives the plan the name {name!r}, which cannot be shown")
    same = [other.file for other in found if other.plan.name.strip() == name]
    if len(same) > 1:
        raise ConfigurationError(
            f"{' and '.join(sorted(same))} hold the same plan, {name}.",
            hint="Leave the one that is valid now; older versions are remembered and need no file.",
            origin="source",
        )
    if one.plan.size > MAX_PROPERTIES:
        raise unreadable(one.file, "", f"has more than {MAX_PROPERTIES:,} properties")
    return replace(one, plan=replace(one.plan, name=name))


def _those(contents: dict[str, bytes], endings: Sequence[str]) -> dict[str, bytes]:
    return {file: data for file, data in contents.items() if _ending(file) in endings}


def _ending(file: str) -> str | None:
    """The ending of a file that may hold a plan, "" for Iglu's; None for any other."""
    name = file.rsplit("/", 1)[-1]
    if _IGLU.fullmatch(name):
        return ""
    ending = os.path.splitext(name)[1].lower()
    return ending if ending in (*_TABLES, *_DOCUMENTS, *_PROJECT) else None


def _contents(path: Path, only: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    total = 0
    missing = set(only)
    if path.is_file():
        candidates = iter([path])
        root = path.parent
    else:
        root = path
        candidates = _files(path, path, 0)
    for number, file in enumerate(candidates):
        name = file.relative_to(root).as_posix()
        if only and name not in only:
            continue
        if number >= MAX_FILES:
            raise unreadable(str(path), "", f"holds more than {MAX_FILES:,} files")
        data = _read(file, name, root)
        total += len(data)
        if total > MAX_TOTAL:
            raise unreadable(str(path), "", f"holds more than {MAX_TOTAL:,} bytes of plans")
        missing.discard(name)
        yield name, data
    if missing:
        raise ConfigurationError(
            f"{path} has no {', '.join(sorted(missing))}, which tracking_plan.files names.",
            hint="Correct the names: they are relative to tracking_plan.path and end in .json, .csv, .xlsx or .yaml.",
            origin="source",
        )


def _files(folder: Path, root: Path, depth: int) -> Iterator[Path]:
    """Files that may hold a plan, by name; what begins with a dot is none."""
    if depth > MAX_DEPTH:
        raise unreadable(str(root), "", f"has folders more than {MAX_DEPTH} levels deep")
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ConfigurationError(
            f"The folder of tracking plans {folder} cannot be read: {error.strerror}.",
            hint="Correct tracking_plan.path, or the folder's rights.",
            origin="source",
        ) from error
    for name in names:
        if name.startswith("."):
            continue
        entry = folder / name
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry, root, depth + 1)
        elif _ending(name) is not None or entry.is_symlink():
            if not name.isprintable():  # control characters, and bytes that are no UTF-8
                raise unreadable(repr(str(entry))[1:-1], "", "has a name that cannot be shown; rename it")
            yield entry


def _read(file: Path, name: str, root: Path) -> bytes:
    real = file.resolve()
    if not real.is_relative_to(root.resolve()):
        raise unreadable(name, "", "is a link that leads out of the folder")
    if _ending(name) is None:
        raise unreadable(name, "", "is a link, and only files that hold plans may be links")
    try:
        # Without blocking: a pipe would wait for a writer.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(name, "", f"cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise unreadable(name, "", "is no regular file")
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise unreadable(name, "", f"is larger than {MAX_BYTES:,} bytes")
    return data
