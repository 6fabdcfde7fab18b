"""Control routes under /_sandbox: change data and schema, set faults, read the truth and the counts.

They need no token, cost no API call and are never faulty; the server listens on loopback only.
"""

# ruff: noqa: S608 - names come from the schema.
from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb

from . import changes, rest
from .errors import ApiError
from .faults import FAULTS
from .generate import FOREVER
from .http import Call, Reply, json_reply
from .org import Org, Stats
from .soql import FieldRef, Selected


def handle(org: Org, call: Call) -> Reply:
    """Answer one control call; mistakes are 400 with a sentence."""
    name = call.path.removeprefix("/_sandbox/").strip("/")
    route = _ROUTES.get((call.method, name))
    if route is None:
        known = ", ".join(f"{m} {n}" for m, n in _ROUTES)
        return json_reply({"error": f"no control route {call.method} {name}; known: {known}"}, 404)
    try:
        return json_reply(route(org, call))
    except (ValueError, KeyError, TypeError, duckdb.Error) as error:
        return json_reply({"error": f"{type(error).__name__}: {error}"}, 400)
    except ApiError as error:
        return json_reply({"error": error.message}, 400)


def health(org: Org, call: Call) -> dict[str, Any]:
    del call
    return {"ready": True, "objects": org.store.counts(), "journal": org.store.seq, "epoch": org.epoch}


def change(org: Org, call: Call) -> dict[str, Any]:
    done = changes.make(org.store, call.json())
    return {"ids": done, "journal": org.store.seq, "at": org.store.last_stamp.isoformat(timespec="milliseconds") + "Z"}


def fields(org: Org, call: Call) -> dict[str, Any]:
    """Hide, show, add, remove or change fields; hide or show the object; ``{"reset": true}`` undoes all of it."""
    wanted = call.json()
    known = {"object", "hide", "show", "add", "remove", "change", "hide_object", "reset"}
    if set(wanted) - known:
        raise ValueError(f"unknown keys {sorted(set(wanted) - known)}; known: {sorted(known)}")
    entry: dict[str, Any] = {"kind": "fields", **wanted}
    if not wanted.get("reset"):
        thing = org.store.object(str(wanted.get("object", "")))
        if thing is None:
            raise ValueError(f"no such object: {wanted.get('object')}")
        entry["object"] = thing.name
        for key in ("hide", "show", "remove", "change"):
            for name in wanted.get(key) or ():
                if not thing.has(name):
                    raise ValueError(f"{thing.name} has no field {name}")
            # Names are kept in the spelling of describe.
            if isinstance(wanted.get(key), list):
                entry[key] = [thing.by_name[n.lower()].name for n in wanted[key]]
    org.store.record(entry)
    now = datetime.now(UTC).replace(microsecond=0)
    org.schema_changed = max(now, org.schema_changed)
    shown = org.store.objects.get(entry.get("object", ""))
    return {"fields": [f.name for f in shown.visible()] if shown else [], "journal": org.store.seq}


def faults(org: Org, call: Call) -> dict[str, Any]:
    if call.method == "POST":
        org.faults.update(call.json())
    return {"faults": dict(org.faults.set), "known": FAULTS}


def settings(org: Org, call: Call) -> dict[str, Any]:
    if call.method == "POST":
        wanted = call.json()
        unknown = sorted(set(wanted) - set(org.settings))
        if unknown:
            raise ValueError(f"unknown settings {unknown}; known: {sorted(org.settings)}")
        org.settings.update(wanted)
        org.store.delete_moves_stamp = bool(org.settings["delete_moves_stamp"])
    return {"settings": org.settings}


def quota(org: Org, call: Call) -> dict[str, Any]:
    if call.method == "POST":
        wanted = call.json()
        with org.quota.lock:
            org.quota.max = int(wanted.get("max", org.quota.max))
            org.quota.used = int(wanted.get("used", org.quota.used))
    return {"max": org.quota.max, "used": org.quota.used}


def reset(org: Org, call: Call) -> dict[str, Any]:
    """Faults, settings, quota and counts; with data also the journal, with sessions also who is logged in."""
    wanted = call.json() if call.body else {}
    org.faults.clear()
    org.settings = dict(org.default_settings)
    org.store.delete_moves_stamp = True
    org.quota.max, org.quota.used = 100_000, 0
    org.stats.clear()
    if wanted.get("data"):
        org.jobs.clear()
        org.cursors.clear()
        org.store.reset()
        org.schema_changed = datetime.now(UTC).replace(microsecond=0)
    if wanted.get("sessions"):
        org.end_sessions()
    return {"journal": org.store.seq}


def stats(org: Org, call: Call) -> dict[str, Any]:
    shown = org.stats.show()
    if call.method == "POST" and call.json().get("reset"):
        org.stats = Stats()
    return {**shown, "jobs": len(org.jobs), "quota": {"max": org.quota.max, "used": org.quota.used}}


def records(org: Org, call: Call) -> dict[str, Any]:
    """The truth: rows as they are, hidden fields and deleted rows included. Ids nobody knows are missing."""
    thing = org.store.object(call.params.get("object", ""))
    if thing is None:
        raise ValueError("object= is needed")
    ids = [i for i in call.params.get("ids", "").split(",") if i]
    if not ids:
        limit = int(call.params.get("limit", "100"))
        rows = org.store.rows(f'SELECT Id FROM "{thing.name}" WHERE _to = {FOREVER} ORDER BY rowid LIMIT {limit}')
        ids = [r[0] for r in rows]
    picks = tuple(Selected(FieldRef(f.name, 0)) for f in thing.fields)
    return {"records": rest.fetch(org, thing.name, picks, ids, "60.0", admin=True) if ids else []}


def idmap(org: Org, call: Call) -> dict[str, Any]:
    """For an org loaded from a folder: its local ids and the record ids they became."""
    thing = org.store.object(call.params.get("object", ""))
    if thing is None:
        raise ValueError("object= is needed")
    return org.idmap.get(thing.name, {})


_ROUTES = {
    ("GET", "health"): health,
    ("POST", "change"): change,
    ("POST", "fields"): fields,
    ("GET", "faults"): faults,
    ("POST", "faults"): faults,
    ("GET", "settings"): settings,
    ("POST", "settings"): settings,
    ("GET", "quota"): quota,
    ("POST", "quota"): quota,
    ("POST", "reset"): reset,
    ("GET", "stats"): stats,
    ("POST", "stats"): stats,
    ("GET", "records"): records,
    ("GET", "idmap"): idmap,
}
