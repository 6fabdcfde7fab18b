"""Records of a source's JSON as the text files of ``streams.TextFile``; Bulk answers are such files already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from novade_core.streams import TextFile


def write_text(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | None]]) -> TextFile:
    """Write rows of text; None becomes an unquoted empty cell, which is how NULL and "" stay apart.

    Python's own csv module cannot write that before 3.12. NUL bytes, which no CSV reader takes, are left out;
    half of a surrogate pair, which no UTF-8 can hold, becomes U+FFFD.
    """
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        file.write(",".join(_cell(name) for name in header) + "\n")
        for row in rows:
            file.write(",".join(["" if value is None else _cell(value) for value in row]) + "\n")
    return TextFile(path=path, header=tuple(header), quoted_empty_is_null=False)


def _cell(value: str) -> str:
    if value.isascii() and '"' not in value and "\0" not in value:
        return f'"{value}"'
    value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return '"' + value.replace("\0", "").replace('"', '""') + '"'
