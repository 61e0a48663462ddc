"""What came out of a soak, as a table for people and as JSON for programs."""

from __future__ import annotations

from typing import Final

import msgspec
from rich.console import Console, Group
from rich.table import Table


class Recovery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Seconds from a killed worker to the next attempt's first event."""

    count: int
    p50_s: float | None
    p99_s: float | None
    most_s: float | None


class FoundViolation(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    kind: str
    what: str
    saved: str | None = None
    """The file with the offending reader's recording."""


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    seed: int
    lease_s: float
    seconds: float
    """From the first submit to the last reader's end."""
    messages: int
    """Acknowledged."""
    statuses: dict[str, int]
    runs: int
    attempts: int
    faults: dict[str, int]
    lost: int
    """Acknowledged, and not final at the end."""
    stuck: int
    """Left unfinished, held or without the end of their log; readers that did not come to the end."""
    doubled: int
    """Readers that had an event twice, and effects that happened twice."""
    trace_violations: int
    other_violations: int
    """Wrong answers, effects that disagree, what was left behind, processes that did not end."""
    effects: int
    document_versions: int
    document_items: int
    readers: int
    reader_events: int
    reconnects: int
    recovery: Recovery
    messages_per_s: float
    events_per_s: float
    rss_mb: dict[str, tuple[float, float]]
    """Of each process: soon after the start, and at the end or before its last restart."""
    restarts: dict[str, int]
    """Processes that ended without being hurt."""
    answers: dict[str, int]
    violations: list[FoundViolation]

    @property
    def is_good(self) -> bool:
        return not self.violations


_MOST_SHOWN: Final = 20


def show(report: Report, console: Console) -> None:
    """The table, and each violation with what finds it again."""
    table = Table(title=f"soak, seed {report.seed}", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _lines(report):
        table.add_row(name, value)
    console.print(Group(table))
    for violation in report.violations[:_MOST_SHOWN]:
        saved = f"\n    saved as {violation.saved}" if violation.saved else ""
        console.print(f"VIOLATION ({violation.kind}, seed {report.seed}): {violation.what}{saved}", markup=False)
    if len(report.violations) > _MOST_SHOWN:
        console.print(f"and {len(report.violations) - _MOST_SHOWN} more")


def _lines(report: Report) -> list[tuple[str, str]]:
    recovery = report.recovery
    return [
        ("messages", f"{report.messages} ({_counted(report.statuses)})"),
        ("runs, attempts", f"{report.runs}, {report.attempts}"),
        ("faults", f"{sum(report.faults.values())} ({_counted(report.faults)})"),
        ("lost", str(report.lost)),
        ("stuck", str(report.stuck)),
        ("doubled", str(report.doubled)),
        ("trace violations", str(report.trace_violations)),
        ("other violations", str(report.other_violations)),
        (
            "effects",
            f"{report.effects} in the ledger = {report.document_versions} versions = {report.document_items} items",
        ),
        ("readers", f"{report.readers}, {report.reader_events} events, {report.reconnects} reconnects"),
        (
            "killed worker → next attempt",
            f"p50 {_seconds(recovery.p50_s)}, p99 {_seconds(recovery.p99_s)}, most {_seconds(recovery.most_s)}"
            f" of {recovery.count} messages (lease {report.lease_s:g} s)",
        ),
        (
            "throughput",
            f"{report.messages_per_s:.1f} messages/s, {report.events_per_s:.0f} reader events/s in {report.seconds:.0f} s",
        ),
        ("memory, MB", ", ".join(f"{name} {first:.0f} → {last:.0f}" for name, (first, last) in report.rss_mb.items())),
        ("ended by themselves", _counted(report.restarts) or "none"),
    ]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
