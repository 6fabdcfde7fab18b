"""How a fact about a pool is asked, and what it is: the forms that ``probe_facts`` and ``probe_writes`` fill.

A statement may name ``{schema}``, ``{files}``, ``{blob_files}`` and ``{credential}``, which are filled in when it is
sent. An answer is never what a pool said: it is a word of ours, a number of an error, or text of a shape that the
fact names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: The shape of an answer that no fact says otherwise of.
WORD = r"[A-Za-z_]{1,24}"
#: How far the documentation goes.
OPEN = "unconfirmed in the vendor's documentation"
SECOND = "second-hand, no word of the vendor's"
NUMBER = "documented as refused; the number is not"


@dataclass(frozen=True)
class Value:
    """The first cell of a query, if it fits ``shape``."""

    sql: str
    shape: str = WORD
    before: tuple[str, ...] = ()  #: sent first; each must be accepted
    parameters: tuple[Any, ...] = ()
    refusable: bool = False  #: a refusal is an answer too


@dataclass(frozen=True)
class Outcome:
    """``accepted``, or ``refused`` with the pool's number."""

    sql: str
    before: tuple[str, ...] = ()
    broken: str | None = None  #: sent after ``before``; it must be refused
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Count:
    """Whether the driver is told how many rows a statement changed: ``told``, ``not told`` or ``another number``."""

    sql: str
    rows: int
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Which of the columns that we read a system view lacks: ``all there`` or ``without …``."""

    view: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """Asked otherwise than by one statement; ``probe_remote`` has it by this name."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that only a real service can tell. ``source`` says how far the documentation goes."""

    id: str
    says: str
    asks: Value | Outcome | Count | Columns | Call
    stand_in: str
    decides: str
    source: str
    writes: bool = False
