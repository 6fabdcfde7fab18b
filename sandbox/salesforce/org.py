"""The running org: its store plus everything that lives only while the server runs."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from . import soql
from .errors import ApiError
from .faults import SETTINGS, Faults
from .ids import make_id
from .plan import Plan
from .planner import build_plan
from .schema import SObject
from .store import Store

DOMAIN = "novade-sandbox.my"
USERNAME = "integration@novade.sandbox"
#: Password of the integration user, for the password flow only.
PASSWORD = "sandbox-password"  # noqa: S105  not a secret: the whole org is made up
INSTANCE_URL = f"https://{DOMAIN}.salesforce.com"
ORGANIZATION_ID = make_id("00D", 40000001)
VERSIONS = [f"{n}.0" for n in range(47, 65)]


class Stats:
    """How often each kind of request came, for tests that ask "did it fetch that page again?"."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.bulk_pages: list[dict[str, str]] = []
        self.log: list[str] = []

    def count(self, kind: str) -> None:
        with self.lock:
            self.counts[kind] += 1

    def page(self, job: str, locator: str) -> None:
        with self.lock:
            self.bulk_pages.append({"job": job, "locator": locator})

    def show(self) -> dict[str, Any]:
        with self.lock:
            return {"requests": dict(self.counts), "bulk_pages": list(self.bulk_pages)}

    def clear(self) -> None:
        with self.lock:
            self.counts.clear()
            self.bulk_pages.clear()


class Quota:
    """API calls of the rolling day; the header shows it, at the end every call is refused."""

    def __init__(self, allowed: int = 100_000) -> None:
        self.lock = threading.Lock()
        self.max = allowed
        self.used = 0

    def spend(self) -> None:
        with self.lock:
            if self.used >= self.max:
                raise ApiError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
            self.used += 1

    def header(self, app_name: str) -> str:
        text = f"api-usage={self.used}/{self.max}"
        return f"{text}; per-app-api-usage={self.used}/{self.max}(appName={app_name})" if app_name else text


class Org:
    """One Salesforce org with its sessions, jobs, faults and limits."""

    def __init__(
        self,
        store: Store,
        *,
        consumer_key: str,
        consumer_secret: str,
        public_key: RSAPublicKey,
        page_size_bulk: int,
        idmap: dict[str, dict[str, str]],
        epoch: str,
    ) -> None:
        self.store = store
        #: Local ids of an org loaded from a folder: object -> {local id: record id}.
        self.idmap = idmap
        self.epoch = epoch
        users = store.rows('SELECT Id FROM "User" ORDER BY rowid LIMIT 1') if "User" in store.objects else []
        self.user_id: str = users[0][0] if users else make_id("005", 40000002)
        self.consumer_key = consumer_key
        self.consumer_secret = consumer_secret
        self.public_key = public_key
        self.faults = Faults()
        self.settings: dict[str, Any] = {**SETTINGS, "page_size_bulk": page_size_bulk}
        self.default_settings = dict(self.settings)
        self.quota = Quota()
        self.stats = Stats()
        self.tokens: dict[str, float] = {}
        self.lock = threading.Lock()
        #: Query cursors and bulk jobs, owned by `rest` and `bulk`.
        self.cursors: dict[str, Any] = {}
        self.jobs: dict[str, Any] = {}
        self.started = datetime.now(UTC)
        #: When the schema was last changed, for conditional describes.
        self.schema_changed = self.started.replace(microsecond=0)
        self._numbers = int(time.time() * 1000) % 62**5

    # -- sessions

    def new_token(self) -> str:
        token = f"{ORGANIZATION_ID[:15]}!AQ{secrets.token_urlsafe(60).replace('-', '.')}"
        with self.lock:
            self.tokens[token] = time.monotonic()
        return token

    def check_token(self, header: str) -> None:
        token = header.removeprefix("Bearer ").removeprefix("OAuth ").strip()
        with self.lock:
            born = self.tokens.get(token)
        if born is None or time.monotonic() - born > float(self.settings["token_seconds"]):
            raise session_expired()

    def end_sessions(self) -> None:
        with self.lock:
            self.tokens.clear()

    def decode_assertion(self, assertion: str) -> dict[str, Any]:
        """Claims of a JWT signed with our key; time and audience are checked by the caller, in Salesforce's words."""
        return jwt.decode(
            assertion,
            self.public_key,
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_aud": False, "verify_iat": False, "verify_nbf": False},
        )

    # -- objects

    def visible_objects(self) -> dict[str, SObject]:
        gone = self.faults.names("unreadable")
        return {n: t for n, t in self.store.objects.items() if not t.hidden and n.lower() not in gone}

    def visible(self, name: str) -> SObject:
        """The object by any spelling, or the 404 of a resource that is not there."""
        for thing in self.visible_objects().values():
            if thing.name.lower() == name.lower():
                return thing
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")

    def plan(self, text: str, *, all_rows: bool, bulk: bool = False) -> Plan:
        made = build_plan(soql.parse(text), self.visible_objects(), today=self.today(), all_rows=all_rows, bulk=bulk)
        if bulk and made.entity.name.lower() in self.faults.names("bulk_unsupported"):
            raise ApiError(400, "INVALIDENTITY", f"Entity '{made.entity.name}' is not supported by the Bulk API.")
        return made

    def today(self) -> date:
        return datetime.now(UTC).date()

    def new_id(self, prefix: str) -> str:
        with self.lock:
            self._numbers += 1
            return make_id(prefix, self._numbers)


def session_expired() -> ApiError:
    return ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")
