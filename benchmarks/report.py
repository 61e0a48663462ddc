"""Results as a table for people: on the terminal, and in docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.results import Compared, Machine, Measure, Results, RowResult, Spread
from benchmarks.rows import ROWS

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


BEGIN: Final = "<!-- written by `python -m benchmarks report` -->"
END: Final = "<!-- until here -->"


def write_into(path: Path, results: Results) -> None:
    """Put the results between the two marks of a Markdown file. Raises `ValueError` where they are not there."""
    write_between(path, BEGIN, markdown(results))


def write_between(path: Path, begin: str, written: str) -> None:
    """Put a text between a mark of its own and the next `END`. Raises `ValueError` where they are not there."""
    text = path.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{path} lacks the lines {begin} and {END}")
    path.write_text(f"{before}{begin}\n\n{written}\n{END}{after}", encoding="utf-8")


def joined(several: Sequence[Results]) -> Results:
    """All rows, in the table's order; of one that is in several, the last. What is said of the whole is the last one's."""
    rows = {row.name: row for results in several for row in results.rows}
    return msgspec.structs.replace(several[-1], rows=[rows[name] for name in ROWS if name in rows])


def markdown(results: Results) -> str:
    repeats = sorted({len(row.ours) for row in results.rows})
    lines = [
        f"Measured {results.began_at[:10]}, {_range(repeats)} repeats of each side, on {machine_line(results.machine)}.",
        "The first number is the median; the least and the most stand in brackets.",
        "",
        "| row | what | reference | ours | the reference's | ratio | goal | met |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results.rows:
        for compared in row.compared:
            measure = compared.measure
            cells = [
                f"`{row.name}`",
                row.what if len(row.compared) == 1 else f"{row.what}: {measure.name}",
                row.reference,
                _spread(compared.ours, measure.unit),
                _spread(compared.reference, measure.unit),
                f"**{_ratio(compared)}**",
                _goal(measure),
                ("yes" if compared.is_met else "no") + ("" if row.others_share <= DISTURBED else ", provisional"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    disturbed = [row for row in results.rows if row.others_share > DISTURBED]
    if disturbed:
        shares = ", ".join(f"`{row.name}` {row.others_share:.0%}" for row in disturbed)
        lines += [
            "",
            f"Provisional: processes that have nothing to do with it took of the machine meanwhile: {shares}.",
        ]
    lines += ["", "Counted beside (ours / the reference's, medians):", ""]
    lines += [f"- `{row.name}`: {_figures(row)}" for row in results.rows]
    return "\n".join(lines) + "\n"


def _range(sorted_counts: list[int]) -> str:
    return "–".join(map(str, dict.fromkeys([sorted_counts[0], sorted_counts[-1]])))


def _figures(row: RowResult) -> str:
    parts = []
    for name in dict.fromkeys([*row.ours[0].figures, *row.references[0].figures]):
        both = [
            _number(Spread.of([sample.figures[name] for sample in samples]).median)
            if name in samples[0].figures
            else "–"
            for samples in (row.ours, row.references)
        ]
        parts.append(f"{name} {' / '.join(both)}")
    return "; ".join(parts)


def machine_line(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"{machine.cores} cores of an {machine.processor}, {machine.memory_gb:g} GB, Linux {machine.kernel}, "
        f"Python {machine.python} ({versions})"
    )


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
    return f"{value:.3g}" if abs(value) >= 0.001 else "0"
