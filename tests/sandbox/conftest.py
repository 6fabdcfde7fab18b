"""A real sandbox process on a free port, and clients that reach it as they would reach Salesforce."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "salesforce"


class Rewrite(HTTPAdapter):
    """Sends every request to the sandbox and keeps the asked host in the Host header."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = urlsplit(endpoint)
        super().__init__()

    def send(self, request, **options):
        url = urlsplit(request.url)
        request.headers["Host"] = url.netloc
        request.url = urlunsplit((self.endpoint.scheme, self.endpoint.netloc, url.path, url.query, ""))
        return super().send(request, **options)


class Sandbox:
    """A running sandbox and ways to talk to it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.start()

    def start(self) -> None:
        (self.folder / "sandbox.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "sandbox", "serve", "--dir", str(self.folder), "--port", "0", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("sandbox ready on https://127.0.0.1:"), line
        self.about = json.loads((self.folder / "sandbox.json").read_text())
        self.secrets = tomllib.loads((self.folder / "secrets.toml").read_text())["salesforce"]
        self.url = self.about["url"]
        self.http = self.session()
        self._token = ""

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=5)

    def session(self) -> requests.Session:
        made = requests.Session()
        made.trust_env = False
        made.verify = self.about["ca_file"]
        made.mount("https://", Rewrite(self.url))
        return made

    def salesforce(self, version: str = "60.0", **options: str) -> Salesforce:
        given = {
            "username": self.secrets["username"],
            "consumer_key": self.secrets["consumer_key"],
            "privatekey": self.secrets["private_key"],
            "domain": self.secrets["domain"],
        }
        return Salesforce(session=self.session(), version=version, **(options or given))

    def control(self, name: str, body: dict | None = None, method: str | None = None, **params: str):
        method = method or ("GET" if body is None else "POST")
        answer = self.http.request(method, f"{self.url}/_sandbox/{name}", json=body, params=params)
        assert answer.ok, answer.text
        return answer.json()

    def token(self) -> str:
        data = {"grant_type": "client_credentials"}
        auth = (self.secrets["consumer_key"], self.secrets["consumer_secret"])
        answer = self.http.post(
            f"https://{self.secrets['domain']}.salesforce.com/services/oauth2/token", data, auth=auth
        )
        return answer.json()["access_token"]

    def api(self, path: str, method: str = "GET", **options) -> requests.Response:
        """A call with a good token; `path` starts after /services/data/v60.0 unless it is whole."""
        if not self._token:
            self._token = self.token()
        whole = path if path.startswith("/services") else f"/services/data/v60.0{path}"
        headers = {"Authorization": f"Bearer {self._token}", **options.pop("headers", {})}
        url = f"https://novade-sandbox.my.salesforce.com{whole}"
        return self.http.request(method, url, headers=headers, **options)

    def query(self, soql: str, route: str = "query") -> requests.Response:
        return self.api(f"/{route}/", params={"q": soql})

    def rows(self, soql: str, route: str = "query") -> list[dict]:
        answer = self.query(soql, route)
        assert answer.ok, answer.text
        body = answer.json()
        rows = body["records"]
        while not body["done"]:
            body = self.api(body["nextRecordsUrl"]).json()
            rows += body["records"]
        return rows

    def error(self, soql: str) -> tuple[str, str]:
        answer = self.query(soql)
        assert answer.status_code == 400, answer.text
        (only,) = answer.json()
        return only["errorCode"], only["message"]

    def job(self, soql: str, operation: str = "query", **more: str) -> requests.Response:
        return self.api("/jobs/query", "POST", json={"operation": operation, "query": soql, **more})

    def finished(self, soql: str, operation: str = "query", **more: str) -> str:
        """Id of a completed job."""
        answer = self.job(soql, operation, **more)
        assert answer.ok, answer.text
        job_id = answer.json()["id"]
        for _ in range(50):
            if self.api(f"/jobs/query/{job_id}").json()["state"] == "JobComplete":
                return job_id
            time.sleep(0.01)
        raise AssertionError("job did not complete")

    def page(self, job_id: str, **params) -> requests.Response:
        return self.api(f"/jobs/query/{job_id}/results", params=params)


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path_factory.mktemp("sandbox"), "--size", "3000", "--page-size-bulk", "1000")
    yield made
    made.stop()


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    """The shared sandbox with the seed's data, no faults and fresh sessions."""
    running.control("reset", {"data": True, "sessions": True})
    running._token = running.token()
    running.control("stats", {"reset": True})
    return running
