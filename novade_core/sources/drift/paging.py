"""Every way in which Drift pages, followed by parameters alone: which host a link names does not matter.

Conversations: ``links.next`` (a URL with ``page_token``) or ``pagination.next`` (a cursor), whichever comes. Messages:
``pagination.next``, which is absent or empty at the end. Accounts: ``data.next``, a URL or path with ``index``.
Source: devdocs.drift.com, "List Conversations", "Listing Conversations", "Listing Accounts"; the vendor's Python SDK.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from novade_core.errors import ProtocolBroken
from novade_core.sources.drift.client import Client
from novade_core.sources.drift.faults import Refused

#: The most that an account page holds; the collection of the vendor's examples says so.
_ACCOUNTS = 65
#: So often is a page asked for again that was empty and led to itself.
_EMPTY_IN_A_ROW = 5


def conversations(client: Client, limit: int) -> Iterator[list[Any]]:
    """Pages of the list, latest change first."""
    doing = "listing conversations"
    query: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    empty = 0
    while True:
        try:
            page = client.get("/conversations/list", doing, limit=str(limit), **query)
        except Refused as error:
            # One revision of the documentation wants the parameter on the first page, too, and empty.
            if query or "page_token" not in error.message:
                raise
            query = {"page_token": ""}
            continue
        rows = _list(_object(page, doing).get("data"), doing)
        following = _next_of_list(page, doing)
        yield rows
        if following is None:
            return
        empty = 0 if rows else empty + 1
        if empty > _EMPTY_IN_A_ROW or (rows and following in seen):
            raise ProtocolBroken(f"Drift gave the same continuation again while {doing}.")
        seen.add(following)
        query = dict([following])


def _next_of_list(page: Mapping[str, Any], doing: str) -> tuple[str, str] | None:
    """The parameter of the next page, and its value."""
    link = _object(page.get("links"), doing).get("next")
    if link:
        token = parse_qs(urlsplit(str(link)).query).get("page_token", [""])[-1]
        if not token:
            raise ProtocolBroken(f"Drift's link to the next page holds no page_token, while {doing}.")
        return "page_token", token
    cursor = _next(page, doing)
    return ("next", cursor) if cursor else None


def messages(client: Client, conversation: str) -> Iterator[list[Any]]:
    """Pages of a conversation's messages. Raises NotFound where the conversation is gone."""
    doing = f"reading messages of conversation {conversation}"
    path = f"/conversations/{conversation}/messages"
    page = client.get(path, doing)
    seen: set[str] = set()
    while True:
        # A conversation without messages may answer nothing but an empty object.
        yield _list(_object(_object(page, doing).get("data"), doing).get("messages"), doing)
        cursor = _next(page, doing)
        if not cursor:
            return
        if cursor in seen:
            raise ProtocolBroken(f"Drift gave the same continuation again while {doing}.")
        seen.add(cursor)
        page = client.get(path, doing, next=cursor)


def accounts(client: Client) -> Iterator[list[Any]]:
    """Pages of accounts."""
    doing = "listing accounts"
    index = "0"
    seen = {index}
    while True:
        page = client.get("/accounts", doing, index=index, size=str(_ACCOUNTS))
        data = _object(_object(page, doing).get("data"), doing)
        yield _list(data.get("accounts"), doing)
        if not data.get("next"):
            return
        index = parse_qs(urlsplit(str(data["next"])).query).get("index", [""])[-1]
        if not index or index in seen:
            raise ProtocolBroken(f"Drift gave the same continuation again while {doing}.")
        seen.add(index)


def users(client: Client) -> list[Any]:
    """All users, which come at once."""
    doing = "listing users"
    return _list(_object(client.get("/users/list", doing), doing).get("data"), doing)


def one(client: Client, path: str, doing: str) -> Mapping[str, Any]:
    """A single record. Raises NotFound and Forbidden as they come."""
    return _object(_object(client.get(path, doing), doing).get("data"), doing)


def _next(page: Mapping[str, Any], doing: str) -> str:
    following = _object(page.get("pagination"), doing)
    return "" if following.get("more") is False else str(following.get("next") or "")


def _object(value: Any, doing: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ProtocolBroken(f"Drift's answer has another shape than documented, while {doing}.")
    return value or {}


def _list(value: Any, doing: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise ProtocolBroken(f"Drift's answer has another shape than documented, while {doing}.")
    return value or []
