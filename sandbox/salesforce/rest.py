"""REST: versions, describe, query and its pages, deleted and updated, limits, single records, batches."""

# ruff: noqa: S608 - names come from the schema, values are parameters.
from __future__ import annotations

import base64
import re
import secrets
import string
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from . import describe, results
from .errors import ApiError
from .generate import FOREVER
from .http import Call, Reply, json_reply
from .org import VERSIONS, Org
from .results import ResultSet
from .soql import FieldRef, Query, Selected

#: Locators remembered; older ones are forgotten as if they had expired.
MAX_LOCATORS = 5_000

_LETTERS = string.ascii_letters + string.digits


@dataclass
class Cursor:
    """A query result somebody is reading page by page."""

    result: ResultSet
    born: float
    version: str
    #: The path pages are asked on: query or queryAll.
    route: str


def versions(org: Org, call: Call) -> Reply:
    del org, call
    return json_reply([{"label": f"v{v}", "url": f"/services/data/v{v}", "version": v} for v in VERSIONS])


def resources(org: Org, call: Call, version: str) -> Reply:
    del org, call
    base = f"/services/data/v{version}"
    names = ("composite", "jobs", "limits", "query", "queryAll", "sobjects")
    return json_reply({name: f"{base}/{name}" for name in names})


def limits(org: Org, call: Call, version: str) -> Reply:
    del call, version
    quota = org.quota
    jobs = org.stats.counts["bulk_create"]

    def entry(most: int, used: int = 0) -> dict[str, int]:
        return {"Max": most, "Remaining": max(0, most - used)}

    return json_reply(
        {
            "DailyApiRequests": entry(quota.max, quota.used),
            "DailyAsyncApexExecutions": entry(250_000),
            "DailyBulkApiBatches": entry(15_000),
            "DailyBulkV2QueryFileStorageMB": entry(976_562),
            "DailyBulkV2QueryJobs": entry(10_000, jobs),
            "DataStorageMB": entry(1_073, 211),
            "FileStorageMB": entry(1_073, 4),
            "PermissionSets": {**entry(1_500, 2), "CreateCustom": entry(1_000, 1)},
        }
    )


# -- describe


def sobjects(org: Org, call: Call, version: str) -> Reply:
    if _unchanged(org, call):
        return Reply(status=304)
    things = org.visible_objects().values()
    body = {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": [describe.summary(t, version) for t in things]}
    return json_reply(body, Last_Modified=format_datetime(org.schema_changed, usegmt=True))


def describe_object(org: Org, call: Call, version: str, name: str) -> Reply:
    thing = org.visible(name)
    if _unchanged(org, call):
        return Reply(status=304)
    body = describe.document(thing, org.visible_objects(), version)
    return json_reply(body, Last_Modified=format_datetime(org.schema_changed, usegmt=True))


def basic_object(org: Org, call: Call, version: str, name: str) -> Reply:
    """Without /describe only the summary comes, as simple-salesforce's metadata() expects."""
    del call
    thing = org.visible(name)
    return json_reply({"objectDescribe": describe.summary(thing, version), "recentItems": []})


def _unchanged(org: Org, call: Call) -> bool:
    since = call.headers.get("if-modified-since")
    if not since:
        return False
    try:
        return org.schema_changed <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False


# -- query


def query(org: Org, call: Call, version: str, route: str) -> Reply:
    """First page of a query, or the single answer of an aggregate one."""
    text = call.params.get("q")
    if not text:
        raise ApiError(400, "MALFORMED_QUERY", "A query string has to be specified")
    plan = org.plan(text, all_rows=route.lower() == "queryall")
    if plan.count_only:
        return json_reply({"totalSize": results.count(org.store, plan), "done": True, "records": []})
    if plan.aggregate:
        rows = results.aggregate(org.store, plan)
        if len(rows) > 2000:
            advice = "use LIMIT to restrict the results to a single batch"
            raise ApiError(400, "EXCEEDED_ID_LIMIT", f"Aggregate query does not support queryMore(), {advice}")
        return json_reply({"totalSize": len(rows), "done": True, "records": rows})
    result = results.freeze(org.store, plan)
    too_many = org.faults.get("query_timeout")
    if too_many is not None and len(result) > int(too_many):
        raise ApiError(400, "QUERY_TIMEOUT", "Your query request was running for too long.")
    return _page(org, call, Cursor(result, time.time(), version, route), 0)


def query_more(org: Org, call: Call, version: str, route: str, locator: str) -> Reply:
    """A later page, by either form of locator."""
    del version, route
    if org.faults.times("expired_locator"):
        raise _bad_locator(locator)
    match = re.fullmatch(r"(\w+)-(\d+)", locator)
    found = org.cursors.get(match.group(1) if match else locator)
    cursor, start = found if found is not None else (None, 0)
    if match:
        start = int(match.group(2))
    if cursor is None or time.time() - cursor.born > float(org.settings["locator_seconds"]):
        raise _bad_locator(locator)
    return _page(org, call, cursor, start)


def _bad_locator(locator: str) -> ApiError:
    del locator
    return ApiError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")


def _batch_size(org: Org, call: Call, columns: int, start: int) -> int:
    """The asked size is a hint: wide rows give smaller pages, and every third page is a little short."""
    match = re.search(r"batchSize\s*=\s*(\d+)", call.headers.get("sforce-query-options", ""), re.I)
    size = min(2000, max(200, int(match.group(1)))) if match else 2000
    if org.settings["uneven_pages"]:
        if columns > 50:
            size = max(200, size // 2)
        if (start // size) % 3 == 1:
            size -= size // 10
    return size


def _page(org: Org, call: Call, cursor: Cursor, start: int) -> Reply:
    result = cursor.result
    size = _batch_size(org, call, len(result.plan.columns), start)
    body: dict[str, Any] = {"totalSize": len(result), "done": start + size >= len(result)}
    if not body["done"]:
        following = start if start and org.faults.times("repeat_page") else start + size
        locator = _new_locator(org, cursor, following)
        body["nextRecordsUrl"] = f"/services/data/v{cursor.version}/{cursor.route}/{locator}"
    body["records"] = results.records(org.store, result, start, size, cursor.version)
    reply = json_reply(body)
    if org.faults.times("malformed_json"):
        reply.body = reply.body[: len(reply.body) // 2]
    return reply


def _new_locator(org: Org, cursor: Cursor, start: int) -> str:
    if org.settings["locator_form"] == "01g":
        known = next((k for k, (c, _) in org.cursors.items() if c is cursor and k.startswith("01g")), None)
        key = known or org.new_id("01g")
        org.cursors[key] = (cursor, start)
        return f"{key}-{start}"
    for stale in list(org.cursors)[:-MAX_LOCATORS]:
        org.cursors.pop(stale, None)
    key = "0r8" + "".join(secrets.choice(_LETTERS) for _ in range(15))
    org.cursors[key] = (cursor, start)
    return key


# -- changes of the last days


def _moment(text: str | None, name: str) -> datetime:
    if not text:
        raise ApiError(400, "MISSING_ARGUMENT", f"{name}Date is required")
    try:
        made = datetime.fromisoformat(re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text.replace("Z", "+00:00")))
    except ValueError:
        made = None
    if made is None or made.tzinfo is None:
        raise ApiError(400, "INVALID_REPLICATION_DATE", f"invalid {name} date: {text}")
    return made.astimezone(UTC).replace(tzinfo=None)


def _range(call: Call) -> tuple[datetime, datetime, datetime]:
    start, end = _moment(call.params.get("start"), "start"), _moment(call.params.get("end"), "end")
    now = datetime.now(UTC).replace(tzinfo=None)
    if end <= start + timedelta(seconds=59):
        raise ApiError(400, "INVALID_REPLICATION_DATE", "endDate must be at least one minute greater than startDate")
    return start, end, now


def _wire(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000+0000"


def deleted(org: Org, call: Call, version: str, name: str) -> Reply:
    """Ids deleted in a range, purged ones included, as far back as the log reaches."""
    del version
    thing = org.visible(name)
    start, end, now = _range(call)
    if not thing.replicateable or not thing.has("IsDeleted"):
        raise ApiError(400, "INVALID_TYPE_FOR_OPERATION", f"object type {thing.name} does not support getDeleted")
    earliest = now - timedelta(days=float(org.settings["deleted_days"]))
    if start < now - timedelta(days=15):
        raise ApiError(400, "INVALID_REPLICATION_DATE", "startDate cannot be more than 15 days ago")
    rows = org.store.rows(
        f"""SELECT id, max(stamp) AS stamp FROM (
              SELECT id, stamp FROM _removed WHERE object = '{thing.name}'
              UNION ALL SELECT Id, SystemModstamp FROM "{thing.name}" WHERE _to = {FOREVER} AND IsDeleted
                AND Id NOT IN (SELECT id FROM _removed WHERE object = '{thing.name}')
            ) GROUP BY id HAVING max(stamp) >= ? AND max(stamp) < ? ORDER BY stamp, id""",
        [max(start, earliest), end],
    )
    if len(rows) > int(org.settings["deleted_limit"]):
        raise ApiError(400, "EXCEEDED_ID_LIMIT", "getDeleted: too many ids in the range, ask for a shorter one")
    return json_reply(
        {
            "deletedRecords": [{"deletedDate": _wire(stamp), "id": id_} for id_, stamp in rows],
            "earliestDateAvailable": _wire(earliest),
            "latestDateCovered": _wire(min(end, now).replace(second=0)),
        }
    )


def updated(org: Org, call: Call, version: str, name: str) -> Reply:
    """Ids of live records touched in a range."""
    del version
    thing = org.visible(name)
    start, end, now = _range(call)
    alive = " AND NOT IsDeleted" if thing.has("IsDeleted") else ""
    rows = org.store.rows(
        f'SELECT Id FROM "{thing.name}" WHERE _to = {FOREVER}{alive} AND SystemModstamp >= ? AND SystemModstamp < ? '
        "ORDER BY SystemModstamp, Id",
        [start, end],
    )
    if len(rows) > 600_000:
        raise ApiError(400, "EXCEEDED_ID_LIMIT", "getUpdated: too many ids in the range, ask for a shorter one")
    return json_reply({"ids": [r[0] for r in rows], "latestDateCovered": _wire(min(end, now).replace(second=0))})


# -- single records


def record(org: Org, call: Call, version: str, name: str, record_id: str) -> Reply:
    """One record with all its visible fields, or those asked for."""
    thing = org.visible(name)
    wanted = call.params.get("fields")
    names = wanted.split(",") if wanted else [f.name for f in thing.visible()]
    picks = tuple(Selected(FieldRef(n.strip(), 0)) for n in names)
    found = fetch(org, thing.name, picks, [record_id], version)
    if not found:
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    return json_reply(found[0])


def fetch(
    org: Org, name: str, picks: tuple[Selected, ...], ids: list[str], version: str, *, admin: bool = False
) -> list[dict[str, Any]]:
    """Records by id in REST form; `admin` sees everything, deleted rows included."""
    from .planner import build_plan
    from .soql import Among

    tree = Query(
        text="", selected=picks, entity=name, entity_position=0, where=Among(FieldRef("Id", 0), False, tuple(ids), 0)
    )
    objects = org.store.objects if admin else org.visible_objects()
    plan = build_plan(tree, objects, today=org.today(), all_rows=admin, admin=admin)
    return results.records(org.store, results.freeze(org.store, plan), 0, len(ids), version)


def blob(org: Org, call: Call, version: str, name: str, record_id: str, field: str) -> Reply:
    """The bytes of a base64 field."""
    del version, call
    thing = org.visible(name)
    found = thing.find(field)
    if found is None or found.type != "base64":
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    rows = org.store.rows(f'SELECT "{found.name}" FROM "{thing.name}" WHERE Id = ? AND _to = {FOREVER}', [record_id])
    if not rows or rows[0][0] is None:
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    return Reply(body=base64.b64decode(rows[0][0]), headers={"Content-Type": "application/octetstream"})
