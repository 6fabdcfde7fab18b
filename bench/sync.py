"""Salesforce to warehouse: one first sync against a bare script that fetches the same pages and loads them.

The bare script logs in, runs one bulk query job over the same fields, writes its pages to disk and loads them
with DuckDB's CSV reader. No types are checked, nothing is hashed, landed, versioned, verified or resumable.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from bench.harness import PROJECT, measure, measure_call, ratio

SIZES = {"standard": [100_000], "large": [100_000, 1_000_000, 2_000_000]}
_HOME = PROJECT / "var" / "bench" / "sync"


def run(size: str) -> list[dict[str, Any]]:
    """CPU seconds and peak memory of the run, beside the bare script's CPU seconds."""
    rows: list[dict[str, Any]] = []
    peaks: list[float] = []
    for contacts in SIZES[size]:
        home = _prepare(contacts)
        environ = {"NOVADE_CONFIG": str(home / "novade.toml")}
        try:
            _jobs(environ, "ledger", "upgrade")
            _jobs(environ, "sandbox", "start")
            bare = measure_call("bench.sync:bare", str(home))
            ours = measure([sys.executable, "-m", "jobs", "sync", "salesforce.contact", "--json"], environ=environ)
            again = measure([sys.executable, "-m", "jobs", "sync", "salesforce.contact", "--json"], environ=environ)
        finally:
            _jobs(environ, "sandbox", "stop")
        answer = json.loads(ours.output)
        if answer["state"] != "succeeded" or answer["source_count"] != answer["warehouse_count"]:
            raise RuntimeError(f"the sync did not succeed: {answer}")
        peaks.append(ours.peak_mb)
        name = f"{contacts:,} Contacts, first sync"
        rows += [
            _row(f"{name}: processor time", "s", ours.cpu_seconds, 2 * bare.cpu_seconds, bare.cpu_seconds),
            _row(f"{name}: elapsed", "s", ours.seconds, None, bare.seconds),
            _row(f"{name}: peak memory", "MiB", ours.peak_mb, 500, bare.peak_mb),
            _row(f"{contacts:,} Contacts, nothing new: processor time", "s", again.cpu_seconds, None, None),
        ]
    if len(peaks) > 1:
        rows.append(_row("peak memory, largest against smallest", "x", peaks[-1] / peaks[0], None, None))
    return rows


def _row(name: str, unit: str, ours: float, limit: float | None, peer: float | None) -> dict[str, Any]:
    return {"name": name, "unit": unit, "ours": ours, "limit": limit, "peer": peer, "ratio": ratio(ours, peer)}


def _prepare(contacts: int) -> Path:
    """A home of its own; the sandbox's generated org is kept between benchmarks, everything else is fresh."""
    home = _HOME / str(contacts)
    home.mkdir(parents=True, exist_ok=True)
    for name in ("landing", "tmp", "bare"):
        shutil.rmtree(home / "var" / name, ignore_errors=True)
    for pattern in ("ledger.sqlite*", "warehouse.duckdb*"):
        for file in (home / "var").glob(pattern):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    text = (PROJECT / "novade.toml").read_text()
    text = text.replace("contacts = 2000", f"contacts = {contacts}").replace("port = 8543", "port = 0")
    (home / "novade.toml").write_text(text)
    return home


def _jobs(environ: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=PROJECT,
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
    )


def bare(home: str) -> None:
    """The bare script: login, one job, pages to disk, DuckDB's CSV reader."""
    import time

    import duckdb
    import requests
    from requests.adapters import HTTPAdapter
    from simple_salesforce.api import Salesforce

    secrets = tomllib.loads((Path(home) / "var/sandbox/secrets.toml").read_text())["salesforce"]

    class ToSandbox(HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            host, _, rest = request.url.removeprefix("https://").partition("/")
            request.headers["Host"] = host
            request.url = f"{secrets['endpoint']}/{rest}"
            return super().send(request, *args, **kwargs)

    session = requests.Session()
    session.mount("https://", ToSandbox())
    session.verify, session.trust_env = secrets["ca_file"], False
    org = Salesforce(
        session=session,
        version="62.0",
        domain=secrets["domain"],
        username=secrets["username"],
        consumer_key=secrets["consumer_key"],
        privatekey=secrets["private_key"],
    )
    session.headers.update({"Authorization": f"Bearer {org.session_id}", "Accept-Encoding": "gzip"})
    described = session.get(f"{org.base_url}sobjects/Contact/describe").json()
    fields = [f["name"] for f in described["fields"] if f["type"] not in ("address", "location", "base64")]
    body = {"operation": "queryAll", "query": f"SELECT {', '.join(fields)} FROM Contact"}
    job = session.post(f"{org.base_url}jobs/query", json=body).json()["id"]
    while session.get(f"{org.base_url}jobs/query/{job}").json()["state"] != "JobComplete":
        time.sleep(0.2)
    folder = Path(home) / "var/bare"
    folder.mkdir(parents=True, exist_ok=True)
    locator, pages = "", 0
    while locator != "null":
        parameters: dict[str, Any] = {"maxRecords": 50_000, **({"locator": locator} if locator else {})}
        with session.get(f"{org.base_url}jobs/query/{job}/results", params=parameters, stream=True) as answer:
            with (folder / f"{pages:05d}.csv").open("wb") as file:
                for block in answer.iter_content(1 << 20):
                    file.write(block.replace(b"\0", b""))
            locator, pages = answer.headers["Sforce-Locator"], pages + 1
    warehouse = duckdb.connect(str(folder / "bare.duckdb"), config={"threads": "2"})
    warehouse.execute(
        "CREATE TABLE contact AS SELECT * FROM read_csv(?, header=true, quote='\"', escape='\"', delim=',')",
        [f"{folder}/*.csv"],
    )
