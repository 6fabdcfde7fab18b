"""Where the native destination writes: a folder, or a container of Azure Blob Storage."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from azure.storage.blob import ContainerClient


class Blobs(Protocol):
    """What the writer needs of a container."""

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a blob, in the place of one of the same name."""

    def exists(self, name: str) -> bool:
        """Whether there is a blob of this name."""


class FolderBlobs:
    """Blobs as files below a folder; a file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with draft.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        return (self.folder / name).exists()


class ContainerBlobs:
    """Blobs of a container; the client percent-encodes the `#` of their names."""

    def __init__(self, container: ContainerClient) -> None:
        self.container = container

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        self.container.upload_blob(name, pieces, overwrite=True)

    def exists(self, name: str) -> bool:
        return bool(self.container.get_blob_client(name).exists())


def blobs_at(place: str) -> Blobs:
    """A folder, or the URL of a container; its key is in AZURE_STORAGE_KEY unless the URL carries a signature."""
    if not place.startswith(("http://", "https://")):
        return FolderBlobs(Path(place))
    return ContainerBlobs(ContainerClient.from_container_url(place, credential=os.environ.get("AZURE_STORAGE_KEY")))
