"""YAML as plain values, within limits: no aliases that grow, no types that JSON lacks, no key twice."""

from __future__ import annotations

import re
from typing import Any

import yaml

from .model import unreadable

MAX_BYTES = 2_000_000
#: Values of a document with every alias written out.
MAX_VALUES = 200_000
_CORE = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", "~nN\0"),
    "tag:yaml.org,2002:merge": (r"<<", "<"),
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types, as the vendors' tools read it: `no` and 2024-01-01 are texts."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  pyyaml's own form; filled below

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := next((name for name in names if names.count(name) > 1 and name != "<<"), None):
            raise yaml.constructor.ConstructorError(None, None, f"has the key {twice!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


for _tag, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), [c if c != "\0" else "" for c in _first])


def load(data: bytes, file: str) -> list[Any]:
    """The documents of a file; raises ConfigurationError that names the line."""
    if len(data) > MAX_BYTES:
        raise unreadable(file, "", f"larger than {MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(file, f"byte {error.start}", "is not UTF-8") from None
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
        for document in documents:
            if _values(document, {}, file) > MAX_VALUES:
                raise unreadable(file, "", f"holds more than {MAX_VALUES:,} values once its aliases are written out")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}" if mark is not None else ""
        raise unreadable(file, where, f"is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise unreadable(file, "", f"is not YAML: {' '.join(str(error).split())[:200]}") from None
    except (RecursionError, ValueError) as error:
        raise unreadable(file, "", f"is not YAML that can be read: {type(error).__name__}") from None
    return [document for document in documents if document is not None]


def _values(value: Any, known: dict[int, int | None], file: str) -> int:
    """Values inside, aliases counted each time, though each is looked at once."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) in known:
        counted = known[id(value)]
        if counted is None:
            raise unreadable(file, "", "refers to itself")
        return counted
    known[id(value)] = None
    parts = value.values() if isinstance(value, dict) else value
    counted = 1 + sum(_values(part, known, file) for part in parts)
    known[id(value)] = counted
    return counted
