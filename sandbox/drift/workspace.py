"""One workspace: seeded records, a journal of changes on top, and the order by updatedAt that readers page through.

The data is seed + journal; both survive a restart. Whoever reads or writes several things at once holds `lock`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import words
from .faults import SETTINGS, Faults, RateLimit
from .seed import CONVERSATIONS, MESSAGE_BLOCK, MESSAGES, NO_UPDATED_AT, ORG, Numbers, Record, Seed
from .tokens import Tokens


class Workspace:
    """A Drift workspace in a folder.

    `size` is the number of conversations, `epoch` the newest instant of the seeded data in epoch milliseconds. The
    same folder must be opened with the same size, seed and epoch: the journal is written on top of them.
    """

    def __init__(self, folder: Path, *, size: int, seed: int, epoch: int) -> None:
        if size < 10:
            raise ValueError("a Drift workspace holds at least 10 conversations")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lock = threading.RLock()
        self.faults = Faults()
        self.settings: dict[str, Any] = dict(SETTINGS)
        self.limit = RateLimit()
        self.tokens = Tokens(folder / "credentials.json")
        self.stats: dict[str, int] = {}
        self.seed = Seed(seed, size, epoch)
        self.journal = folder / "journal.jsonl"
        self._start()
        if self.journal.exists():
            for line in self.journal.read_text("utf-8").splitlines():
                self._apply(json.loads(line))

    def _start(self) -> None:
        self.created, self.updated, self.contact_of, self.message_count, self.status = self.seed.columns()
        self.ended = self.updated.copy()
        self.alive = np.ones(len(self.created), dtype=np.bool_)
        self.entries = 0
        self.last_stamp = self.seed.epoch
        self.edits: dict[tuple[str, int], Record] = {}
        self.sent: dict[int, list[Record]] = {}
        self.new_contacts: dict[int, int] = {}
        self.new_accounts: dict[int, int] = {}
        self.gone: dict[int, str] = {}
        self.blocked: set[int] = set()
        self._order: Numbers | None = None

    def reset(self) -> None:
        """Back to the data as seeded."""
        with self.lock:
            self.journal.unlink(missing_ok=True)
            self._start()

    # Changes

    def stamp(self) -> int:
        """Now in epoch milliseconds, later than every stamp before."""
        with self.lock:
            self.last_stamp = max(int(time.time() * 1000), self.last_stamp + 1)
            return self.last_stamp

    def record(self, **entry: Any) -> None:
        """Write one change to the journal and make it."""
        with self.lock:
            with self.journal.open("a", encoding="utf-8") as out:
                out.write(json.dumps(entry) + "\n")
            self._apply(entry)

    def _apply(self, entry: dict[str, Any]) -> None:
        self.entries += 1
        at = int(entry["at"])
        self.last_stamp = max(self.last_stamp, at)
        number = int(entry["number"])
        kind = entry["kind"]
        if kind == "conversation":
            for name, value in (("created", at), ("updated", at), ("contact_of", entry["contact"]),
                                ("message_count", 2), ("status", 0)):  # fmt: skip
                setattr(self, name, np.append(getattr(self, name), np.int64(value)))
            self.alive = np.append(self.alive, np.True_)
        elif kind == "message":
            self.sent.setdefault(number, []).append(entry["message"])
            self.updated[number] = at
        elif kind == "touch":
            self.updated[number] = at
            self.edits.setdefault(("conversation", number), {}).update(entry.get("values", {}))
        elif kind == "contact":
            self.new_contacts[number] = at
        elif kind == "account":
            self.new_accounts[number] = at
        elif kind == "contact_deleted":
            self.gone[number] = entry["conversations"]
            if entry["conversations"] == "removed":
                self.alive[self.contact_of == number] = False
        elif kind == "contact_blocked":
            self.blocked.add(number)
        else:
            self.edits.setdefault((kind.removesuffix("_edited"), number), {}).update(entry["values"])
        self._order = None

    # Conversations

    def order(self, statuses: set[str] | None = None) -> Numbers:
        """Numbers of the living conversations, latest updatedAt first."""
        with self.lock:
            if self._order is None:
                newest = np.lexsort((np.arange(len(self.updated)), self.updated))[::-1]
                self._order = newest[self.alive[newest]].astype(np.int64)
            if statuses is None:
                return self._order
            wanted = np.array([words.STATUSES.index(s) for s in statuses], dtype=np.int64)
            return self._order[np.isin(self.status[self._order], wanted)]

    def conversation_number(self, conversation_id: int) -> int:
        """The number of a living conversation, or -1."""
        number = conversation_id - CONVERSATIONS
        return number if 0 <= number < len(self.alive) and self.alive[number] else -1

    def conversation(self, number: int, *, whole: bool = False) -> Record:
        """A row of the list, or the whole single record."""
        made: Record = {"id": CONVERSATIONS + number}
        contact = int(self.contact_of[number])
        if contact >= 0:
            made["contactId"] = self.seed.contact_id(contact)
        made["inboxId"] = 62_491 + number % 3
        made["status"] = words.STATUSES[int(self.status[number])]
        made["createdAt"] = int(self.created[number])
        if number != NO_UPDATED_AT or self.updated[number] != self.created[number]:
            made["updatedAt"] = int(self.updated[number])
        edited = self.edits.get(("conversation", number), {})
        if whole:
            made.update(self.seed.conversation(number))
            made.update({k: v for k, v in edited.items() if k != "status"})
        return made

    # Messages

    def count_messages(self, number: int) -> int:
        return int(self.message_count[number]) + len(self.sent.get(number, ()))

    def messages(self, number: int, start: int = 0, stop: int | None = None) -> list[Record]:
        """Messages of a conversation, oldest first."""
        seeded = int(self.message_count[number])
        stop = self.count_messages(number) if stop is None else min(stop, self.count_messages(number))
        contact = int(self.contact_of[number])
        begun = int(self.created[number])
        # The last message is what moved updatedAt, once; a message never changes its createdAt afterwards.
        ended = int(self.ended[number]) if number < len(self.ended) else begun
        made = []
        for place in range(start, stop):
            if place < seeded:
                at = begun + (ended - begun) * (place + 1) // seeded
                made.append(self.seed.message(number, place, contact=contact, at=at))
            else:
                made.append(dict(self.sent[number][place - seeded]))
        if self.gone.get(contact) == "anonymised":
            for message in made:
                message["body"] = ""
                message.pop("context", None)
                message.pop("attachments", None)
        return made

    def new_message(self, number: int, at: int) -> Record:
        """The next message of a conversation, not yet sent."""
        place = self.count_messages(number)
        h = self.seed.draw(70, number * 1_000 + place)
        contact = int(self.contact_of[number])
        author = {"id": self.seed.user_id(1), "type": "user", "bot": False}
        if contact >= 0 and place % 2:
            author = {"id": self.seed.contact_id(contact), "type": "contact", "bot": False}
        return {
            "id": MESSAGES + number * MESSAGE_BLOCK + place,
            "orgId": ORG,
            "conversationId": CONVERSATIONS + number,
            "body": words.TEXTS[h % len(words.TEXTS)],
            "type": "chat",
            "author": author,
            "createdAt": at,
        }

    # People and companies

    def contact_state(self, number: int) -> str:
        """`there`, `gone`, `blocked` or `unknown`."""
        if number in self.gone:
            return "gone"
        if number in self.blocked:
            return "blocked"
        return "there" if 0 <= number < self.seed.contacts or number in self.new_contacts else "unknown"

    def contact_numbers(self) -> Iterator[int]:
        """Every contact that can be read."""
        for number in (*range(self.seed.contacts), *self.new_contacts):
            if number not in self.gone and number not in self.blocked:
                yield number

    def contact(self, number: int) -> Record:
        made = self.seed.contact(number, self.new_contacts.get(number))
        made["attributes"].update(self.edits.get(("contact", number), {}))
        return made

    def contacts_with(self, *, email: str | None = None, external: str | None = None) -> list[int]:
        """Contacts with exactly this address or external id; addresses are not unique."""
        edited = [n for kind, n in self.edits if kind == "contact"]
        near: set[int] = {*edited, *self.new_contacts}
        if email is not None and email.startswith("person."):
            key = email.removeprefix("person.").split("+")[0]
            near |= {int(key), int(key) + 1} if key.isdecimal() and len(key) < 12 else set()
        elif external is not None:
            key = external.removeprefix("ext-")
            near |= {int(key)} if key.isdecimal() and len(key) < 12 else set()
        found = []
        for number in sorted(near):
            if self.contact_state(number) != "there":
                continue
            attributes = self.contact(number)["attributes"]
            if email is not None and attributes.get("email") == email:
                found.append(number)
            if external is not None and str(attributes.get("externalId", "")) == external:
                found.append(number)
        return found

    def user(self, number: int) -> Record:
        return {**self.seed.user(number), **self.edits.get(("user", number), {})}

    def account_numbers(self) -> list[int]:
        return [*range(self.seed.accounts), *self.new_accounts]

    def account(self, number: int) -> Record:
        made = self.seed.account(number, self.new_accounts.get(number))
        return {**made, **self.edits.get(("account", number), {})}

    def secrets_toml(self, endpoint: str, ca_file: str) -> str:
        """The section of the secrets file with which a client reaches this workspace."""
        secret = self.tokens.secret
        return f'\n[drift]\naccess_token = "{secret["access_token"]}"\nendpoint = "{endpoint}"\nca_file = "{ca_file}"\n'

    def counts(self) -> dict[str, int]:
        """What is truly there, for tests and for reconciling."""
        with self.lock:
            numbers = np.flatnonzero(self.alive)
            linked = np.unique(self.contact_of[numbers])
            extra = sum(len(sent) for number, sent in self.sent.items() if self.alive[number])
            return {
                "conversations": len(numbers),
                "messages": int(self.message_count[numbers].sum()) + extra,
                "contacts": self.seed.contacts + len(self.new_contacts) - len({*self.gone, *self.blocked}),
                # Contacts cannot be listed: only those that a conversation names can be found.
                "contacts_linked": sum(1 for n in linked if self.contact_state(int(n)) == "there"),
                "contacts_deleted": len(self.gone),
                "contacts_blocked": len(self.blocked - set(self.gone)),
                "users": self.seed.users,
                "accounts": len(self.account_numbers()),
                "accounts_deleted": sum(1 for n in self.account_numbers() if self.account(n).get("deleted")),
                "latest_updated_at": int(self.updated[numbers].max()) if len(numbers) else 0,
            }
