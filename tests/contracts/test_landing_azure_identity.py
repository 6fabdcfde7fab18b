"""A landing with a managed identity: the real library against an identity endpoint of ours and Azurite over HTTPS."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import trustme
from azure.storage.blob import BlobServiceClient

from novade_core.errors import AuthenticationFailed, LandingUnavailable
from novade_core.landing.azure_blob import API_VERSION, AzureBlob
from novade_core.settings import load_settings
from novade_core.wiring import build_services
from tests.azurite import ACCOUNT, Azurite, cable

IDENTITY = "00000000-0000-0000-0000-0000000000aa"


class IdentityEndpoint(ThreadingHTTPServer):
    """Gives tokens as App Service and Container Apps do. ``audience`` is what the tokens are for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.audience = "https://storage.azure.com"
        self.status = 200
        self.asked: list[dict[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def token(self) -> str:
        now = int(time.time())
        claims = {"aud": self.audience, "iss": "https://sts.windows.net/tenant/", "iat": now, "nbf": now - 60}
        return jwt.encode(claims | {"exp": now + 3600}, "nobody checks this signature, only its claims")


class _Answers(BaseHTTPRequestHandler):
    server: IdentityEndpoint

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append(query | {"header": self.headers.get("X-IDENTITY-HEADER", "")})
        ends = str(int(time.time()) + 3600)
        body: dict[str, object] = {"access_token": self.server.token(), "expires_on": ends, "token_type": "Bearer"}
        if self.server.status != 200:
            body = {"statusCode": self.server.status, "message": "No User Assigned or Delegated Managed Identity found"}
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body | {"resource": query["resource"]}).encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Azurite, Path]]:
    """An Azurite that takes tokens, which it does over HTTPS alone, and its certificate authority."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    options = ("--oauth", "basic", "--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem"))
    storage = Azurite(*options)
    credential = {"account_name": ACCOUNT, "account_key": storage.key}
    options_of_owner = {"api_version": API_VERSION, "connection_verify": str(folder / "ca.pem")}
    BlobServiceClient(storage.endpoint(), credential=credential, **options_of_owner).create_container("landing")
    yield storage, folder / "ca.pem"
    storage.stop()


@pytest.fixture
def identities(monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityEndpoint]:
    endpoint = IdentityEndpoint()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{endpoint.server_port}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "given-by-the-host")
    yield endpoint
    endpoint.shutdown()
    endpoint.server_close()


def landing(folder: Path, secure: tuple[Azurite, Path]) -> AzureBlob:
    """As the configuration file of an environment makes it."""
    storage, authority = secure
    (folder / "novade.toml").write_text(f"""
[environments.test.landing]
kind = "azure_blob"
account = "{ACCOUNT}"
endpoint = "{storage.endpoint()}"
ca_file = "{authority}"
client_id = "{IDENTITY}"
prefix = "{folder.name}"
tries = 1
[environments.test.warehouse]
kind = "synapse"
[streams]
"salesforce.contact" = {{}}
""")
    made = build_services(load_settings("test", file=folder / "novade.toml", environ={})).landing
    assert isinstance(made, AzureBlob)
    return made


def test_a_managed_identity_writes_lists_and_reads(tmp_path, secure, identities):
    blob = landing(tmp_path, secure)
    local = blob.scratch() / "made"
    local.write_bytes(b"rows")
    blob.put_file("a/part", local)
    blob.put_once("a/_manifest", b"{}")
    assert blob.paths("a") == ["a/_manifest", "a/part"]
    assert blob.read("a/part") == b"rows"
    assert identities.asked[0] == {
        "api-version": "2019-08-01",
        "client_id": IDENTITY,
        "resource": "https://storage.azure.com",
        "header": "given-by-the-host",
    }
    assert len(identities.asked) == 1
    assert identities.token()[:20] not in repr(blob.usage())


def test_a_token_for_something_else_is_refused_with_the_next_step(tmp_path, secure, identities):
    identities.audience = "https://management.azure.com"
    with pytest.raises(AuthenticationFailed, match="refused our managed identity") as refused:
        landing(tmp_path, secure).put_once("a", b"x")
    assert "client_id" in refused.value.hint


def test_an_identity_that_the_host_does_not_know_is_said(tmp_path, secure, identities):
    identities.status = 400
    with pytest.raises(AuthenticationFailed, match=r"managed identity .*is not usable|no managed identity") as refused:
        landing(tmp_path, secure).put_once("a", b"x")
    assert "client_id" in refused.value.hint


def test_a_machine_without_identities_is_said(tmp_path, secure, monkeypatch):
    with cable(1) as gone:
        pass
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{gone.port}")
    with pytest.raises(AuthenticationFailed, match="There is no managed identity here") as refused:
        landing(tmp_path, secure).put_once("a", b"x")
    assert "client_id" in refused.value.hint


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, secure, identities):
    blob = landing(tmp_path, secure)
    stranger = blob._settings.model_copy(update={"ca_file": None})
    with pytest.raises(LandingUnavailable, match=r"was not reached for a: .*certificate"):
        AzureBlob(stranger, tmp_path).put_once("a", b"x")
