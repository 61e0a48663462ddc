"""What a delta costs in all, from the provider to the reader, beside a Node server that makes its streams resumable.

A hundred answers at 50 tokens a second, each with one reader. Ours is API, worker and Redis together; theirs Node and Redis.
Theirs keeps a stream for others only as long as its process lives, and asks Redis for nothing until somebody resumes. So
there are two rows: their first reader, who gets the stream in the process that reads the model; and a reader who came by
another way (a reload, another tab, another process) and gets it through Redis, as every reader of ours does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from uuid import uuid4

from benchmarks.measuring import Meter
from benchmarks.programs.program import Asked, Program
from benchmarks.references.installing import node_directory_of
from benchmarks.references.running import running
from benchmarks.results import Measure, Sample
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import ROOMY, TEXT, socket_paths, socket_server
from benchmarks.rows.worker import ended
from dev.embedded import EmbeddedValkey, free_port
from shared import event_log
from tests.people import Person, eventually
from tests.trace_checker import check_trace

_PER_S: Final = (50.0, 50.0)
_QUIET_S: Final = 0.2


@contextmanager
def _whole_path(bench: Bench, *, is_resumed: bool) -> Iterator[Sides]:
    streams, window_s = bench.size(100, 3), bench.size(3, 1)
    directory = node_directory_of("resumable_stream")
    with ExitStack() as exits:
        models = [exits.enter_context(Program("model")) for _ in range(2)]
        urls = [f"http://127.0.0.1:{model.ask('serve')}/v1" for model in models]
        for model in models:
            model.ask("set", per_s=_PER_S, is_open=False)
        readers, others = (exits.enter_context(Program("readers")) for _ in range(2))

        stack = bench.stacks(
            webs=1, workers=1, own_postgres=True, own_valkey=True, settings={**ROOMY, "OPENAI_BASE_URL": urls[0]}
        )
        assert stack.valkey is not None
        assert stack.postgres is not None
        person = exits.enter_context(Person(stack))
        messages = [person.submit(person.project(), "Say something") for _ in range(streams)]
        readers.ask("open", **socket_server(stack, person.token), wanted=socket_paths(messages, 1))
        eventually(lambda: models[0].ask("counts")["streams"] == streams)
        parts = {
            "API": stack.pid("web-1"),
            "worker": stack.pid("worker-1"),
            "Redis": stack.valkey.pid,
        }
        beside = {"Postgres": stack.postgres.pid, "sweeper": stack.pid("sweeper")}

        valkey = exits.enter_context(EmbeddedValkey.start())
        port = free_port()
        environment = {"OPENAI_BASE_URL": urls[1], "REDIS_URL": valkey.url, "PORT": str(port)}
        node = exits.enter_context(
            running("node", ["node", "server.mjs"], cwd=directory, environment=environment, says="listening")
        )
        paths = [[f"/{uuid4()}", 1] for _ in messages]
        others.ask("open", kind="sse", host="127.0.0.1", port=port, wanted=paths)
        eventually(lambda: models[1].ask("counts")["streams"] == streams)
        if is_resumed:
            others.ask("close")
            others.ask("open", kind="sse-get", host="127.0.0.1", port=port, wanted=paths)
            eventually(lambda: _answered(valkey, streams))

        ours = measured(models[0], readers, parts, beside, window_s)
        reference = measured(models[1], others, {"Node": node, "Redis": valkey.pid}, {}, window_s)
        ours()
        reference()
        yield Sides(ours=ours, reference=reference)

        assert others.ask("counts")["events"] == models[1].ask("counts")["deltas"], "the reference lost deltas"
        models[0].ask("finish")
        rows = [ended(person, message_id) for message_id in messages]
        written = sum(len(row["content"]) for row in rows)
        assert written == len(TEXT) * models[0].ask("counts")["deltas"], "rows hold another text than the model wrote"
        eventually(lambda: readers.ask("counts")["closes"] == streams)
        assert not (problems := readers.ask("counts")["problems"]), problems
        check_trace(readers.ask("kept"), row=rows[0])


def measured(
    model: Program, readers: Asked, parts: Mapping[str, int], beside: Mapping[str, int], window_s: float
) -> Callable[[], Sample]:
    """What a delta costs all of `parts` together; what it costs those `beside` is told too."""

    def measure() -> Sample:
        before, told_before = model.ask("counts")["deltas"], readers.ask("counts")
        meter = Meter({**parts, **beside, "model": model.pid, "readers": readers.pid})
        model.ask("resume")
        time.sleep(window_s)
        model.ask("pause")
        seconds = meter.seconds
        told_after = _quiet(readers)
        costs = meter.costs()
        deltas = model.ask("counts")["deltas"] - before
        return Sample(
            values={"CPU per delta": 1e6 * sum(costs[name].cpu_s for name in parts) / deltas},
            figures={
                **{f"{name} CPU, µs": 1e6 * cost.cpu_s / deltas for name, cost in costs.items()},
                "deltas per second": deltas / seconds,
                "events per delta": (told_after["events"] - told_before["events"]) / deltas,
            },
        )

    return measure


def _answered(valkey: EmbeddedValkey, count: int) -> bool:
    """Whether so many resumed readers have subscribed, and were answered by who reads the model."""
    client = event_log.connect(valkey.url)
    try:
        return len(client.pubsub_channels("*:chunk:*")) >= count
    finally:
        client.close()


def _quiet(readers: Asked) -> dict[str, Any]:
    """The counts once nothing more is told."""
    counts: dict[str, Any] = readers.ask("counts")
    while True:
        time.sleep(_QUIET_S)
        before, counts = counts, readers.ask("counts")
        if counts["events"] == before["events"]:
            return counts


_MEASURES: Final = (Measure(name="CPU per delta", unit="µs", goal=0.6),)
_WHAT: Final = "total CPU per delta, API + worker + Redis, 100 streams of 50 tokens/s with a reader each"

WHOLE_PATH: Final = Row(
    name="whole-path",
    what=_WHAT,
    reference="Node with vercel/resumable-stream, the reader in the process that reads the model",
    measures=_MEASURES,
    open=lambda bench: _whole_path(bench, is_resumed=False),
)
WHOLE_PATH_RESUMED: Final = Row(
    name="whole-path-resumed",
    what=_WHAT,
    reference="Node with vercel/resumable-stream, a reader who resumed",
    measures=_MEASURES,
    open=lambda bench: _whole_path(bench, is_resumed=True),
)
