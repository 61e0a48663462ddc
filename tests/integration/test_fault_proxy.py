"""The faulty ways of the fault tests do what they say: each fault where it was asked for, told, and undone."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.fault_proxy import FaultProxies, Link, Way, down, up


@pytest.fixture
def link() -> Iterator[Link]:
    """A way to a server that answers each piece by the same bytes in capitals."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client:
            try:
                while piece := client.recv(1 << 16):
                    client.sendall(piece.upper())
            except OSError:
                pass

    def accept() -> None:
        threads = []
        while True:
            client, _ = server.accept()
            if client.recv(1, socket.MSG_PEEK) == b"!":
                client.close()
                break
            threads.append(threading.Thread(target=serve, args=(client,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        with FaultProxies() as proxies:
            yield proxies.link(f"http://127.0.0.1:{server.getsockname()[1]}")
    finally:
        with socket.create_connection(server.getsockname()) as last:
            last.sendall(b"!")
        accepting.join()
        server.close()


@pytest.fixture
def client(link: Link) -> Iterator[socket.socket]:
    with _connected(link) as made:
        assert _said(made, b"hello") == b"HELLO"
        yield made


def _connected(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=20)


def _said(client: socket.socket, piece: bytes) -> bytes:
    client.sendall(piece)
    return client.recv(1 << 16)


def test_new_connections_are_refused_while_open_ones_go_on(link: Link, client: socket.socket) -> None:
    link.refuse()
    with pytest.raises(ConnectionRefusedError):
        _connected(link)
    assert _said(client, b"still") == b"STILL"
    link.undo()
    with _connected(link) as other:
        assert _said(other, b"again") == b"AGAIN"
    link.wait_opened(2)


def test_open_connections_are_reset(link: Link, client: socket.socket) -> None:
    assert link.reset() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    link.wait_until(lambda: link.open == 0, "its end")


def test_a_black_hole_swallows_one_way_and_what_lost_bytes_is_reset_afterwards(
    link: Link, client: socket.socket
) -> None:
    answered = link.watch(down(b"SWALLOWED"))
    link.blackhole(Way.UP)
    client.sendall(b"swallowed")
    link.wait_until(lambda: any(one.lost_bytes for one in link._connections.values()), "lost")
    assert answered.struck == 0
    link.undo()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_what_a_late_black_hole_kept_comes_when_it_is_undone(link: Link, client: socket.socket) -> None:
    link.blackhole(late=True)
    client.sendall(b"late")
    link.undo()
    assert client.recv(1 << 16) == b"LATE"


@pytest.mark.parametrize("manner", ["rst", "fin"])
@pytest.mark.parametrize("passing", [False, True])
def test_a_connection_is_cut_exactly_at_the_answer_it_was_set_for(
    link: Link, client: socket.socket, manner: str, passing: bool
) -> None:
    """What comes before its first step does not count, and what another connection says neither."""
    trap = link.cut(up(b"two"), down(b"COMMIT"), manner="fin" if manner == "fin" else "rst", passing=passing)
    with _connected(link) as other:
        assert _said(other, b"two") == b"TWO"
        assert _said(client, b"commit") == b"COMMIT"
        assert _said(client, b"one t") == b"ONE T"
        assert _said(client, b"wo") == b"WO"  # the step lies over two pieces
        client.sendall(b"a commit!")
        trap.wait()
        received = b""
        try:
            while piece := client.recv(1 << 16):
                received += piece
            assert manner == "fin"
        except ConnectionResetError:
            assert manner == "rst"
        if manner == "fin":
            assert received == (b"A COMMIT" if passing else b"A ")
        assert _said(other, b"commit") == b"COMMIT"  # once
    assert trap.struck == 1


def test_a_connection_is_cut_after_so_many_bytes_of_the_answer(link: Link, client: socket.socket) -> None:
    trap = link.cut(up(re.compile(rb"GET /\w+/events")), down(3), manner="fin")
    client.sendall(b"get /a/events GET /a/events")
    trap.wait()
    assert client.recv(1 << 16) == b"GET"
    assert client.recv(1 << 16) == b""


def test_a_slow_way_takes_longer_and_keeps_the_order(link: Link, client: socket.socket) -> None:
    link.slow(0.1, Way.DOWN)
    began_at = time.monotonic()
    assert _said(client, b"one") == b"ONE"
    assert time.monotonic() - began_at >= 0.1
    client.sendall(b"two")
    client.sendall(b"three")
    received = b""
    while len(received) < len("twothree"):
        received += client.recv(1 << 16)
    assert received == b"TWOTHREE"


def test_a_connection_is_held_until_it_is_released(link: Link, client: socket.socket) -> None:
    trap = link.hold(up(b"wait"))
    client.sendall(b"please wait")
    trap.wait()
    trap.release()
    received = b""
    while len(received) < len("please wait"):
        received += client.recv(1 << 16)
    assert received == b"PLEASE WAIT"


def test_a_trap_sets_the_next_one(link: Link, client: socket.socket) -> None:
    link.cut(up(b"one"), manner="fin", then=lambda: link.cut(up(b"two"), manner="fin"))
    assert _said(client, b"two") == b"TWO"
    assert _said(client, b"one") == b""
    with _connected(link) as other:
        assert _said(other, b"one") == b"ONE"
        assert _said(other, b"two") == b""
