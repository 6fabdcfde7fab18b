"""``python -m bench [--large] [--only NAME]``: run the benchmarks, print one table, write var/bench/latest.json.

A benchmark is a module in this folder with ``run(size) -> list[dict]``. Each runs in a process of its own, so that
memory figures do not mix and a crash costs one benchmark. No figure fails anything: only a crash makes the exit code 1.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parent
REPORT = PROJECT / "var" / "bench" / "latest.json"
COLUMNS = ("name", "unit", "ours", "limit", "peer", "ratio")
NOT_BENCHES = {"__init__", "__main__", "harness"}
#: Their versions are written beside the figures.
PACKAGES = ("duckdb", "streamlit", "sqlalchemy", "pyarrow", "pandas", "apscheduler", "simple-salesforce", "pyodbc")


def discover(folder: Path = FOLDER) -> dict[str, str]:
    """Benchmark names with their titles, which are the first lines of their docstrings. Nothing is imported for it."""
    files = sorted(file for file in folder.glob("*.py") if file.stem not in NOT_BENCHES and file.stem[0] != "_")
    return {file.stem: _title(file) for file in files}


def _title(file: Path) -> str:
    try:
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    except SyntaxError:
        docstring = None
    return (docstring or file.stem).splitlines()[0].rstrip(".")


def run_in_child(name: str, size: str) -> list[dict[str, Any]] | None:
    """One benchmark's rows, or None when it crashed; what it prints goes straight to the screen."""
    with tempfile.TemporaryDirectory(prefix="novade-bench-") as folder:
        file = Path(folder) / "rows.json"
        code = f"from bench.__main__ import work; work({'bench.' + name!r}, {size!r}, {str(file)!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, stdin=subprocess.DEVNULL, check=False)
        if done.returncode or not file.exists():
            return None
        rows: list[dict[str, Any]] = json.loads(file.read_text())
        return rows


def work(module: str, size: str, file: str) -> None:
    """In the child: run one benchmark and write its rows."""
    rows = import_module(module).run(size)
    for row in rows:
        missing = [column for column in COLUMNS if column not in row]
        if missing:
            raise KeyError(f"{module}: the row {row} lacks {', '.join(missing)}")
    Path(file).write_text(json.dumps(rows))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Of the packages that matter for the figures; None for one that is not installed."""

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in PACKAGES}


def figure(value: float | None) -> str:
    """Three significant digits and thousands apart; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def show(rows: list[dict[str, Any]], titles: dict[str, str]) -> None:
    """All rows as one table, a section per benchmark."""
    table = Table("benchmark", "unit")
    for column in COLUMNS[2:]:
        table.add_column(column, justify="right")
    for name, title in titles.items():
        mine = [row for row in rows if row["bench"] == name]
        if mine:
            table.add_section()
            table.add_row(f"[bold]{escape(title)}[/bold]")
        for row in mine:
            table.add_row(f"  {escape(row['name'])}", row["unit"], *(figure(row[column]) for column in COLUMNS[2:]))
    # A pipe has no width of its own, and a table folded to 80 columns cannot be read.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def main(arguments: list[str]) -> int:
    titles = discover()
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure; see bench/README.md.")
    parser.add_argument("--large", action="store_true", help="large sizes instead of standard ones")
    parser.add_argument("--only", metavar="NAME", choices=titles, help=f"one of: {', '.join(titles) or 'none yet'}")
    options = parser.parse_args(arguments)
    size = "large" if options.large else "standard"
    chosen = [options.only] if options.only else list(titles)

    rows: list[dict[str, Any]] = []
    crashed: list[str] = []
    for name in chosen:
        sys.stdout.write(f"{name}: {titles[name]} ({size}) …\n")
        sys.stdout.flush()
        result = run_in_child(name, size)
        if result is None:
            crashed.append(name)
        else:
            rows += [{"bench": name, **row} for row in result]

    at = datetime.now(UTC).isoformat(timespec="seconds")
    report = {"machine": machine(), "versions": versions(), "at": at, "size": size, "crashed": crashed, "rows": rows}
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    show(rows, titles)
    sys.stdout.write(f"Written to {REPORT.relative_to(PROJECT)}.\n")
    if crashed:
        sys.stdout.write(f"Crashed: {', '.join(crashed)}.\n")
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
