"""A server that is to hear nothing: what attacks name as the place to connect to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager


class Listener:
    """Sockets for what may reach nobody: they note every connection, with its first bytes, and every datagram."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.port, self.udp_port = self._tcp.getsockname()[1], self._udp.getsockname()[1]
        self._threads = [threading.Thread(target=target, name="listener") for target in (self._accept, self._receive)]
        for thread in self._threads:
            thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with closing(connection):
                connection.settimeout(2)
                try:
                    data = connection.recv(100)
                except OSError:
                    data = b""
            if data == b"end":
                return
            self.heard.append(b"TCP " + data)

    def _receive(self) -> None:
        while (data := self._udp.recv(2000)) != b"end":
            self.heard.append(b"UDP " + data[:8])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_open(self) -> bool:
        return self._tcp.fileno() != -1

    def close(self) -> list[bytes]:
        """Everything that came, once what was on its way is there."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"end")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", ("127.0.0.1", self.udp_port))
        for thread in self._threads:
            thread.join()
        self._tcp.close()
        self._udp.close()
        return self.heard


@contextmanager
def listening() -> Iterator[Listener]:
    made = Listener()
    try:
        yield made
    finally:
        if made.is_open:
            made.close()
