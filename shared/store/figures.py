"""Figures of the whole system, for whoever watches it. Bounded, whatever waits: a dashboard must not slow what it shows."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Float, Text, cast, func, literal, select, union_all

from shared.lifecycle import UNFINISHED
from shared.models import Audit, Message, SweeperSign
from shared.records import Figures, QueueFigures
from shared.store.builds import build_waited_for
from shared.store.transactions import Transactions
from shared.store.turn_statements import OF_A_BATCH, WAITED_FOR

MOST_COUNTED: Final = 10_000
"""Of one kind; more are told as so many."""
INTERACTIVE: Final = "interactive"
BUILDS: Final = "builds"
BATCH: Final = "batch"


class FigureStore(Transactions):
    def figures(self) -> Figures:
        """How much is unfinished, waits to be taken, how long the sweepers have been silent, and what the last audit left: in
        one statement."""
        with self._statement() as connection:
            rows = connection.execute(_FIGURES).all()
        told: dict[tuple[str, str], Any] = {(row.kind, row.name): row for row in rows}
        silent, audit = told["sweepers", ""].seconds, told.get(("audit", ""))
        return Figures(
            unfinished={status.value: told["unfinished", status.value].count for status in sorted(UNFINISHED)},
            queues={
                name: QueueFigures(depth=told["queue", name].count, oldest_s=told["queue", name].seconds or 0.0)
                for name in (INTERACTIVE, BUILDS, BATCH)
            },
            sweepers_silent_s=silent,
            disagreements=None if audit is None else audit.count,
        )


def _line(kind: str, name: str, seconds: Any, *where: Any) -> Any:
    found = (
        select(Message.enqueued_at, Message.updated_at)
        .where(*where)
        .order_by(Message.enqueued_at)
        .limit(MOST_COUNTED)
        .subquery()
    )
    return select(
        literal(kind, Text).label("kind"),
        literal(name, Text).label("name"),
        func.count().label("count"),
        cast(seconds(found.c), Float).label("seconds"),
    ).select_from(found)


def _since_submit(found: Any) -> Any:
    return func.extract("epoch", func.clock_timestamp() - func.min(found.enqueued_at))


def _since_written(found: Any) -> Any:
    """Of a build: since it was handed over, or back."""
    return func.extract("epoch", func.clock_timestamp() - func.min(found.updated_at))


def _nothing(_: Any) -> Any:
    return literal(None, Float)


_last_audit = (
    select(Audit.disagreements_left).where(Audit.project_id.is_(None)).order_by(Audit.id.desc()).limit(1).subquery()
)
_FIGURES: Final = union_all(
    *(_line("unfinished", status.value, _nothing, Message.status == status) for status in sorted(UNFINISHED)),
    _line("queue", INTERACTIVE, _since_submit, WAITED_FOR),
    _line("queue", BATCH, _since_submit, OF_A_BATCH),
    _line("queue", BUILDS, _since_written, build_waited_for()),
    select(
        literal("sweepers", Text),
        literal("", Text),
        func.count(),
        cast(func.extract("epoch", func.clock_timestamp() - func.max(SweeperSign.swept_at)), Float),
    ).select_from(SweeperSign),
    select(literal("audit", Text), literal("", Text), _last_audit.c.disagreements_left, literal(None, Float)),
)
