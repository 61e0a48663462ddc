"""`chatrelay stats`: how the answers of the last while went."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from ops.surroundings import duration, print_json, print_table, printable, with_store
from shared.store.stats import Stats


def stats(
    since: Annotated[str, typer.Option(metavar="DURATION", help="Of answers asked for since: 10m, 24h, 7d.")] = "1h",
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Answers by how they ended, how long they took, tokens by model, and the ten busiest projects."""
    window = duration(since, option="--since")
    found = with_store(lambda store: store.stats(window), statement_timeout_s=60.0)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: Stats) -> None:
    print(f"{found.messages:,} answers asked for since {found.since:%Y-%m-%d %H:%M:%S} UTC")
    if not found.messages:
        return
    print()
    ended = _table("status", "code", "answers")
    for one in found.by_status:
        ended.add_row(one.status, one.code or "", f"{one.count:,}")
    print_table(ended)
    print()
    took = _table("of what is final", "p50", "p95", "p99", "answers")
    for name, part in (("queued", found.queued), ("first token", found.first_token), ("total", found.total)):
        took.add_row(name, *map(_ms, (part.p50_ms, part.p95_ms, part.p99_ms)), f"{part.count:,}")
    print_table(took)
    print()
    models = _table("model", "answers", "tokens")
    for model in found.by_model:
        models.add_row(printable(model.model or "–"), f"{model.messages:,}", f"{model.tokens:,}")
    print_table(models)
    print()
    projects = _table("project", "name", "answers", "tokens")
    for project in found.projects:
        projects.add_row(str(project.id), printable(project.name), f"{project.messages:,}", f"{project.tokens:,}")
    print_table(projects)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        is_number = title in ("answers", "tokens", "p50", "p95", "p99")
        table.add_column(title, justify="right" if is_number else "left")
    return table


def _ms(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value} ms" if value < 10_000 else f"{value / 1000:.1f} s"
