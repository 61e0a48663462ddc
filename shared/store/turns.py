"""What a worker does to a message: claim, renew, store, take effect, end. Every write carries the lease.

A message is held by whoever's `attempt` and owner stand in its row. The attempt never goes back, so that whatever an
earlier holder still sends is refused: `Fenced`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeAlias, assert_never
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, and_, case, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from shared import events
from shared.errors import Fenced, PatchRejected, SchemaViolation, StoreUnavailable
from shared.events import EventId, Stages, Timing, ToolCall, Usage, shown_arguments
from shared.lifecycle import JobStatus, MessageStatus, Role
from shared.models import LedgerEntry, Message, Project, Round
from shared.outcomes import Cancelled, Failed, HandedOver, Outcome, Succeeded, ending_events, kind_of, status_of
from shared.patching import PatchLimits
from shared.records import (
    BuiltComponent,
    Claim,
    Context,
    DocumentChange,
    Ending,
    HistoryMessage,
    Job,
    JsonValue,
    Lease,
    Leased,
    StoredCall,
    StoredRound,
    ToolEffect,
)
from shared.store import turn_statements as statements
from shared.store.job_rows import end_open_job, has_job, start_job, write_job
from shared.store.projects import change_document
from shared.store.rows import ledger, stored_rounds, tool_effect
from shared.store.transactions import Transactions


class EditDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Apply `operations` to the project's document, if it still has the version `expected_version`."""

    operations: list[JsonValue]
    words: str
    expected_version: int
    limits: PatchLimits


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing of ours changes: a third party's effect is done, or the call is refused. `result` is what the model is told."""

    succeeded: bool
    result: str
    words: str | None = None
    error: str | None = None


class StartJob(msgspec.Struct, frozen=True, kw_only=True):
    """Begin a component job; the turn is over after the round's calls. A run has one."""

    name: str
    effect_description: str


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder made of a job; hashes are SHA-256 in hex."""

    source: str
    source_sha256: str
    bundle: str
    bundle_sha256: str


Effect: TypeAlias = EditDocument | StartJob | Told

WITHDRAWN: Final = "Whoever asked for this answer may not change the project any more; nothing was done."
"""What the model and readers are told of a call that nobody's right covers."""


class TurnStore(Transactions):
    def claim(self, message_id: UUID, owner: str, *, lease_s: float, max_tries: int) -> Claim | None:
        """Take the message, under a new attempt; None where there is nothing to take.

        `owner` names this one claim. Safe to repeat under it: what it took before is answered again.
        """
        with self._statement() as connection:
            row = connection.execute(
                statements.CLAIM,
                {
                    "message": message_id,
                    "owner": owner,
                    "lease": timedelta(seconds=lease_s),
                    "max_tries": max_tries,
                },
            ).one_or_none()
        if row is None:
            return None
        lease = Lease(message_id=message_id, project_id=row.project_id, owner=owner, attempt=row.attempt, run=row.run)
        rounds: Sequence[StoredRound] = ()
        effects: Sequence[ToolEffect] = ()
        if row.attempt > 1:  # nobody else writes these any more
            try:
                with self._moment() as connection:
                    rounds = stored_rounds(connection, [message_id])[message_id]
                    effects = ledger(connection, [message_id])[message_id]
            except Exception as error:
                with suppress(Fenced, StoreUnavailable):
                    self.hand_back(lease, failed=not isinstance(error, StoreUnavailable))
                raise
        return Claim(
            lease=lease,
            tries=row.tries,
            model=row.model,
            run_age_s=float(row.run_age_s),
            enqueued_age_s=float(row.enqueued_age_s),
            first_token_ms=row.first_token_ms,
            content=row.content,
            is_of_a_batch=row.batch_id is not None,
            rounds=tuple(rounds),
            effects=tuple(effects),
        )

    def renew_leases(self, owners: Collection[str], *, lease_s: float) -> Mapping[str, Leased]:
        """Prolong what these claims hold, in one statement; what is missing from the answer is held no more.

        A row that somebody has locked is passed over, so that it does not keep the others from being prolonged.
        """
        mine = Message.lease_owner.in_(owners)
        free = select(Message.id).where(mine).order_by(Message.id).with_for_update(skip_locked=True).cte("free")
        renewed = (
            update(Message)
            .where(Message.id.in_(select(free.c.id)))
            .values(lease_until=func.clock_timestamp() + timedelta(seconds=lease_s))
            .returning(Message.id)
            .cte("renewed")
        )
        with self._transaction() as connection:
            rows = connection.execute(
                select(
                    Message.lease_owner,
                    Message.attempt,
                    Message.cancel_requested_at.is_not(None).label("cancel"),
                    renewed.c.id.is_not(None).label("is_renewed"),
                )
                .outerjoin(renewed, renewed.c.id == Message.id)
                .where(mine)
            )
            return {
                row.lease_owner: Leased(attempt=row.attempt, cancel_requested=row.cancel, is_renewed=row.is_renewed)
                for row in rows
            }

    def begin_attempt(self, lease: Lease, *, above: int = 0, tries: int | None = None) -> Lease:
        """The same worker writes the message anew: an attempt above the lease's and above `above`, the log's.

        `tries`: those of the run that have failed, where another one has. Safe to repeat with the same lease: the attempt
        that was taken before is answered again. Raises `Fenced`.
        """
        taken = and_(Message.attempt > lease.attempt, Message.attempt > above)
        with self._transaction() as connection:
            attempt = connection.execute(
                update(Message)
                .where(
                    Message.id == lease.message_id,
                    Message.attempt >= lease.attempt,
                    Message.lease_owner == lease.owner,
                )
                .values(
                    attempt=case((taken, Message.attempt), else_=func.greatest(Message.attempt, above) + 1),
                    tries=Message.tries if tries is None else tries,
                    updated_at=func.now(),
                )
                .returning(Message.attempt)
            ).scalar_one_or_none()
        if attempt is None:
            raise Fenced
        return msgspec.structs.replace(lease, attempt=attempt)

    def count_tries(self, lease: Lease, tries: int) -> None:
        """The provider failed before any text was shown: so many tries of the run have failed. Raises `Fenced`."""
        with self._transaction() as connection:
            write_under_lease(connection, lease, tries=tries)

    def hand_back(self, lease: Lease, *, failed: bool = False) -> None:
        """Give the message up unfinished, so that another worker takes it at once. Raises `Fenced`.

        It costs no try, unless this one `failed`.
        """
        with self._transaction() as connection:
            write_under_lease(
                connection,
                lease,
                lease_owner=None,
                lease_until=None,
                rung_at=None,
                tries=Message.tries + int(failed),
            )

    def context(self, lease: Lease, *, max_tokens: int) -> Context:
        """The project as it is now, and the newest of the messages that were answered before this one."""
        with self._statement() as connection:
            asked = connection.execute(
                statements.CONTEXT,
                {"message": lease.message_id, "project": lease.project_id, "max_tokens": max_tokens},
            ).one_or_none()
        if asked is None:
            raise Fenced
        history = [HistoryMessage(role=Role.USER, content=asked.content)]
        for question, answer in asked.pairs or ():
            if answer:
                history.append(HistoryMessage(role=Role.ASSISTANT, content=answer))
            history.append(HistoryMessage(role=Role.USER, content=question))
        return Context(
            document=asked.document,
            version=asked.version,
            schema=asked.schema,
            history=tuple(reversed(history)),
            components=tuple(
                BuiltComponent(id=UUID(id_), name=name, description=description)
                for id_, name, description in asked.components or ()
            ),
        )

    def store_round(
        self,
        lease: Lease,
        stored: StoredRound,
        *,
        content: str,
        last_event_id: EventId | None,
        first_token_ms: int | None,
    ) -> None:
        """One round's text and calls, before the first of the calls is run; `content` is all text so far. Raises `Fenced`.

        Safe to repeat under the same lease.
        """
        with self._transaction() as connection:
            write_under_lease(
                connection,
                lease,
                content=content,
                last_event_id=Message.last_event_id if last_event_id is None else str(last_event_id),
                first_token_ms=first_token_ms,
            )
            connection.execute(
                upsert(Round)
                .values(
                    message_id=lease.message_id,
                    run=lease.run,
                    round=stored.round,
                    attempt=lease.attempt,
                    text=stored.text,
                    calls=msgspec.to_builtins(stored.calls),
                    document_version=stored.document_version,
                    usage=_builtins(stored.usage),
                )
                .on_conflict_do_nothing()
            )

    def may_act(self, lease: Lease) -> bool:
        """Whether the message's author, who asked or asked again, may change the project: a tool acts by that right.

        For tools that do something elsewhere; what is done to the project is looked at again as it is committed.
        """
        with self._statement() as connection:
            return _may_act(connection, lease)

    def commit_effect(
        self,
        lease: Lease,
        round_: int,
        index: int,
        call: StoredCall,
        effect: Effect,
        *,
        last_event_id: EventId | None = None,
    ) -> ToolEffect:
        """The call's effect, its ledger row and the message's progress in one transaction: once, whoever comes again.

        `last_event_id` is the event's that will tell of it: a snapshot of the row shows the call as made, so that no event of
        the call may follow it. Answers what the ledger has, also where the call was made before. Where the message's author
        may not change the project any more, nothing is done to it (`WITHDRAWN`). Raises `Fenced`.
        """
        with self._transaction() as connection:
            # the project first: everything that locks several rows begins with it
            project = connection.execute(
                select(Project.__table__).where(Project.id == lease.project_id).with_for_update()
            ).one_or_none()
            write_under_lease(
                connection,
                lease,
                last_event_id=Message.last_event_id if last_event_id is None else str(last_event_id),
            )
            known = connection.execute(
                select(LedgerEntry.__table__).where(
                    LedgerEntry.tool_call_id == call.tool_call_id, LedgerEntry.message_id == lease.message_id
                )
            ).one_or_none()
            if known is not None:
                return tool_effect(known)
            if project is None:
                raise Fenced
            told, change, job = _take_effect(connection, project, lease, call, effect)
            connection.execute(
                insert(LedgerEntry).values(
                    tool_call_id=call.tool_call_id,
                    message_id=lease.message_id,
                    run=lease.run,
                    round=round_,
                    index=index,
                    attempt=lease.attempt,
                    name=call.name,
                    arguments=call.arguments,
                    succeeded=told.succeeded,
                    final_content=told.words,
                    error=told.error,
                    result=told.result,
                    job_id=None if job is None else job.id,
                    version=None if change is None else change.version,
                )
            )
        return ToolEffect(
            call=ToolCall(
                tool_call_id=call.tool_call_id,
                name=call.name,
                arguments=shown_arguments(call.arguments),
                state="succeeded" if told.succeeded else "failed",
                final_content=told.words,
                error=told.error,
                job_id=None if job is None else str(job.id),
                version=None if change is None else change.version,
            ),
            result=told.result,
            change=change,
            job=job,
        )

    def finalize(
        self,
        lease: Lease,
        outcome: Outcome,
        *,
        first: EventId,
        usage: Usage | None,
        first_token_ms: int | None,
        stages: Stages | None = None,
        spent_tokens: int | None = None,
        built: Built | None = None,
    ) -> Ending:
        """Commit the end and the events that tell it, numbered from `first`; they are appended afterwards. Raises `Fenced`.

        `usage` is the run's; `spent_tokens` those of it that the row has not counted yet, all by default. `stages` None keeps
        those of the turn that handed over. `built` goes with a builder's success. Safe to repeat: where this very end was
        committed before, its stored events are answered again.
        """
        with self._transaction() as connection:
            row = connection.execute(statements.LOCK_TO_END, {"message": lease.message_id}).one_or_none()
            if row is None or row.attempt != lease.attempt:
                raise Fenced
            if row.lease_owner != lease.owner:
                if row.ending and _ends_attempt(row.last_event_id, lease.attempt):
                    return _ending(lease.message_id, lease.project_id, row.status, row.ending, model=row.model)
                raise Fenced
            took = timing(row, first_token_ms, stages)
            made = ending_events(
                outcome,
                message_id=str(lease.message_id),
                first=first,
                ts=int(row.now_ms),
                usage=usage,
                timing=took,
            )
            return write_ending(
                connection,
                message_id=lease.message_id,
                project_id=lease.project_id,
                attempt=lease.attempt,
                outcome=outcome,
                made=made,
                usage=usage,
                spent_tokens=(usage.total_tokens if usage else 0) if spent_tokens is None else spent_tokens,
                timing=took,
                built=built,
            )

    def ending_was_appended(self, message_id: UUID, last_event_id: EventId) -> None:
        """The log has this ending, or has lost what stands before it and readers take it from the row.

        Not noted where somebody has the row locked: appending it again does no harm.
        """
        with self._statement() as connection:
            connection.execute(statements.NOTE_APPENDED, {"message": message_id, "last": str(last_event_id)})

    def next_of_a_batch(self) -> UUID | None:
        """A message of any batch that nobody has taken, marked as rung for; None where there is none."""
        with self._statement() as connection:
            return connection.execute(statements.NEXT_OF_A_BATCH).scalar_one_or_none()

    def next_in_line(self, project_id: UUID) -> UUID | None:
        """The project's message whose turn has come and that is no batch's, marked as rung for; None where there is none."""
        with self._statement() as connection:
            return connection.execute(statements.NEXT_IN_LINE, {"project": project_id}).scalar_one_or_none()


def timing(row: Row[Any], first_token_ms: int | None, stages: Stages | None = None) -> Timing | None:
    """Of a row that has `statements.CLOCKS`; without `stages` those that it has already."""
    if row.total_s is None:
        return None
    if stages is None:
        stages = msgspec.convert(row.timing or {}, Stages)
    return Timing(
        queued_ms=None if row.queued_s is None else max(0, round(float(row.queued_s) * 1000)),
        first_token_ms=first_token_ms,
        total_ms=max(0, round(float(row.total_s) * 1000)),
        **msgspec.structs.asdict(stages),
    )


def write_ending(
    connection: Connection,
    *,
    message_id: UUID,
    project_id: UUID,
    attempt: int,
    outcome: Outcome,
    made: Sequence[events.StreamEvent],
    usage: Usage | None,
    spent_tokens: int,
    timing: Timing | None,
    built: Built | None = None,
) -> Ending:
    """End a locked message and its job, or hand it to a builder. The events are stored byte for byte until appended.

    `usage` is the run's; `spent_tokens` are those of it that the row has not counted yet.
    """
    encoded = [events.encode(event) for event in made]
    status, code = status_of(outcome), getattr(outcome, "code", None)
    job = _write_job(connection, message_id, outcome, built)
    written: dict[str, Any] = {
        "message": message_id,
        "spent_tokens": spent_tokens,
        "attempt": attempt,
        "status": status,
        "kind": kind_of(outcome),
        "content": outcome.content,
        "error_code": code,
        "usage": _builtins(usage),
        "timing": _builtins(timing),
        "last_event_id": made[-1].id,
        "ending": encoded,
    }
    if isinstance(outcome, HandedOver):
        done = connection.execute(statements.HAND_OVER, {**written, "job_id": UUID(outcome.job_id)})
    else:
        done = connection.execute(statements.END, written)
    return _ending(message_id, project_id, status, encoded, job, model=done.scalar_one())


def _write_job(connection: Connection, message_id: UUID, outcome: Outcome, built: Built | None) -> Job | None:
    """What the message's end means for its job, if it has one that is open."""
    match outcome:
        case HandedOver():
            return write_job(connection, UUID(outcome.job_id), status=JobStatus.PENDING, error=None, phase=None)
        case Cancelled():
            return end_open_job(connection, message_id, JobStatus.CANCELLED)
        case Failed():
            return end_open_job(connection, message_id, JobStatus.ERROR, error=outcome.reason or outcome.code.detail)
        case Succeeded():
            if built is None:
                return None
            return end_open_job(connection, message_id, JobStatus.SUCCESS, **msgspec.structs.asdict(built))
        case _:
            assert_never(outcome)


def _ending(
    message_id: UUID,
    project_id: UUID,
    status: MessageStatus,
    encoded: Sequence[bytes],
    job: Job | None = None,
    *,
    model: str | None,
) -> Ending:
    return Ending(
        message_id=message_id,
        project_id=project_id,
        status=status,
        events=tuple(map(bytes, encoded)),
        job=job,
        model=model,
    )


def _ends_attempt(last_event_id: str | None, attempt: int) -> bool:
    return last_event_id is not None and EventId.parse(last_event_id).attempt == attempt


def is_of(owner: str) -> Any:
    """Whether this very claim took the message; of a commit whose answer was lost."""
    return Message.lease_owner == owner


def write_under_lease(connection: Connection, lease: Lease, **values: Any) -> None:
    """The fence: an update of the message under the lease. Raises `Fenced` where it hits nothing."""
    written = connection.execute(
        statements.UNDER_LEASE.values(**values) if values else statements.UNDER_LEASE,
        {"message": lease.message_id, "held": lease.attempt, "owner": lease.owner},
    ).scalar_one_or_none()
    if written is None:
        raise Fenced


def _take_effect(
    connection: Connection, project: Row[Any], lease: Lease, call: StoredCall, effect: Effect
) -> tuple[Told, DocumentChange | None, Job | None]:
    """What is told of it, the document's change and the job, as far as it has them."""
    if not isinstance(effect, Told) and not _may_act(connection, lease):
        return _refused(WITHDRAWN), None, None
    match effect:
        case Told():
            return effect, None, None
        case StartJob():
            if has_job(connection, lease):
                error = "One component can be built at a time, and this answer has begun one already."
                return Told(succeeded=False, result=_json({"started": False, "error": error}), error=error), None, None
            job = start_job(connection, lease, call.tool_call_id, effect.name, effect.effect_description)
            result = _json({"started": True, "jobId": str(job.id), "name": effect.name})
            return Told(succeeded=True, result=result, words=f"Building the component {effect.name}."), None, job
        case EditDocument():
            if project.version != effect.expected_version:
                return _stale(project), None, None
            try:
                change = change_document(
                    connection, project, effect.operations, effect.limits, message_id=lease.message_id
                )
            except PatchRejected as error:
                where = "" if error.index is None else f" (operation {error.index})"
                return _refused(f"The patch was not applied{where}: {error.detail}"), None, None
            except SchemaViolation as error:
                places = "; ".join(f"{path or '/'}: {message}" for path, message in error.errors)
                return (
                    _refused(f"The patch was not applied: the document would not fit its schema: {places}"),
                    None,
                    None,
                )
            result = _json({"applied": True, "version": change.version})
            return Told(succeeded=True, result=result, words=effect.words), change, None
        case _:
            assert_never(effect)


def _may_act(connection: Connection, lease: Lease) -> bool:
    """Where a project is locked, to be asked after that: the statement that waited for the lock saw the members of before."""
    return bool(connection.execute(statements.MAY_ACT, {"message": lease.message_id}).scalar_one())


def _refused(error: str) -> Told:
    return Told(succeeded=False, result=msgspec.json.encode({"applied": False, "error": error}).decode(), error=error)


def _stale(project: Row[Any]) -> Told:
    error = "The document was changed by somebody else meanwhile; nothing was applied."
    shown = {"applied": False, "error": error, "version": project.version, "document": project.document}
    return Told(succeeded=False, result=msgspec.json.encode(shown).decode(), error=error)


def _json(value: JsonValue) -> str:
    return msgspec.json.encode(value).decode()


def _builtins(value: msgspec.Struct | None) -> Any:
    return None if value is None else msgspec.to_builtins(value)
