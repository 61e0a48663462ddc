"""The relay against Redis itself: what a delivered event costs the web process, and what it costs Redis to have raw
subscribers instead, at the same rate, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from benchmarks.measuring import Meter
from benchmarks.programs.program import Program, ProgramFailed
from benchmarks.results import Measure, Sample
from benchmarks.row import Bench, Row, Sides
from shared import keys
from tests.people import Person
from tests.stack import Stack
from tests.trace_checker import check_trace

ROOMY: Final[dict[str, object]] = {
    "CHATRELAY_MAX_SOCKETS_PER_USER": 100_000,
    "CHATRELAY_MAX_UNFINISHED_PER_USER": 100_000,
}
"""One user stands for many."""
TEXT: Final = " the"
"""What a delta bears: a token of English text has about four characters."""
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FanOut:
    channels: int
    readers_each: int
    per_s: float
    """Events of each channel."""
    each: int
    """Events of each channel in one measurement."""

    @property
    def readers(self) -> int:
        return self.channels * self.readers_each

    @property
    def delivered(self) -> int:
        return self.readers * self.each


def pending_messages(person: Person, count: int) -> list[str]:
    """Assistant messages in one project."""
    project = person.project()
    return [person.submit(project, "Say something", onBusy="parallel") for _ in range(count)]


@contextmanager
def _relay(shape: FanOut, bench: Bench) -> Iterator[Sides]:
    stack = bench.stacks(webs=1, workers=0, sweepers=0, own_postgres=True, own_valkey=True, settings=ROOMY)
    assert stack.valkey is not None
    with ExitStack() as exits:
        person = exits.enter_context(Person(stack))
        messages = pending_messages(person, shape.channels)
        sockets, raw = (exits.enter_context(Program("readers")) for _ in range(2))
        appending, publishing = (exits.enter_context(Program("publisher")) for _ in range(2))

        appending.ask("begin", url=stack.redis_url, how="append", messages=messages)
        sockets.ask("open", **socket_server(stack, person.token), wanted=socket_paths(messages, shape.readers_each))
        told(sockets, shape.readers)  # each has the first event: they are live
        others = [str(uuid4()) for _ in messages]
        channels = [[keys.message_channel(message_id), shape.readers_each] for message_id in others]
        raw.ask("open", kind="redis", host="127.0.0.1", port=stack.valkey.port, wanted=channels)
        publishing.ask("begin", url=stack.redis_url, how="publish", messages=others)
        told(raw, shape.readers)

        pids = {"web": stack.pid("web-1"), "redis": stack.valkey.pid}
        ours = measured("web", shape, appending, sockets, pids)
        reference = measured("redis", shape, publishing, raw, pids)
        warm_up = FanOut(channels=shape.channels, readers_each=shape.readers_each, per_s=shape.per_s, each=5)
        measured("web", warm_up, appending, sockets, pids)()
        measured("redis", warm_up, publishing, raw, pids)()
        yield Sides(ours=ours, reference=reference)
        check_trace(sockets.ask("kept"))


def measured(
    whose: str, shape: FanOut, publisher: Program, readers: Program, pids: dict[str, int]
) -> Callable[[], Sample]:
    """What an event costs the process `whose`, from the publisher's first to the last reader's last."""

    def measure() -> Sample:
        before = readers.ask("counts")
        meter = Meter({**pids, "readers": readers.pid, "publisher": publisher.pid})
        published = publisher.ask("publish", each=shape.each, per_s=shape.per_s, text=TEXT)
        after = told(readers, before["events"] + shape.delivered)
        costs, seconds = meter.costs(), meter.seconds
        per_event = {f"{name} CPU, µs": 1e6 * cost.cpu_s / shape.delivered for name, cost in costs.items()}
        cost = costs[whose]
        return Sample(
            values={"CPU per event": 1e6 * cost.cpu_s / shape.delivered},
            figures={
                **per_event,
                "wake-ups per event": cost.wakeups / shape.delivered,
                "reads per event": cost.reads / shape.delivered,
                "writes per event": cost.writes / shape.delivered,
                "frames per event": (after["frames"] - before["frames"]) / shape.delivered,
                "events per second": shape.delivered / seconds,
                "publisher late, ms": 1e3 * published["late_s"],
            },
        )

    return measure


def socket_server(stack: Stack, token: str, *, web: int = 0) -> dict[str, Any]:
    """Where the program `readers` finds the sockets of one of the stack's web processes."""
    host, _, port = stack.urls[web].removeprefix("http://").partition(":")
    return {"kind": "socket", "host": host, "port": int(port), "token": token}


def socket_paths(messages: list[str], each: int) -> list[list[Any]]:
    return [[f"/v1/messages/{message_id}/socket", each] for message_id in messages]


def told(readers: Program, events: int) -> dict[str, Any]:
    """The counts once all readers together have so many events. Raises `ProgramFailed` where one was told wrongly."""
    counts: dict[str, Any] = readers.ask("until", events=events, timeout_s=_TIMEOUT_S)
    if counts["problems"]:
        raise ProgramFailed("readers were told wrongly: " + "; ".join(counts["problems"]))
    return counts


def _shape(one_each: bool, bench: Bench) -> FanOut:
    if one_each:
        return FanOut(channels=bench.size(200, 4), readers_each=1, per_s=25, each=bench.size(75, 3))
    return FanOut(channels=bench.size(10, 2), readers_each=bench.size(100, 4), per_s=25, each=bench.size(75, 3))


RELAY: Final = Row(
    name="relay",
    what="relay, CPU per event, 200 sockets on 200 channels",
    reference="Redis's own CPU per event to 200 raw subscribers",
    measures=(Measure(name="CPU per event", unit="µs", goal=1.0),),
    open=lambda bench: _relay(_shape(True, bench), bench),
)
RELAY_100: Final = Row(
    name="relay-100",
    what="relay, CPU per event, 100 sockets a channel",
    reference="Redis's own CPU per event to raw subscribers, 100 a channel",
    measures=(Measure(name="CPU per event", unit="µs", goal=0.9),),
    open=lambda bench: _relay(_shape(False, bench), bench),
)
