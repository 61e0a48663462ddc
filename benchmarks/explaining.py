"""How Postgres carries out what the store says: the plan of each statement, as it was run, with the blocks that it touched.

Postgres tells by itself (`auto_explain`), so that nothing is run twice, the parameters are the real ones, and what foreign
keys ask is told too. Blocks of 8 KiB that were touched say what a statement costs on any machine, however busy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Engine, event, text

_SETTINGS: Final = {
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
    "auto_explain.log_min_duration": "0",
    "client_min_messages": "notice",
}
_TOLD: Final = re.compile(r"NOTICE:  duration: [\d.]+ ms  plan:\n(.*)", re.DOTALL)
BIG_BLOCKS: Final = 128
"""A table that takes more is not read as a whole without a reason."""
MANY_ROWS: Final = 1_500
"""So many rows that were read for nothing are not many yet."""
WASTE: Final = 50
"""Rows read for each that is given. A project that has a tenth of all messages may be read from all, newest first."""


class Node(NamedTuple):
    """One step of a plan."""

    kind: str
    relation: str | None
    by: str | None
    """The index that it takes."""
    rows: int
    """That it gave, in all its loops."""
    thrown_away: int
    """That it read, and gave not."""
    loops: int


class Plan(NamedTuple):
    """Of one statement, as it was run."""

    statement: str
    blocks: int
    """Touched in all: hits of the buffer cache and reads."""
    rows: int
    nodes: tuple[Node, ...]


class Size(NamedTuple):
    blocks: int
    rows: int

    @property
    def is_big(self) -> bool:
        return self.blocks > BIG_BLOCKS


class Explainer:
    """Everything that `engine` is asked within `watching`."""

    def __init__(self, engine: Engine) -> None:
        self._told: list[Plan] | None = None
        self._engine = engine
        event.listen(engine, "connect", self._prepare)
        engine.dispose()  # connections that were opened before would tell nothing

    @contextmanager
    def watching(self) -> Iterator[list[Plan]]:
        plans: list[Plan] = []
        self._told = plans
        try:
            yield plans
        finally:
            self._told = None

    def append(self, notice: str) -> None:
        """As psycopg2 hands over what the server tells beside its answers."""
        told = _TOLD.fullmatch(notice)
        if told is not None and self._told is not None:
            self._told.append(plan_of(msgspec.json.decode(told[1])))

    def _prepare(self, connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("LOAD 'auto_explain'")
            for name, value in _SETTINGS.items():
                cursor.execute(f"SET {name} = {value}")
        connection.commit()
        connection.notices = self

    def sizes(self) -> dict[str, Size]:
        """Of each table, as the statistics have it."""
        query = (
            "SELECT relname, relpages, reltuples FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        with self._engine.connect() as connection:
            return {row.relname: Size(row.relpages, int(row.reltuples)) for row in connection.execute(text(query))}


def plan_of(told: Mapping[str, Any]) -> Plan:
    top = told["Plan"]
    nodes = tuple(_nodes(top))
    return Plan(
        statement=" ".join(told["Query Text"].split()),
        blocks=top.get("Shared Hit Blocks", 0) + top.get("Shared Read Blocks", 0),
        rows=nodes[0].rows,
        nodes=nodes,
    )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Node]:
    loops = int(plan.get("Actual Loops", 1))
    thrown = sum(float(value) for name, value in plan.items() if name.startswith("Rows Removed by"))
    yield Node(
        kind=plan["Node Type"],
        relation=plan.get("Relation Name"),
        by=plan.get("Index Name"),
        rows=round(float(plan.get("Actual Rows", 0)) * loops),
        thrown_away=round(thrown * loops),
        loops=loops,
    )
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def whole_tables(plan: Plan, sizes: Mapping[str, Size]) -> list[str]:
    """Big tables that it reads from end to end."""
    return [
        f"reads all of {node.relation}"
        for node in plan.nodes
        if node.kind == "Seq Scan"
        and (size := sizes.get(node.relation or "")) is not None
        and size.is_big
        and 2 * (node.rows + node.thrown_away) > size.rows * node.loops
    ]


def wasteful(plan: Plan, sizes: Mapping[str, Size]) -> list[str]:
    """Steps that read many times the rows that they give; of a small table all may be read."""
    return [
        f"{node.kind} on {node.relation}{f' by {node.by}' if node.by else ''}: {node.thrown_away:,} rows read for "
        f"nothing, {node.rows:,} given"
        for node in plan.nodes
        if (size := sizes.get(node.relation or "")) is not None
        and (size.is_big or node.kind != "Seq Scan")
        and node.thrown_away > MANY_ROWS
        and node.thrown_away > WASTE * node.rows
    ]
