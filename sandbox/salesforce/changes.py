"""Changes made to order: which records, chosen how, written to the journal as exact ids and values."""

# ruff: noqa: S608 - names come from the schema, values are parameters.
from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pyarrow as pa

from .generate import FOREVER
from .schema import SObject
from .store import Store

#: A text field per object that a random update rewrites; the first that exists is taken.
_TOUCHED = ("Title", "NextStep", "Subject", "SuppliedName", "Site", "Department", "CompanyName", "Contact_Email__c",
            "Description", "LastName", "Name")  # fmt: skip
KINDS = ("new", "update", "delete", "undelete", "purge")


class BadChange(ValueError):
    """The request asks for something that cannot be done."""


def make(store: Store, wanted: dict[str, Any]) -> dict[str, list[str]]:
    """Do what the request asks, in the order new, set, update, delete, undelete, purge; answer the ids per kind."""
    thing = store.object(str(wanted.get("object", "")))
    if thing is None:
        raise BadChange(f"no such object: {wanted.get('object')}")
    unknown = set(wanted) - {*KINDS, "object", "keys", "months_ago", "set", "touch"}
    if unknown:
        raise BadChange(f"unknown keys {sorted(unknown)}")
    keys = list(wanted.get("keys") or [])
    done: dict[str, list[str]] = {}
    with store.lock:
        if wanted.get("new"):
            done["new"] = _new(store, thing, int(wanted["new"]), wanted.get("months_ago"))
        if wanted.get("set"):
            done["set"] = _set(store, thing, wanted["set"])
        # A second kind must not hit records a first kind of the same request has just changed.
        taken = [i for ids in done.values() for i in ids]
        for kind in ("update", "touch", "delete", "undelete", "purge"):
            if not wanted.get(kind):
                continue
            ids = _choose(store, thing, kind, wanted[kind], keys, taken)
            taken += ids
            done[kind] = ids
            _write(store, thing, kind, ids)
    return done


def _choose(store: Store, thing: SObject, kind: str, wanted: Any, keys: list[str], taken: list[str]) -> list[str]:
    """Ids for a kind: listed ones, or so many drawn by hash, the same for the same journal."""
    if isinstance(wanted, list):
        return [str(i) for i in wanted]
    if keys:
        ids, keys[:] = keys[: int(wanted)], keys[int(wanted) :]
        return ids
    order = f"hash(Id, {store.seq})"
    state = "true"
    if not thing.has("IsDeleted"):
        if kind in ("delete", "undelete"):
            raise BadChange(f"{thing.name} has no IsDeleted: it can only be purged")
    elif kind == "purge":
        # Live records first: only their absence shows in a count.
        order = f"IsDeleted, {order}"
    else:
        state = "IsDeleted" if kind == "undelete" else "NOT IsDeleted"
    cursor = store.cursor()
    try:
        cursor.register("taken", pa.table({"id": pa.array(taken, pa.string())}))
        rows = cursor.execute(
            f'SELECT Id FROM "{thing.name}" WHERE _to = {FOREVER} AND {state} AND Id NOT IN (SELECT id FROM taken) '
            f"ORDER BY {order} LIMIT {int(wanted)}"
        ).fetchall()
    finally:
        cursor.close()
    return [r[0] for r in rows]


def _write(store: Store, thing: SObject, kind: str, ids: list[str]) -> None:
    if not ids:
        return
    entry: dict[str, Any] = {"kind": kind, "object": thing.name, "stamp": store.next_stamp().isoformat(), "ids": ids}
    if kind in ("delete", "undelete") and not thing.has("IsDeleted"):
        raise BadChange(f"{thing.name} has no IsDeleted: it can only be purged")
    if kind == "delete" and not store.delete_moves_stamp:
        entry["moves_stamp"] = False
    if kind == "update":
        field = next((f for name in _TOUCHED if (f := thing.by_name.get(name.lower())) and f.is_stored), None)
        if field is None:
            raise BadChange(f"{thing.name} has no text field to update; use set")
        number = store.seq + 1
        entry["rows"] = {id_: {field.name: f"revised {number}.{n}"} for n, id_ in enumerate(ids)}
        del entry["ids"]
    store.record(entry)


def _set(store: Store, thing: SObject, wanted: dict[str, dict[str, Any]]) -> list[str]:
    """Exact values for exact records; naming SystemModstamp sets it too, otherwise it moves to now."""
    rows = {}
    for id_, values in wanted.items():
        named = {}
        for name, value in values.items():
            found = thing.by_name.get(name.lower())
            if found is None or not found.is_stored:
                raise BadChange(f"{thing.name} has no stored field {name}")
            named[found.name] = value
        rows[id_] = named
    store.record({"kind": "set", "object": thing.name, "stamp": store.next_stamp().isoformat(), "rows": rows})
    return list(rows)


def _new(store: Store, thing: SObject, count: int, months_ago: float | None) -> list[str]:
    """New records, copied from living ones. Back-dated ones look as if imported with their old dates."""
    models = [
        r[0]
        for r in store.rows(
            f'SELECT Id FROM "{thing.name}" WHERE _to = {FOREVER} ORDER BY hash(Id, {store.seq}, 1) LIMIT {count}'
        )
    ]
    if not models:
        raise BadChange(f"{thing.name} is empty: there is nothing to copy")
    models = (models * math.ceil(count / len(models)))[:count]
    stamp = store.next_stamp()
    created = stamp - timedelta(days=30.4375 * float(months_ago)) if months_ago else stamp
    created = created.replace(microsecond=created.microsecond // 1000 * 1000)
    ids = store.new_ids(thing, count)
    store.record(
        {
            "kind": "new",
            "object": thing.name,
            "stamp": stamp.isoformat(),
            "created": created.isoformat(),
            "rows": dict(zip(ids, models, strict=True)),
        }
    )
    return ids
