"""How a dedicated SQL pool is reached: the ODBC driver that this machine has, the connection string, the login."""

from __future__ import annotations

import importlib.util
import ipaddress
import platform
import struct
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from novade_core.errors import AuthenticationFailed, ConfigurationError
from novade_core.settings import WarehouseSettings

#: pyodbc's attribute for an access token: SQL_COPT_SS_ACCESS_TOKEN.
_ACCESS_TOKEN = 1256
_SCOPE = "https://database.windows.net/.default"
_INSTALL = (
    'Install "ODBC Driver 18 for SQL Server" from Microsoft, or `pip install mssql-python-odbc` together with '
    "Debian's unixodbc, libltdl7 and libgssapi-krb5-2, or Debian's tdsodbc."
)


def load_pyodbc() -> ModuleType:
    """pyodbc, imported late: it fails without unixODBC's library, which the embedded warehouse does not need."""
    try:
        import pyodbc
    except ImportError as error:
        raise ConfigurationError(
            f"Synapse is reached through ODBC, and pyodbc cannot be loaded: {error}.",
            hint="Install unixODBC (Debian: apt-get install unixodbc) and pyodbc.",
        ) from error
    pyodbc.pooling = False  # sessions are short, and an idle pooled one would keep a pool from being paused
    module: ModuleType = pyodbc
    return module


def find_driver(pyodbc: ModuleType, wanted: str | None = None) -> str:
    """The driver to name in the connection string; ConfigurationError where there is none.

    ``wanted`` is a registered name or a library's path; without it the newest of Microsoft's that is registered,
    then the library inside the pip package, then FreeTDS.
    """
    registered = list(pyodbc.drivers())
    if wanted is not None:
        if wanted in registered or Path(wanted).is_file():
            return wanted
        raise ConfigurationError(
            f"warehouse.driver names {wanted!r}, which is neither a registered ODBC driver nor a file; "
            f"registered: {', '.join(registered) or 'none'}.",
            hint="Leave warehouse.driver out, so that a driver is found by itself.",
        )
    microsoft = sorted(name for name in registered if name.startswith("ODBC Driver 1") and "SQL Server" in name)
    if microsoft:
        return str(microsoft[-1])
    packaged = _packaged_library()
    if packaged is not None:
        return str(packaged)
    if "FreeTDS" in registered:
        return "FreeTDS"
    raise ConfigurationError("No ODBC driver for SQL Server was found on this machine.", hint=_INSTALL)


def _packaged_library() -> Path | None:
    """The Microsoft driver inside the pip package ``mssql-python-odbc``, built for this machine."""
    spec = importlib.util.find_spec("mssql_python_odbc")
    if spec is None or not spec.submodule_search_locations:
        return None
    libraries = Path(spec.submodule_search_locations[0]) / "libs"
    machine = {"aarch64": "arm64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    found = [p for p in sorted(libraries.rglob("libmsodbcsql-*")) if machine in p.parts]
    # The package holds one build per family of distributions; Debian's is made for the older glibc.
    family = _family()
    return next((p for p in found if family in p.parts), found[0] if found else None)


def _family() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "debian_ubuntu"
    names = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if names & {"suse", "sles", "opensuse"}:
        return "suse"
    return "rhel" if names & {"rhel", "fedora", "centos"} else "debian_ubuntu"


def is_loopback(server: str) -> bool:
    """Is the server this machine itself?"""
    if server == "localhost":
        return True
    try:
        return ipaddress.ip_address(server).is_loopback
    except ValueError:
        return False


def connection_string(settings: WarehouseSettings, driver: str) -> str:
    """The ODBC connection string; it holds the password, so it is never shown."""
    if not settings.server or not settings.database:
        raise ConfigurationError(
            "A Synapse warehouse needs warehouse.server and warehouse.database.",
            hint="Name the pool's endpoint, such as acme.sql.azuresynapse.net, and the pool.",
        )
    if not settings.encrypt and not is_loopback(settings.server):
        raise ConfigurationError(
            f"warehouse.encrypt is false, but {settings.server} is another machine.",
            hint="Remove encrypt = false; it is for a stand-in on this machine only.",
        )
    given: dict[str, str] = {}
    if "FreeTDS" in driver:
        given |= {"SERVER": settings.server, "PORT": str(settings.port), "TDS_Version": "7.4"}
        if settings.encrypt:
            given["Encryption"] = "require"
    else:
        given |= {"SERVER": f"{settings.server},{settings.port}", "LongAsMax": "yes"}
        given["Encrypt"] = "yes" if settings.encrypt else "no"
        given["TrustServerCertificate"] = "no" if settings.encrypt else "yes"
    given |= {"DATABASE": settings.database, "APP": "novade"}
    given |= _identity(settings)
    return f"DRIVER={{{driver}}};" + "".join(f"{name}={_braced(value)};" for name, value in given.items())


def _braced(value: str) -> str:
    return "{" + value.replace("}", "}}") + "}" if any(c in value for c in "{}[]();?*=!@ ") else value


def _identity(settings: WarehouseSettings) -> Mapping[str, str]:
    user = settings.user or ""
    password = settings.password.get_secret_value() if settings.password else ""
    if settings.auth in ("sql", "service_principal") and not (user and password):
        raise ConfigurationError(
            f"warehouse.auth is {settings.auth}, which needs a user and a password.",
            hint="Set warehouse.user, and NOVADE_WAREHOUSE_PASSWORD or [warehouse] password in a secrets file.",
        )
    if settings.auth == "sql":
        return {"UID": user, "PWD": password}
    if settings.auth == "service_principal":
        return {"Authentication": "ActiveDirectoryServicePrincipal", "UID": user, "PWD": password}
    if settings.auth == "managed_identity":
        return {"Authentication": "ActiveDirectoryMsi"} | ({"UID": user} if user else {})
    return {}  # an access token tolerates none of them


def attributes(settings: WarehouseSettings) -> dict[int, Any]:
    """What is set before the login: the access token, where ``auth`` is token. A fresh one for each connection."""
    if settings.auth != "token":
        return {}
    token = settings.token.get_secret_value() if settings.token else _asked_token()
    raw = token.encode("utf-16-le")
    return {_ACCESS_TOKEN: struct.pack(f"<I{len(raw)}s", len(raw), raw)}


def _asked_token() -> str:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import DefaultAzureCredential

    try:
        return DefaultAzureCredential().get_token(_SCOPE).token
    except ClientAuthenticationError as error:
        raise AuthenticationFailed(
            "Microsoft Entra gave no token for Synapse.",
            hint="Log in with `az login`, give this machine an identity, or set another warehouse.auth.",
            origin="warehouse",
        ) from error
