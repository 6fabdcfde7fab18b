"""What each address answers. Paths, limits and shapes after devdocs.drift.com and the vendor's API collection."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

import numpy as np

from . import changes, words
from .seed import CONVERSATIONS, DOCUMENTS, USERS, Record
from .tokens import SCOPES
from .workspace import Workspace


class ApiError(Exception):
    """A refusal in Drift's form; `shape` is where the documentation shows one for this case."""

    def __init__(self, status: int, kind: str, message: str, *, param: str = "", shape: str = "error") -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.param, self.shape = status, kind, message, param, shape

    def body(self, shape: str) -> Any:
        """The body in the chosen shape; None is an empty one."""
        shape = self.shape if shape == "mixed" else shape
        if shape == "empty":
            return None
        if shape == "text":
            return {"error": self.message}
        one = {"type": self.kind, "message": self.message}
        if shape == "errors":
            return {"errors": [{**one, "param": self.param} if self.param else one]}
        return {"error": one}


def invalid(param: str, message: str) -> ApiError:
    return ApiError(400, "validation_error", message, param=param, shape="errors")


def missing(what: str) -> ApiError:
    return ApiError(404, "not_found", f"{what} not found", shape="errors")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as handlers see it."""

    host: str
    query: str
    body: bytes
    names: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def lists(self) -> dict[str, list[str]]:
        return parse_qs(self.query, keep_blank_values=True)

    def one(self, name: str) -> str | None:
        """A query parameter; None where it is not given."""
        return self.lists.get(name, [None])[-1]

    def number(self, name: str, default: int) -> int:
        text = self.one(name)
        if text is None or text == "":
            return default
        if not re.fullmatch(r"\d{1,9}", text):
            raise invalid(name, f"{name} must be a number")
        return int(text)

    def json(self) -> Any:
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            raise invalid("body", "the body is not JSON") from None


def _limit(workspace: Workspace, asked: Asked, name: str, default: int, most: int) -> int:
    wanted = asked.number(name, default)
    if wanted < 1 or (wanted > most and workspace.settings["over_limit"] == "reject"):
        raise invalid(name, f"{name} must lie between 1 and {most}")
    return min(wanted, most)


def _base(workspace: Workspace, asked: Asked) -> str:
    host = str(workspace.settings["link_host"])
    return f"https://{asked.host if host == 'request' else host}"


def _pack(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(token: str, param: str) -> list[int]:
    """The numbers of a cursor: [offset], or [updatedAt, number] of the last row."""
    try:
        text = token if token.isdecimal() else base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        return [int(part) for part in text.split(":")]
    except ValueError:
        raise invalid(param, f"{param} is not valid") from None


# Conversations


def conversations(workspace: Workspace, asked: Asked) -> Record:
    """GET /conversations/list: latest updatedAt first, in the paging style asked for, else that of the settings."""
    token, number = asked.one("page_token"), asked.one("next")
    style = "links" if token is not None else "pagination" if number is not None else None
    style = style or str(workspace.settings["conversation_paging"])
    if style == "links" and token is None and workspace.settings["page_token_required"]:
        raise invalid("page_token", "page_token is required; leave it empty for the first page")
    limit = _limit(workspace, asked, "limit", 25, 100 if style == "links" else 50)
    statuses = set()
    for text in asked.lists.get("statusId", []):
        status = words.STATUS_IDS.get(text) or text.lower()
        if status not in words.STATUS_IDS.values():
            raise invalid("statusId", f"statusId {text} is not known")
        statuses.add(status)
    cursor = token if style == "links" else number
    place = _place(cursor, "page_token" if style == "links" else "next") if cursor else []
    if place:
        _reorder(workspace, place, limit)
    order = workspace.order(statuses or None)
    start = _start(workspace, order, place)
    if cursor and workspace.faults.times("empty_page"):
        rows, after = [], cursor
    else:
        picked = order[start : start + limit]
        rows = [workspace.conversation(int(n)) for n in picked]
        more = start + limit < len(order)
        after = _after(workspace, picked, start + limit, style) if more else ""
        if more and cursor and workspace.faults.times("repeat_page"):
            after = cursor
    made: Record = {"data": rows}
    if style == "pagination":
        if after:
            made["pagination"] = {"more": True, "next": after}
        return made
    kept = {k: v for k, v in asked.lists.items() if k not in ("page_token", "next")}
    address = f"{_base(workspace, asked)}/conversations/list?"
    links: Record = {"self": address + urlencode({**kept, "page_token": [token or ""]}, doseq=True)}
    if after:
        host = "https://elsewhere.example/conversations/list?"
        shown = host if workspace.faults.times("foreign_link") else address
        links["next"] = shown + urlencode({**kept, "page_token": [after]}, doseq=True)
    elif workspace.settings["last_links"] == "no_links":
        return made
    elif workspace.settings["last_links"] == "null":
        links["next"] = None
    return {**made, "links": links}


def _start(workspace: Workspace, order: Any, place: list[int]) -> int:
    if len(place) < 2:
        return place[0] if place else 0
    updated = workspace.updated[order]
    passed = (updated > place[0]) | ((updated == place[0]) & (order >= place[1]))
    return int(np.count_nonzero(passed))


def _after(workspace: Workspace, picked: Any, offset: int, style: str) -> str:
    if workspace.settings["cursor"] == "offset":
        return str(offset) if style == "pagination" else _pack(str(offset))
    last = int(picked[-1])
    return _pack(f"{int(workspace.updated[last])}:{last}")


def _reorder(workspace: Workspace, place: list[int], limit: int) -> None:
    """What others do while somebody pages: unread conversations jump to the top, new ones appear."""
    wanted = workspace.faults.times("reorder")
    if wanted is None:
        return
    wanted = wanted if isinstance(wanted, dict) else {"moved": 1}
    with workspace.lock:
        unread = workspace.order()[_start(workspace, workspace.order(), place) :]
        # From the page about to be read: these rows are the ones a reader without a second look would lose.
        near = unread[1 : limit + 1][: int(wanted.get("moved", 0))]
        if len(near):
            changes.make(workspace, {"touched": [CONVERSATIONS + int(n) for n in near]})
        changes.make(workspace, {"new_conversations": int(wanted.get("new", 0))})


def _conversation(workspace: Workspace, asked: Asked) -> int:
    number = workspace.conversation_number(int(asked.names["id"]))
    if number < 0:
        raise missing("conversation")
    return number


def conversation(workspace: Workspace, asked: Asked) -> Record:
    return {"data": workspace.conversation(_conversation(workspace, asked), whole=True)}


def messages(workspace: Workspace, asked: Asked) -> Record:
    """GET /conversations/{id}/messages: pages of 50, oldest first."""
    number = _conversation(workspace, asked)
    cursor = asked.one("next")
    page = _place(cursor, "next")[0] if cursor else 1
    total = workspace.count_messages(number)
    if total == 0 and workspace.settings["no_messages"] == "nothing":
        return {}
    made: Record = {"data": {"messages": workspace.messages(number, (page - 1) * 50, page * 50) if page else []}}
    if page * 50 < total:
        after = str(page + 1) if workspace.settings["message_cursor"] == "number" else _pack(str(page + 1))
        made["pagination"] = {"more": True, "next": after}
    elif workspace.settings["last_messages"] == "empty":
        made["pagination"] = {"next": ""}
    return made


def json_transcript(workspace: Workspace, asked: Asked) -> Record:
    number = _conversation(workspace, asked)
    return {"data": {"id": CONVERSATIONS + number, "messages": workspace.messages(number)}}


def transcript(workspace: Workspace, asked: Asked) -> str:
    lines = []
    for message in workspace.messages(_conversation(workspace, asked)):
        author = message.get("author", {})
        lines.append(
            f"[{message['createdAt']}] {author.get('type', 'unknown')} {author.get('id', '')}: {message['body']}"
        )
    return "\n".join(lines)


def stats(workspace: Workspace, _asked: Asked) -> Record:
    """GET /conversations/stats: how many have each status; the shape is not confirmed."""
    with workspace.lock:
        status = workspace.status[workspace.order()]
        found = {name.upper(): int(np.count_nonzero(status == n)) for n, name in enumerate(words.STATUSES)}
    return {"conversationCount": found}


def attachment(workspace: Workspace, asked: Asked) -> bytes:
    number, place = divmod(int(asked.names["id"]) - DOCUMENTS, 1_000)
    if (
        not 0 <= number < len(workspace.alive)
        or not workspace.alive[number]
        or place >= workspace.count_messages(number)
    ):
        raise missing("attachment")
    if "attachments" not in workspace.messages(number, place, place + 1)[0]:
        raise missing("attachment")
    return b"%PDF-1.4\n" + bytes(range(256)) * 4 + str(number).encode()


def report(workspace: Workspace, asked: Asked) -> Record:
    """POST /reports/conversations: numbers in the order asked; what is missing is the text NaN."""
    wanted = asked.json()
    names = wanted.get("metrics") if isinstance(wanted, dict) else None
    if not isinstance(names, list) or not names:
        raise invalid("metrics", "metrics must name at least one")
    known = {"timeToCloseMillis", "timeToAgentResponseMillis", "firstAgentMessageAt", "relatedPlaybookId"}
    if unknown := [n for n in names if n not in known]:
        raise invalid("metrics", f"unknown metrics {unknown}")
    low, high = 0, 1 << 62
    for one in wanted.get("filters") or []:
        if one.get("property") in ("createdAt", "firstCloseAt") and one.get("operation") == "BETWEEN":
            low, high = (int(v) for v in one["values"])
        elif one.get("operation") != "HAS_PROPERTY":
            raise invalid("filters", f"the filter {one} is not offered here")
    rows = []
    for number in workspace.order().tolist():
        if not low <= int(workspace.created[number]) <= high:
            continue
        playbook = workspace.seed.conversation(number).get("relatedPlaybookId")
        closed = words.STATUSES[int(workspace.status[number])] == "closed"
        begun = int(workspace.created[number])
        values = {
            "timeToCloseMillis": int(workspace.updated[number]) - begun if closed else "NaN",
            "timeToAgentResponseMillis": 1_000 + number % 9_000 if number % 3 else "NaN",
            "firstAgentMessageAt": begun + 1_000 if number % 3 else "NaN",
            "relatedPlaybookId": int(playbook) if playbook else "NaN",
        }
        rows.append({"conversationId": CONVERSATIONS + number, "metrics": [values[n] for n in names]})
    return {"count": len(rows), "data": rows}


# People


def users(workspace: Workspace, _asked: Asked) -> Record:
    return {"data": [workspace.user(n) for n in range(workspace.seed.users)]}


def _user(workspace: Workspace, user_id: str) -> int:
    number, rest = divmod(int(user_id) - USERS, 37)
    return number if rest == 0 and 0 <= number < workspace.seed.users else -1


def user(workspace: Workspace, asked: Asked) -> Record:
    number = _user(workspace, asked.names["id"])
    if number < 0:
        raise missing("user")
    return {"data": workspace.user(number)}


def users_map(workspace: Workspace, asked: Asked) -> Record:
    """GET /users?userId=1&userId=2: a map from id to user, twenty at most; unknown ids are left out."""
    ids = asked.lists.get("userId", [])
    if not 1 <= len(ids) <= 20 or not all(i.isdecimal() for i in ids):
        raise invalid("userId", "between 1 and 20 numbers are taken")
    return {"data": {i: workspace.user(n) for i in ids if (n := _user(workspace, i)) >= 0}}


def contact(workspace: Workspace, asked: Asked) -> Record:
    number = workspace.seed.contact_number(int(asked.names["id"]))
    state = workspace.contact_state(number)
    if state == "blocked":
        raise ApiError(int(workspace.settings["blocked_status"]), "forbidden", "contact is blocked")
    if state != "there":
        status = int(workspace.settings["deleted_status"]) if state == "gone" else 404
        raise ApiError(status, "not_found", "contact not found", shape="errors")
    return {"data": workspace.contact(number)}


def contacts(workspace: Workspace, asked: Asked) -> tuple[Record, dict[str, str]]:
    """GET /contacts by exact address or external id; there is no list of all. Pages continue by a Link header."""
    email, external = asked.one("email"), asked.one("id")
    if email is None and not (asked.one("idType") == "external" and external):
        raise invalid("email", "email, or idType=external and id, is needed")
    found = workspace.contacts_with(email=email, external=external if email is None else None)
    limit = _limit(workspace, asked, "limit", 25, 50)
    start = _place(cursor, "next")[0] if (cursor := asked.one("next")) else 0
    headers = {}
    if start + limit < len(found):
        kept = {k: v for k, v in asked.lists.items() if k != "next"}
        link = urlencode({**kept, "next": [str(start + limit)]}, doseq=True)
        headers["Link"] = f"<{_base(workspace, asked)}/contacts?{link}>; rel='next'"
    return {"data": [workspace.contact(n) for n in found[start : start + limit]]}, headers


def contact_attributes(_workspace: Workspace, _asked: Asked) -> Record:
    known = (("STRING", "Classification", "_classification"), ("BOOLEAN", "VIP <Customer>", "vip_customer"),
             ("NUMERIC", "Score", "score"))  # fmt: skip
    return {"data": {"properties": [{"type": t, "displayName": d, "name": n} for t, d, n in known]}}


# Companies and the rest


def accounts(workspace: Workspace, asked: Asked) -> Record:
    """GET /accounts?index=&size=: ten at a time unless told, 65 at most."""
    size = _limit(workspace, asked, "size", 10, 65)
    index = asked.number("index", 0)
    listed = [workspace.account(n) for n in workspace.account_numbers()]
    if not workspace.settings["lists_deleted_accounts"]:
        listed = [a for a in listed if not a.get("deleted")]
    data: Record = {"accounts": listed[index : index + size], "total": len(listed)}
    if index + size < len(listed):
        base = _base(workspace, asked) if workspace.settings["accounts_next"] == "absolute" else ""
        data["next"] = f"{base}/accounts?index={index + size}&size={size}"
    elif workspace.settings["last_accounts"] == "null":
        data["next"] = None
    return {"data": data}


def account(workspace: Workspace, asked: Asked) -> Record:
    for number in workspace.account_numbers():
        found = workspace.account(number)
        if found["accountId"] == asked.names["id"]:
            return {"data": found}
    raise ApiError(404, "not_found", "not found", shape="text")


def teams(workspace: Workspace, _asked: Asked) -> Record:
    return {"data": [workspace.seed.team(n) for n in range(2)]}


def user_teams(workspace: Workspace, asked: Asked) -> Record:
    wanted = int(asked.names["id"])
    return {"data": [t for n in range(2) if wanted in (t := workspace.seed.team(n))["members"]]}


def playbooks(workspace: Workspace, _asked: Asked) -> list[Record]:
    return [workspace.seed.playbook(n) for n in range(workspace.seed.playbooks)]


# Tokens


def token(workspace: Workspace, asked: Asked) -> Record:
    """POST /oauth2/token: a new access token for the public app's refresh token, as form or JSON."""
    text = asked.body.decode("utf-8", "replace")
    given = asked.json() if text.lstrip().startswith("{") else {k: v[-1] for k, v in parse_qs(text).items()}
    secret = workspace.tokens.secret
    wanted = {"clientId": secret["client_id"], "clientSecret": secret["client_secret"],
              "refreshToken": secret["refresh_token"], "grantType": "refresh_token"}  # fmt: skip
    if any(given.get(k) != v for k, v in wanted.items()):
        raise ApiError(401, "authentication_error", "client or refresh token is not valid")

    seconds = float(workspace.settings["token_seconds"])
    made = {"accessToken": workspace.tokens.issue(list(SCOPES), seconds), "refreshToken": secret["refresh_token"],
            "tokenType": "bearer", "expiresIn": int(seconds), "orgId": 12_345}  # fmt: skip
    if workspace.settings["oauth_spelling"] == "camel":
        return made
    return {re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), k) if k != "orgId" else k: v for k, v in made.items()}


def token_info(workspace: Workspace, asked: Asked) -> Record:
    """POST /app/token_info: what a token may do; fields beyond the scopes are not confirmed."""
    given = asked.json()
    grant = workspace.tokens.grant(str(given.get("accessToken", ""))) if isinstance(given, dict) else None
    if grant is None:
        raise ApiError(401, "authentication_error", "the token is not valid")
    return {"orgId": 12_345, "tokenType": "bearer", "scope": " ".join(sorted(grant.scopes))}


Handler = Callable[[Workspace, Asked], Any]
_ID = r"(?P<id>\d{1,18})"
#: Kind (for counts and faults), method, path, scopes of which one is needed (none: no token), handler.
ROUTES: list[tuple[str, str, re.Pattern[str], tuple[str, ...], Handler]] = [
    (kind, method, re.compile(path + "/?"), scopes, handler)
    for kind, method, path, scopes, handler in (
        ("conversations", "GET", "/conversations/list", ("conversation_read",), conversations),
        ("stats", "GET", "/conversations/stats", ("conversation_read",), stats),
        ("conversation", "GET", f"/conversations/{_ID}", ("conversation_read",), conversation),
        ("messages", "GET", f"/conversations/{_ID}/messages", ("conversation_read",), messages),
        ("transcript", "GET", f"/conversations/{_ID}/transcript", ("conversation_read",), transcript),
        ("json_transcript", "GET", f"/conversations/{_ID}/json_transcript", ("conversation_read",), json_transcript),
        ("attachment", "GET", f"/attachments/{_ID}/data", ("conversation_read",), attachment),
        ("reports", "POST", "/reports/(?:conversations|conversation-summary)", ("conversation_read",), report),
        ("users", "GET", "/users/list", ("user_read",), users),
        ("user", "GET", f"/users/{_ID}", ("user_read",), user),
        ("users_map", "GET", "/users", ("user_read",), users_map),
        ("contact_attributes", "GET", "/contacts/attributes", ("contact_read", "all_contact_read"), contact_attributes),
        ("contact", "GET", f"/contacts/{_ID}", ("contact_read", "all_contact_read"), contact),
        ("contacts", "GET", "/contacts", ("contact_read", "all_contact_read"), contacts),
        ("accounts", "GET", "/accounts", ("account_read",), accounts),
        ("account", "GET", r"/accounts/(?P<id>[^/]+)", ("account_read",), account),
        ("teams", "GET", "/teams/org", ("user_read",), teams),
        ("user_teams", "GET", f"/teams/users/{_ID}", ("user_read",), user_teams),
        ("playbooks", "GET", "/playbooks/list", ("playbook_read",), playbooks),
        ("token", "POST", "/oauth2/token", (), token),
        ("token_info", "POST", "/app/token_info", (), token_info),
    )
]
