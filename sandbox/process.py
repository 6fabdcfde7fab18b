"""The process around the servers: one per folder, with its certificates and secrets, gone when its parent is gone."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import duckdb
import trustme
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from . import plan
from .amplitude.app import with_amplitude
from .amplitude.generate import Shape
from .amplitude.project import Amplitude
from .azurite import ACCOUNT, CONTAINER, Azurite, make_key
from .drift.app import with_drift
from .drift.workspace import Workspace
from .salesforce import generate
from .salesforce.app import make_app
from .salesforce.catalogue import standard_org
from .salesforce.folder_org import load_folder
from .salesforce.org import DOMAIN, USERNAME, Org
from .salesforce.store import Store
from .synapse import facts
from .synapse.connection import Endpoint
from .synapse.control import with_synapse
from .synapse.pool import ADMIN, Pool
from .synapse.serverless import ServerlessPool

#: A pool that load windows look after takes a while to move; a real one takes minutes.
PAUSED_SECONDS = {"resume_seconds": 4.0, "warm_up_seconds": 1.0, "pause_seconds": 2.0}
NAMES = ("127.0.0.1", "localhost", "*.salesforce.com", "*.my.salesforce.com")


class AlreadyRunning(RuntimeError):
    """Another sandbox holds this folder."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    folder: Path
    port: int
    size: int | None
    seed: int | None
    org: Path | None
    page_size_bulk: int
    parent_pid: int | None
    synapse: bool = False
    synapse_port: int = 0
    #: A real pool's answers; the stand-in then behaves so.
    facts: Path | None = None
    #: Blobs of an account as the pool reaches them: account -> endpoint and key.
    storage: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Azurite with the landing's container, and a pool that reads from it.
    azure: bool = False
    pool_paused: bool = False


def write_private(path: Path, text: str | bytes, mode: int = 0o600) -> None:
    """Write beside and rename, never readable by others, never half-written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    data = text.encode() if isinstance(text, str) else text
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.replace(draft, path)


def hold(folder: Path) -> IO[str]:
    """The folder's lock, kept until the process ends however it ends."""
    handle = (folder / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise AlreadyRunning(
            f"Another sandbox is already running in {folder}; stop it or choose another --dir."
        ) from None
    return handle


def certificates(folder: Path) -> trustme.CA:
    """The folder's own certificate authority: made once, so a client's trust outlives a restart."""
    cert, key = folder / "ca.pem", folder / "ca-key.pem"
    if cert.exists() and key.exists():
        return trustme.CA.from_pem(cert.read_bytes(), key.read_bytes())
    authority = trustme.CA(organization_name="Novade sandbox")
    write_private(key, authority.private_key_pem.bytes())
    write_private(cert, authority.cert_pem.bytes(), 0o644)
    return authority


def credentials(folder: Path) -> dict[str, str]:
    """Consumer key, secret and private key of the integration, made once per folder."""
    path = folder / "credentials.json"
    if not path.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made = {
            "consumer_key": "3MVG9" + secrets.token_urlsafe(60),
            "consumer_secret": secrets.token_hex(32).upper(),
            "private_key": pem.decode(),
        }
        write_private(path, json.dumps(made))
    return dict(json.loads(path.read_text()))


def remembered(options: Options) -> dict[str, Any]:
    """Size, seed, org and epoch of this folder: the first start decides what later starts do not say."""
    path = options.folder / "org.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    now = datetime.now(UTC).replace(second=0, microsecond=0, tzinfo=None)
    org = str(options.org.resolve()) if options.org else None
    made = {
        "size": options.size or known.get("size") or 10_000,
        "seed": options.seed if options.seed is not None else known.get("seed", 7),
        "org": org,
        "epoch": known.get("epoch") or now.isoformat(),
    }
    write_private(path, json.dumps(made), 0o644)
    return made


def open_org(options: Options, about: dict[str, Any], secret: dict[str, str]) -> Org:
    """The store for this seed and size (built when missing) and the org around it."""
    epoch = datetime.fromisoformat(about["epoch"])
    idmap: dict[str, dict[str, str]] = {}
    if options.org is not None:
        loaded = load_folder(options.org, epoch)
        key, objects, build, idmap = f"folder-{loaded.key}", loaded.objects, loaded.build, loaded.idmap
    else:
        objects = standard_org()
        key = f"s{about['seed']}-n{about['size']}-v{generate.GENERATOR_VERSION}"

        def build(con: Any) -> None:
            generate.build(con, objects, size=about["size"], seed=about["seed"], epoch=epoch)

    store = Store(options.folder, key, objects, build)
    private = serialization.load_pem_private_key(secret["private_key"].encode(), None)
    return Org(
        store,
        consumer_key=secret["consumer_key"],
        consumer_secret=secret["consumer_secret"],
        public_key=private.public_key(),  # type: ignore[arg-type]  # an RSA key's own half; the stub is too narrow
        page_size_bulk=options.page_size_bulk,
        idmap=idmap,
        epoch=about["epoch"],
    )


def open_drift(folder: Path, about: dict[str, Any]) -> Workspace:
    """The Drift workspace beside the org, with a tenth as many conversations as the org has Contacts."""
    epoch = int(datetime.fromisoformat(about["epoch"]).replace(tzinfo=UTC).timestamp() * 1000)
    size, seed = max(10, about["size"] // 10), about["seed"]
    # A journal belongs to one size and seed.
    return Workspace(folder / f"drift-s{seed}-n{size}", size=size, seed=seed, epoch=epoch)


def open_amplitude(folder: Path, about: dict[str, Any], secret: str) -> Amplitude:
    """Both Amplitude projects beside the org, from two weeks before its "now": an event an hour for 100 Contacts."""
    first = datetime.fromisoformat(about["epoch"]).replace(minute=0, second=0, microsecond=0, tzinfo=UTC)
    shape = Shape(
        seed=about["seed"], events_per_hour=max(10, about["size"] // 100), first_hour=first - timedelta(days=14)
    )
    return Amplitude(shape, secret, cache=folder / "amplitude")


class Server(uvicorn.Server):
    """uvicorn that says when it listens and ends without raising its signal again."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], gone: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready
        self.gone = gone

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    def end_soon(self) -> None:
        """Open downloads may not hold up the end: journal and database bear being cut off."""
        time.sleep(1.2)
        self.gone()
        os._exit(0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(*_: object) -> None:
            self.should_exit = True
            threading.Thread(target=self.end_soon, daemon=True).start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        yield


def _parent_gone(pid: int) -> bool:
    if os.getppid() == pid:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    return state == "Z"


def _watch(pid: int, server: Server) -> None:
    """End with the parent: politely at first, then at once."""
    while not _parent_gone(pid):
        time.sleep(0.3)
    server.should_exit = True
    server.end_soon()


def serve(options: Options) -> None:
    """Run until told to stop."""
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = hold(folder)
    authority = certificates(folder)
    leaf = authority.issue_cert(*NAMES)
    write_private(folder / "server.pem", leaf.private_key_and_cert_chain_pem.bytes())
    secret = credentials(folder)
    about = remembered(options)
    org = open_org(options, about, secret)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    # Accepted connections inherit it; without it every answer waits 40 ms for the client's delayed acknowledgement,
    # because asyncio sets it only on sockets whose protocol number it knows.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    port = listener.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    pool: Pool | None = None
    endpoint: Endpoint | None = None
    serverless: Endpoint | None = None
    drift = open_drift(folder, about)
    amplitude = open_amplitude(folder, about, secret["consumer_secret"])
    app = with_amplitude(with_drift(make_app(org), drift), amplitude)
    ports = _known_ports(folder)
    blobs = _blobs(folder, ports.get("azurite", 0)) if options.azure else None
    if options.synapse or options.azure:
        pool = _pool(options, blobs)
        endpoint = _endpoint(pool, options.synapse_port or ports.get("synapse", 0))
        serverless = _endpoint(ServerlessPool(folder / "serverless", beside=pool), ports.get("serverless", 0))
        endpoint.start()
        serverless.start()
        app = with_synapse(app, pool)
        ports = {"synapse": endpoint.port, "serverless": serverless.port}
        ports |= {"azurite": blobs.port} if blobs is not None else {}
        write_private(folder / "ports.json", json.dumps(ports), 0o644)
    state = folder / "sandbox.json"

    def ready() -> None:
        ca_file = str((folder / "ca.pem").resolve())
        said = _secrets_toml(secret, url, ca_file) + drift.secrets_toml(url, ca_file)
        said += amplitude.secrets_toml(url, ca_file)
        said += f'\n[tracking_plan]\npath = "{plan.write((folder / "plan").resolve())}"\n'
        if pool is not None and endpoint is not None and serverless is not None:
            said += _login_toml("warehouse", pool, endpoint)
            said += f'copy_secret = "{blobs.key}"\n' if blobs is not None else ""
            said += _login_toml("serverless", pool, serverless)
        if blobs is not None:
            said += _azure_toml(blobs, _kept_secret(folder / "pool-token", _word), url, ca_file)
        write_private(folder / "secrets.toml", said)
        shown = {"pid": os.getpid(), "port": port, "url": url, "ca_file": ca_file, **about}
        if endpoint is not None:
            shown["synapse_port"] = endpoint.port
        if serverless is not None:
            shown["serverless_port"] = serverless.port
        if blobs is not None:
            shown["azurite"] = blobs.endpoint()
        write_private(state, json.dumps(shown), 0o644)
        print(f"sandbox ready on {url}", flush=True)  # noqa: T201  the line a parent process waits for

    config = uvicorn.Config(
        app,
        ssl_certfile=str(folder / "server.pem"),
        log_level="critical",
        access_log=False,
        http="h11",
        h11_max_incomplete_event_size=1 << 20,
        timeout_graceful_shutdown=0.4,  # type: ignore[arg-type]  # seconds; a fraction works
        timeout_keep_alive=60,
        server_header=False,
        lifespan="off",
    )
    server = Server(config, ready, lambda: state.unlink(missing_ok=True))
    if blobs is not None:
        blobs.keep(server.end_soon)
    if options.parent_pid is not None:
        threading.Thread(target=_watch, args=(options.parent_pid, server), daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        state.unlink(missing_ok=True)
        for door in (endpoint, serverless):
            if door is not None:
                door.close()
        try:
            org.store.close()
        except duckdb.Error:
            # A download is still reading. The database bears it; the interpreter's own clean-up would only complain.
            os._exit(0)
        lock.close()


def _secrets_toml(secret: dict[str, str], url: str, ca_file: str) -> str:
    """The integration's secrets in the form of the console's secrets file."""
    return (
        "[salesforce]\n"
        f'domain = "{DOMAIN}"\n'
        f'username = "{USERNAME}"\n'
        f'consumer_key = "{secret["consumer_key"]}"\n'
        f'consumer_secret = "{secret["consumer_secret"]}"\n'
        f'private_key = """\n{secret["private_key"].strip()}\n"""\n'
        f'endpoint = "{url}"\n'
        f'ca_file = "{ca_file}"\n'
    )


def _kept_secret(path: Path, make: Callable[[], str]) -> str:
    """A secret that is made once per folder."""
    if not path.exists():
        write_private(path, make())
    return path.read_text()


def _word() -> str:
    return secrets.token_urlsafe(24)


def _known_ports(folder: Path) -> dict[str, int]:
    """Where the services of this folder listened last: they do again, so that a client's address outlives a restart."""
    try:
        return dict(json.loads((folder / "ports.json").read_text()))
    except (OSError, ValueError):
        return {}


def _blobs(folder: Path, port: int) -> Azurite:
    key = _kept_secret(folder / "azurite-key", make_key)
    blobs = Azurite(ACCOUNT, key, folder=(folder / "azurite").resolve(), port=port)
    blobs.make_container(CONTAINER)
    return blobs


def _pool(options: Options, blobs: Azurite | None) -> Pool:
    storage = dict(options.storage)
    if blobs is not None:
        storage[blobs.account] = {"endpoint": blobs.endpoint(), "key": blobs.key}
    password = _kept_secret(options.folder / "synapse-password", _word)
    pool = Pool(options.folder / "synapse", password, storage=storage)
    if options.facts is not None:
        real = facts.read(options.facts)
        pool.behave_as(real.settings)
        for name in real.beyond:
            print(f"the pool cannot follow the fact {name}", file=sys.stderr, flush=True)  # noqa: T201  for the log
    if options.pool_paused:
        pool.state = "Paused"
        pool.settings.update(PAUSED_SECONDS)
    return pool


def _endpoint(pool: Pool, port: int) -> Endpoint:
    """At this port, or any other one where somebody else has it."""
    try:
        return Endpoint(pool, port)
    except OSError:
        return Endpoint(pool, 0)


def _login_toml(section: str, pool: Pool, endpoint: Endpoint) -> str:
    return (
        f"\n[{section}]\n"
        'server = "127.0.0.1"\n'
        f"port = {endpoint.port}\n"
        f'database = "{pool.database}"\n'
        f'user = "{ADMIN}"\n'
        f'password = "{pool.password}"\n'
    )


def _azure_toml(blobs: Azurite, token: str, url: str, ca_file: str) -> str:
    """The landing, and the pool's management, which is served over HTTPS here."""
    return (
        "\n[landing]\n"
        f'endpoint = "{blobs.endpoint()}"\n'
        f'key = "{blobs.key}"\n'
        "\n[pool]\n"
        f'endpoint = "{url}"\n'
        f'token = "{token}"\n'
        f'ca_file = "{ca_file}"\n'
    )


def folder_key(path: Path) -> str:
    """A short fingerprint of a folder's files, so a changed folder is loaded anew."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]
