"""Tracking plans in the formats of several vendors, read into one versioned model, and the source made of them.

Map
    model        Plan, Event, Property; what differs between two versions
    json_schema  properties out of JSON Schema (also Iglu's self-describing schemas)
    documents    JSON: Segment Protocols in both API generations, RudderStack's API, Iglu
    tables       CSV and XLSX: Amplitude Data's columns, or plain columns
    spreadsheet  the rows of an XLSX file, within limits
    yaml_text, rudder_project   RudderStack's plans as code: YAML files that refer to each other
    files        the plans of a folder, whatever lies in it
    rows         a version as rows of the three streams
    source       TrackingPlans, the source
"""

from .documents import parse_document
from .model import Difference, Event, Plan, Property, differences
from .tables import parse_table

__all__ = ["Difference", "Event", "Plan", "Property", "differences", "parse", "parse_document", "parse_table"]


def parse(data: bytes, file: str) -> Plan:
    """The plan in a file of any known format; raises ConfigurationError that names file, place and reason."""
    if data[:4] == b"PK\x03\x04" or file.lower().endswith((".csv", ".xlsx")):
        return parse_table(data, file)
    return parse_document(data, file)
