"""Tidying up: what killed runs left in scratch folders. Landed files are never touched."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from novade_core.ledger.database import Ledger
from novade_core.ledger.models import ENDED, Run

_OF_RUN = re.compile(r"run-(\d+)-")
#: Files that belong to no run are passing ones of a second or less; after two days they are a dead process's, even
#: where a clock was set by hours meanwhile.
_OLD_SECONDS = 172_800


def tidy(ledger: Ledger, folders: Iterable[Path]) -> None:
    """Remove entries named ``run-<id>-…`` of runs that have ended, and nameless ones that are old."""
    entries = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    named = {entry: int(found[1]) for entry in entries if (found := _OF_RUN.match(entry.name))}
    with ledger.read() as connection:
        ended = set(
            connection.execute(
                select(Run.id).where(Run.id.in_(sorted(set(named.values()))), Run.state.in_(ENDED))
            ).scalars()
        )
    oldest = time.time() - _OLD_SECONDS
    for entry in entries:
        # Another run may tidy, or take its own passing file away, at the same moment.
        with suppress(FileNotFoundError):
            if named[entry] in ended if entry in named else entry.stat().st_mtime < oldest:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
