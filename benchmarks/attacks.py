"""Attacks on a web process, one after the other, while somebody reads an answer there and others ask for something.

Before and during each attack, in turn: how late events come to the reader, and whether all come, in order; how long others
wait for a GET on a connection of their own; what the process takes in memory and descriptors. Afterwards it is looked at
again. What an attack does to others is told as a ratio to the same run's time without it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import websockets.sync.client
from rich.console import Console

from benchmarks.machine import this_machine
from benchmarks.measuring import MachineLoad, Meter, memory_bytes, tree
from benchmarks.programs.attacker import ATTACKS
from benchmarks.programs.program import Program
from benchmarks.results import Machine
from benchmarks.rows.relay import ROOMY, pending_messages
from shared import events
from shared.event_log import Entry
from shared.events import Delta, EventId
from tests.people import Person
from tests.stack import Stack, StackStarter

BEGIN: Final = "<!-- written by `python -m benchmarks attacks` -->"
END: Final = "<!-- until here -->"
HEARTBEAT_S: Final = 2
"""Of sockets, in place of 25 s: who is there no more is found out within two of them and 10 s."""
_SETTINGS: Final[dict[str, object]] = ROOMY | {"CHATRELAY_SOCKET_HEARTBEAT_S": HEARTBEAT_S}
_PER_S: Final = 40
_FOLLOWED_BYTES: Final = 4000
_FOLLOWED_EVENTS: Final = 1_000_000 // _FOLLOWED_BYTES
_REQUEST_EVERY_S: Final = 0.1
_PATIENCE_S: Final = 10.0
_SETTLES_WITHIN_S: Final = 40.0
_USERS: Final = 10
_REQUESTS_OF_A_USER: Final = 8
_REPEATS: Final = 25
_LOOKS_PER_S: Final = 4
_POOLED: Final = 4
"""Connections to Postgres and Redis that may be opened while it is busy, and stay."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """What others met with in one stretch of time."""

    events_ms: list[float]
    """How late each event came to the reader."""
    missing: int
    """Events that had not come when the stretch and some patience were over."""
    requests_ms: list[float]
    unanswered: int
    """Requests that were given up after `_PATIENCE_S`, or refused."""
    most_mb: float
    most_descriptors: int


class Attacked(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    what: str
    clients: int
    before: Span
    during: Span
    mb: tuple[float, float]
    """Before, and after it was over."""
    descriptors: tuple[int, int]
    seen: dict[str, int]
    """What became of the attackers."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time of the web process for a GET, in microseconds, each repeat's."""

    uncounted_us: list[float]
    """From this machine, which has no limits."""
    counted_us: list[float]


class Attacks(msgspec.Struct, frozen=True, kw_only=True):
    began_at: str
    server: str
    seconds: float
    machine: Machine
    others_share: float
    attacks: list[Attacked]
    limits: Limits | None = None


class Bystander:
    """Reads an answer over a WebSocket, writes its events, and asks for something now and then, each time anew."""

    def __init__(self, stack: Stack, person: Person, message_id: str) -> None:
        self._stack = stack
        self._person = person
        self._message_id = message_id
        self._n: Counter[str] = Counter()
        self._sent_at_s: dict[int, float] = {}
        self._late_ms: dict[int, float] = {}
        self._expected = 0
        self._has_all = threading.Condition()
        url = f"ws{stack.urls[0].removeprefix('http')}/v1/messages/{message_id}/socket"
        bearer = {"Authorization": f"Bearer {person.token}"}
        self._socket = websockets.sync.client.connect(url, additional_headers=bearer, proxy=None, max_queue=None)
        self._reading = threading.Thread(target=self._read, name="bystander")

    def __enter__(self) -> Bystander:
        self._socket.__enter__()
        self._reading.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.__exit__(None, None, None)
        self._reading.join()

    def _read(self) -> None:
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            for raw in self._socket:
                event = events.decode(raw)
                came_at_s = time.monotonic()
                first = EventId.parse(event.from_ if isinstance(event, Delta) and event.from_ else event.id).n
                last = EventId.parse(event.id).n
                assert first == self._expected, f"{event.id} came after {self._expected - 1}"
                with self._has_all:
                    self._expected = last + 1
                    for n in range(first, last + 1):
                        self._late_ms[n] = (came_at_s - self._sent_at_s[n]) * 1000
                    self._has_all.notify()

    def spend(self, seconds: float, *, also: str | None = None) -> Span:
        """`also` is a message that attackers may follow: it gets events too, larger ones, a megabyte at most."""
        requests_ms: list[float] = []
        unanswered = [0]
        over = threading.Event()
        asking = [
            threading.Thread(target=self._ask, args=(over, requests_ms, unanswered), name="asks") for _ in range(2)
        ]
        pid, most_mb, most_descriptors = self._stack.pid("web-1"), 0.0, 0
        began_at = self._n[self._message_id]
        for thread in asking:
            thread.start()
        due_s = time.monotonic()
        for number in range(int(seconds * _PER_S)):
            self._append(self._message_id, " word")
            if also is not None and self._n[also] < _FOLLOWED_EVENTS:
                self._append(also, "x" * _FOLLOWED_BYTES)
            if number % (_PER_S // _LOOKS_PER_S) == 0:
                most_mb = max(most_mb, memory_bytes(pid) / 1e6)
                most_descriptors = max(most_descriptors, descriptors(pid))
            due_s += 1 / _PER_S
            time.sleep(max(0.0, due_s - time.monotonic()))
        over.set()
        for thread in asking:
            thread.join()
        ended_at = self._n[self._message_id]
        with self._has_all:
            self._has_all.wait_for(lambda: self._expected >= ended_at, _PATIENCE_S)
            late = [self._late_ms[n] for n in range(began_at, ended_at) if n in self._late_ms]
        return Span(
            events_ms=late,
            missing=ended_at - began_at - len(late),
            requests_ms=requests_ms,
            unanswered=unanswered[0],
            most_mb=most_mb,
            most_descriptors=most_descriptors,
        )

    def _append(self, message_id: str, text: str) -> None:
        n = self._n[message_id]
        self._n[message_id] = n + 1
        event = Delta(id=f"1-{n}", message_id=message_id, ts=int(time.time() * 1000), content=text)
        if message_id == self._message_id:
            self._sent_at_s[n] = time.monotonic()
        self._stack.log.append(message_id, [Entry(EventId(1, n), events.encode(event))])

    def _ask(self, over: threading.Event, requests_ms: list[float], unanswered: list[int]) -> None:
        host = self._stack.urls[0].removeprefix("http://")
        while not over.is_set():
            began_s = time.monotonic()
            connection = http.client.HTTPConnection(host, timeout=_PATIENCE_S)
            try:
                connection.request("GET", "/v1/me", headers={"Authorization": f"Bearer {self._person.token}"})
                answered = connection.getresponse()
                answered.read()
                if answered.status == 200:
                    requests_ms.append((time.monotonic() - began_s) * 1000)
                else:
                    unanswered[0] += 1
            except OSError:
                unanswered[0] += 1
            finally:
                connection.close()
            over.wait(_REQUEST_EVERY_S)


def descriptors(pid: int) -> int:
    """Of a process and all that descends from it."""
    count = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            count += len(os.listdir(f"/proc/{one}/fd"))
    return count


def attacks(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(ATTACKS)}; all by default.", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of each attack, and before it.")] = 8.0,
    server: Annotated[str, typer.Option(help="`ours`, or `gthread`: gunicorn's own worker.")] = "ours",
    json: Annotated[Path | None, typer.Option(help="Write what came out to this file.", dir_okay=False)] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write it into this page, between its marks.", dir_okay=False)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few attackers: does it run? The figures say nothing.")
    ] = False,
) -> None:
    """Attack a web process in each way of the table, and print what others noticed of it."""
    if unknown := set(names or ()) - set(ATTACKS):
        raise typer.BadParameter(f"unknown attacks {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    if server == "gthread":
        os.environ["GUNICORN_CMD_ARGS"] = "--worker-class gthread"  # of the processes that are started from here
    limits: list[Limits] = []
    load, began_at, console = MachineLoad(), datetime.now(UTC).isoformat(timespec="seconds"), Console(stderr=True)
    found: list[Attacked] = []
    with StackStarter() as starter:
        for told in run(starter, list(names or ATTACKS), seconds=seconds, is_quick=quick, limits=names is None):
            if isinstance(told, Limits):
                limits.append(told)
            else:
                found.append(told)
                console.print(_line(told))
    made = Attacks(
        began_at=began_at,
        server=server,
        seconds=seconds,
        machine=this_machine(),
        others_share=load.others_share,
        attacks=found,
        limits=limits[0] if limits else None,
    )
    print(markdown(made))
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(made)))
    if page is not None:
        write_into(page, made)


def run(
    starter: StackStarter, names: list[str], *, seconds: float, is_quick: bool = False, limits: bool = False
) -> Iterator[Attacked | Limits]:
    """Each attack in turn, all on the same process: what one of them left would be seen at the next.

    `limits`: what they cost is told before.
    """
    stack = starter(webs=2, workers=0, sweepers=0, own_postgres=True, own_valkey=True, settings=_SETTINGS)
    with Person(stack) as person, Person(stack) as stranger:
        if limits:
            yield cost_of_limits(stack, each=2 if is_quick else _REQUESTS_OF_A_USER)
        (read,) = pending_messages(person, 1)
        followed = pending_messages(stranger, len(names))
        with Bystander(stack, person, read) as bystander:
            _use_everything(stack, person)
            bystander.spend(min(2.0, seconds))
            for name, message_id in zip(names, followed, strict=True):
                yield _attack(stack, bystander, stranger, message_id, name, seconds=seconds, is_quick=is_quick)


def cost_of_limits(stack: Stack, *, each: int) -> Limits:
    """GETs of several users at several addresses, counted and not, in turn."""
    took: dict[bool, list[float]] = {True: [], False: []}
    with contextlib.ExitStack() as exits:
        people = [exits.enter_context(Person(stack)) for _ in range(_USERS)]
        for repeat in range(_REPEATS):
            for is_counted in (True, False) if repeat % 2 else (False, True):
                meter = Meter({"web": stack.pid("web-1")})
                for number, person in enumerate(people):
                    headers = {"X-Forwarded-For": f"198.18.0.{number + 1}"} if is_counted else {}
                    for _ in range(each):
                        assert person.client.get("/v1/me", headers=headers).status_code == 200
                took[is_counted].append(meter.costs()["web"].cpu_s * 1e6 / (each * _USERS))
    return Limits(uncounted_us=took[False], counted_us=took[True])


def _use_everything(stack: Stack, person: Person) -> None:
    """Every thread and connection of the first web process once: what is opened for them stays."""

    def ask() -> None:
        for _ in range(10):
            with stack.client_for(person.token) as client:
                client.get("/v1/projects")

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _attack(
    stack: Stack, bystander: Bystander, stranger: Person, followed: str, name: str, *, seconds: float, is_quick: bool
) -> Attacked:
    attack = ATTACKS[name]
    count = min(attack.clients, 5) if is_quick else attack.clients
    pid = stack.pid("web-1")
    ports = [int(url.rpartition(":")[2]) for url in stack.urls]
    before = bystander.spend(seconds)
    mb, open_before = memory_bytes(pid) / 1e6, descriptors(pid)
    with Program("attacker") as attacker:
        attacker.ask(
            "begin",
            name=name,
            count=count,
            host="127.0.0.1",
            ports=ports if name == "restart" else ports[:1],
            token=stranger.token,
            path=f"/v1/messages/{followed}/socket",
        )
        if attack.is_stopped:
            bystander.spend(min(2.0, seconds))
            os.kill(attacker.pid, signal.SIGSTOP)
        if name == "restart":
            bystander.spend(min(2.0, seconds))
            stack.kill("web-2", signal.SIGTERM)
            stack.wait_ended("web-2")
            stack.start_again("web-2")
        during = bystander.spend(seconds, also=followed)
        if attack.is_stopped:  # it is to be over by itself
            settle(pid, open_before)
            os.kill(attacker.pid, signal.SIGCONT)
        seen = attacker.ask("counts")
    if name == "restart":
        stack.wait_ready("web-2")
    open_after = settle(pid, open_before)
    return Attacked(
        name=name,
        what=attack.what,
        clients=count,
        before=before,
        during=during,
        mb=(mb, memory_bytes(pid) / 1e6),
        descriptors=(open_before, open_after),
        seen=seen,
    )


def settle(pid: int, wanted: int) -> int:
    """The descriptors once there are no more than `wanted` and what a pool may have opened, or after a while all the same."""
    deadline_s = time.monotonic() + _SETTLES_WITHIN_S
    while (found := descriptors(pid)) > wanted + _POOLED and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return found


# --- told -------------------------------------------------------------------------------------------------------


def _p(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else float("nan")


def _times(before: list[float], during: list[float], percent: int) -> str:
    """A percentile without and with the attack, and the ratio."""
    if not during:
        return "–"
    return (
        f"{_p(before, percent):.1f} → {_p(during, percent):.1f} ms ({_p(during, percent) / _p(before, percent):.1f} ×)"
    )


def _line(attacked: Attacked) -> str:
    cells = _cells(attacked)
    return f"{attacked.name}: " + "; ".join(cells[1:])


def _cells(attacked: Attacked) -> list[str]:
    before, during = attacked.before, attacked.during
    seen = ", ".join(f"{what} {count:,}" for what, count in sorted(attacked.seen.items()))
    came = "all" if not during.missing else f"{during.missing} of {during.missing + len(during.events_ms)} missing"
    asked = len(during.requests_ms) + during.unanswered
    answered = "all" if not during.unanswered else f"{len(during.requests_ms)} of {asked}"
    return [
        f"`{attacked.name}`: {attacked.what}, {attacked.clients:,} at a time",
        f"{came}; {_times(before.events_ms, during.events_ms, 50)}, p99 {_p(during.events_ms, 99):.0f} ms",
        f"{answered}; {_times(before.requests_ms, during.requests_ms, 50)}",
        f"{attacked.mb[0]:.0f} / {during.most_mb:.0f} / {attacked.mb[1]:.0f}",
        f"{attacked.descriptors[0]} / {during.most_descriptors} / {attacked.descriptors[1]}",
        seen,
    ]


def markdown(found: Attacks) -> str:
    machine = found.machine
    whose = "chatrelay's web process" if found.server == "ours" else "the same with gunicorn's own threaded worker"
    lines = [
        f"Measured {found.began_at[:10]} on {machine.cores} cores of an {machine.processor}, Python {machine.python},"
        f" gunicorn {machine.versions['gunicorn']}: {whose}, {found.seconds:g} s before and during each. Other processes took"
        f" {found.others_share:.0%} of the machine.",
        "",
        "| attack | the reader's events: came; p50 without → with | others' GETs answered; p50 | MB before / most / after |"
        " descriptors | what became of the attackers |",
        "| --- | --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(_cells(attacked))} |" for attacked in found.attacks),
    ]
    if found.limits is not None:
        without, counted = found.limits.uncounted_us, found.limits.counted_us
        ratios = sorted(more / less for more, less in zip(counted, without, strict=True))
        lines += [
            "",
            f"A GET of `/v1/me` took the process {statistics.median(without):.0f} µs of CPU time where it was not counted,"
            f" and {statistics.median(counted):.0f} µs where it was: {statistics.median(ratios):.2f} ×"
            f" ({ratios[0]:.2f}–{ratios[-1]:.2f}).",
        ]
    return "\n".join(lines) + "\n"


def write_into(path: Path, found: Attacks) -> None:
    """Put the table between the marks of its server's. Raises `ValueError` where they are not there."""
    begin = BEGIN if found.server == "ours" else BEGIN.replace("attacks`", f"attacks --server {found.server}`")
    text = path.read_text(encoding="utf-8")
    before, marked, rest = text.partition(begin)
    _, ended, after = rest.partition(END)
    if not (marked and ended):
        raise ValueError(f"{path} lacks the lines {begin} and {END}")
    path.write_text(f"{before}{begin}\n\n{markdown(found)}\n{END}{after}", encoding="utf-8")
