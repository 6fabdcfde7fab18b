"""Views and external tables over the landing zone as the ledger knows them, and the statement that made one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

import streamlit as st

from novade_core.ledger import published_views
from novade_core.ledger.published_views import METER, Kind, View, ViewState
from novade_core.monitoring.freshness import spoken
from pages.ui import money, status, tables, words
from pages.ui.markup import Markup, address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

_COLUMNS = (
    Column("Stream"),
    Column("State", "nv-tight"),
    Column("Rows", "nv-right", "As the last check counted them"),
    Column("Expected", "nv-right", "By the warehouse's last count; a dash where some of it is not loaded yet"),
    Column("Name", "nv-tight nv-extra"),
    Column("Newest row", "nv-tight nv-extra", "When it was changed at the source"),
    Column("Files", "nv-right nv-extra", "That it names, or that lay in its folders when it was made"),
    Column("Version", "nv-tight nv-extra", "Generator and hash of the text"),
    Column("Checked", "nv-tight nv-extra"),
    Column("Read by the check", "nv-right nv-extra", "Data processed, which is billed"),
    Column("SQL", "nv-tight", "The statement that made it"),
)
_NEEDED = (ViewState.NOT_OURS, ViewState.MISSING, ViewState.BEHIND)
_PERIODS = {"daily": "a day", "weekly": "a week", "monthly": "a month"}
#: A longer statement is downloaded instead of drawn.
_DRAWN = 20_000


def absent(services: Services) -> None:
    """An environment without a serverless pool."""
    name = services.environment.name
    status.empty(
        f"The environment {name} publishes no views.",
        "A serverless SQL pool shows what has landed without a warehouse that runs. Give the environment a section ",
        tag("code", f"[environments.{name}.serverless]"),
        " in novade.toml; docs/azure.md says what it stands on.",
    )


def draw(services: Services) -> None:
    """The page without a view chosen."""

    @st.fragment(run_every=services.interval(live=False))
    def moving() -> None:
        found = services.read(published_views.views)
        if not found:
            _nothing(services)
            return
        headline(services, found)
        troubles(found)
        listed(services, found, Kind.VIEW)
        listed(services, found, Kind.TABLE)
        show(
            tag(
                "p",
                "Renew them with ",
                tag("code", "python -m jobs views apply"),
                ", count through them with ",
                tag("code", "python -m jobs views check"),
                ".",
                class_="nv-aside",
            )
        )
        tables.download("Download views", lambda: csv_of(found), file_name="views.csv", key="views_csv")

    moving()


def _nothing(services: Services) -> None:
    status.empty(
        f"No view has been published yet: {words.counted(len(services.environment.streams), 'stream')} configured.",
        "Publish them with ",
        tag("code", "python -m jobs views apply"),
        "; from then on each sync renews its own.",
    )


def headline(services: Services, found: Sequence[View]) -> None:
    """The sentence: how many are current, how new their rows are, what reading them cost."""
    views = [view for view in found if view.kind is Kind.VIEW]
    by_state = Counter(view.state for view in views)
    known = {view.stream for view in views}
    absent_ones = sum(stream.id not in known for stream in services.environment.streams)
    by_state[ViewState.MISSING] += absent_ones
    total = len(views) + absent_ones
    said = f"{by_state[ViewState.CURRENT]} of {words.counted(total, 'view')} {'is' if total == 1 else 'are'} current"
    left = [f"{by_state[state]} {state.value}" for state in (*_NEEDED, ViewState.NOTHING) if by_state[state]]
    newest = max((view.newest_at for view in views if view.newest_at is not None), default=None)
    now = services.now()
    age = f"; the newest rows are {spoken(now - newest)} old" if newest is not None and newest <= now else ""
    differing = sum(view.rows is not None and view.expected not in (None, view.rows) for view in views)
    differ = f"; {words.counted(differing, 'view')} differ{'s' if differing == 1 else ''} from the warehouse"
    status.headline(
        said,
        f" ({words.listed(left)})" if left else None,
        differ if differing else None,
        age,
        "; ",
        _read(services, now.date()),
        f", limit {_limit(services)}.",
    )


def _limit(services: Services) -> str:
    settings = services.environment.serverless
    assert settings is not None
    return f"{settings.data_limit_tb} TB {_PERIODS[settings.data_limit_per]}"


def _read(services: Services, today: date) -> Markup | str:
    """What checks read this month, in money where that is known; without a pool it is runs that count, too."""
    first, _ = money.month_of(today)
    days = services.read(published_views.processed, since=first, until=today)
    book = money.book(services)
    euros = [book.price(METER, quantity, day).euros for day, quantity in days.items()]
    amount = words.size(sum(days.values()))
    who = "runs and checks" if services.environment.warehouse.kind == "serverless" else "checks"
    if not days:
        return f"{who} have read nothing this month"
    if any(part is None for part in euros):
        return f"{who} have read {amount} this month (no price is known)"
    spent = words.money(sum(part for part in euros if part is not None))
    return tag("span", f"{who} have read {spent} of data this month", title=amount)


def troubles(found: Sequence[View]) -> None:
    """What needs somebody, with the next step."""
    for view in found:
        if view.trouble is None:
            continue
        said = [] if view.name in view.trouble else [tag("code", view.name), ": "]
        level = "fail" if view.state is ViewState.NOT_OURS else "warn"
        status.notice(tag("p", *said, view.trouble), tag("p", view.hint), level=level)


def listed(services: Services, found: Sequence[View], kind: Kind) -> None:
    """One table, of views or of external tables."""
    rows = [_row(services, view) for view in found if view.kind is kind]
    if kind is Kind.VIEW:
        known = {view.stream for view in found if view.kind is kind}
        rows += [
            (link(s.label, address("sync"), title=s.id), status.badge(ViewState.MISSING), *[words.DASH] * 8, "")
            for s in services.environment.streams
            if s.id not in known
        ]
    if not rows:
        return
    if kind is Kind.VIEW:
        status.section("Views", "The newest version of each record, without deleted ones; only what was registered.")
    else:
        status.section("External tables", "Every landed row, to look at what is behind a view.")
    show(tables.table(_COLUMNS, rows, caption="Views" if kind is Kind.VIEW else "External tables"))


def _row(services: Services, view: View) -> tuple[Any, ...]:
    now, zone = services.now(), services.zone()
    differs = view.kind is Kind.VIEW and view.expected is not None and view.rows not in (None, view.expected)
    rows = words.number(view.rows)
    return (
        link(services.label(view.stream), address("freshness", stream=view.stream), title=view.stream),
        status.badge(view.state.value, title=f"Looked at {words.exact(view.looked_at, zone)}"),
        tag("strong", rows, class_="nv-bad") if differs else rows,
        words.number(view.expected),
        tag("code", view.name),
        words.when(view.newest_at, now, zone),
        words.number(view.files) if view.version else words.DASH,
        tag("code", view.version) if view.version else words.DASH,
        words.when(view.checked_at, now, zone),
        words.size(view.bytes_processed),
        link("SQL", address("views", view=view.name), title=f"The statement of {view.name}")
        if view.published_at is not None
        else "",
    )


def draw_sql(services: Services, name: str) -> None:
    """The statement of one, to copy."""
    text = services.read(published_views.statement_of, name=name)
    show(tag("p", link("All views", address("views"))))
    if text is None:
        status.empty(f"No statement of {name} is known.", "Views that we published are listed on the page.")
        return
    found = next((view for view in services.read(published_views.views) if view.name == name), None)
    told = words.when(found.published_at, services.now(), services.zone()) if found is not None else words.DASH
    status.headline(tag("code", name), " was published ", told, ".")
    if len(text) <= _DRAWN:
        # Streamlit's colours of SQL are too pale to be read by everybody.
        st.code(text, language=None, wrap_lines=True)
    else:
        show(tag("p", f"Its statement has {len(text):,} characters.", class_="nv-aside"))
    st.download_button(
        "Download SQL", data=text, file_name="view.sql", mime="text/plain", key="view_sql", on_click="ignore",
        icon=":material/download:",
    )  # fmt: skip


def csv_of(found: Sequence[View]) -> str:
    """All of them for a spreadsheet."""
    names = (
        "stream", "name", "kind", "state", "version", "files", "rows", "expected", "newest_at", "published_at",
        "checked_at", "bytes_processed", "trouble", "hint",
    )  # fmt: skip
    return tables.csv_text(names, ([getattr(view, name) for name in names] for view in found))
