"""Asking a real pool what the documentation leaves open, and comparing it with what the stand-in answers.

Nothing is changed unless a schema to write in is given; then all writes are in it, and below a prefix of the landing
with its name, and both are removed. The file that is written holds answers only: no names, logins, ids or values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from novade_core.errors import ConfigurationError, StorageRefused
from novade_core.settings import Environment
from novade_core.warehouse.probe_facts import READ_FACTS
from novade_core.warehouse.probe_pool import (
    CouldNotAsk,
    PoolConnection,
    drop_schema,
    empty_schema,
    make_schema,
    reason_for,
)
from novade_core.warehouse.probe_questions import Call, Fact
from novade_core.warehouse.probe_remote import Remote
from novade_core.warehouse.probe_writes import WRITE_FACTS
from novade_core.warehouse.synapse_link import Refused
from novade_core.warehouse.synapse_sql import identifier

#: Of the file; it rises when a reader of the former could misread it.
FORMAT = 1
FACTS: tuple[Fact, ...] = (*READ_FACTS, *WRITE_FACTS)
_LEFT_OUT = "needs --write SCHEMA"
#: All that an answer or a reason may consist of, whatever a question let through.
_HARMLESS = re.compile(r"[\w .,()'-]{1,160}")

Verdict = Literal["equal", "differs", "not asked", "left out"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of one fact: an answer, or why there is none."""

    fact: Fact
    answer: str | None = None
    reason: str | None = None

    @property
    def verdict(self) -> Verdict:
        """Against the stand-in's answer."""
        if self.answer is not None:
            return "equal" if self.answer == self.fact.stand_in else "differs"
        return "left out" if self.reason == _LEFT_OUT else "not asked"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The answers of one probe, in the order of the facts."""

    findings: tuple[Finding, ...]
    taken_at: datetime
    tool: str

    def of(self, *verdicts: Verdict) -> tuple[Finding, ...]:
        """Those with one of these verdicts."""
        return tuple(f for f in self.findings if f.verdict in verdicts)

    @property
    def headline(self) -> str:
        """The answer in a sentence or three."""
        differing, unasked, left = (len(self.of(v)) for v in ("differs", "not asked", "left out"))
        asked = len(self.of("equal", "differs"))
        said = f"Your pool differs from the stand-in in {differing} of {asked} facts."
        said += f" {unasked} could not be asked." if unasked else ""
        return said + (f" {left} were left out, since they need --write SCHEMA." if left else "")


def probe(
    environment: Environment, schema: str | None, now: datetime, tool: str, note: Callable[[Finding], None]
) -> Report:
    """Ask everything that can be asked; ``note`` hears of each answer as it comes.

    Raises ConfigurationError where the environment has no pool or the schema is there already, and what a pool that
    cannot be reached means.
    """
    warehouse = environment.warehouse
    if warehouse.kind != "synapse":
        raise ConfigurationError(
            f"The warehouse of the environment {environment.name} is {warehouse.kind}; only a Synapse pool is probed.",
            hint='Choose another with --environment, or give it warehouse.kind = "synapse", server and database.',
        )
    if schema is not None and not re.fullmatch(r"[a-z][a-z0-9_]{2,40}", schema):
        raise ConfigurationError(
            f"{schema!r} is no name for a schema to write in.",
            hint="Use 3 to 41 small letters, digits and underscores, such as novade_probe.",
        )
    pool = PoolConnection(warehouse)
    remote = Remote(environment, pool, schema)
    findings: list[Finding] = []

    def heard(finding: Finding) -> None:
        findings.append(finding)
        note(finding)

    try:
        try:
            pool.open()
            for fact in READ_FACTS:
                heard(_asked(fact, pool, remote))
            if schema is None:
                for fact in WRITE_FACTS:
                    heard(Finding(fact=fact, reason=_LEFT_OUT))
            else:
                _write(pool, remote, schema, heard)
        except Refused as refused:
            raise refused.told() from None
    finally:
        pool.close()
    return Report(findings=tuple(findings), taken_at=now, tool=tool)


def _asked(fact: Fact, pool: PoolConnection, remote: Remote) -> Finding:
    try:
        answer = remote.answer(fact.asks.name) if isinstance(fact.asks, Call) else pool.answer(fact.asks)
    except CouldNotAsk as reason:
        return Finding(fact=fact, reason=_harmless(str(reason)))
    except Refused as refused:
        return Finding(fact=fact, reason=_harmless(reason_for(refused)))
    return Finding(fact=fact, answer=_harmless(answer))


def _harmless(text: str) -> str:
    return text if _HARMLESS.fullmatch(text) else "something else"


def _write(pool: PoolConnection, remote: Remote, schema: str, heard: Callable[[Finding], None]) -> None:
    make_schema(pool, schema)
    pool.places = {"schema": identifier(schema)}
    landed = False
    try:
        try:
            pool.places = {**pool.places, **remote.make_files()}
            landed = True
        except CouldNotAsk:
            pass  # each fact that needs a file says so
        for fact in WRITE_FACTS:
            heard(_asked(fact, pool, remote))
            empty_schema(pool, schema)
    finally:
        try:
            if landed:
                remote.remove_files()
        finally:
            drop_schema(pool, schema)


# --- the file -------------------------------------------------------------------------------------


def written(report: Report) -> dict[str, Any]:
    """The file's content: for each fact the answer beside the stand-in's, or why there is none."""
    return {
        "format": FORMAT,
        "tool": report.tool,
        "taken_on": report.taken_at.date().isoformat(),
        "facts": {f.fact.id: _entry(f) for f in report.findings},
    }


def _entry(finding: Finding) -> dict[str, str]:
    known = {"stand_in": finding.fact.stand_in}
    return {"answer": finding.answer, **known} if finding.answer is not None else {"not_asked": finding.reason or ""}


def save(report: Report, to: Path) -> None:
    """Write the file. Raises StorageRefused."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(json.dumps(written(report), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageRefused(
            f"The answers cannot be written to {to}: {error.strerror or error}.", hint="Name another file with --to."
        ) from error


def load(file: Path) -> Report:
    """The report of a file, compared with what the stand-in answers today; facts that it lacks were not asked.

    Raises ConfigurationError where it is none of these files.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, known is {FORMAT}")
        facts: dict[str, dict[str, str]] = content["facts"]
        taken = datetime.fromisoformat(content["taken_on"])
        findings = tuple(_read(fact, facts.get(fact.id, {"not_asked": "not in the file"})) for fact in FACTS)
        return Report(findings=findings, taken_at=taken, tool=str(content["tool"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{file} holds no answers of a probe: {error}.",
            hint="Write one with `python -m jobs probe --to FILE`.",
        ) from error


def _read(fact: Fact, entry: dict[str, str]) -> Finding:
    if "answer" in entry:
        return Finding(fact=fact, answer=_harmless(str(entry["answer"])))
    return Finding(fact=fact, reason=_harmless(str(entry["not_asked"])))


def unknown(file: Path) -> Sequence[str]:
    """Names in a file that no fact has: it was written by another version."""
    facts: Iterable[str] = json.loads(file.read_text(encoding="utf-8"))["facts"]
    return sorted(set(facts) - {fact.id for fact in FACTS})
