"""The documentation holds: settings, errors, commands, links, control routes and folders are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

import jobs.__main__ as commands
from novade_core import errors, settings

PROJECT = Path(__file__).resolve().parents[2]
DOCS = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", PROJECT / "sandbox" / "README.md",
               PROJECT / "bench" / "README.md", PROJECT / "deploy" / "README.md",
               *(PROJECT / "docs").rglob("*.md")])  # fmt: skip
IDS = [str(file.relative_to(PROJECT)) for file in DOCS]
LARGEST_IMAGE = 200 * 1024

#: Heading in docs/settings.md of each model that people write in novade.toml.
SECTIONS: dict[type[BaseModel], str] = {
    settings._File: "At the top of the file",
    settings.EnvironmentSettings: "`[environments.NAME]`",
    settings.LandingSettings: "`[environments.NAME.landing]`",
    settings.WarehouseSettings: "`[environments.NAME.warehouse]`",
    settings.PoolSettings: "`[environments.NAME.pool]`",
    settings.ServerlessSettings: "`[environments.NAME.serverless]`",
    settings.LedgerSettings: "`[environments.NAME.ledger]`",
    settings.WorkerSettings: "`[environments.NAME.worker]`",
    settings.SandboxSettings: "`[environments.NAME.sandbox]`",
    settings.SalesforceSettings: "`[environments.NAME.salesforce]`",
    settings.AmplitudeSettings: "`[environments.NAME.amplitude]`",
    settings.DriftSettings: "`[environments.NAME.drift]`",
    settings.TrackingPlanSettings: "`[environments.NAME.tracking_plan]`",
    settings.ApiSettings: "`[environments.NAME.api]`",
    settings.ScheduleSettings: "`[schedules.NAME]`",
    settings.StreamSettings: "`[streams]`",
    settings.PriceSettings: "`[prices]`",
}


@cache
def text(path: str) -> str:
    return (PROJECT / path).read_text(encoding="utf-8")


def section(document: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its rank or above."""
    lines = text(document).splitlines()
    starts = [i for i, line in enumerate(lines) if re.fullmatch(rf"#+ {re.escape(heading)}", line)]
    assert starts, f"{document} has no heading {heading!r}"
    rank = len(lines[starts[0]].split(" ")[0])
    body: list[str] = []
    for line in lines[starts[0] + 1 :]:
        if re.match(rf"#{{1,{rank}}} ", line):
            break
        body.append(line)
    return "\n".join(body)


def rows(markdown: str) -> list[list[str]]:
    """Cells of every table row but headings and rulers."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rulers = {i for i, row in enumerate(cells) if all(set(cell) <= {"-", ":"} for cell in row)}
    return [row for i, row in enumerate(cells) if i not in rulers and i + 1 not in rulers]


def first_words(markdown: str) -> list[str]:
    """The code words in the first cells of a text's tables."""
    return [word for row in rows(markdown) for word in re.findall(r"`([^`]+)`", row[0])]


# --- settings -------------------------------------------------------------------------------------


def written(field: Any) -> str:
    """A default as docs/settings.md writes it."""
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, BaseModel):
        return "section"
    if value is None:
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return "`{}`" if value == {} else f'`"{value}"`'


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_every_setting_is_documented_with_its_default(model: type[BaseModel]) -> None:
    table = {row[0].strip("`"): row for row in rows(section("docs/settings.md", SECTIONS[model]))}
    assert list(table) == list(model.model_fields)
    for name, field in model.model_fields.items():
        assert table[name][1] == written(field), name
        assert table[name][2].endswith("."), f"{name} needs a sentence"


def test_no_model_of_the_settings_is_forgotten() -> None:
    models = {m for m in vars(settings).values() if isinstance(m, type) and issubclass(m, settings.Section)}
    assert models - {settings.Section, settings.Environment} == set(SECTIONS)


def test_the_variables_that_are_read_are_documented() -> None:
    read = set(re.findall(r"NOVADE_[A-Z]+_?", text("novade_core/settings.py")))
    documented = section("docs/settings.md", "Variables of the process environment")
    assert read
    assert {name for name in read if name not in documented} == set()


# --- errors ---------------------------------------------------------------------------------------

ERRORS = {e.__name__ for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.NovadeError)}


@pytest.mark.parametrize(
    ("document", "heading"), [("README.md", "When something fails"), ("docs/operations.md", "When a run fails")]
)
def test_every_error_class_has_its_row(document: str, heading: str) -> None:
    listed = [row[0].strip("`") for row in rows(section(document, heading))]
    assert len(listed) == len(set(listed))
    assert set(listed) == ERRORS


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"^[│├└─ ]*([A-Z][A-Za-z]+)", errors.__doc__ or "", re.MULTILINE))
    assert drawn >= ERRORS


# --- the command line -----------------------------------------------------------------------------


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = sorted(every_command(typer.main.get_command(commands.app)))  # type: ignore[arg-type]
GROUPS = {path[0] for path in COMMANDS if len(path) == 2}


def mentioned() -> dict[tuple[str, ...], set[str]]:
    """Each command that some document shows, with the options shown beside it."""
    found: dict[tuple[str, ...], set[str]] = {}
    for file in DOCS:
        for match in re.finditer(r"python -m jobs ([a-z][^\n`]*)", file.read_text(encoding="utf-8")):
            words = match[1].split("#")[0].split("'")[0].split()
            path = tuple(words[:2]) if words[0] in GROUPS else (words[0],)
            found.setdefault(path, set()).update(word.rstrip(".,;:)") for word in words if word.startswith("--"))
    return found


MENTIONED = mentioned()


@pytest.mark.parametrize("path", sorted(MENTIONED), ids=" ".join)
def test_a_documented_command_exists(path: tuple[str, ...]) -> None:
    assert path in COMMANDS
    answer = CliRunner().invoke(commands.app, [*path, "--help"])
    assert answer.exit_code == 0, answer.output
    for option in MENTIONED[path]:
        assert option in answer.output


def test_every_command_is_documented() -> None:
    shown = "\n".join(file.read_text(encoding="utf-8") for file in DOCS)
    assert [path for path in COMMANDS if f"python -m jobs {' '.join(path)}" not in shown] == []


def test_exit_codes_are_those_of_the_code() -> None:
    from jobs import cli, supervisor

    codes = {int(row[0]) for row in rows(section("README.md", "Command line")) if row[0].isdigit()}
    assert codes == {cli.DONE, cli.FAILED, cli.USAGE, cli.PARTIAL, supervisor.HELD}


def test_make_targets_are_those_of_the_makefile() -> None:
    shown = set(re.findall(r"\bmake ([a-z][a-z-]+)`?(?=[ |`.,;:)\n])", text("README.md")))
    there = set(re.findall(r"^([a-z][a-z-]*):.*## ", text("Makefile"), re.MULTILINE))
    assert shown == there


# --- links ----------------------------------------------------------------------------------------


def anchors(markdown: str) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", DOCS, ids=IDS)
def test_links_and_images_resolve(file: Path) -> None:
    prose = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists(), f"{target} does not exist"
        assert there.is_relative_to(PROJECT), f"{target} leaves the project"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.read_text(encoding="utf-8")), f"{target}: no such heading"


def test_every_image_is_used_and_small() -> None:
    shown = "\n".join(file.read_text(encoding="utf-8") for file in DOCS)
    images = sorted((PROJECT / "docs" / "images").iterdir())
    assert {f"{page}-{scheme}.png" for page in ("overview", "sync", "runs", "run") for scheme in ("light", "dark")} <= {
        image.name for image in images
    }
    for image in images:
        assert f"images/{image.name}" in shown, f"no document shows {image.name}"
        assert image.stat().st_size < LARGEST_IMAGE, image.name


@pytest.mark.parametrize("file", DOCS, ids=IDS)
def test_files_named_in_the_text_exist(file: Path) -> None:
    """Code words that look like a path of this project; ``var/`` is made at run time."""
    folders = "novade_core|jobs|pages|tests|sandbox|bench|scripts|docs"
    for name in re.findall(rf"`((?:{folders})/[\w./]+)`", file.read_text(encoding="utf-8")):
        if "NAME" not in name:
            assert (PROJECT / name).exists(), f"{name} does not exist"


def test_the_map_of_folders_exists_and_is_complete() -> None:
    named = re.findall(r"`([\w./]+)`", section("README.md", "Map of folders"))
    for name in named:
        assert name == "var/" or (PROJECT / name).exists(), f"{name} does not exist"
    top = {name.split("/")[0] for name in named}
    packages = {f.parent.name for f in PROJECT.glob("*/__init__.py")} | {"pages", "docs", "scripts"}
    assert packages <= top
    core = {f.parent.relative_to(PROJECT).as_posix() + "/" for f in PROJECT.glob("novade_core/*/__init__.py")}
    assert core <= set(named)
    inside = {f.name for f in (PROJECT / "tests").iterdir() if f.is_dir() and f.name != "__pycache__"}
    assert {f"tests/{name}/" for name in inside} <= set(named)


# --- what else a reader relies on -----------------------------------------------------------------


def test_the_glossary_explains_the_words() -> None:
    words = [row[0] for row in rows(section("README.md", "Glossary"))]
    assert len(words) >= 20
    assert len(words) == len(set(words))
    needed = (
        "source stream record batch cursor checkpoint landing manifest load fence lease run step freshness comparison "
        "finding seam tombstone"
    )
    assert set(needed.split()) <= set(words)


def assigned(path: str, name: str) -> ast.expr:
    """A module's constant, without importing the module: the sandbox is only reached over the wire."""
    for node in ast.parse(text(path)).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is not None and any(isinstance(t, ast.Name) and t.id == name for t in targets):
            return value
    raise AssertionError(f"{path} has no {name}")


def test_control_routes_are_those_of_the_sandbox() -> None:
    table = assigned("sandbox/salesforce/control.py", "_ROUTES")
    assert isinstance(table, ast.Dict)
    known = {ast.literal_eval(key) for key in table.keys if key is not None}
    ours = {
        tuple(re.fullmatch(r"(GET|POST) `/_sandbox/(\w+)`", row[0]).groups())  # type: ignore[union-attr]
        for row in rows(section("docs/sandbox.md", "Control routes"))
    }
    assert ours == known
    theirs = set()
    for row in rows(section("sandbox/README.md", "Control routes")):
        *methods, name = row[0].replace(",", " ").split()
        theirs |= {(method, name) for method in methods}
    assert theirs == known


def test_faults_are_those_of_the_sandbox() -> None:
    known = ast.literal_eval(assigned("sandbox/salesforce/faults.py", "FAULTS"))
    assert [row[0].strip("`") for row in rows(section("docs/sandbox.md", "Faults"))] == list(known)


def test_salesforce_types_are_those_of_the_code() -> None:
    from novade_core.sources.salesforce import types

    listed = set(first_words(section("docs/connectors/salesforce.md", "Types")))
    assert listed == {*types._TEXT, *types._PLAIN, *types._SKIPPED, "currency"}


def test_salesforce_error_codes_are_those_of_the_code() -> None:
    """Every code that faults.py tells apart stands in the table, and becomes the class that stands beside it."""
    from novade_core.sources.salesforce.faults import Answer, fault, login_fault

    documented = section("docs/connectors/salesforce.md", "Errors")
    for code in set(re.findall(r'"([A-Z]+_[A-Z_]+)"', text("novade_core/sources/salesforce/faults.py"))):
        assert code.removesuffix("_OR_READONLY") in documented, code
    for row in rows(documented):
        statuses = [int(s) for s in re.findall(r"\d{3}", row[0])] or ([500, 503] if row[0] == "5xx" else [400])
        classes = re.findall(r"`(\w+)`", row[2])
        for code in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", row[1]):
            if classes:
                said = "ConcurrentRequests (concurrent)" if "concurrent" in row[1] else "said"
                assert fault(Answer(status=statuses[0], code=code, text=said), "testing").kind == classes[0], code
        if classes and not re.search(r"[A-Z]{3}|\*", row[1]) and row[0] not in ("–", "any other 4xx", "401"):
            for status in statuses:
                assert fault(Answer(status=status, code="", text=""), "testing").kind == classes[0], status
    for code in re.findall(r'"(\w+)": "', text("novade_core/sources/salesforce/faults.py")):
        assert f"`{code}`" in documented
        assert login_fault(code, "", "login").kind == "AuthenticationFailed"


def test_every_test_that_a_trap_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`(?:, \*([^*]+)\*)?", text("docs/connectors/salesforce.md"))
    assert len(named) > 10
    for file, words in named:
        if words:
            plain = text(file).replace("_", " ").replace('"', " ")
            assert words in plain, f"{file} has no test called like {words!r}"


def sources_of_code() -> list[Path]:
    files = [f for folder in ("novade_core", "jobs", "pages") for f in (PROJECT / folder).rglob("*.py")]
    return [PROJECT / "app.py", *sorted(f for f in files if "versions" not in f.parts)]


@pytest.mark.parametrize("file", sources_of_code(), ids=lambda f: f.relative_to(PROJECT).as_posix())
def test_every_module_says_what_it_is_for(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].strip(), file


def test_every_page_is_documented() -> None:
    pages = {f.stem for f in (PROJECT / "pages").glob("*/*.py") if f.parent.name not in ("ui", "__pycache__")}
    shown = text("docs/console.md").lower()
    assert {page for page in pages if page.replace("_", " ") not in shown} == set()
