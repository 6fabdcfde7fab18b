"""Bearer tokens: the fixed one of a private app, the ending ones of a public app, and what each may read."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

#: Source: devdocs.drift.com, scopes of an app.
SCOPES = (
    "conversation_read",
    "contact_read",
    "all_contact_read",
    "user_read",
    "account_read",
    "playbook_read",
)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What one token may do, and until when (monotonic seconds; None: it never ends by itself)."""

    scopes: frozenset[str]
    ends: float | None


class Tokens:
    """The tokens that are valid now. Those of the file outlive a restart, all others do not."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self.path = path
        self.grants: dict[str, Grant] = {}
        if not path.exists():
            made = {
                "access_token": secrets.token_urlsafe(24),
                "client_id": secrets.token_urlsafe(12),
                "client_secret": secrets.token_urlsafe(24),
                "refresh_token": secrets.token_urlsafe(24),
            }
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            draft.touch(0o600)
            draft.write_text(json.dumps(made))
            os.replace(draft, path)
        self.secret: dict[str, str] = json.loads(path.read_text())
        self.restore()

    def restore(self) -> None:
        """Only the private app's token, with every scope."""
        with self.lock:
            self.grants = {self.secret["access_token"]: Grant(scopes=frozenset(SCOPES), ends=None)}

    def issue(self, scopes: list[str], seconds: float | None) -> str:
        """A new token with these scopes."""
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown:
            raise ValueError(f"unknown scopes {unknown}; known: {list(SCOPES)}")
        token = secrets.token_urlsafe(24)
        ends = None if seconds is None else time.monotonic() + seconds
        with self.lock:
            self.grants[token] = Grant(scopes=frozenset(scopes), ends=ends)
        return token

    def revoke(self, *, ending_only: bool) -> int:
        """End all tokens, or those of public apps; answer how many."""
        with self.lock:
            ended = [t for t, g in self.grants.items() if g.ends is not None or not ending_only]
            for token in ended:
                del self.grants[token]
            return len(ended)

    def grant(self, token: str) -> Grant | None:
        """What a token may do; None where it is unknown or has ended."""
        found = self.grants.get(token)
        if found is None or (found.ends is not None and found.ends <= time.monotonic()):
            return None
        return found
