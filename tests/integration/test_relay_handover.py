"""Connections taken out of a real server's hands: it forgets them, cleanly, and its threads serve others."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dev.child import Child, Command
from dev.embedded import free_port
from shared import event_log, events
from shared.event_log import Entry, EventLog
from shared.events import Delta, EventId, Finalized
from tests.integration.relay_parts import PATIENCE_S, StreamClient, eventually

ROOT = Path(__file__).parents[2]
CONFIGURATION = """
from tests.integration import handover_app

def post_worker_init(worker):
    handover_app.worker = worker

def worker_exit(server, worker):
    worker.wsgi.extensions["relay"].stop(5.0)
"""


class Site:
    """A server of two threads and ten connections at most."""

    def __init__(self, child: Child, port: int, log: EventLog, idle_connections: int) -> None:
        """`idle_connections`: what the server counts while it answers `/counts` and nothing else."""
        self.idle_connections = idle_connections
        self.child = child
        self.port = port
        self.log = log
        self.clients = contextlib.ExitStack()

    def is_up(self) -> bool:
        assert self.child.returncode is None, self.child.output
        try:
            self.counts()
        except OSError:
            return False
        return True

    def counts(self) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("GET", "/counts", headers={"Connection": "close"})
        counts: dict[str, int] = msgspec.json.decode(connection.getresponse().read())
        connection.close()
        return counts

    def say(self, message_id: uuid.UUID, n: int, text: str) -> None:
        event = Delta(id=f"1-{n}", message_id=str(message_id), ts=1, content=text)
        self.log.append(message_id, [Entry(EventId(1, n), events.encode(event))])

    def finish(self, message_id: uuid.UUID, n: int) -> None:
        event = Finalized(id=f"1-{n}", message_id=str(message_id), ts=1, status="success")
        self.log.append(message_id, [Entry(EventId(1, n), events.encode(event))])

    def socket(self, message_id: uuid.UUID) -> ClientConnection:
        address = f"ws://127.0.0.1:{self.port}/{message_id}/socket"
        return self.clients.enter_context(connect(address, open_timeout=PATIENCE_S, proxy=None))

    def stream(self, message_id: uuid.UUID) -> StreamClient:
        sock = self.clients.enter_context(socket.create_connection(("127.0.0.1", self.port)))
        sock.sendall(f"GET /{message_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return StreamClient(sock)


@pytest.fixture(params=["gunicorn", "werkzeug"])
def site(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Site]:
    port = free_port()
    configuration = tmp_path / "gunicorn_conf.py"
    configuration.write_text(CONFIGURATION)
    arguments = {
        "gunicorn": f"gunicorn -k api.patient_worker.PatientWorker --threads 2 --worker-connections 10 -c {configuration}"
        f" --no-control-socket --bind 127.0.0.1:{port} --log-level info tests.integration.handover_app:create_app()",
        "werkzeug": f"flask --app tests.integration.handover_app:create_app run --port {port} --with-threads",
    }[request.param]
    command = Command(
        argv=[sys.executable, "-W", "error", "-m", *arguments.split()],
        env={**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    child = Child("site", command)
    client = event_log.connect(redis_url)
    made = Site(child, port, EventLog(client), 1 if request.param == "gunicorn" else 0)
    try:
        eventually(made.is_up)
        yield made
    finally:
        made.clients.close()
        child.stop(signal.SIGTERM, grace_s=10)
        client.close()
    assert not re.search(r"(?i)traceback|error|exception", child.output), child.output


def received(client: ClientConnection) -> str:
    return str(msgspec.json.decode(client.recv(PATIENCE_S))["id"])


def test_more_readers_than_threads_and_connections_are_served_and_requests_too(site: Site) -> None:
    message_id = uuid.uuid4()
    site.say(message_id, 0, "first")
    sockets = [site.socket(message_id) for _ in range(15)]
    streams = [site.stream(message_id) for _ in range(15)]
    for each in sockets:
        assert received(each) == "1-0"
    for stream in streams:
        stream.until(EventId(1, 0))
    of_its_own = site.idle_connections
    eventually(lambda: site.counts() == {"readers": 30, "connections": of_its_own, "kept_alive": 0})
    site.say(message_id, 1, "second")
    for each in sockets:
        assert received(each) == "1-1"
    site.finish(message_id, 2)
    for each in sockets:
        assert received(each) == "1-2"
        with pytest.raises(ConnectionClosed) as ended:
            each.recv(PATIENCE_S)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1000
    for stream in streams:
        stream.until_end()
        assert stream.ended_well
        assert b"\r\nX-Content-Type-Options: nosniff" in stream.head
    eventually(lambda: site.counts() == {"readers": 0, "connections": of_its_own, "kept_alive": 0})


def test_what_is_refused_before_the_handshake_is_an_http_answer(site: Site) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{site.port}/refused", proxy=None)
    assert refused.value.response.status_code == 401


def test_compression_is_not_agreed_on(site: Site) -> None:
    client = site.socket(uuid.uuid4())
    assert client.response is not None
    assert "Sec-WebSocket-Extensions" not in client.response.headers
    client.send('{"type":"ping"}')
    assert msgspec.json.decode(client.recv(PATIENCE_S)) == {"type": "pong"}


def test_a_handshake_that_is_none_gives_the_place_back(site: Site) -> None:
    message_id = uuid.uuid4()
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)
        connection.request("GET", f"/{message_id}/socket", headers={"Connection": "close"})
        assert connection.getresponse().status >= 400
        connection.close()
    assert site.counts()["readers"] == 0


@pytest.mark.parametrize("site", ["gunicorn"], indirect=True)
def test_a_terminated_server_says_goodbye_with_1012_and_is_gone(site: Site) -> None:
    message_id = uuid.uuid4()
    client, stream = site.socket(message_id), site.stream(message_id)
    site.say(message_id, 0, "first")
    assert received(client) == "1-0"
    stream.until(EventId(1, 0))
    os.kill(site.child.pid, signal.SIGTERM)
    with pytest.raises(ConnectionClosed) as ended:
        client.recv(PATIENCE_S)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1012
    stream.until_end()
    assert stream.ended_well
    eventually(lambda: site.child.returncode is not None)
