"""gunicorn's threaded worker, whose threads never wait for a client.

As it comes, that worker gives each connection a thread for the first 5 s of its silence, and for as long as it likes once a
byte of a request has come, while a body trickles in, or while an answer is not taken; and its main thread, which accepts,
waits up to 2 s for a client that does not close. So as many slow clients as there are threads, or one that does not hang up,
keep everybody out.

Here the main thread gathers requests and sends what is left of answers, for as many connections as there are, and a thread is
asked once a request has come whole. What a client has not sent by then does not exist; what it does not take is kept for it.
All that is waited for has a deadline, and what is kept has a bound: who has been waited for longest makes room.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import msgspec
from gunicorn.http import errors
from gunicorn.workers import gthread

from api import wire
from api.arriving import Arriving, Progress
from api.security_headers import SECURITY_HEADERS

ANSWER_S: Final = 30.0
"""For an answer that is not taken, and a second more for each `ANSWER_BYTES_PER_S` of it."""
ANSWER_BYTES_PER_S: Final = 32 * 1024
STOP_S: Final = 3.0
"""For the rest of a request, once the process stops."""
LINGER_S: Final = 2.0
"""For a client to close, once it was told that we do (RFC 9112, section 9.6); a reset could take the answer from it."""
LINGER_BYTES: Final = 4 * 1024 * 1024
"""Of what it still sends meanwhile so much is thrown away."""
MOST_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Of requests that are not whole and answers that are not taken; as much again of whole ones, until they are answered."""
SPARED_BYTES: Final = 16 * 1024
"""A connection for which no more is kept does not have to go to make room in memory."""
_READ_BYTES: Final = 64 * 1024
_SWEEP_S: Final = 0.5
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUSES: Final[Mapping[type[Exception], int]] = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.UnsupportedTransferCoding: 501,
}
"""Of what is no request that we serve; all else is a 400."""
_OURS: Final = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)


def _refusal(status: int) -> bytes:
    """What is answered where no request is there to be answered."""
    title = HTTPStatus(status).phrase
    code = title.lower().replace(" ", "_").replace("-", "_")
    problem = {"type": "about:blank", "title": title, "status": status, "detail": title, "code": code}
    body = msgspec.json.encode(problem)
    return wire.whole_answer(status, SECURITY_HEADERS.items(), body, media_type="application/problem+json")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a request may take; nginx has a whole one before it asks us."""

    head_s: float = 10.0
    """From the connection's first moment, or a later request's first byte, to the end of its headers."""
    body_s: float = 30.0
    """From there to its end: 35 KB a second for the largest."""
    most_body_bytes: int = 1024 * 1024
    """A larger one is not waited for."""


class Doing(Enum):
    ANSWERING = auto()
    """A thread has it, or will: the main thread leaves it alone."""
    IDLE = auto()
    """No byte of a request has come."""
    READING = auto()
    WRITING = auto()
    LINGERING = auto()
    CLOSED = auto()


class PatientSocket(socket.socket):
    """A connection, to a thread that answers: reading gives what has come, writing takes everything at once."""

    __slots__ = ("_unsent", "is_starved", "unsent_bytes")

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        super().setblocking(False)
        self._unsent: list[bytes | memoryview] = []
        self.unsent_bytes = 0
        self.is_starved = False
        """A thread wanted more than had come: where the next request would begin is not known."""

    def setblocking(self, flag: bool, /) -> None:
        """The web server's to ask, and never done."""

    def settimeout(self, value: float | None, /) -> None:
        """As `setblocking`."""

    def dup(self) -> socket.socket:  # type: ignore[override]  # a plain one is meant
        """For who takes the connection over: a socket as every other."""
        return socket.fromfd(self.fileno(), self.family, self.type, self.proto)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """To the request's reader what has not come will not."""
        try:
            return super().recv(bufsize, flags)
        except BlockingIOError:
            self.is_starved = True
            return b""

    def take(self) -> bytes | None:
        """What has come, for the main thread: None where nothing has, empty where nothing more will."""
        try:
            return super().recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        left: bytes | memoryview = data
        if not self._unsent:
            left = self._send_some(data)
        if left:
            self._unsent.append(left)
            self.unsent_bytes += len(left)

    def flush(self) -> None:
        """Send what is taken now. Raises `OSError`."""
        while self._unsent:
            left = self._send_some(self._unsent[0])
            self.unsent_bytes -= len(self._unsent[0]) - len(left)
            if left:
                self._unsent[0] = left
                return
            del self._unsent[0]

    def _send_some(self, data: Any) -> bytes | memoryview:
        view = memoryview(data)
        while view:
            try:
                view = view[super().send(view) :]
            except BlockingIOError:
                break
        return view

    def close(self) -> None:
        self._unsent, self.unsent_bytes = [], 0
        super().close()


class _BodyReader:
    """A body's reader, to an application that knows `OSError`, and not this web server's errors."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._reader.read(size)
        except errors.ParseException as error:
            raise OSError("the body is not framed as it should be") from error
        return data


class _Connection(gthread.TConn):  # type: ignore[misc]  # gunicorn is untyped
    """One of the server's. Its deadline is `timeout`, by the monotonic clock."""

    sock: PatientSocket

    def __init__(self, cfg: Any, sock: PatientSocket, client: Any, server: Any) -> None:
        super().__init__(cfg, sock, client, server)
        self.data_ready = True  # no thread is to wait for it
        self.doing = Doing.IDLE
        self.arriving: Arriving | None = None
        self.is_kept_open = False
        self.kept_bytes = 0
        self.asked_bytes = 0
        self.watched = 0
        self.thrown_away = 0

    def parse_what_came(self) -> None:
        self.init()
        if self.arriving is not None:
            self.parser.unreader.unread(bytes(self.arriving.data))
            self.arriving = None


class PatientWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """For `worker_class`. TLS and HTTP/2 are a proxy's in front."""

    bounds = Bounds()
    """For the configuration to set."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: dict[_Connection, None] = {}
        """For whom the main thread waits, who has been waited for longest first."""
        self._kept_bytes = 0
        self._asked_bytes = 0
        """Of whole requests that threads have, or that wait for one."""
        self._swept_at_s = 0.0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise ValueError("TLS ends at a proxy in front of chatrelay")
        super().check_config(cfg, log)

    # --- from the client ------------------------------------------------------------------------------------------

    def accept(self, listener: Any) -> None:
        try:
            accepted, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self.log.warning("no connection more can be opened: %s", error.strerror)
                self._make_room()
            return  # gone already, or another process's by now; what lasts is met again
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        connection = _Connection(self.cfg, PatientSocket(accepted), client, listener.getsockname())
        self._await_request(connection, self.bounds.head_s)

    def _await_request(self, connection: _Connection, patience_s: float) -> None:
        """Its next one, of which nothing has come. Often it is there by now."""
        connection.arriving = None
        connection.timeout = time.monotonic() + patience_s
        connection.doing = Doing.IDLE
        self._waiting[connection] = None
        self._on_readable(connection)

    def _on_readable(self, connection: _Connection) -> None:
        data = connection.sock.take()
        if data is None:
            self._watch(connection, selectors.EVENT_READ)
        elif data:
            self._on_data(connection, data)
        else:
            self._close(connection)

    def _on_data(self, connection: _Connection, data: bytes) -> None:
        arriving = connection.arriving
        if arriving is None:
            arriving = connection.arriving = Arriving(most_body_bytes=self.bounds.most_body_bytes)
        if connection.doing is Doing.IDLE:
            connection.doing = Doing.READING
            connection.timeout = time.monotonic() + self.bounds.head_s
        was_in_head = arriving.progress is Progress.HEAD
        match arriving.feed(data):
            case Progress.WHOLE:
                self._ask_a_thread(connection)
            case Progress.ENDLESS_HEAD:
                self._refuse(connection, 431)
            case progress:
                if progress is Progress.BODY and was_in_head:
                    connection.timeout = time.monotonic() + self.bounds.body_s
                    if arriving.wants_continue:
                        try:
                            connection.sock.sendall(_CONTINUE)
                        except OSError:
                            self._close(connection)
                            return
                self._keep(connection, len(arriving.data))
                self._watch(connection, selectors.EVENT_READ)

    # --- in a thread ----------------------------------------------------------------------------------------------

    def _ask_a_thread(self, connection: _Connection) -> None:
        self._leave_waiting(connection)
        size = 0 if connection.arriving is None else len(connection.arriving.data)
        if size > SPARED_BYTES and self._asked_bytes + size > MOST_KEPT_BYTES:
            self._refuse(connection, 503)
            return
        connection.asked_bytes = size
        self._asked_bytes += size
        connection.doing = Doing.ANSWERING
        self.enqueue_req(connection)

    def handle(self, conn: _Connection) -> Any:
        """In a thread."""
        conn.parse_what_came()
        return super().handle(conn)

    def handle_request(self, req: Any, conn: _Connection) -> Any:
        """In a thread."""
        req._expected_100_continue = False  # it was told, or is not to send its body
        req.body.reader = _BodyReader(req.body.reader)
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: _Connection, keepalive: Any) -> bool:
        """In a thread. What a request's reader left of its body is passed over, as far as it has come."""
        try:
            return bool(keepalive) and conn.parser.finish_body() and not conn.sock.is_starved
        except OSError:
            return False

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """In a thread. What is no request is refused as all else is, and nothing of it is said again."""
        if isinstance(exc, errors.ParseException) and not isinstance(exc, _OURS):
            status = _STATUSES.get(type(exc), 400)
            self.log.debug("not a request: %s", type(exc).__name__)
        else:
            status = 500
            self.log.exception("Error handling request")
        client.sendall(_refusal(status))

    def finish_request(self, conn: _Connection, fs: Future[Any]) -> None:
        self._asked_bytes -= conn.asked_bytes
        conn.asked_bytes = 0
        try:
            conn.is_kept_open = bool(fs.result()) if not fs.cancelled() else False
            conn.sock.flush()
        except OSError:
            self._close(conn)
            return
        except Exception:  # of the thread's: whoever asked is gone, and nobody else is to be
            self.log.exception("a request's thread broke")
            self._close(conn)
            return
        if conn.sock.unsent_bytes:
            conn.doing = Doing.WRITING
            conn.timeout = time.monotonic() + ANSWER_S + conn.sock.unsent_bytes / ANSWER_BYTES_PER_S
            self._waiting[conn] = None
            self._keep(conn, conn.sock.unsent_bytes)
            self._watch(conn, selectors.EVENT_WRITE)
        else:
            self._after_answer(conn)

    # --- to the client --------------------------------------------------------------------------------------------

    def _on_writable(self, connection: _Connection) -> None:
        try:
            connection.sock.flush()
        except OSError:
            self._close(connection)
            return
        self._keep(connection, connection.sock.unsent_bytes)
        if not connection.sock.unsent_bytes:
            self._leave_waiting(connection)
            self._after_answer(connection)

    def _after_answer(self, connection: _Connection) -> None:
        if not connection.is_kept_open:
            self._linger(connection)
            return
        behind = connection.parser.unreader.take_buffered()
        if not behind:
            self._await_request(connection, self.cfg.keepalive if self.alive else gthread.STOP_KEEPALIVE_LINGER)
            return
        connection.arriving = None
        connection.doing = Doing.IDLE
        self._waiting[connection] = None
        self._on_data(connection, behind)

    def _refuse(self, connection: _Connection, status: int) -> None:
        try:
            connection.sock.sendall(_refusal(status))
        except OSError:
            self._close(connection)
            return
        self._linger(connection)

    def _linger(self, connection: _Connection) -> None:
        """Say that nothing more comes, and close once the client has."""
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
            return
        connection.arriving = None
        connection.doing = Doing.LINGERING
        connection.timeout = time.monotonic() + LINGER_S
        self._keep(connection, 0)
        self._waiting.pop(connection, None)
        self._waiting[connection] = None
        self._on_lingering(connection)

    def _on_lingering(self, connection: _Connection) -> None:
        data = connection.sock.take()
        if data is None:
            self._watch(connection, selectors.EVENT_READ)
            return
        connection.thrown_away += len(data)
        if not data or connection.thrown_away > LINGER_BYTES:
            self._close(connection)
        else:
            self._watch(connection, selectors.EVENT_READ)

    # --- waiting --------------------------------------------------------------------------------------------------

    def _on_ready(self, connection: _Connection, _file: Any) -> None:
        match connection.doing:
            case Doing.IDLE | Doing.READING:
                self._on_readable(connection)
            case Doing.WRITING:
                self._on_writable(connection)
            case Doing.LINGERING:
                self._on_lingering(connection)
            case Doing.ANSWERING | Doing.CLOSED:
                """It went on with this turn's other events."""

    def _watch(self, connection: _Connection, events: int) -> None:
        if connection.doing is Doing.CLOSED or connection.watched == events:
            return
        change: Callable[..., Any] = self.poller.modify if connection.watched else self.poller.register
        change(connection.sock, events, partial(self._on_ready, connection))
        connection.watched = events

    def _keep(self, connection: _Connection, size: int) -> None:
        """So many bytes are kept for it."""
        self._kept_bytes += size - connection.kept_bytes
        connection.kept_bytes = size
        while self._kept_bytes > MOST_KEPT_BYTES:
            found = next((one for one in self._waiting if one.kept_bytes > SPARED_BYTES), None)
            if found is None:
                break
            self._close(found)

    def _leave_waiting(self, connection: _Connection) -> None:
        self._waiting.pop(connection, None)
        self._keep(connection, 0)
        if connection.watched:
            self.poller.unregister(connection.sock)
            connection.watched = 0

    def _close(self, connection: _Connection) -> None:
        if connection.doing is not Doing.CLOSED:
            connection.doing = Doing.CLOSED
            self._leave_waiting(connection)
            self.nr_conns -= 1
            connection.sock.close()

    def _make_room(self) -> None:
        """For who comes next, where all places are taken: who has been waited for longest goes."""
        found = next(iter(self._waiting), None)
        if found is not None:
            self._close(found)

    def murder_pending(self) -> None:
        """Called each second, and after each event: who did not come in time goes."""
        now_s = time.monotonic()
        if now_s < self._swept_at_s + _SWEEP_S:
            return
        self._swept_at_s = now_s
        for connection in [one for one in self._waiting if one.timeout <= now_s]:
            if connection.doing is Doing.READING:
                self._refuse(connection, 408)
            else:
                self._close(connection)

    def _cap_keepalive(self, deadline: float) -> None:
        """The worker stops: a request that may be on its way has until then, one of which a part is there a little longer."""
        for connection in self._waiting:
            match connection.doing:
                case Doing.IDLE:
                    connection.timeout = min(connection.timeout, deadline)
                case Doing.READING:
                    connection.timeout = min(connection.timeout, deadline + STOP_S)
