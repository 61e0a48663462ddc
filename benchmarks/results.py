"""What a run of the benchmarks found, as it is written to JSON and read again."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Literal

import msgspec

Figures = dict[str, float]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of one side. `values` has one value for each measure of the row, `figures` what else was counted."""

    values: Figures
    figures: Figures = {}


class Measure(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a row compares, and how it is to come out."""

    name: str
    unit: str
    goal: float
    """Ours over the reference's."""
    better: Literal["lower", "higher"] = "lower"


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median=statistics.median(values), least=min(values), most=max(values))


class Compared(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One measure, over all repeats. `ratio` is of each repeat's own pair, so that both had the machine alike."""

    measure: Measure
    ours: Spread
    reference: Spread
    ratio: Spread

    @property
    def is_met(self) -> bool:
        if self.measure.better == "lower":
            return self.ratio.median <= self.measure.goal
        return self.ratio.median >= self.measure.goal


class RowResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    what: str
    reference: str
    compared: list[Compared]
    ours: list[Sample]
    references: list[Sample]
    seconds: float
    others_share: float
    """Of the machine's CPU time during the row, what went to processes that have nothing to do with it."""


class Machine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    cores: int
    processor: str
    memory_gb: float
    kernel: str
    python: str
    versions: dict[str, str]


class Results(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    began_at: str
    """RFC 3339, UTC."""
    repeats: int
    is_quick: bool
    machine: Machine
    rows: list[RowResult]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        return msgspec.json.decode(path.read_bytes(), type=cls)


def compare(measures: tuple[Measure, ...], ours: list[Sample], references: list[Sample]) -> list[Compared]:
    """Each measure's medians and spreads; sample i of one list and sample i of the other were taken one after the other."""
    return [
        Compared(
            measure=measure,
            ours=Spread.of([sample.values[measure.name] for sample in ours]),
            reference=Spread.of([sample.values[measure.name] for sample in references]),
            ratio=Spread.of(
                [
                    mine.values[measure.name] / theirs.values[measure.name]
                    for mine, theirs in zip(ours, references, strict=True)
                ]
            ),
        )
        for measure in measures
    ]
