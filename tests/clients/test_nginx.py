"""The product behind the nginx of ops/deploy: streams as they are written, deploys that nobody notices, no POST twice."""

from __future__ import annotations

import signal
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from dev.embedded import free_port
from tests.clients.nginx import Nginx
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.followers import Follower, Transport
from tests.people import Person, eventually
from tests.readers import SocketReader, SseReader
from tests.stack import Stack, StackStarter

_TRANSPORTS: Final[tuple[Transport, ...]] = ("socket", "sse")
_HEARTBEAT_S: Final = 1
_SILENCE: Final = ("proxy_read_timeout    150s;", "proxy_read_timeout 3s;")
_HALVES: Final = ({"text": "The first half, "}, {"hold": "one"}, {"text": "and the second."})
_WHOLE: Final = "The first half, and the second."


@pytest.fixture(scope="module")
def behind(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(webs=2, settings={"CHATRELAY_SOCKET_HEARTBEAT_S": _HEARTBEAT_S})


@pytest.fixture
def person(behind: Stack) -> Iterator[Person]:
    behind.model.reset()
    with Person(behind) as somebody:
        yield somebody


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Nginx]]:
    """Starts an nginx; clients that look at certificates trust it."""
    started: list[Nginx] = []

    def make(*servers: str, changes: tuple[tuple[str, str], ...] = ()) -> Nginx:
        made = Nginx(tmp_path, servers, changes)
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
        started.append(made.__enter__())
        return made

    yield make
    for made in started:
        print(f"--- nginx\n{made.log}")
        made.__exit__(None, None, None)


def test_nothing_that_opens_something_is_in_any_log_of_nginx(start: Callable[..., Nginx]) -> None:
    """A ticket or a token in an address, one in the page before, one in a header; also where no process answers."""
    nginx = start(f"127.0.0.1:{free_port()}")
    secret = "canary-4e1b"
    with nginx.client(secret) as client:
        for path in (
            f"/v1/messages/x/events?ticket={secret}",
            f"/v1/jobs/x/bundle.js?ticket={secret}",
            f"/trpc/chat.streamResponse?connectionParams={secret}",
        ):
            answer = client.get(path, headers={"Referer": f"https://localhost{path}"})
            assert answer.status_code == 503
            assert secret not in answer.text
        assert client.post(f"/v1/projects?ticket={secret}", content=b"x" * 2_000_000).status_code == 413
    eventually(lambda: nginx.log.count("upstream=") >= 4)
    assert "/v1/messages/x/events HTTP/1.1" in nginx.log
    assert secret not in nginx.everything_logged


def _both(stack: Stack) -> tuple[str, ...]:
    return tuple(f"{url.removeprefix('http://')} max_fails=1 fail_timeout=2s" for url in stack.urls)


def test_an_answer_is_told_while_it_is_written_and_goes_on_when_a_web_process_is_stopped(
    behind: Stack, person: Person, start: Callable[..., Nginx]
) -> None:
    """What was written is there before the rest is. SIGTERM of one process sends its readers to the other, without a gap."""
    nginx = start(*_both(behind))
    behind.model.say("through nginx", *_HALVES)
    project_id = person.project()
    with nginx.client(person.token) as client:
        message_id = person.submit(project_id, "through nginx")
        followers = [Follower([nginx.url], person.token, message_id, transport=kind) for kind in _TRANSPORTS * 2]
        for follower in followers:
            follower.__enter__()
        try:
            for follower in followers:
                follower.wait_text("The first half, ")
            behind.kill("web-1", signal.SIGTERM)
            behind.wait_ended("web-1", timeout_s=40)
            assert client.get(f"/v1/messages/{message_id}").status_code == 200
            submitted = client.post(f"/v1/projects/{project_id}/messages", json={"content": "meanwhile"})
            assert submitted.status_code == 202
            behind.model.release("one")
            for follower in followers:
                follower.finish()
            row = person.row(message_id, web=1)
            assert row["content"] == _WHOLE
            for follower in followers:
                follower.check(row)
        finally:
            for follower in followers:
                follower.__exit__()
            behind.restart("web-1")
    codes = [code for follower in followers for code in follower.close_codes]
    assert 1012 in codes, codes  # least_conn had given it half of them


def test_readers_of_a_silent_message_are_kept_open_by_pings(
    behind: Stack, person: Person, start: Callable[..., Nginx]
) -> None:
    """Beyond the silence after which nginx gives a connection up; the readers never come back for it."""
    nginx = start(*_both(behind), changes=(_SILENCE,))
    behind.model.say("silent", *_HALVES)
    message_id = person.submit(person.project(), "silent")
    with SocketReader(nginx.url, person.token) as socket, SseReader(nginx.url, person.token) as sse:
        for reader in (socket, sse):
            reader.follow(message_id)
            reader.until(lambda event: "The first half, " in str(event))
        while sse.comments < 6:  # one a second, of which three would be too many in silence
            with pytest.raises(TimeoutError):
                sse.until(lambda event: True, timeout_s=0.5)
        behind.model.release("one")
        for reader in (socket, sse):
            reader.until_finalized()


@contextmanager
def _breaking_off() -> Iterator[tuple[int, list[bytes]]]:
    """A server that reads a request and goes away without an answer; its port, and the requests' first lines."""
    seen: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            seen.append(self.rfile.readline().strip())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="breaking off")
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()


def test_a_post_that_may_have_arrived_is_never_repeated(
    behind: Stack, person: Person, start: Callable[..., Nginx]
) -> None:
    """Its caller is told, as a problem, and repeats it with the same key. A GET is repeated at the next process."""
    project_id = person.project()
    with _breaking_off() as (port, seen):
        other = behind.urls[1].removeprefix("http://")
        nginx = start(f"127.0.0.1:{port} max_fails=0", f"{other} backup")
        with nginx.client(person.token) as client:
            assert client.get(f"/v1/projects/{project_id}/messages").json()["items"] == []
            answer = client.post(f"/v1/projects/{project_id}/messages", json={"content": "once"})
            patch = {"headers": {"Content-Type": "application/json-patch+json"}, "content": b"[]"}
            patched = client.patch(f"/v1/projects/{project_id}/document", **patch)  # type: ignore[arg-type]
            for refused in (answer, patched):
                assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
                assert refused.headers["Content-Type"] == "application/problem+json"
                assert refused.headers["Retry-After"]
            assert client.get(f"/v1/projects/{project_id}/messages").json()["items"] == []
        assert [line.split()[0] for line in seen] == [b"GET", b"POST", b"PATCH", b"GET"]


def test_a_post_that_reached_nobody_goes_to_the_next_process(
    behind: Stack, person: Person, start: Callable[..., Nginx]
) -> None:
    """As while a process is started anew."""
    project_id = person.project()
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as nobody:
        port = nobody.server_address[1]
    nginx = start(f"127.0.0.1:{port} max_fails=0", f"{behind.urls[1].removeprefix('http://')} backup")
    with nginx.client(person.token) as client:
        assert client.post(f"/v1/projects/{project_id}/messages", json={"content": "once"}).status_code == 202
        assert len(client.get(f"/v1/projects/{project_id}/messages").json()["items"]) == 2


def test_what_it_refuses_adds_and_hides(behind: Stack, person: Person, start: Callable[..., Nginx]) -> None:
    """Large bodies, foreign pages, strangers at the operators' addresses; the id of a request; no ticket in its log."""
    nginx = start(*_both(behind))
    with nginx.client(person.token) as client, nginx.client(person.token, source="127.0.0.2") as stranger:
        large = client.post("/v1/projects", content=b'{"name":"' + b"x" * (1 << 20) + b'"}')
        assert (large.status_code, large.json()["code"]) == (413, "body_too_large")

        own, foreign = {"Origin": nginx.url}, {"Origin": "https://elsewhere.example"}
        assert client.get("/v1/projects", headers=own).status_code == 200
        assert client.get("/v1/projects", headers=foreign).status_code == 403

        for path in ("/metrics", "/readyz", "/ops", "/v1/ops/summary"):
            assert stranger.get(path).status_code == 403
            assert client.get(path).headers.get("Content-Type") != "text/html"
        assert client.get("/readyz").json()["status"] == "ready"
        assert stranger.get("/healthz").status_code == 200

        answer = client.get("/healthz", headers={"X-Request-ID": "given-by-the-caller"})
        assert answer.headers["X-Request-ID"] == "given-by-the-caller"
        assert answer.headers.get_list("Strict-Transport-Security") == ["max-age=31536000"]
        assert len(client.get("/healthz").headers["X-Request-ID"]) == 32

        client.get("/v1/projects?ticket=canary", headers={"X-Request-ID": "with-a-ticket"})
        eventually(lambda: "id=with-a-ticket" in nginx.log)
        assert "canary" not in nginx.log
        packed = client.get("/static/app/main.js")
        assert packed.headers["Content-Encoding"] == "gzip"
    redirected = httpx.get(f"{nginx.plain_url}/v1/projects", trust_env=False)
    assert redirected.headers["Location"] == "https://localhost/v1/projects"
