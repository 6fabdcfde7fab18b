"""A sandbox process with a pool, and connections through the real drivers."""

from __future__ import annotations

import tomllib
from pathlib import Path

import mssql_python_odbc
import pyodbc

from tests.azurite import ACCOUNT, azurite
from tests.sandbox.conftest import Sandbox

pyodbc.pooling = False
_LIBRARIES = Path(mssql_python_odbc.__file__).parent / "libs" / "linux" / "debian_ubuntu" / "x86_64" / "lib"


class PoolSandbox(Sandbox):
    """The sandbox with ``--synapse`` and a container of Azurite behind the pool's storage account."""

    def __init__(self, folder: Path) -> None:
        blobs = f"{ACCOUNT}={azurite().endpoint()}={azurite().key}"
        super().__init__(folder, "--size", "10", "--synapse", "--blobs", blobs)
        self.warehouse = tomllib.loads((folder / "secrets.toml").read_text())["warehouse"]
        self.open: list[pyodbc.Connection] = []

    def connect(self, *, driver: str = "microsoft", autocommit: bool = True, **changes: str) -> pyodbc.Connection:
        """``changes``: user, password, database."""
        said = {**self.warehouse, **changes}
        login = f"UID={said['user']};PWD={said['password']};DATABASE={said['database']}"
        if driver == "microsoft":
            (library,) = _LIBRARIES.glob("libmsodbcsql-18*")
            text = f"DRIVER={{{library}}};SERVER=127.0.0.1,{said['port']};Encrypt=no;LongAsMax=yes;{login}"
        else:
            text = f"DRIVER={{FreeTDS}};SERVER=127.0.0.1;PORT={said['port']};TDS_Version=7.4;{login}"
        made = pyodbc.connect(text, autocommit=autocommit, timeout=10)
        made.timeout = 30
        self.open.append(made)
        return made

    def pool(self, name: str, body: dict | None = None) -> dict:
        """A control call of the pool."""
        return self.control(f"synapse/{name}", body)

    def hang_up(self) -> None:
        """Close what a test opened."""
        for connection in self.open:
            try:
                connection.close()
            except pyodbc.Error:
                continue
        self.open.clear()


def number(error: pyodbc.Error) -> int:
    """The server's error number; ODBC puts it in parentheses behind the message."""
    return int(error.args[1].rsplit("(", 2)[1].split(")")[0])
