"""An org loaded from a folder of CSV or JSON files instead of generated.

Three habits are understood: CSV named after the object with local ids (CumulusCI, NPSP), JSON trees with @references
(sfdx), and CSV with snake_case columns (warehouse exports). Order of rows is kept, local ids become record ids that
are the same on every load, and the system fields that every record has are added.
"""

# ruff: noqa: S608 - names come from the schema made here.
from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from .catalogue import standard_org
from .generate import FOREVER
from .ids import checksum, make_id, normalise_id
from .infer import column_name, infer_field, text_of
from .schema import Field, SObject, parse_field, words
from .store import Builder

#: Key prefixes of objects outside the default org.
_PREFIXES = {"CampaignMember": "00v", "OpportunityContactRole": "00K", "UserRole": "00E", "Event": "00U",
             "RecordType": "012"}  # fmt: skip
#: Lookups whose name does not say where they lead.
_TARGETS = {"parentid": "", "masterrecordid": "", "reportstoid": "Contact", "ownerid": "User", "createdbyid": "User",
            "lastmodifiedbyid": "User", "managerid": "User", "primary_affiliation__c": "Account",
            "primary_contact__c": "Contact", "whoid": "Contact", "whatid": "Account"}  # fmt: skip


@dataclass(frozen=True)
class LoadedOrg:
    """Schema, rows and the local ids of a folder."""

    key: str
    objects: dict[str, SObject]
    build: Builder
    idmap: dict[str, dict[str, str]]


@dataclass
class _Table:
    """Rows of one object as they stand in the files."""

    name: str
    columns: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    local_ids: list[str] = field(default_factory=list)

    def add(self, row: dict[str, Any], local_id: str) -> None:
        for name in row:
            if name not in self.columns:
                self.columns.append(name)
        self.rows.append(row)
        self.local_ids.append(local_id)


def load_folder(path: Path, epoch: datetime) -> LoadedOrg:
    """Read the folder's files; sub-folders only when the folder itself holds none."""
    files = sorted(p for p in path.iterdir() if p.suffix in (".csv", ".json"))
    files = files or sorted(p for p in path.rglob("*") if p.suffix in (".csv", ".json"))
    tables: dict[str, _Table] = {}
    # JSON first: where the same records exist in both forms, the tree with its references wins.
    for file in sorted(files, key=lambda p: p.suffix != ".json"):
        (_read_json if file.suffix == ".json" else _read_csv)(file, tables)
    if not tables:
        raise ValueError(f"{path} holds no CSV or JSON records")
    _add_user(tables)
    known = standard_org()
    idmap = {t.name: _record_ids(t, known) for t in tables.values()}
    objects = {}
    for table in tables.values():
        _resolve(table, tables, idmap, known)
        objects[table.name] = _schema(table, tables, known)

    def build(con: duckdb.DuckDBPyConnection) -> None:
        for table in sorted(tables.values(), key=lambda t: t.name != "User"):
            _fill(con, table, objects[table.name], idmap[table.name], epoch)

    return LoadedOrg(_fingerprint(files), objects, build, idmap)


def _fingerprint(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


# -- files


def _object_name(stem: str) -> str:
    """Account, data-Contact, sf_user_role_data, Lead_Data -> Account, Contact, UserRole, Lead."""
    stem = re.sub(r"^(sf_|data-)|(_[dD]ata)$", "", re.sub(r"(_[dD]ata)$", "", stem))
    return stem if stem[:1].isupper() else "".join(part.capitalize() for part in stem.split("_"))


def _read_csv(file: Path, tables: dict[str, _Table]) -> None:
    name = _object_name(file.stem)
    if name.endswith("_rt_mapping"):
        _read_record_types(file, name.removesuffix("_rt_mapping"), tables)
        return
    if name in tables:
        return
    csv.field_size_limit(1 << 24)
    exported = file.stem.startswith("sf_")
    table = tables[name] = _Table(name)
    with file.open(newline="", encoding="utf-8-sig") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=1):
            local = row.get("id") or row.get("Id") or str(number)
            named = {
                column_name(key, exported): (None if value == "" else value)
                for key, value in row.items()
                if key and key.lower() != "id" and not key.startswith("_fivetran")
            }
            table.add(named, local)


def _read_record_types(file: Path, sobject: str, tables: dict[str, _Table]) -> None:
    table = tables.setdefault("RecordType", _Table("RecordType"))
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            name = row["developer_name"]
            values = {"Name": words(name), "DeveloperName": name, "SobjectType": sobject, "IsActive": "true"}
            table.add(values, row["record_type_id"])


def _read_json(file: Path, tables: dict[str, _Table]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        return  # A plan file: the order of loading, which matters to nobody here.
    for number, record in enumerate(content.get("records", []), start=1):
        about = record.get("attributes", {})
        table = tables.setdefault(about["type"], _Table(about["type"]))
        row = {key: value for key, value in record.items() if key != "attributes"}
        table.add(row, about.get("referenceId") or f"{about['type']}{number}")


def _add_user(tables: dict[str, _Table]) -> None:
    """Somebody must own the records."""
    if "User" in tables:
        return
    table = tables["User"] = _Table("User")
    table.add(
        {"Username": "integration@novade.sandbox", "LastName": "Integration", "FirstName": None, "Name": "Integration",
         "Email": "integration@novade.sandbox", "Alias": "integ", "IsActive": "true"}, "integration"
    )  # fmt: skip


# -- ids and links


def _prefix(name: str, known: dict[str, SObject]) -> str:
    if name in known:
        return known[name].prefix or "000"
    if name in _PREFIXES:
        return _PREFIXES[name]
    letters = hashlib.sha256(name.encode()).hexdigest().upper()
    return f"a{letters[:2]}"


def _record_ids(table: _Table, known: dict[str, SObject]) -> dict[str, str]:
    """Local id -> record id. Real ids stay; others are numbered in order of the rows."""
    prefix = _prefix(table.name, known)
    out = {}
    for number, local in enumerate(table.local_ids):
        real = len(local) == 18 and normalise_id(local) is not None and checksum(local[:15]) == local[15:]
        out[local] = local if real else make_id(prefix, 50_000_000 + number * 7)
    return out


def _target(column: str, owner: str, tables: dict[str, _Table], known: dict[str, SObject]) -> str | None:
    """The object a column points to, or None when it is no link."""
    lower = column.lower()
    if lower in _TARGETS:
        return _TARGETS[lower] or owner
    if owner in known and (found := known[owner].by_name.get(lower)) is not None:
        return found.reference_to[0] if found.type == "reference" else None
    stem = column[:-2] if column.endswith("Id") else column.removesuffix("__c")
    for name in tables:
        if stem == name or stem.endswith("_" + name.removesuffix("__c")):
            return name
    return "RecordType" if lower == "recordtypeid" else None


def _resolve(
    table: _Table, tables: dict[str, _Table], idmap: dict[str, dict[str, str]], known: dict[str, SObject]
) -> None:
    """Replace local ids by record ids, in place. A reference to a record that is not in the folder becomes null."""
    references = {local: record for ids in idmap.values() for local, record in ids.items()}
    for column in table.columns:
        target = _target(column, table.name, tables, known)
        strangers: dict[str, str] = {}
        for row in table.rows:
            value = row.get(column)
            if isinstance(value, str) and value.startswith("@"):
                row[column] = references.get(value[1:])
            elif value is not None and target is not None and value in idmap.get(target, {}):
                row[column] = idmap[target][value]
            elif isinstance(value, str) and target is not None and column.endswith("Id") and not _is_id(value):
                # An anonymised link: the same text always leads to the same record.
                row[column] = strangers.setdefault(value, make_id(_prefix(target, known), 90_000_000 + len(strangers)))


def _is_id(value: str) -> bool:
    return len(value) in (15, 18) and normalise_id(value) is not None


# -- schema and rows


def _schema(table: _Table, tables: dict[str, _Table], known: dict[str, SObject]) -> SObject:
    """Fields in the order of the files, types from the catalogue where it knows them, else from the values."""
    model = known.get(table.name)
    fields = [parse_field("Id id req", {})]
    if table.name not in ("User", "UserRole", "RecordType"):
        fields.append(parse_field("IsDeleted boolean req ro", {}))
    for column in table.columns:
        if column in ("Id", "IsDeleted"):
            continue
        values = [row.get(column) for row in table.rows]
        target = _target(column, table.name, tables, known)
        fields.append(infer_field(column, values, model.by_name.get(column.lower()) if model else None, target))
    have = {f.name for f in fields}
    system = ["CreatedDate datetime req ro", "CreatedById reference req ro to=User rel=CreatedBy",
              "LastModifiedDate datetime req ro", "LastModifiedById reference req ro to=User rel=LastModifiedBy",
              "SystemModstamp datetime req ro"]  # fmt: skip
    if table.name not in ("User", "UserRole", "RecordType", "CampaignMember", "OpportunityContactRole"):
        system.insert(0, "OwnerId reference req to=User rel=Owner")
    fields += [made for line in system if (made := parse_field(line, {})).name not in have]
    if "Name" not in have and {"LastName", "FirstName"} <= have:
        fields.insert(2, Field(name="Name", type="string", length=121, label="Full Name", createable=False))
    base = model or SObject(name=table.name, prefix=_prefix(table.name, known), fields=(), label=words(table.name))
    return replace(base, fields=tuple(fields), plural=base.plural or base.label + "s", hidden=False)


def _fill(con: duckdb.DuckDBPyConnection, table: _Table, thing: SObject, ids: dict[str, str], epoch: datetime) -> None:
    """The object's table. Created dates run through the two years before the epoch in the order of the rows."""
    count = len(table.rows)
    user = _first_user(con, table, ids)
    columns: dict[str, list[str | None]] = {}
    for made in thing.fields:
        columns[made.name] = [text_of(row.get(made.name)) for row in table.rows]
    columns["Id"] = [ids[local] for local in table.local_ids]
    born = [epoch - timedelta(days=730) + timedelta(seconds=int(630 * 86400 * n / max(count, 1))) for n in range(count)]
    for name in ("CreatedDate", "LastModifiedDate", "SystemModstamp"):
        columns[name] = [given or moment.isoformat(sep=" ") for given, moment in zip(columns[name], born, strict=True)]
    for name in ("LastModifiedDate", "SystemModstamp"):
        earlier = columns["CreatedDate" if name == "LastModifiedDate" else "LastModifiedDate"]
        columns[name] = [max(a or "", b or "") for a, b in zip(columns[name], earlier, strict=True)]
    for made in thing.fields:
        if made.type == "boolean":
            columns[made.name] = [v or "false" for v in columns[made.name]]
        if made.reference_to == ("User",) and not made.nillable:
            columns[made.name] = [v or user for v in columns[made.name]]
    if "Name" in columns and "Name" not in table.columns and "LastName" in columns:
        columns["Name"] = [
            " ".join(p for p in pair if p) for pair in zip(columns["FirstName"], columns["LastName"], strict=True)
        ]
    stored = [f for f in thing.fields if f.is_stored]
    con.register("loaded", pa.table({f.name: pa.array(columns[f.name], pa.string()) for f in stored}))
    picks = ", ".join(f'TRY_CAST("{f.name}" AS {f.physical}) AS "{f.name}"' for f in stored)
    con.execute(
        f'CREATE TABLE "{thing.name}" AS SELECT {picks}, 0::BIGINT AS _from, {FOREVER}::BIGINT AS _to FROM loaded'
    )
    con.unregister("loaded")


def _first_user(con: duckdb.DuckDBPyConnection, table: _Table, ids: dict[str, str]) -> str:
    """The owner of everything without one: users are filled first."""
    if table.name == "User":
        return ids[table.local_ids[0]]
    return str(con.execute('SELECT Id FROM "User" LIMIT 1').fetchall()[0][0])
