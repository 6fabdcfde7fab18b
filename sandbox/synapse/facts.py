"""A real pool's answers, as a probe wrote them down: the pool's stand-in then behaves so, as far as it can.

The file is JSON: ``{"format": 1, "facts": {name: {"answer": …, "stand_in": …} or {"not_asked": …}}}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FORMAT = 1

#: Fact -> the setting that an answer is taken for as it stands.
PLAIN: Mapping[str, str] = {
    "version.product": "product_version",
    "version.engine_edition": "engine_edition",
    "pool.size": "size",
    "management.size": "size",
    "management.route": "management_route",
    "session.language": "language",
    "request.resource_class": "resource_class",
}
#: Fact -> setting, and what each answer makes of it.
CHOICES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "transaction.rollback_after_error": (
        "rollback_after_error",
        {"accepted": "accepted", "refused 111214": "refused"},
    ),
    "copy.row_count": ("copy_row_count", {"told": True, "not told": False}),
    "copy.no_files": ("copy_no_files", {"accepted": "nothing", "refused 110802": "error"}),
    "copy.managed_identity_on_blob": ("managed_identity_on_blob", {"accepted": True, "refused 110802": False}),
    "pool.rcsi": ("rcsi", {"on": True, "off": False}),
    "session.of_the_pool": ("sessions_of_its_own", {"some": True, "none": False}),
}
#: Fact -> the view whose missing columns its answer names.
VIEWS: Mapping[str, str] = {
    "view.sessions": "sys.dm_pdw_exec_sessions",
    "view.requests": "sys.dm_pdw_exec_requests",
    "view.steps": "sys.dm_pdw_request_steps",
    "view.workers": "sys.dm_pdw_dms_workers",
    "view.approximate_rows": "sys.dm_pdw_nodes_db_partition_stats",
}
#: Facts whose number the stand-in uses for nothing else, so that another one can stand in its place.
NUMBERED = frozenset(
    {
        "session.read_committed", "copy.text_too_long", "copy.bad_address", "copy.two_containers",
        "copy.csv_option_on_parquet", "table.rename_view", "table.hash_of_max", "table.update_hash_column",
        "table.default_expression", "table.insert_into_view", "table.missing_source", "table.second_format",
        "table.primary_key_enforced", "table.max_in_columnstore", "table.create_in_transaction",
    }
)  # fmt: skip


class NoFacts(ValueError):
    """The file holds no answers of a probe."""


@dataclass
class Facts:
    """What a file makes of the stand-in."""

    settings: dict[str, Any] = field(default_factory=dict)
    #: Facts in which the real pool differs and the stand-in cannot follow.
    beyond: list[str] = field(default_factory=list)


def read(file: Path) -> Facts:
    """Settings from a file. Raises NoFacts."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise NoFacts(f"{file}: its format is {content['format']!r}, known is {_FORMAT}")
        made = Facts()
        for name, entry in content["facts"].items():
            if "answer" in entry and entry["answer"] != entry["stand_in"]:
                _take(made, name, str(entry["answer"]), str(entry["stand_in"]))
        return made
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise NoFacts(f"{file} holds no answers of a probe ({type(error).__name__}: {error})") from error


def _take(made: Facts, name: str, answer: str, stand_in: str) -> None:
    choice = CHOICES.get(name, ("", {}))
    if name in PLAIN:
        made.settings[PLAIN[name]] = answer
    elif answer in choice[1]:
        made.settings[choice[0]] = choice[1][answer]
    elif name in VIEWS and answer.startswith("without "):
        missing = answer.removeprefix("without ").split(", ")
        made.settings.setdefault("missing_columns", {})[VIEWS[name]] = missing
    elif name in NUMBERED and answer.startswith("refused ") and stand_in.startswith("refused "):
        made.settings.setdefault("numbers", {})[stand_in.split()[1]] = int(answer.split()[1])
    else:
        made.beyond.append(name)
