"""Record ids: 15 case-sensitive characters plus 3 that make them safe where case is lost."""

from __future__ import annotations

import re

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
#: Characters 4 to 7: the pod and reserved part, the same for all records of one org.
POD = "5g00"

_ID = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?")


def base62(number: int, width: int) -> str:
    """The number in the digit order Salesforce uses (digits, capitals, small letters)."""
    out = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        out.append(DIGITS[rest])
    return "".join(reversed(out))


def checksum(id15: str) -> str:
    """The three characters that say which of the fifteen are capitals."""
    out = []
    for start in (0, 5, 10):
        bits = sum(1 << k for k, char in enumerate(id15[start : start + 5]) if "A" <= char <= "Z")
        out.append(SUFFIX[bits])
    return "".join(out)


def make_id(prefix: str, number: int) -> str:
    """An 18-character id for a running number."""
    id15 = prefix + POD + base62(number, 8)
    return id15 + checksum(id15)


def normalise_id(text: str) -> str | None:
    """The 18-character form of a 15- or 18-character id, or None when it cannot be an id.

    The last three characters are recomputed, so an id whose case was lost on the way does not match by accident.
    """
    if not _ID.fullmatch(text):
        return None
    return text[:15] + checksum(text[:15]) if len(text) == 15 else text


def sql_macros() -> list[str]:
    """The same arithmetic as DuckDB macros, for building millions of ids at once.

    `full_id` names its argument fifteen times, so call it on a finished column, never on an expression.
    """
    digits = ", ".join(f"substr('{DIGITS}', 1 + (n // {62**k}) % 62, 1)" for k in range(7, -1, -1))
    bits = "+".join(f"(CASE WHEN substr(s,p+{k},1) BETWEEN 'A' AND 'Z' THEN {1 << k} ELSE 0 END)" for k in range(5))
    return [
        f"CREATE OR REPLACE TEMP MACRO b62(n) AS concat({digits})",
        f"CREATE OR REPLACE TEMP MACRO sfx(s, p) AS substr('{SUFFIX}', 1 + {bits}, 1)",
        "CREATE OR REPLACE TEMP MACRO full_id(s) AS concat(s, sfx(s, 1), sfx(s, 6), sfx(s, 11))",
    ]
