"""One Amplitude project: its keys, what it holds now, how much of its limits is used."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import envelope, files
from .faults import SETTINGS, Faults
from .generate import Generator, Shape, hour_number

#: Hosts of the two regions. On loopback, the key alone says which project is meant.
HOSTS = {"amplitude.com": "us", "www.amplitude.com": "us", "analytics.eu.amplitude.com": "eu"}
#: The web application: no address of the API answers there.
WEB_APP = "analytics.amplitude.com"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What a client logs in with: HTTP Basic, the API key as user and the secret key as password."""

    api_key: str
    secret_key: str


def keys_of(secret: str, region: str) -> Keys:
    """The keys of a region's project, always the same for the same secret text."""

    def made(what: str) -> str:
        return hashlib.sha256(f"{secret}/{region}/{what}".encode()).hexdigest()[:32]

    return Keys(api_key=made("api key"), secret_key=made("secret key"))


class Spent:
    """Costs of the last hour, and how much is under way at once."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.past: deque[tuple[float, int]] = deque()
        self.busy = 0

    def within(self, seconds: float) -> int:
        """Cost spent in the last seconds."""
        now = self.clock().timestamp()
        while self.past and self.past[0][0] <= now - 3600:
            self.past.popleft()
        return sum(cost for at, cost in self.past if at > now - seconds)

    def spend(self, cost: int, *limits: tuple[float, int]) -> bool:
        """Book a cost, unless one of the limits (seconds, cost) would be passed."""
        with self.lock:
            if any(self.within(seconds) + cost > most for seconds, most in limits):
                return False
            self.past.append((self.clock().timestamp(), cost))
            return True

    def enter(self, cost: int, most: int) -> bool:
        """Take a place among the requests under way."""
        with self.lock:
            if self.busy + cost > most:
                return False
            self.busy += cost
            return True

    def leave(self, cost: int) -> None:
        with self.lock:
            self.busy -= cost


class Project:
    """One project of one region."""

    def __init__(self, region: str, keys: Keys, shape: Shape, clock: Callable[[], datetime]) -> None:
        self.region, self.keys, self.shape = region, keys, shape
        self.generator = Generator(shape)
        self.requests, self.queries, self.taxonomy = Spent(clock), Spent(clock), Spent(clock)
        #: Hours that were written again, with the number of the writing; hours that got a late file.
        self.revisions: dict[int, int] = {}
        self.late: set[int] = set()

    def parts(self, hour: int) -> list[int]:
        """Files of an hour, counted from 0."""
        return list(range(self.shape.files_per_hour + (1 if hour in self.late else 0)))

    def lines_of(self, hours: int) -> int:
        """Lines of so many hours, nearly."""
        return round(hours * self.shape.events_per_hour * 1.011)

    def stored_sql(self, first: int, last: int) -> str:
        """Rows (hh, k, kind, up, rev) of all events stored, once each, uploaded in these hours (both included)."""
        start = hour_number(self.shape.first_hour) if self.shape.first_hour is not None else 0
        first = max(first, start)
        count, far = self.shape.events_per_hour, self.shape.repeat_after_hours
        changed = sorted(h for h in {*self.revisions, *self.late} if first <= h <= last)
        without = f" WHERE hh NOT IN ({', '.join(map(str, changed))})" if changed else ""
        parts = [
            f"SELECT hh, k, 0 AS kind, hh AS up, 0 AS rev FROM range({first}, {last + 1}) a(hh), "  # noqa: S608  our numbers
            f"range({count}) b(k){without}",
            f"SELECT hh, k, 2 AS kind, hh + {far} AS up, 0 AS rev FROM range({max(start, first - far)}, "  # noqa: S608  same
            f"{last - far + 1}) a(hh), range({count}) b(k) "
            f"WHERE hash(k, hh, {self.shape.seed}, 'again') % 1000 BETWEEN 8 AND 10",
        ]
        for hour in changed:
            high = self.generator.bounds(self.shape.files_per_hour)[1] if hour in self.late else count
            parts.append(self.generator.rows_sql(hour, 0, high, self.revisions.get(hour, 0)))
        return " UNION ALL ".join(parts)

    def facts(self, first: int, last: int) -> str:
        """The facts of all events stored in these hours, to go on with SELECT ... FROM facts."""
        return envelope.facts_sql(self.shape, self.stored_sql(first, last))


class Amplitude:
    """Both projects, one of each region, and how the service behaves now."""

    def __init__(
        self,
        shape: Shape,
        secret: str,
        *,
        clock: Callable[[], datetime] | None = None,
        cache: Path | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        """`secret` decides the keys. `cache`: a folder in which files once made are kept, up to `cache_bytes`."""
        self.clock = clock or (lambda: datetime.now(UTC))
        self.faults = Faults()
        self.settings: dict[str, Any] = dict(SETTINGS)
        self.stats: Counter[str] = Counter()
        self.cache, self.cache_bytes = cache, cache_bytes
        eu = replace(shape, seed=shape.seed + 1, project_id=shape.project_id + 1)
        self.projects = {
            region: Project(region, keys_of(secret, region), made, self.clock)
            for region, made in (("us", shape), ("eu", eu))
        }
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def secrets_toml(self, url: str, ca_file: str) -> str:
        """The US project's keys in the form of the console's secrets file."""
        keys = self.projects["us"].keys
        return (
            "\n[amplitude]\n"
            f'api_key = "{keys.api_key}"\n'
            f'secret_key = "{keys.secret_key}"\n'
            f'endpoint = "{url}"\n'
            f'ca_file = "{ca_file}"\n'
        )

    def event_file(self, project: Project, hour: int, part: int, faults: tuple[str, ...]) -> Iterator[bytes]:
        """One gzip file, from the cache where it is there; a file with faults is never kept."""
        revision = project.revisions.get(hour, 0)
        fresh = files.event_file(project.generator, hour, part, revision, faults)
        if self.cache is None or faults:
            return fresh
        shape = hashlib.sha256(repr(project.shape).encode()).hexdigest()[:16]
        return self._kept(self.cache / f"{shape}-{hour}-{part}-{revision}.json.gz", fresh)

    def _kept(self, path: Path, fresh: Iterator[bytes]) -> Iterator[bytes]:
        if path.exists():
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    yield piece
            return
        if sum(p.stat().st_size for p in path.parent.glob("*.json.gz")) > self.cache_bytes:
            yield from fresh
            return
        draft = path.with_name(f".{path.name}.{threading.get_ident()}")
        try:
            with draft.open("wb") as file:
                for piece in fresh:
                    file.write(piece)
                    yield piece
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
