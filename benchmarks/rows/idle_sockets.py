"""What a socket takes that nothing happens on: in the web process, and where each socket has a greenlet and a subscription.

Processes are started anew for each measurement: memory that was freed is not given back, and would be counted for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from uuid import uuid4

import msgspec
import redis

from benchmarks.measuring import Meter, memory_bytes
from benchmarks.programs.program import Program
from benchmarks.references.installing import HERE, python_of
from benchmarks.references.running import running
from benchmarks.results import Figures, Measure, Sample
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import ROOMY, pending_messages, socket_paths, socket_server, told
from dev.embedded import free_port
from shared import keys
from tests.people import Person, eventually

_WARM: Final = 50
"""Sockets that are open before the memory is looked at for the first time."""


@contextmanager
def _idle_sockets(bench: Bench) -> Iterator[Sides]:
    channels, each = bench.size(500, 5), 20
    theirs, watched_s = bench.size(2_000, 20), bench.size(10, 1)
    python = python_of("flask_sock")
    stack = bench.stacks(webs=1, workers=0, sweepers=0, own_postgres=True, own_valkey=True, settings=ROOMY)
    with ExitStack() as exits:
        person = exits.enter_context(Person(stack))
        publisher = exits.enter_context(Program("publisher"))
        messages = pending_messages(person, channels + 1)
        publisher.ask("begin", url=stack.redis_url, how="append", messages=messages)
        idle, spare = socket_paths(messages[1:], each), socket_paths(messages[:1], _WARM)

        def ours() -> Sample:
            stack.restart("web-1")
            with Program("readers") as readers:
                server = socket_server(stack, person.token)
                readers.ask("open", **server, wanted=spare)
                told(readers, _WARM)  # each has the first event: nothing is on its way any more
                before = memory_bytes(stack.pid("web-1"))
                opened = readers.ask("open", **server, wanted=idle)
                told(readers, opened)
                sample = _sample(opened, before, memory_bytes(stack.pid("web-1")))
                return msgspec.structs.replace(sample, figures={**sample.figures, **quiet()})

        def quiet() -> Figures:
            """What comparing them with the stores costs while nothing comes."""
            assert stack.postgres is not None
            assert stack.valkey is not None
            pids = {"web": stack.pid("web-1"), "Postgres": stack.postgres.pid, "Redis": stack.valkey.pid}
            meter = Meter(pids)
            time.sleep(watched_s)
            costs, seconds = meter.costs(), meter.seconds
            return {
                f"{name} CPU a second and message watched, µs": 1e6 * cost.cpu_s / seconds / channels
                for name, cost in costs.items()
            }

        def reference() -> Sample:
            port = free_port()
            options = ["--worker-class", "gevent", "--worker-connections", "20000", "--bind", f"127.0.0.1:{port}"]
            with (
                running(
                    "flask-sock",
                    [str(python), "-m", "gunicorn", *options, "app:app"],
                    cwd=HERE / "flask_sock",
                    environment={"REDIS_URL": stack.redis_url},
                    health_url=f"http://127.0.0.1:{port}/healthz",
                ) as pid,
                Program("readers") as readers,
            ):
                server = {"kind": "socket", "host": "127.0.0.1", "port": port}
                first, then = str(uuid4()), str(uuid4())
                readers.ask("open", **server, wanted=[[f"/{keys.message_channel(first)}", _WARM]])
                subscribed(stack.redis, keys.message_channel(first), _WARM)
                before = memory_bytes(pid)
                opened = readers.ask("open", **server, wanted=[[f"/{keys.message_channel(then)}", theirs]])
                subscribed(stack.redis, keys.message_channel(then), theirs)
                return _sample(opened, before, memory_bytes(pid))

        yield Sides(ours=ours, reference=reference)


def subscribed(client: redis.Redis, channel: str, count: int) -> None:
    """Returns once a channel has so many subscribers. Raises `TimeoutError`."""
    eventually(lambda: dict(client.pubsub_numsub(channel)).get(channel.encode(), 0) >= count)


def _sample(opened: int, before: int, after: int) -> Sample:
    return Sample(
        values={"memory per socket": (after - before) / (opened - _WARM) / 1024},
        figures={"sockets in the process": opened, "process with all of them, MB": after / 1e6},
    )


IDLE_SOCKETS: Final = Row(
    name="idle-sockets",
    what="memory per idle socket, 10,000 sockets in one process",
    reference="flask-sock under gevent, 2,000 sockets",
    measures=(Measure(name="memory per socket", unit="KB", goal=0.05),),
    open=_idle_sockets,
)
