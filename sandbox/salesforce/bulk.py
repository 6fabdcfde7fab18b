"""Bulk API 2.0 query jobs. A job freezes its rows when it is created; pages can be fetched in any order, repeatedly."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import results
from .errors import ApiError
from .http import Call, Reply, json_reply
from .org import Org
from .render import DELIMITERS, LINE_ENDINGS, csv_header, csv_line
from .results import ResultSet

FINAL = ("JobComplete", "Failed", "Aborted")


@dataclass
class Job:
    """One query job as the service keeps it."""

    id: str
    operation: str
    entity: str
    created_by: str
    version: str
    delimiter: str
    ending: str
    result: ResultSet | None
    state: str = "UploadComplete"
    error: str | None = None
    #: What it will become, and after how many more polls.
    outcome: str = "JobComplete"
    polls_left: int = 0
    seconds: float = 0.0
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    touched: datetime = field(default_factory=lambda: datetime.now(UTC))

    def move(self) -> None:
        """One step of its life, taken when somebody looks: queued, running, done."""
        if self.state in FINAL:
            return
        self.touched = datetime.now(UTC)
        if self.polls_left <= 0:
            self.state = self.outcome
        else:
            self.polls_left -= 1
            self.state = "InProgress"

    def show(self, *, full: bool = True) -> dict[str, Any]:
        body: dict[str, Any] = {
            "id": self.id,
            "operation": self.operation,
            "object": self.entity,
            "createdById": self.created_by,
            "createdDate": _wire(self.created),
            "systemModstamp": _wire(self.touched),
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(self.version),
            "jobType": "V2Query",
            "lineEnding": self.ending,
            "columnDelimiter": self.delimiter,
        }
        if full and self.state != "UploadComplete":
            done = self.state == "JobComplete" and self.result is not None
            body["numberRecordsProcessed"] = len(self.result) if done and self.result is not None else 0
            body["retries"] = 0
            body["totalProcessingTime"] = int(self.seconds * 1000)
        if self.state == "Failed" and self.error is not None:
            body["errorMessage"] = self.error
        return body


def _wire(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


def create(org: Org, call: Call, version: str) -> Reply:
    """Check the query as the real service does at once, freeze its rows, queue the job."""
    if org.faults.times("limit_exceeded"):
        raise ApiError(400, "LIMIT_EXCEEDED", "Max bulk v2 query count (10000) in 24 hours has been exceeded")
    try:
        wanted = call.json()
    except json.JSONDecodeError:
        raise ApiError(400, "JSON_PARSER_ERROR", "The HTTP entity body is not JSON.") from None
    if not isinstance(wanted, dict) or not wanted.get("query"):
        raise ApiError(400, "API_ERROR", "query is required")
    unknown = set(wanted) - {"operation", "query", "contentType", "columnDelimiter", "lineEnding", "object"}
    if unknown:
        raise ApiError(400, "JSON_PARSER_ERROR", f'Unrecognized field "{sorted(unknown)[0]}"')
    operation = wanted.get("operation")
    if operation not in ("query", "queryAll"):
        raise ApiError(400, "API_ERROR", f"Invalid operation: {operation}")
    delimiter, ending = wanted.get("columnDelimiter", "COMMA"), wanted.get("lineEnding", "LF")
    if delimiter not in DELIMITERS or ending not in LINE_ENDINGS or wanted.get("contentType", "CSV") != "CSV":
        raise ApiError(400, "API_ERROR", "Invalid value for columnDelimiter, lineEnding or contentType")
    plan = org.plan(wanted["query"], all_rows=operation == "queryAll", bulk=True)
    began = time.monotonic()
    result = results.freeze(org.store, plan)
    job = Job(
        id=org.new_id("750"),
        operation=operation,
        entity=plan.entity.name,
        created_by=org.user_id,
        version=version,
        delimiter=delimiter,
        ending=ending,
        result=result,
        polls_left=int(org.faults.get("job_delay_polls") or 0),
        seconds=time.monotonic() - began,
    )
    _choose_outcome(org, job)
    org.jobs[job.id] = job
    return json_reply(job.show(full=False))


def _choose_outcome(org: Org, job: Job) -> None:
    too_many = org.faults.get("query_timeout")
    if too_many is not None and job.result is not None and len(job.result) > int(too_many):
        job.outcome, job.error = "Failed", "QUERY_TIMEOUT: Your query request was running for too long."
        return
    planned = org.faults.times("job_state")
    if planned:
        job.outcome, job.error = planned["state"], planned.get("errorMessage")


def find(org: Org, job_id: str) -> Job:
    job: Job | None = org.jobs.get(job_id)
    if job is None:
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    return job


def poll(org: Org, call: Call, version: str, job_id: str) -> Reply:
    del call, version
    job = find(org, job_id)
    job.move()
    return json_reply(job.show())


def change(org: Org, call: Call, version: str, job_id: str) -> Reply:
    """Abort, the only change a query job knows."""
    del version
    job = find(org, job_id)
    wanted = call.json()
    if wanted.get("state") != "Aborted":
        raise ApiError(400, "API_ERROR", f"Invalid state: {wanted.get('state')}")
    if job.state in FINAL and job.state != "Aborted":
        raise ApiError(400, "API_ERROR", f"Aborting already completed job is not allowed: state {job.state}")
    job.state, job.touched = "Aborted", datetime.now(UTC)
    return json_reply(job.show())


def delete(org: Org, call: Call, version: str, job_id: str) -> Reply:
    """204 and no body at all."""
    del call, version
    job = find(org, job_id)
    if job.state not in FINAL:
        raise ApiError(400, "API_ERROR", f"Error encountered when deleting the job because the job is not terminated: "
                       f"{job.id}")  # fmt: skip
    del org.jobs[job.id]
    return Reply(status=204)


def listing(org: Org, call: Call, version: str) -> Reply:
    wanted = call.params.get("jobType")
    jobs = sorted(org.jobs.values(), key=lambda j: j.created, reverse=True)
    if wanted not in (None, "V2Query"):
        jobs = []
    start = int(call.params.get("queryLocator", "0") or 0)
    page = jobs[start : start + 1000]
    more = start + 1000 < len(jobs)
    following = f"/services/data/v{version}/jobs/query?queryLocator={start + 1000}" if more else None
    return json_reply({"done": not more, "records": [j.show(full=False) for j in page], "nextRecordsUrl": following})


# -- results


def locator_for(offset: int) -> str:
    return base64.b64encode(str(offset).encode()).decode().rstrip("=")


def _offset(locator: str) -> int:
    if locator in ("", "null"):
        return 0
    try:
        return int(base64.b64decode(locator + "=" * (-len(locator) % 4), validate=True))
    except (ValueError, binascii.Error):
        raise ApiError(400, "INVALID_LOCATOR", f"Invalid locator: {locator}") from None


def _ready(org: Org, job: Job, version: str) -> Reply | None:
    """What stands in the way of reading this job's results; None when nothing does."""
    if float(version) != float(job.version):
        raise ApiError(409, "API_ERROR", f"Results must be read with the API version of the job, {job.version}")
    if job.state == "JobComplete":
        return None
    if job.state in FINAL or int(org.settings["results_early"]) != 204:
        raise ApiError(400, "INVALIDJOBSTATE", f"Results are not available: job state is {job.state}")
    return Reply(status=204)


def _size(org: Org, call: Call) -> int:
    text = call.params.get("maxRecords")
    if text is None:
        return int(org.settings["page_size_bulk"])
    if not text.isdigit() or int(text) < 1:
        raise ApiError(400, "API_ERROR", f"Invalid maxRecords: {text}")
    return int(text)


def page(org: Org, call: Call, version: str, job_id: str) -> Reply:
    """One page of CSV: always a header row, always the two headers, gzip when the client takes it."""
    job = find(org, job_id)
    waiting = _ready(org, job, version)
    if waiting is not None or job.result is None:
        return waiting or Reply(status=204)
    locator = call.params.get("locator", "")
    start, size = _offset(locator), _size(org, call)
    total = len(job.result)
    if start and start >= total:
        raise ApiError(400, "INVALID_LOCATOR", f"Invalid locator: {locator}")
    org.stats.page(job.id, locator)
    stop = min(total, start + size)
    missing = org.faults.times("short_page")
    missing = int(missing.get("rows", 1)) if isinstance(missing, dict) else int(missing or 0)
    broken = org.faults.times("malformed_csv")
    columns = job.result.plan.columns
    line = csv_line(
        columns,
        job.delimiter,
        job.ending,
        nul_bytes=bool(org.settings["nul_bytes"]),
        bare_null=bool(org.settings["bare_null"]),
    )
    header = csv_header(columns, job.delimiter, job.ending)
    if total == 0 and org.faults.get("empty_body"):
        header = b""

    def text() -> Iterator[bytes | memoryview]:
        yield header
        if job.result is not None and stop - start - missing > 0:
            yield from results.csv_chunks(org.store, job.result, start, stop - start - missing, line)
        if broken:
            how = broken.get("how", "quote") if isinstance(broken, dict) else "quote"
            yield b'"only","three","cells"\n' if how == "cells" else b'"003000000000000AAA","an open quote'

    headers = {
        "Content-Type": str(org.settings["csv_content_type"]),
        "Sforce-Locator": locator_for(stop) if stop < total else "null",
    }
    if not org.faults.times("no_number_header"):
        headers["Sforce-NumberOfRecords"] = str(stop - start)
    chunks = text()
    if call.takes_gzip:
        headers["Content-Encoding"] = "gzip"
        return Reply(chunks=results.gzipped(chunks), headers=headers)
    return Reply(chunks=(bytes(c) for c in chunks), headers=headers)


def pages(org: Org, call: Call, version: str, job_id: str) -> Reply:
    """Up to five addresses of pages to fetch side by side."""
    if float(version) < 58:
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    job = find(org, job_id)
    waiting = _ready(org, job, version)
    if waiting is not None or job.result is None:
        return waiting or Reply(status=204)
    base = f"/services/data/v{version}/jobs/query/{job.id}"
    start, size, total = _offset(call.params.get("locator", "")), int(org.settings["page_size_bulk"]), len(job.result)
    starts = list(range(start, max(total, start + 1), size))
    shown = starts[:5]
    more = len(starts) > 5
    return json_reply(
        {
            "resultPages": [{"resultUrl": f"{base}/results?locator={locator_for(s)}&maxRecords={size}"} for s in shown],
            "nextRecordUrl": f"{base}/resultPages?locator={locator_for(starts[5])}" if more else None,
            "done": not more,
        }
    )
