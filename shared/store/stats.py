"""How answers went since a moment: how many, how they ended, how long they took, what they cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Float, cast, func, select, union_all

from shared.lifecycle import FINAL, UNFINISHED, MessageStatus, Role
from shared.models import Message, Project
from shared.store.transactions import Transactions

MOST_PROJECTS: Final = 10
_TIMINGS: Final = ("queuedMs", "firstTokenMs", "totalMs")
_SHARES: Final = (0.5, 0.95, 0.99)


class _Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class StatusCount(_Figures, frozen=True, kw_only=True):
    status: MessageStatus
    code: str | None
    count: int


class Percentiles(_Figures, frozen=True, kw_only=True):
    """Of `count` answers, in milliseconds; null where there is none."""

    count: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None


class ModelFigures(_Figures, frozen=True, kw_only=True):
    model: str | None
    messages: int
    tokens: int


class ProjectFigures(_Figures, frozen=True, kw_only=True):
    id: UUID
    name: str
    messages: int
    tokens: int


class Stats(_Figures, frozen=True, kw_only=True):
    """Of answers that were asked for since `since`, retries included by their last time."""

    since: datetime
    until: datetime
    messages: int
    by_status: list[StatusCount]
    queued: Percentiles
    first_token: Percentiles
    total: Percentiles
    """Of what is final."""
    by_model: list[ModelFigures]
    projects: list[ProjectFigures]
    """Those with most answers."""


class StatsStore(Transactions):
    def stats(self, window: timedelta) -> Stats:
        """The answers of the last `window`, as of one moment."""
        with self._moment() as connection:
            until: datetime = connection.execute(select(func.now())).scalar_one()
            since = until - window
            theirs = _since(since)
            by_status = [
                StatusCount(status=row.status, code=row.error_code, count=row.found)
                for row in connection.execute(
                    select(theirs.c.status, theirs.c.error_code, func.count().label("found"))
                    .group_by(theirs.c.status, theirs.c.error_code)
                    .order_by(func.count().desc(), theirs.c.status, theirs.c.error_code)
                )
            ]
            queued, first_token, total = _percentiles(connection, theirs)
            return Stats(
                since=since.astimezone(UTC),
                until=until.astimezone(UTC),
                messages=sum(one.count for one in by_status),
                by_status=by_status,
                queued=queued,
                first_token=first_token,
                total=total,
                by_model=_by_model(connection, theirs),
                projects=_projects(connection, theirs),
            )


def _since(moment: datetime) -> Any:
    """The answers that were asked for since then: what ended since, and what is unfinished, of which each has an index.

    What was asked for since then has not ended before it.
    """
    columns = (
        Message.project_id,
        Message.status,
        Message.error_code,
        Message.model,
        Message.total_tokens,
        Message.timing,
    )
    theirs = (Message.role == Role.ASSISTANT, Message.enqueued_at >= moment)
    parts = [
        select(*columns).where(
            *theirs, Message.status.in_(FINAL), Message.status == status, Message.updated_at >= moment
        )
        for status in sorted(FINAL)
    ]
    return union_all(*parts, select(*columns).where(*theirs, Message.status.in_(UNFINISHED))).subquery()


def _tokens(theirs: Any) -> Any:
    return func.coalesce(func.sum(theirs.c.total_tokens), 0).label("tokens")


def _percentiles(connection: Connection, theirs: Any) -> list[Percentiles]:
    columns: list[Any] = []
    for name in _TIMINGS:
        value = cast(theirs.c.timing.op("->>")(name), Float)
        columns.append(func.count(value).label(f"{name}_count"))
        columns += [
            func.percentile_cont(share).within_group(value).label(f"{name}_{number}")
            for number, share in enumerate(_SHARES)
        ]
    row = connection.execute(select(*columns)).one()._mapping

    def shown(name: str, number: int) -> int | None:
        value = row[f"{name}_{number}"]
        return None if value is None else round(value)

    return [
        Percentiles(count=row[f"{name}_count"], p50_ms=shown(name, 0), p95_ms=shown(name, 1), p99_ms=shown(name, 2))
        for name in _TIMINGS
    ]


def _by_model(connection: Connection, theirs: Any) -> list[ModelFigures]:
    tokens = _tokens(theirs)
    rows = connection.execute(
        select(theirs.c.model, func.count().label("messages"), tokens)
        .group_by(theirs.c.model)
        .order_by(tokens.desc(), theirs.c.model)
    )
    return [ModelFigures(model=row.model, messages=row.messages, tokens=row.tokens) for row in rows]


def _projects(connection: Connection, theirs: Any) -> list[ProjectFigures]:
    most = (
        select(theirs.c.project_id, func.count().label("messages"), _tokens(theirs))
        .group_by(theirs.c.project_id)
        .order_by(func.count().desc(), theirs.c.project_id)
        .limit(MOST_PROJECTS)
        .subquery()
    )
    rows = connection.execute(
        select(Project.id, Project.name, most.c.messages, most.c.tokens)
        .join(most, most.c.project_id == Project.id)
        .order_by(most.c.messages.desc(), Project.id)
    )
    return [ProjectFigures(id=row.id, name=row.name, messages=row.messages, tokens=row.tokens) for row in rows]
