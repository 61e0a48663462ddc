"""What a sweeper does to batches: note what ended, send what may be sent, ring for it.

One sweeper at a time does it; the others find the lock taken and go on. An item is marked in the transaction that puts its
message back in the queue, so that whoever is killed here leaves it either waiting or sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import (
    Connection,
    Integer,
    Row,
    Select,
    Uuid,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import aliased

from shared.batches import STILL_STUCK, STUCK_AFTER_S, Batch, BatchFilter, Bell, Sent, SkipReason
from shared.lifecycle import FINAL, UNFINISHED, BatchStatus, ItemState, MessageStatus
from shared.models import Batch as BatchRow
from shared.models import BatchItem as ItemRow
from shared.models import Message, Project
from shared.store.batches import batch_record, counted
from shared.store.messages import ITEM_END, put_back
from shared.store.rows import MESSAGE_COLUMNS, message_records, stored_rounds
from shared.store.transactions import Transactions

MOST_BATCH_BUILDS: Final = 1
"""Components of batches that are built at a time, by all builders: the others are left to people."""
_TOLD_EVERY_S: Final = 1.0
_DRIVING: Final = 0x6368_6174_6261_7463
"""The advisory lock of whoever drives batches."""
_MAY_DRIVE: Final = select(func.pg_try_advisory_xact_lock(_DRIVING))

_UNPACED: Final = BatchRow.rate.is_(None)
_PAID: Final = func.greatest(
    # what was not sent for a while is not made up for at once
    BatchRow.paced_at,
    func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, func.greatest(1.0, 1 / BatchRow.rate)),
)
_ALLOWED: Final = func.floor(
    # a pause of exactly so long is enough, whatever the arithmetic makes of it
    func.extract("epoch", func.clock_timestamp() - _PAID) * BatchRow.rate + 1e-6
)
_NEXT_BATCH: Final = (
    select(
        BatchRow.id,
        BatchRow.filter,
        BatchRow.rate,
        BatchRow.last_project_id,
        case((_UNPACED, None), else_=_ALLOWED).label("allowed"),
    )
    .where(
        BatchRow.ended_at.is_(None),
        BatchRow.status == BatchStatus.RUNNING,
        or_(_UNPACED, _ALLOWED >= 1),
        exists().where(ItemRow.batch_id == BatchRow.id, ItemRow.state == ItemState.WAITING),
    )
    .order_by(BatchRow.sent_at.nulls_first(), BatchRow.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_UNTIL_END: Final = BatchRow.ended_at.is_(None)
_NOTE_ENDS: Final = (
    update(ItemRow)
    .where(ItemRow.state == ItemState.SENT, Message.id == ItemRow.message_id, Message.status.in_(FINAL))
    .values(ITEM_END)
)

_batch = bindparam("batch", type_=Uuid())
_FIRST_PROJECT: Final = UUID(int=0)
"""It stands before all others."""
_LAST_PROJECT: Final = UUID(int=2**128 - 1)


def _oldest_of_the_project_after(project_id: Any) -> Select[UUID, UUID]:
    return (
        select(ItemRow.project_id, ItemRow.message_id)
        .where(
            ItemRow.batch_id == _batch,
            # it waits: as the index says it
            ItemRow.sent_at.is_(None),
            ItemRow.ended_at.is_(None),
            ItemRow.project_id > project_id,
            ItemRow.project_id <= bindparam("until", type_=Uuid()),
        )
        .order_by(ItemRow.project_id, ItemRow.message_id)
        .limit(1)
    )


_oldest = _oldest_of_the_project_after(bindparam("after", type_=Uuid())).cte("oldest", recursive=True)
_further = _oldest_of_the_project_after(_oldest.c.project_id).lateral()
_oldest = _oldest.union_all(select(_further).select_from(_oldest.join(_further, true())))
_looked_at = (
    select(_oldest.c.project_id, _oldest.c.message_id).limit(bindparam("looked_at", type_=Integer())).subquery()
)
_sent_already = aliased(ItemRow)
_OLDEST: Final = (
    select(_looked_at.c.project_id, _looked_at.c.message_id)
    .where(~exists().where(_sent_already.project_id == _looked_at.c.project_id, _sent_already.state == ItemState.SENT))
    .order_by(_looked_at.c.project_id)
    .limit(bindparam("most", type_=Integer()))
)
"""Of each project after one its oldest waiting item, if nothing of the project is sent, in whatever batch.

The index is entered once for each project that is looked at: neither a project's thousands of items are read nor thousands
of projects.
"""


class BatchDrivingStore(Transactions):
    def note_batches(self) -> list[Batch]:
        """Note which sent items have ended, and which batches with them; answers those of which operators are to be told.

        Nothing is done, and none answered, where another sweeper is at it.
        """
        with self._transaction() as connection:
            if not connection.execute(_MAY_DRIVE).scalar_one():
                return []
            rows = connection.execute(select(BatchRow.__table__).where(_UNTIL_END).order_by(BatchRow.id)).all()
            if not rows:
                return []
            _note_ends(connection)
            connection.execute(
                update(BatchRow)
                .where(
                    _UNTIL_END,
                    ~exists().where(
                        ItemRow.batch_id == BatchRow.id, ItemRow.state.in_((ItemState.WAITING, ItemState.SENT))
                    ),
                )
                .values(
                    status=case((BatchRow.status == BatchStatus.STOPPED, BatchRow.status), else_=BatchStatus.DONE),
                    ended_at=func.clock_timestamp(),
                )
            )
            return _to_tell(connection, [row.id for row in rows])

    def note_batch_end(self, message_id: UUID) -> None:
        """Note that this message, if it was sent, has ended, so that its project's next may be sent before the next round."""
        with self._statement() as connection:
            connection.execute(_NOTE_ENDS.where(Message.id == message_id))

    def send_batch_items(self, *, limit: int, window: int) -> Sent | None:
        """The next items of a batch whose turn it is, at most `limit`, and so many that `window` are unfinished in all.

        Of each project one, the oldest, and none while another of its messages is sent: together they would edit the same
        document. What is stuck stands in its project's line anyway. None where none may be sent now. A message whose project
        somebody works on at this moment waits for the next time.
        """
        with self._transaction() as connection:
            if not connection.execute(_MAY_DRIVE).scalar_one():
                return None
            unfinished = connection.execute(select(func.count()).where(ItemRow.state == ItemState.SENT)).scalar_one()
            most = min(limit, window - unfinished)
            passed_over: list[UUID] = []
            while most > 0:
                next_batch = _NEXT_BATCH.where(BatchRow.id.not_in(passed_over))
                batch = connection.execute(next_batch).one_or_none()
                if batch is None:
                    break
                room = most if batch.allowed is None else min(most, int(batch.allowed))
                sent = _step(connection, batch, room, unfinished)
                if sent.count:
                    return sent
                passed_over.append(batch.id)  # its projects are all at work
            return None

    def ring_batch_builders_for(self, *, again_s: float) -> list[UUID]:
        """Messages of batches whose component is to be built now, `MOST_BATCH_BUILDS` at a time; marked as rung for."""
        ours = (
            select(Message.id)
            .join(ItemRow, and_(ItemRow.message_id == Message.id, ItemRow.state == ItemState.SENT))
            .where(Message.status == MessageStatus.BUILDING, Message.batch_id.is_not(None))
        )
        rung_lately = Message.rung_at >= func.now() - timedelta(seconds=again_s)
        with self._transaction() as connection:
            if not connection.execute(_MAY_DRIVE).scalar_one():
                return []
            busy = ours.where(or_(Message.lease_owner.is_not(None), rung_lately)).subquery()
            room = MOST_BATCH_BUILDS - connection.execute(select(func.count()).select_from(busy)).scalar_one()
            if room < 1:
                return []
            next_ones = (
                ours.where(Message.lease_owner.is_(None), Message.cancel_requested_at.is_(None))
                .order_by(Message.enqueued_at)
                .limit(room)
                .with_for_update(of=Message, skip_locked=True)
            )
            return list(
                connection.execute(
                    update(Message).where(Message.id.in_(next_ones)).values(rung_at=func.now()).returning(Message.id)
                ).scalars()
            )


def _note_ends(connection: Connection) -> None:
    """Of all batches at once. An item's message is looked at, not locked: what is final stays so until somebody retries it,
    who notes the item's end first."""
    connection.execute(_NOTE_ENDS)
    gone = ~exists().where(Message.id == ItemRow.message_id)
    connection.execute(
        update(ItemRow)
        .where(ItemRow.state == ItemState.SENT, gone)
        .values(state=ItemState.SKIPPED, reason=SkipReason.DELETED, ended_at=func.now())
    )
    left_alone = and_(
        Message.id == ItemRow.message_id,
        # an item that was only rung for; what was put back is in the sweeper's care
        Message.batch_id.is_distinct_from(ItemRow.batch_id),
        Message.lease_owner.is_(None),
        Message.status.in_(UNFINISHED),
    )
    connection.execute(
        update(ItemRow)
        .where(
            ItemRow.state == ItemState.SENT,
            ItemRow.sent_at < func.now() - timedelta(seconds=STUCK_AFTER_S),
            left_alone,
        )
        .values(state=ItemState.FAILED, code=STILL_STUCK, ended_at=func.now())
    )


def _to_tell(connection: Connection, batch_ids: Sequence[UUID]) -> list[Batch]:
    """Those that have changed since operators were told, at most once in a while; their start and their end at once."""
    rows = connection.execute(
        select(
            BatchRow.__table__,
            (BatchRow.told_at < func.now() - timedelta(seconds=_TOLD_EVERY_S)).label("is_due"),
        ).where(BatchRow.id.in_(batch_ids))
    ).all()
    # to count a large batch takes long, and nothing of one moves that is paused and has nothing sent
    due = [
        row
        for row in rows
        if row.told is None
        or row.told["status"] != row.status.value
        or row.ended_at is not None
        or (row.is_due and (row.status is BatchStatus.RUNNING or row.told["sent"]))
    ]
    counts = counted(connection, [row.id for row in due])
    told = []
    for row in due:
        batch = batch_record(row, counts[row.id])
        line = {"status": batch.status.value, **msgspec.to_builtins(batch.counts)}
        if line == row.told:
            continue
        connection.execute(
            update(BatchRow).where(BatchRow.id == row.id).values(told=line, told_at=func.clock_timestamp())
        )
        told.append(batch)
    return told


# --- one step ---------------------------------------------------------------------------------------------------


def _step(connection: Connection, batch: Row[Any], room: int, unfinished: int) -> Sent:
    """Send at most `room` items of a batch; `unfinished` are sent already, of all batches."""
    wanted = msgspec.convert(batch.filter, BatchFilter)
    last_project_id = batch.last_project_id
    if wanted.status in UNFINISHED:
        ids = _oldest_items(connection, batch.id, room)
    else:
        after = last_project_id or _FIRST_PROJECT
        # as many projects at most are busy
        found = _items_in_turn(connection, batch.id, after=after, most=room, looked_at=room + unfinished)
        ids = [row.message_id for row in found]
        last_project_id = found[-1].project_id if found else last_project_id
    sent = _send(connection, batch.id, wanted, ids)
    count = len(sent.again) + len(sent.bells)
    paid = {} if batch.rate is None else {"paced_at": _PAID + timedelta(seconds=count / batch.rate)}
    connection.execute(
        update(BatchRow)
        .where(BatchRow.id == batch.id)
        .values(sent_at=func.clock_timestamp(), last_project_id=last_project_id, **paid)
    )
    return sent


def _oldest_items(connection: Connection, batch_id: UUID, most: int) -> list[UUID]:
    return list(
        connection.execute(
            select(ItemRow.message_id)
            .where(ItemRow.batch_id == batch_id, ItemRow.state == ItemState.WAITING)
            .order_by(ItemRow.message_id)
            .limit(most)
        ).scalars()
    )


def _items_in_turn(connection: Connection, batch_id: UUID, *, after: UUID, most: int, looked_at: int) -> list[Row[Any]]:
    """Of projects one each, those after one first and then from the first project on."""
    found: list[Row[Any]] = []
    for begin, end in ((after, _LAST_PROJECT), (_FIRST_PROJECT, after)):
        if len(found) < most:
            bounds = {"after": begin, "until": end, "most": most - len(found), "looked_at": looked_at}
            found.extend(connection.execute(_OLDEST, {"batch": batch_id, **bounds}))
    return found


def _send(connection: Connection, batch_id: UUID, wanted: BatchFilter, ids: Sequence[UUID]) -> Sent:
    """Put back, ring for, or skip each of these waiting items; what somebody has locked is left for the next time."""
    found = connection.execute(select(Message.id, Message.project_id).where(Message.id.in_(ids)))
    places: dict[UUID, UUID] = {row.id: row.project_id for row in found}
    skipped: dict[SkipReason, list[UUID]] = defaultdict(list)
    skipped[SkipReason.DELETED] = [id_ for id_ in ids if id_ not in places]
    # projects before messages, as everywhere; who works on one now is not waited for, nor made to wait long
    projects = connection.execute(
        select(Project.id, Project.newest_queue_number)
        .where(Project.id.in_(set(places.values())))
        .order_by(Project.id)
        .with_for_update(skip_locked=True)
    ).all()
    numbers = {row.id: row.newest_queue_number for row in projects}
    rows = connection.execute(
        select(Message.__table__)
        .where(Message.id.in_([id_ for id_, project_id in places.items() if project_id in numbers]))
        .order_by(Message.id)
        .with_for_update(skip_locked=True)
    ).all()
    bells: list[Bell] = []
    again: list[Row[Any]] = []
    for row in rows:
        reason = _skip_reason(wanted, row)
        if reason is not None:
            skipped[reason].append(row.id)
        elif row.status in UNFINISHED:
            bells.append(Bell(message_id=row.id, builds=row.status is MessageStatus.BUILDING))
        else:
            again.append(row)
    taken = _put_back(connection, batch_id, again, numbers)
    _ring(connection, bells)
    _mark_sent(connection, batch_id, [*taken, *(bell.message_id for bell in bells)])
    for reason, left in skipped.items():
        _mark_skipped(connection, batch_id, left, reason)
    shown = connection.execute(select(*MESSAGE_COLUMNS).where(Message.id.in_(taken)).order_by(Message.id)).all()
    return Sent(
        batch_id=batch_id,
        again=tuple(message_records(connection, shown)),
        bells=tuple(bells),
        skipped=sum(map(len, skipped.values())),
    )


def _skip_reason(wanted: BatchFilter, row: Row[Any]) -> SkipReason | None:
    """Why a message that waited in a batch is left alone now; None where it is what was asked for."""
    if wanted.status in UNFINISHED:
        if row.status is not wanted.status:
            return SkipReason.SUCCEEDED if row.status is MessageStatus.SUCCESS else SkipReason.CHANGED
        if row.lease_owner is not None or row.cancel_requested_at is not None:
            return SkipReason.RUNNING
        return None
    if row.status in UNFINISHED:
        return SkipReason.RUNNING
    if row.status is MessageStatus.SUCCESS:
        return SkipReason.SUCCEEDED
    if row.status is not wanted.status or (wanted.code is not None and row.error_code != wanted.code):
        return SkipReason.CHANGED
    return None


def _put_back(connection: Connection, batch_id: UUID, rows: Sequence[Row[Any]], numbers: dict[UUID, int]) -> list[UUID]:
    """Put these locked messages of locked projects back in the queue; `numbers` are the projects' newest ones."""
    stored = stored_rounds(connection, [row.id for row in rows])
    for row in rows:
        numbers[row.project_id] += 1
        put_back(
            connection,
            row,
            queue_number=numbers[row.project_id],
            author_id=row.author_id,
            batch_id=batch_id,
            stored=stored[row.id],
        )
    if rows:
        connection.execute(
            update(Project).where(Project.id == bindparam("project")),
            [
                {"project": project_id, "newest_queue_number": numbers[project_id]}
                for project_id in sorted({row.project_id for row in rows})
            ],
        )
    return [row.id for row in rows]


def _ring(connection: Connection, bells: Iterable[Bell]) -> None:
    """What is stuck is rung for at once: whatever was noted of its last bell did not bring anybody."""
    ids = [bell.message_id for bell in bells]
    if ids:
        connection.execute(update(Message).where(Message.id.in_(ids)).values(rung_at=func.now()))


def _mark_sent(connection: Connection, batch_id: UUID, ids: Sequence[UUID]) -> None:
    if ids:
        connection.execute(
            update(ItemRow)
            .where(ItemRow.batch_id == batch_id, ItemRow.message_id.in_(ids), Message.id == ItemRow.message_id)
            .values(
                state=ItemState.SENT,
                run=Message.run,
                tries=ItemRow.tries + 1,
                sent_at=func.clock_timestamp(),
            )
        )


def _mark_skipped(connection: Connection, batch_id: UUID, ids: Sequence[UUID], reason: SkipReason) -> None:
    if ids:
        connection.execute(
            update(ItemRow)
            .where(ItemRow.batch_id == batch_id, ItemRow.message_id.in_(ids))
            .values(state=ItemState.SKIPPED, reason=reason, ended_at=func.now())
        )
