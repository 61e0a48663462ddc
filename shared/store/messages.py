"""Messages as their users see them: submitted, listed, read, cancelled, retried."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Row,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from shared.batches import CANCELLED
from shared.errors import (
    AlreadyFinal,
    Busy,
    Forbidden,
    IdempotencyMismatch,
    NotFinal,
    NotFound,
    QuotaExceeded,
    TooManyUnfinished,
)
from shared.events import EventId
from shared.lifecycle import FINAL, UNFINISHED, ItemState, JobStatus, MessageKind, MessageStatus, OnBusy, Role
from shared.models import BatchItem, IdempotencyKey, Member, Message, Project, User
from shared.records import Cancelling, MessageState, Principal, ReaderRow, StoredRound, Submitted
from shared.records import Message as MessageRecord
from shared.store.job_rows import write_job
from shared.store.projects import EDITORS, lock_project, role_in
from shared.store.rows import MESSAGE_BYTES, MESSAGE_COLUMNS, fitting, made_calls, message_records, stored_rounds
from shared.store.transactions import Transactions

PAGE_MESSAGE_BYTES: Final = 4 * 1024 * 1024


class Idempotency(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    body_sha256: bytes


class SubmitLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_unfinished: int
    max_tokens_per_day: int | None


# what every submit says is built once: that costs several times what saying it does
_user = bindparam("user", type_=Uuid())
_project = bindparam("project", type_=Uuid())
# (no parameter of it is called as a column is: the INSERT inside would take it for another value of its own)
_numbered = (
    update(Project)
    .where(Project.id == _project)
    .values(newest_queue_number=bindparam("newest", type_=BigInteger()))
    .cte("numbered")
)
_asked = (
    insert(Message)
    .values(
        project_id=_project,
        author_id=_user,
        role=Role.USER,
        kind=MessageKind.MESSAGE,
        status=MessageStatus.SUCCESS,
        content=bindparam("said", type_=Text()),
    )
    .returning(Message.id)
    .cte("asked")
)
_waiting: Final[Mapping[Any, Any]] = {
    Message.project_id: _project,
    Message.author_id: _user,
    Message.role: literal(Role.ASSISTANT, Message.role.type),
    Message.kind: literal(MessageKind.STATUS, Message.kind.type),
    Message.status: literal(MessageStatus.PENDING, Message.status.type),
    Message.model: bindparam("by_model", type_=Text()),
    Message.reply_to: _asked.c.id,
    Message.queue_number: bindparam("number", type_=BigInteger()),
    Message.waits: bindparam("is_in_line", type_=Boolean()),
    Message.enqueued_at: func.clock_timestamp(),
    Message.rung_at: func.now(),
}
_SUBMIT: Final = (
    insert(Message)
    .from_select(list(_waiting), select(*_waiting.values()))
    .add_cte(_numbered)
    .returning(Message.reply_to, Message.id)
)
"""The user's message, the assistant's right behind it, and the project's newest number, in one round trip."""
_SHOWN: Final = select(*MESSAGE_COLUMNS).where(
    Message.id.in_((bindparam("first", type_=Uuid()), bindparam("second", type_=Uuid())))
)
_LOCK_USER: Final = select(User.id).where(User.id == _user).with_for_update(key_share=True)
_UNFINISHED: Final = (
    select(func.count())
    .select_from(Message)
    # what a batch does is on nobody's account
    .where(Message.author_id == _user, Message.status.in_(UNFINISHED), Message.batch_id.is_(None))
)
_STATE: Final[tuple[Any, ...]] = (Message.id, Message.project_id, Message.status, Message.last_event_id)
_SEEN_BY_READER: Final = (
    select(*_STATE, Member.role)
    .select_from(Message)
    .join(Member, Member.project_id == Message.project_id)
    .where(Message.id == bindparam("message", type_=Uuid()), Member.user_id == _user)
)
_READER_ROWS: Final = select(*_STATE, Message.attempt, Message.content, Message.ending).where(
    Message.id.in_(bindparam("messages", type_=Uuid(), expanding=True))
)
_TAKE_NUMBER: Final = update(Project).where(Project.id == _project)
_PUT_BACK: Final = (
    update(Message)
    .where(Message.id == bindparam("message", type_=Uuid()))
    .values(
        error_code=None,
        timing=None,
        tries=0,
        cancel_requested_at=None,
        ending=None,
        ending_appended=True,
        enqueued_at=func.clock_timestamp(),
        claimed_at=None,
        first_token_ms=None,
        # who puts a message of a batch back rings as workers have room
        rung_at=case((bindparam("is_rung", type_=Boolean()), func.now())),
        updated_at=func.now(),
    )
)
"""The other columns are said where it is executed."""
ITEM_END: Final[Mapping[str, Any]] = {
    "state": cast(
        case((Message.status == MessageStatus.SUCCESS, ItemState.SUCCEEDED.value), else_=ItemState.FAILED.value),
        BatchItem.state.type,
    ),
    "code": case((Message.status == MessageStatus.CANCELLED, CANCELLED), else_=Message.error_code),
    "ended_at": Message.updated_at,
}
"""What a final message says of the item that it was."""
_NOTE_BATCH_END: Final = (
    update(BatchItem)
    .where(
        BatchItem.message_id == bindparam("message", type_=Uuid()),
        BatchItem.message_id == Message.id,
        BatchItem.state == ItemState.SENT,
    )
    .values(ITEM_END)
)


class MessageStore(Transactions):
    def submit(
        self,
        principal: Principal,
        project_id: UUID,
        content: str,
        *,
        model: str,
        on_busy: OnBusy,
        limits: SubmitLimits,
        idempotency: Idempotency | None = None,
    ) -> Submitted:
        """The user's message and the assistant's pending one. The same key and body answer the same pair again.

        The project's lock gives each assistant message its number in the queue. Raises `NotFound`, `Forbidden`,
        `IdempotencyMismatch`, `TooManyUnfinished`, `QuotaExceeded`, `Busy`.
        """
        with self._transaction() as connection:
            project = lock_project(connection, principal, project_id, EDITORS)
            if idempotency is not None:
                known = _known(connection, principal, project_id, idempotency)
                if known is not None:
                    return known
            _check_limits(connection, principal, limits)
            number, interrupted = _place(connection, project, on_busy)
            user_message_id, assistant_message_id = connection.execute(
                _SUBMIT,
                {
                    "project": project_id,
                    "user": principal.user_id,
                    "said": content,
                    "by_model": model,
                    "newest": project.newest_queue_number + 1,
                    "number": number,
                    "is_in_line": on_busy is not OnBusy.PARALLEL,
                },
            ).one()
            assert user_message_id is not None
            if idempotency is not None:
                connection.execute(
                    insert(IdempotencyKey).values(
                        user_id=principal.user_id,
                        project_id=project_id,
                        key=idempotency.key,
                        body_sha256=idempotency.body_sha256,
                        assistant_message_id=assistant_message_id,
                    )
                )
            return _pair(connection, user_message_id, assistant_message_id, repeated=False, interrupted=interrupted)

    def message(self, principal: Principal, message_id: UUID) -> MessageRecord:
        """Raises `NotFound`."""
        with self._moment() as connection:
            row = _seen(connection, principal, message_id, *MESSAGE_COLUMNS)
            return message_records(connection, [row])[0]

    def answer(self, principal: Principal, project_id: UUID, message_id: UUID) -> MessageRecord | None:
        """The project's assistant message of that id, or the one that answers the user's of that id. Raises `NotFound`."""
        theirs = or_(Message.id == message_id, Message.reply_to == message_id)
        # an answer is made with its question, right behind it
        return self._first_answer(principal, project_id, Message.id >= message_id, theirs, first=Message.id)

    def active_answer(self, principal: Principal, project_id: UUID) -> MessageRecord | None:
        """Of a project's unfinished answers the one that was asked for last; None where none is. Raises `NotFound`."""
        is_unfinished = Message.status.in_(UNFINISHED)
        return self._first_answer(principal, project_id, is_unfinished, first=Message.queue_number.desc())

    def _first_answer(
        self, principal: Principal, project_id: UUID, *which: ColumnElement[bool], first: ColumnElement[Any] | Any
    ) -> MessageRecord | None:
        with self._moment() as connection:
            role_in(connection, principal, project_id)
            row = connection.execute(
                select(*MESSAGE_COLUMNS)
                .where(Message.project_id == project_id, Message.role == Role.ASSISTANT, *which)
                .order_by(first)
                .limit(1)
            ).one_or_none()
            return None if row is None else message_records(connection, [row])[0]

    def messages(
        self,
        principal: Principal,
        project_id: UUID,
        *,
        limit: int,
        before: UUID | None = None,
        status: MessageStatus | None = None,
        kind: MessageKind | None = None,
    ) -> tuple[list[MessageRecord], UUID | None]:
        """A page of a project's messages, newest first, and the next page's `before`. Raises `NotFound`.

        A page ends early where its texts and calls would be large: `PAGE_MESSAGE_BYTES`.
        """
        theirs = [Message.project_id == project_id]
        if before is not None:
            theirs.append(Message.id < before)
        if status is not None:
            theirs.append(Message.status == status)
            if status is not MessageStatus.SUCCESS:  # the users' own succeed; the indexes of what does not say so
                theirs.append(Message.role == Role.ASSISTANT)
        if kind is not None:
            theirs.append(Message.kind == kind)
        newest = Message.id.desc()
        with self._moment() as connection:
            role_in(connection, principal, project_id)
            found = connection.execute(
                select(Message.id, MESSAGE_BYTES).where(*theirs).order_by(newest).limit(limit + 1)
            ).all()
            count = fitting((row.size for row in found[:limit]), PAGE_MESSAGE_BYTES)
            shown = [row.id for row in found[:count]]
            rows = connection.execute(select(*MESSAGE_COLUMNS).where(Message.id.in_(shown)).order_by(newest)).all()
            page = message_records(connection, rows)
        return page, shown[-1] if len(found) > count else None

    def message_for_reader(self, principal: Principal, message_id: UUID) -> tuple[MessageState, bool]:
        """How far the message has come, and whether the user may also cancel it. Raises `NotFound`."""
        with self._statement() as connection:
            seen = connection.execute(_SEEN_BY_READER, {"message": message_id, "user": principal.user_id}).one_or_none()
        if seen is None:
            raise NotFound
        return _state(seen), seen.role in EDITORS

    def reader_rows(self, message_ids: Sequence[UUID]) -> dict[UUID, ReaderRow]:
        """What readers that were let in need of these rows; a deleted one is missing."""
        with self._moment() as connection:
            return _reader_rows(connection, message_ids)

    def request_cancel(self, principal: Principal, message_id: UUID) -> Cancelling:
        """Ask for the message's end. Raises `NotFound`, `Forbidden`, `AlreadyFinal`."""
        with self._transaction() as connection:
            row = _seen(connection, principal, message_id, Member.role, Message.project_id)
            if row.role not in EDITORS:
                raise Forbidden
            held = connection.execute(
                update(Message)
                .where(Message.id == message_id, Message.status.in_(UNFINISHED))
                .values(cancel_requested_at=func.coalesce(Message.cancel_requested_at, func.now()))
                .returning(Message.lease_owner.is_not(None))
            ).scalar_one_or_none()
            if held is None:
                raise AlreadyFinal
            return Cancelling(message_id=message_id, project_id=row.project_id, held=held)

    def retry(self, principal: Principal, message_id: UUID, limits: SubmitLimits) -> MessageRecord:
        """Put a final message back in the queue, at its end, with all its tries; it counts for whoever retries it.

        One that failed or was cancelled goes on from its last stored round, or, where its component failed, with the build;
        a success begins a new run, and what its tools did stays done. Raises
        `NotFound`, `Forbidden`, `NotFinal`, `TooManyUnfinished`, `QuotaExceeded`.
        """
        with self._transaction() as connection:
            seen = _seen(connection, principal, message_id, Message.project_id)
            project = lock_project(connection, principal, seen.project_id, EDITORS)
            return queue_again(
                connection,
                project,
                message_id,
                author_id=principal.user_id,
                check=lambda: _check_limits(connection, principal, limits),
            )


def queue_again(
    connection: Connection,
    project: Row[Any],
    message_id: UUID,
    *,
    author_id: UUID | None = None,
    check: Callable[[], None] = lambda: None,
) -> MessageRecord:
    """A final message of a locked project, back in the queue as `retry` says, for `author_id`; None: for whom it was before.

    `check` raises where it must not be. Raises `NotFound`, `NotFinal`.
    """
    row = connection.execute(select(Message.__table__).where(Message.id == message_id).with_for_update()).one_or_none()
    if row is None or row.role is Role.USER:
        raise NotFound
    if row.status not in FINAL:
        raise NotFinal
    check()
    number = project.newest_queue_number + 1
    connection.execute(_TAKE_NUMBER, {"project": project.id, "newest_queue_number": number})
    note_batch_end(connection, message_id)  # what comes now is no batch's any more
    put_back(connection, row, queue_number=number, author_id=author_id or row.author_id)
    renewed = connection.execute(select(*MESSAGE_COLUMNS).where(Message.id == message_id)).one()
    return message_records(connection, [renewed])[0]


def put_back(
    connection: Connection,
    row: Row[Any],
    *,
    queue_number: int,
    author_id: UUID | None,
    batch_id: UUID | None = None,
    stored: Sequence[StoredRound] | None = None,
) -> None:
    """Put a final message, whose whole row is locked and given, back in the queue, as `MessageStore.retry` says.

    It counts for `author_id`. One of a batch waits for nobody, nobody waits for it, and it counts for nobody. `stored`: its
    run's stored rounds, where they were read.
    """
    again = row.status is MessageStatus.SUCCESS
    job = None
    if row.job_id is not None and not again:  # its turn was over: the component is what failed
        job = write_job(connection, row.job_id, status=JobStatus.PENDING, phase=None, tries=0, error=None)
    if stored is None and not again:
        stored = stored_rounds(connection, [row.id])[row.id]
    kept = [] if again or stored is None else stored
    counted = [] if job is not None or row.usage is None else [one.usage for one in kept if one.usage]
    # a row's tokens are of the day on which it was enqueued, and those of a batch are nobody's
    is_theirs = row.enqueued_at >= _midnight() and (row.batch_id is None or batch_id is not None)
    spent = row.total_tokens if is_theirs else 0
    connection.execute(
        _PUT_BACK,
        {
            "message": row.id,
            "author_id": author_id,
            "batch_id": batch_id,
            "is_rung": batch_id is None,
            "run": row.run + 1 if again else row.run,
            "status": MessageStatus.PENDING if job is None else MessageStatus.BUILDING,
            "kind": MessageKind.STATUS if job is None else MessageKind.TOOL_RESULT,
            "content": joined([one.text for one in kept]),
            "job_id": None if again else row.job_id,
            "usage": None if job is None else row.usage,
            # the run's end counts its stored rounds again
            "total_tokens": spent - sum(usage.total_tokens for usage in counted),
            "queue_number": queue_number,
            "waits": batch_id is None,
        },
    )


def note_batch_end(connection: Connection, message_id: UUID) -> None:
    """How a final message ended, where a batch has it among those that it sent."""
    connection.execute(_NOTE_BATCH_END, {"message": message_id})


def joined(texts: Sequence[str]) -> str:
    """The text of several rounds: a blank line between two that have any."""
    return "\n\n".join(text for text in texts if text)


def _seen(connection: Connection, principal: Principal, message_id: UUID, *columns: Any) -> Row[Any]:
    row = connection.execute(
        select(*columns)
        .select_from(Message)
        .join(Member, Member.project_id == Message.project_id)
        .where(Message.id == message_id, Member.user_id == principal.user_id)
    ).one_or_none()
    if row is None:
        raise NotFound
    return row


def _known(
    connection: Connection, principal: Principal, project_id: UUID, idempotency: Idempotency
) -> Submitted | None:
    row = connection.execute(
        select(IdempotencyKey.body_sha256, IdempotencyKey.assistant_message_id, Message.reply_to)
        .join(Message, Message.id == IdempotencyKey.assistant_message_id)
        .where(
            IdempotencyKey.user_id == principal.user_id,
            IdempotencyKey.project_id == project_id,
            IdempotencyKey.key == idempotency.key,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.body_sha256 != idempotency.body_sha256:
        raise IdempotencyMismatch
    return _pair(connection, row.reply_to, row.assistant_message_id, repeated=True)


def _pair(
    connection: Connection,
    user_message_id: UUID,
    assistant_message_id: UUID,
    *,
    repeated: bool,
    interrupted: tuple[UUID, ...] = (),
) -> Submitted:
    rows = connection.execute(_SHOWN, {"first": user_message_id, "second": assistant_message_id}).all()
    shown = {record.id: record for record in message_records(connection, rows)}
    return Submitted(
        user_message=shown[user_message_id],
        assistant_message=shown[assistant_message_id],
        repeated=repeated,
        interrupted=interrupted,
    )


def _check_limits(connection: Connection, principal: Principal, limits: SubmitLimits) -> None:
    # the user's row serialises submits of one user in several projects
    connection.execute(_LOCK_USER, {"user": principal.user_id})
    unfinished = connection.execute(_UNFINISHED, {"user": principal.user_id}).scalar_one()
    if unfinished >= limits.max_unfinished:
        raise TooManyUnfinished
    if limits.max_tokens_per_day is not None:
        used = connection.execute(
            select(func.coalesce(func.sum(Message.total_tokens), 0)).where(
                Message.author_id == principal.user_id,
                Message.enqueued_at >= _midnight(),
                Message.batch_id.is_(None),
            )
        ).scalar_one()
        if used >= limits.max_tokens_per_day:
            raise QuotaExceeded


def _midnight() -> datetime:
    """When the present day began, in UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _place(connection: Connection, project: Row[Any], on_busy: OnBusy) -> tuple[int, tuple[UUID, ...]]:
    """The next message's number in the queue of a locked project, and whom it interrupts. Raises `Busy`.

    Who is put in front has all that wait renumbered: by that a claim that waited for its row knows (`_IS_FIRST`).
    """
    number = project.newest_queue_number + 1
    if on_busy not in (OnBusy.REJECT, OnBusy.INTERRUPT):
        return number, ()
    pending = connection.execute(
        select(Message.id, Message.queue_number, Message.claimed_at)
        .where(
            Message.project_id == project.id,
            Message.status == MessageStatus.PENDING,
            Message.batch_id.is_(None),  # what a batch does stands in nobody's way
        )
        .order_by(Message.queue_number)
        .with_for_update()  # who waits must not be claimed while it is moved up
    ).all()
    if not pending:
        return number, ()
    if on_busy is OnBusy.REJECT:
        raise Busy
    # what a worker has begun runs, also while it is between two of them
    running = tuple(row.id for row in pending if row.claimed_at is not None)
    connection.execute(
        update(Message)
        .where(Message.id.in_(running), Message.status == MessageStatus.PENDING)
        .values(cancel_requested_at=func.coalesce(Message.cancel_requested_at, func.now()))
    )
    waiting = [row.queue_number for row in pending if row.claimed_at is None]
    if not waiting:
        return number, running
    # the newcomer goes first: it takes the first waiting number, and all that wait move up by one
    first = min(waiting)
    connection.execute(
        update(Message)
        .where(
            Message.project_id == project.id,
            Message.status == MessageStatus.PENDING,
            Message.claimed_at.is_(None),
            Message.batch_id.is_(None),
        )
        .values(queue_number=Message.queue_number + 1)
    )
    return first, running


def _reader_rows(connection: Connection, message_ids: Sequence[UUID]) -> dict[UUID, ReaderRow]:
    rows = connection.execute(_READER_ROWS, {"messages": list(message_ids)}).all()
    calls = made_calls(connection, [row.id for row in rows if row.attempt])
    return {
        row.id: ReaderRow(
            **msgspec.structs.asdict(_state(row)),
            attempt=row.attempt,
            content=row.content,
            tool_calls=calls.get(row.id, ()),
            ending=tuple(row.ending or ()),
        )
        for row in rows
    }


def _state(row: Any) -> MessageState:
    """Of a row with `_STATE`."""
    return MessageState(
        message_id=row.id,
        project_id=row.project_id,
        status=row.status,
        last_event_id=None if row.last_event_id is None else EventId.parse(row.last_event_id),
    )
