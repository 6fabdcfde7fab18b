"""Do the counts of a run add up, and do source and warehouse agree? Facts in, comparisons and sentences out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from novade_core.errors import VerificationFailed
from novade_core.ledger.models import ComparisonState
from novade_core.ledger.writer import Counts
from novade_core.streams import LandedFile, LoadResult

#: Keys that a comparison names at most; the counts are complete all the same.
MAX_KEYS = 1_000


def check_sums(manifests: Sequence[LandedFile], results: Sequence[LoadResult]) -> None:
    """read = loaded + unchanged + superseded + duplicates + rejected, manifest by manifest.

    Raises VerificationFailed that names the manifest: its rows are registered, the load's marker is in the
    warehouse, and the two must say the same, also when the load had nothing to do.
    """
    by_id = {r.load_id: r for r in results}
    for manifest in manifests:
        result = by_id.get(manifest.load_id)
        if result is None:
            raise VerificationFailed(f"{manifest.manifest_path} has no load marker in the warehouse.")
        parts = result.loaded + result.unchanged + result.superseded + result.duplicates
        if parts != manifest.rows or result.staged != manifest.rows:
            raise VerificationFailed(
                f"{manifest.manifest_path} holds {manifest.rows:,} rows, but the warehouse accounts for {parts:,} "
                f"of {result.staged:,} staged."
            )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Keys by which two sides differ; ``*_total`` may exceed the keys that are named."""

    missing: tuple[str, ...] = ()  #: at the source, not in the warehouse
    extra: tuple[str, ...] = ()  #: in the warehouse, not at the source
    missing_total: int = 0
    extra_total: int = 0
    skipped: int = 0  #: windows whose keys were too many; their counts are in the totals


@dataclass
class KeyDifference:
    """Compares the keys of windows one after the other, holding one window's keys at a time."""

    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    missing_total: int = 0
    extra_total: int = 0
    skipped: int = 0

    def skip(self, source: int, warehouse: int) -> None:
        """A window that is compared by count only."""
        self.skipped += 1
        self.missing_total += max(0, source - warehouse)
        self.extra_total += max(0, warehouse - source)

    def add(self, source: Iterable[str], warehouse: Iterable[str]) -> None:
        """Compare one window."""
        there = set(source)
        extra = []
        for key in warehouse:
            if key in there:
                there.discard(key)
            else:
                extra.append(key)
        self.missing_total += len(there)
        self.extra_total += len(extra)
        self.missing += sorted(there)[: MAX_KEYS - len(self.missing)]
        self.extra += sorted(extra)[: MAX_KEYS - len(self.extra)]

    def result(self) -> Difference:
        """What was found so far."""
        return Difference(
            missing=tuple(self.missing),
            extra=tuple(self.extra),
            missing_total=self.missing_total,
            extra_total=self.extra_total,
            skipped=self.skipped,
        )


def by_month(source: Mapping[str, int], warehouse: Mapping[str, int]) -> list[Counts]:
    """One comparison per month that either side knows."""
    counts = []
    for month in sorted(source.keys() | warehouse.keys()):
        there, here = source.get(month, 0), warehouse.get(month, 0)
        state = ComparisonState.EQUAL if there == here else ComparisonState.DIFFERS
        counts.append(
            Counts(
                window=month,
                source=there,
                warehouse=here,
                state=state,
                sentence=f"{month}: {there:,} at the source, {here:,} in the warehouse.",
            )
        )
    return counts


def overall(label: str, source: int | None, warehouse: int | None, in_flight: int) -> Counts:
    """The comparison of whole counts; ``in_flight`` records changed at the source after they were read."""
    if source is None or warehouse is None:
        side = "source" if source is None else "warehouse"
        sentence, state = f"The {side} could not be counted.", ComparisonState.UNKNOWN
    elif source == warehouse:
        sentence, state = f"Equal: {source:,} on both sides.", ComparisonState.EQUAL
    elif abs(source - warehouse) <= in_flight:
        sentence = (
            f"{_records(in_flight)} of {label} changed at the source since they were read; the next sync brings them."
        )
        state = ComparisonState.IN_FLIGHT
    else:
        sentence = f"{source:,} at the source, {warehouse:,} in the warehouse ({warehouse - source:+,})."
        state = ComparisonState.DIFFERS
    return Counts(window="all", source=source, warehouse=warehouse, state=state, sentence=sentence)


def name_difference(label: str, difference: Difference) -> str:
    """The difference as a sentence with the first keys by name."""
    parts = []
    if difference.extra_total:
        parts.append(
            f"{_records(difference.extra_total)} of {label} in the warehouse no longer at the source "
            f"(purged there){_some(difference.extra)}"
        )
    if difference.missing_total:
        parts.append(
            f"{_records(difference.missing_total)} of {label} at the source not in the warehouse"
            f"{_some(difference.missing)}"
        )
    if not parts:
        return "The keys agree by now: records changed while they were counted."
    if difference.skipped:
        months = "1 month" if difference.skipped == 1 else f"{difference.skipped} months"
        parts.append(f"{months} too large to compare by key")
    return "; ".join(parts) + "."


def _records(number: int) -> str:
    return "1 record" if number == 1 else f"{number:,} records"


def _some(keys: Sequence[str]) -> str:
    if not keys:
        return ""
    return ": " + ", ".join(keys[:3]) + (" …" if len(keys) > 3 else "")
