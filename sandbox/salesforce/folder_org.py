"""An org loaded from a folder of CSV or JSON files instead of generated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .schema import SObject
from .store import Builder


@dataclass(frozen=True)
class LoadedOrg:
    """Schema, rows and the local ids of a folder."""

    key: str
    objects: dict[str, SObject]
    build: Builder
    idmap: dict[str, dict[str, str]]


def load_folder(path: Path, epoch: datetime) -> LoadedOrg:
    raise NotImplementedError("--org follows")
