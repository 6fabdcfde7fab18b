"""Amplitude's stand-in in this process, with few hours of few events, and homes that read from it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn

from sandbox.amplitude.app import make_app
from sandbox.amplitude.control import handle
from sandbox.amplitude.generate import Shape
from sandbox.amplitude.http import Asked
from sandbox.amplitude.project import Amplitude
from tests.homes import Home

STREAMS = '"amplitude.events" = {}\n"amplitude.event_types" = {}\n"amplitude.event_properties" = {}\n'
#: See amplitude.settle_minutes; such that no further hour can be read in the fifty minutes after these tests began.
SETTLE_MINUTES = 180 + (datetime.now(UTC).minute - 10) % 60


def settled() -> datetime:
    """The end of the last hour that can be read."""
    return (datetime.now(UTC) - timedelta(minutes=SETTLE_MINUTES)).replace(minute=0, second=0, microsecond=0)


def serve(app: Callable[..., Any]) -> tuple[str, Callable[[], None]]:
    """Answer on a free port; the URL, and what ends it."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join(5)

    return f"http://127.0.0.1:{listener.getsockname()[1]}", stop


class Vendor:
    """The stand-in and what it knows."""

    def __init__(self, folder: Path, *, hours: int = 3, events_per_hour: int = 100) -> None:
        self.first = settled() - timedelta(hours=hours)
        shape = Shape(events_per_hour=events_per_hour, files_per_hour=2, first_hour=self.first)
        self.amplitude = Amplitude(shape, "a secret", cache=folder / "cache")
        self.folder = folder
        self.url, self.stop = serve(make_app(self.amplitude))
        text = self.amplitude.secrets_toml(self.url, "").replace('ca_file = ""\n', "")
        (folder / "secrets.toml").write_text(text)

    def call(self, name: str, **body: Any) -> Any:
        """A control request; without a body it is a GET."""
        asked = Asked(
            method="POST" if body else "GET", path="", query="", headers={}, body=json.dumps(body).encode()
        )  # fmt: skip
        answer = json.loads(handle(self.amplitude, asked, name).body)
        assert "error" not in answer, answer
        return answer

    def hours(self) -> list[datetime]:
        """The hours that can be read for certain now."""
        return [self.first + timedelta(hours=n) for n in range((settled() - self.first) // timedelta(hours=1))]

    def label(self, place: int) -> str:
        """An hour as faults name it, by its place among those that can be read."""
        return f"{self.hours()[place]:%Y-%m-%dT%H}"

    def lines(self) -> list[dict[str, Any]]:
        """Every line of these hours, as it would be exported without faults."""
        project = self.amplitude.projects["us"]
        found = []
        for at in self.hours():
            hour = int(at.timestamp()) // 3600
            for part in project.parts(hour):
                for piece in project.generator.lines(hour, part, project.revisions.get(hour, 0)):
                    found += [json.loads(line) for line in bytes(piece).splitlines()]
        return found


def home_of(folder: Path, secrets: Path, *, amplitude: str = "", streams: str = STREAMS) -> Home:
    """A home whose project is the one in ``secrets``; extra TOML for the amplitude section."""
    with suppress(FileExistsError):
        folder.mkdir()
    text = "[environments.test.amplitude]\nretry_base_seconds = 0.01\nhours_per_request = 8760\n"
    text += f"settle_minutes = {SETTLE_MINUTES}\n{amplitude}\n"
    return Home.make(folder, SimpleNamespace(folder=secrets.parent), salesforce=text, streams=streams)  # type: ignore[arg-type]  # it takes the folder alone
