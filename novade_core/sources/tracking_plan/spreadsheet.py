"""The rows of an XLSX file's first sheet. Limits keep a hostile file from filling the memory."""

from __future__ import annotations

import io
import re
import zipfile
from xml.etree import ElementTree

from .model import unreadable

MAX_PART = 64_000_000
MAX_RATIO = 200
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def sheet_rows(data: bytes, file: str) -> list[tuple[int, list[str]]]:
    """Row numbers and cells as texts; missing cells are empty. Raises ConfigurationError for anything unsafe."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        shared = [
            _words(item) for item in _xml(archive, "xl/sharedStrings.xml", file, optional=True).iter(f"{_MAIN}si")
        ]
        names = sorted(n for n in archive.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", n))
        if not names:
            raise unreadable(file, "", "has no sheet")
        sheet = _xml(archive, min(names, key=lambda n: (len(n), n)), file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise unreadable(file, "", f"is no XLSX file: {error}") from None
    rows = []
    for number, row in enumerate(sheet.iter(f"{_MAIN}row"), 1):
        cells: list[str] = []
        for cell in row.iter(f"{_MAIN}c"):
            column = _column(cell.get("r", ""), len(cells))
            if column > 1_000:
                raise unreadable(file, f"row {number}", "has more than 1,000 columns")
            cells += [""] * (column + 1 - len(cells))
            cells[column] = _value(cell, shared, file, number)
        rows.append((int(row.get("r") or number), cells))
    return rows


def _xml(archive: zipfile.ZipFile, name: str, file: str, *, optional: bool = False) -> ElementTree.Element:
    if optional and name not in archive.namelist():
        return ElementTree.Element("none")
    about = archive.getinfo(name)
    if about.file_size > MAX_PART or about.file_size > MAX_RATIO * max(about.compress_size, 1_000):
        raise unreadable(file, name, "unpacks to far more than it should; it may be a zip bomb")
    with archive.open(about) as part:
        # What the directory says may be a lie: read one byte more than allowed.
        text = part.read(about.file_size + 1)
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise unreadable(file, name, "declares entities or is not UTF-8, which no spreadsheet needs")
    try:
        return ElementTree.fromstring(text)  # noqa: S314  see the import
    except ElementTree.ParseError as error:
        raise unreadable(file, f"{name} line {error.position[0]}", "is not XML") from None


def _column(reference: str, following: int) -> int:
    letters = re.match(r"[A-Z]{1,3}", reference)
    if letters is None:
        return following
    number = 0
    for letter in letters[0]:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _words(item: ElementTree.Element) -> str:
    return "".join(part.text or "" for part in item.iter(f"{_MAIN}t"))


def _value(cell: ElementTree.Element, shared: list[str], file: str, row: int) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return _words(cell)
    text = cell.findtext(f"{_MAIN}v") or ""
    if kind == "s":
        if not text.isdecimal() or int(text) >= len(shared):
            raise unreadable(file, f"row {row}", "refers to a text that is not there")
        return shared[int(text)]
    if kind == "b":
        return "True" if text == "1" else "False"
    return text
