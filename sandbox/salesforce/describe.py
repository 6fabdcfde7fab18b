"""Describe documents, with the key sets of recorded ones."""

from __future__ import annotations

from typing import Any

from .org import INSTANCE_URL
from .schema import Field, SObject

_SOAP = {
    "id": "tns:ID", "reference": "tns:ID", "masterrecord": "tns:ID", "boolean": "xsd:boolean", "int": "xsd:int",
    "long": "xsd:long", "double": "xsd:double", "currency": "xsd:double", "percent": "xsd:double", "date": "xsd:date",
    "datetime": "xsd:dateTime", "time": "xsd:time", "base64": "xsd:base64Binary", "address": "urn:address",
    "location": "urn:location", "anyType": "xsd:anyType", "json": "urn:json",
}  # fmt: skip


def field_document(found: Field, thing: SObject) -> dict[str, Any]:
    """All 57 keys of a field."""
    numeric_or_date = found.length == 0
    is_id = found.type in ("id", "reference", "masterrecord")
    name_field = (
        found.name in ("Name", "CaseNumber", "Subject")
        and thing.has(found.name)
        and (found.name == "Name" or not thing.has("Name"))
    )
    system = found.name in ("Id", "IsDeleted", "CreatedDate", "CreatedById", "LastModifiedDate", "LastModifiedById",
                            "SystemModstamp", "OwnerId")  # fmt: skip
    return {
        "aggregatable": found.groupable or found.type in ("datetime", "double", "currency", "percent"),
        "aiPredictionField": False,
        "autoNumber": found.name == "CaseNumber",
        "byteLength": 0 if numeric_or_date else found.length if is_id else found.length * 3,
        "calculated": found.formula is not None,
        "calculatedFormula": found.formula,
        "cascadeDelete": False,
        "caseSensitive": False,
        "compoundFieldName": found.compound,
        "controllerName": None,
        "createable": found.createable,
        "custom": found.custom,
        "defaultValue": False if found.type == "boolean" else None,
        "defaultValueFormula": None,
        "defaultedOnCreate": system or found.type == "boolean",
        "dependentPicklist": False,
        "deprecatedAndHidden": False,
        "digits": found.digits,
        "displayLocationInDecimal": found.type == "location",
        "encrypted": found.type == "encryptedstring",
        "externalId": found.external_id,
        "extraTypeInfo": found.extra,
        "filterable": found.filterable,
        "filteredLookupInfo": None,
        "formulaTreatNullNumberAsZero": False,
        "groupable": found.groupable,
        "highScaleNumber": found.scale > 8,
        "htmlFormatted": False,
        "idLookup": found.name == "Id" or found.external_id or found.name in ("Email", "Username"),
        "inlineHelpText": None,
        "label": {"Id": f"{thing.label} ID", "IsDeleted": "Deleted"}.get(found.name, found.label),
        "length": found.length,
        "mask": "*" if found.type == "encryptedstring" else None,
        "maskType": "lastFour" if found.type == "encryptedstring" else None,
        "name": found.name,
        "nameField": name_field,
        "namePointing": len(found.reference_to) > 1,
        "nillable": found.nillable,
        "permissionable": not system and found.nillable and found.compound is None,
        "picklistValues": [
            {
                "active": True,
                "defaultValue": n == 0 and found.name == "Status",
                "label": v,
                "validFor": None,
                "value": v,
            }
            for n, v in enumerate(found.picklist)
        ],
        "polymorphicForeignKey": len(found.reference_to) > 1,
        "precision": found.precision,
        "queryByDistance": found.type in ("address", "location"),
        "referenceTargetField": None,
        "referenceTo": list(found.reference_to),
        "relationshipName": found.relationship,
        "relationshipOrder": None,
        "restrictedDelete": False,
        "restrictedPicklist": False,
        "scale": found.scale,
        "searchPrefilterable": found.type == "reference",
        "soapType": _SOAP.get(found.type, "xsd:string"),
        "sortable": found.sortable,
        "type": found.type,
        "unique": found.unique,
        "updateable": found.updateable,
        "writeRequiresMasterRead": False,
    }


def summary(thing: SObject, version: str) -> dict[str, Any]:
    """The object as the global list shows it."""
    base = f"/services/data/v{version}/sobjects/{thing.name}"
    event = not thing.queryable
    return {
        "activateable": False,
        "associateEntityType": "ChangeEvent" if event else None,
        "associateParentEntity": thing.name.removesuffix("ChangeEvent") if event else None,
        "createable": not event,
        "custom": thing.custom,
        "customSetting": False,
        "deepCloneable": False,
        "deletable": not event and thing.has("IsDeleted"),
        "deprecatedAndHidden": False,
        "feedEnabled": not event,
        "hasSubtypes": False,
        "isInterface": False,
        "isSubtype": False,
        "keyPrefix": thing.prefix,
        "label": thing.label,
        "labelPlural": thing.plural,
        "layoutable": not event,
        "mergeable": thing.has("MasterRecordId"),
        "mruEnabled": not event,
        "name": thing.name,
        "queryable": thing.queryable,
        "replicateable": thing.replicateable,
        "retrieveable": thing.queryable,
        "searchable": not event,
        "triggerable": True,
        "undeletable": thing.has("IsDeleted"),
        "updateable": not event,
        "urls": {
            "compactLayouts": f"{base}/describe/compactLayouts",
            "rowTemplate": f"{base}/{{ID}}",
            "approvalLayouts": f"{base}/describe/approvalLayouts",
            "listviews": f"{base}/listviews",
            "describe": f"{base}/describe",
            "quickActions": f"{base}/quickActions",
            "layouts": f"{base}/describe/layouts",
            "sobject": base,
        },
    }


def document(thing: SObject, objects: dict[str, SObject], version: str) -> dict[str, Any]:
    """The full describe of one object; hidden fields are not in it."""
    short = summary(thing, version)
    children: list[dict[str, Any]] = [
        {
            "cascadeDelete": False,
            "childSObject": other.name,
            "deprecatedAndHidden": False,
            "field": f.name,
            "junctionIdListNames": [],
            "junctionReferenceTo": [],
            "relationshipName": other.plural.replace(" ", "") if f.name == f"{thing.name}Id" else None,
            "restrictedDelete": False,
        }
        for other in objects.values()
        for f in other.visible()
        if thing.name in f.reference_to
    ]
    urls = {
        **short["urls"],
        "uiDetailTemplate": f"{INSTANCE_URL}/{{ID}}",
        "uiEditTemplate": f"{INSTANCE_URL}/{{ID}}/e",
        "defaultValues": f"/services/data/v{version}/sobjects/{thing.name}/defaultValues?recordTypeId&fields",
        "uiNewRecord": f"{INSTANCE_URL}/{thing.prefix}/e",
    }
    return {
        **{k: v for k, v in short.items() if k != "urls"},
        "actionOverrides": [],
        "childRelationships": children,
        "compactLayoutable": thing.queryable,
        "defaultImplementation": None,
        "extendedBy": None,
        "extendsInterfaces": None,
        "fields": [field_document(f, thing) for f in thing.visible()],
        "implementedBy": None,
        "implementsInterfaces": None,
        "listviewable": None,
        "lookupLayoutable": None,
        "namedLayoutInfos": [],
        "networkScopeFieldName": None,
        "recordTypeInfos": [
            {
                "active": True,
                "available": True,
                "defaultRecordTypeMapping": True,
                "developerName": "Master",
                "master": True,
                "name": "Master",
                "recordTypeId": "012000000000000AAA",
                "urls": {
                    "layout": f"/services/data/v{version}/sobjects/{thing.name}/describe/layouts/012000000000000AAA"
                },
            }
        ],
        "searchLayoutable": thing.queryable,
        "sobjectDescribeOption": "FULL",
        "supportedScopes": [
            {"label": f"All {thing.plural.lower()}", "name": "everything"},
            {"label": f"My {thing.plural.lower()}", "name": "mine"},
        ],
        "urls": urls,
    }
