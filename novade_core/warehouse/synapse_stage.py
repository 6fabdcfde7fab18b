"""Staging of one load on a dedicated SQL pool: landed files by COPY INTO into tables of the load's own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from novade_core.errors import RetryableError
from novade_core.settings import WarehouseSettings
from novade_core.streams import Column, LandedFile, Stream
from novade_core.warehouse import synapse_load_sql as load_sql
from novade_core.warehouse import synapse_sql as sql
from novade_core.warehouse.base import LoadRequest
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_schema import SYNAPSE, definitions, keyed, keys_of, synapse_type
from novade_core.warehouse.synapse_sql import STAGE_SCHEMA, STAGING, Key, Table

_IDENTITIES = {
    "managed_identity": "Managed Identity",
    "key": "Storage Account Key",
    "sas": "Shared Access Signature",
    "none": None,
}


def mark_of(stream: Stream) -> str:
    """What all helper tables of a stream have in their names."""
    slug = re.sub(r"[^a-z0-9]+", "_", stream.name.lower())[:40]
    return f"{slug}_{hashlib.sha256(stream.id.encode()).hexdigest()[:8]}"


def leftovers(stream: Stream, fence: int, names: Sequence[str]) -> list[str]:
    """Of the names of staging tables those of this stream's loads up to our fence: a later holder's are not ours."""
    own = re.compile(re.escape(mark_of(stream)) + r"_f(\d+)_r\d+_\w+")
    return [n for n in names if (found := own.fullmatch(n)) and int(found[1]) <= fence]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Manifests with the same columns: they share a staging table and one COPY."""

    table: Table
    columns: tuple[Column, ...]
    manifests: Sequence[LandedFile]
    urls: Sequence[str]

    @property
    def pieces(self) -> list[load_sql.Piece]:
        """The manifests as their rows name them."""
        return [load_sql.Piece(m.piece, m.seq, m.run_id) for m in self.manifests]


@dataclass
class Stage:
    """The staging tables of one load."""

    link: Link
    settings: WarehouseSettings
    request: LoadRequest
    types: Mapping[str, str]  #: of the target's own columns
    shapes: list[Shape] = field(default_factory=list)
    made: list[Table] = field(default_factory=list)

    @property
    def keys(self) -> list[Key]:
        """The primary key."""
        return keys_of(self.request.stream, self.types)

    @property
    def key_types(self) -> list[str]:
        """Types of the primary key, with collation."""
        defined = definitions(self.request.stream, self.types)
        return [defined[name] for name in self.request.stream.primary_key]

    @property
    def verdicts(self) -> Table:
        """The table of a verdict per staged row."""
        return self._table("verdicts")

    @property
    def kept(self) -> Table:
        """The table of values that rows keep."""
        return self._table("kept")

    def _table(self, part: str) -> Table:
        request = self.request
        return Table(STAGE_SCHEMA, f"{mark_of(request.stream)}_f{request.fence}_r{request.run_id}_{part}")

    def fill(self, fresh: Sequence[int]) -> None:
        """Copy the manifests of these indexes, and see that no row is missing."""
        stream = self.request.stream
        groups: dict[tuple[Column, ...], list[int]] = {}
        for index in fresh:
            groups.setdefault(keyed(stream, self.request.manifests[index].columns), []).append(index)
        for number, (columns, indexes) in enumerate(groups.items()):
            shape = Shape(
                table=self._table(f"rows{number}"),
                columns=columns,
                manifests=[self.request.manifests[i] for i in indexes],
                urls=[url for i in indexes for url in self.request.locations[i]],
            )
            self.shapes.append(shape)
            types = definitions(stream, {c.name: synapse_type(c) for c in columns})
            self.create(shape.table, {**types, **sql.LANDED_COLUMNS})
            if shape.urls:  # a manifest of rejects only has no file
                self._copy(shape)

    def create(self, table: Table, defined: Mapping[str, str]) -> None:
        """A table that ``drop`` takes away again."""
        self.made.append(table)
        self.link.hit(sql.create_table(table, defined, STAGING))

    def _copy(self, shape: Shape) -> None:
        secret = self.settings.copy_secret
        self.link.hit(
            sql.copy_into(
                shape.table,
                [*(c.name for c in shape.columns), *sql.LANDED_COLUMNS],
                shape.urls,
                _IDENTITIES[self.settings.copy_credential],
                secret.get_secret_value() if secret and self.settings.copy_credential in ("key", "sas") else None,
            )
        )
        [(copied,)] = self.link.rows(sql.count_all(shape.table))
        announced = sum(m.rows for m in shape.manifests)
        if copied != announced:
            raise RetryableError(
                f"COPY INTO brought {copied:,} rows of {self.request.stream.id}, where {announced:,} have landed.",
                origin="warehouse",
            )

    def classify(self, held: Table | None, without: Sequence[str] = ()) -> None:
        """Fill the table of verdicts, which is there; manifests whose load id is in ``without`` are left out."""
        staged = [
            (s.table, [p for p, m in zip(s.pieces, s.manifests, strict=True) if m.load_id not in without])
            for s in self.shapes
        ]
        staged = [(table, pieces) for table, pieces in staged if pieces]
        if staged:
            self.link.hit(load_sql.classify(self.verdicts, staged, self.keys, held, self.request.stream.id))

    def parts(self, absent: Sequence[str]) -> list[load_sql.Part]:
        """Where each column of the target comes from, per staging table; ``absent`` in the order of ``kept``."""
        found = []
        texts = {k.name for k in self.keys if k.text}
        for shape in self.shapes:
            origins, answered = SYNAPSE.origins(shape.columns, self.types), SYNAPSE.answered(shape.columns)
            values = [
                load_sql.Value(
                    n,
                    t,
                    origins.get(n),
                    binary=n in texts,
                    kept=f"c{absent.index(n)}" if n in absent and n not in answered else None,
                )
                for n, t in self.types.items()
            ]
            found.append(load_sql.Part(shape.table, values))
        return found

    def drop(self) -> None:
        """Take every table of the load away."""
        for table in reversed(self.made):
            self.link.hit(sql.drop_table(table))
        self.made.clear()
