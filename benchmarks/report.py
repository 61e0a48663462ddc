"""Results as a table for people: on the terminal, and in docs/performance.md."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.results import Compared, Measure, Results, Spread

DISTURBED: Final = 0.1
"""More of the machine's CPU time than this that went to others makes a row provisional."""


def show(results: Results, console: Console) -> None:
    table = Table(title="chatrelay against its references", show_lines=True)
    for heading in ("row", "ours", "reference", "ratio (least–most)", "goal", ""):
        table.add_column(heading)
    for row in results.rows:
        for compared in row.compared:
            table.add_row(
                f"{row.what}\n[dim]{row.reference}[/dim]",
                _spread(compared.ours, compared.measure.unit),
                _spread(compared.reference, compared.measure.unit),
                _ratio(compared),
                _goal(compared.measure),
                "[green]met[/green]" if compared.is_met else "[red]missed[/red]",
            )
    console.print(table)
    for row in results.rows:
        if row.others_share > DISTURBED:
            console.print(f"{row.name}: others took {row.others_share:.0%} of the machine meanwhile")


def _spread(spread: Spread, unit: str) -> str:
    return f"{_number(spread.median)} {unit} ({_number(spread.least)}–{_number(spread.most)})"


def _ratio(compared: Compared) -> str:
    ratio = compared.ratio
    return f"{_number(ratio.median)} × ({_number(ratio.least)}–{_number(ratio.most)})"


def _goal(measure: Measure) -> str:
    return f"{'≤' if measure.better == 'lower' else '≥'} {measure.goal:g} ×"


def _number(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
