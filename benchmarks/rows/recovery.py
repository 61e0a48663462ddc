"""How long after a worker is killed the next attempt's first event comes, in leases: with default settings.

The worker is killed at a random moment between two renewals of its lease, with a few answers under way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.programs.program import Program
from benchmarks.results import Measure, Sample
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import ROOMY
from benchmarks.rows.worker import ended
from shared import events
from shared.settings import Settings
from tests.people import Person, eventually

_SEED: Final = 5


@contextmanager
def _recovery(bench: Bench) -> Iterator[Sides]:
    count = bench.size(8, 2)
    lease_s = 2.0 if bench.is_quick else float(Settings.model_fields["lease_s"].default)
    heartbeat_s = 0.5 if bench.is_quick else float(Settings.model_fields["heartbeat_s"].default)
    moments = random.Random(_SEED)
    with ExitStack() as exits:
        model = exits.enter_context(Program("model"))
        model.ask("set", per_s=(20.0, 50.0))
        settings: dict[str, object] = {**ROOMY, "OPENAI_BASE_URL": f"http://127.0.0.1:{model.ask('serve')}/v1"}
        if bench.is_quick:
            settings |= {"CHATRELAY_LEASE_S": lease_s, "CHATRELAY_HEARTBEAT_S": heartbeat_s}
        stack = bench.stacks(webs=1, workers=2, own_postgres=True, own_valkey=True, settings=settings)
        person = exits.enter_context(Person(stack))

        def ours() -> Sample:
            messages = [person.submit(person.project(), "Say something") for _ in range(count)]
            eventually(lambda: all(last is not None and last.n > 2 for last in stack.log.last_ids(messages)))
            time.sleep(moments.random() * heartbeat_s)
            victim = stack.holder(messages[0])
            assert victim is not None
            held = [message_id for message_id in messages if stack.holder(message_id) == victim]
            killed_at_ms = time.time() * 1e3
            stack.kill(victim)
            eventually(lambda: all(last is not None and last.attempt > 1 for last in stack.log.last_ids(held)))
            begun_ms = [events.decode(stack.log.replay(message_id)[0].payload).ts for message_id in held]
            stack.restart(victim)
            model.ask("finish")
            for message_id in messages:
                ended(person, message_id)
            return Sample(
                values={"last one's first event": (max(begun_ms) - killed_at_ms) / 1e3},
                figures={"first one's, s": (min(begun_ms) - killed_at_ms) / 1e3, "messages held": len(held)},
            )

        yield Sides(ours=ours, reference=lambda: Sample(values={"last one's first event": lease_s}))


RECOVERY: Final = Row(
    name="recovery",
    what="killed worker → next attempt's first event",
    reference="the lease",
    measures=(Measure(name="last one's first event", unit="s", goal=1.3),),
    open=_recovery,
)
