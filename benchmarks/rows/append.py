"""What appending to a log and publishing, one atomic script, costs Redis beside a PUBLISH of the same bytes.

As workers and relays are connected: events of many messages come one by one, and a single connection has subscribed to all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from uuid import uuid4

from benchmarks.measuring import Meter
from benchmarks.programs.program import Program
from benchmarks.results import Measure, Sample
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import TEXT, told
from dev.embedded import EmbeddedValkey
from shared import keys

_PER_S: Final = 25.0


@contextmanager
def _append(bench: Bench) -> Iterator[Sides]:
    channels, each = bench.size(200, 4), bench.size(75, 3)
    with ExitStack() as exits:
        valkey = exits.enter_context(EmbeddedValkey.start())

        def side(how: str) -> Callable[[], Sample]:
            publisher = exits.enter_context(Program("publisher"))
            hub = exits.enter_context(Program("readers"))
            messages = [str(uuid4()) for _ in range(channels)]
            wanted = [[keys.message_channel(message_id), 1] for message_id in messages]
            hub.ask("open", kind="hub", host="127.0.0.1", port=valkey.port, wanted=wanted)
            publisher.ask("begin", url=valkey.url, how=how, messages=messages)
            measure = _measured(publisher, hub, valkey.pid, channels, each)
            measure()  # warms up
            return measure

        yield Sides(ours=side("append"), reference=side("publish"))


def _measured(publisher: Program, hub: Program, valkey: int, channels: int, each: int) -> Callable[[], Sample]:
    count = channels * each

    def measure() -> Sample:
        before = hub.ask("counts")
        meter = Meter({"redis": valkey, "readers": hub.pid, "publisher": publisher.pid})
        published = publisher.ask("publish", each=each, per_s=_PER_S, text=TEXT)
        told(hub, before["events"] + count)
        costs, seconds = meter.costs(), meter.seconds
        redis = costs["redis"]
        return Sample(
            values={"Redis CPU per append": 1e6 * redis.cpu_s / count},
            figures={
                **{f"{name} CPU, µs": 1e6 * cost.cpu_s / count for name, cost in costs.items()},
                "wake-ups per append": redis.wakeups / count,
                "writes per append": redis.writes / count,
                "appends per second": count / seconds,
                "publisher late, ms": 1e3 * published["late_s"],
            },
        )

    return measure


APPEND: Final = Row(
    name="append",
    what="Redis CPU per append",
    reference="plain PUBLISH of the same bytes",
    measures=(Measure(name="Redis CPU per append", unit="µs", goal=1.5),),
    open=_append,
)
