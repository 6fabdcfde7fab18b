"""The objects of the default org, as tables of fields.

Each line is read by `schema.parse_field`; after ``:=`` stands how seed data fills the field. In these expressions
``$h`` is a hash of the row and field, ``@LIST`` a list of words, ``ref Object percent`` a link, and the macros are
those of `generate`.
"""

from __future__ import annotations

from . import catalogue_tables as t
from .schema import SObject, parse_object
from .words import PICKLISTS

_HEAD = """
Id id req := _id
IsDeleted boolean req ro := _deleted
"""
_OWNER = "OwnerId reference req to=User rel=Owner := ref User 100\n"
_SYSTEM = """
CreatedDate datetime req ro := _created
CreatedById reference req ro to=User rel=CreatedBy := ref User 100
LastModifiedDate datetime req ro := _modified
LastModifiedById reference req ro to=User rel=LastModifiedBy := ref User 100
SystemModstamp datetime req ro := _stamp
LastActivityDate date ro := CASE WHEN pct($h, 60) THEN (_stamp - to_days(($h % 40)::INTEGER))::DATE END
LastViewedDate datetime ro := CASE WHEN pct($h, 5) THEN _stamp END
LastReferencedDate datetime ro := CASE WHEN pct($h, 5) THEN _stamp END
"""
#: System fields of objects that keep no activity or view dates.
_SYSTEM_SHORT = "\n".join(_SYSTEM.strip().splitlines()[:5]) + "\n"


def _address(prefix: str, share: int) -> str:
    """The members of an address, and the compound field itself."""
    whole = f"{prefix}Address"
    has = f"pct(hash(i, '{prefix}'), {share})"
    return f"""
{prefix}Street textarea of={whole} := CASE WHEN {has} THEN concat(1 + $h % 400, ' ', pick($h, @STREETS), \
CASE WHEN $h % 9 = 0 THEN chr(10) || 'Level ' || ($h % 40) END) END
{prefix}City string(40) of={whole} := CASE WHEN {has} THEN pick($h, @CITIES) END
{prefix}State string(80) of={whole} := CASE WHEN {has} AND $h % 3 = 0 THEN pick($h, @STATES) END
{prefix}PostalCode string(20) of={whole} := CASE WHEN {has} THEN lpad(($h % 99999)::VARCHAR, 5, '0') END
{prefix}Country string(80) of={whole} := CASE WHEN {has} THEN pick($h, @COUNTRIES) END
{prefix}Latitude double(18,15) of={whole} := CASE WHEN {has} AND $h % 2 = 0 THEN ($h % 1800000000) / 1e7 - 90 END
{prefix}Longitude double(18,15) of={whole} := CASE WHEN {has} AND $h % 2 = 0 THEN ($h % 3600000000) / 1e7 - 180 END
{prefix}GeocodeAccuracy picklist(40) of={whole} pick=Geocode := CASE WHEN {has} AND $h % 5 = 0 \
THEN pick($h, @Geocode) END
{whole} address ro
"""


def _build(header: str, *tables: str, **options: object) -> SObject:
    return parse_object(header, "".join(tables), PICKLISTS, **options)


def standard_org() -> dict[str, SObject]:
    """Every object of the default org, by name."""
    objects = [
        _build("Account 001 Account / Accounts", _HEAD, t.ACCOUNT, _address("Billing", 80), _address("Shipping", 30),
               t.ACCOUNT_REST, _OWNER, _SYSTEM, ratio=0.25),
        _build("Contact 003 Contact / Contacts", _HEAD, t.CONTACT, _address("Mailing", 70), _address("Other", 10),
               t.CONTACT_REST, _OWNER, _SYSTEM, ratio=1.0),
        _build("Lead 00Q Lead / Leads", _HEAD, t.LEAD, _address("", 60), t.LEAD_REST, _OWNER, _SYSTEM, ratio=0.25),
        _build("Opportunity 006 Opportunity / Opportunities", _HEAD, t.OPPORTUNITY, _OWNER, _SYSTEM, ratio=1 / 3),
        _build("Case 500 Case / Cases", _HEAD, t.CASE, _OWNER, _SYSTEM, ratio=1 / 3),
        _build("Task 00T Task / Tasks", _HEAD, t.TASK, _OWNER, _SYSTEM_SHORT, ratio=0.5),
        _build("Campaign 701 Campaign / Campaigns", _HEAD, t.CAMPAIGN, _OWNER, _SYSTEM, ratio=0.002, most=5_000),
        # Users are never deleted, only made inactive: there is no IsDeleted to read.
        _build("User 005 User / Users", "Id id req := _id\n", t.USER, _address("", 20), t.USER_REST,
               _SYSTEM_SHORT, ratio=0.001, most=500),
        _build("Attachment 00P Attachment / Attachments", _HEAD, t.ATTACHMENT, _OWNER, _SYSTEM_SHORT,
               ratio=0.01, most=2_000, bulk=False),
        _build("Inspection__c a01 Inspection / Inspections", _HEAD, t.INSPECTION, _OWNER, _SYSTEM,
               ratio=0.1, most=50_000),
        _build("Secret__c a0X Secret / Secrets", _HEAD, t.UNREADABLE, _OWNER, _SYSTEM_SHORT, ratio=0.01, hidden=True),
        _build("Organization 00D Organization / Organizations", "Id id req := _id\n", t.ORGANIZATION, _SYSTEM_SHORT,
               least=1, most=1, bulk=True, replicateable=False),
        _build("TaskStatus 01J Task Status Value / Task Status Value", "Id id req := _id\n", t.STATUS_VALUE,
               _SYSTEM_SHORT, least=3, most=3, bulk=False, replicateable=False),
        _build("AccountChangeEvent - Account Change Event / Account Change Events", "Id id req := _id\n",
               t.CHANGE_EVENT, ratio=0, least=0, queryable=False, bulk=False, replicateable=False),
    ]  # fmt: skip
    return {made.name: made for made in objects}
