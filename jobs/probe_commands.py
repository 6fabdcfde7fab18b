"""``python -m jobs probe``: a real pool is asked what the documentation leaves open, and compared with the stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli import DONE, PARTIAL, EnvironmentOption, JsonOption, emit, errors, say, table

if TYPE_CHECKING:
    from novade_core.warehouse.probe import Finding, Report

WriteOption = Annotated[
    str | None,
    typer.Option("--write", metavar="SCHEMA", help="Ask what needs a write too, in a schema that is made and removed."),
]
ToOption = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="Where the answers go; var/probe-ENVIRONMENT.json.")
]
CompareOption = Annotated[
    Path | None, typer.Option("--compare", metavar="FILE", help="Ask nobody: compare the answers of a file.")
]


def probe(
    write: WriteOption = None,
    to: ToOption = None,
    compare: CompareOption = None,
    environment: EnvironmentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a pool, changing nothing, what the documentation leaves open; write a scrubbed file and name differences."""
    from novade_core.warehouse import probe as probing

    file = compare
    with errors(as_json=as_json):
        if compare is not None:
            report = probing.load(compare)
            strange = probing.unknown(compare)
        else:
            report, file = _asked(environment, write, to, quiet=as_json)
            strange = ()
    if as_json:
        emit({"headline": report.headline, "file": str(file), "facts": [_shown(f) for f in report.findings]})
    else:
        _print(report)
        if strange:
            say(f"Facts of another version, not compared: {', '.join(strange)}.")
        say(report.headline)
        if compare is None:
            say(f"The answers are in {file}; `sandbox.facts` lets the stand-in behave so.")
    raise typer.Exit(PARTIAL if report.of("differs", "not asked") else DONE)


def _asked(environment: str | None, write: str | None, to: Path | None, *, quiet: bool) -> tuple[Report, Path]:
    from jobs.execute import code_version
    from novade_core.settings import load_settings
    from novade_core.warehouse import probe as probing
    from novade_core.wiring import utc_now

    def note(finding: Finding) -> None:
        if not quiet and finding.verdict == "not asked":
            say(f"{finding.fact.id}: could not be asked, {finding.reason}")

    chosen = load_settings(environment)
    report = probing.probe(chosen, write, utc_now(), code_version(), note)
    file = to or chosen.home / "var" / f"probe-{chosen.name}.json"
    probing.save(report, file)
    return report, file


def _shown(finding: Finding) -> dict[str, Any]:
    fact = finding.fact
    return {
        "fact": fact.id,
        "verdict": finding.verdict,
        "answer": finding.answer,
        "stand_in": fact.stand_in,
        "reason": finding.reason,
        "says": fact.says,
        "decides": fact.decides,
        "source": fact.source,
    }


def _print(report: Report) -> None:
    rows = [
        [f.fact.id, f.answer or f.reason, f.fact.stand_in, f.fact.decides] for f in report.of("differs", "not asked")
    ]
    if rows:
        table(["fact", "your pool", "stand-in", "decides"], rows)
