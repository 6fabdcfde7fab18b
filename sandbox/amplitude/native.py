"""Amplitude's native destination "Azure Blob Storage - Events & Merged Users": what it writes into a container.

One or more event files per hour of upload, one file of merged ids per hour that has any, named as documented. Files
come late, are written again with other content, stay away, or are empty.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from . import files
from .blobs import Blobs
from .generate import Generator

#: Where files lie: documented for GCS as folders, for Azure not at all.
LAYOUTS = ("folders", "flat")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one call wrote, and what was there already."""

    names: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class NativeWriter:
    """Writes hours of a project into a container."""

    def __init__(self, generator: Generator, blobs: Blobs, *, layout: str = "folders", prefix: str = "") -> None:
        """`layout`: "folders" (project and organisation as folders) or "flat". Raises ValueError for others."""
        if layout not in LAYOUTS:
            raise ValueError(f"layout is one of {', '.join(LAYOUTS)}, not {layout}")
        self.generator, self.blobs, self.layout = generator, blobs, layout
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    def event_blob(self, hour: int, number: int) -> str:
        """Name of an hour's event file; numbers begin at 1."""
        project = self.generator.shape.project_id
        folder = f"{project}/" if self.layout == "folders" else ""
        return f"{self.prefix}{folder}{files.event_name(project, hour, number)}"

    def merge_blob(self, hour: int) -> str:
        """Name of an hour's file of merged ids."""
        org = self.generator.shape.org_id
        folder = f"-{org}/" if self.layout == "folders" else ""
        return f"{self.prefix}{folder}{files.merge_name(org, hour)}"

    def write_hour(
        self, hour: int, *, revision: int = 0, faults: Sequence[str] = (), again: bool = False, empty: bool = False
    ) -> Written:
        """The files of an hour. Those that are there stay as they are, unless `again`; `empty` files have no line.

        `faults` are names of line faults, or "truncated_gz"; they are in the hour's first file. A `revision` above 0
        has a twentieth of the events less and other processing times; names and everything else stay.
        """
        names, kept = [], []
        for part in range(self.generator.shape.files_per_hour):
            name = self.event_blob(hour, part + 1)
            if not again and self.blobs.exists(name):
                kept.append(name)
                continue
            bad = tuple(faults) if part == 0 else ()
            made = files.event_file(self.generator, hour, part, revision, bad) if not empty else files.gzipped(())
            self.blobs.put(name, made)
            names.append(name)
        merges = b"" if empty else self.generator.merges(hour)
        name = self.merge_blob(hour)
        if merges and (again or not self.blobs.exists(name)):
            self.blobs.put(name, files.gzipped([merges]))
            names.append(name)
        return Written(names=tuple(names), kept=tuple(kept))

    def write_late(self, hour: int) -> Written:
        """One file more for an hour that is long complete, with events that no other file has."""
        parts = self.generator.shape.files_per_hour
        name = self.event_blob(hour, parts + 1)
        self.blobs.put(name, files.event_file(self.generator, hour, parts, 0, ()))
        return Written(names=(name,))

    def rewrite(self, hour: int, revision: int = 1) -> Written:
        """The same names with other content: what a backfill over hours that are there does."""
        return self.write_hour(hour, revision=revision, again=True)

    def write(
        self,
        first: int,
        hours: int,
        *,
        missing: Collection[int] = (),
        empty: Collection[int] = (),
        faults: Sequence[str] = (),
    ) -> Written:
        """Hours one after the other from `first`; `missing` ones are left out, `faults` are in the first one."""
        names: list[str] = []
        kept: list[str] = []
        for hour in range(first, first + hours):
            if hour in missing:
                continue
            done = self.write_hour(hour, empty=hour in empty, faults=faults if hour == first else ())
            names += done.names
            kept += done.kept
        return Written(names=tuple(names), kept=tuple(kept))
