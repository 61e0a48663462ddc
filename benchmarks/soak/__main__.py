"""The command line."""

from __future__ import annotations

import secrets
import signal
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.soak.faults import KINDS
from benchmarks.soak.recording import SavedRecording
from benchmarks.soak.report import show
from benchmarks.soak.run import ARTIFACTS, Options, Step, soak

_FAILED: Final = 1
_KINDS: Final = ",".join(KINDS)


def main(
    messages: Annotated[int, typer.Option(min=1, help="To be sent, if the time suffices.")] = 500,
    seed: Annotated[int | None, typer.Option(help="Repeats what people and faults do; random by default.")] = None,
    minutes: Annotated[float, typer.Option(help="Nothing is sent after so many.")] = 15.0,
    readers: Annotated[int, typer.Option(min=1, help="Of each message.")] = 4,
    people: Annotated[int, typer.Option(min=1, help="Who send messages, all at once.")] = 40,
    chunks: Annotated[int, typer.Option(min=1, help="Pieces of a usual answer.")] = 36,
    faults: Annotated[str, typer.Option(help=f"Of {_KINDS}; empty: none.")] = _KINDS,
    short_leases: Annotated[
        bool, typer.Option("--short-leases/--default-leases", help="Leases of 2 s, or of the default 10 s.")
    ] = True,
    builders: Annotated[int, typer.Option(min=0, help="Builders; with none no components are asked for.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON.")] = False,
    artifacts: Annotated[Path, typer.Option(help="Where recordings of offending readers go.")] = ARTIFACTS,
    check: Annotated[Path | None, typer.Option(help="Only check a recording that was saved.", dir_okay=False)] = None,
) -> None:
    """Run everything on this machine, use it, let it fail, and see whether the promises held. Exits 1 where not."""
    if check is not None:
        reason = SavedRecording.read(check).check()
        print(reason or "nothing is wrong with it")
        raise typer.Exit(_FAILED if reason else 0)
    kinds = tuple(filter(None, faults.split(",")))
    if unknown := set(kinds) - set(KINDS):
        raise typer.BadParameter(f"unknown faults {', '.join(sorted(unknown))}; there are {_KINDS}")
    options = Options(
        messages=messages,
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        minutes=minutes,
        readers=readers,
        people=people,
        chunks=chunks,
        kinds=kinds,
        short_leases=short_leases,
        builders=builders,
        artifacts=artifacts,
    )
    # whoever ends it wants its processes ended too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True)
    console.print(f"soak: seed {options.seed}")
    with _progress(console) as progress:
        task = progress.add_task("starting", total=messages, note="")
        report = soak(options, watch=lambda step: _show(progress, task, step))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    else:
        show(report, Console())
    raise typer.Exit(0 if report.is_good else _FAILED)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
    )


def _show(progress: Progress, task: TaskID, step: Step) -> None:
    progress.update(task, description=step.doing, completed=step.done, total=step.of, note=step.note)


if __name__ == "__main__":
    typer.run(main)
