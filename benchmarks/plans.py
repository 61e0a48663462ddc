"""The plans of all that the store says, in a database of a million messages: what is read for nothing is told.

python -m benchmarks plans             fills an embedded Postgres, asks everything, exits with 1 where something is bad
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.explaining import Explainer, Plan, wasteful, whole_tables
from benchmarks.filling import Filled, fill
from benchmarks.report import write_between
from benchmarks.store_calls import CALLS, Call, Place
from dev.embedded import EmbeddedPostgres
from shared import migrate
from shared.engine import make_engine

BEGIN: Final = "<!-- written by `python -m benchmarks plans` -->"
_SHOWN: Final = 1_500
"""Characters of a statement: one that names two hundred ids is long."""
_STATEMENT_TIMEOUT_S: Final = 300.0
"""A plan that takes so long is still shown; in production it is refused after 5 s."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One call of the store, and what it came to. Blocks are of 8 KiB."""

    method: str
    case: str
    statements: int
    """Those of foreign keys included."""
    blocks: int
    most_blocks: int
    """Of one statement."""
    may_touch: int
    """Blocks, of one statement."""
    complaints: list[str]
    """What it reads for nothing."""
    reads_whole: str | None
    """Why that is no fault."""

    @property
    def is_too_dear(self) -> bool:
        return self.most_blocks > self.may_touch

    @property
    def is_bad(self) -> bool:
        return self.is_too_dear or (bool(self.complaints) and self.reads_whole is None)

    @property
    def name(self) -> str:
        return f"`{self.method}`{f', {self.case}' if self.case else ''}"


class Plans(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    began_at: str
    messages: int
    asked: list[Asked]
    distinct: int
    """Statements that differ in more than their parameters."""


@contextmanager
def filled_database(messages: int) -> Iterator[tuple[Filled, Explainer]]:
    with EmbeddedPostgres.start(fsync=False) as postgres:
        migrate.upgrade(postgres.url)
        engine = make_engine(
            postgres.url, pool_size=2, application="benchmark", statement_timeout_s=_STATEMENT_TIMEOUT_S
        )
        try:
            explainer = Explainer(engine)
            yield fill(postgres.url, engine, messages=messages), explainer
        finally:
            engine.dispose()


def ask_all(place: Place, explainer: Explainer, calls: Iterable[Call] = CALLS) -> Iterator[tuple[Asked, list[Plan]]]:
    """Each call, one after the other, and what is to be said of its plans."""
    sizes = explainer.sizes()
    for call in calls:
        arguments = call.arguments(place)
        with explainer.watching() as plans:
            call.run(place, arguments)
        complaints = [complaint for plan in plans for complaint in (*whole_tables(plan, sizes), *wasteful(plan, sizes))]
        yield (
            Asked(
                method=call.method,
                case=call.what,
                statements=len(plans),
                blocks=sum(plan.blocks for plan in plans),
                most_blocks=max((plan.blocks for plan in plans), default=0),
                may_touch=call.most_blocks,
                complaints=list(dict.fromkeys(complaints)),
                reads_whole=call.reads_whole,
            ),
            plans,
        )


def plans(
    messages: Annotated[int, typer.Option(min=1_000, help="How many the database has.")] = 1_000_000,
    show: Annotated[str | None, typer.Option(help="Print the statements and the steps of this method.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write what came out into this page.", dir_okay=False)] = None,
) -> None:
    """Fill a database, ask everything that the store can be asked, and tell which plans read what they need not."""
    console, began_at = Console(), datetime.now(UTC).isoformat(timespec="seconds")
    found: list[Asked] = []
    statements: set[str] = set()
    with filled_database(messages) as (filled, explainer):
        for asked, made in ask_all(Place(filled, filled.largest), explainer):
            found.append(asked)
            statements |= {_shape(plan) for plan in made}
            if asked.method == show:
                _show(console, asked, made)
    results = Plans(began_at=began_at, messages=filled.messages, asked=found, distinct=len(statements))
    _tell(console, results)
    if page is not None:
        write_between(page, BEGIN, markdown(results))
    if any(asked.is_bad for asked in found):
        raise typer.Exit(1)


def _shape(plan: Plan) -> str:
    """A statement by what it asks, whatever its parameters: its first words and the tables and indexes that it takes."""
    head = plan.statement.partition(" WHERE ")[0].partition(" VALUES ")[0][:400]
    return f"{head} {sorted(node.relation or '' for node in plan.nodes)}"


def _show(console: Console, asked: Asked, made: list[Plan]) -> None:
    console.rule(asked.name)
    for plan in made:
        console.print(f"{plan.blocks:,} blocks, {plan.rows:,} rows: {plan.statement[:_SHOWN]}", markup=False)
        for node in plan.nodes:
            where = " ".join(filter(None, (node.relation, node.by)))
            console.print(
                f"    {node.kind} {where}: {node.rows:,} rows in {node.loops:,} loops, {node.thrown_away:,} thrown away"
            )


def _tell(console: Console, results: Plans) -> None:
    table = Table(title=f"{results.messages:,} messages", show_lines=True)
    for heading in ("asked", "statements", "blocks", "most of one", "what is read for nothing"):
        table.add_column(heading)
    for asked in results.asked:
        dear = [f"more blocks than {asked.may_touch:,}"] if asked.is_too_dear else []
        told = "; ".join([*asked.complaints, *dear]) if asked.is_bad else f"[dim]{asked.reads_whole or ''}[/dim]"
        colour = "[red]" if asked.is_bad else ""
        name = f"{asked.method} {asked.case}"
        table.add_row(
            f"{colour}{name}", str(asked.statements), f"{asked.blocks:,}", f"{asked.most_blocks:,}", f"{colour}{told}"
        )
    console.print(table)


def markdown(results: Plans) -> str:
    methods = {asked.method for asked in results.asked}
    bad = [asked for asked in results.asked if asked.is_bad]
    lines = [
        f"{results.began_at[:10]}, {results.messages:,} messages: {len(methods)} methods of the store in "
        f"{len(results.asked)} cases, {results.distinct} statements. "
        + (f"Bad: {', '.join(asked.name for asked in bad)}." if bad else "None reads what it need not, but for these:"),
        "",
        "| asked | blocks of 8 KiB | why it may |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {asked.name} | {asked.blocks:,} | {asked.reads_whole} |"
        for asked in results.asked
        if asked.reads_whole is not None and asked.complaints
    ]
    return "\n".join(lines) + "\n"
