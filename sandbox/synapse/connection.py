"""One client connection: login, batches, remote calls, transaction requests, attention."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Iterable
from typing import Any

from . import tds, tls
from .datatypes import datatype_info
from .engine import Engine, Result
from .errors import Cancelled, Cut, SqlError, not_offered
from .pool import Pool
from .values import Call, Parameter, Reader, column_metadata

_PROCEDURES = {
    "10": "sp_executesql",
    "11": "sp_prepare",
    "12": "sp_execute",
    "13": "sp_prepexec",
    "15": "sp_unprepare",
}
_log = logging.getLogger(__name__)
#: Where a result row ends and the client is asked whether it still listens.
_ROWS_A_LOOK = 200


class Connection(threading.Thread):
    """Reads requests on one thread (so that ATTENTION is heard while a statement runs) and answers on another."""

    def __init__(self, sock: socket.socket, pool: Pool, server: ssl.SSLContext | None = None) -> None:
        super().__init__(daemon=True)
        self.sock = sock
        self.wire: tds.Wire = sock
        self.server = server
        self.pool = pool
        self.out = tds.Writer(sock)
        self.requests: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
        self.engine: Engine | None = None
        self.prepared: dict[int, tuple[str, list[str]]] = {}
        self.handle = 0
        self.descriptor = b""
        self.closed = threading.Event()

    # Threads

    def run(self) -> None:
        try:
            if not self._log_in():
                return
            threading.Thread(target=self._listen, daemon=True).start()
            while (request := self.requests.get()) is not None:
                self._answer(*request)
        except (OSError, Cut):
            pass  # the client is gone, or is to believe that the pool is
        finally:
            self.close()
            if self.engine is not None:
                self.engine.close()
                self.pool.leave(self)

    def close(self) -> None:
        """Hang up at once; what runs is interrupted and rolled back."""
        self.closed.set()
        if self.engine is not None:
            self.engine.cancel.set()
        with contextlib.suppress(OSError):  # hung up already
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def _listen(self) -> None:
        engine = self.engine
        assert engine is not None
        while not self.closed.is_set():
            request = tds.receive(self.wire)
            if request is None:
                engine.cancel.set()
                self.requests.put(None)
                engine.interrupt_until(lambda: not engine.busy)
                return
            if request[0] == tds.ATTENTION:
                engine.cancel.set()
                self.requests.put(request)
                threading.Thread(
                    target=engine.interrupt_until, args=(lambda: not engine.cancel.is_set(),), daemon=True
                ).start()
            else:
                self.requests.put(request)

    # Login

    def _log_in(self) -> bool:
        while (request := tds.receive(self.wire)) is not None:
            kind, body = request
            if kind == tds.PRELOGIN:
                self._agree(tds.prelogin_options(body))
                continue
            if kind != tds.LOGIN:
                return False
            login = tds.read_login(body)
            try:
                self.engine = self.pool.enter(self, login)
            except SqlError as refusal:
                self.out.write(tds.error(refusal) + tds.done(tds.ERROR))
                self.out.end()
                return False
            self.out.write(tds.login_answer(self.engine.database, federated=login.token is not None))
            self.out.end()
            return True
        return False

    def _agree(self, offered: dict[int, bytes]) -> None:
        """Plain text, unless the client asks for TLS and there is a certificate."""
        secured = self.server if offered.get(1, b"")[:1] in (bytes([tls.ON]), bytes([tls.REQUIRED])) else None
        self.out.write(tds.prelogin_answer(tls.ON if secured else tls.NOT_SUPPORTED, federated=6 in offered))
        self.out.end()
        if secured:
            self.wire = tls.Secured(self.sock, secured)
            self.out = tds.Writer(self.wire)

    # Requests

    def _answer(self, kind: int, body: bytes) -> None:
        engine = self.engine
        assert engine is not None
        if kind == tds.ATTENTION:
            engine.heard()
            self.out.write(tds.done(tds.ATTN))
            self.out.end()
            return
        engine.turn.acquire()
        engine.busy = True
        try:
            if kind == tds.BATCH:
                self._batch(tds.without_headers(body).decode("utf-16-le"))
            elif kind == tds.RPC:
                self._calls(Reader(tds.without_headers(body)).calls())
            elif kind == tds.TRANSACTION:
                self._transaction(tds.without_headers(body))
            else:
                raise Cut
        except (OSError, Cut):
            raise
        except Cancelled:
            return  # the ATTENTION that waits in the queue closes this answer
        except SqlError as refusal:
            self._refuse(refusal, tds.DONE)
        except Exception as error:
            # Our own mistake: loud in the log, and an answer that the client can read.
            _log.exception("The stand-in failed at a request")
            self._refuse(not_offered(f"stand-in failed: {type(error).__name__}: {error}"), tds.DONE)
        finally:
            engine.busy = False
            engine.turn.release()
        if engine.cancel.is_set() and not self.closed.is_set():
            return  # as above: the answer ends with the acknowledgement
        self.out.end()

    def _batch(self, text: str) -> None:
        try:
            self._results(self._engine().batch(text, {}), tds.DONE)
        except SqlError as refusal:
            self._refuse(refusal, tds.DONE)

    def _refuse(self, refusal: SqlError, kind: int, more: int = 0) -> None:
        self._environment()
        refusal.number = int(self.pool.settings["numbers"].get(str(refusal.number), refusal.number))
        self.out.write(tds.error(refusal) + tds.done(tds.ERROR | more, kind=kind))
        if refusal.severity >= 20:
            self.out.end()
            raise Cut

    def _results(self, results: Iterable[Result], kind: int, *, more_follows: bool = False) -> None:
        """Results as they come, the last one without MORE unless something follows."""
        held: bytes | None = None
        for result in results:
            if held is not None:
                self.out.write(held)
            self._environment()
            for number, message in result.messages:
                self.out.write(tds.info(number, message))
            if result.columns is not None:
                self._rows(result)
            count = None if self._engine().nocount and result.columns is None else result.count
            rows = result.columns is not None
            held = tds.done(tds.MORE, count, kind=kind, rows=rows)
            last = tds.done(tds.MORE if more_follows else 0, count, kind=kind, rows=rows)
        if held is not None:
            self.out.write(last)
        elif not more_follows:
            self.out.write(tds.done(kind=kind))
        self._environment()

    def _rows(self, result: Result) -> None:
        assert result.columns is not None
        head, types = column_metadata(result.columns)
        self.out.write(head)
        encoders = [t.encode for t in types]
        count = 0
        for row in result.rows:
            self.out.write(b"\xd1" + b"".join([e(v) for e, v in zip(encoders, row, strict=True)]))
            count += 1
            if count % _ROWS_A_LOOK == 0:
                self._engine().look()
        result.count = count

    def _environment(self) -> None:
        """Tell the client of a transaction that began or ended since it was told last."""
        engine = self._engine()
        if engine.in_transaction and not self.descriptor:
            self.descriptor = secrets.token_bytes(8)
            self.out.write(tds.env_bytes(8, self.descriptor))
        elif not engine.in_transaction and self.descriptor:
            self.out.write(tds.env_bytes(9 if engine.committed_last else 10, b"", self.descriptor))
            self.descriptor = b""

    def _transaction(self, body: bytes) -> None:
        """Transaction manager requests: begin, commit, roll back."""
        engine = self._engine()
        (request,) = struct.unpack_from("<H", body)
        try:
            if request == 5:
                engine.begin()
            elif request in (7, 8):
                name = body[2]
                flags = body[3 + name] if len(body) > 3 + name else 0
                engine.commit() if request == 7 else engine.rollback()
                self._environment()
                if flags & 1:
                    engine.begin()
            else:
                raise not_offered(f"transaction manager request {request}")
        except SqlError as refusal:
            self._refuse(refusal, tds.DONE)
            return
        self._environment()
        self.out.write(tds.done())

    def _engine(self) -> Engine:
        assert self.engine is not None
        return self.engine

    # Remote calls

    def _calls(self, calls: list[Call]) -> None:
        for index, call in enumerate(calls):
            more = tds.MORE if index + 1 < len(calls) else 0
            name = _PROCEDURES.get(call.name, call.name).removeprefix("[sys].").removeprefix("sys.").strip("[]")
            try:
                self._call(name, call.parameters, more)
            except SqlError as refusal:
                self._refuse(refusal, tds.DONE_PROC, more)

    def _call(self, name: str, parameters: list[Parameter], more: int) -> None:
        output = b""
        if name in ("sp_prepexec", "sp_prepare"):
            handle_at, declared, text = parameters[0], parameters[1], parameters[2]
            self.handle += 1
            self.prepared[self.handle] = (str(text.value), _names(declared.value))
            output = tds.return_int(handle_at.name, 0, self.handle)
            if name == "sp_prepexec":
                self._execute(str(text.value), _names(declared.value), parameters[3:])
        elif name == "sp_execute":
            known = self.prepared.get(int(parameters[0].value or 0))
            if known is None:
                raise SqlError(8179, f"Could not find prepared statement with handle {parameters[0].value}.")
            self._execute(known[0], known[1], parameters[1:])
        elif name == "sp_unprepare":
            self.prepared.pop(int(parameters[0].value or 0), None)
        elif name == "sp_executesql":
            declared = _names(parameters[1].value) if len(parameters) > 1 else []
            self._execute(str(parameters[0].value), declared, parameters[2:])
        elif name == "sp_datatype_info_100":
            self._results([datatype_info(int(parameters[0].value or 0))], tds.DONE_IN_PROC, more_follows=True)
        else:
            raise SqlError(2812, f"Could not find stored procedure '{name}'.")
        self.out.write(tds.return_status(0) + output + tds.done(more, kind=tds.DONE_PROC))

    def _execute(self, text: str, names: list[str], given: list[Parameter]) -> None:
        values: dict[str, Any] = {}
        for index, parameter in enumerate(given):
            name = parameter.name or (names[index] if index < len(names) else f"P{index + 1}")
            if parameter.kind == "NTEXT":
                raise SqlError(104220, "Cannot find data type 'ntext'.")
            values[name] = (parameter.kind, parameter.value)
        self._results(self._engine().batch(text, values), tds.DONE_IN_PROC, more_follows=True)


def _names(declared: Any) -> list[str]:
    """Names in a declaration such as ``@P1 int,@P2 nvarchar(2)``."""
    return re.findall(r"@(\w+)\s", f"{declared or ''} ")


class Endpoint(threading.Thread):
    """Accepts connections on loopback until it is closed; with TLS for whom wants it, where it has a certificate."""

    def __init__(self, pool: Pool, port: int = 0, server: ssl.SSLContext | None = None) -> None:
        super().__init__(daemon=True)
        self.pool = pool
        self.server = server
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port: int = self.listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(sock, self.pool, self.server).start()

    def close(self) -> None:
        self.listener.close()
        self.pool.cut_all()
