"""A log of thousands of deltas to a reader that comes late, beside the same deltas one by one to a reader that was there.

The late reader's side has all that its coming costs: the request, the handshake, the look at row and log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.measuring import Meter
from benchmarks.programs.program import Program
from benchmarks.results import Measure, Sample
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import ROOMY, TEXT, pending_messages, socket_paths, socket_server, told
from tests.people import Person
from tests.trace_checker import check_trace

_LIVE_PER_S: Final = 2_500.0


@contextmanager
def _replay(bench: Bench) -> Iterator[Sides]:
    deltas, comers = bench.size(5_000, 50), bench.size(10, 2)
    stack = bench.stacks(webs=1, workers=0, sweepers=0, own_postgres=True, own_valkey=True, settings=ROOMY)
    with ExitStack() as exits:
        person = exits.enter_context(Person(stack))
        logged, followed, empty = pending_messages(person, 3)
        live, late = (exits.enter_context(Program("readers")) for _ in range(2))
        publishers = {}
        for message_id in (logged, followed, empty):
            publishers[message_id] = exits.enter_context(Program("publisher"))
            publishers[message_id].ask("begin", url=stack.redis_url, how="append", messages=[message_id])
        publishers[logged].ask("publish", each=deltas, per_s=20_000.0, text=TEXT)
        server, web = socket_server(stack, person.token), stack.pid("web-1")
        live.ask("open", **server, wanted=socket_paths([followed], 1))
        told(live, 1)

        def come(message_id: str, events: int) -> tuple[float, float]:
            """CPU of the web process and bytes, of one reader that comes, is told so much, and leaves."""
            meter, size = Meter({"web": web}), 0
            for _ in range(comers):
                late.ask("open", **server, wanted=socket_paths([message_id], 1))
                size += told(late, events)["bytes"]
                kept = late.ask("kept")
                late.ask("close")
            check_trace(kept)
            return meter.costs()["web"].cpu_s / comers, size / comers

        def ours() -> Sample:
            cpu_s, size = come(logged, deltas + 1)
            coming_cpu_s, _ = come(empty, 1)
            return Sample(
                values={"CPU": 1e3 * cpu_s, "bytes": size},
                figures={"of it for coming at all, ms": 1e3 * coming_cpu_s},
            )

        def reference() -> Sample:
            before = live.ask("counts")
            meter = Meter({"web": web})
            publishers[followed].ask("publish", each=deltas, per_s=_LIVE_PER_S, text=TEXT)
            after = told(live, before["events"] + deltas)
            cost = meter.costs()["web"]
            return Sample(
                values={"CPU": 1e3 * cost.cpu_s, "bytes": after["bytes"] - before["bytes"]},
                figures={"CPU per delta, µs": 1e6 * cost.cpu_s / deltas, "wake-ups per delta": cost.wakeups / deltas},
            )

        ours()
        yield Sides(ours=ours, reference=reference)


REPLAY: Final = Row(
    name="replay",
    what="replaying a 5,000-delta log to a late reader",
    reference="sending it delta by delta",
    measures=(Measure(name="CPU", unit="ms", goal=0.05), Measure(name="bytes", unit="bytes", goal=0.05)),
    open=_replay,
)
