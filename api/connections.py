"""Connections by the thousand on one event loop, for a few hundred bytes each.

An event loop's own transport takes 1.4 KB for an idle connection and a Python socket object another 0.1 (measured with
uvloop 0.23). Here a connection is a descriptor in an epoll set of the relay's own, which the loop watches as one; what is
written in one turn of the loop leaves in one system call per connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
from typing import Final, Protocol

READ_BYTES: Final = 64 * 1024
_READY_AT_ONCE: Final = 256
_READ: Final = select.EPOLLIN
_WRITE: Final = select.EPOLLOUT

logger = logging.getLogger("chatrelay.relay")


class Owner(Protocol):
    """Whose connection it is. Called on the loop."""

    def data_received(self, data: bytes) -> None: ...
    def pause_writing(self) -> None:
        """More waits to be sent than the limit allows."""
        ...

    def resume_writing(self) -> None:
        """Less than a quarter of the limit waits."""
        ...

    def connection_lost(self) -> None:
        """It is gone; the last call. Never made from within `write`, `close` or `abort`."""
        ...


class Connections:
    """All of them. To be used on the loop that `start` ran on."""

    def __init__(self, *, buffer_bytes: int) -> None:
        """`buffer_bytes`: the limit of what may wait to be sent on one of them."""
        self.buffer_bytes = buffer_bytes
        self._epoll: select.epoll | None = None
        self._open: dict[int, Connection] = {}
        self._unsent: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_held = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._on_ready)

    def close(self) -> None:
        """Drop what is still open."""
        if self._epoll is None or self._loop is None:
            return
        self._loop.remove_reader(self._epoll.fileno())
        for connection in list(self._open.values()):
            connection.abort()
            self._drop(connection)
        self._epoll.close()
        self._epoll = None

    def adopt(self, sock: socket.socket, owner: Owner) -> Connection | None:
        """Own a non-blocking socket; None, and it is closed, where this was closed."""
        if self._epoll is None:
            sock.close()
            return None
        connection = Connection(self, sock.detach(), owner)
        self._open[connection.descriptor] = connection
        self._epoll.register(connection.descriptor, _READ)
        return connection

    def watch(self, connection: Connection, *, read: bool, write: bool) -> None:
        assert self._epoll is not None
        self._epoll.modify(connection.descriptor, (_READ if read else 0) | (_WRITE if write else 0))

    def flush_soon(self, connection: Connection) -> None:
        """Have it flushed at the next `release`, or in the loop's next turn."""
        if not self._unsent and not self._is_held:
            assert self._loop is not None
            self._loop.call_soon(self._flush)
        self._unsent.append(connection)

    def hold(self) -> None:
        """Collect what is written until `release`, which must follow in this turn of the loop."""
        if not self._unsent:
            self._is_held = True

    def release(self) -> None:
        """Send what was collected: saves the loop a turn."""
        if self._is_held:
            self._is_held = False
            self._flush()

    def drop_soon(self, connection: Connection) -> None:
        assert self._loop is not None
        self._loop.call_soon(self._drop, connection)

    def _drop(self, connection: Connection) -> None:
        if self._open.pop(connection.descriptor, None) is None:
            return
        # closing alone would leave it in the set while any copy of the descriptor is open, and spin the loop
        if self._epoll is not None:
            self._epoll.unregister(connection.descriptor)
        os.close(connection.descriptor)
        connection.owner.connection_lost()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        for connection in unsent:
            try:
                connection.flush()
            except Exception:
                logger.exception("a connection could not be written to")
                connection.abort()

    def _on_ready(self) -> None:
        assert self._epoll is not None
        for descriptor, events in self._epoll.poll(0, _READY_AT_ONCE):
            connection = self._open.get(descriptor)
            if connection is None:
                continue
            try:
                connection.on_ready(events)
            except Exception:
                logger.exception("a connection could not be served")
                connection.abort()


class Connection:
    """One stream of bytes in each direction. Made by `Connections.adopt`."""

    __slots__ = (
        "_all",
        "_is_closing",
        "_is_deaf",
        "_is_lost",
        "_is_paused",
        "_unsent",
        "_unsent_bytes",
        "descriptor",
        "owner",
    )

    def __init__(self, connections: Connections, descriptor: int, owner: Owner) -> None:
        self.descriptor = descriptor
        self.owner = owner
        self._all = connections
        self._unsent: list[bytes] | None = None
        self._unsent_bytes = 0
        self._is_paused = False
        self._is_closing = False
        self._is_deaf = False
        self._is_lost = False

    @property
    def unsent_bytes(self) -> int:
        return self._unsent_bytes

    def write(self, data: bytes) -> None:
        """Send `data` after what waits already; in the loop's next turn, or at once where more waits than the limit."""
        if self._is_closing or self._is_lost:
            return
        self._unsent_bytes += len(data)
        if self._unsent is None:
            self._unsent = [data]
            self._all.flush_soon(self)
        else:
            self._unsent.append(data)
        if self._unsent_bytes > self._all.buffer_bytes and not self._is_paused:
            self.flush()

    def close(self) -> None:
        """Close it once all that waits has been sent; nothing is read any more."""
        if self._is_closing or self._is_lost:
            return
        self._is_closing = True
        if self._unsent is None:
            self.abort()
        else:
            self._all.watch(self, read=False, write=True)

    def stop_reading(self) -> None:
        """What the peer sends from now on stays in the kernel, which in time takes no more of it."""
        if not (self._is_deaf or self._is_closing or self._is_lost):
            self._is_deaf = True
            self._all.watch(self, read=False, write=self._unsent is not None)

    def abort(self) -> None:
        """Close it now."""
        if not self._is_lost:
            self._is_lost = True
            self._unsent, self._unsent_bytes = None, 0
            self._all.drop_soon(self)

    def flush(self) -> None:
        """Send what the peer takes now; the rest when it takes more."""
        if self._unsent is None:
            return
        data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        try:
            sent = os.write(self.descriptor, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        if sent == len(data):
            is_waiting = self._is_paused or self._is_closing
            self._unsent, self._unsent_bytes = None, 0
            if self._is_closing:
                self.abort()
            elif is_waiting:
                self._on_less()
            return
        self._unsent, self._unsent_bytes = [data[sent:]], len(data) - sent
        self._all.watch(self, read=not (self._is_closing or self._is_deaf), write=True)
        if self._unsent_bytes > self._all.buffer_bytes and not self._is_paused:
            self._is_paused = True
            self.owner.pause_writing()
        elif self._is_paused:
            self._on_less()

    def _on_less(self) -> None:
        if self._is_paused and self._unsent_bytes <= self._all.buffer_bytes // 4:
            self._is_paused = False
            self.owner.resume_writing()

    def on_ready(self, events: int) -> None:
        if self._is_lost:
            return
        if events & _WRITE:
            self._all.watch(self, read=not (self._is_closing or self._is_deaf), write=False)
            self.flush()
        if events & ~_WRITE and not self._is_lost:
            self._read()

    def _read(self) -> None:
        if self._is_closing:  # what is left to report here is that the peer is gone
            self.abort()
            return
        try:
            data = os.read(self.descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.owner.data_received(data)
        else:
            self.abort()
