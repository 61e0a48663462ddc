"""`chatrelay reprocess`: messages that failed, were cancelled or are stuck are answered again, as a batch.

The batch is a row that sweepers drive: this command starts it and watches it, and may go and come back.
"""

from __future__ import annotations

import getpass
import socket
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final, NoReturn, TypeVar
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ops.surroundings import FAILED, leave, moment, with_store
from shared import batches
from shared.batches import BatchFilter, BatchReport, Counts, Explanation
from shared.errors import BatchOver, NotFound
from shared.lifecycle import BatchStatus, ErrorCode, ItemState, MessageStatus
from shared.store import Store

FAILED_AGAIN: Final = 3
"""Some messages failed again."""
INTERRUPTED: Final = 130
"""As a shell says of a program that Ctrl-C ended."""
_T = TypeVar("_T")
_LOOK_S: Final = 0.5
_SWEEPERS_SILENT_S: Final = 10.0


class _Status(StrEnum):
    ERROR = "error"
    CANCELLED = "cancelled"
    PENDING = "pending"
    BUILDING = "building"


class _DryRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the API answers to a dry run."""

    batch_id: None = None
    matched: int
    explanation: Explanation


def reprocess(
    status: Annotated[
        _Status | None, typer.Option(help="Of the messages; pending and building find stuck ones.")
    ] = None,
    code: Annotated[ErrorCode | None, typer.Option(help="Only messages that failed so.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="Ended since: 10m, 2h, or a time as 2026-01-31T12:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="T", help="Ended before.")] = None,
    project: Annotated[UUID | None, typer.Option(help="Of one project.")] = None,
    model: Annotated[str | None, typer.Option(help="Of one model.")] = None,
    include_poison: Annotated[
        bool, typer.Option("--include-poison", help=f"Also what failed in {batches.POISON_AFTER} batches.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    rate: Annotated[str | None, typer.Option(metavar="RATE", help="At most so fast: 5/s, 90/m.")] = None,
    batch: Annotated[UUID | None, typer.Option(help="Watch a batch that was started before.")] = None,
    pause: Annotated[UUID | None, typer.Option(help="Begin no further message of a batch.")] = None,
    resume: Annotated[UUID | None, typer.Option(help="Let a paused batch go on.")] = None,
    stop: Annotated[UUID | None, typer.Option(help="End a batch; what was sent goes on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, and no progress.")] = False,
) -> None:
    """Answer messages again that failed, were cancelled or are stuck. Exits 3 where some failed again."""
    for batch_id, wanted in ((pause, BatchStatus.PAUSED), (resume, BatchStatus.RUNNING), (stop, BatchStatus.STOPPED)):
        if batch_id is not None:
            _change(batch_id, wanted, as_json=as_json)
    if batch is None:
        chosen = _filter(status, code, since, until, project, model, include_poison)
        speed = None if rate is None else _rate(rate)
        if dry_run:
            _explain(with_store(lambda store: store.explain_batch(chosen)), as_json=as_json)
            return
        made, matched = with_store(
            lambda store: store.start_batch(chosen, rate=speed, asked_by=_operator(), idempotency=None)
        )
        batch = made.id
        if not as_json:
            print(f"batch {batch}: {matched} messages", flush=True)
    report = _watched(batch, as_json=as_json)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _show(report)
    raise typer.Exit(FAILED_AGAIN if report.counts.failed else 0)


# --- what was asked for -----------------------------------------------------------------------------------------


def _filter(
    status: _Status | None,
    code: ErrorCode | None,
    since: str | None,
    until: str | None,
    project: UUID | None,
    model: str | None,
    include_poison: bool,
) -> BatchFilter:
    if status is None:
        raise typer.BadParameter("needed, unless a batch is named by --batch or the like", param_hint="--status")
    if code is not None and status is not _Status.ERROR:
        raise typer.BadParameter("only messages whose status is error have one", param_hint="--code")
    begins = None if since is None else moment(since, option="--since")
    ends = None if until is None else moment(until, option="--until")
    if begins is not None and ends is not None and ends <= begins:
        raise typer.BadParameter("must be after --since", param_hint="--until")
    return BatchFilter(
        status=MessageStatus(status.value),
        code=code,
        since=begins,
        until=ends,
        project=project,
        model=model,
        include_poison=include_poison,
    )


def _rate(text: str) -> float:
    try:
        return batches.rate_per_s(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--rate") from None


def _operator() -> str:
    """Who asks, as the machine knows them."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "nobody"  # a container's user that has no name
    return f"{name}@{socket.gethostname()}"


def _change(batch_id: UUID, wanted: BatchStatus, *, as_json: bool) -> NoReturn:
    changed = with_store(lambda store: _known(lambda: store.change_batch(batch_id, wanted)))
    print(msgspec.json.encode(changed).decode() if as_json else f"batch {batch_id}: {changed.status}")
    raise typer.Exit


def _known(act: Callable[[], _T]) -> _T:
    """What `act` answers of a batch; leaves with a word where there is none, or it is over."""
    try:
        return act()
    except NotFound:
        leave("there is no such batch", FAILED)
    except BatchOver as error:
        leave(error.detail, FAILED)


# --- watching ---------------------------------------------------------------------------------------------------


def _watched(batch_id: UUID, *, as_json: bool) -> BatchReport:
    """The batch once nothing of it is unfinished."""
    try:
        return with_store(lambda store: _until_over(store, batch_id, as_json=as_json))
    except KeyboardInterrupt:
        print(
            f"\nThe batch goes on. chatrelay reprocess --batch {batch_id} watches it again;"
            f" --pause {batch_id} holds it, --stop {batch_id} ends it.",
            file=sys.stderr,
        )
        raise typer.Exit(INTERRUPTED) from None


def _until_over(store: Store, batch_id: UUID, *, as_json: bool) -> BatchReport:
    report = _known(lambda: store.batch(batch_id))
    console = Console()
    if as_json or not console.is_terminal:
        seen: Counts | None = None
        while report.ended_at is None:
            if report.counts != seen and not as_json:
                print(_line(report), flush=True)
            seen = report.counts
            time.sleep(2 * _LOOK_S)
            report = store.batch(batch_id)
        return report
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=report.counts.total, note="")
        while report.ended_at is None:
            progress.update(task, description=report.status, completed=report.counts.ended, note=_note(store, report))
            time.sleep(_LOOK_S)
            report = store.batch(batch_id)
    return report


def _line(report: BatchReport) -> str:
    counts = msgspec.to_builtins(report.counts)
    return f"{report.status}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _note(store: Store, report: BatchReport) -> str:
    silent_s = store.sweepers_silent_s()
    if silent_s is None or silent_s > _SWEEPERS_SILENT_S:
        return "no sweeper runs, which would drive it"
    return f"{report.counts.failed} failed again" if report.counts.failed else ""


# --- what came of it --------------------------------------------------------------------------------------------


def _explain(told: Explanation, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(_DryRun(matched=told.matched, explanation=told)).decode())
        return
    title = f"{told.matched:,} messages would be answered again"
    if not told.matched and not told.excluded:
        print(title)
        return
    table = Table(title=Text(title, no_wrap=True))
    table.add_column("messages", justify="right")
    table.add_column("which")
    for kind, counts in (("code", told.by_code), ("model", told.by_model), ("left alone", told.excluded)):
        table.add_section()
        for name, count in sorted(counts.items(), key=lambda pair: -pair[1]):
            table.add_row(str(count), f"{kind}: {name}")
    Console().print(table)


def _show(report: BatchReport) -> None:
    table = Table(title=f"batch {report.id}: {report.status}")
    for name in ("found as", "became", "code"):
        table.add_column(name)
    table.add_column("messages", justify="right")
    for end in report.ends:
        found = end.first_code or report.filter.status.value
        table.add_row(found, end.state.value, end.code or end.reason or "", str(end.count))
    Console().print(table)
    if any(end.state is ItemState.SKIPPED and end.reason == batches.SkipReason.POISON for end in report.ends):
        print("What failed in too many batches was set aside; --include-poison tries it again.")
