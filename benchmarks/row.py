"""A row of the table "how fast": two sides that are measured in turn, in one run, on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple

from benchmarks.measuring import MachineLoad
from benchmarks.results import Measure, RowResult, Sample, compare
from tests.stack import StackStarter


class Sides(NamedTuple):
    """Each call measures once. Both are ready and warm."""

    ours: Callable[[], Sample]
    reference: Callable[[], Sample]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What a row is given."""

    stacks: StackStarter
    is_quick: bool
    """Tiny numbers, to see that it runs: what comes out says nothing."""

    def size(self, full: int, quick: int) -> int:
        return quick if self.is_quick else full


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    name: str
    what: str
    reference: str
    """What it is compared with, in words."""
    measures: tuple[Measure, ...]
    open: Callable[[Bench], AbstractContextManager[Sides]]


Watch = Callable[[str, int, int], object]
"""Told what is being done, how many measurements are done, and of how many."""


def run_row(row: Row, bench: Bench, *, repeats: int, watch: Watch) -> RowResult:
    """Measures both sides so many times, in turn, each repeat in the other order than the one before."""
    load, began_at_s = MachineLoad(), time.monotonic()
    ours: list[Sample] = []
    references: list[Sample] = []
    watch(f"{row.name}: starting", 0, 2 * repeats)
    with row.open(bench) as sides:
        turns: Final = (("ours", sides.ours, ours), ("the reference", sides.reference, references))
        for repeat in range(repeats):
            for who, measure, samples in turns if repeat % 2 == 0 else turns[::-1]:
                watch(f"{row.name}: {who}", len(ours) + len(references), 2 * repeats)
                samples.append(measure())
    return RowResult(
        name=row.name,
        what=row.what,
        reference=row.reference,
        compared=compare(row.measures, ours, references),
        ours=ours,
        references=references,
        seconds=time.monotonic() - began_at_s,
        others_share=load.others_share,
    )
