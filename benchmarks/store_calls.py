"""Every question and every write of the store, with arguments as they are in use.

A method of the store that is not here is noticed by a test, so that none comes without its plans being looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from benchmarks.filling import Filled
from shared.batches import BatchFilter
from shared.events import EventId, Usage
from shared.lifecycle import (
    BatchStatus,
    ErrorCode,
    ItemState,
    JobStatus,
    MemberRole,
    MessageKind,
    MessageStatus,
    OnBusy,
)
from shared.outcomes import Cancelled, Failed, HandedOver, Outcome, Succeeded
from shared.patching import PatchLimits
from shared.records import Claim, Identity, Lease, Since, StoredCall, StoredRound, Submitted
from shared.store import Built, EditDocument, Idempotency, StartJob, Store, SubmitLimits, Told, Wanted
from shared.store.pruning import Prunable

PAGE: Final = 50
MAX_TRIES: Final = 3
_LIMITS: Final = SubmitLimits(max_unfinished=100_000, max_tokens_per_day=10**12)
_PATCH_LIMITS: Final = PatchLimits()
_USAGE: Final = Usage(prompt_tokens=900, completion_tokens=100, total_tokens=1000)
_EDIT: Final = [{"op": "replace", "path": "/scenes/0/text", "value": "other words"}]
_numbers: Final = itertools.count(1)


class Arguments(NamedTuple):
    positional: tuple[Any, ...]
    named: dict[str, Any]


def _with(*positional: Any, **named: Any) -> Arguments:
    return Arguments(positional, named)


class Place:
    """A project of a filled database, and what is made in it to be asked about; none of that is looked at."""

    def __init__(self, filled: Filled, project_id: UUID) -> None:
        self.filled = filled
        self.store = filled.store
        self.me = filled.owner
        self.project_id = project_id

    def submitted(self, on_busy: OnBusy = OnBusy.PARALLEL) -> Submitted:
        return self.store.submit(
            self.me, self.project_id, "Brighter, please.", model="gpt-5", on_busy=on_busy, limits=_LIMITS
        )

    def message(self, on_busy: OnBusy = OnBusy.PARALLEL) -> UUID:
        return self.submitted(on_busy).assistant_message.id

    def claim(self, message_id: UUID | None = None) -> Claim:
        claim = self.store.claim(
            message_id or self.message(), f"worker-x/{next(_numbers)}", lease_s=600.0, max_tries=MAX_TRIES
        )
        assert claim is not None
        return claim

    def lease(self) -> Lease:
        return self.claim().lease

    def ended(self, outcome: Outcome | None = None) -> UUID:
        lease = self.lease()
        self.store.finalize(lease, outcome or Succeeded(content="Done."), **_end(lease))
        self.store.ending_was_appended(lease.message_id, EventId(lease.attempt, 4))
        return lease.message_id

    def building(self) -> tuple[Lease, UUID]:
        """A message whose job a builder holds."""
        lease = self.lease()
        self.store.store_round(lease, _round(self.version()), **_STORED)
        job = self.store.commit_effect(lease, 0, 0, _call(lease), StartJob(name="Rain", effect_description="Rain")).job
        assert job is not None
        self.store.finalize(lease, HandedOver(content="", job_id=str(job.id)), **_end(lease))
        claim = self.store.claim_build(lease.message_id, f"builder/{next(_numbers)}", lease_s=600.0, max_tries=3)
        assert claim is not None
        return claim.lease, job.id

    def version(self) -> int:
        return self.store.project(self.me, self.project_id).version

    def any(self, where: str = "status = 'success'") -> UUID:
        """The project's newest answer of that kind, or one of the largest project's, or one that is made."""
        for project_id in (self.project_id, self.filled.largest):
            if found := self.filled.answers(project_id, where):
                return found[0]
        return self.ended(Failed(content="", code=ErrorCode.INTERNAL) if "error" in where else None)

    def before(self) -> UUID:
        """The middle of what the project has."""
        with_it = self.filled.answers(self.project_id, "true", limit=10_000)
        return with_it[len(with_it) // 2]

    def job(self) -> UUID:
        jobs, _ = self.store.jobs(self.me, self.filled.largest, limit=20)
        return next(job.id for job in jobs if job.status is JobStatus.SUCCESS)

    def batch(self) -> UUID:
        """The one that is under way."""
        page, _ = self.store.batches(limit=PAGE)
        return next(batch.id for batch in page if batch.ended_at is None and batch.counts.total > 20)

    def ticket(self) -> str:
        return self.store.create_ticket(self.me, self.filled.token_sha256, "/v1/x", single_use=True)[0]

    @property
    def second_largest(self) -> UUID:
        return self.filled.projects[sorted(self.filled.projects)[-2]]

    def forget(self) -> None:
        """What was made here and is unfinished ends, so that it counts for nobody who is asked later."""
        statement = """
            UPDATE messages SET status = 'cancelled', lease_owner = NULL, lease_until = NULL
            WHERE project_id = :project AND status IN ('pending', 'building') AND created_at > :since
        """
        with self.filled.engine.begin() as connection:
            connection.execute(text(statement), {"project": self.project_id, "since": self.filled.now})


def _end(lease: Lease) -> dict[str, Any]:
    return {"first": EventId(lease.attempt, 3), "usage": _USAGE, "first_token_ms": 400}


def _call(lease: Lease) -> StoredCall:
    return StoredCall(tool_call_id=f"{lease.message_id}-{lease.run}-0-0", name="applyJsonPatch", arguments="{}")


def _round(version: int) -> StoredRound:
    return StoredRound(round=0, text="Now:", calls=(), document_version=version, usage=_USAGE)


_STORED: Final[dict[str, Any]] = {"content": "Now:", "last_event_id": EventId(1, 2), "first_token_ms": 400}


class Call(NamedTuple):
    method: str
    what: str
    """Which case of it."""
    arguments: Callable[[Place], Arguments]
    most_blocks: int
    """That one statement of it may touch, however many messages there are."""
    reads_whole: str | None
    """Why it may read a table from end to end, or far more than it gives; None: it may not."""

    def run(self, place: Place, arguments: Arguments) -> object:
        return getattr(place.store, self.method)(*arguments.positional, **arguments.named)


def _asked(
    method: Callable[..., object],
    arguments: Callable[[Place], Arguments],
    what: str = "",
    *,
    most_blocks: int = 1_000,
    reads_whole: str | None = None,
) -> Call:
    return Call(method.__name__, what, arguments, most_blocks, reads_whole)


def _submit(on_busy: OnBusy = OnBusy.QUEUE, **more: Any) -> Callable[[Place], Arguments]:
    return lambda at: _with(
        at.me, at.project_id, "Brighter, please.", model="gpt-5", on_busy=on_busy, limits=_LIMITS, **more
    )


def _since(at: Place, *, versions: int, messages: int) -> Arguments:
    state = at.store.project_states([at.project_id])[at.project_id]
    known = at.filled.answers(at.project_id, "true", limit=messages + 1)[-1] if messages else state.newest_message_id
    since = Since(
        version=max(1, state.version - versions),
        message_id=known,
        queue_number=max(0, state.newest_queue_number - messages),
    )
    return _with(at.project_id, since)


def _finalize(outcome: Callable[[Lease], Outcome]) -> Callable[[Place], Arguments]:
    def arguments(at: Place) -> Arguments:
        lease = at.lease()
        return Arguments((lease, outcome(lease)), _end(lease))

    return arguments


def _effect(effect: Callable[[Place], Any]) -> Callable[[Place], Arguments]:
    def arguments(at: Place) -> Arguments:
        lease = at.lease()
        return _with(lease, 0, 0, _call(lease), effect(at))

    return arguments


def _close(at: Place) -> Arguments:
    message_id = at.message()
    return _with(message_id, Cancelled(content=""), seen_attempt=0)


def _build_end(at: Place) -> Arguments:
    lease, _ = at.building()
    built = Built(source="x", source_sha256="0", bundle="x", bundle_sha256="0")
    named = {**_end(lease), "first_token_ms": None, "built": built}
    return Arguments((lease, Succeeded(content="Built.")), named)


def _claimable_build(at: Place) -> Arguments:
    lease, _ = at.building()
    at.store.hand_back(lease)
    return _with(lease.message_id, "builder-y", lease_s=600.0, max_tries=MAX_TRIES)


def _identity(at: Place) -> Identity:
    until = at.filled.now + timedelta(hours=1)
    return Identity(user="user-1", scopes=frozenset(), issuer="https://id.example", expires_at=until)


def _old(what: Prunable) -> Callable[[Place], Arguments]:
    return lambda at: _with(what, timedelta(days=80))


_OPERATORS_LIST: Final = "an operator's command, which shows all of them"
_ALL_OF_A_BATCH: Final = "it makes, or counts, an item of each message that matches"
_A_COMMAND: Final = "a command that an operator runs now and then, which looks at everything of that age"

_S: Final = Store
CALLS: Final = (
    # who may come in
    _asked(_S.authenticate, lambda at: _with("token-of-user-1")),
    _asked(_S.authenticate_jwt, lambda at: _with("jwt-of-user-1-1", _identity(at))),
    _asked(_S.authenticate_jwt, lambda at: _with("another JWT", _identity(at)), "at first sight"),
    _asked(_S.tokens, lambda at: _with(jwts=True), "of an identity provider", reads_whole=_OPERATORS_LIST),
    _asked(_S.tokens, lambda at: _with(), reads_whole=_OPERATORS_LIST),
    _asked(_S.tokens, lambda at: _with(user="user-2"), "of one user"),
    _asked(_S.revoke_token, lambda at: _with("token-of-user-3-2")),
    _asked(
        _S.revoke_token_by_id, lambda at: _with("abcdefabcdef"), reads_whole="an operator's command, over all tokens"
    ),
    _asked(_S.dead_tokens, lambda at: _with([at.filled.token_sha256] * 3)),
    _asked(_S.is_good, lambda at: _with(at.filled.token_sha256, "ops")),
    _asked(_S.create_token, lambda at: _with("user-4", scopes=frozenset({"ops"}))),
    _asked(_S.ensure_token, lambda at: _with("another token", "user-5")),
    _asked(_S.create_ticket, lambda at: _with(at.me, at.filled.token_sha256, "/v1/x", single_use=True)),
    _asked(_S.create_stream_tickets, lambda at: _with(at.me, at.filled.token_sha256, [f"/v1/{n}" for n in range(20)])),
    _asked(_S.redeem_ticket, lambda at: _with(at.ticket(), "/v1/x")),
    # projects, documents, members
    _asked(_S.create_project, lambda at: _with(at.me, "new", {"scenes": []}, None, _PATCH_LIMITS)),
    _asked(_S.projects, lambda at: _with(at.me, limit=PAGE)),
    _asked(_S.projects, lambda at: _with(at.me, limit=PAGE, before=at.project_id), "a later page"),
    _asked(_S.project, lambda at: _with(at.me, at.project_id)),
    _asked(_S.change_project, lambda at: _with(at.me, at.project_id, name="renamed")),
    _asked(_S.patch_document, lambda at: _with(at.me, at.project_id, _EDIT, _PATCH_LIMITS)),
    _asked(_S.versions, lambda at: _with(at.me, at.project_id, limit=PAGE)),
    _asked(
        _S.versions, lambda at: _with(at.me, at.project_id, limit=PAGE, before=at.version() // 2 + 2), "a later page"
    ),
    _asked(_S.versions, lambda at: _with(at.me, at.project_id, limit=PAGE, message_id=at.any()), "of one message"),
    _asked(_S.undo, lambda at: _with(at.me, at.project_id, _PATCH_LIMITS)),
    _asked(_S.redo, lambda at: _with(at.me, at.project_id, _PATCH_LIMITS)),
    _asked(_S.documents_at, lambda at: _with(at.me, at.project_id, [at.version() - 1, at.version()])),
    _asked(_S.members, lambda at: _with(at.me, at.project_id, limit=PAGE)),
    _asked(_S.members, lambda at: _with(at.me, at.project_id, limit=PAGE, before="user-3"), "a later page"),
    _asked(_S.put_member, lambda at: _with(at.me, at.project_id, "user-9", MemberRole.EDITOR, max_members=5_000)),
    _asked(_S.remove_member, lambda at: _with(at.me, at.project_id, "user-9")),
    # messages as their users see them
    _asked(_S.submit, _submit()),
    _asked(_S.submit, _submit(idempotency=Idempotency(key="new", body_sha256=b"x")), "with a key"),
    _asked(_S.submit, _submit(idempotency=Idempotency(key="new", body_sha256=b"x")), "with a key, again"),
    # each that waits in the project is moved
    _asked(_S.submit, _submit(OnBusy.INTERRUPT), "interrupting", most_blocks=5_000),
    _asked(_S.message, lambda at: _with(at.me, at.any())),
    _asked(_S.answer, lambda at: _with(at.me, at.project_id, at.submitted().user_message.id)),
    _asked(_S.active_answer, lambda at: _with(at.me, at.project_id)),
    _asked(_S.messages, lambda at: _with(at.me, at.project_id, limit=PAGE)),
    _asked(_S.messages, lambda at: _with(at.me, at.project_id, limit=PAGE, before=at.before()), "a later page"),
    _asked(_S.messages, lambda at: _with(at.me, at.project_id, limit=PAGE, status=MessageStatus.ERROR), "that failed"),
    _asked(
        _S.messages,
        lambda at: _with(at.me, at.project_id, limit=PAGE, kind=MessageKind.TEXT),
        "of a kind",
        most_blocks=3_000,
    ),
    _asked(
        _S.messages, lambda at: _with(at.me, at.project_id, limit=PAGE, status=MessageStatus.BUILDING), "being built"
    ),
    _asked(
        _S.messages, lambda at: _with(at.me, at.project_id, limit=PAGE, kind=MessageKind.TOOL_RESULT), "of a rare kind"
    ),
    _asked(_S.message_for_reader, lambda at: _with(at.me, at.any())),
    _asked(_S.reader_rows, lambda at: _with(at.filled.answers(at.filled.largest, "true", limit=100))),
    _asked(_S.request_cancel, lambda at: _with(at.me, at.message())),
    _asked(_S.retry, lambda at: _with(at.me, at.any("status = 'error' AND batch_id IS NULL"), _LIMITS)),
    # what a worker does
    _asked(_S.claim, lambda at: _with(at.message(), "worker-y/1", lease_s=10.0, max_tries=MAX_TRIES)),
    _asked(
        _S.claim,
        lambda at: _with(at.message(OnBusy.QUEUE), "worker-y/2", lease_s=10.0, max_tries=MAX_TRIES),
        "whose turn it may not be",
    ),
    _asked(
        _S.renew_leases, lambda at: _with([at.claim().lease.owner, at.claim().lease.owner, "nobody"], lease_s=600.0)
    ),
    _asked(_S.begin_attempt, lambda at: _with(at.lease(), above=3)),
    _asked(_S.count_tries, lambda at: _with(at.lease(), 1)),
    _asked(_S.hand_back, lambda at: _with(at.lease())),
    # two hundred pairs, each found by its question
    _asked(_S.context, lambda at: _with(at.lease(), max_tokens=16_000), most_blocks=5_000),
    _asked(_S.may_act, lambda at: _with(at.lease())),
    _asked(_S.store_round, lambda at: Arguments((at.lease(), _round(at.version())), _STORED)),
    _asked(
        _S.commit_effect,
        _effect(
            lambda at: EditDocument(
                operations=list(_EDIT), words="Changed.", expected_version=at.version(), limits=_PATCH_LIMITS
            )
        ),
        "that edits",
    ),
    _asked(_S.commit_effect, _effect(lambda at: StartJob(name="Rain", effect_description="Rain")), "that starts a job"),
    _asked(_S.commit_effect, _effect(lambda at: Told(succeeded=True, result="{}")), "of a third party"),
    _asked(_S.finalize, _finalize(lambda lease: Succeeded(content="Done."))),
    _asked(_S.finalize, _finalize(lambda lease: Failed(content="", code=ErrorCode.INTERNAL)), "that failed"),
    _asked(_S.finalize, _build_end, "of a build"),
    _asked(_S.ending_was_appended, lambda at: _with(at.any(), EventId(1, 4))),
    _asked(_S.next_of_a_batch, lambda at: _with()),
    _asked(_S.next_in_line, lambda at: _with(at.project_id)),
    _asked(_S.claim_build, _claimable_build),
    _asked(_S.write_phase, lambda at: _with(*at.building(), "checking", tries=1)),
    _asked(_S.jobs, lambda at: _with(at.me, at.project_id, limit=PAGE)),
    _asked(_S.job, lambda at: _with(at.me, at.job())),
    _asked(_S.built_jobs, lambda at: _with(at.me, at.filled.largest, [at.job()])),
    _asked(_S.job_source, lambda at: _with(at.me, at.job())),
    _asked(_S.job_bundle, lambda at: _with(at.me, at.job())),
    # a sweeper's round
    _asked(_S.sweeper_came_round, lambda at: _with("sweeper-1")),
    _asked(_S.take_lapsed, lambda at: _with(limit=100)),
    _asked(_S.to_close, lambda at: _with(limit=100, max_tries=MAX_TRIES)),
    _asked(_S.closing_of, lambda at: _with(at.message())),
    _asked(_S.close_message, _close),
    _asked(_S.endings_to_append, lambda at: _with(limit=100, older_than_s=2.0)),
    _asked(_S.ring_for, lambda at: _with(limit=50, again_s=0.0), most_blocks=5_000),
    _asked(_S.ring_builders_for, lambda at: _with(limit=50, again_s=0.0), most_blocks=5_000),
    _asked(_S.ring_batches_for, lambda at: _with(limit=50, again_s=0.0), most_blocks=5_000),
    _asked(
        _S.note_batches, lambda at: _with(), most_blocks=10**9, reads_whole="it counts the items of what is under way"
    ),
    _asked(_S.note_batch_end, lambda at: _with(at.any())),
    _asked(_S.send_batch_items, lambda at: _with(limit=20, window=200)),
    _asked(_S.ring_batch_builders_for, lambda at: _with(again_s=3.0)),
    # what readers are kept up to date by
    _asked(_S.project_for_reader, lambda at: _with(at.me, at.project_id)),
    _asked(_S.members_among, lambda at: _with([(id_, at.me.user_id) for id_ in at.filled.projects.values()])),
    _asked(_S.project_states, lambda at: _with(list(at.filled.projects.values()))),
    _asked(_S.project_news, lambda at: _with(at.project_id, None), "at first"),
    _asked(_S.project_news, lambda at: _since(at, versions=0, messages=0), "nothing new"),
    _asked(_S.project_news, lambda at: _since(at, versions=2, messages=3), "after a gap"),
    # figures
    _asked(_S.longest_wait_s, lambda at: _with(), most_blocks=5_000),
    _asked(_S.sweepers_silent_s, lambda at: _with()),
    _asked(_S.ping, lambda at: _with()),
    _asked(_S.figures, lambda at: _with(), most_blocks=5_000),
    _asked(_S.summary, lambda at: _with()),
    _asked(_S.activity, lambda at: _with()),
    _asked(_S.server_health, lambda at: _with()),
    _asked(_S.stats, lambda at: _with(timedelta(hours=24)), "of a day", most_blocks=20_000),  # it counts each answer
    _asked(_S.stats, lambda at: _with(timedelta(hours=1)), "of an hour"),
    # operators
    _asked(_S.operator_messages, lambda at: _with(Wanted(), limit=PAGE)),
    _asked(_S.operator_messages, lambda at: _with(Wanted(status=MessageStatus.ERROR), limit=PAGE), "that failed"),
    _asked(
        _S.operator_messages,
        lambda at: _with(Wanted(project_id=at.project_id), limit=PAGE),
        "of a project",
    ),
    _asked(
        _S.operator_messages,
        lambda at: _with(Wanted(project_id=at.project_id, status=MessageStatus.ERROR), limit=PAGE),
        "of a project, that failed",
    ),
    _asked(_S.operator_messages, lambda at: _with(Wanted(status=MessageStatus.PENDING), limit=PAGE), "that wait"),
    _asked(
        _S.operator_messages,
        lambda at: _with(Wanted(status=MessageStatus.CANCELLED), limit=PAGE),
        "cancelled",
        most_blocks=10_000,
    ),
    _asked(_S.operator_messages, lambda at: _with(Wanted(slower_than_ms=2_000), limit=PAGE), "that were slow"),
    _asked(
        _S.operator_messages,
        lambda at: _with(Wanted(slower_than_ms=10**9, model="none"), limit=PAGE),
        "none of which is found",
        most_blocks=10_000,
        reads_whole="it gives up after the newest 20,000",
    ),
    _asked(
        _S.operator_messages,
        lambda at: _with(Wanted(since=at.filled.now - timedelta(hours=1)), limit=PAGE),
        "of the last hour",
    ),
    _asked(_S.steps_since, lambda at: _with(at.filled.now - timedelta(hours=1), most=1_000)),
    _asked(
        _S.steps_since,
        lambda at: _with(at.filled.now - timedelta(days=100), message_ids=[at.any()], most=1_000),
        "of one message",
    ),
    _asked(_S.operator_message, lambda at: _with(at.any())),
    _asked(_S.request_cancel_by_operator, lambda at: _with(at.message())),
    _asked(_S.retry_by_operator, lambda at: _with(at.any("status = 'error' AND batch_id IS NULL"))),
    # batches
    _asked(
        _S.explain_batch,
        lambda at: _with(BatchFilter(status=MessageStatus.ERROR)),
        most_blocks=10**9,
        reads_whole=_ALL_OF_A_BATCH,
    ),
    _asked(
        _S.explain_batch,
        lambda at: _with(BatchFilter(status=MessageStatus.ERROR, since=at.filled.now - timedelta(hours=6))),
        "of some hours",
        most_blocks=5_000,
    ),
    _asked(
        _S.explain_batch,
        lambda at: _with(BatchFilter(status=MessageStatus.ERROR, project=at.project_id)),
        "of a project",
        most_blocks=10**9,
        reads_whole=_ALL_OF_A_BATCH,
    ),
    _asked(
        _S.explain_batch,
        lambda at: _with(BatchFilter(status=MessageStatus.PENDING)),
        "that are stuck",
        most_blocks=5_000,
    ),
    _asked(
        _S.explain_batch,
        lambda at: _with(BatchFilter(status=MessageStatus.ERROR, messages=(at.any("status = 'error'"),))),
        "of one message",
    ),
    _asked(
        _S.start_batch,
        lambda at: _with(
            BatchFilter(status=MessageStatus.CANCELLED, since=at.filled.now - timedelta(days=1)),
            rate=1.0,
            asked_by="ops",
        ),
        "of a day",
        most_blocks=10_000,
    ),
    _asked(_S.change_batch, lambda at: _with(at.batch(), BatchStatus.PAUSED)),
    _asked(_S.change_batch, lambda at: _with(at.batch(), BatchStatus.RUNNING), "on again"),
    _asked(
        _S.batches, lambda at: _with(limit=PAGE), most_blocks=10**9, reads_whole="it counts the items of fifty batches"
    ),
    _asked(_S.batch, lambda at: _with(at.batch())),
    _asked(_S.batch_items, lambda at: _with(at.batch(), limit=PAGE)),
    _asked(_S.batch_items, lambda at: _with(at.batch(), limit=PAGE, state=ItemState.SENT), "that are sent"),
    # audits
    _asked(_S.audited_messages, lambda at: _with(), most_blocks=5_000),  # a page of two hundred
    _asked(_S.audited_messages, lambda at: _with(project_id=at.project_id), "of a project", most_blocks=5_000),
    _asked(_S.audited_message, lambda at: _with(at.any())),
    _asked(_S.audited_projects, lambda at: _with()),
    _asked(_S.audited_versions, lambda at: _with(at.project_id)),
    _asked(_S.audited_keys, lambda at: _with(), most_blocks=6_000),  # a page of a thousand
    _asked(_S.audited_keys, lambda at: _with(project_id=at.project_id), "of a project", most_blocks=6_000),
    _asked(_S.ending_of, lambda at: _with(at.any())),
    _asked(_S.take_lapsed_lease, lambda at: _with(at.lease().message_id, overdue_s=1.0)),
    _asked(_S.note_rung, lambda at: _with(at.message())),
    _asked(_S.abandoned, lambda at: _with(at.message())),
    _asked(_S.end_job_with_message, lambda at: _with(at.any())),
    _asked(_S.forget_key, lambda at: _with((at.me.user_id, at.project_id, "new"))),
    _asked(_S.database_now, lambda at: _with()),
    _asked(
        _S.keep_audit,
        lambda at: _with(
            project_id=None, began_at=at.filled.now, looked_at={}, found={}, repaired={}, disagreements_left=0
        ),
    ),
    _asked(_S.last_audit, lambda at: _with()),
    # what may go
    *(
        _asked(_S.prune, _old(what), what.value, most_blocks=10**9, reads_whole=_A_COMMAND)
        for what in Prunable
        if what is not Prunable.MESSAGES
    ),
    *(
        _asked(_S.count_prunable, _old(what), what.value, most_blocks=10**9, reads_whole=_A_COMMAND)
        for what in Prunable
    ),
    _asked(_S.prune_messages, lambda at: _with(timedelta(days=80)), most_blocks=10**9, reads_whole=_A_COMMAND),
    # at the end: it takes a project away; the largest one would take a minute, for each row asks its foreign keys
    _asked(_S.delete_project, lambda at: _with(at.me, at.second_largest), most_blocks=10**9),
)


def store_methods() -> frozenset[str]:
    """Every public method of the store but `close`, which asks nothing."""
    return frozenset(
        name for name in dir(Store) if not name.startswith("_") and name != "close" and callable(getattr(Store, name))
    )
