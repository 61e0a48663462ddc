"""Taking a connection out of the web server's hands, so that it costs no request thread.

The server's own socket object keeps working, on a descriptor that is the dead end of a closed pair: whatever the server
does to the connection afterwards (blocking mode, half-close, close) succeeds and touches nobody. Merely detaching its
socket would make gunicorn's threaded worker fail with EBADF and count the connection down twice.

Not possible where the server encrypts the connection itself or speaks HTTP/2 on it; a proxy in front does both.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from flask import Blueprint, Response, request
from flask_sock import Sock
from werkzeug.exceptions import NotImplemented as NotImplementedHere

WSGIEnvironment: TypeAlias = dict[str, Any]
_SOCKETS: Final = ("gunicorn.socket", "werkzeug.socket")
V = TypeVar("V", bound=Callable[..., object])


class SilentThread:
    """In place of the thread that simple-websocket starts for each socket: the relay reads instead."""

    def __init__(self, target: Callable[[], None]) -> None:
        self.name = "never started"

    def start(self) -> None:
        """Nothing runs."""


SOCK_SERVER_OPTIONS: Final[dict[str, Any]] = {"thread_class": SilentThread}
"""For `app.config["SOCK_SERVER_OPTIONS"]`."""


class Guest(Protocol):
    """What a socket's view returns: who is to be let in once the handshake is done."""

    def adopt(self, sock: socket.socket) -> None:
        """Own the connection; its 101 was sent."""
        ...

    def turn_away(self) -> None:
        """The handshake failed; nothing is owned."""
        ...


class HandoverSock(Sock):  # type: ignore[misc]  # flask-sock has no types
    """flask-sock, for views that decide before the handshake and hand the connection over after it.

    The view authenticates, refuses by raising, or returns a `Guest`. So a refusal is an HTTP answer and not a socket
    that closes. Compression is not negotiated: the extension header is taken out of the request, so that a frame needs
    no more memory than it had bytes on the way, and no socket keeps a zlib state.
    """

    def route(self, path: str, bp: Blueprint | None = None, **options: Any) -> Callable[[V], V]:
        """As `Sock.route`; the view gets the path's variables alone."""

        def decorator(view: V) -> V:
            guests = _Guests(view)
            registrar = _Registrar(bp if bp is not None else self.app, guests)
            super(HandoverSock, self).route(path, registrar, **options)(guests.after_handshake)
            return view

        return decorator


class _Guests:
    """One view's way through flask-sock: asked before the handshake, its guest adopted after it."""

    def __init__(self, view: Callable[..., object]) -> None:
        self._view = view

    def before_handshake(self, **variables: Any) -> None:
        if not can_take(request.environ):
            raise NotImplementedHere("Sockets need a plain HTTP/1.1 connection from the proxy to this server.")
        guest = self._view(**variables)
        request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
        request.environ[_GUEST] = guest

    @property
    def after_handshake(self) -> Callable[..., None]:
        @wraps(self._view)
        def adopt(ws: Any, **variables: Any) -> None:
            sock = take_socket(request.environ)
            assert sock is not None
            ws.connected = False  # flask-sock would send a close frame
            guest: Guest = request.environ.pop(_GUEST)
            guest.adopt(sock)

        return adopt


_GUEST: Final = "chatrelay.guest"


class _Registrar:
    """Stands where flask-sock registers its view, and puts `before_handshake` in front of it."""

    def __init__(self, scaffold: Any, guests: _Guests) -> None:
        self._scaffold = scaffold
        self._guests = guests

    def route(self, path: str, **options: Any) -> Callable[[Callable[..., Any]], object]:
        def register(view: Callable[..., Any]) -> object:
            @wraps(view)
            def guarded(**variables: Any) -> Any:
                self._guests.before_handshake(**variables)
                try:
                    return view(**variables)
                finally:
                    guest: Guest | None = request.environ.pop(_GUEST, None)
                    if guest is not None:  # not adopted
                        guest.turn_away()

            return self._scaffold.route(path, **options)(guarded)

        return register


class HandedOver(Response):
    """What a view returns for a request whose connection it has taken: the server answers nothing and forgets it.

    `StopIteration` is what gunicorn takes for "this request was dealt with", and flask-sock raises it too.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: Any) -> Any:
        if "gunicorn.socket" in environ:
            raise StopIteration
        return super().__call__(environ, start_response)  # into the dead end


def can_take(environ: WSGIEnvironment) -> bool:
    """Whether `take_socket` would give a connection."""
    return _server_socket(environ) is not None


def take_socket(environ: WSGIEnvironment) -> socket.socket | None:
    """The request's connection, the caller's from now on; None where the server cannot give it away.

    The view must return a `HandedOver` afterwards.
    """
    theirs = _server_socket(environ)
    if theirs is None:
        return None
    ours = theirs.dup()
    dead_end, other_end = socket.socketpair()
    with dead_end, other_end:
        os.dup2(dead_end.fileno(), theirs.fileno(), inheritable=False)
    return ours


def _server_socket(environ: WSGIEnvironment) -> socket.socket | None:
    if "gunicorn.http2.send_trailers" in environ:
        return None
    for name in _SOCKETS:
        sock = environ.get(name)
        if isinstance(sock, socket.socket) and not isinstance(sock, ssl.SSLSocket):
            return sock
    return None
