"""What the sweeper does, of which any number may run: rows that another one works on are skipped."""

from __future__ import annotations

import functools
import operator
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, not_, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from shared.events import EventId, Snapshot
from shared.lifecycle import UNFINISHED, MessageStatus
from shared.models import Message, SweeperSign
from shared.outcomes import Cancelled, Failed, closing_events
from shared.records import Ending
from shared.store.builds import build_waited_for
from shared.store.rows import made_calls, stored_rounds, usage
from shared.store.transactions import Transactions
from shared.store.turn_statements import CLOCKS, OF_A_BATCH, WAITED_FOR
from shared.store.turns import timing, write_ending


class CloseReason(StrEnum):
    CANCEL = "cancel"
    WORKER_LOST = "worker_lost"


class Lapsed(msgspec.Struct, frozen=True, kw_only=True):
    """A message whose worker was lost: its lease ran out and was taken away."""

    message_id: UUID
    project_id: UUID
    attempt: int
    tries: int
    model: str | None = None


class ToClose(msgspec.Struct, frozen=True, kw_only=True):
    """A message that nobody holds and that must end. `attempt`, `content`, `last_event_id` and `model` are the row's."""

    message_id: UUID
    project_id: UUID
    attempt: int
    content: str
    last_event_id: EventId | None
    model: str | None
    reason: CloseReason


class SweepStore(Transactions):
    def take_lapsed(self, *, limit: int) -> list[Lapsed]:
        """Take leases that ran out, by the database's clock; each counts as a try."""
        with self._transaction() as connection:
            rows = connection.execute(
                update(Message)
                .where(
                    Message.id.in_(
                        select(Message.id)
                        .where(Message.lease_owner.is_not(None), Message.lease_until < func.clock_timestamp())
                        .order_by(Message.lease_until)
                        .limit(limit)
                        .with_for_update(skip_locked=True)
                    )
                )
                .values(
                    lease_owner=None, lease_until=None, tries=Message.tries + 1, rung_at=None, updated_at=func.now()
                )
                .returning(Message.id, Message.project_id, Message.attempt, Message.tries, Message.model)
            )
            return [
                Lapsed(
                    message_id=row.id,
                    project_id=row.project_id,
                    attempt=row.attempt,
                    tries=row.tries,
                    model=row.model,
                )
                for row in rows
            ]

    def ring_for(self, *, limit: int, again_s: float) -> list[UUID]:
        """Messages whose turn it is and that nobody took, each at most once in `again_s`; marked as rung for. No batch's."""
        return self._rung(WAITED_FOR, limit, again_s)

    def ring_builders_for(self, *, limit: int, again_s: float) -> list[UUID]:
        """Messages whose component nobody builds, each at most once in `again_s`; marked as rung for. No batch's."""
        return self._rung(build_waited_for(), limit, again_s)

    def ring_batches_for(self, *, limit: int, again_s: float) -> list[UUID]:
        """Of batches, as `ring_for`."""
        return self._rung(OF_A_BATCH, limit, again_s)

    def _rung(self, waiting: Any, limit: int, again_s: float) -> list[UUID]:
        with self._transaction() as connection:
            return list(
                connection.execute(
                    update(Message)
                    .where(
                        Message.id.in_(
                            select(Message.id)
                            .where(
                                waiting,
                                or_(
                                    Message.rung_at.is_(None),
                                    Message.rung_at < func.now() - timedelta(seconds=again_s),
                                ),
                            )
                            .order_by(Message.enqueued_at)
                            .limit(limit)
                            .with_for_update(skip_locked=True)
                        )
                    )
                    .values(rung_at=func.now())
                    .returning(Message.id)
                ).scalars()
            )

    def to_close(self, *, limit: int, max_tries: int) -> list[ToClose]:
        """Messages that nobody holds and that were cancelled or have no try left."""
        found: list[ToClose] = []
        with self._transaction() as connection:
            # one question a status: each has an index of its own
            for status in (MessageStatus.PENDING, MessageStatus.BUILDING):
                rows = connection.execute(
                    select(*CLOSING_COLUMNS)
                    .where(
                        Message.status == status,
                        Message.lease_owner.is_(None),
                        or_(Message.cancel_requested_at.is_not(None), Message.tries >= max_tries),
                    )
                    .order_by(Message.enqueued_at)
                    .limit(limit)
                )
                found += map(to_close_record, rows)
        return found

    def closing_of(self, message_id: UUID) -> ToClose | None:
        """The message, if it was asked to cancel and nobody holds it."""
        with self._transaction() as connection:
            row = connection.execute(
                select(*CLOSING_COLUMNS).where(
                    Message.id == message_id,
                    Message.status.in_(UNFINISHED),
                    Message.lease_owner.is_(None),
                    Message.cancel_requested_at.is_not(None),
                )
            ).one_or_none()
        return None if row is None else to_close_record(row)

    def close_message(
        self, message_id: UUID, outcome: Failed | Cancelled, *, seen_attempt: int, above: int = 0
    ) -> Ending | None:
        """End a message that nobody holds, in an attempt of its own above the row's and above `above`, the log's.

        None where somebody was faster: the message is held, ended or written again since `seen_attempt`, or has its row
        locked, for which nobody waits here.
        """
        with self._transaction() as connection:
            row = connection.execute(
                select(
                    Message.project_id,
                    Message.status,
                    Message.attempt,
                    Message.lease_owner,
                    Message.usage,
                    Message.first_token_ms,
                    *CLOCKS,
                )
                .where(Message.id == message_id)
                .with_for_update(skip_locked=True)
            ).one_or_none()
            if (
                row is None
                or row.status not in UNFINISHED
                or row.lease_owner is not None
                or row.attempt != seen_attempt
            ):
                return None
            attempt = max(row.attempt, above) + 1
            snapshot = Snapshot(
                id=str(EventId(attempt, 0)),
                message_id=str(message_id),
                ts=int(row.now_ms),
                content=outcome.content,
                status=row.status.value,
                tool_calls=made_calls(connection, [message_id]).get(message_id, ()),
                reason="attempt",
            )
            took = timing(row, row.first_token_ms)
            used, spent = usage(row.usage), 0
            if (
                row.status is MessageStatus.PENDING
            ):  # of a turn the stored rounds are what is known, and nobody counted them
                kept = [stored.usage for stored in stored_rounds(connection, [message_id])[message_id] if stored.usage]
                used = functools.reduce(operator.add, kept) if kept else None
                spent = used.total_tokens if used else 0
            return write_ending(
                connection,
                message_id=message_id,
                project_id=row.project_id,
                attempt=attempt,
                outcome=outcome,
                made=closing_events(snapshot, outcome, usage=used, timing=took),
                usage=used,
                spent_tokens=spent,
                timing=took,
            )

    def endings_to_append(self, *, limit: int, older_than_s: float) -> list[Ending]:
        """Committed endings that nobody acknowledged as appended."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(Message.id, Message.project_id, Message.status, Message.ending, Message.model)
                .where(
                    not_(Message.ending_appended),  # as the index says it: IS FALSE would read every row
                    Message.updated_at < func.now() - timedelta(seconds=older_than_s),
                )
                .order_by(Message.updated_at)
                .limit(limit)
            )
            return [
                Ending(
                    message_id=row.id,
                    project_id=row.project_id,
                    status=row.status,
                    events=tuple(map(bytes, row.ending or ())),
                    model=row.model,
                )
                for row in rows
            ]

    def longest_wait_s(self) -> float:
        """Seconds for which the oldest message whose turn it is, no batch's, has waited for a worker; 0 where none waits."""
        with self._transaction() as connection:
            waited = func.extract("epoch", func.clock_timestamp() - Message.enqueued_at)
            return float(connection.execute(select(func.coalesce(func.max(waited), 0)).where(WAITED_FOR)).scalar_one())

    def sweeper_came_round(self, name: str) -> None:
        """A sweeper's sign of life, at the begin of each round. Signs of those that are gone are forgotten after a day."""
        now = func.clock_timestamp()
        with self._transaction() as connection:
            signed = insert(SweeperSign).values(name=name, swept_at=now)
            connection.execute(signed.on_conflict_do_update(index_elements=["name"], set_={"swept_at": now}))
            connection.execute(delete(SweeperSign).where(SweeperSign.swept_at < now - timedelta(days=1)))

    def sweepers_silent_s(self) -> float | None:
        """Seconds since any sweeper last came round; None where none ever did."""
        with self._transaction() as connection:
            silent = func.extract("epoch", func.clock_timestamp() - func.max(SweeperSign.swept_at))
            seconds = connection.execute(select(silent)).scalar()
        return None if seconds is None else float(seconds)

    def ping(self) -> None:
        """Raises `StoreUnavailable`."""
        with self._transaction() as connection:
            connection.execute(text("SELECT 1"))


CLOSING_COLUMNS: Final[tuple[Any, ...]] = (
    Message.id,
    Message.project_id,
    Message.attempt,
    Message.content,
    Message.last_event_id,
    Message.model,
    Message.cancel_requested_at,
)


def to_close_record(row: Any) -> ToClose:
    """Of a row of `CLOSING_COLUMNS`."""
    return ToClose(
        message_id=row.id,
        project_id=row.project_id,
        attempt=row.attempt,
        content=row.content,
        last_event_id=None if row.last_event_id is None else EventId.parse(row.last_event_id),
        model=row.model,
        reason=CloseReason.WORKER_LOST if row.cancel_requested_at is None else CloseReason.CANCEL,
    )
