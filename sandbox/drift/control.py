"""Control routes under /_sandbox/drift/: change data, set faults and variants, issue tokens, read the truth.

They need no token, count against no limit and are never faulty; the server listens on loopback only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerClient
from starlette.requests import Request

from ..synapse.storage import API_VERSION
from . import changes, export
from .faults import FAULTS, SETTINGS
from .tokens import SCOPES
from .workspace import Workspace

Wanted = dict[str, Any]


def handle(workspace: Workspace, request: Request, name: str, body: bytes) -> tuple[int, Wanted]:
    """Answer one control call: status and body; mistakes are 400 with a sentence."""
    route = _ROUTES.get((request.method, name))
    if route is None:
        known = ", ".join(f"{m} {n}" for m, n in _ROUTES)
        return 404, {"error": f"no control route {request.method} {name}; known: {known}"}
    try:
        wanted = json.loads(body or b"{}") if request.method == "POST" else dict(request.query_params)
        return 200, route(workspace, wanted)
    except (ValueError, KeyError, TypeError, AzureError) as error:
        return 400, {"error": f"{type(error).__name__}: {error}"}


def health(workspace: Workspace, _wanted: Wanted) -> Wanted:
    counts = workspace.counts()
    return {"ready": True, "conversations": counts["conversations"], "journal": workspace.entries}


def counts(workspace: Workspace, _wanted: Wanted) -> Wanted:
    return dict(workspace.counts())


def change(workspace: Workspace, wanted: Wanted) -> Wanted:
    ids = changes.make(workspace, wanted)
    return {"ids": ids, "journal": workspace.entries, "at": workspace.last_stamp}


def faults(workspace: Workspace, wanted: Wanted) -> Wanted:
    workspace.faults.update(wanted)
    return {"faults": dict(workspace.faults.set), "known": FAULTS}


def settings(workspace: Workspace, wanted: Wanted) -> Wanted:
    unknown = sorted(set(wanted) - set(SETTINGS))
    if unknown:
        raise ValueError(f"unknown settings {unknown}; known: {sorted(SETTINGS)}")
    workspace.settings.update(wanted)
    return {"settings": workspace.settings}


def tokens(workspace: Workspace, wanted: Wanted) -> Wanted:
    """A token with these ``scopes`` for so many ``seconds``; ``revoke`` ends all, ``restore`` undoes that."""
    if wanted.get("revoke"):
        return {"revoked": workspace.tokens.revoke(ending_only=False)}
    if wanted.get("restore"):
        workspace.tokens.restore()
        return {}
    return {"access_token": workspace.tokens.issue(list(wanted.get("scopes", SCOPES)), wanted.get("seconds"))}


def records(workspace: Workspace, wanted: Wanted) -> Wanted:
    """The truth of a stream: ``?stream=messages&start=0&count=100``; see `export.STREAMS`."""
    start, count = int(wanted.get("start", 0)), int(wanted.get("count", 100))
    rows = export.rows(workspace, str(wanted["stream"]))
    return {"records": [row for n, row in enumerate(rows) if start <= n < start + count]}


def write_export(workspace: Workspace, wanted: Wanted) -> Wanted:
    """The bulk export into a folder ``name`` below the sandbox's own, or into ``{container_url, account, key}``.

    Every other key is one of `export.Shape`.
    """
    given = dict(wanted)
    name, url = str(given.pop("name", "export")), given.pop("container_url", None)
    credential = {"account_name": str(given.pop("account", "")), "account_key": str(given.pop("key", ""))}
    shape = export.Shape(**given)
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError("name takes letters, digits, - and _")
    if url is None:
        folder = workspace.folder / "exports" / name
        return {"target": str(folder), "files": [vars(f) for f in export.write(workspace, folder, shape)]}
    # An address with a shared access signature needs no key.
    key = credential if credential["account_key"] else None
    with ContainerClient.from_container_url(
        str(url), credential=key, api_version=API_VERSION, retry_total=2
    ) as container:
        files = export.write(workspace, container, shape)
    return {"target": str(url).split("?")[0], "files": [vars(f) for f in files]}


def stats(workspace: Workspace, wanted: Wanted) -> Wanted:
    with workspace.lock:
        shown = dict(workspace.stats)
        if wanted.get("reset"):
            workspace.stats.clear()
    return {"requests": shown}


def reset(workspace: Workspace, wanted: Wanted) -> Wanted:
    """No faults, default variants, fresh limit and tokens; with ``data`` the workspace as seeded."""
    workspace.faults.clear()
    workspace.settings = dict(SETTINGS)
    workspace.limit.clear()
    workspace.tokens.restore()
    workspace.stats.clear()
    if wanted.get("data"):
        workspace.reset()
    return {"journal": workspace.entries}


_ROUTES: dict[tuple[str, str], Callable[[Workspace, Wanted], Wanted]] = {
    ("GET", "health"): health,
    ("GET", "counts"): counts,
    ("POST", "change"): change,
    ("GET", "faults"): faults,
    ("POST", "faults"): faults,
    ("GET", "settings"): settings,
    ("POST", "settings"): settings,
    ("POST", "tokens"): tokens,
    ("GET", "records"): records,
    ("POST", "export"): write_export,
    ("GET", "stats"): stats,
    ("POST", "stats"): stats,
    ("POST", "reset"): reset,
}
