"""A TCP wire between a browser and a server that a test can cut and mend."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_READ_BYTES = 65_536


class Wire:
    """Listens on a free port of 127.0.0.1 and passes bytes both ways to `target` (host, port).

    While it is cut, every connection that there was is reset and every new one is reset at once.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(None)
        self._lock = threading.Lock()
        self._is_cut = False
        self._is_closed = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads: list[threading.Thread] = []

    @property
    def origin(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def cut(self) -> None:
        """Resets all connections, those that there are and those that come."""
        with self._lock:
            self._is_cut = True
            pairs = list(self._pairs)
        for pair in pairs:
            _reset(pair)

    def mend(self) -> None:
        """Lets new connections through again."""
        with self._lock:
            self._is_cut = False

    def __enter__(self) -> Self:
        self._start(self._accept, "wire")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, run: object, name: str, *arguments: object) -> None:
        thread = threading.Thread(target=run, name=name, args=arguments)  # type: ignore[arg-type]  # any callable
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                continue
            with self._lock:
                self._pairs.add((near, far))
                is_cut = self._is_cut
            if is_cut:
                _reset((near, far))
            self._start(self._pass_on, "wire connection", near, far)

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(near, selectors.EVENT_READ, far)
                selector.register(far, selectors.EVENT_READ, near)
                while True:
                    for key, _ in selector.select():
                        source: socket.socket = key.fileobj  # type: ignore[assignment]  # registered above
                        if not (received := source.recv(_READ_BYTES)):
                            return
                        key.data.sendall(received)
        except (OSError, ValueError):
            return  # one side was reset, or closed by `cut`
        finally:
            with self._lock:
                self._pairs.discard((near, far))
            near.close()
            far.close()


def _reset(pair: tuple[socket.socket, socket.socket]) -> None:
    """Makes both ends' next close a reset, and wakes whoever reads them."""
    for end in pair:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.shutdown(socket.SHUT_RDWR)
