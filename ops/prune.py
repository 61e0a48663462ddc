"""`chatrelay prune`: deletes what nobody can use any more and, where it is said how old, old messages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Final

import msgspec
import typer
from rich.table import Table

from ops.surroundings import duration, print_json, print_table, waiting, with_store
from shared.store import Store
from shared.store.pruning import ALWAYS, BY_AGE, Prunable

LEAST: Final = timedelta(days=1)
"""What a user's tokens of a day are counted by must stay that long."""


class Pruned(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Rows by what they are; of a dry run those that would go."""

    older_than_s: int | None
    dry_run: bool
    pruned: dict[str, int]


def prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Also delete messages, out of reach versions and audits that are so old: 90d. At least 1d.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing, count what would go.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print {olderThanS, dryRun, pruned}.")] = False,
) -> None:
    """Delete expired tickets, used-up idempotency keys and dead tokens; with --older-than old conversations as well.

    May run at any time and be interrupted: it works in small steps, and passes over what is unfinished or in use.
    """
    age = None if older_than is None else duration(older_than, option="--older-than")
    if age is not None and age < LEAST:
        raise typer.BadParameter("at least 1d", param_hint="--older-than")
    kinds = ALWAYS if age is None else (*ALWAYS, *BY_AGE)
    done: dict[str, int] = {}

    def act(store: Store) -> None:
        with waiting("pruning") as tell:
            for kind in kinds:
                counted = 0

                def count(more: int, kind: Prunable = kind) -> None:
                    nonlocal counted
                    counted += more
                    tell(f"{kind.replace('_', ' ')}: {counted:,}")

                if dry_run:
                    count(store.count_prunable(kind, age or LEAST))
                else:
                    _prune(store, kind, age or LEAST, count)
                done[kind] = counted

    with_store(act, statement_timeout_s=60.0)
    if as_json:
        seconds = None if age is None else int(age.total_seconds())
        print_json(Pruned(older_than_s=seconds, dry_run=dry_run, pruned=done))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("would go" if dry_run else "deleted", justify="right")
    for name, rows in done.items():
        table.add_row(name.replace("_", " "), f"{rows:,}")
    print_table(table)


def _prune(store: Store, kind: Prunable, age: timedelta, count: Callable[[int], None]) -> None:
    if kind is not Prunable.MESSAGES:
        while more := store.prune(kind, age):
            count(more)
        return
    after = None
    while True:
        more, after = store.prune_messages(age, after=after)
        count(more)
        if after is None:
            return
