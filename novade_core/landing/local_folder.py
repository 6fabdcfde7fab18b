"""The landing in a folder: create-once by hard link, durable before it is named."""

from __future__ import annotations

import filecmp
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from novade_core.errors import StorageRefused


class LocalFolder:
    """Files below one folder. Nobody sees a file before it is complete."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._written = 0

    def _target(self, path: str) -> Path:
        target = (self.root / path).resolve()
        if not target.is_relative_to(self.root.resolve()):
            raise StorageRefused(f"The path {path!r} climbs out of the landing.")
        return target

    def put_file(self, path: str, local: Path) -> int:
        """See Landing.put_file; the local file is gone afterwards."""
        target = self._target(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with local.open("rb") as stream:
                os.fsync(stream.fileno())
            size = local.stat().st_size
            try:
                os.link(local, target)
                self._written += size
            except FileExistsError:
                if not (target.is_file() and filecmp.cmp(local, target, shallow=False)):
                    raise
            local.unlink()
            _sync_folder(target.parent)
        except FileExistsError as error:
            raise self._taken(path) from error
        except OSError as error:
            raise self._refused(path, error) from error
        return size

    def put_once(self, path: str, content: bytes) -> None:
        """See Landing.put_once."""
        target = self._target(path)
        temporary: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.scratch())
            temporary = Path(name)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.chmod(0o644)
            os.link(temporary, target)
            self._written += len(content)
            _sync_folder(target.parent)
        except FileExistsError as error:
            # read() tells a file in the place of a folder, or one without rights, from one with other content.
            if self.read(path) != content:
                raise self._taken(path) from error
        except OSError as error:
            raise self._refused(path, error) from error
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def read(self, path: str) -> bytes:
        """See Landing.read."""
        try:
            return self._target(path).read_bytes()
        except OSError as error:
            raise self._refused(path, error) from error

    def location(self, path: str) -> str:
        """See Landing.location."""
        return str(self._target(path))

    def paths(self, prefix: str) -> list[str]:
        """See Landing.paths."""
        start = self._target(prefix)
        return sorted(str(p.relative_to(self.root.resolve())) for p in start.rglob("*") if p.is_file())

    def scratch(self) -> Path:
        """A hidden folder on the same volume, so that a hard link works."""
        folder = self.root / ".scratch"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(".scratch", error) from error
        return folder

    def usage(self) -> Mapping[str, int]:
        """See Landing.usage."""
        return {"landing.bytes_written": self._written}

    @staticmethod
    def _taken(path: str) -> StorageRefused:
        return StorageRefused(
            f"The landing already holds another {path}.",
            hint="Landed files are never rewritten; start the run again, it takes a new folder.",
        )

    def _refused(self, path: str, error: OSError) -> StorageRefused:
        return StorageRefused(
            f"The landing folder {self.root} cannot take {path}: {error.strerror or error}.",
            hint=f"Check that {self.root} exists, is writable and has free space, then start the run again.",
        )


def _sync_folder(folder: Path) -> None:
    """Make a new name durable: without it a power cut can lose the name of a synced file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
