"""Token flows and their refusals."""

from __future__ import annotations

import time

import jwt
import pytest
import requests
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceExpiredSession

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def ask(sandbox, data, host=None, **options) -> requests.Response:
    host = host or sandbox.secrets["domain"]
    return sandbox.http.post(f"https://{host}.salesforce.com/services/oauth2/token", data, **options)


def assertion(sandbox, **changes):
    claims = {
        "iss": sandbox.secrets["consumer_key"],
        "sub": sandbox.secrets["username"],
        "aud": "https://login.salesforce.com",
        "exp": str(int(time.time()) + 180),
        **changes,
    }
    return {
        "grant_type": JWT_GRANT,
        "assertion": jwt.encode(claims, sandbox.secrets["private_key"], algorithm="RS256"),
    }


def test_jwt_through_simple_salesforce(sandbox):
    client = sandbox.salesforce()
    assert client.sf_instance == "novade-sandbox.my.salesforce.com"
    assert client.query("SELECT COUNT() FROM Contact")["totalSize"] > 2500


def test_client_credentials_through_simple_salesforce(sandbox):
    client = Salesforce(
        consumer_key=sandbox.secrets["consumer_key"],
        consumer_secret=sandbox.secrets["consumer_secret"],
        domain=sandbox.secrets["domain"],
        session=sandbox.session(),
    )
    assert client.limits()["DailyApiRequests"]["Max"] == 100_000


def test_token_answer_has_the_documented_keys(sandbox):
    answer = ask(sandbox, assertion(sandbox))
    assert set(answer.json()) == {"access_token", "signature", "scope", "instance_url", "id", "token_type", "issued_at"}
    assert answer.json()["instance_url"] == "https://novade-sandbox.my.salesforce.com"


@pytest.mark.parametrize(
    ("changes", "error", "description"),
    [
        ({"aud": "https://elsewhere.example"}, "invalid_grant", "audience is invalid"),
        ({"exp": str(int(time.time()) - 10)}, "invalid_grant", "token validity expired"),
        ({"exp": int(time.time()) + 4000}, "invalid_grant", "invalid assertion"),
        ({"sub": "nobody@example.com"}, "invalid_grant", "user hasn't approved this consumer"),
        ({"iss": "unknown"}, "invalid_client_id", "client identifier invalid"),
    ],
)
def test_bad_assertions(sandbox, changes, error, description):
    answer = ask(sandbox, assertion(sandbox, **changes))
    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert answer.json()["error_description"].startswith(description)


def test_assertion_signed_by_another_key(sandbox):
    from cryptography.hazmat.primitives.asymmetric import rsa

    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = assertion(sandbox)["assertion"]
    claims = jwt.decode(good, options={"verify_signature": False})
    forged = jwt.encode(claims, stranger, algorithm="RS256")
    assert (
        ask(sandbox, {"grant_type": JWT_GRANT, "assertion": forged}).json()["error_description"] == "invalid assertion"
    )


def test_login_host_refuses_client_credentials(sandbox):
    auth = (sandbox.secrets["consumer_key"], sandbox.secrets["consumer_secret"])
    answer = ask(sandbox, {"grant_type": "client_credentials"}, host="login", auth=auth)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"


def test_wrong_secret_and_unknown_grant(sandbox):
    auth = (sandbox.secrets["consumer_key"], "wrong")
    assert ask(sandbox, {"grant_type": "client_credentials"}, auth=auth).json()["error"] == "invalid_client"
    assert ask(sandbox, {"grant_type": "magic"}).json()["error"] == "unsupported_grant_type"


def test_password_flow(sandbox):
    data = {
        "grant_type": "password",
        "client_id": sandbox.secrets["consumer_key"],
        "client_secret": sandbox.secrets["consumer_secret"],
        "username": sandbox.secrets["username"],
        "password": "sandbox-password",
    }
    assert ask(sandbox, data, host="login").ok
    refused = ask(sandbox, {**data, "password": "no"}, host="login")
    assert refused.json() == {"error": "invalid_grant", "error_description": "authentication failure"}


def test_soap_login_is_off(sandbox):
    with pytest.raises(SalesforceAuthenticationFailed) as refusal:
        sandbox.salesforce(username="a", password="b", security_token="c")
    assert refusal.value.code == "INVALID_OPERATION"


def test_a_call_without_a_session_is_a_list_shaped_401(sandbox):
    answer = sandbox.http.get("https://x.my.salesforce.com/services/data/v60.0/limits")
    assert answer.status_code == 401
    assert answer.json() == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]


def test_simple_salesforce_logs_in_again_after_a_lost_session(sandbox):
    client = sandbox.salesforce()
    sandbox.control("faults", {"session_after": 2})
    client.query("SELECT COUNT() FROM Lead")
    client.query("SELECT COUNT() FROM Lead")
    assert sandbox.control("stats")["requests"]["token"] == 2


def test_bulk_does_not_refresh(sandbox):
    client = sandbox.salesforce()
    sandbox.control("faults", {"expire_on": "poll"})
    with pytest.raises(SalesforceExpiredSession):
        list(client.bulk2.Lead.query("SELECT Id FROM Lead", wait=0.01))


def test_short_sessions(sandbox):
    sandbox.control("settings", {"token_seconds": 0})
    assert sandbox.api("/limits").status_code == 401


def test_bad_credentials_on_request(sandbox):
    sandbox.control("faults", {"bad_credentials": "user_not_approved"})
    with pytest.warns(UserWarning, match="self-authorize"), pytest.raises(SalesforceAuthenticationFailed):
        sandbox.salesforce()
