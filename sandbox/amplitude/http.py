"""What a handler gets and gives, free of the web framework."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl


class Refused(Exception):
    """An answer other than success: its status, and the sentence that its body says."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as handlers see it."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def host(self) -> str:
        return self.headers.get("host", "").split(":")[0].lower()

    @property
    def given(self) -> dict[str, str]:
        """Parameters of the query string, and those of a form, which some calls send with GET too."""
        form = "" if self.body[:1] == b"{" else self.body.decode("utf-8", "replace")
        return dict(parse_qsl(f"{self.query}&{form}", keep_blank_values=True))

    def json(self) -> Any:
        """The body, or an empty object; raises ValueError."""
        return json.loads(self.body or b"{}")


@dataclass(kw_only=False)
class Reply:
    """One answer: a body, or pieces to stream; `cut` ends the connection in the middle."""

    status: int
    body: bytes = b""
    chunks: Iterator[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def json_reply(value: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, body, headers={"Content-Type": "application/json;charset=utf-8"})
