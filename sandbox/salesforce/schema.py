"""What an object and a field are, and the compact table in which the catalogue writes them down."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

#: DuckDB type that holds each Salesforce type; everything else is text. A time stays text because the wire form
#: (10:11:12.000Z) sorts correctly as it is.
PHYSICAL = {
    "boolean": "BOOLEAN",
    "int": "BIGINT",
    "long": "BIGINT",
    "double": "DOUBLE",
    "currency": "DOUBLE",
    "percent": "DOUBLE",
    "date": "DATE",
    "datetime": "TIMESTAMP",
}
NUMERIC = ("int", "long", "double", "currency", "percent")
COMPOUND = ("address", "location")
IDS = ("id", "reference", "masterrecord")

_DEFAULT_LENGTH = {
    "id": 18, "reference": 18, "masterrecord": 18, "phone": 40, "email": 80, "url": 255, "picklist": 255,
    "multipicklist": 4099, "combobox": 255, "string": 255, "textarea": 255, "encryptedstring": 175,
    "anyType": 255, "complexvalue": 0, "json": 0, "datacategorygroupreference": 80, "base64": 0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field as describe shows it, plus how seed data fills it."""

    name: str
    type: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    digits: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    unique: bool = False
    external_id: bool = False
    #: Name of the compound field this one is a part of.
    compound: str | None = None
    reference_to: tuple[str, ...] = ()
    relationship: str | None = None
    extra: str | None = None
    picklist: tuple[str, ...] = ()
    #: Formula: a dotted path (Account.Industry) or an SQL expression over fields of the row, worked out when read.
    formula: str | None = None
    #: Seed expression for the generator; None gives null.
    seed: str | None = None
    label: str = ""
    #: Field-level security: the integration user cannot see it at all.
    hidden: bool = False
    #: DuckDB type of the stored column; differs from the type's own after a type change.
    stored: str | None = None

    @property
    def custom(self) -> bool:
        return self.name.endswith(("__c", "__s"))

    @property
    def physical(self) -> str:
        return PHYSICAL.get(self.type, "VARCHAR")

    @property
    def is_stored(self) -> bool:
        return self.type not in COMPOUND and self.formula is None

    @property
    def long_text(self) -> bool:
        """Long text areas cannot be filtered, sorted or grouped."""
        return self.type in ("base64", "json", "complexvalue") or (self.type == "textarea" and self.length > 255)

    @property
    def filterable(self) -> bool:
        return not self.long_text and self.type not in ("encryptedstring",)

    @property
    def sortable(self) -> bool:
        return self.filterable and self.type not in ("address", "location", "multipicklist")

    @property
    def groupable(self) -> bool:
        return (
            self.sortable
            and self.type not in ("datetime", "double", "currency", "percent", "time", "combobox", "long")
            and self.formula is None
        )


@dataclass(frozen=True, kw_only=True)
class SObject:
    """One object: its fields in order and what it can do."""

    name: str
    prefix: str | None
    fields: tuple[Field, ...]
    label: str = ""
    plural: str = ""
    #: The integration user may not read it: absent from every list, INVALID_TYPE when asked for.
    hidden: bool = False
    queryable: bool = True
    #: Bulk API answers INVALIDENTITY for some objects.
    bulk: bool = True
    replicateable: bool = True
    #: Rows per Contact of the default org.
    ratio: float = 0.0
    least: int = 5
    most: int = 2_000_000
    by_name: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {f.name.lower(): f for f in self.fields})

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    def find(self, name: str) -> Field | None:
        """The field by any spelling, hidden ones excluded: the caller cannot tell hidden from absent."""
        found = self.by_name.get(name.lower())
        return None if found is None or found.hidden else found

    def visible(self) -> list[Field]:
        return [f for f in self.fields if not f.hidden]

    def parts(self, compound: str) -> list[Field]:
        return [f for f in self.fields if f.compound == compound]

    def has(self, name: str) -> bool:
        return name.lower() in self.by_name

    def with_fields(self, fields: list[Field]) -> SObject:
        return replace(self, fields=tuple(fields))


def words(name: str) -> str:
    """A label from an API name: MailingPostalCode -> Mailing Postal Code."""
    text = re.sub(r"__[cs]$", "", name).replace("_", " ")
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return re.sub(r" Id$", " ID", text)


_TYPE = re.compile(r"(\w+)(?:\((\d+)(?:,(\d+))?\))?$")


def parse_field(line: str, picklists: dict[str, tuple[str, ...]]) -> Field:
    """One line of the catalogue: ``Name type(length or precision,scale) flags := seed expression``.

    Flags: req (not nillable), ro (neither createable nor updateable), unique, ext (external id), of=Compound,
    to=A,B, rel=Name, extra=word, pick=ListName, formula=path-or-expression (~ stands for a blank).
    """
    head, _, seed = line.partition(":=")
    name, type_text, *flags = head.split()
    match = _TYPE.match(type_text)
    if match is None:
        raise ValueError(f"type not understood: {line}")
    kind, first, second = match.groups()
    made: dict[str, object] = {"name": name, "type": kind, "label": words(name)}
    if second is not None:
        made.update(precision=int(first), scale=int(second))
    elif first is not None:
        made["length"] = int(first)
    else:
        made["length"] = _DEFAULT_LENGTH.get(kind, 0)
    if kind == "int":
        made.update(length=0, digits=int(first or 8))
    if kind in ("double", "currency", "percent") and second is None:
        made.update(length=0, precision=18, scale=2)
    if kind in ("id", "address", "location"):
        made.update(createable=False, updateable=False)
    for flag in flags:
        key, _, value = flag.partition("=")
        value = value.replace("~", " ")
        if key == "req":
            made["nillable"] = False
        elif key == "ro":
            made.update(createable=False, updateable=False)
        elif key == "unique":
            made["unique"] = True
        elif key == "ext":
            made["external_id"] = True
        elif key == "of":
            made["compound"] = value
        elif key == "to":
            made["reference_to"] = tuple(value.split(","))
        elif key == "rel":
            made["relationship"] = value
        elif key == "extra":
            made["extra"] = value
        elif key == "pick":
            made["picklist"] = picklists[value]
        elif key == "formula":
            made.update(formula=value, createable=False, updateable=False)
        else:
            raise ValueError(f"flag not understood: {flag} in {line}")
    if kind == "reference" and "relationship" not in made:
        made["relationship"] = name[:-2] if name.endswith("Id") else name.replace("__c", "__r")
    if kind == "textarea":
        made.setdefault("extra", "plaintextarea")
    return Field(seed=seed.strip() or None, **made)  # type: ignore[arg-type]  # keys and types come from the table's parser


def parse_object(header: str, table: str, picklists: dict[str, tuple[str, ...]], **options: object) -> SObject:
    """An object from ``Name prefix Label / Labels`` and its field table."""
    name, prefix, rest = header.split(" ", 2)
    label, _, plural = rest.partition(" / ")
    fields = tuple(parse_field(line, picklists) for line in table.strip().splitlines() if line.strip())
    return SObject(
        name=name,
        prefix=None if prefix == "-" else prefix,
        label=label,
        plural=plural or label + "s",
        fields=fields,
        **options,  # type: ignore[arg-type]  # as above: the table says which option has which type
    )


def changed_object(thing: SObject, wanted: dict[str, Any]) -> tuple[SObject, list[Field]]:
    """The object after hiding, showing, removing, changing or adding fields, and the fields that are new."""
    if "hide_object" in wanted:
        thing = replace(thing, hidden=bool(wanted["hide_object"]))
    fields: list[Field] = []
    for old in thing.fields:
        made = old
        change = (wanted.get("change") or {}).get(old.name)
        if change:
            made = replace(made, **{"stored": old.stored or old.physical, **change})
        if old.name in (wanted.get("hide") or ()):
            made = replace(made, hidden=True)
        if old.name in (wanted.get("show") or ()):
            made = replace(made, hidden=False)
        if old.name not in (wanted.get("remove") or ()):
            fields.append(made)
    added = []
    for name, about in (wanted.get("add") or {}).items():
        if thing.has(name):
            raise ValueError(f"{thing.name} has a field {name} already")
        kind = about.get("type", "string")
        made = Field(
            name=name,
            type=kind,
            length=about.get("length", _DEFAULT_LENGTH.get(kind, 0)),
            precision=about.get("precision", 18 if kind in ("double", "currency", "percent") else 0),
            scale=about.get("scale", 2 if kind in ("double", "currency", "percent") else 0),
            digits=about.get("digits", 8 if kind == "int" else 0),
            label=about.get("label", words(name)),
            external_id=about.get("external_id", False),
        )
        added.append(replace(made, stored=made.physical))
    return thing.with_fields(fields + added), added
