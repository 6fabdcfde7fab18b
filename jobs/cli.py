"""What all commands share: options, output, errors, exit codes."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Annotated, Any, NoReturn

import typer

from novade_core.errors import BadWindow, NovadeError, UnknownStream

#: Exit codes, the same for every command.
DONE, FAILED, USAGE, PARTIAL = 0, 1, 2, 3

EnvironmentOption = Annotated[
    str | None, typer.Option("--environment", "-e", help="Environment of novade.toml.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


def who() -> str:
    """Whose command it is, as runs and ``audit`` name them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command"


def emit(value: Any) -> None:
    """JSON on standard output."""

    def plain(item: Any) -> Any:
        if isinstance(item, datetime | date):
            return item.isoformat()
        raise TypeError(f"{type(item).__name__} has no JSON form")

    sys.stdout.write(json.dumps(value, default=plain, ensure_ascii=False, indent=2) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """Aligned text; plain enough for grep."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in texts)]) for i, name in enumerate(columns)]
    for line in [list(columns), *texts]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, columns, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    # What comes from a source must not steer the terminal.
    return "".join(c if c.isprintable() else " " for c in str(value))


def say(text: str) -> None:
    """A sentence for people on standard error; standard output is for data."""
    sys.stderr.write(text + "\n")


def fail(error: NovadeError, *, as_json: bool) -> NoReturn:
    """End the command with one sentence and the next step."""
    code = USAGE if isinstance(error, UnknownStream | BadWindow) else FAILED
    if as_json:
        emit({"error": error.message, "hint": error.hint, "class": error.kind, "origin": error.origin_of_fault})
    else:
        say(f"Error: {error.message}")
        say(f"Next step: {error.hint}")
    raise typer.Exit(code)


@contextmanager
def errors(*, as_json: bool) -> Iterator[None]:
    """Our errors become a sentence and an exit code; anything else is a bug and keeps its trace."""
    try:
        yield
    except NovadeError as error:
        fail(error, as_json=as_json)


def instant(text: str | None, name: str) -> datetime | None:
    """An option's instant, which needs a time zone. Raises BadWindow."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadWindow(f"{name} {text!r} is not an instant.") from error
    if value.tzinfo is None:
        raise BadWindow(f"{name} {text!r} has no time zone.")
    return value
