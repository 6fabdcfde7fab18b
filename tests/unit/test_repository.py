"""The repository itself: make's targets, the locks, the build script, the set-up script and what may be committed."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from bench import __main__ as bench
from scripts import setup

PROJECT = Path(__file__).resolve().parents[2]
TARGETS = ("help", "run", "test", "check", "setup", "bench", "bench-large", "lock", "clean")
#: In pieces, so that this file does not hold them itself.
FORBIDDEN = ("/wo" + "rk/", "/ro" + "ot/", "/opt/" + "pypi", "pypi" + ".org", "python" + "hosted.org", "npm" + "js.org")
LARGEST_FILE = 1 << 20
LONGEST_MODULE = 500


# --- make and the build script --------------------------------------------------------------------


def make(*arguments: str) -> str:
    # Without what an outer make passes on to make's it starts.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *arguments], cwd=PROJECT, env=environ, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_make_help_lists_the_target(target: str) -> None:
    assert re.search(rf"^  make {target} +\w", make("help"), re.MULTILINE)


def test_make_alone_gives_the_help() -> None:
    assert make() == make("help")


def test_make_test_ends_with_pytest_and_keeps_its_exit_code() -> None:
    commands = make("--dry-run", "test").strip().splitlines()
    assert commands[-1].startswith(".venv/bin/python -m pytest")
    assert not any(trick in commands[-1] for trick in ("||", ";", "|"))
    assert any("ruff check" in command for command in commands)


@pytest.mark.parametrize(
    ("arguments", "chosen"), [((), None), (("ENV=stack",), "stack"), (("ENV=/etc/shrc",), None)], ids=str
)
def test_env_chooses_the_environment_unless_it_is_the_shells(arguments: tuple[str, ...], chosen: str | None) -> None:
    recipe = "--eval=show-environment: ; @echo chosen=$$NOVADE_ENVIRONMENT"
    assert make(*arguments, recipe, "show-environment").strip() == f"chosen={chosen or ''}"


def test_the_build_script_runs_make_test() -> None:
    script = PROJECT / ".ci" / "run"
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert any(line.startswith("make test") for line in lines)
    assert os.access(script, os.X_OK)


# --- the locks ------------------------------------------------------------------------------------


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lock: str) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (PROJECT / lock).read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs), "only name==version may stand in a lock"
    return {canonical(name): version for name, version in pairs}


def wanted(name: str) -> set[str]:
    lines = [line.split("#")[0].strip() for line in (PROJECT / f"{name}.in").read_text().splitlines()]
    return {canonical(re.split(r"[<>=!~\[ ]", line)[0]) for line in lines if line and line[0] != "-"}


@pytest.mark.parametrize("name", ["requirements", "requirements-test"])
def test_every_requirement_is_pinned(name: str) -> None:
    assert wanted(name)
    assert wanted(name) <= set(pinned(f"{name}.txt"))


def test_the_locks_agree() -> None:
    run, test = pinned("requirements.txt"), pinned("requirements-test.txt")
    assert {name: run[name] for name in run.keys() & test.keys()} == {
        name: test[name] for name in run.keys() & test.keys()
    }


@pytest.mark.parametrize("folder", ["novade_core", "pages", "jobs", "sandbox"])
def test_what_is_imported_is_required_by_name(folder: str) -> None:
    """Not only there because something else happens to need it."""
    distributions = metadata.packages_distributions()
    imported = {name.split(".")[0] for file in (PROJECT / folder).rglob("*.py") for name in imports(file)}
    found = {canonical(distribution) for module in imported for distribution in distributions.get(module, [])}
    assert found <= wanted("requirements")


def imports(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


# --- what may be committed ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not shutil.which("git") or not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [PROJECT / name for name in listed.split("\0") if name and (PROJECT / name).is_file()]


def test_no_file_names_a_machine_or_a_registry(tracked: list[Path]) -> None:
    found = {
        f"{file.relative_to(PROJECT)}: {word}"
        for file in tracked
        for word in FORBIDDEN
        if word in file.read_text(encoding="utf-8", errors="replace")
    }
    assert not found


def test_no_file_is_large(tracked: list[Path]) -> None:
    assert not [str(file) for file in tracked if file.stat().st_size > LARGEST_FILE]


def test_no_module_is_long(tracked: list[Path]) -> None:
    long = {
        str(file.relative_to(PROJECT)): lines
        for file in tracked
        if file.suffix == ".py" and (lines := len(file.read_text(encoding="utf-8").splitlines())) > LONGEST_MODULE
    }
    assert not long


def packages() -> Iterator[Path]:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        names = tomllib.load(file)["tool"]["importlinter"]["root_packages"]
    return (PROJECT / name for name in names if (PROJECT / name / "__init__.py").exists())


def test_the_import_rules_see_every_folder() -> None:
    """import-linter passes over a folder without __init__.py inside a package. Migrations are scripts of Alembic's."""
    folders = {file.parent for package in packages() for file in package.rglob("*.py")}
    unseen = [
        str(folder) for folder in folders if "migrations" not in folder.parts and not (folder / "__init__.py").exists()
    ]
    assert not unseen


def test_the_app_leaves_the_sandbox_alone() -> None:
    """app.py is a module outside the packages that import-linter reads."""
    file = PROJECT / "app.py"
    if not file.exists():
        pytest.skip("there is no app.py yet")
    assert not [name for name in imports(file) if name.split(".")[0] == "sandbox"]


# --- benchmarks -----------------------------------------------------------------------------------


def test_benchmarks_are_found_by_their_title(tmp_path: Path) -> None:
    (tmp_path / "harness.py").write_text('"""Not one."""')
    (tmp_path / "_peer.py").write_text('"""Not one."""')
    (tmp_path / "load.py").write_text('"""Load: a million rows.\n\nMore."""')
    (tmp_path / "broken.py").write_text("def (")
    assert bench.discover(tmp_path) == {"broken": "broken", "load": "Load: a million rows"}


def test_a_benchmark_that_crashes_gives_no_rows() -> None:
    assert bench.run_in_child("there_is_no_such_benchmark", "standard") is None


# --- set-up ---------------------------------------------------------------------------------------

OLD, NEW = (3, 9, 2), (3, 12, 1)


class FakeMachine(setup.Machine):
    """A machine as a test describes it; it records what it was asked to run and what was said."""

    def __init__(
        self,
        venv: Path,
        *,
        pythons: dict[str, tuple[int, int, int]] | None = None,
        programs: tuple[str, ...] = ("apt-get",),
        root: bool = True,
        failing: dict[str, str] | None = None,
        lacking: tuple[str, ...] = (),
        answers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(venv)
        self.pythons = {setup.sys.executable: NEW} if pythons is None else pythons
        self.programs = programs
        self.root = root
        self.failing = failing or {}  # part of a command -> what it prints before it fails
        self.lacking = lacking  # modules that no Python can import
        self.answers = answers or {}  # a command -> what it prints
        self.commands: list[str] = []
        self.said: list[str] = []

    def run(self, command: list[str], seconds: float = 0) -> setup.Outcome:
        if command[1:2] == ["-c"]:
            return self._python(command[0], command[2])
        line = " ".join(command)
        self.commands.append(line)
        for part, output in self.failing.items():
            if part in line:
                return setup.Outcome(1, output)
        if "-m venv" in line:
            (self.venv / "bin").mkdir(parents=True)
            self.pythons[str(self.venv / "bin" / "python")] = NEW
        if "-venv" in line:
            self.lacking = ()
        return setup.Outcome(0, self.answers.get(line, ""))

    def _python(self, python: str, code: str) -> setup.Outcome:
        if python not in self.pythons or any(f", {module};" in code for module in self.lacking):
            return setup.Outcome(1, "no")
        return setup.Outcome(0, "{} {} {}\n".format(*self.pythons[python]))

    def which(self, program: str) -> str | None:
        return program if program in self.programs or program in self.pythons else None

    def has_library(self, name: str) -> bool:
        return False

    def has_odbc_driver(self, name: str) -> bool:
        return False

    def is_root(self) -> bool:
        return self.root

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in setup.LOCKS["test"]:
        (tmp_path / name).write_text(f"{name}==1\n")
    return tmp_path


def test_a_python_that_is_too_old_is_named_with_the_remedy(project: Path) -> None:
    machine = FakeMachine(project / ".venv", pythons={setup.sys.executable: OLD})
    with pytest.raises(
        setup.SetupFailed, match=r"Python 3\.11 or newer is needed; .* is 3\.9\.2[\s\S]*apt-get install"
    ):
        setup.set_up(machine, project, "run")
    assert machine.commands == []


def test_another_python_on_the_path_will_do(project: Path) -> None:
    machine = FakeMachine(project / ".venv", pythons={setup.sys.executable: OLD, "python3.12": NEW})
    assert setup.find_python(machine) == "python3.12"


def test_debian_without_ensurepip_gets_the_package(project: Path) -> None:
    machine = FakeMachine(project / ".venv", lacking=("ensurepip",))
    assert setup.ensure_venv(machine) == "3.12.1"
    assert machine.commands[0].endswith("python3.12-venv")


def test_debian_without_ensurepip_and_without_root_is_told_the_package(project: Path) -> None:
    machine = FakeMachine(project / ".venv", lacking=("ensurepip",), root=False)
    with pytest.raises(setup.SetupFailed, match=r"no sudo[\s\S]*as root: apt-get install python3\.12-venv"):
        setup.ensure_venv(machine)


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({"programs": ()}, "this machine has no apt-get"),
        ({"root": False}, "this user is not root and there is no sudo"),
        (
            {"root": False, "programs": ("apt-get", "sudo"), "failing": {"sudo -n true": ""}},
            "this user is not root and sudo asks for a password",
        ),
        (
            {"failing": {"install": "Reading\nE: Unable to locate package unixodbc\n"}},
            "apt-get says: Unable to locate package unixodbc",
        ),
    ],
    ids=["no-apt", "no-sudo", "sudo-with-password", "apt-fails"],
)
def test_a_missing_system_package_is_said_with_its_reason_and_set_up_goes_on(
    project: Path, machine: dict[str, object], reason: str
) -> None:
    failing = {f"{part} --yes" if part == "install" else part: out for part, out in machine.pop("failing", {}).items()}
    fake = FakeMachine(project / ".venv", failing=failing, **machine)
    setup.set_up(fake, project, "run")
    said = "\n".join(fake.said)
    assert f"unixODBC could not be installed: {reason}." in said
    assert "connections to Synapse do not open" in said
    assert "apt-get install unixodbc libltdl7" in said
    assert any("pip install" in command for command in fake.commands)


def test_old_package_lists_are_fetched_once(project: Path) -> None:
    machine = FakeMachine(project / ".venv", failing={"install --yes": "E: 404"})
    with pytest.raises(setup.CannotInstall):
        setup.apt_install(machine, ("chromium",))
    assert [command.split()[-1] for command in machine.commands] == ["chromium", "update", "chromium"]


def test_sudo_is_used_without_a_prompt(project: Path) -> None:
    machine = FakeMachine(project / ".venv", root=False, programs=("apt-get", "sudo"))
    setup.apt_install(machine, ("chromium",))
    assert all(command.startswith("sudo -n ") for command in machine.commands)


def test_a_refusal_is_remembered_and_tried_again_on_request(project: Path) -> None:
    first = FakeMachine(project / ".venv", root=False)
    setup.set_up(first, project, "run")
    later = FakeMachine(project / ".venv", pythons=first.pythons)
    setup.set_up(later, project, "run")
    assert later.commands == []
    assert "unixODBC is still missing (this user is not root and there is no sudo)" in later.said[0]
    setup.set_up(later, project, "run", again=True)
    assert any("unixodbc" in command for command in later.commands)


def test_npm_packages_go_into_the_virtual_environment(project: Path) -> None:
    machine = FakeMachine(project / ".venv", programs=("npm",), answers={"node --version": "v20.20.2\n"})
    setup.AZURITE.install(machine)
    assert machine.commands[-1].startswith("npm install ")
    assert machine.commands[-1].endswith(f"--prefix {machine.venv} azurite@{setup.AZURITE.version}")
    assert not setup.AZURITE.is_present(machine)


@pytest.mark.parametrize("node", ["", "v18.19.0\n"], ids=["none", "old"])
def test_without_a_node_that_is_new_enough_one_comes_from_pip(project: Path, node: str) -> None:
    machine = FakeMachine(project / ".venv", programs=("npm",) if node else (), answers={"node --version": node})
    setup.AZURITE.install(machine)
    assert machine.commands[-2].endswith(f"pip install --disable-pip-version-check --no-input {setup.NODE_WHEEL}")
    assert machine.commands[-1].startswith(f"{machine.venv}/bin/npm install ")


def test_without_npm_and_without_an_index_the_reason_is_said(project: Path) -> None:
    machine = FakeMachine(project / ".venv", failing={"pip install": "ERROR: no network"})
    with pytest.raises(setup.CannotInstall, match="this machine has no npm, and pip says: ERROR: no network"):
        setup.AZURITE.install(machine)


def test_an_npm_package_of_another_version_is_installed_anew(project: Path) -> None:
    machine = FakeMachine(project / ".venv")
    package = machine.venv / "node_modules" / "azurite" / "package.json"
    package.parent.mkdir(parents=True)
    for version, present in (("3.0.0", False), (setup.AZURITE.version, True)):
        package.write_text(f'{{"version": "{version}"}}')
        assert setup.AZURITE.is_present(machine) is present


def test_what_the_tests_need_is_there_for_the_stack_too() -> None:
    assert {setup.ODBC, setup.AZURITE} == set(setup.NEEDS["stack"])
    assert set(setup.NEEDS["run"]) < set(setup.NEEDS["stack"]) < set(setup.NEEDS["test"])


def test_locks_are_installed_once_and_again_when_one_changes(project: Path) -> None:
    machine = FakeMachine(project / ".venv")

    def pip_calls() -> list[str]:
        machine.commands.clear()
        setup.set_up(machine, project, "test")
        return [command for command in machine.commands if "--requirement" in command]

    (fresh,) = pip_calls()
    assert fresh.count("--requirement") == 2
    assert pip_calls() == []
    (project / "requirements-test.txt").write_text("other==2\n")
    (changed,) = pip_calls()
    assert changed.count("--requirement") == 1


def test_a_failed_pip_install_stops_set_up_and_is_not_taken_for_done(project: Path) -> None:
    machine = FakeMachine(project / ".venv", failing={"pip install": "ERROR: No matching distribution"})
    for _ in range(2):
        with pytest.raises(setup.SetupFailed, match="No matching distribution"):
            setup.set_up(machine, project, "run")


def test_a_missing_program_is_an_outcome(project: Path) -> None:
    outcome = setup.Machine(project).run(["there-is-no-such-program"])
    assert outcome.code == 127
    assert setup.Machine(project).run(["sleep", "5"], seconds=0.05).code == 124
