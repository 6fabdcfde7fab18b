"""Command line: ``python -m sandbox.amplitude write --to FOLDER --from-hour 2024-11-20T00 --hours 24``."""

from __future__ import annotations

import argparse
import sys
import time

from . import bad
from .blobs import blobs_at
from .control import read_hour
from .generate import Generator, Shape
from .native import LAYOUTS, NativeWriter


def main(arguments: list[str] | None = None) -> int:
    """Write, rewrite or add late files; exit code 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.amplitude", description="Amplitude's native destination.")
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write hours; files that are there stay")
    rewrite = commands.add_parser("rewrite", help="write an hour's files again, with other content")
    late = commands.add_parser("late", help="one file more for an hour")
    for command in (write, rewrite, late):
        command.add_argument("--to", required=True, metavar="FOLDER|URL", help="a folder, or a container's URL")
        command.add_argument("--from-hour", required=True, type=read_hour, help="such as 2024-11-20T13, UTC")
        command.add_argument("--hours", type=int, default=1)
        command.add_argument("--events-per-hour", type=int, default=100)
        command.add_argument("--files-per-hour", type=int, default=1)
        command.add_argument("--seed", type=int, default=7)
        command.add_argument("--layout", choices=LAYOUTS, default="folders")
        command.add_argument("--prefix", default="", help="folder before all names")
        command.add_argument("--clean", action="store_true", help="no event breaks the plan")
    write.add_argument("--missing", action="append", default=[], type=read_hour, help="an hour to leave out")
    write.add_argument("--empty", action="append", default=[], type=read_hour, help="an hour whose files have no line")
    write.add_argument("--fault", action="append", default=[], choices=[*bad.LINES, "truncated_gz"])
    rewrite.add_argument("--times", type=int, default=1, help="so often, each time with other content")
    rewrite.add_argument("--pause", type=float, default=0.0, help="seconds between two times")
    given = parser.parse_args(arguments)
    try:
        shape = Shape(
            seed=given.seed,
            events_per_hour=given.events_per_hour,
            files_per_hour=given.files_per_hour,
            violations=not given.clean,
        )
    except ValueError as error:
        parser.error(str(error))
    writer = NativeWriter(Generator(shape), blobs_at(given.to), layout=given.layout, prefix=given.prefix)
    hours = range(given.from_hour, given.from_hour + given.hours)
    if given.command == "write":
        missing, empty = set(given.missing), set(given.empty)
        done = [writer.write(hours.start, given.hours, missing=missing, empty=empty, faults=given.fault)]
    elif given.command == "late":
        done = [writer.write_late(hour) for hour in hours]
    else:
        done = []
        for turn in range(given.times):
            done += [writer.rewrite(hour, turn + 1) for hour in hours]
            time.sleep(given.pause)
    names = sum(len(one.names) for one in done)
    kept = sum(len(one.kept) for one in done)
    print(f"{names} blobs written, {kept} were there already", file=sys.stderr)  # noqa: T201  a command line speaks
    return 0


if __name__ == "__main__":
    sys.exit(main())
