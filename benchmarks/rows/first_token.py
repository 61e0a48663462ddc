"""How much later than the model a reader has the first token of an answer, on an idle machine: from POST to first delta.

The client asks, and opens the socket whose address the answer gives. Beside it: a client that has the project's socket open,
as a page has. Each message is its project's first, as each of the proxy's stands for itself. The model answers at once; what
a client of the model itself waits is taken off.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

import msgspec

from benchmarks.programs.program import Program
from benchmarks.references.installing import HERE, python_of
from benchmarks.references.running import running
from benchmarks.results import Measure, Sample
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import ROOMY
from dev.embedded import free_port
from tests.people import Person

_KEY: Final = "AAAAAAAAAAAAAAAAAAAAAA=="
_DELTA: Final = b'"type":"delta"'
_PROXY_DELTA: Final = b'"type": "delta"'
_FINALIZED: Final = b'"type":"finalized"'
_OF_THE_MODEL: Final = b'"content":" the"'
_CONTENT: Final[dict[str, object]] = {"content": "Say something"}
_PAUSE_S: Final = 0.01
_TIMEOUT_S: Final = 20.0


class _Wire:
    """A connection to one server, kept open; bytes in, bytes out."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._seen = b""

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """What came up to `mark` and with it. Raises `TimeoutError`, or `ConnectionError`."""
        while (found := self._seen.find(mark)) < 0:
            data = self._sock.recv(64 * 1024)
            if not data:
                raise ConnectionError(f"closed after {self._seen[-500:]!r}")
            self._seen += data
        end = found + len(mark)
        taken, self._seen = self._seen[:end], self._seen[end:]
        return taken

    def close(self) -> None:
        self._sock.close()


def _post(path: str, body: dict[str, object], token: str = "none") -> bytes:
    encoded = msgspec.json.encode(body)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(encoded)}\r\n\r\n".encode() + encoded


def _upgrade(path: str, token: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Authorization: Bearer {token}\r\nSec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


@contextmanager
def _first_token(bench: Bench) -> Iterator[Sides]:
    count = bench.size(40, 3)
    python = python_of("fastapi_proxy")
    with ExitStack() as exits:
        model = exits.enter_context(Program("model"))
        model_port = model.ask("serve")
        model.ask("set", per_s=(50.0, 50.0), deltas=3)
        model_url = f"http://127.0.0.1:{model_port}/v1"
        settings = {
            **ROOMY,
            "OPENAI_BASE_URL": model_url,
            "CHATRELAY_SOCKET_HEARTBEAT_S": 600,
        }  # who measures, pongs not
        stack = bench.stacks(webs=1, workers=1, own_postgres=True, own_valkey=True, settings=settings)
        person = exits.enter_context(Person(stack))
        web_port = int(stack.urls[0].rpartition(":")[2])
        proxy_port = free_port()
        options = ["--log-level", "warning", "--timeout-keep-alive", "600"]
        exits.enter_context(
            running(
                "fastapi-proxy",
                [str(python), "-m", "uvicorn", *options, "--port", str(proxy_port), "app:app"],
                cwd=HERE / "fastapi_proxy",
                environment={"OPENAI_BASE_URL": model_url},
                health_url=f"http://127.0.0.1:{proxy_port}/healthz",
            )
        )
        to_model, api, proxy = (
            exits.enter_context(closing(_Wire(port))) for port in (model_port, web_port, proxy_port)
        )
        question = _post("/v1/chat/completions", {"model": "bench", "messages": [], "stream": True})

        def submit(project: str) -> bytes:
            return _post(f"/v1/projects/{project}/messages", _CONTENT, person.token)

        ask_proxy = _post("/chat", _CONTENT)

        def direct() -> float:
            began_s = time.perf_counter()
            to_model.send(question)
            to_model.until(_OF_THE_MODEL)
            took_s = time.perf_counter() - began_s
            to_model.until(b"0\r\n\r\n")
            return took_s

        def on_the_projects_socket() -> float:
            project = person.project()
            with closing(_Wire(web_port)) as watching:
                watching.send(_upgrade(f"/v1/projects/{project}/socket", person.token))
                watching.until(b'"type":"ready"')
                question = submit(project)
                began_s = time.perf_counter()
                api.send(question)
                watching.until(_DELTA)
                took_s = time.perf_counter() - began_s
                watching.until(_FINALIZED)
            api.until(b'"eventsUrl"')
            return took_s

        def on_the_messages_socket() -> float:
            question = submit(person.project())
            began_s = time.perf_counter()
            api.send(question)
            answer = api.until(b'"eventsUrl"')
            path = answer.rpartition(b'"socketUrl":"')[2].partition(b'"')[0].decode()
            with closing(_Wire(web_port)) as own:
                own.send(_upgrade(path, person.token))
                own.until(_DELTA)
                took_s = time.perf_counter() - began_s
                own.until(_FINALIZED)
            return took_s

        def through_the_proxy() -> float:
            began_s = time.perf_counter()
            proxy.send(ask_proxy)
            proxy.until(_PROXY_DELTA)
            took_s = time.perf_counter() - began_s
            proxy.until(b"0\r\n\r\n")
            return took_s

        def p50_ms(ask: Callable[[], float]) -> float:
            times_s = []
            for _ in range(count):
                time.sleep(_PAUSE_S)
                times_s.append(ask())
            return 1e3 * statistics.median(times_s)

        def sample(ask: Callable[[], float], **figures: Callable[[], float]) -> Sample:
            own_ms = p50_ms(direct)
            return Sample(
                values={"p50": p50_ms(ask) - own_ms},
                figures={
                    "the model's own, ms": own_ms,
                    **{name: p50_ms(one) - own_ms for name, one in figures.items()},
                },
            )

        def ours() -> Sample:
            return sample(on_the_messages_socket, **{"p50 on the project's socket, ms": on_the_projects_socket})

        def reference() -> Sample:
            return sample(through_the_proxy)

        ours()
        reference()
        yield Sides(ours=ours, reference=reference)


FIRST_TOKEN: Final = Row(
    name="first-token",
    what="added time to the first token, idle",
    reference="a plain FastAPI proxy without a queue",
    measures=(Measure(name="p50", unit="ms", goal=1.0),),
    open=_first_token,
)
