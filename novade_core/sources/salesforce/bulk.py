"""Bulk API 2.0 query jobs: create, wait, read page by page to disk, delete.

Written on top of the client because the library's handler never tells the job's id, cannot renew a session,
cannot download deleted rows, and fails on the 204 of a delete.
Source: Bulk API 2.0 and Bulk API Developer Guide, "Query".
"""

from __future__ import annotations

import csv
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from novade_core.errors import ExtractionLost, NovadeError, QuotaReserved, RetryableError, TransferBroken
from novade_core.sources.salesforce.client import Client
from novade_core.sources.salesforce.faults import Answer, fault
from novade_core.streams import Batch, TextFile

_log = logging.getLogger(__name__)


class BulkReader:
    """Reads one query through a job. Nothing larger than one page is ever held."""

    def __init__(self, client: Client, temp: Path) -> None:
        self._client = client
        self._temp = temp
        self.jobs = 0
        self._limits_checked = False

    def read(self, soql: str, names: Sequence[str], resume: Mapping[str, Any] | None) -> Iterator[Batch]:
        """Pages of the query, deleted records included. ``resume`` names job and locator of the next page."""
        if resume is None:
            job, locator = self._create(soql), ""
            self._wait(job)
        else:
            job, locator = str(resume["job"]), str(resume["locator"])
            self._wait(job)
        page = int(resume["page"]) if resume else 0
        while True:
            with self._page(job, locator, page, names) as (batch, following):
                if batch is not None:
                    yield batch
            if not following:
                break
            locator, page = following, page + 1
        # Only now: whoever asked has registered the last page, so nobody needs the job any more.
        self._delete(job)

    def _create(self, soql: str) -> str:
        self._check_limits()
        body = {
            "operation": "queryAll",
            "query": soql,
            "contentType": "CSV",
            "columnDelimiter": "COMMA",
            "lineEnding": "LF",
        }
        job = self._client.json("POST", "jobs/query", "creating a bulk query job", json=body)
        self.jobs += 1
        return str(job["id"])

    def _check_limits(self) -> None:
        """Ask /limits once, before the first job; a user who may not see it goes on without."""
        if self._limits_checked:
            return
        self._limits_checked = True
        try:
            limits = self._client.json("GET", "limits", "reading the limits")
        except RetryableError:
            raise
        except NovadeError as error:
            _log.info("salesforce limits not readable: %s", error.kind)
            return
        left = (limits.get("DailyBulkV2QueryJobs") or {}).get("Remaining")
        if left is not None and int(left) <= 0:
            raise QuotaReserved(
                "Salesforce allows no more bulk query jobs today.",
                hint="Wait until the rolling 24-hour allocation frees jobs, or set the stream's transport to rest.",
            )

    def _wait(self, job: str) -> None:
        """Poll until the job is complete, ever more slowly; a failed or aborted job is an error by its message."""
        pause = self._client.settings.poll_seconds
        deadline = time.monotonic() + self._client.settings.job_timeout_minutes * 60
        while True:
            state = self._client.json("GET", f"jobs/query/{job}", f"waiting for bulk job {job}")
            match state["state"]:
                case "JobComplete":
                    return
                case "Failed":
                    text = str(state.get("errorMessage") or "no reason given")
                    self._delete(job)
                    error = fault(
                        Answer(status=400, code=text.partition(":")[0].strip(), text=text), f"running bulk job {job}"
                    )
                    if text == "no reason given":
                        error = ExtractionLost(f"Salesforce reports bulk job {job} as failed and gives no reason.")
                    raise error
                case "Aborted":
                    raise ExtractionLost(f"Bulk job {job} was aborted at Salesforce.")
            if time.monotonic() >= deadline:
                self._abort(job)
                raise ExtractionLost(
                    f"Bulk job {job} did not finish within {self._client.settings.job_timeout_minutes} minutes.",
                    hint="Raise salesforce.job_timeout_minutes or lower salesforce.window_rows.",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, self._client.settings.poll_seconds * 10)

    @contextmanager
    def _page(self, job: str, locator: str, page: int, names: Sequence[str]) -> Iterator[tuple[Batch | None, str]]:
        """One page on disk, and the locator of the next one ("" at the end); the file goes when the caller is done.

        Pages are repeatable while the job lives, so a broken download is fetched again.
        """
        what = f"page {page} of bulk job {job}"
        with tempfile.NamedTemporaryFile(dir=self._temp, prefix="page-", suffix=".csv") as file:
            path = Path(file.name)

            def once() -> tuple[int, str, int]:
                announced, following, size = self._download(job, locator, page, path)
                if announced and not size:
                    raise TransferBroken(f"{what.capitalize()} announces {announced} records and is empty.")
                return announced, following, size

            announced, following, size = self._client.retrying(once)
            if not announced:
                yield None, following
                return
            resume = {"mode": "bulk", "job": job, "locator": following, "page": page + 1} if following else None
            # Bulk writes NULL and empty text alike; Salesforce itself stores empty text as NULL.
            text = TextFile(path=path, header=self._header(path, names, what), quoted_empty_is_null=True)
            yield Batch(text=text, resume=resume, rows=announced, bytes_in=size), following

    def _download(self, job: str, locator: str, page: int, path: Path) -> tuple[int, str, int]:
        """Stream a page to disk without NUL bytes; answers announced records, next locator and bytes."""
        parameters: dict[str, Any] = {"maxRecords": self._client.settings.bulk_page_rows}
        if locator:
            parameters["locator"] = locator
        doing = f"reading page {page} of bulk job {job}"
        size = 0
        with self._client.stream("GET", f"jobs/query/{job}/results", doing, params=parameters) as response:
            with path.open("wb") as file:
                for block in response.iter_content(1 << 20):
                    # NUL occurs in real data and breaks CSV readers.
                    file.write(block.replace(b"\0", b"") if b"\0" in block else block)
                    size += len(block)
                    self._client.bytes_in += len(block)
            count = response.headers.get("Sforce-NumberOfRecords")
            following = response.headers.get("Sforce-Locator", "")
        # At the end the locator is the word null, not an absent header.
        if count is None:
            raise TransferBroken(f"Salesforce did not announce the number of records of page {page} of bulk job {job}.")
        return int(count), ("" if following == "null" else following), size

    @staticmethod
    def _header(path: Path, names: Sequence[str], what: str) -> tuple[str, ...]:
        """The page's own header: columns are mapped by name, never by place."""
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            header = next(csv.reader(file), [])
        missing = [n for n in names if n not in header]
        if missing or len(set(header)) != len(header):
            raise TransferBroken(
                f"The header of {what} lacks {', '.join(missing[:5]) or 'nothing, but repeats a name'}."
            )
        return tuple(header)

    def _abort(self, job: str) -> None:
        with suppress(NovadeError):
            self._client.json("PATCH", f"jobs/query/{job}", f"aborting bulk job {job}", json={"state": "Aborted"})

    def _delete(self, job: str) -> None:
        """Jobs are never deleted by themselves before seven days; a failure to tidy up does not fail a run."""
        try:
            self._client.json("DELETE", f"jobs/query/{job}", f"deleting bulk job {job}")
        except NovadeError as error:
            _log.info("bulk job %s not deleted: %s", job, error.kind)
