"""The bulk export as files: every stream whole, in a folder or a container.

No public description of the vendor's files was found. Everything about their shape is therefore a setting of `Shape`;
the records in them are those that the API gives.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from .seed import Record
from .workspace import Workspace

STREAMS = ("conversations", "messages", "contacts", "users", "accounts", "teams", "playbooks")


class Container(Protocol):
    """The part of azure.storage.blob.ContainerClient that is used."""

    def upload_blob(self, name: str, data: bytes, *, overwrite: bool = ...) -> object: ...


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the files look. All of it is unconfirmed."""

    #: "jsonl" (a record per line), "json" (an array, below `data` where `wrapped`) or "csv" (nested values as JSON).
    format: str = "jsonl"
    gzip: bool = False
    #: Records per file; a stream with more continues in the next part.
    rows_per_file: int = 50_000
    #: Folder of the files; the date is that of the writing.
    prefix: str = "drift-export-{date}/"
    #: Name of a file below it.
    name: str = "{stream}-{part:05d}.{extension}"
    wrapped: bool = False
    #: Name of a last file that lists the others with their counts; empty for none.
    manifest: str = ""
    #: Name of a stream whose last file ends in the middle.
    truncated: str = ""

    def __post_init__(self) -> None:
        if self.format not in ("jsonl", "json", "csv"):
            raise ValueError("format is jsonl, json or csv")
        if self.rows_per_file < 1:
            raise ValueError("rows_per_file is at least 1")


@dataclass(frozen=True, kw_only=True)
class Written:
    """One file of the export."""

    name: str
    stream: str
    rows: int
    bytes: int


def rows(workspace: Workspace, stream: str) -> Iterator[Record]:
    """Every record of a stream as it is now, in the order of its numbers."""
    if stream not in STREAMS:
        raise ValueError(f"no stream {stream}; known: {', '.join(STREAMS)}")
    if stream in ("conversations", "messages"):
        for number in sorted(workspace.order().tolist()):
            if stream == "conversations":
                yield workspace.conversation(number, whole=True)
            else:
                yield from workspace.messages(number)
    elif stream == "contacts":
        yield from (workspace.contact(n) for n in workspace.contact_numbers())
    elif stream == "users":
        yield from (workspace.user(n) for n in range(workspace.seed.users))
    elif stream == "accounts":
        yield from (workspace.account(n) for n in workspace.account_numbers())
    elif stream == "teams":
        yield from (workspace.seed.team(n) for n in range(2))
    else:
        yield from (workspace.seed.playbook(n) for n in range(workspace.seed.playbooks))


def write(workspace: Workspace, target: Path | Container, shape: Shape | None = None) -> list[Written]:
    """Write every stream; answer the files. Existing files of the same name are replaced."""
    shape = shape or Shape()
    prefix = shape.prefix.format(date=datetime.now(UTC).date().isoformat())
    done: list[Written] = []
    for stream in STREAMS:
        for part, some in enumerate(_parts(rows(workspace, stream), shape.rows_per_file)):
            extension = shape.format + (".gz" if shape.gzip else "")
            name = prefix + shape.name.format(stream=stream, part=part, extension=extension)
            data = _encode(some, shape)
            if shape.truncated == stream and len(some) < shape.rows_per_file:
                data = data[: len(data) // 2]
            _put(target, name, data)
            done.append(Written(name=name, stream=stream, rows=len(some), bytes=len(data)))
    if shape.manifest:
        _put(target, prefix + shape.manifest, json.dumps({"files": [vars(f) for f in done]}).encode())
    return done


def _parts(records: Iterable[Record], count: int) -> Iterator[list[Record]]:
    """Lists of so many records; a stream without any is one empty file."""
    some: list[Record] = []
    first = True
    for record in records:
        some.append(record)
        if len(some) == count:
            yield some
            some, first = [], False
    if some or first:
        yield some


def _encode(records: list[Record], shape: Shape) -> bytes:
    if shape.format == "jsonl":
        text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    elif shape.format == "json":
        text = json.dumps({"data": records} if shape.wrapped else records, ensure_ascii=False)
    else:
        out = io.StringIO()
        columns = sorted({name for record in records for name in record})
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        for record in records:
            flat = {
                k: json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v for k, v in record.items()
            }
            writer.writerow(flat)
        text = out.getvalue()
    data = text.encode()
    return gzip.compress(data, 1, mtime=0) if shape.gzip else data


def _put(target: Path | Container, name: str, data: bytes) -> None:
    if not isinstance(target, Path):
        target.upload_blob(name, data, overwrite=True)
        return
    path = (target / name).resolve()
    if not path.is_relative_to(target.resolve()):
        raise ValueError(f"{name} leads out of the folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
