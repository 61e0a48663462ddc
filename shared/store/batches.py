"""Batches as operators see them: explained, started, paused, resumed, stopped, reported."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from shared.batches import (
    CANCELLED,
    POISON_AFTER,
    STUCK_AFTER_S,
    Batch,
    BatchFilter,
    BatchItem,
    BatchReport,
    Counts,
    End,
    Explanation,
    SkipReason,
)
from shared.errors import BatchOver, IdempotencyMismatch, NotFound
from shared.lifecycle import UNFINISHED, BatchStatus, ItemState, MessageStatus, Role
from shared.models import Batch as BatchRow
from shared.models import BatchItem as ItemRow
from shared.models import Message
from shared.store.messages import Idempotency
from shared.store.transactions import Transactions
from shared.store.turn_statements import CLAIMABLE

_AT_ONCE: Final = 10_000
"""Items that one statement makes, so that it is done within the time that a statement has."""
_IN_BATCH: Final = "in_batch"
UNFINISHED_ITEM: Final = ItemRow.state.in_((ItemState.WAITING, ItemState.SENT))

ITEM_COLUMNS: Final[tuple[Any, ...]] = tuple(getattr(ItemRow, name) for name in BatchItem.__struct_fields__)


class BatchStore(Transactions):
    def explain_batch(self, wanted: BatchFilter) -> Explanation:
        """What a batch of `wanted` would be made of, and what else comes near it and why it would not be taken."""
        reason = _reason(wanted).label("reason")
        query = (
            select(reason, Message.error_code, Message.model, func.count().label("items"))
            .where(*_near(wanted))
            .group_by(reason, Message.error_code, Message.model)
        )
        by_code: Counter[str] = Counter()
        by_model: Counter[str] = Counter()
        excluded: Counter[str] = Counter()
        with self._moment() as connection:
            for row in connection.execute(query):
                if row.reason is not None:
                    excluded[row.reason] += row.items
                    continue
                by_code[row.error_code or wanted.status.value] += row.items
                by_model[row.model or ""] += row.items
            if wanted.status not in UNFINISHED:
                for state, count in _went_on(connection, wanted):
                    excluded[state] += count
        return Explanation(
            matched=by_model.total(), by_code=dict(by_code), by_model=dict(by_model), excluded=dict(excluded)
        )

    def start_batch(
        self, wanted: BatchFilter, *, rate: float | None, asked_by: str, idempotency: Idempotency | None = None
    ) -> tuple[Batch, int]:
        """A batch of all that match, and how many those are; what is in an unfinished batch is left to it.

        The same key and body of the same asker answer the same batch again. Raises `IdempotencyMismatch`.
        """
        with self._transaction() as connection:
            made = connection.execute(
                upsert(BatchRow)
                .values(
                    status=BatchStatus.RUNNING,
                    filter=msgspec.to_builtins(wanted),
                    rate=rate,
                    asked_by=asked_by,
                    idempotency_key=None if idempotency is None else idempotency.key,
                    body_sha256=None if idempotency is None else idempotency.body_sha256,
                )
                .on_conflict_do_nothing(index_elements=["asked_by", "idempotency_key"])
                .returning(BatchRow.id)
            ).scalar_one_or_none()
            if made is not None:
                _fill(connection, made, wanted)
            else:
                assert idempotency is not None
                known = connection.execute(
                    select(BatchRow.id, BatchRow.body_sha256).where(
                        BatchRow.asked_by == asked_by, BatchRow.idempotency_key == idempotency.key
                    )
                ).one()
                if known.body_sha256 != idempotency.body_sha256:
                    raise IdempotencyMismatch
                made = known.id
            matched = connection.execute(
                select(func.count()).where(
                    ItemRow.batch_id == made, func.coalesce(ItemRow.reason, "") != SkipReason.POISON
                )
            ).scalar_one()
            return _batches(connection, [_row(connection, made)])[0], matched

    def change_batch(self, batch_id: UUID, status: BatchStatus) -> Batch:
        """Pause a batch, let it go on, or stop it; to ask for what it is already changes nothing.

        What was sent goes on in any case. Stopped, the rest is skipped. Raises `NotFound`, `BatchOver`.
        """
        with self._transaction() as connection:
            row = connection.execute(
                select(BatchRow.__table__).where(BatchRow.id == batch_id).with_for_update()
            ).one_or_none()
            if row is None:
                raise NotFound
            if row.status is not status:
                if row.status in (BatchStatus.STOPPED, BatchStatus.DONE):
                    raise BatchOver
                connection.execute(
                    update(BatchRow)
                    .where(BatchRow.id == batch_id)
                    .values(status=status, paced_at=func.clock_timestamp())
                )
                if status is BatchStatus.STOPPED:
                    connection.execute(
                        update(ItemRow)
                        .where(ItemRow.batch_id == batch_id, ItemRow.state == ItemState.WAITING)
                        .values(state=ItemState.SKIPPED, reason=SkipReason.STOPPED, ended_at=func.now())
                    )
            return _batches(connection, [_row(connection, batch_id)])[0]

    def batches(self, *, limit: int, before: UUID | None = None) -> tuple[list[Batch], UUID | None]:
        """A page of all batches, newest first, and the next page's `before`."""
        query = select(BatchRow.__table__).order_by(BatchRow.id.desc()).limit(limit + 1)
        if before is not None:
            query = query.where(BatchRow.id < before)
        with self._moment() as connection:
            rows = connection.execute(query).all()
            page = _batches(connection, rows[:limit])
        return page, page[-1].id if len(rows) > limit else None

    def batch(self, batch_id: UUID) -> BatchReport:
        """A batch and what became of its items. Raises `NotFound`."""
        with self._moment() as connection:
            found = _batches(connection, [_row(connection, batch_id)])[0]
            ends = connection.execute(
                select(ItemRow.state, ItemRow.first_code, ItemRow.code, ItemRow.reason, func.count().label("items"))
                .where(ItemRow.batch_id == batch_id)
                .group_by(ItemRow.state, ItemRow.first_code, ItemRow.code, ItemRow.reason)
                .order_by(ItemRow.state, ItemRow.first_code, ItemRow.code, ItemRow.reason)
            )
            told = [
                End(state=row.state, first_code=row.first_code, code=row.code, reason=row.reason, count=row.items)
                for row in ends
            ]
        return BatchReport(**msgspec.structs.asdict(found), ends=told)

    def batch_items(
        self, batch_id: UUID, *, limit: int, state: ItemState | None = None, before: UUID | None = None
    ) -> tuple[list[BatchItem], UUID | None]:
        """A page of a batch's items, the newest message first, and the next page's `before`. Raises `NotFound`."""
        query = select(*ITEM_COLUMNS).where(ItemRow.batch_id == batch_id)
        if state is not None:
            query = query.where(ItemRow.state == state)
        if before is not None:
            query = query.where(ItemRow.message_id < before)
        with self._moment() as connection:
            _row(connection, batch_id)
            rows = connection.execute(query.order_by(ItemRow.message_id.desc()).limit(limit + 1)).all()
        page = [BatchItem(**row._mapping) for row in rows[:limit]]
        return page, page[-1].message_id if len(rows) > limit else None


# --- which messages ---------------------------------------------------------------------------------------------


def _near(wanted: BatchFilter) -> list[ColumnElement[bool]]:
    """The assistant's messages of the status, the time, the project and the model."""
    return [Message.status == wanted.status, *_beside_status(wanted)]


def _beside_status(wanted: BatchFilter) -> list[ColumnElement[bool]]:
    at = Message.enqueued_at if wanted.status in UNFINISHED else Message.updated_at
    found: list[ColumnElement[bool]] = [Message.role == Role.ASSISTANT]
    if wanted.since is not None:
        found.append(at >= wanted.since)
    if wanted.until is not None:
        found.append(at < wanted.until)
    if wanted.project is not None:
        found.append(Message.project_id == wanted.project)
    if wanted.model is not None:
        found.append(Message.model == wanted.model)
    if wanted.messages is not None:
        found.append(Message.id.in_(wanted.messages))
    return found


def _reason(wanted: BatchFilter) -> ColumnElement[str | None]:
    """Why a message that is near is not taken; null where it is."""
    reasons: list[tuple[ColumnElement[bool], str]] = []
    if wanted.code is not None:
        reasons.append((Message.error_code.is_distinct_from(wanted.code), "other_code"))
    in_batch = exists().where(ItemRow.message_id == Message.id, UNFINISHED_ITEM)
    reasons.append((in_batch, _IN_BATCH))
    if wanted.status in UNFINISHED:
        waited = func.greatest(Message.enqueued_at, Message.updated_at)
        reasons += [
            (Message.lease_owner.is_not(None), "held"),
            (Message.cancel_requested_at.is_not(None), "cancelling"),
            (waited > func.now() - timedelta(seconds=STUCK_AFTER_S), "recent"),
        ]
        if wanted.status is MessageStatus.PENDING:
            reasons.append((~CLAIMABLE, "in_line"))
    elif not wanted.include_poison:
        reasons.append((_failures() >= POISON_AFTER, SkipReason.POISON.value))
    return case(*reasons)


def _failures() -> Any:
    """In how many batches a message's run failed."""
    return (
        select(func.count())
        .select_from(ItemRow)
        .where(
            ItemRow.message_id == Message.id,
            ItemRow.run == Message.run,
            ItemRow.state == ItemState.FAILED,
            ItemRow.code != CANCELLED,
        )
        .correlate(Message)
        .scalar_subquery()
    )


def _went_on(connection: Connection, wanted: BatchFilter) -> list[tuple[str, int]]:
    """Messages that are unfinished now, and those that failed in a batch and have succeeded since."""
    running = select(func.count()).where(Message.status.in_(UNFINISHED), *_beside_status(wanted))
    succeeded = select(func.count()).where(
        # from the items, which are few
        Message.id.in_(select(ItemRow.message_id).where(ItemRow.state == ItemState.FAILED)),
        Message.status == MessageStatus.SUCCESS,
        *_beside_status(wanted),
    )
    counted = [
        (SkipReason.RUNNING.value, connection.execute(running).scalar_one()),
        (SkipReason.SUCCEEDED.value, connection.execute(succeeded).scalar_one()),
    ]
    return [(reason, count) for reason, count in counted if count]


def _fill(connection: Connection, batch_id: UUID, wanted: BatchFilter) -> None:
    """Make the batch's items: what waits, and poison, which is set aside and reported."""
    reason = _reason(wanted)
    found = (
        select(
            Message.id,
            Message.project_id,
            Message.model,
            Message.error_code,
            Message.run,
            _failures().label("tries"),
            reason.label("reason"),
        )
        .where(*_near(wanted))
        .order_by(Message.id)
        .limit(_AT_ONCE)
    )
    last: UUID | None = None
    while True:
        piece = (found if last is None else found.where(Message.id > last)).subquery()
        # of each piece the last id is asked for, also of what is not taken
        bound = connection.execute(select(piece.c.id).order_by(piece.c.id.desc()).limit(1)).scalar_one_or_none()
        if bound is None:
            return
        connection.execute(_items(piece, batch_id))
        last = bound


def _items(piece: Any, batch_id: UUID) -> Any:
    poisoned = piece.c.reason == SkipReason.POISON.value
    state_type = ItemRow.__table__.c.state.type
    rows: Select[Any] = select(
        literal(batch_id),
        piece.c.id,
        piece.c.project_id,
        piece.c.model,
        piece.c.error_code,
        piece.c.run,
        piece.c.tries,
        cast(case((poisoned, ItemState.SKIPPED.value), else_=ItemState.WAITING.value), state_type),
        piece.c.reason,
        case((poisoned, func.now())),
    ).where(or_(piece.c.reason.is_(None), poisoned))
    names = [
        "batch_id",
        "message_id",
        "project_id",
        "model",
        "first_code",
        "run",
        "tries",
        "state",
        "reason",
        "ended_at",
    ]
    return (
        upsert(ItemRow)
        .from_select(names, rows.order_by(piece.c.id))
        .on_conflict_do_nothing(index_elements=["message_id"], index_where=UNFINISHED_ITEM)
    )


# --- rows to records --------------------------------------------------------------------------------------------


def _row(connection: Connection, batch_id: UUID) -> Row[Any]:
    row = connection.execute(select(BatchRow.__table__).where(BatchRow.id == batch_id)).one_or_none()
    if row is None:
        raise NotFound
    return row


def _batches(connection: Connection, rows: Sequence[Row[Any]]) -> list[Batch]:
    counts = counted(connection, [row.id for row in rows])
    return [batch_record(row, counts[row.id]) for row in rows]


def batch_record(row: Row[Any], counts: Counts) -> Batch:
    return Batch(
        id=row.id,
        status=row.status,
        filter=msgspec.convert(row.filter, BatchFilter),
        rate=row.rate,
        asked_by=row.asked_by,
        counts=counts,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def counted(connection: Connection, batch_ids: Collection[UUID]) -> dict[UUID, Counts]:
    """The items of each batch, by their state."""
    states: dict[UUID, dict[str, int]] = defaultdict(dict)
    if batch_ids:
        rows = connection.execute(
            select(ItemRow.batch_id, ItemRow.state, func.count().label("items"))
            .where(ItemRow.batch_id.in_(batch_ids))
            .group_by(ItemRow.batch_id, ItemRow.state)
        )
        for row in rows:
            states[row.batch_id][row.state.value] = row.items
    return {batch_id: Counts(**states[batch_id]) for batch_id in batch_ids}
