"""A million readers and a hundred thousand answers at a time, on paper: what they need, from what was measured.

python -m benchmarks paper             writes the table in ARCHITECTURE.md anew, from the figures in docs/
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benchmarks.logs import Logs
from benchmarks.report import write_between
from benchmarks.results import Results
from benchmarks.scaling import Scaled
from dev.procfile import ROOT

BEGIN: Final = "<!-- written by `python -m benchmarks paper` -->"
PAGE: Final = ROOT / "ARCHITECTURE.md"
_DOCS: Final = ROOT / "docs"

ANSWERS: Final = 100_000
"""At a time."""
READERS: Final = 1_000_000
TOKENS_PER_S: Final = 35
"""Of each answer, in the middle between 20 and 50; a delta each."""
LASTS_S: Final = 10
BUSY: Final = 0.7
"""Of a core that a process may use on average."""
RETENTION_S: Final = 3_600
POOL_OF_A_WEB: Final = 24
"""Connections to Postgres: `CHATRELAY_API_THREADS` and the relay's."""
POOL_OF_A_WORKER: Final = 21
COMMITS_A_START: Final = 5
"""The submit, the claim, the end, the note that it was appended, the next in line; each tool call is two more."""
SEGMENT_BYTES: Final = 70
"""Of TCP, IP and a WebSocket's frame, around each event."""


class Costs(NamedTuple):
    """What was measured."""

    worker_delta_us: float
    events_a_delta: float
    start_ms: float
    event_us: float
    """Of a web process, where the event has one reader there."""
    frame_us: float
    """Of it, for each reader more."""
    append_us: float
    """Of Redis, for an event that one process hears."""
    subscriber_us: float
    """Of Redis, for each process more that hears it."""
    socket_kb: float
    quiet_us: dict[str, float]
    """A second, for a message that is watched while nothing comes, by process."""
    log_event_bytes: float
    event_bytes: float
    submit_ms: float
    database_ms: float
    """Of Postgres, a submit and a start."""


def costs(directory: Path = _DOCS) -> Costs:
    results = Results.read(directory / "performance.json")
    rows = {row.name: row for row in results.rows}
    logs = msgspec.json.decode((directory / "performance-logs.json").read_bytes(), type=Logs)
    scaled = msgspec.json.decode((directory / "performance-scaling.json").read_bytes(), type=Scaled)

    def value(row: str) -> float:
        return rows[row].compared[0].ours.median

    def beside(row: str, name: str, *, of_reference: bool = False) -> float:
        samples = rows[row].references if of_reference else rows[row].ours
        return statistics.median(sample.figures[name] for sample in samples)

    one, hundred = value("relay"), value("relay-100")
    first, frame = (one - hundred) / 0.99, hundred - (one - hundred) / 99
    quiet = " CPU a second and message watched, µs"
    single = next(point for point in scaled.points if (point.webs, point.workers) == (1, 1))
    return Costs(
        worker_delta_us=value("worker"),
        events_a_delta=beside("worker", "events per delta"),
        start_ms=beside("start-rate", "CPU per start, ms"),
        event_us=first + frame,
        frame_us=frame,
        append_us=beside("whole-path", "Redis CPU, µs") / beside("whole-path", "events per delta"),
        subscriber_us=beside("relay-100", "redis CPU, µs", of_reference=True),
        socket_kb=value("idle-sockets"),
        quiet_us={
            name: beside("idle-sockets", name + quiet)
            for name in ("web", "Postgres", "Redis")
            if name + quiet in rows["idle-sockets"].ours[0].figures
        },
        log_event_bytes=logs.bytes_an_event,
        event_bytes=logs.payload_bytes,
        submit_ms=single.figures["API CPU a message, ms"].median,
        database_ms=single.figures["Postgres CPU a message, ms"].median,
    )


class Line(NamedTuple):
    what: str
    arithmetic: str
    result: str


def lines(found: Costs) -> list[Line]:
    deltas = ANSWERS * TOKENS_PER_S
    events = deltas * found.events_a_delta
    starts = ANSWERS / LASTS_S
    each = READERS / ANSWERS
    worker_cores = deltas * found.worker_delta_us / 1e6 + starts * found.start_ms / 1e3
    workers = worker_cores / BUSY
    together_us = found.event_us + (each - 1) * found.frame_us
    apart_us = each * found.event_us
    webs_together, webs_apart = (events * cost / 1e6 / BUSY for cost in (together_us, apart_us))
    heard_once, heard_by_each = (
        events * (found.append_us + (count - 1) * found.subscriber_us) / 1e6 for count in (1, each)
    )
    one_redis = BUSY * 1e6 / found.append_us / found.events_a_delta / TOKENS_PER_S
    commits = starts * COMMITS_A_START
    frames = events * each
    connections = webs_together * POOL_OF_A_WEB + workers * POOL_OF_A_WORKER
    made = [
        Line("deltas a second", f"{ANSWERS:,} answers × {TOKENS_PER_S}", f"{_big(deltas)}"),
        Line("events a second", f"× {found.events_a_delta:.2f}, what is left after merging", _big(events)),
        Line("starts a second", f"{ANSWERS:,} / {LASTS_S} s that an answer lasts", _big(starts)),
        Line("frames a second", f"× {each:.0f} readers of each answer", _big(frames)),
        Line(
            "workers",
            f"{_big(deltas)} × {found.worker_delta_us:.0f} µs + {_big(starts)} × {found.start_ms:.1f} ms = "
            f"{worker_cores:,.0f} cores, {BUSY:.0%} busy",
            f"**{workers:,.0f} processes**, {ANSWERS / workers:,.0f} answers each",
        ),
        Line(
            "web processes, an answer's readers together",
            f"{_big(events)} × ({found.event_us:.0f} + {each - 1:.0f} × {found.frame_us:.1f} µs), {BUSY:.0%} busy",
            f"**{webs_together:,.0f} processes**, {READERS / webs_together:,.0f} readers each",
        ),
        Line(
            "… its readers each in another process",
            f"{_big(events)} × {each:.0f} × {found.event_us:.0f} µs, {BUSY:.0%} busy",
            f"{webs_apart:,.0f} processes, {READERS / webs_apart:,.0f} readers each",
        ),
        Line(
            "submits",
            f"{_big(starts)} × {found.submit_ms:.1f} ms, {BUSY:.0%} busy",
            f"{starts * found.submit_ms / 1e3 / BUSY:,.0f} web processes more",
        ),
        Line(
            "sockets' memory",
            f"{READERS:,} × {found.socket_kb:.1f} KB, the kernel's own not counted",
            f"{READERS * found.socket_kb / 1e6:,.1f} GB",
        ),
        Line(
            "Redis, an event heard by one process",
            f"{_big(events)} × {found.append_us:.0f} µs = {heard_once:,.0f} cores, {BUSY:.0%} busy",
            f"**{heard_once / BUSY:,.0f} shards**, {ANSWERS / (heard_once / BUSY):,.0f} answers each",
        ),
        Line(
            f"… heard by {each:.0f}",
            f"+ {each - 1:.0f} × {found.subscriber_us:.1f} µs",
            f"{heard_by_each / BUSY:,.0f} shards",
        ),
        Line(
            "logs' memory",
            f"{_big(events)} × {RETENTION_S:,} s × {found.log_event_bytes:.0f} bytes; kept for 60 s it is a sixtieth",
            f"**{events * RETENTION_S * found.log_event_bytes / 1e12:,.1f} TB**, "
            f"{events * RETENTION_S * found.log_event_bytes / 1e9 / (heard_once / BUSY):,.1f} GB a shard",
        ),
        Line(
            "Postgres, CPU of submit and start",
            f"{_big(starts)} × {found.database_ms:.1f} ms, {BUSY:.0%} busy",
            f"{starts * found.database_ms / 1e3 / BUSY:,.0f} cores",
        ),
        Line(
            "Postgres, commits a second",
            f"{_big(starts)} × {COMMITS_A_START}, + {workers:,.0f} renewals every 3 s",
            f"**{_big(commits + workers / 3)}**",
        ),
        Line(
            "connections to Postgres",
            f"{webs_together:,.0f} × {POOL_OF_A_WEB} + {workers:,.0f} × {POOL_OF_A_WORKER} at most",
            f"{connections:,.0f}",
        ),
        Line(
            "network, to readers",
            f"{_big(frames)} × ({found.event_bytes:.0f} + {SEGMENT_BYTES} bytes)",
            f"{frames * (found.event_bytes + SEGMENT_BYTES) * 8 / 1e9:,.0f} Gbit/s",
        ),
        Line(
            "network, Redis in and out",
            f"2 × {_big(events)} × ({found.event_bytes:.0f} + {SEGMENT_BYTES} bytes)",
            f"{2 * events * (found.event_bytes + SEGMENT_BYTES) * 8 / 1e9:,.0f} Gbit/s",
        ),
        Line(
            "one Redis, as it is today",
            f"{BUSY:.0%} of a core / ({found.append_us:.0f} µs × {found.events_a_delta:.2f} × {TOKENS_PER_S})",
            f"**{one_redis:,.0f} answers at a time**",
        ),
    ]
    if found.quiet_us:
        total_us = sum(found.quiet_us.values())
        made.insert(
            9,
            Line(
                "a million messages watched while nothing comes",
                f"× ({' + '.join(f'{value:.0f} {name}' for name, value in found.quiet_us.items())}) µs a second",
                f"{READERS * total_us / 1e6:,.0f} cores, {READERS * found.quiet_us['Postgres'] / 1e6:,.0f} of them "
                "Postgres's",
            ),
        )
    return made


def _big(value: float) -> str:
    scales: tuple[tuple[float, str], ...] = ((1e6, " million"), (1, ""))
    by, name = next((by, name) for by, name in scales if value >= by)
    shown = value / by
    return f"{shown:,.1f}{name}" if by > 1 else f"{shown:,.0f}"


def markdown(found: Costs) -> str:
    head = ["| what | arithmetic | result |", "| --- | --- | --- |"]
    return "\n".join([*head, *(f"| {one.what} | {one.arithmetic} | {one.result} |" for one in lines(found))]) + "\n"


def paper() -> None:
    """Write what a million readers need, by what docs/performance*.json have, into ARCHITECTURE.md."""
    write_between(PAGE, BEGIN, markdown(costs()))
