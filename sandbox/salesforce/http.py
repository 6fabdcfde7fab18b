"""What a handler gets and gives, free of the web framework."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as handlers see it."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def host(self) -> str:
        return self.headers.get("host", "").split(":")[0].lower()

    @property
    def params(self) -> dict[str, str]:
        """Query parameters; an unencoded plus has become a blank, as it does everywhere."""
        return {k: v[-1] for k, v in parse_qs(self.query_string, keep_blank_values=True).items()}

    @property
    def form(self) -> dict[str, str]:
        text = self.body.decode("utf-8", "replace")
        return {k: v[-1] for k, v in parse_qs(text, keep_blank_values=True).items()}

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    @property
    def takes_gzip(self) -> bool:
        return "gzip" in self.headers.get("accept-encoding", "").lower()


@dataclass(kw_only=True)
class Reply:
    """One answer: a body, or chunks to stream. `cut` ends the connection half-way."""

    status: int = 200
    body: bytes = b""
    chunks: Iterator[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def json_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    named = {k.replace("_", "-"): v for k, v in headers.items()}
    return Reply(status=status, body=body, headers={"Content-Type": "application/json;charset=UTF-8", **named})


def html_reply(status: int, title: str) -> Reply:
    body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>".encode()
    return Reply(status=status, body=body, headers={"Content-Type": "text/html; charset=UTF-8"})
