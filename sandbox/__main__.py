"""Command line: ``python -m sandbox serve --dir var/sandbox``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .azurite import CannotStart
from .process import AlreadyRunning, Options, serve
from .synapse.facts import NoFacts


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="Stand-ins for the remote services.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("serve", help="serve the Salesforce stand-in over HTTPS on loopback")
    run.add_argument("--dir", type=Path, required=True, help="folder for data, certificates and secrets")
    run.add_argument("--port", type=int, default=8543, help="0 takes any free port")
    run.add_argument("--size", type=int, help="number of Contacts, 10 to 2,000,000 (10,000 in a new folder)")
    run.add_argument("--seed", type=int, help="another seed gives other data (7 in a new folder)")
    run.add_argument("--org", type=Path, help="load the org from a folder of CSV or JSON files instead")
    run.add_argument("--page-size-bulk", type=int, default=25_000, help="rows of a bulk page without maxRecords")
    run.add_argument("--parent-pid", type=int, help="end by itself when this process is gone")
    run.add_argument("--synapse", action="store_true", help="serve a Synapse dedicated pool over TDS too")
    run.add_argument("--synapse-port", type=int, default=0, help="its port; 0 takes any free one")
    run.add_argument("--azure", action="store_true", help="serve Azurite with a landing, and a pool that reads from it")
    run.add_argument("--pool-paused", action="store_true", help="the pool begins paused and takes seconds to move")
    run.add_argument("--facts", type=Path, help="answers of a real pool, as a probe wrote them, which the pool follows")
    run.add_argument(
        "--blobs",
        action="append",
        default=[],
        metavar="ACCOUNT=URL=KEY",
        help="where the pool finds an account's blobs",
    )
    given = parser.parse_args(arguments)
    places = [place.split("=", 2) for place in given.blobs]
    if any(len(place) != 3 for place in places):
        parser.error("--blobs takes ACCOUNT=URL=KEY")
    if given.size is not None and not 10 <= given.size <= 2_000_000:
        parser.error("--size must lie between 10 and 2,000,000")
    if given.org is not None and not given.org.is_dir():
        parser.error(f"--org {given.org} is not a folder")
    options = Options(
        folder=given.dir,
        port=given.port,
        size=given.size,
        seed=given.seed,
        org=given.org,
        page_size_bulk=given.page_size_bulk,
        parent_pid=given.parent_pid,
        synapse=given.synapse,
        synapse_port=given.synapse_port,
        azure=given.azure,
        pool_paused=given.pool_paused,
        facts=given.facts,
        storage={account: {"endpoint": url, "key": key} for account, url, key in places},
    )
    try:
        serve(options)
    except (AlreadyRunning, NoFacts) as error:
        print(error, file=sys.stderr)  # noqa: T201  a command line speaks on its streams
        return 3 if isinstance(error, AlreadyRunning) else 6
    except CannotStart as error:
        print(  # noqa: T201  as above
            f"The sandbox cannot start Azurite: {error}. `make setup`, or `make run ENV=stack`, installs it.",
            file=sys.stderr,
        )
        return 5
    except OSError as error:
        print(f"The sandbox cannot listen on port {given.port}: {error}", file=sys.stderr)  # noqa: T201
        return 4
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written and closed by now. The interpreter's own clean-up would wait for threads and let the
    # database's binding print what it thinks was left behind.
    os._exit(code)
