"""HTML that escapes by itself. Whatever is not Markup is data, and data comes out as the text that it is.

Streamlit's Markdown opens every link in a new tab, interprets directives, icons and emoji in data, and has no
tooltips; so what needs links, exact times on hover or bars is built here, shown by ``show``, and sanitised
once more by the browser side of ``st.html``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import urlencode

import streamlit as st


class Markup(str):
    """Text that is HTML already. Only this module makes it."""

    __slots__ = ()


Part = Any  #: Markup, a nested iterable of parts, None (nothing) or data


def html(part: Part) -> Markup:
    """The part as HTML."""
    if part is None:
        return Markup("")
    if isinstance(part, Markup):
        return part
    if isinstance(part, str):
        return Markup(escape(part, quote=True))
    if isinstance(part, Iterable):
        return Markup("".join(html(p) for p in part))
    return Markup(escape(str(part), quote=True))


def tag(name: str, *parts: Part, attributes: Mapping[str, str] | None = None, **named: str | None) -> Markup:
    """An element. ``class_`` and ``for_`` lose their underscore, None leaves an attribute out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in named.items()} | dict(attributes or {})
    written = "".join(f' {key}="{escape(value, quote=True)}"' for key, value in given.items() if value is not None)
    return Markup(f"<{name}{written}>{html(parts)}</{name}>")


def join(separator: str, parts: Iterable[Part]) -> Markup:
    """The parts with a separator between them."""
    return Markup(html(separator).join(html(part) for part in parts))


def address(page: str, **query: Any) -> str:
    """The link to a view: ``address("runs", run=5)``. Empty values are left out."""
    given = {key: str(value) for key, value in query.items() if value not in (None, "", ())}
    return f"/{page}" + (f"?{urlencode(given)}" if given else "")


def link(text: Part, href: str, *, title: str | None = None) -> Markup:
    """A link within the console, in the same tab."""
    if not href.startswith("/") or href.startswith("//"):
        raise ValueError("links lead within the console")
    return tag("a", text, href=href, target="_self", title=title)


def show(*parts: Part) -> None:
    """Draw it."""
    st.html(str(tag("div", *parts, class_="nv")))
