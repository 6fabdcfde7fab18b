"""New ledgers on SQLite without the time that migrations take: they run once a test process, the rest are copies.

That migrations make this schema from nothing, and from each older one, is tests/unit/test_ledger_database.py's to show.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from novade_core.ledger.database import open_ledger


@functools.cache
def _schema() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite"
        open_ledger(f"sqlite:///{file}").close()
        return file.read_bytes()


def sqlite_ledger(file: Path) -> str:
    """The URL of a ledger in ``file``: a new one with the schema, or the one that is there already."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_schema())
    return f"sqlite:///{file}"
