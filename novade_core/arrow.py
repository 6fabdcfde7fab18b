"""The one place where pyarrow, which has no types, is spoken to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa


def text_table(columns: Mapping[str, Sequence[str | None]]) -> pa.Table:
    """A table of text columns. Half of a surrogate pair, which no UTF-8 text can hold, becomes U+FFFD."""
    return pa.table({name: _text(values) for name, values in columns.items()})


def _text(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        mended = [v if v is None else v.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for v in values]
        return pa.array(mended, pa.string())


def text_schema(names: Sequence[str]) -> pa.Schema:
    """The schema of a text table."""
    return pa.schema([(name, pa.string()) for name in names])
