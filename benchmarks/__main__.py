"""The command line.

python -m benchmarks [ROW…]             measures every row, or some; --help
python -m benchmarks report RESULTS     writes what --json wrote into docs/performance.md
python -m benchmarks curve              measures costs against load and draws them; --help
python -m benchmarks plans              reads the plans of all that the store says, at a million messages; --help
python -m benchmarks growth             what the store's questions cost as messages, projects and readers grow; --help
python -m benchmarks logs               what logs take of Redis's memory, and what expiry gives back; --help
python -m benchmarks scaling            the same load on more processes; --help
python -m benchmarks paper              what a million readers need, by what was measured, into ARCHITECTURE.md
python -m benchmarks attacks            attacks a web process, and tells what others noticed; --help
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.attacks import attacks
from benchmarks.curve import curve
from benchmarks.growth import growth
from benchmarks.logs import logs
from benchmarks.machine import this_machine
from benchmarks.measuring import allow_many_files
from benchmarks.paper import paper
from benchmarks.plans import plans
from benchmarks.report import joined, show, write_into
from benchmarks.results import Results
from benchmarks.row import Bench, Row, Watch, run_row
from benchmarks.rows import ROWS
from benchmarks.scaling import scaling
from dev.procfile import ROOT
from tests.stack import StackStarter

_NAMES: Final = ", ".join(ROWS)


_PAGE: Final = ROOT / "docs" / "performance.md"


def run(
    rows: Annotated[list[str] | None, typer.Argument(help=f"Of {_NAMES}; all by default.", show_default=False)] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each side.")] = 5,
    json: Annotated[Path | None, typer.Option(help="Write what came out to this file.", dir_okay=False)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny numbers: does it run? The figures say nothing.")] = False,
) -> None:
    """Measure rows, each against its reference, in turn. Prints ratios beside the goals."""
    if unknown := set(rows or ()) - set(ROWS):
        raise typer.BadParameter(f"unknown rows {', '.join(sorted(unknown))}; there are {_NAMES}")
    results, failed = _run([ROWS[name] for name in rows or ROWS], repeats=repeats, quick=quick)
    show(results, Console())
    if json is not None:
        results.write(json)
    if failed:
        print(f"could not be measured: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


def _run(rows: list[Row], *, repeats: int, quick: bool) -> tuple[Results, list[str]]:
    """What came out, and the names of the rows that broke; those are reported, and the others go on."""
    began_at = datetime.now(UTC).isoformat(timespec="seconds")
    found, failed = [], []
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task("", total=None)
        for row in rows:
            try:
                with StackStarter() as stacks:
                    bench = Bench(stacks=stacks, is_quick=quick)
                    found.append(run_row(row, bench, repeats=repeats, watch=_shown(progress, task)))
            except Exception:
                progress.console.print_exception(max_frames=12)
                failed.append(row.name)
    machine = this_machine()
    return Results(began_at=began_at, repeats=repeats, is_quick=quick, machine=machine, rows=found), failed


def _shown(progress: Progress, task: TaskID) -> Watch:
    return lambda what, done, of: progress.update(task, description=what, completed=done, total=of)


def report(
    results: Annotated[
        list[Path], typer.Argument(help="What `--json` wrote; of a row in several, the last.", exists=True)
    ],
    page: Annotated[Path, typer.Option(help="The page that gets the table.", dir_okay=False)] = _PAGE,
) -> None:
    """Write results into the page, between its two marks, and keep them beside it as JSON; what follows from them too."""
    found = joined([Results.read(path) for path in results])
    write_into(page, found)
    found.write(page.with_suffix(".json"))
    if page == _PAGE:
        paper()


def main() -> None:
    # whoever ends it wants its processes ended too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    allow_many_files()
    others: dict[str, Callable[..., None]] = {
        "report": report,
        "curve": curve,
        "plans": plans,
        "growth": growth,
        "logs": logs,
        "scaling": scaling,
        "paper": paper,
        "attacks": attacks,
    }
    command = others.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if command is not None:
        del sys.argv[1]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command or run)
    app()


if __name__ == "__main__":
    main()
