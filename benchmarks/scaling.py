"""The same load on one process and on two, of workers and of web processes: what more of them cost.

python -m benchmarks scaling

Answers and readers are spread evenly. On a machine of two cores two processes do not carry twice the load of one; what can
be seen there is what a delta costs, all processes together: where it stays, processes are added without a price.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from benchmarks.machine import this_machine
from benchmarks.measuring import MachineLoad, cost_of, tree
from benchmarks.programs.program import Program
from benchmarks.report import DISTURBED, machine_line, write_between
from benchmarks.results import Figures, Machine, Spread
from benchmarks.rows.relay import ROOMY, TEXT, socket_paths, socket_server
from benchmarks.rows.whole_path import measured
from benchmarks.rows.worker import ended
from tests.people import Person, eventually
from tests.stack import StackStarter

BEGIN: Final = "<!-- written by `python -m benchmarks scaling` -->"
_SHAPES: Final = ((1, 1), (1, 2), (2, 1), (2, 2))
"""Web processes and workers."""
_PER_S: Final = (20.0, 50.0)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    webs: int
    workers: int
    figures: dict[str, Spread]


class Scaled(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    began_at: str
    streams: int
    repeats: int
    machine: Machine
    others_share: float
    points: list[Point]


def scaling(
    streams: Annotated[int, typer.Option(min=2, help="Answers that are written at a time.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each shape.")] = 3,
    page: Annotated[Path | None, typer.Option(help="Write what came out into this page.", dir_okay=False)] = None,
    json: Annotated[Path | None, typer.Option(help="Write what came out to this file.", dir_okay=False)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny numbers: does it run? The figures say nothing.")] = False,
) -> None:
    """Measure what a delta costs with one and two workers, and with one and two web processes."""
    console, began_at, load = Console(stderr=True), datetime.now(UTC).isoformat(timespec="seconds"), MachineLoad()
    streams, window_s = (4, 1) if quick else (streams, 3)
    points = []
    for webs, workers in _SHAPES:
        console.print(f"{webs} web, {workers} worker")
        points.append(_point(webs, workers, streams, repeats, window_s))
    found = Scaled(
        began_at=began_at,
        streams=streams,
        repeats=repeats,
        machine=this_machine(),
        others_share=load.others_share,
        points=points,
    )
    written = markdown(found)
    Console().print(written, markup=False)
    if page is not None:
        write_between(page, BEGIN, written)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def _point(webs: int, workers: int, streams: int, repeats: int, window_s: float) -> Point:
    with ExitStack() as exits:
        stacks = exits.enter_context(StackStarter())
        model = exits.enter_context(Program("model"))
        readers = [exits.enter_context(Program("readers")) for _ in range(webs)]
        model.ask("set", per_s=_PER_S, is_open=False)
        settings = {
            **ROOMY,
            "OPENAI_BASE_URL": f"http://127.0.0.1:{model.ask('serve')}/v1",
            # so that each has its share, whoever hears a bell first
            "CHATRELAY_WORKER_CONCURRENCY": -(-streams // workers),
        }
        stack = stacks(webs=webs, workers=workers, own_postgres=True, own_valkey=True, settings=settings)
        assert stack.valkey is not None
        assert stack.postgres is not None
        person = exits.enter_context(Person(stack))
        projects = [person.project() for _ in range(streams)]
        starting = {
            "Postgres": stack.postgres.pid,
            **{f"API {web}": stack.pid(f"web-{web + 1}") for web in range(webs)},
        }
        before = _cpu_s(starting)
        messages = [
            person.submit(project, "Say something", web=number % webs) for number, project in enumerate(projects)
        ]
        eventually(lambda: model.ask("counts")["streams"] == streams)
        started = {
            f"{name} CPU a message, ms": 1e3 * (after_s - before[name]) / streams
            for name, after_s in _cpu_s(starting).items()
        }
        for web, group in enumerate(readers):
            where = socket_server(stack, person.token, web=web)
            group.ask("open", **where, wanted=socket_paths(messages[web::webs], 1))
        parts = {
            **{f"API {number + 1}": stack.pid(f"web-{number + 1}") for number in range(webs)},
            **{f"worker {number + 1}": stack.pid(f"worker-{number + 1}") for number in range(workers)},
            "Redis": stack.valkey.pid,
        }
        beside = {"Postgres": stack.postgres.pid, "sweeper": stack.pid("sweeper")}
        measure = measured(model, _Together(readers), parts, beside, window_s)
        measure()  # warms up
        samples = [measure() for _ in range(repeats)]
        model.ask("finish")
        rows = [ended(person, message_id) for message_id in messages]
        written = sum(len(row["content"]) for row in rows)
        assert written == len(TEXT) * model.ask("counts")["deltas"], "rows hold another text than the model wrote"
        figures = [{**sample.values, **_summed({**sample.figures, **started})} for sample in samples]
        return Point(
            webs=webs,
            workers=workers,
            figures={name: Spread.of([one[name] for one in figures]) for name in figures[0]},
        )


def _cpu_s(pids: Mapping[str, int]) -> dict[str, float]:
    """So far, of each process and its children: of Postgres also of the connections that are new."""
    return {name: cost_of(tree(pid)).cpu_s for name, pid in pids.items()}


def _summed(figures: Figures) -> Figures:
    """What the workers, and the web processes, took together."""
    found = dict(figures)
    for part in ("API", "worker"):
        for unit in ("CPU, µs", "CPU a message, ms"):
            mine = [value for name, value in figures.items() if name.startswith(f"{part} ") and name.endswith(unit)]
            found[f"{part} {unit}"] = sum(mine)
    return found


class _Together:
    """Several programs of readers as one."""

    def __init__(self, programs: list[Program]) -> None:
        self._programs = programs

    @property
    def pid(self) -> int:
        """The first one's."""
        return self._programs[0].pid

    def ask(self, do: str, /, **request: Any) -> dict[str, Any]:
        answers = [program.ask(do, **request) for program in self._programs]
        return {name: sum(one[name] for one in answers) for name in ("events", "frames", "bytes", "readers", "closes")}


def markdown(found: Scaled) -> str:
    lines = [
        f"Measured {found.began_at[:10]}, {found.repeats} repeats, {found.streams} answers of "
        f"{_PER_S[0]:g}–{_PER_S[1]:g} tokens a second with a reader each, on {machine_line(found.machine)}. "
        "Medians, µs of CPU a delta"
        + (
            f"; provisional, others took {found.others_share:.0%} of the machine."
            if found.others_share > DISTURBED
            else "."
        ),
        "",
        "| web | workers | API + worker + Redis | API | workers | Redis | Postgres | deltas a second | events a delta | "
        "a start, API and Postgres, ms |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = ("CPU per delta", "API CPU, µs", "worker CPU, µs", "Redis CPU, µs", "Postgres CPU, µs")
    for point in found.points:
        costs = [f"{point.figures[name].median:.3g}" for name in names]
        rate, events = point.figures["deltas per second"].median, point.figures["events per delta"].median
        starts = [point.figures[f"{part} CPU a message, ms"].median for part in ("API", "Postgres")]
        lines.append(
            f"| {point.webs} | {point.workers} | {' | '.join(costs)} | {rate:,.0f} | {events:.3g} "
            f"| {starts[0]:.3g} and {starts[1]:.3g} |"
        )
    return "\n".join(lines) + "\n"
