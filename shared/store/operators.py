"""What operators see of all projects, and what they do to a message of which they are no members.

Nothing here reads a text. Every question is bounded: it looks at an index's newest entries, or at what is unfinished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import (
    Connection,
    Float,
    Row,
    and_,
    case,
    cast,
    func,
    literal,
    select,
    union_all,
    update,
)

from shared.errors import AlreadyFinal, NotFound
from shared.events import Timing
from shared.lifecycle import UNFINISHED, ErrorCode, MessageStatus, Role
from shared.models import ComponentJob, LedgerEntry, Message, Project, Round, SweeperSign, User
from shared.ops_records import (
    EndedFigures,
    JobOutline,
    MessageOutline,
    OperatorMessage,
    Quantiles,
    Queue,
    RoundOutline,
    Step,
    StepKind,
    Summary,
    SweeperFigures,
    ToolCallOutline,
    UnfinishedFigures,
    WorkerFigures,
)
from shared.records import Cancelling
from shared.records import Message as MessageRecord
from shared.store.builds import build_waited_for
from shared.store.messages import queue_again
from shared.store.rows import usage
from shared.store.transactions import Transactions
from shared.store.turn_statements import WAITED_FOR

MOST_COUNTED: Final = 10_000
"""Of what ended in the last hour, of each status; of what is unfinished, twice as many."""
MOST_TIMED: Final = 2_000
MOST_LOOKED_AT: Final = 20_000
"""Rows that one page of messages is chosen from."""
MOST_SHOWN: Final = 10
MOST_PROCESSES: Final = 100

_HOUR_S: Final = 3600
_INDEXED: Final = frozenset({MessageStatus.ERROR, *UNFINISHED})
"""Statuses whose messages are found without looking at others."""
_FINAL: Final = (MessageStatus.SUCCESS, MessageStatus.ERROR, MessageStatus.CANCELLED)
_ASSISTANTS: Final = Message.role == Role.ASSISTANT
_IS_UNFINISHED: Final = and_(_ASSISTANTS, Message.status.in_(UNFINISHED))

_ended_at = case((Message.status.in_(UNFINISHED), func.clock_timestamp()), else_=Message.updated_at)
_age_ms: Final = (func.extract("epoch", _ended_at - Message.enqueued_at) * 1000).label("age_ms")
_total_ms: Final = cast(Message.timing.op("->>")("totalMs"), Float)
_first_token_ms: Final = cast(Message.timing.op("->>")("firstTokenMs"), Float)

_COLUMNS: Final[tuple[Any, ...]] = (
    Message.id,
    Message.project_id,
    select(User.name).where(User.id == Message.author_id).correlate(Message).scalar_subquery().label("author"),
    Message.status,
    Message.kind,
    Message.error_code,
    Message.model,
    Message.attempt,
    Message.run,
    Message.tries,
    Message.lease_owner,
    Message.lease_until,
    Message.job_id,
    Message.cancel_requested_at,
    Message.timing,
    Message.usage,
    _age_ms,
    func.octet_length(Message.content).label("content_bytes"),
    Message.last_event_id,
    Message.created_at,
    Message.enqueued_at,
    Message.updated_at,
)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages an operator asks for."""

    status: MessageStatus | None = None
    code: ErrorCode | None = None
    project_id: UUID | None = None
    model: str | None = None
    since: datetime | None = None
    """Submitted then or later."""
    slower_than_ms: int | None = None
    """To its end, or so far, since it was enqueued."""


class OperatorStore(Transactions):
    def summary(self) -> Summary:
        """How the whole system is doing."""
        with self._moment() as connection:
            now = connection.execute(select(func.clock_timestamp())).scalar_one()
            ended, ended_since, tokens = _ended(connection, now)
            first_token, completion = _quantiles(connection)
            return Summary(
                at=now.astimezone(UTC),
                unfinished=_unfinished(connection),
                lapsed_leases=connection.execute(
                    select(func.count())
                    .select_from(Message)
                    .where(Message.lease_owner.is_not(None), Message.lease_until < func.clock_timestamp())
                ).scalar_one(),
                sweepers=_sweepers(connection),
                workers=_workers(connection),
                ended=ended,
                ended_since=ended_since.astimezone(UTC),
                first_token=first_token,
                completion=completion,
                tokens_last_hour=tokens,
                slowest_unfinished=_messages(
                    connection,
                    select(*_COLUMNS).where(_IS_UNFINISHED).order_by(Message.enqueued_at).limit(MOST_SHOWN),
                ),
                newest_failed=_messages(
                    connection,
                    select(*_COLUMNS)
                    .where(_ASSISTANTS, Message.status == MessageStatus.ERROR)
                    .order_by(Message.updated_at.desc())
                    .limit(MOST_SHOWN),
                ),
            )

    def operator_messages(
        self, wanted: Wanted, *, limit: int, before: UUID | None = None
    ) -> tuple[list[OperatorMessage], UUID | None]:
        """Assistant messages, newest first, and the next page's `before`.

        A page is chosen from the newest `MOST_LOOKED_AT` rows below `before`: it may be short, or empty, and not the last.
        """
        status = MessageStatus.ERROR if wanted.code is not None and wanted.status is None else wanted.status
        looked_at, chosen = [_ASSISTANTS], []
        columns: list[Any] = [Message.id, Message.status, Message.error_code, Message.model]
        if before is not None:
            looked_at.append(Message.id < before)
        if wanted.since is not None:
            looked_at.append(Message.id >= _first_id_at(wanted.since))
        if wanted.project_id is not None:
            looked_at.append(Message.project_id == wanted.project_id)
        if status in _INDEXED:
            looked_at.append(Message.status == status)
        if wanted.slower_than_ms is not None:
            columns.append(func.coalesce(_total_ms, _age_ms.element).label("took_ms"))
        window = select(*columns).where(*looked_at).order_by(Message.id.desc()).limit(MOST_LOOKED_AT).subquery()
        if status is not None:
            chosen.append(window.c.status == status)
        if wanted.code is not None:
            chosen.append(window.c.error_code == wanted.code)
        if wanted.model is not None:
            chosen.append(window.c.model == wanted.model)
        if wanted.slower_than_ms is not None:
            chosen.append(window.c.took_ms > wanted.slower_than_ms)
        ids = select(window.c.id).where(*chosen).order_by(window.c.id.desc()).limit(limit + 1)
        with self._moment() as connection:
            found = list(connection.execute(ids).scalars())
            shown = found[:limit]
            page = _messages(connection, select(*_COLUMNS).where(Message.id.in_(shown)).order_by(Message.id.desc()))
            if len(found) > limit:
                return page, shown[-1]
            oldest = select(window.c.id).order_by(window.c.id.desc()).offset(MOST_LOOKED_AT - 1)
            return page, connection.execute(oldest).scalar_one_or_none()

    def steps_since(self, since: datetime, *, message_ids: Sequence[UUID] = (), most: int) -> tuple[list[Step], bool]:
        """What the rows tell of the lifecycle since then, oldest first, and whether that is all that they know.

        What ended, and what is unfinished, the newest `most` of each; of these messages alone, where some are named.
        """
        theirs = [Message.id.in_(message_ids)] if message_ids else []
        columns: tuple[Any, ...] = (
            Message.id,
            Message.project_id,
            Message.status,
            Message.error_code,
            Message.model,
            Message.attempt,
            Message.run,
            Message.lease_owner,
            Message.timing,
            Message.usage,
            Message.enqueued_at,
            Message.claimed_at,
            Message.updated_at,
        )
        questions = [
            select(*columns)
            .where(
                _ASSISTANTS, Message.status.in_(_FINAL), Message.status == status, Message.updated_at >= since, *theirs
            )
            .order_by(Message.updated_at.desc())
            .limit(most)
            for status in _FINAL
        ]
        questions.append(
            select(*columns).where(_IS_UNFINISHED, *theirs).order_by(Message.enqueued_at.desc()).limit(most)
        )
        with self._moment() as connection:
            found = [connection.execute(question).all() for question in questions]
        steps = [step for rows in found for row in rows for step in _steps(row) if step.at >= since]
        return sorted(steps, key=lambda step: step.at), all(len(rows) < most for rows in found)

    def operator_message(self, message_id: UUID) -> MessageOutline:
        """Raises `NotFound`."""
        with self._moment() as connection:
            found = _messages(connection, select(*_COLUMNS).where(Message.id == message_id, _ASSISTANTS))
            if not found:
                raise NotFound
            run = found[0].run
            return MessageOutline(
                message=found[0],
                rounds=_rounds(connection, message_id, run),
                tool_calls=_tool_calls(connection, message_id, run),
                jobs=_jobs(connection, message_id),
            )

    def request_cancel_by_operator(self, message_id: UUID) -> Cancelling:
        """Ask for the end of anybody's message. Raises `NotFound`, `AlreadyFinal`."""
        with self._transaction() as connection:
            row = connection.execute(
                update(Message)
                .where(Message.id == message_id, _IS_UNFINISHED)
                .values(cancel_requested_at=func.coalesce(Message.cancel_requested_at, func.now()))
                .returning(Message.project_id, Message.lease_owner.is_not(None).label("held"))
            ).one_or_none()
            if row is None:
                _check_there(connection, message_id)
                raise AlreadyFinal
            return Cancelling(message_id=message_id, project_id=row.project_id, held=row.held)

    def retry_by_operator(self, message_id: UUID) -> MessageRecord:
        """As a member's retry, of anybody's message: it goes on counting for whoever it counted for, and no limit is asked.

        Raises `NotFound`, `NotFinal`.
        """
        with self._transaction() as connection:
            project_id = _check_there(connection, message_id)
            wanted: tuple[Any, ...] = (Project.id, Project.newest_queue_number)
            project = connection.execute(
                select(*wanted).where(Project.id == project_id).with_for_update()
            ).one_or_none()
            if project is None:
                raise NotFound
            return queue_again(connection, project, message_id)


def _check_there(connection: Connection, message_id: UUID) -> UUID:
    """The message's project. Raises `NotFound`, also for a user's message."""
    project_id = connection.execute(
        select(Message.project_id).where(Message.id == message_id, _ASSISTANTS)
    ).scalar_one_or_none()
    if project_id is None:
        raise NotFound
    return project_id


def _first_id_at(moment: datetime) -> UUID:
    """The least uuidv7 (RFC 9562, section 5.7) of that millisecond."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def _messages(connection: Connection, query: Any) -> list[OperatorMessage]:
    """Of a query of `_COLUMNS`."""
    return [_message(row) for row in connection.execute(query)]


def _message(row: Row[Any]) -> OperatorMessage:
    return OperatorMessage(
        id=row.id,
        project_id=row.project_id,
        author=row.author,
        status=row.status,
        kind=row.kind,
        code=None if row.error_code is None else ErrorCode(row.error_code),
        model=row.model,
        attempt=row.attempt,
        run=row.run,
        tries=row.tries,
        held_by=None if row.lease_owner is None else _process(row.lease_owner),
        lease_until=row.lease_until,
        job_id=row.job_id,
        cancel_requested_at=row.cancel_requested_at,
        timing=None if row.timing is None else msgspec.convert(row.timing, Timing),
        usage=usage(row.usage),
        age_ms=0 if row.age_ms is None else max(0, int(row.age_ms)),
        content_bytes=row.content_bytes,
        last_event_id=row.last_event_id,
        created_at=row.created_at,
        enqueued_at=row.enqueued_at,
        updated_at=row.updated_at,
    )


def _process(lease_owner: str) -> str:
    """The process of a claim, whose name is ``<process>/<number>``."""
    return lease_owner.rpartition("/")[0] or lease_owner


def _steps(row: Row[Any]) -> Iterator[Step]:
    """What a row remembers of what was told of it: its queueing, the claim that holds, its end."""

    def step(kind: StepKind, at: datetime) -> Step:
        return Step(
            kind=kind,
            at=at,
            message_id=row.id,
            project_id=row.project_id,
            status=row.status,
            code=row.error_code,
            model=row.model,
            attempt=row.attempt,
            run=row.run,
            timing=None if row.timing is None else msgspec.convert(row.timing, Timing),
            usage=usage(row.usage),
        )

    if row.enqueued_at is not None:
        yield step("submitted", row.enqueued_at)
    if row.claimed_at is not None and row.lease_owner is not None:
        yield step("started", row.claimed_at)
    if row.status in _FINAL:
        yield step("finalized", row.updated_at)


# --- figures ----------------------------------------------------------------------------------------------------


def _unfinished(connection: Connection) -> list[UnfinishedFigures]:
    looked_at = (
        select(Message.status, Message.lease_owner.is_not(None).label("held"))
        .where(_IS_UNFINISHED)
        .limit(2 * MOST_COUNTED)
        .subquery()
    )
    counts: dict[tuple[MessageStatus, bool], int] = {
        (row.status, row.held): row.found
        for row in connection.execute(
            select(looked_at.c.status, looked_at.c.held, func.count().label("found")).group_by(
                looked_at.c.status, looked_at.c.held
            )
        )
    }
    figures = []
    queues: tuple[tuple[MessageStatus, Queue, Any], ...] = (
        (MessageStatus.PENDING, "interactive", WAITED_FOR),
        (MessageStatus.BUILDING, "builds", build_waited_for()),
    )
    for status, queue, waiting in queues:
        waited = func.extract("epoch", func.clock_timestamp() - Message.enqueued_at) * 1000
        oldest = connection.execute(
            select(waited).where(waiting).order_by(Message.enqueued_at).limit(1)
        ).scalar_one_or_none()
        figures.append(
            UnfinishedFigures(
                status=status,
                queue=queue,
                waiting=counts.get((status, False), 0),
                held=counts.get((status, True), 0),
                oldest_waiting_ms=None if oldest is None else max(0, int(oldest)),
            )
        )
    return figures


def _ended(connection: Connection, now: datetime) -> tuple[list[EndedFigures], datetime, int]:
    """What ended in the last hour by status and code, since when that is all of it, and its tokens."""
    newest = [
        select(Message.status, Message.error_code, Message.updated_at, Message.total_tokens)
        .where(_ASSISTANTS, Message.status.in_(_FINAL), Message.status == status, Message.updated_at >= _ago(_HOUR_S))
        .order_by(Message.updated_at.desc())
        .limit(MOST_COUNTED)
        .subquery()
        for status in _FINAL
    ]
    ended = union_all(*(select(one) for one in newest)).subquery()
    rows = connection.execute(
        select(
            ended.c.status,
            ended.c.error_code,
            func.count().label("hour"),
            func.count().filter(ended.c.updated_at >= _ago(300)).label("five_minutes"),
            func.count().filter(ended.c.updated_at >= _ago(60)).label("minute"),
            func.sum(ended.c.total_tokens).label("tokens"),
            func.min(ended.c.updated_at).label("oldest"),
        )
        .group_by(ended.c.status, ended.c.error_code)
        .order_by(ended.c.status, ended.c.error_code)
    ).all()
    counted: dict[MessageStatus, int] = {}
    for row in rows:
        counted[row.status] = counted.get(row.status, 0) + row.hour
    cut_off = [row.oldest for row in rows if counted[row.status] >= MOST_COUNTED]
    since = min(cut_off) if cut_off else connection.execute(select(_ago(_HOUR_S))).scalar_one()
    figures = [
        EndedFigures(
            status=row.status,
            code=None if row.error_code is None else ErrorCode(row.error_code),
            last_minute=row.minute,
            last_five_minutes=row.five_minutes,
            last_hour=row.hour,
        )
        for row in rows
    ]
    return figures, since, sum(int(row.tokens) for row in rows)


def _ago(seconds: int) -> Any:
    return func.now() - func.make_interval(0, 0, 0, 0, 0, 0, literal(seconds))


def _quantiles(connection: Connection) -> tuple[Quantiles, Quantiles]:
    """To the first token and to the end, of what ended in the last five minutes."""
    newest = [
        select(_first_token_ms.label("first_token"), _total_ms.label("total"))
        .where(_ASSISTANTS, Message.status.in_(_FINAL), Message.status == status, Message.updated_at >= _ago(300))
        .order_by(Message.updated_at.desc())
        .limit(MOST_TIMED)
        .subquery()
        for status in (MessageStatus.SUCCESS, MessageStatus.ERROR)
    ]
    timed = union_all(*(select(one) for one in newest)).subquery()

    def asked(column: Any) -> list[Any]:
        shares = func.percentile_cont([0.5, 0.95, 0.99])
        return [func.count(column), shares.within_group(column)]

    counted_first, first, counted_total, total = connection.execute(
        select(*asked(timed.c.first_token), *asked(timed.c.total))
    ).one()
    return _quantile(counted_first, first), _quantile(counted_total, total)


def _quantile(count: int, values: list[float] | None) -> Quantiles:
    p50, p95, p99 = (None, None, None) if values is None else (round(value) for value in values)
    return Quantiles(count=count, p50_ms=p50, p95_ms=p95, p99_ms=p99)


def _sweepers(connection: Connection) -> list[SweeperFigures]:
    silent = func.extract("epoch", func.clock_timestamp() - SweeperSign.swept_at) * 1000
    rows = connection.execute(
        select(SweeperSign.name, silent.label("silent")).order_by(SweeperSign.swept_at.desc()).limit(MOST_PROCESSES)
    )
    return [SweeperFigures(name=row.name, silent_ms=max(0, int(row.silent))) for row in rows]


def _workers(connection: Connection) -> list[WorkerFigures]:
    held = select(Message.lease_owner).where(Message.lease_owner.is_not(None)).limit(MOST_COUNTED)
    counts: dict[str, int] = {}
    for owner in connection.execute(held).scalars():
        name = _process(str(owner))
        counts[name] = counts.get(name, 0) + 1
    return [WorkerFigures(name=name, held=count) for name, count in sorted(counts.items())[:MOST_PROCESSES]]


# --- one message ------------------------------------------------------------------------------------------------


def _rounds(connection: Connection, message_id: UUID, run: int) -> list[RoundOutline]:
    rows = connection.execute(
        select(
            Round.round,
            Round.attempt,
            func.octet_length(Round.text).label("text_bytes"),
            Round.calls,
            Round.document_version,
            Round.usage,
            Round.created_at,
        )
        .where(Round.message_id == message_id, Round.run == run)
        .order_by(Round.round)
    )
    return [
        RoundOutline(
            round=row.round,
            attempt=row.attempt,
            text_bytes=row.text_bytes,
            calls=[call["name"] for call in row.calls],
            document_version=row.document_version,
            usage=usage(row.usage),
            created_at=row.created_at,
        )
        for row in rows
    ]


def _tool_calls(connection: Connection, message_id: UUID, run: int) -> list[ToolCallOutline]:
    rows = connection.execute(
        select(
            LedgerEntry.tool_call_id,
            LedgerEntry.name,
            LedgerEntry.succeeded,
            LedgerEntry.round,
            LedgerEntry.attempt,
            func.octet_length(LedgerEntry.arguments).label("arguments_bytes"),
            LedgerEntry.job_id,
            LedgerEntry.version,
            LedgerEntry.created_at,
        )
        .where(LedgerEntry.message_id == message_id, LedgerEntry.run == run)
        .order_by(LedgerEntry.round, LedgerEntry.index)
    )
    return [
        ToolCallOutline(
            tool_call_id=row.tool_call_id,
            name=row.name,
            state="succeeded" if row.succeeded else "failed",
            round=row.round,
            attempt=row.attempt,
            arguments_bytes=row.arguments_bytes,
            job_id=row.job_id,
            version=row.version,
            created_at=row.created_at,
        )
        for row in rows
    ]


def _jobs(connection: Connection, message_id: UUID) -> list[JobOutline]:
    rows = connection.execute(
        select(
            ComponentJob.id,
            ComponentJob.status,
            ComponentJob.phase,
            ComponentJob.tries,
            ComponentJob.created_at,
            ComponentJob.updated_at,
        )
        .where(ComponentJob.message_id == message_id)
        .order_by(ComponentJob.id)
    )
    return [JobOutline(**row._mapping) for row in rows]
