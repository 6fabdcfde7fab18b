"""The landing protocol and the manifest, which is the hand-over from landing to warehouse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from novade_core.streams import Column, WindowCount


class Landing(Protocol):
    """A place for files that are written once. Paths are relative, with ``/``."""

    def put_file(self, path: str, local: Path) -> int:
        """Move a finished local file here; answers its bytes. StorageRefused where the path holds other content."""

    def put_once(self, path: str, content: bytes) -> None:
        """Create ``path`` with this content; StorageRefused where it exists with other content."""

    def read(self, path: str) -> bytes:
        """The whole content of a small file (a manifest)."""

    def location(self, path: str) -> str:
        """What a warehouse on this machine opens: an absolute path or a URL."""

    def paths(self, prefix: str) -> list[str]:
        """All files below a prefix, sorted."""

    def scratch(self) -> Path:
        """A local folder in which a file can be made before ``put_file``; on the same volume where that helps."""

    def usage(self) -> Mapping[str, int]:
        """What was used since this landing was made, by meter: ``landing.bytes_written``, requests where they cost."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one chunk holds. Its sha256 is the load id, whoever loads it."""

    stream: str
    run_id: int
    chunk: int
    window: Mapping[str, Any]
    files: Sequence[Mapping[str, Any]]  #: {"path", "rows", "bytes", "sha256"}
    rows: int
    rejected: int
    cursor_low: datetime | None
    cursor_high: datetime | None
    hours: Sequence[WindowCount]
    columns: Sequence[Column]
    landed_at: datetime

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no blanks, UTF-8."""
        value = {
            "format": 1,
            "stream": self.stream,
            "run_id": self.run_id,
            "chunk": self.chunk,
            "window": dict(self.window),
            "files": [dict(f) for f in self.files],
            "rows": self.rows,
            "rejected": self.rejected,
            "cursor_low": self.cursor_low.isoformat() if self.cursor_low else None,
            "cursor_high": self.cursor_high.isoformat() if self.cursor_high else None,
            "hours": list(self.hours),
            "columns": [c.to_json() for c in self.columns],
            "landed_at": self.landed_at.isoformat(),
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load_id(manifest: bytes) -> str:
    """The identity of a load: sha256 of the manifest's bytes, in hex."""
    return hashlib.sha256(manifest).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file in hex, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
