"""Cost against load: how a delta's and an event's CPU time change with the number of answers and of sockets."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console

from benchmarks.machine import this_machine
from benchmarks.measuring import MachineLoad
from benchmarks.programs.program import Program
from benchmarks.references.installing import HERE, python_of
from benchmarks.results import Figures, Machine, Spread
from benchmarks.rows.relay import ROOMY, FanOut, pending_messages, socket_paths, socket_server, told
from benchmarks.rows.relay import measured as relay_measured
from benchmarks.rows.whole_path import measured as path_measured
from dev.procfile import ROOT
from tests.people import Person, eventually
from tests.stack import StackStarter

STREAMS: Final = (1, 10, 100, 300, 1_000)
SOCKETS: Final = (1, 10, 100, 1_000, 10_000)
_PARTS: Final = ("API", "worker", "Redis")
_PER_S: Final = (20.0, 50.0)
_EVENTS_PER_S: Final = 5.0
_WINDOW_S: Final = 3
_EACH: Final = 10
"""Events a measurement, of the message that all sockets are on."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    costs: Figures
    """Microseconds of CPU time, the median of the repeats."""


class Curve(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    began_at: str
    repeats: int
    machine: Machine
    others_share: float
    streams: list[Point]
    sockets: list[Point]


def curve(
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each point.")] = 3,
    json: Annotated[Path, typer.Option(help="Where the figures go.", dir_okay=False)] = ROOT
    / "docs/performance-curve.json",
    image: Annotated[Path, typer.Option(help="Where the drawing goes.", dir_okay=False)] = ROOT
    / "docs/performance.svg",
    most: Annotated[int, typer.Option(min=1, help="No more answers or sockets than this.")] = max(SOCKETS),
    draw_only: Annotated[bool, typer.Option("--draw-only", help="Draw what was measured already.")] = False,
) -> None:
    """Measure costs against load, from one answer to a thousand and from one socket to ten thousand, and draw them."""
    if not draw_only:
        console, load, began_at = Console(stderr=True), MachineLoad(), datetime.now(UTC).isoformat(timespec="seconds")
        streams, sockets = [], []
        for count in (count for count in STREAMS if count <= most):
            console.print(f"{count} answers")
            streams.append(_streams(count, repeats))
        for count in (count for count in SOCKETS if count <= most):
            console.print(f"{count} sockets")
            sockets.append(_sockets(count, repeats))
        found = Curve(
            began_at=began_at,
            repeats=repeats,
            machine=this_machine(),
            others_share=load.others_share,
            streams=streams,
            sockets=sockets,
        )
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    subprocess.run([python_of("plotting"), HERE / "plotting" / "draw.py", json, image], check=True)


def _streams(count: int, repeats: int) -> Point:
    with ExitStack() as exits:
        stacks = exits.enter_context(StackStarter())
        model = exits.enter_context(Program("model"))
        readers = exits.enter_context(Program("readers"))
        model.ask("set", per_s=_PER_S, is_open=False)
        settings = {
            **ROOMY,
            "OPENAI_BASE_URL": f"http://127.0.0.1:{model.ask('serve')}/v1",
            "CHATRELAY_WORKER_CONCURRENCY": count,
        }
        stack = stacks(webs=1, workers=1, own_postgres=True, own_valkey=True, settings=settings)
        assert stack.valkey is not None
        person = exits.enter_context(Person(stack))
        messages = [person.submit(person.project(), "Say something") for _ in range(count)]
        readers.ask("open", **socket_server(stack, person.token), wanted=socket_paths(messages, 1))
        eventually(lambda: model.ask("counts")["streams"] == count)
        pids = {"API": stack.pid("web-1"), "worker": stack.pid("worker-1"), "Redis": stack.valkey.pid}
        measure = path_measured(model, readers, pids, {}, _WINDOW_S)
        measure()
        return _point(count, [measure().figures for _ in range(repeats)], _PARTS)


def _sockets(count: int, repeats: int) -> Point:
    with ExitStack() as exits:
        stacks = exits.enter_context(StackStarter())
        publisher = exits.enter_context(Program("publisher"))
        readers = exits.enter_context(Program("readers"))
        stack = stacks(webs=1, workers=0, sweepers=0, own_postgres=True, own_valkey=True, settings=ROOMY)
        person = exits.enter_context(Person(stack))
        messages = pending_messages(person, 1)
        publisher.ask("begin", url=stack.redis_url, how="append", messages=messages)
        readers.ask("open", **socket_server(stack, person.token), wanted=socket_paths(messages, count))
        told(readers, count)
        shape = FanOut(channels=1, readers_each=count, per_s=_EVENTS_PER_S, each=_EACH)
        measure = relay_measured("API", shape, publisher, readers, {"API": stack.pid("web-1")})
        measure()
        return _point(count, [measure().figures for _ in range(repeats)], ("API",))


def _point(count: int, figures: list[Figures], names: tuple[str, ...]) -> Point:
    medians = {name: Spread.of([one[f"{name} CPU, µs"] for one in figures]).median for name in names}
    return Point(count=count, costs=medians)
