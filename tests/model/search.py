"""Breadth-first search through every interleaving, and the shortest way to what breaks a promise."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from shared.lifecycle import MessageStatus
from tests.model import faults, product, promises, reader, sweeper, worker
from tests.model.state import Bounds, Event, Fault, Label, Mechanisms, Rules, State, Story

ALL = Mechanisms()


class Trace(NamedTuple):
    """The shortest way from the start to a broken promise."""

    promise: str
    steps: list[tuple[Label, State]]

    def __str__(self) -> str:
        lines = [f"broken after {len(self.steps)} steps: {self.promise}"]
        for number, (label, state) in enumerate(self.steps, 1):
            lines.append(f"{number:3}. {told(label)}")
            lines.append(f"       {shown(state)}")
        return "\n".join(lines)


class Result(NamedTuple):
    states: int
    edges: int
    ends: int
    """States in which all is over."""
    cpu_s: float
    moves: frozenset[tuple[MessageStatus, MessageStatus]]
    steps: frozenset[str]
    faults: frozenset[Fault]
    """What was done, and what went wrong, at least once."""
    trace: Trace | None

    def __str__(self) -> str:
        return f"{self.states} states, {self.edges} steps, {self.ends} ends, {self.cpu_s:.1f} s of CPU"


def successors(rules: Rules, state: State) -> Iterator[tuple[Label, State]]:
    yield from worker.steps(rules, state)
    yield from sweeper.steps(rules, state)
    yield from reader.steps(rules, state)
    yield from sweeper.user_steps(state)
    yield from faults.steps(rules, state)


def explore(bounds: Bounds, mechanisms: Mechanisms = ALL, *, tolerated: Iterable[str] = ()) -> Result:
    """Every state within `bounds`; stops at the first that breaks a promise which is not `tolerated`.

    Last comes the promise that everything ends: from each state one in which all is over can be reached without another
    fault, and without a user's help. What can be reached and can't be left any more is a deadlock or a livelock.
    """
    with _no_garbage_sought():
        return _explore(bounds, mechanisms, tolerated)


@contextmanager
def _no_garbage_sought() -> Iterator[None]:
    """States form no cycles, and looking through millions of them takes as long as making them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _explore(bounds: Bounds, mechanisms: Mechanisms, tolerated: Iterable[str]) -> Result:
    began_at = time.process_time()
    rules, forgiven = Rules(bounds, mechanisms), frozenset(tolerated)
    start = bounds.start()
    numbers: dict[State, int] = {start: 0}
    states = [start]
    came_from: list[tuple[int, Label] | None] = [None]
    edges = Edges()
    ends: list[int] = []
    moves: set[tuple[MessageStatus, MessageStatus]] = set()
    done: set[Label] = set()
    labels: dict[Label, Label] = {}
    same: dict[Hashable, Any] = {}

    def result(trace: Trace | None) -> Result:
        cpu_s = time.process_time() - began_at
        return Result(
            states=len(states),
            edges=edges.count,
            ends=len(ends),
            cpu_s=cpu_s,
            moves=frozenset(moves),
            steps=frozenset(label.step for label in done),
            faults=frozenset(label.fault for label in done if label.fault is not None),
            trace=trace,
        )

    def trace(promise: str, number: int, last: tuple[Label, State] | None = None) -> Trace:
        steps = [] if last is None else [last]
        while (origin := came_from[number]) is not None:
            steps.append((origin[1], states[number]))
            number = origin[0]
        return Trace(promise, steps[::-1])

    at = 0
    while at < len(states):
        state = states[at]
        if promises.is_over(state):
            ends.append(at)
            promise = promises.broken_at_the_end(state, has_tool=bounds.story is not Story.TEXT)
            if promise and promise not in forgiven:
                return result(trace(promise, at))
        for label, after in successors(rules, state):
            promise = after.broken or promises.broken_by_step(state, after)
            if promise:
                if promise not in forgiven:
                    return result(trace(promise, at, (label, after)))
                after = after._replace(broken="")
            number = numbers.get(after)
            if number is None:
                after = _shared(after, same)
                number = numbers[after] = len(states)
                states.append(after)
                came_from.append((at, labels.setdefault(label, label)))
                if after.row.status is not state.row.status:
                    moves.add((state.row.status, after.row.status))
            done.add(label)
            edges.add(number, helps=label.fault is None and not label.by_user)
        edges.close()
        at += 1
    stuck = edges.first_that_cannot_reach(ends)
    if stuck is not None and promises.STUCK not in forgiven:
        return result(trace(promises.STUCK, stuck))
    return result(None)


class Edges:
    """The steps between numbered states: those that help to the end are kept."""

    def __init__(self) -> None:
        self.count = 0
        self._targets = array("I")
        self._starts = array("Q", [0])

    def add(self, target: int, *, helps: bool) -> None:
        """Another step of the state that is being looked at."""
        self.count += 1
        if helps:
            self._targets.append(target)

    def close(self) -> None:
        """That state has no more; the next one is next."""
        self._starts.append(len(self._targets))

    def first_that_cannot_reach(self, ends: list[int]) -> int | None:
        size = len(self._starts) - 1
        before = [array("I") for _ in range(size)]
        for source in range(size):
            for target in self._targets[self._starts[source] : self._starts[source + 1]]:
                before[target].append(source)
        reaches = bytearray(size)
        border = list(ends)
        for end in ends:
            reaches[end] = 1
        while border:
            for source in before[border.pop()]:
                if not reaches[source]:
                    reaches[source] = 1
                    border.append(source)
        found = reaches.find(0)
        return None if found < 0 else found


def _shared(state: State, same: dict[Hashable, Any]) -> State:
    """The state with equal parts made one object."""
    return state._replace(
        row=same.setdefault(state.row, state.row),
        log=same.setdefault(state.log, state.log),
        workers=same.setdefault(state.workers, state.workers),
        reader=same.setdefault(state.reader, state.reader),
    )


# --- in words ---------------------------------------------------------------------------------------------------


def told(label: Label) -> str:
    who = f"worker {label.who} {label.step}" if label.who else label.step
    return " — and ".join(part for part in (who.strip(), label.fault) if part)


def shown(state: State) -> str:
    row, at = state.row, state.reader
    text = f"row: {row.status} attempt {row.attempt} {row.content!r}"
    text += _call(row.calls)
    if row.owner:
        text += f" held by {row.owner}"
    text += f" | log: {' '.join(map(_event, product.newest_attempt(state.log))) or '-'}"
    text += "" if state.redis_is_up else " (away)"
    return (
        f"{text} | reader: {at.phase.name.lower()} at {at.position} shows {at.content!r} {at.status}{_call(at.calls)}"
    )


def _call(state: str) -> str:
    return f", its call {state}" if state else ""


def _event(event: Event) -> str:
    said = event.text or event.status
    return f"{event.id}:{event.kind}" + (f"({said})" if said else "")
