"""A batch's file as a table of text in DuckDB: every column text, nothing guessed.

CSV comes as the source spelled it. Of a JSON object each value becomes a text: a JSON string is what it says, any
other value its JSON. A number keeps its digits where 64 bits cannot hold it; of a name that occurs twice the first one
counts; a name that is no column goes, with its value, into the column for the rest, where there is one.
"""

from __future__ import annotations

import json

from novade_core.rowhash import quote, quote_path
from novade_core.streams import JsonLines, TextFile

#: A record can hold many long text areas, and DuckDB wants to know the longest line beforehand.
LONGEST_LINE = 16 << 20
#: The whole row, under a name that no source's column has.
ROW = "_novade_row"
#: A byte that no JSON holds unescaped, so that a line is never cut.
_NEVER = "chr(1)"


def table_of(text: TextFile | JsonLines) -> str:
    """The file as something to select from; ``ROW`` is the whole record."""
    return _csv(text) if isinstance(text, TextFile) else _json(text)


def whole(text: TextFile | JsonLines) -> str:
    """The record as it came, as an expression over ``table_of``."""
    return f"CAST({ROW} AS VARCHAR)" if isinstance(text, TextFile) else quote(ROW)


def is_no_record(text: TextFile | JsonLines) -> str | None:
    """A condition that is true where a record could not even be taken apart; None where that fails as a whole."""
    return None if isinstance(text, TextFile) else f"coalesce(json_type(TRY({quote(ROW)}::JSON)) <> 'OBJECT', true)"


def _csv(text: TextFile) -> str:
    """Never with ``parallel=false``: DuckDB 2.0 then leaves out, without a word, a last record whose quotation is not
    closed."""
    columns = ", ".join(f"{sql_text(name)}: 'VARCHAR'" for name in text.header)
    quoted = "true" if text.quoted_empty_is_null else "false"
    return (
        f"read_csv({quote_path(str(text.path))}, auto_detect=false, header=true, columns={{{columns}}}, delim=',', "
        f"quote='\"', escape='\"', nullstr='', allow_quoted_nulls={quoted}, new_line='\\n', strict_mode=true, "
        f"max_line_size={LONGEST_LINE}, buffer_size={LONGEST_LINE * 2}) {ROW}"
    )


def _json(text: JsonLines) -> str:
    made = {text.rest, *text.inner, *text.first_of}
    names = [name for name in text.fields if name not in made]
    objects = text.as_json | {owner for owner, _ in text.inner.values()}
    read = dict.fromkeys([*names, *objects, *(other for others in text.first_of.values() for other in others)])
    shape = sql_text(json.dumps({name: "JSON" if name in objects else "VARCHAR" for name in read}))
    values = [f"{_value(name, as_json=name in text.as_json)} AS {quote(name)}" for name in names]
    for name, (owner, inside) in text.inner.items():
        pointer = "/" + inside.replace("~", "~0").replace("/", "~1")
        values.append(f"{_text_at(f'_object[{sql_text(owner)}]', pointer)} AS {quote(name)}")
    for name, others in text.first_of.items():
        values.append(f"coalesce({', '.join(_value(other, as_json=False) for other in others)}) AS {quote(name)}")
    if text.rest is not None:
        values.append(f"{_rest(names)} AS {quote(text.rest)}")
    lines = (
        f"read_csv({quote_path(str(text.path))}, auto_detect=false, header=false, columns={{'_line': 'VARCHAR'}}, "
        f"delim={_NEVER}, quote='', escape='', new_line='\\n', "
        f"max_line_size={LONGEST_LINE}, buffer_size={LONGEST_LINE * 2})"
    )
    # TRY gives NULL for what is no JSON, and costs nothing where all of it is.
    taken = f"SELECT _line, TRY(json_transform(_line, {shape})) AS _object FROM {lines}"  # noqa: S608  names are quoted
    return f"(SELECT _line AS {quote(ROW)}, {', '.join(values)} FROM ({taken}))"  # noqa: S608  names are quoted


def _value(name: str, *, as_json: bool) -> str:
    value = f"_object[{sql_text(name)}]"
    if as_json:
        return f"nullif(CAST({value} AS VARCHAR), 'null')"
    # No warehouse's text holds NUL everywhere; the JSON beside it keeps the escape.
    return f"CASE WHEN contains(_line, '\\u0000') THEN replace({value}, chr(0), '') ELSE {value} END"


def _text_at(json: str, pointer: str) -> str:
    value = f"TRY(json_extract_string({json}, {sql_text(pointer)}))"
    return f"CASE WHEN contains(_line, '\\u0000') THEN replace({value}, chr(0), '') ELSE {value} END"


def _rest(names: list[str]) -> str:
    known = ", ".join(sql_text(name) for name in names)
    others = f"list_filter(TRY(json_keys(_line)), lambda k: k NOT IN ({known}))"
    pointer = "'/' || replace(replace(k, '~', '~0'), '/', '~1')"
    value = f"coalesce(CAST(json_extract(_line, {pointer}) AS VARCHAR), 'null')"
    pairs = f"list_transform({others}, lambda k: CAST(to_json(k) AS VARCHAR) || ':' || {value})"
    return f"CASE WHEN len({others}) > 0 THEN '{{' || array_to_string({pairs}, ',') || '}}' END"


def sql_text(value: str) -> str:
    """A text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
