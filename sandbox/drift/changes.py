"""Changes made to order: how many or which ids, chosen repeatably, written to the journal as exact values."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .seed import CONVERSATIONS
from .workspace import Workspace


class BadChange(ValueError):
    """The request asks for something that cannot be done."""


def make(workspace: Workspace, wanted: dict[str, Any]) -> dict[str, list[Any]]:
    """Do what the request asks, in the order of `KINDS`; answer the ids per kind."""
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown:
        raise BadChange(f"unknown kinds {unknown}; known: {sorted(KINDS)}")
    with workspace.lock:
        return {kind: KINDS[kind](workspace, wanted[kind]) for kind in KINDS if wanted.get(kind)}


def _pick(workspace: Workspace, wanted: Any, candidates: list[int], number_of: Callable[[Any], int]) -> list[int]:
    """Numbers of the listed ids, or so many drawn, the same for the same journal."""
    if isinstance(wanted, list):
        numbers = [number_of(i) for i in wanted]
        if missing := [i for i, n in zip(wanted, numbers, strict=True) if n < 0]:
            raise BadChange(f"no such ids: {missing}")
        return numbers
    if int(wanted) > len(candidates):
        raise BadChange(f"{wanted} wanted, {len(candidates)} there")
    chooser = random.Random(workspace.seed.seed * 1_000_003 + workspace.entries)  # noqa: S311  repeatable, not secret
    return chooser.sample(candidates, int(wanted))


def _conversations(workspace: Workspace, wanted: Any) -> list[int]:
    return _pick(workspace, wanted, workspace.order().tolist(), lambda i: workspace.conversation_number(int(i)))


def _contacts(workspace: Workspace, wanted: Any) -> list[int]:
    def number_of(contact_id: Any) -> int:
        number = workspace.seed.contact_number(int(contact_id))
        return number if workspace.contact_state(number) == "there" else -1

    return _pick(workspace, wanted, list(workspace.contact_numbers()), number_of)


def new_contacts(workspace: Workspace, wanted: int) -> list[int]:
    ids = []
    for _ in range(int(wanted)):
        number = workspace.seed.contacts + len(workspace.new_contacts)
        workspace.record(kind="contact", number=number, at=workspace.stamp())
        ids.append(workspace.seed.contact_id(number))
    return ids


def new_conversations(workspace: Workspace, wanted: int) -> list[int]:
    ids = []
    for _ in range(int(wanted)):
        number = len(workspace.created)
        living = number % workspace.seed.contacts
        contact = living if workspace.contact_state(living) == "there" else -1
        workspace.record(kind="conversation", number=number, at=workspace.stamp(), contact=contact)
        ids.append(CONVERSATIONS + number)
    return ids


def new_messages(workspace: Workspace, wanted: Any) -> list[int]:
    """A message each in so many conversations; it moves their updatedAt."""
    ids = []
    for number in _conversations(workspace, wanted):
        at = workspace.stamp()
        message = workspace.new_message(number, at)
        workspace.record(kind="message", number=number, at=at, message=message)
        ids.append(message["id"])
    return ids


def touched(workspace: Workspace, wanted: Any) -> list[int]:
    """updatedAt moves and the tags change, without a message."""
    ids = []
    for number in _conversations(workspace, wanted):
        at = workspace.stamp()
        values = {"conversationTags": [{"color": "0960C5", "name": f"moved {at}"}]}
        workspace.record(kind="touch", number=number, at=at, values=values)
        ids.append(CONVERSATIONS + number)
    return ids


def contacts_edited(workspace: Workspace, wanted: Any) -> list[int]:
    """New values and higher version counters; no conversation moves."""
    ids = []
    for number in _contacts(workspace, wanted):
        at = workspace.stamp()
        version = workspace.contact(number)["attributes"]["_END_USER_VERSION"] + 1
        counters = dict.fromkeys(("_END_USER_VERSION", "_end_user_version", "_calculated_version"), version)
        values = {"name": f"Edited {at}", "last_active": at, **counters}
        workspace.record(kind="contact_edited", number=number, at=at, values=values)
        ids.append(workspace.seed.contact_id(number))
    return ids


def contacts_deleted(workspace: Workspace, wanted: Any) -> list[int]:
    """A privacy deletion; the setting `deleted_conversations` says what becomes of the conversations."""
    ids = []
    mode = str(workspace.settings["deleted_conversations"])
    for number in _contacts(workspace, wanted):
        workspace.record(kind="contact_deleted", number=number, at=workspace.stamp(), conversations=mode)
        ids.append(workspace.seed.contact_id(number))
    return ids


def contacts_blocked(workspace: Workspace, wanted: Any) -> list[int]:
    ids = []
    for number in _contacts(workspace, wanted):
        workspace.record(kind="contact_blocked", number=number, at=workspace.stamp())
        ids.append(workspace.seed.contact_id(number))
    return ids


def users_edited(workspace: Workspace, wanted: Any) -> list[int]:
    known = {workspace.seed.user_id(n): n for n in range(workspace.seed.users)}
    ids = []
    for number in _pick(workspace, wanted, list(known.values()), lambda i: known.get(int(i), -1)):
        at = workspace.stamp()
        values = {"availability": "OFFLINE", "alias": f"edited{at}", "updatedAt": at}
        workspace.record(kind="user_edited", number=number, at=at, values=values)
        ids.append(workspace.seed.user_id(number))
    return ids


def new_accounts(workspace: Workspace, wanted: int) -> list[str]:
    ids = []
    for _ in range(int(wanted)):
        number = len(workspace.account_numbers())
        workspace.record(kind="account", number=number, at=workspace.stamp())
        ids.append(workspace.account(number)["accountId"])
    return ids


def _accounts(workspace: Workspace, wanted: Any, **values: Any) -> list[str]:
    known = {workspace.account(n)["accountId"]: n for n in workspace.account_numbers()}
    living = [n for n in known.values() if not workspace.account(n).get("deleted")]
    ids = []
    for number in _pick(workspace, wanted, living, lambda i: known.get(str(i), -1)):
        at = workspace.stamp()
        workspace.record(kind="account_edited", number=number, at=at, values={**values, "updateDateTime": at})
        ids.append(workspace.account(number)["accountId"])
    return ids


def accounts_edited(workspace: Workspace, wanted: Any) -> list[str]:
    return _accounts(workspace, wanted, name=f"Edited {workspace.stamp()}")


def accounts_deleted(workspace: Workspace, wanted: Any) -> list[str]:
    return _accounts(workspace, wanted, deleted=True)


#: What can be changed; each takes a number, those of existing records also a list of ids.
KINDS: dict[str, Callable[[Workspace, Any], list[Any]]] = {
    "new_contacts": new_contacts,
    "new_conversations": new_conversations,
    "new_messages": new_messages,
    "touched": touched,
    "contacts_edited": contacts_edited,
    "contacts_blocked": contacts_blocked,
    "contacts_deleted": contacts_deleted,
    "users_edited": users_edited,
    "new_accounts": new_accounts,
    "accounts_edited": accounts_edited,
    "accounts_deleted": accounts_deleted,
}
