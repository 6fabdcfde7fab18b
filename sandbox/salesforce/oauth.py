"""The token endpoint and the retired SOAP login."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import jwt

from .http import Call, Reply, json_reply
from .org import DOMAIN, INSTANCE_URL, ORGANIZATION_ID, PASSWORD, USERNAME, Org

_LOGIN_HOSTS = ("login.salesforce.com", "test.salesforce.com")
_DESCRIPTIONS = {
    "invalid_grant": "authentication failure",
    "user_not_approved": "user hasn't approved this consumer",
    "inactive_user": "user is inactive",
    "inactive_org": "organization is inactive",
    "invalid_client_id": "client identifier invalid",
    "invalid_client": "invalid client credentials",
    "rate_limit_exceeded": "login rate exceeded",
}


class Refused(Exception):
    """OAuth errors are an object, not a list."""

    def __init__(self, error: str, description: str | None) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


def token(org: Org, call: Call) -> Reply:
    """Give a session, or say why not."""
    form = call.form
    try:
        forced = org.faults.get("bad_credentials")
        if forced:
            error = forced if isinstance(forced, str) else "invalid_grant"
            name = "invalid_grant" if error == "user_not_approved" else error
            raise Refused(name, _DESCRIPTIONS.get(error, error))
        grant = form.get("grant_type", "")
        if grant == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            _check_assertion(org, form.get("assertion", ""))
        elif grant == "client_credentials":
            _check_client(org, call)
        elif grant == "password":
            _check_password(org, form)
        else:
            raise Refused("unsupported_grant_type", "grant type not supported")
    except Refused as refused:
        body = {"error": refused.error}
        if refused.description is not None:
            body["error_description"] = refused.description
        return json_reply(body, 400, Cache_Control="no-store")
    issued = str(int(time.time() * 1000))
    identity = f"https://{_identity_host(call)}/id/{ORGANIZATION_ID}/{org.user_id}"
    signature = hmac.new(org.consumer_secret.encode(), (identity + issued).encode(), hashlib.sha256).digest()
    return json_reply(
        {
            "access_token": org.new_token(),
            "signature": base64.b64encode(signature).decode(),
            "scope": "api",
            "instance_url": INSTANCE_URL,
            "id": identity,
            "token_type": "Bearer",
            "issued_at": issued,
        },
        Cache_Control="no-store",
    )


def _identity_host(call: Call) -> str:
    return "test.salesforce.com" if call.host == "test.salesforce.com" else "login.salesforce.com"


def _check_assertion(org: Org, assertion: str) -> None:
    try:
        claims = org.decode_assertion(assertion)
    except jwt.PyJWTError:
        # The issuer is looked up before its key: an unknown one is a different complaint.
        try:
            unchecked = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise Refused("invalid_grant", "invalid assertion") from None
        if unchecked.get("iss") != org.consumer_key:
            raise Refused("invalid_client_id", "client identifier invalid") from None
        raise Refused("invalid_grant", "invalid assertion") from None
    if claims.get("iss") != org.consumer_key:
        raise Refused("invalid_client_id", "client identifier invalid")
    allowed = ("https://login.salesforce.com", "https://test.salesforce.com", INSTANCE_URL)
    if str(claims.get("aud", "")).rstrip("/") not in allowed:
        raise Refused("invalid_grant", "audience is invalid")
    try:
        # A number or a text: simple-salesforce sends a text.
        expires = float(claims.get("exp", ""))
    except ValueError:
        raise Refused("invalid_grant", "invalid assertion") from None
    now = time.time()
    if expires <= now:
        raise Refused("invalid_grant", "token validity expired")
    if expires > now + 300:
        raise Refused("invalid_grant", "invalid assertion: exp is too far in the future")
    if claims.get("sub") != USERNAME:
        raise Refused("invalid_grant", "user hasn't approved this consumer")


def _check_client(org: Org, call: Call) -> None:
    if call.host in _LOGIN_HOSTS or not call.host.startswith(DOMAIN):
        raise Refused("invalid_grant", "request not supported on this domain")
    header = call.headers.get("authorization", "")
    try:
        key, _, secret = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    except ValueError:
        key = secret = ""
    if not key:
        key, secret = call.form.get("client_id", ""), call.form.get("client_secret", "")
    if key != org.consumer_key:
        raise Refused("invalid_client_id", "client identifier invalid")
    if not hmac.compare_digest(secret.encode(), org.consumer_secret.encode()):
        raise Refused("invalid_client", "invalid client credentials")


def _check_password(org: Org, form: dict[str, str]) -> None:
    if form.get("client_id") != org.consumer_key:
        raise Refused("invalid_client_id", "client identifier invalid")
    if form.get("client_secret") != org.consumer_secret:
        raise Refused("invalid_client", "invalid client credentials")
    if form.get("username") != USERNAME or form.get("password") != PASSWORD:
        raise Refused("invalid_grant", "authentication failure")


def soap_login(org: Org, call: Call) -> Reply:
    """SOAP login is off by default in new orgs, and so it is here."""
    del org, call
    message = "SOAP API login() is disabled by default in this org."
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:sf="urn:fault.partner.soap.sforce.com"><soapenv:Body><soapenv:Fault>'
        f"<faultcode>sf:INVALID_OPERATION</faultcode><faultstring>INVALID_OPERATION: {message}</faultstring><detail>"
        f"<sf:UnexpectedErrorFault><sf:exceptionCode>INVALID_OPERATION</sf:exceptionCode><sf:exceptionMessage>{message}"
        "</sf:exceptionMessage></sf:UnexpectedErrorFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>"
    )
    return Reply(status=500, body=body.encode(), headers={"Content-Type": "text/xml;charset=UTF-8"})
