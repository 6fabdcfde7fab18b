"""The vendor's bulk export: files in a folder, as a second way in for when the API is gone.

No public description of these files was found. Their names are a setting, their format is told by their ending
(``jsonl``, ``json``, ``csv``, each also with ``.gz``), and their records are taken to be those of the API.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from novade_core.errors import ConfigurationError, ProtocolBroken, TransferBroken
from novade_core.settings import DriftSettings
from novade_core.sources.drift.records import FIELDS, Number, parse
from novade_core.streams import ColumnType

#: Records handed on together.
_PAGE = 500
#: A file that is one JSON value is read at once; a larger one has to come as lines.
_LARGEST_VALUE = 256 << 20
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv")


def files_of(settings: DriftSettings, name: str) -> list[Path]:
    """The export's files of one stream, the last by name first. Raises ConfigurationError where there are none."""
    if settings.export is None:
        raise ConfigurationError(
            'A stream of Drift has transport = "files", but no folder is named.',
            hint="Set drift.export to the folder that holds the vendor's bulk export.",
        )
    pattern = settings.export_names.replace("{stream}", name)
    found = [p for p in settings.export.glob(pattern) if p.is_file() and _ending(p) in _ENDINGS]
    if not found:
        raise ConfigurationError(
            f"{settings.export} holds no file of {name} ({pattern}).",
            hint="Check drift.export and drift.export_names; endings are .jsonl, .json, .csv, each also with .gz.",
        )
    return sorted(found, reverse=True)


def written_at(files: list[Path]) -> datetime:
    """When the newest of these files was written: the export's own clock."""
    return datetime.fromtimestamp(max(p.stat().st_mtime for p in files), UTC)


def pages(files: list[Path], name: str) -> Iterator[list[Any]]:
    """All records of these files, some hundred at a time. Raises TransferBroken naming the file that is damaged."""
    for path in files:
        records = _records(path, name)
        try:
            while page := list(islice(records, _PAGE)):
                yield page
        except (EOFError, OSError, ValueError, csv.Error, zlib.error) as error:
            raise TransferBroken(
                f"{path.name} of Drift's export cannot be read to its end: {str(error)[:120]}.",
                hint="Ask the vendor for the export again, or replace the file, then start the run again.",
            ) from error
        except RecursionError as error:
            raise ProtocolBroken(f"{path.name} of Drift's export nests too deeply to be read.") from error


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            yield file
    else:
        with path.open(encoding="utf-8", newline="") as file:
            yield file


def _records(path: Path, name: str) -> Iterator[Any]:
    with _opened(path) as file:
        match _ending(path):
            case ".json":
                text = file.read(_LARGEST_VALUE + 1)
                if len(text) > _LARGEST_VALUE:
                    raise ValueError(f"one JSON value of more than {_LARGEST_VALUE >> 20} million characters")
                value = parse(text)
                value = value.get("data") if isinstance(value, dict) else value
                if not isinstance(value, list):
                    raise ValueError("neither an array nor an object with an array data")
                yield from value
            case ".csv":
                # Not above the longest that a body has; the module's own limit is 128 KiB.
                csv.field_size_limit(max(csv.field_size_limit(), 16 << 20))
                kinds = {f.path[0]: _kind(f.path, f.column.type) for f in FIELDS[name] if f.path}
                for row in csv.DictReader(file):
                    yield _typed(row, kinds)
            case _:
                yield from (parse(line) for line in file if line.strip())


def _kind(path: tuple[str, ...], kind: ColumnType) -> ColumnType:
    """An object that is taken apart stands in a CSV as JSON."""
    return ColumnType.JSON if path[1:] else kind


def _typed(row: Mapping[str, Any], kinds: Mapping[str, ColumnType]) -> dict[str, Any]:
    """A row of CSV as the API would say it; an empty cell counts as absent, what is unknown stays text."""
    made: dict[str, Any] = {}
    for name, cell in row.items():
        if not isinstance(cell, str):
            raise ValueError("a row has more or fewer cells than the header")
        match kinds.get(name, ColumnType.TEXT):
            case _ if cell == "":
                continue
            case ColumnType.JSON:
                made[name] = parse(cell)
            case ColumnType.BIGINT | ColumnType.TIMESTAMP:
                made[name] = Number(cell)
            case ColumnType.BOOLEAN:
                made[name] = {"true": True, "false": False}.get(cell.lower(), cell)
            case _:
                made[name] = cell
    return made
