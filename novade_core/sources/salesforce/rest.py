"""The REST query resource: counts, aggregates, keys, and the records of small windows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from novade_core.errors import ProtocolBroken
from novade_core.sources.salesforce.client import Client
from novade_core.sources.textfile import write_text
from novade_core.streams import Batch, Column, ColumnType

#: URI and headers together may hold 16,384 bytes; a longer query has to go through Bulk, which takes a body.
LONGEST_QUERY = 14_000


class RestReader:
    """Reads queries page by page. queryAll throughout: it returns deleted rows and archived tasks too."""

    def __init__(self, client: Client, temp: Path) -> None:
        self._client = client
        self._temp = temp

    def pages(self, soql: str, doing: str, start: str | None = None) -> Iterator[Mapping[str, Any]]:
        """The answer's pages; ``start`` is a former page's nextRecordsUrl."""
        seen: set[str] = set()
        received = 0
        if start is None:
            page = self._client.json("GET", "queryAll/", doing, params={"q": soql})
        else:
            page = self._client.json("GET", start, doing)
        while True:
            received += len(page["records"] or [])
            if received > int(page["totalSize"]) > 0:
                raise ProtocolBroken(
                    f"Salesforce announced {page['totalSize']} records and goes on after {received:,} while {doing}."
                )
            yield page
            following = page.get("nextRecordsUrl")
            if page.get("done", True) or not following:
                return
            if following in seen:
                raise ProtocolBroken(f"Salesforce gave the same continuation twice while {doing}.")
            seen.add(following)
            page = self._client.json("GET", following, doing)

    def count(self, soql: str, doing: str) -> int:
        """``SELECT COUNT()``: the number is in totalSize."""
        page = next(self.pages(soql, doing))
        return int(page["totalSize"])

    def rows(self, soql: str, doing: str) -> Iterator[Mapping[str, Any]]:
        """All rows, one page held at a time."""
        for page in self.pages(soql, doing):
            yield from page["records"] or []

    def read(
        self, soql: str, columns: Sequence[Column], resume: Mapping[str, Any] | None, what: str
    ) -> Iterator[Batch]:
        """The records as batches of text."""
        before = self._client.bytes_in
        names = [c.name for c in columns]
        for page in self.pages(soql, f"querying {what}", resume["next"] if resume else None):
            records = page["records"] or []
            received, before = self._client.bytes_in - before, self._client.bytes_in
            following = None if page.get("done", True) else page.get("nextRecordsUrl")
            if not records:
                continue
            with tempfile.NamedTemporaryFile(dir=self._temp, prefix="page-", suffix=".csv") as file:
                # Most values are text or null and need no look; a call for each would be most of the work.
                rows = (
                    [
                        value if value is None or (value and value.__class__ is str) else _text(value, column)
                        for value, column in zip(map(record.get, names), columns, strict=True)
                    ]
                    for record in records
                )
                yield Batch(
                    text=write_text(Path(file.name), names, rows),
                    resume={"mode": "rest", "next": following} if following else None,
                    rows=len(records),
                    bytes_in=received,
                )


def _text(value: Any, column: Column) -> str | None:
    """A JSON value as text. Null stays null; an empty text is kept where the column is text."""
    if value is None:
        return None
    if isinstance(value, str):
        return value if value or column.type is ColumnType.TEXT else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
