"""What stands under deploy/ holds together, as far as that shows without Docker and without an Azure account."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_bicep
import yaml
from tree_sitter import Language, Node, Parser

PROJECT = Path(__file__).resolve().parents[2]
DEPLOY = PROJECT / "deploy"
BICEP = sorted((DEPLOY / "bicep").rglob("*.bicep"))
MAIN = DEPLOY / "bicep" / "main.bicep"
NAMES = [str(file.relative_to(DEPLOY)) for file in BICEP]


@cache
def parsed(file: Path) -> Node:
    return Parser(Language(tree_sitter_bicep.language())).parse(file.read_bytes()).root_node


def every(node: Node, kind: str) -> list[Node]:
    found = [node] if node.type == kind else []
    return found + [deeper for child in node.children for deeper in every(child, kind)]


def said(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()


def identifiers(file: Path) -> list[str]:
    return [said(node) for node in every(parsed(file), "identifier")]


def declared(file: Path, kind: str) -> list[str]:
    return [said(next(c for c in node.children if c.type == "identifier")) for node in every(parsed(file), kind)]


def modules() -> dict[Path, set[str]]:
    """Files that main.bicep takes, with the parameters that it gives each."""
    found = {}
    for node in every(parsed(MAIN), "module_declaration"):
        path = re.search(r"'(modules/[\w.]+)'", said(node))
        assert path is not None
        given = next(p for p in every(node, "object_property") if said(p).startswith("params:"))
        inner = next(c for c in given.children if c.type == "object")
        found[MAIN.parent / path[1]] = {said(p.children[0]) for p in inner.children if p.type == "object_property"}
    return found


# --- Bicep ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", BICEP, ids=NAMES)
def test_bicep_parses(file: Path) -> None:
    assert not parsed(file).has_error
    assert max(len(line) for line in file.read_text().splitlines()) <= 120


def test_a_broken_file_would_not_parse() -> None:
    parser = Parser(Language(tree_sitter_bicep.language()))
    assert parser.parse(MAIN.read_bytes().replace(b"}", b"", 1)).root_node.has_error


def test_every_module_is_used_and_gets_its_parameters() -> None:
    assert set(modules()) == {file for file in BICEP if file != MAIN}
    for file, given in modules().items():
        assert given == set(declared(file, "parameter_declaration")), file.name


@pytest.mark.parametrize("file", BICEP, ids=NAMES)
def test_every_parameter_and_variable_is_used(file: Path) -> None:
    words = identifiers(file)
    for kind in ("parameter_declaration", "variable_declaration"):
        for name in declared(file, kind):
            assert words.count(name) > 1, f"{name} is declared and not used"


def test_outputs_that_are_asked_for_exist() -> None:
    files = {re.search(r"^module (\w+) '(.+)'", said(n))[1]: n for n in every(parsed(MAIN), "module_declaration")}  # type: ignore[index]
    for module, output in set(re.findall(r"\b(\w+)\.outputs\.(\w+)", MAIN.read_text())):
        path = re.search(r"'(modules/[\w.]+)'", said(files[module]))
        assert path is not None
        assert output in declared(MAIN.parent / path[1], "output_declaration"), f"{module}.outputs.{output}"


@pytest.mark.parametrize("file", BICEP, ids=NAMES)
def test_every_resource_has_a_type_and_an_api_version(file: Path) -> None:
    resources = every(parsed(file), "resource_declaration")
    assert resources or file == MAIN
    for node in resources:
        assert re.match(r"resource \w+ 'Microsoft(\.\w+)+(/\w+)+@20\d\d-\d\d-\d\d(-preview)?'", said(node)), said(node)


def test_every_role_assignment_says_who_what_and_why() -> None:
    grants = DEPLOY / "bicep" / "modules" / "grants.bicep"
    text = grants.read_text()
    given = re.findall(r"((?://[^\n]*\n)+)resource \w+ 'Microsoft.Authorization/roleAssignments@", text)
    assert len(given) == text.count("Microsoft.Authorization/roleAssignments@") == 7
    for comment in given:
        assert ": " in comment, "no reason"
    documented = (PROJECT / "docs" / "azure.md").read_text()
    roles = re.findall(r"^// ((?:Storage|Key Vault|Acr|Novade)[\w ]+?)(?: for|, a role)", text, re.MULTILINE)
    assert len(roles) == 7
    for role in roles:
        assert f"| {role}" in documented, f"docs/azure.md does not name {role}"


def test_no_secret_has_a_default() -> None:
    for file in BICEP:
        for match in re.finditer(r"@secure\(\)\nparam (\w+) string(.*)", file.read_text()):
            assert not match[2].strip(), match[1]
        for name in declared(file, "parameter_declaration"):
            if "password" in name.lower():
                assert f"@secure()\nparam {name} string\n" in file.read_text()


# --- the image ------------------------------------------------------------------------------------

KNOWN = set("FROM RUN COPY WORKDIR ENV USER VOLUME EXPOSE HEALTHCHECK CMD".split())


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def test_the_image_is_built_of_known_instructions_on_a_pinned_base() -> None:
    assert {name for name, _ in instructions()} == KNOWN
    assert all(value.split()[0] == "python:3.11-slim-bookworm" for name, value in instructions() if name == "FROM")


def test_the_image_copies_what_the_product_is_made_of() -> None:
    ours = [value for name, value in instructions() if name == "COPY" and "--from" not in value]
    copied = {word for value in ours for word in value.split()[:-1]}
    for name in copied:
        assert (PROJECT / name).exists(), name
    assert {"app.py", "novade.toml", "requirements.txt", "novade_core", "jobs", "pages", "sandbox"} <= copied
    allowed = set(re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert allowed == copied
    assert not any("secrets" in name for name in copied)


def test_the_container_is_nobody_special_and_shows_whether_it_lives() -> None:
    last = dict(instructions())
    assert last["USER"] == "10001:10001"
    assert "127.0.0.1:8501/healthz" in last["HEALTHCHECK"]
    assert '"/healthz"' in (PROJECT / "jobs" / "api.py").read_text()
    json.loads(last["HEALTHCHECK"].split("CMD", 1)[1])
    assert json.loads(last["CMD"]) == ["streamlit", "run", "app.py"]
    # Nobody can log in yet, and app.py refuses what this would be otherwise.
    assert "STREAMLIT_SERVER_ADDRESS=127.0.0.1" in last["ENV"]


# --- compose --------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    value = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(value, dict)
    return value


def test_compose_starts_the_console_behind_its_ledger() -> None:
    services = compose()["services"]
    assert set(services) == {"console", "ledger"}
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in services[other], name
    build = services["console"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_compose_serves_this_machine_alone_and_holds_no_password() -> None:
    services = compose()["services"]
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name:
                assert re.fullmatch(r"\$\{NOVADE_LEDGER_PASSWORD:\?[\w ]+\}", value), name


def test_volumes_of_compose_are_declared_and_files_exist() -> None:
    value = compose()
    used = {mount.split(":")[0] for service in value["services"].values() for mount in service.get("volumes", [])}
    files = {name for name in used if name.startswith(".")}
    assert used - files == set(value["volumes"])
    for name in files:
        assert (DEPLOY / name).is_file(), name
