"""How many messages a second one worker process begins, to the call of the model, beside Celery's tasks that do nothing.

All of them wait in the queue before the worker starts; the answers stay open, so that nothing but beginnings happens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.measuring import Meter
from benchmarks.programs.program import Program
from benchmarks.references.plain import PlainWorker
from benchmarks.results import Measure, Sample
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import ROOMY
from benchmarks.rows.worker import ended
from shared import event_log
from tests.people import Person, eventually

_PLAIN_DATABASE: Final = 5
_CELERY_QUEUE: Final = "celery"
_LOOK_S: Final = 0.005


@contextmanager
def _start_rate(bench: Bench) -> Iterator[Sides]:
    messages, tasks = bench.size(300, 10), bench.size(3_000, 100)
    with ExitStack() as exits:
        model = exits.enter_context(Program("model"))
        model_url = f"http://127.0.0.1:{model.ask('serve')}/v1"
        settings = {
            **ROOMY,
            "OPENAI_BASE_URL": model_url,
            "CHATRELAY_WORKER_CONCURRENCY": messages + 20,
            "CHATRELAY_RING_AGAIN_S": 60,
        }
        stack = bench.stacks(webs=1, workers=1, own_postgres=True, own_valkey=True, settings=settings)
        assert stack.valkey is not None
        person = exits.enter_context(Person(stack))
        projects = [person.project() for _ in range(messages)]
        queue_url = f"redis://127.0.0.1:{stack.valkey.port}/{_PLAIN_DATABASE}"
        queue = event_log.connect(queue_url)
        exits.callback(queue.close)
        plain = PlainWorker(queue_url, model_url)

        def ours() -> Sample:
            stack.kill("worker-1")
            model.ask("set", per_s=(20.0, 50.0), is_open=False)
            submitted = [person.submit(project, "Say something") for project in projects]
            stack.start_again("worker-1")
            eventually(lambda: model.ask("counts")["begun"] >= 1)
            meter = Meter({"worker": stack.pid("worker-1")})
            eventually(lambda: model.ask("counts")["begun"] == messages)
            counts, cost = model.ask("counts"), meter.costs()["worker"]
            model.ask("finish")
            for message_id in submitted:
                ended(person, message_id)
            return Sample(
                values={"starts per second": (messages - 1) / (counts["last_s"] - counts["first_s"])},
                figures={"CPU per start, ms": 1e3 * cost.cpu_s / messages},
            )

        def reference() -> Sample:
            plain.send("nothing", tasks)
            with plain.started(concurrency=100) as pid:
                first_s, left = time.perf_counter(), int(queue.llen(_CELERY_QUEUE))
                meter, begun_with = Meter({"worker": pid}), left
                while left:
                    time.sleep(_LOOK_S)
                    left = int(queue.llen(_CELERY_QUEUE))
                seconds, cost = time.perf_counter() - first_s, meter.costs()["worker"]
            return Sample(
                values={"starts per second": begun_with / seconds},
                figures={"CPU per start, ms": 1e3 * cost.cpu_s / begun_with, "counted tasks": begun_with},
            )

        yield Sides(ours=ours, reference=reference)


START_RATE: Final = Row(
    name="start-rate",
    what="start rate, messages per second and worker process",
    reference="Celery's own no-op task rate",
    measures=(Measure(name="starts per second", unit="/s", goal=0.7, better="higher"),),
    open=_start_rate,
)
