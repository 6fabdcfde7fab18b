"""A pool's door as Azure has it: TLS with a certificate that is checked, and a login by an Entra token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from novade_core.errors import AuthenticationFailed, ConfigurationError
from novade_core.warehouse.synapse import SynapseWarehouse
from novade_core.warehouse.synapse_link import Link, Refused
from novade_core.warehouse.synapse_sql import Statement
from sandbox.synapse import tls
from sandbox.synapse.connection import Endpoint
from sandbox.synapse.pool import ADMIN
from tests import pools
from tests.pools import RunningPool

WHO = Statement(
    "who", "SELECT login_name FROM sys.dm_pdw_exec_sessions WHERE session_id = SESSION_ID()", labelled=False
)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RunningPool]:
    """A pool with a second door, whose certificate is for ``localhost``; ``port`` is that door's."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    running = pools.pool_in(tmp_path)
    server = tls.context(str(tmp_path / "server.pem"), str(tmp_path / "server.pem"))
    door = Endpoint(running.pool, server=server)
    door.start()
    plain, running.port = running.port, door.port
    yield running
    running.port = plain
    door.close()
    pools.end(tmp_path)


@pytest.fixture
def _trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL's own variable for its authorities; Microsoft's driver has no keyword for them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))


@pytest.mark.usefixtures("_trusted")
def test_an_encrypted_connection_carries_statements_both_ways(pool: RunningPool):
    link = Link(pool.settings(server="localhost", encrypt=True))
    text = "ä😀" * 200_000
    assert link.rows(Statement("echo", "SELECT ?", (text,), labelled=False)) == [(text,)]
    link.close()


@pytest.mark.parametrize("server", ["localhost", "127.0.0.1"])
def test_a_certificate_that_is_not_trusted_or_for_another_name_is_a_matter_of_settings(
    pool: RunningPool, request: pytest.FixtureRequest, server: str
):
    if server == "127.0.0.1":
        request.getfixturevalue("_trusted")
    warehouse = SynapseWarehouse(pool.settings(server=server, encrypt=True, tries=3))
    refused = pytest.raises(ConfigurationError, match=f"does not trust the certificate of {server}")
    with refused, warehouse.session():
        pass


@pytest.mark.usefixtures("_trusted")
def test_an_access_token_is_the_login(pool: RunningPool):
    token = "eyJ0eXAiOiJKV1QifQ." + "a1B2-_" * 400
    pool.pool.tokens[token] = ADMIN
    asked = {"server": "localhost", "encrypt": True, "auth": "token", "user": None, "password": None}
    link = Link(pool.settings(**asked, token=token))
    assert link.rows(WHO) == [(ADMIN,)]
    link.close()
    stranger = Link(pool.settings(**asked, token=token[:-1]))
    with pytest.raises(Refused) as caught:
        stranger.open()
    told = caught.value.told()
    assert isinstance(told, AuthenticationFailed)
    assert token[:-1] not in f"{told} {told.hint} {caught.value.text}"
