"""Amplitude's Export API to warehouse: one first sync against DuckDB alone reading the same files.

The export is one zip of 24 gzip files, made once a day by the stand-in's writer and served from disk, so that nothing
but the transfer and our work is measured. DuckDB alone reads the gzip files where they lie, with columns given, and
de-duplicates them into a table: no zip, no types refused, no hashes, no landing, no ledger.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.harness import PROJECT, measure, measure_call, row

SIZES = {"standard": [100_000], "large": [100_000, 1_000_000]}
_HOME = PROJECT / "var" / "bench" / "amplitude"


def run(size: str) -> list[dict[str, Any]]:
    """Seconds and peak memory of a first sync and of one with nothing new, beside DuckDB's own."""
    rows: list[dict[str, Any]] = []
    for events in SIZES[size]:
        day = datetime.now(UTC).date() - timedelta(days=2)
        files = _files(events, f"{day}")
        home = _HOME / f"home-{events}"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.amplitude", str(files / "export.zip"), f"{day:%Y%m%d}"],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            port = (server.stdout.readline() if server.stdout else "").strip()
            environ = {"NOVADE_CONFIG": str(_configured(home, port, f"{day}"))}
            alone = measure_call("bench.amplitude:alone", str(files), str(home / "alone.duckdb"))
            sync = [sys.executable, "-m", "jobs", "sync", "amplitude.events", "--json"]
            ours = measure(sync, environ=environ)
            again = measure([*sync, "--full"], environ=environ)
            after = measure(sync, environ=environ)
        finally:
            server.terminate()
            server.wait(timeout=10)
        answer = json.loads(ours.output[ours.output.index("{") :])
        if answer["state"] != "succeeded" or answer["loaded"] < events:
            raise RuntimeError(f"the sync did not succeed: {answer}")
        name = f"{events:,} events by export"
        rows += [
            row(f"{name}, first sync: elapsed", "s", ours.seconds, limit=2.5 * alone.seconds, peer=alone.seconds),
            row(f"{name}, first sync: processor time", "s", ours.cpu_seconds, peer=alone.cpu_seconds),
            row(f"{name}, first sync: peak memory", "MiB", ours.peak_mb, limit=450, peer=alone.peak_mb),
            row(f"{name}, full reload: elapsed", "s", again.seconds, peer=ours.seconds),
            row(f"{name}, nothing new: elapsed", "s", after.seconds, limit=0.2 * ours.seconds, peer=ours.seconds),
        ]
    return rows


def _files(events: int, day: str) -> Path:
    """The day's files and the zip of them, made once."""
    folder = _HOME / f"files-{events}-{day}"
    if (folder / "export.zip").exists():
        return folder
    for former in _HOME.glob(f"files-{events}-*"):
        shutil.rmtree(former, ignore_errors=True)
    per_hour = -(-events // 24)
    command = ["write", "--to", str(folder), "--from-hour", f"{day}T00", "--hours", "24"]
    subprocess.run(
        [sys.executable, "-m", "sandbox.amplitude", *command, "--events-per-hour", str(per_hour)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(folder / "draft.zip", "w") as export:
        for file in sorted(folder.rglob("[0-9]*.json.gz")):
            export.write(file, f"{file.parent.name}/{file.name}")
    return (folder / "draft.zip").rename(folder / "export.zip").parent


def _configured(home: Path, port: str, since: str) -> Path:
    file = home / "novade.toml"
    file.write_text(
        'default_environment = "bench"\nfirst_sync = false\n[environments.bench.amplitude]\n'
        f'api_key = "bench"\nsecret_key = "bench"\nendpoint = "http://127.0.0.1:{port}"\nsince = {since}\n'
        '[streams]\n"amplitude.events" = {}\n'
    )
    return file


def alone(files: str, database: str) -> None:
    """DuckDB: the gzip files with columns given, each uuid once, into a table."""
    import duckdb

    from novade_core.sources.amplitude import fields
    from novade_core.streams import ColumnType

    names = {c.name: c.type for c in fields.EVENTS}
    types = {
        ColumnType.TEXT: "VARCHAR", ColumnType.BIGINT: "BIGINT", ColumnType.TIMESTAMP: "TIMESTAMP",
        ColumnType.BOOLEAN: "BOOLEAN", ColumnType.DOUBLE: "DOUBLE", ColumnType.JSON: "JSON",
    }  # fmt: skip
    columns = ", ".join(f"'{name}': '{types[kind]}'" for name, kind in names.items())
    with duckdb.connect(database, config={"threads": "2"}) as connection:
        connection.execute(
            "CREATE TABLE events AS SELECT * FROM read_json(?, format='newline_delimited', "
            f"columns={{{columns}}}) "
            "QUALIFY row_number() OVER (PARTITION BY uuid ORDER BY server_upload_time DESC) = 1",
            [f"{files}/**/*.json.gz"],
        )


def serve(export: str, day: str) -> None:
    """Answer exports that cover the day with the file, all others with 404."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from urllib.parse import parse_qs, urlsplit

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            there = asked["start"][0] <= f"{day}T00" and asked["end"][0] >= f"{day}T23"
            self.send_response(200 if there else 404)
            self.send_header("Content-Length", str(Path(export).stat().st_size if there else 0))
            self.end_headers()
            if there:
                with Path(export).open("rb") as file:
                    shutil.copyfileobj(file, self.wfile, 1 << 20)

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    serve(*sys.argv[1:])
