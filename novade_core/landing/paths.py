"""The naming rule: ``{source}/{stream}/{yyyy}/{mm}/{dd}/{run}/part-00000.parquet`` and its companions.

Names that start with ``_`` are skipped by COPY INTO and by external tables when they read a folder.
"""

from __future__ import annotations

from datetime import datetime

from novade_core.streams import Stream


def run_folder(stream: Stream, run_id: int, started_at: datetime) -> str:
    """The folder of one run's files; the day is the run's start in UTC."""
    return f"{stream.source}/{stream.name}/{started_at:%Y/%m/%d}/{run_id}"


def part(folder: str, chunk: int) -> str:
    """A chunk's Parquet file."""
    return f"{folder}/part-{chunk:05d}.parquet"


def manifest(folder: str, chunk: int) -> str:
    """A chunk's manifest."""
    return f"{folder}/_manifest-{chunk:05d}.json"


def rejects(folder: str, chunk: int) -> str:
    """A chunk's rejected records, one JSON object a line."""
    return f"{folder}/_rejects/part-{chunk:05d}.jsonl"
