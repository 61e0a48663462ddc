"""What a delta costs a worker, from the provider's bytes to Redis, while hundreds of answers stream at once.

Beside it the plain way: the SDK's stream is iterated and each delta published, with no log, no row and no lease. One process
of it keeps up with about a tenth of that load, so that ten would be needed: what a delta costs one of the ten is compared.
The other row gives one plain worker all of the load. It falls behind without end, and reads what has piled up by the
bufferful, which makes a delta cheaper, and late.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import redis

from benchmarks.measuring import Cost, Meter
from benchmarks.programs.program import Program
from benchmarks.redis_calls import RedisCalls
from benchmarks.references.plain import PlainWorker
from benchmarks.results import Figures, Measure, Sample
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import ROOMY, TEXT, socket_paths, socket_server
from tests.people import Person, eventually
from tests.trace_checker import check_trace

_PER_S: Final = (20.0, 50.0)
_SETTLES_S: Final = 1.0
_QUIET_S: Final = 0.1
_FINAL: Final = frozenset({"success", "error", "cancelled"})
_PLAIN_DATABASE: Final = 5


@contextmanager
def _worker(bench: Bench, *, plain_share: float) -> Iterator[Sides]:
    streams, window_s = bench.size(300, 3), bench.size(3, 1)
    plain_streams = max(1, round(streams * plain_share))
    with ExitStack() as exits:
        model, other_model = (exits.enter_context(Program("model")) for _ in range(2))
        model_url, other_url = (f"http://127.0.0.1:{one.ask('serve')}/v1" for one in (model, other_model))
        settings = {**ROOMY, "CHATRELAY_WORKER_CONCURRENCY": streams, "OPENAI_BASE_URL": model_url}
        stack = bench.stacks(webs=1, workers=1, own_postgres=True, own_valkey=True, settings=settings)
        assert stack.valkey is not None
        valkey = stack.valkey
        person = exits.enter_context(Person(stack))
        readers = exits.enter_context(Program("readers"))
        plain = PlainWorker(f"redis://127.0.0.1:{valkey.port}/{_PLAIN_DATABASE}", other_url)

        for one in (model, other_model):
            one.ask("set", per_s=_PER_S, is_open=False)
        messages = [person.submit(person.project(), "Say something") for _ in range(streams)]
        readers.ask("open", **socket_server(stack, person.token), wanted=socket_paths(messages[:1], 1))
        eventually(lambda: model.ask("counts")["streams"] == streams)

        def ours() -> Sample:
            calls = RedisCalls(stack.redis)
            before = model.ask("counts")["deltas"]
            meter = Meter({"worker": stack.pid("worker-1"), "redis": valkey.pid, "model": model.pid})
            model.ask("resume")
            time.sleep(window_s)
            model.ask("pause")
            sent_s = meter.seconds
            drained_s = _drained(stack.redis)
            costs, called = meter.costs(), calls.calls()
            deltas = model.ask("counts")["deltas"] - before
            return _sample(
                costs,
                deltas,
                {
                    "deltas per second": deltas / sent_s,
                    "seconds until the last one": drained_s,
                    "events per delta": called["xadd"] / deltas,
                    "commands per delta": called["evalsha"] / deltas,
                },
            )

        def reference() -> Sample:
            plain.send("answer", plain_streams)
            with plain.started(concurrency=plain_streams) as pid:
                eventually(lambda: other_model.ask("counts")["streams"] == plain_streams)
                other_model.ask("resume")
                time.sleep(_SETTLES_S)
                calls, before = RedisCalls(stack.redis), other_model.ask("counts")["deltas"]
                meter = Meter({"worker": pid, "redis": valkey.pid, "model": other_model.pid})
                time.sleep(window_s)
                costs, seconds, published = meter.costs(), meter.seconds, calls.calls()["publish"]
                sent = other_model.ask("counts")["deltas"] - before
                other_model.ask("pause")
            eventually(lambda: other_model.ask("counts")["streams"] == 0)
            return _sample(
                costs, published, {"deltas per second": published / seconds, "of the model's deltas": published / sent}
            )

        ours()
        yield Sides(ours=ours, reference=reference)

        model.ask("finish")
        rows = [ended(person, message_id) for message_id in messages]
        written = sum(len(row["content"]) for row in rows)
        assert written == len(TEXT) * model.ask("counts")["deltas"], "rows hold another text than the model wrote"
        eventually(lambda: readers.ask("counts")["closes"] == 1)
        check_trace(readers.ask("kept"), row=rows[0])


def _sample(costs: dict[str, Cost], deltas: int, figures: Figures) -> Sample:
    worker = costs["worker"]
    return Sample(
        values={"CPU per delta": 1e6 * worker.cpu_s / deltas},
        figures={
            **{f"{name} CPU, µs": 1e6 * one.cpu_s / deltas for name, one in costs.items()},
            **figures,
            "wake-ups per delta": worker.wakeups / deltas,
            "reads per delta": worker.reads / deltas,
            "writes per delta": worker.writes / deltas,
        },
    )


def _drained(client: redis.Redis) -> float:
    """Seconds until nothing more was appended."""
    began_at_s = time.monotonic()
    while True:
        calls, at_s = RedisCalls(client), time.monotonic()
        time.sleep(_QUIET_S)
        if not calls.calls().get("xadd"):
            return at_s - began_at_s


def ended(person: Person, message_id: str) -> dict[str, Any]:
    """The row, once it is final."""
    eventually(lambda: person.row(message_id)["status"] in _FINAL)
    return person.row(message_id)


_WHAT: Final = "worker, CPU per delta, whole path, 300 streams of 20–50 tokens/s"
_MEASURES: Final = (Measure(name="CPU per delta", unit="µs", goal=0.06),)

WORKER: Final = Row(
    name="worker",
    what=_WHAT,
    reference="the plain way (threads pool, SDK iteration, redis-py publish), 30 streams a process, with which it keeps up",
    measures=_MEASURES,
    open=lambda bench: _worker(bench, plain_share=0.1),
)
WORKER_OVERLOADED: Final = Row(
    name="worker-overloaded",
    what=_WHAT,
    reference="the plain way, all 300 streams on one process, which falls behind",
    measures=_MEASURES,
    open=lambda bench: _worker(bench, plain_share=1.0),
)
