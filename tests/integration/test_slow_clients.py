"""Clients that are slow, silent or rude, at a real web process of two request threads: nobody else waits for them.

Nothing is timed. Where a slow client held a thread, who comes next would not be answered before the test's own patience ends.
"""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from api.arriving import HEAD_BYTES
from api.patient_worker import MOST_KEPT_BYTES
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.stack import Stack, StackStarter

_PATIENCE_S: Final = 30.0
_MANY: Final = 50
"""Times as many as there are threads; at 5 s each, which gunicorn's own worker grants the silent, beyond all patience."""
_ASKED: Final = 60
"""Answers of a hundred kilobytes and more: together beyond what any kernel takes for a client."""
_PLACES: Final = 120
_SETTINGS: Final = {"CHATRELAY_API_THREADS": 2, "CHATRELAY_MAX_CONNECTIONS": _PLACES}


@pytest.fixture(scope="module")
def web(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(workers=0, sweepers=0, settings=_SETTINGS)


@pytest.fixture(scope="module")
def hasty_web(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    """One that waits for nobody."""
    settings = _SETTINGS | {"CHATRELAY_REQUEST_HEAD_S": 0.2, "CHATRELAY_REQUEST_BODY_S": 0.2}
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(workers=0, sweepers=0, settings=settings)


@pytest.fixture(scope="module")
def distrusting_web(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    """One that trusts no proxy on this machine."""
    with StackStarter(postgres_databases, valkey_databases) as starter:
        settings = _SETTINGS | {"CHATRELAY_TRUSTED_PROXIES": "10.0.0.0/8"}
        yield starter(workers=0, sweepers=0, settings=settings)


@pytest.fixture
def open_() -> Iterator[ExitStack]:
    """Connections that the test's end closes."""
    with ExitStack() as opened:
        yield opened


def connected(stack: Stack, opened: ExitStack, sent: bytes = b"", *, receive_bytes: int | None = None) -> socket.socket:
    made = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    made.settimeout(_PATIENCE_S)
    if receive_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    host, port = stack.urls[0].removeprefix("http://").split(":")
    made.connect((host, int(port)))
    made.sendall(sent)
    return made


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def post(stack: Stack, body: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/projects HTTP/1.1", "Host: x", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {stack.token}", *headers]
    if not any(header.lower().startswith("transfer-encoding") for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next one: its status, headers and body."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _more(connection)
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        body += _more(connection)
    assert len(body) == length, "something else came behind it"
    return int(status.split()[1]), headers, body


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    assert data, "it ended"
    return data


def is_served(stack: Stack) -> None:
    """Somebody else gets an answer."""
    with ExitStack() as opened:
        assert answer(connected(stack, opened, get("/healthz")))[0] == 200


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(_PATIENCE_S)


def has_ended(connection: socket.socket) -> bool:
    """Waits for it."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


# --- who is slow ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"G", get("/healthz")[:-2]], ids=["nothing", "a byte", "a head without its end"])
def test_who_does_not_finish_a_request_holds_no_thread(web: Stack, open_: ExitStack, sent: bytes) -> None:
    slow = [connected(web, open_, sent) for _ in range(_MANY)]
    is_served(web)
    assert all(is_open(one) for one in slow)
    if sent:
        slow[0].sendall(get("/healthz")[len(sent) :])
        assert answer(slow[0])[0] == 200


def test_bodies_that_trickle_in_hold_no_thread_and_are_read_to_their_end(web: Stack, open_: ExitStack) -> None:
    request = post(web, b'{"name":"slow"}')
    slow = [connected(web, open_, request[:-3]) for _ in range(_MANY)]
    is_served(web)
    for byte in request[-3:]:
        slow[0].sendall(bytes([byte]))
    status, _, body = answer(slow[0])
    assert (status, json.loads(body)["name"]) == (201, "slow")


def test_answers_that_are_not_taken_hold_no_thread_and_come_whole(web: Stack, open_: ExitStack) -> None:
    whole = answer(connected(web, open_, get("/openapi.json")))[2]
    assert len(whole) > 100_000, "it would fit into the kernel's buffers"
    ask = get("/openapi.json") * _ASKED
    slow = [connected(web, open_, ask, receive_bytes=4096) for _ in range(4)]
    is_served(web)
    left = _ASKED * len(whole)
    while left > 0:  # and their heads
        left -= len(_more(slow[0]))


def test_who_does_not_hang_up_keeps_nobody_waiting(web: Stack, open_: ExitStack) -> None:
    rude = [connected(web, open_, get("/healthz", "Connection: close")) for _ in range(_MANY)]
    is_served(web)
    for one in rude:
        assert answer(one)[0] == 200
        assert one.recv(1) == b""


# --- how requests may come --------------------------------------------------------------------------------------


def test_requests_that_are_sent_one_behind_the_other_are_answered_in_turn(web: Stack, open_: ExitStack) -> None:
    names = [f"{number:03}" for number in range(20)]
    asked = b"".join(post(web, json.dumps({"name": name}).encode()) for name in names)
    connection = connected(web, open_, asked)
    raw = b""
    while raw.count(b'"name":') < len(names):
        raw += _more(connection)
    found = [part[1:4].decode() for part in raw.split(b'"name":')[1:]]
    assert found == names


def test_a_body_in_chunks_is_the_same_however_it_is_cut(web: Stack, open_: ExitStack) -> None:
    chunked = b'4;a="b"\r\n{"na\r\n1\r\nm\r\n00C\r\ne":"chunks"}\r\n0\r\nX-More: x\r\n\r\n'
    request = post(web, chunked, "Transfer-Encoding: chunked")
    chance = random.Random(7)
    for _ in range(3):
        connection, rest = connected(web, open_), request + get("/healthz")
        while rest:
            size = chance.randrange(1, 40)
            connection.sendall(rest[:size])
            rest = rest[size:]
        raw = b""
        while b'"alive"' not in raw:
            raw += _more(connection)
        assert raw.startswith(b"HTTP/1.1 201")
        assert b'"name":"chunks"' in raw


@pytest.mark.parametrize(
    "body",
    [b"3\r\nabcd\r\n0\r\n\r\n", b"zz\r\n", b"3;\x00\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\nBad Trailer\r\n\r\n"],
)
def test_a_body_in_chunks_that_are_none_is_a_refusal(web: Stack, open_: ExitStack, body: bytes) -> None:
    connection = connected(web, open_, post(web, body, "Transfer-Encoding: chunked"))
    status, _, refusal = answer(connection)
    assert (status, json.loads(refusal)["code"]) == (400, "invalid_json")
    assert connection.recv(1) == b""


def test_who_asks_before_sending_a_body_is_told_to_go_on(web: Stack, open_: ExitStack) -> None:
    body = b'{"name":"asked"}'
    request = post(web, body, "Expect: 100-continue")
    connection = connected(web, open_, request.removesuffix(body))
    assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body)
    assert answer(connection)[0] == 201


def test_who_is_told_to_go_on_and_is_gone_by_then_takes_nobody_along(web: Stack, open_: ExitStack) -> None:
    """A reset is there before the answer is written."""
    follower = connected(web, open_, get("/healthz"))
    assert answer(follower)[0] == 200
    request = post(web, b"", "Content-Length: 10", "Expect: 100-continue").replace(b"Content-Length: 0\r\n", b"")
    for _ in range(20):
        rude = connected(web, open_, request)
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        rude.close()
    is_served(web)
    assert is_open(follower), "the process went down with it"


@pytest.mark.parametrize("expects", [[], ["Expect: 100-continue"]])
def test_a_body_that_is_too_large_is_refused_by_its_head(web: Stack, open_: ExitStack, expects: list[str]) -> None:
    """And what is sent of it all the same does not take the refusal away."""
    head = post(web, b"", "Content-Length: 9999999", *expects).replace(b"Content-Length: 0\r\n", b"")
    connection = connected(web, open_, head)
    status, _, _ = answer(connection)
    assert status == 413
    connection.sendall(b" " * 100_000)
    assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (get("/", "Transfer-Encoding: gzip"), 400),
        (get("/", "Transfer-Encoding: cake, chunked"), 501),
        (get("/", "Content-Length: 1", "Content-Length: 2"), 400),
        (get("/", "Content-Length: -1"), 400),
        (get("/", "Bad Header: 1"), 400),
        (get("/", "Expect: cake"), 417),
        (get("/" + "x" * 9000), 414),
        (get("/", *["A: b"] * 100), 431),
        (get("/", "A: " + "b" * 9000), 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * HEAD_BYTES, 431),
    ],
)
def test_what_is_no_request_is_a_problem_without_its_words(
    web: Stack, open_: ExitStack, sent: bytes, status: int
) -> None:
    connection = connected(web, open_, sent)
    found, headers, body = answer(connection)
    assert found == status
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert set(json.loads(body)) == {"type", "title", "status", "detail", "code"}
    assert connection.recv(1) == b""


def test_that_a_request_came_by_tls_is_a_trusted_proxy_s_word(
    web: Stack, distrusting_web: Stack, open_: ExitStack
) -> None:
    asked = get("/healthz", "X-Forwarded-Proto: https", "X-Forwarded-For: 203.0.113.9")
    told = [
        answer(connected(stack, open_, asked))[1].get("strict-transport-security") for stack in (web, distrusting_web)
    ]
    assert told == ["max-age=31536000", None]


# --- what is waited for, and for how long -----------------------------------------------------------------------


@pytest.mark.parametrize("part", ["head", "body"])
def test_who_takes_too_long_for_a_request_is_told_so(hasty_web: Stack, open_: ExitStack, part: str) -> None:
    sent = get("/healthz")[:-1] if part == "head" else post(hasty_web, b'{"name":"x"}')[:-1]
    connection = connected(hasty_web, open_, sent)
    status, headers, body = answer(connection)
    assert (status, json.loads(body)["code"], headers["connection"]) == (408, "request_timeout", "close")
    assert connection.recv(1) == b""


def test_who_says_nothing_is_closed_without_a_word(hasty_web: Stack, open_: ExitStack) -> None:
    assert connected(hasty_web, open_).recv(1) == b""


@pytest.mark.parametrize("sent", [b"", b"G"])
def test_where_all_places_are_taken_who_was_waited_for_longest_makes_room(
    web: Stack, open_: ExitStack, sent: bytes
) -> None:
    """Whether nothing has come of a request, or a part."""
    silent = [connected(web, open_, sent) for _ in range(2 * _PLACES)]
    is_served(web)
    for one in silent[:_PLACES]:
        assert one.recv(1) == b""
    assert is_open(silent[-1])


def test_bodies_without_an_end_take_no_more_memory_than_there_is_for_them(web: Stack, open_: ExitStack) -> None:
    """Who was at it for longest goes; a request that comes whole is answered."""
    size = 1_000_000
    request = post(web, b'{"name":"' + b"x" * size)[:-1]
    most = MOST_KEPT_BYTES // len(request)
    slow = [connected(web, open_, request) for _ in range(most + 10)]
    status, _, _ = answer(connected(web, open_, post(web, b'{"name":"quick"}')))
    assert status == 201
    for one in slow[:10]:
        assert has_ended(one)
    assert is_open(slow[-1])


def test_who_goes_for_what_it_sends_itself_takes_nobody_along(web: Stack, open_: ExitStack) -> None:
    """The oldest of all that are kept for is the one that sends more."""
    head = post(web, b"", "Content-Length: 1000000").replace(b"Content-Length: 0\r\n", b"")
    first, second = b" " * 620_000, b" " * 370_000
    slow = [connected(web, open_, head + first) for _ in range(MOST_KEPT_BYTES // len(head + first))]
    is_served(web)
    slow[0].sendall(second)
    assert has_ended(slow[0])
    is_served(web)
    assert is_open(slow[-1]), "the process went down with it"
