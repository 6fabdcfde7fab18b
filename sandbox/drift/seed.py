"""Seeded records, each a pure function of the seed and its number, so that any size costs four columns of numbers.

Shapes after devdocs.drift.com (models of conversation, message, contact, user, account, team). All instants are epoch
milliseconds; ids lie above 2^31, as the real ones do.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import words

Record = dict[str, Any]
Numbers = NDArray[np.int64]

ORG = 12_345
CONVERSATIONS, CONTACTS, MESSAGES, USERS, PLAYBOOKS, DOCUMENTS = (
    3_782_700_000, 17_035_500_000, 900_000_000_000, 240_000, 63_500, 581_000,
)  # fmt: skip
#: Message ids of one conversation lie in a block of this length.
MESSAGE_BLOCK = 1_000_000
#: The contact whose id is also that of a user: authors are unique only together with their type.
SHARED_ID_CONTACT = 2
#: Conversations with a meaning of their own.
MANY_MESSAGES, NO_MESSAGES, UNKNOWN_CONTACT, FULL_PAGE, NO_UPDATED_AT = 3, 4, 6, 7, 8
DAY = 86_400_000
YEARS_OF_DATA = 3
_MASK = (1 << 64) - 1
_A, _B, _C = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def draw(seed: int, salt: int, number: int) -> int:
    """One repeatable 63-bit number (SplitMix64)."""
    value = (seed * _A + salt * _B + (number + 1) * _C) & _MASK
    value = ((value ^ (value >> 30)) * _B) & _MASK
    value = ((value ^ (value >> 27)) * _C) & _MASK
    return (value ^ (value >> 31)) >> 1


def draws(seed: int, salt: int, count: int) -> Numbers:
    """The first `count` numbers of `draw` at once."""
    start = np.uint64((seed * _A + salt * _B) & _MASK)
    value = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_C) + start
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_B)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_C)
    return ((value ^ (value >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


class Seed:
    """The records of one seed, size (conversations) and epoch (milliseconds: nothing seeded is later)."""

    def __init__(self, seed: int, size: int, epoch: int) -> None:
        self.seed, self.size, self.epoch = seed, size, epoch
        self.contacts = max(8, size * 4 // 5)
        self.users = min(60, max(8, size // 200))
        self.accounts = max(12, size // 20)
        self.playbooks = 5

    def draw(self, salt: int, number: int) -> int:
        return draw(self.seed, salt, number)

    def columns(self) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
        """created, updated, contact number (-1: none), messages and status of every seeded conversation."""
        number = np.arange(self.size, dtype=np.int64)
        span = YEARS_OF_DATA * 365 * DAY
        created = self.epoch - span + (number * span) // self.size + draws(self.seed, 1, self.size) % 60_000
        spread = draws(self.seed, 2, self.size)
        lasting = np.where(spread % 20 == 0, spread % (60 * DAY), spread % (3 * 3_600_000)) + 1
        updated = np.minimum(created + lasting, self.epoch - 1)
        contact = draws(self.seed, 3, self.size) % self.contacts
        contact[number % 97 == 5] = -1
        messages = draws(self.seed, 4, self.size) % 9 + 1
        messages[spread % 2_000 == 7] = 420
        status = draws(self.seed, 5, self.size) % 3
        # A playbook sends to thirty people in one millisecond: more than a page shares one updatedAt.
        blast = (number % 250 >= 20) & (number % 250 < 50)
        first = number - (number % 250 - 20)
        created[blast] = created[first[blast]]
        updated[blast] = created[blast]
        messages[blast], status[blast] = 1, 3
        for at, count in ((MANY_MESSAGES, 130), (NO_MESSAGES, 0), (FULL_PAGE, 50)):
            messages[at] = count
        contact[UNKNOWN_CONTACT] = self.contacts + 1_000_000
        updated[NO_UPDATED_AT] = created[NO_UPDATED_AT]
        return created, updated, contact, messages, status

    # Conversations and their messages

    def conversation(self, number: int) -> Record:
        """What only the single record says: participants, tags, playbook. Each may be missing."""
        made: Record = {}
        if number % 7:
            count = 1 + self.draw(10, number) % 3
            made["participants"] = sorted({self.user_id(self.draw(11 + k, number) % self.users) for k in range(count)})
        if number % 3 == 0:
            some = words.TAGS[self.draw(14, number) % len(words.TAGS) :][:2]
            made["conversationTags"] = [{"color": color, "name": name} for color, name in some]
        if number % 4 == 1:
            playbook = PLAYBOOKS + self.draw(15, number) % self.playbooks
            # The documented sample has a number, a widespread connector's schema a text.
            made["relatedPlaybookId"] = str(playbook) if number % 40 == 1 else playbook
        return made

    def message(self, number: int, place: int, *, contact: int, at: int) -> Record:
        """Message `place` of a conversation, sent at `at`; contact -1 stands for a visitor nobody knows."""
        h = self.draw(20 + place, number)
        made: Record = {
            "id": MESSAGES + number * MESSAGE_BLOCK + place,
            "orgId": ORG,
            "conversationId": CONVERSATIONS + number,
            "body": self._body(number, place, h),
            "type": "chat",
            "createdAt": at,
        }
        if place % 3 == 0:
            made["author"] = {"id": self.user_id(0), "type": "user", "bot": True}
            made["buttons"] = [
                {"label": "Book a <b>demo</b>", "value": "demo", "type": "reply", "style": "primary",
                 "reaction": {"type": "delete", "message": "Great 🎉"}}
            ]  # fmt: skip
        elif place % 3 == 1 and contact >= 0:
            made["author"] = {"id": self.contact_id(contact), "type": "contact"}
            made["context"] = {"ip": f"203.0.113.{h % 255}, 10.0.0.{h % 7}", "userAgent": "Mozilla/5.0 (X11; Linux)"}
        elif place % 3 == 2:
            made["author"] = {"id": self.user_id(h % self.users), "type": "user", "bot": False}
        if h % 11 == 0:
            made["attributes"] = {
                "preMessages": [{"body": "Welcome back!", "sender": {"id": 1, "nested": [[1], {"a": {"b": [None]}}]}}],
                "developer_app_id": 1_000 + h % 9,
            }
        if h % 13 == 0:
            made["type"] = ("private_note", "private_prompt", "suggestion")[h % 3]
        if h % 29 == 0 and place:
            made.update(type="edit", editedMessageId=made["id"] - 1, editType="replace")
        if h % 17 == 0:
            document = DOCUMENTS + number * 1_000 + place
            made["attachments"] = [
                {"id": document, "fileName": "../quote <1>.pdf", "mimeType": "application/pdf",
                 "url": f"https://driftapi.com/attachments/{document}/data"}
            ]  # fmt: skip
        return made

    def _body(self, number: int, place: int, h: int) -> str:
        text = words.TEXTS[h % len(words.TEXTS)]
        # One long text per few hundred, beyond every NVARCHAR(4000).
        return (
            (text or "é ") * (20_000 // max(1, len(text)))
            if (number, place) == (FULL_PAGE, 1) or h % 509 == 0
            else text
        )

    # People

    def user_id(self, number: int) -> int:
        return USERS + number * 37

    def contact_id(self, number: int) -> int:
        return self.user_id(3) if number == SHARED_ID_CONTACT else CONTACTS + number

    def contact_number(self, contact_id: int) -> int:
        """The number of a contact id; -1 where no contact can have it."""
        if contact_id == self.user_id(3):
            return SHARED_ID_CONTACT
        number = contact_id - CONTACTS
        return -1 if number < 0 or number == SHARED_ID_CONTACT else number

    def email(self, number: int) -> str | None:
        """Every eleventh contact shares its neighbour's address, every ninth has none."""
        if number % 9 == 0:
            return None
        key = number - 1 if number % 11 == 0 and (number - 1) % 9 else number
        return f"person.{key}+drift@company{key % self.accounts}.example"

    def contact(self, number: int, created: int | None = None) -> Record:
        h = self.draw(30, number)
        start = created if created is not None else self.epoch - h % (YEARS_OF_DATA * 365 * DAY) - 1
        seen = min(self.epoch - 1, start + h % (90 * DAY)) if created is None else created
        page = words.PAGES[h % len(words.PAGES)]
        version = 1 + h % 20_000
        city = {"city": "Zürich", "region": "", "countryName": "Switzerland", "latitude": 47.3769, "longitude": 8.5417}
        attributes: Record = {
            "name": words.NAMES[number % len(words.NAMES)],
            "start_date": start,
            "last_active": seen,
            "events": {} if h % 3 else {"Clicked <b>CTA</b>": seen},
            "socialProfiles": {} if h % 5 else {"twitter": {"handle": "@x", "followers": h % 900}},
            "tags": [{"name": "vip"}] if h % 6 == 0 else [],
            "recent_entrance_page_url": page,
            "recent_entrance_page_title": "Page – Title",
            "original_ip": f"198.51.100.{h % 255}",
            "ip": f"198.51.100.{h % 255},203.0.113.{h % 99}",
            # Location arrives as JSON inside a text; three spellings of one version counter.
            "last_context_location": json.dumps(city, ensure_ascii=False),
            "_END_USER_VERSION": version,
            "_end_user_version": version,
            "_calculated_version": version,
            "_classification": words.CLASSIFICATIONS[h % len(words.CLASSIFICATIONS)],
            "vip_customer": bool(h % 2),
        }
        email = self.email(number)
        if email is not None:
            attributes["email"] = email
        if h % 4 == 0:
            attributes["phone"] = f"+49 30 {h % 10_000_000}"
        if h % 3 == 0:
            attributes["externalId"] = number if h % 2 else f"ext-{number}"
        if number == 5:
            attributes.update(
                score=12345678901234567890123456789, ratio=1e308, deep={"a": [{"b": {"c": [1, None, ""]}}]}
            )
        elif h % 8 == 0:
            attributes["score"] = ("high", h % 100, h % 100 + 0.5, None)[h // 8 % 4]
        return {"id": self.contact_id(number), "createdAt": start, "attributes": attributes}

    def user(self, number: int) -> Record:
        created = self.epoch - YEARS_OF_DATA * 365 * DAY + number * DAY
        made: Record = {
            "id": self.user_id(number),
            "orgId": ORG,
            "name": "Bot 🤖" if number == 0 else words.AGENTS[number % len(words.AGENTS)],
            "email": f"agent{number}@novade.example",
            "locale": "en-US",
            "availability": ("AVAILABLE", "OFFLINE", "ON_CALL")[number % 3],
            "role": ("admin", "member", "agent")[number % 3],
            "timeZone": words.ZONES[number % len(words.ZONES)],
            "verified": number % 5 != 4,
            "bot": number == 0,
            "createdAt": created,
            "updatedAt": created + 30 * DAY,
        }
        if number % 2:
            made.update(alias=f"agent{number}", phone="555-0100", avatarUrl=f"https://novade.example/{number}.png")
        return made

    # Companies and the rest

    def account(self, number: int, created: int | None = None) -> Record:
        """Accounts have createDateTime and updateDateTime, not createdAt; the key is a text."""
        at = created if created is not None else self.epoch - (self.accounts - number) * 3_600_000
        domain = f"company{number}.example"
        made: Record = {
            "accountId": f"{123_000 + number}_{domain}",
            "ownerId": self.user_id(number % self.users),
            "name": words.COMPANIES[number % len(words.COMPANIES)],
            "domain": domain,
        }
        if number % 10 != 9:
            made.update(deleted=False, targeted=number % 2 == 0, createDateTime=at, updateDateTime=at)
        if number % 3 == 0:
            made["customProperties"] = [
                {"label": "Seats", "name": "seats", "value": number * 10, "type": "NUMBER"},
                {"label": "Note", "name": "note", "value": "<i>x</i>" if number % 2 else None, "type": "STRING"},
            ]
        return made

    def team(self, number: int) -> Record:
        return {
            "id": 1_001 + number,
            "orgId": ORG,
            "workspaceId": "ws-abc-123",
            "name": ("Sales Team", "Support <Team>")[number],
            "updatedAt": self.epoch - 300 * DAY,
            "members": [self.user_id(n) for n in range(1, self.users) if n % 2 == number],
            "owner": self.user_id(1 + number),
            "status": "ENABLED",
            "main": number == 0,
            "autoOffline": number == 1,
            "teamCsatEnabled": number == 0,
            "teamAvailabilityMode": ("ALWAYS_ONLINE", "CUSTOM_HOURS")[number],
            "responseTimerEnabled": number == 0,
        }

    def playbook(self, number: int) -> Record:
        return {
            "id": PLAYBOOKS + number,
            "orgId": ORG,
            "name": f"Playbook {number} – {words.COMPANIES[number]}",
            "meta": {},
            "createdAt": self.epoch - 700 * DAY,
            "updatedAt": self.epoch - 100 * DAY,
            "createdAuthorId": self.user_id(1),
            "updatedAuthorId": self.user_id(2),
            "reportType": "LEADBOT",
            "goals": [],
        }
