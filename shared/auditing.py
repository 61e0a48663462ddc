"""What must agree about a message, its log, its calls, its job and its project's versions; and where it does not. Pure.

An audit reads what belongs to one row as of one moment and compares it here. What a log lacks is no disagreement, since its
readers are served from the row; what it has and the row denies is one.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from shared import events
from shared.event_log import Entry
from shared.events import EventId
from shared.lifecycle import FINAL, JobStatus, MessageKind, MessageStatus, Role
from shared.patching import replay, same_json
from shared.records import JsonValue
from shared.transcript import Transcript, fold


class Disagreement(StrEnum):
    """What is found. `is_mendable`: an audit that repairs can set it right without guessing."""

    # a row and its log
    ENDING_NOT_APPENDED = "ending_not_appended"
    """The row is final and nobody told its readers."""
    END_MISSING_IN_LOG = "end_missing_in_log"
    """The log stops right before its end, which the row has."""
    LOG_BEYOND_END = "log_beyond_end"
    """The log goes on behind the row's end, or ends in an attempt that the row never had."""
    LOG_CONTRADICTS_ROW = "log_contradicts_row"
    """The fold of the log is not the row: text, status or calls."""
    LOG_UNREADABLE = "log_unreadable"
    """An entry is no event of ours, is out of its order, or the log never expires."""
    # a row and itself
    ROW_CONTRADICTS_ITSELF = "row_contradicts_itself"
    """Kind, error code, stored ending or position do not go with the status."""
    QUESTION_WITHOUT_ANSWER = "question_without_answer"
    ANSWER_WITHOUT_QUESTION = "answer_without_question"
    QUEUE_NUMBER_WRONG = "queue_number_wrong"
    """It waits without a number, with one that another has too, or with one that was never given out."""
    # a row that nobody ends
    LEASE_LAPSED = "lease_lapsed"
    """Longer ago than a sweeper leaves it."""
    NOT_RUNG = "not_rung"
    """Its turn has come, workers have room, and nobody rang."""
    CANCEL_UNANSWERED = "cancel_unanswered"
    TRIES_SPENT = "tries_spent"
    BUILDING_WITHOUT_JOB = "building_without_job"
    # a row and its job
    JOB_OPEN = "job_open"
    """Its message is over."""
    JOB_CONTRADICTS_MESSAGE = "job_contradicts_message"
    JOB_MISSING = "job_missing"
    BUNDLE_DAMAGED = "bundle_damaged"
    """Source or bundle are missing, or not what their hashes say."""
    # rounds, ledger, versions
    CALL_WITHOUT_ROUND = "call_without_round"
    """The ledger has a call that no stored round decided."""
    CALL_NOT_MADE = "call_not_made"
    """A run is over without the call that its round decided."""
    CALL_WITHOUT_JOB = "call_without_job"
    """The ledger names a job that there is not, or a job no call of the ledger."""
    CALL_WITHOUT_VERSION = "call_without_version"
    VERSION_WITHOUT_CALL = "version_without_call"
    ATTEMPT_AHEAD = "attempt_ahead"
    """A round or a call of an attempt that the row never had."""
    VERSION_MISSING = "version_missing"
    """A project's versions have a gap, or do not end with the project's own."""
    VERSION_CONTRADICTS_DOCUMENT = "version_contradicts_document"
    """A version's inverse does not fit its document, or its operations do not make it again."""
    KEY_ELSEWHERE = "key_elsewhere"
    """An idempotency key stands for a message that is no answer in its project."""

    @property
    def is_mendable(self) -> bool:
        return self in _MENDABLE


_MENDABLE: Final = frozenset(
    {
        Disagreement.ENDING_NOT_APPENDED,
        Disagreement.END_MISSING_IN_LOG,
        Disagreement.LOG_BEYOND_END,
        Disagreement.LOG_CONTRADICTS_ROW,
        Disagreement.LOG_UNREADABLE,
        Disagreement.LEASE_LAPSED,
        Disagreement.NOT_RUNG,
        Disagreement.CANCEL_UNANSWERED,
        Disagreement.TRIES_SPENT,
        Disagreement.BUILDING_WITHOUT_JOB,
        Disagreement.JOB_OPEN,
        Disagreement.KEY_ELSEWHERE,
    }
)


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One disagreement, and whose: a message's id, or a project's. `detail` holds numbers and names, no user's text."""

    kind: Disagreement
    id: UUID
    detail: str


# --- what is compared --------------------------------------------------------------------------------------------


class AuditedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the ledger."""

    tool_call_id: str
    run: int
    round: int
    index: int
    attempt: int
    name: str
    succeeded: bool
    job_id: UUID | None
    version: int | None


class AuditedRound(msgspec.Struct, frozen=True, kw_only=True):
    """A stored round and the ids of its calls, in order."""

    run: int
    round: int
    attempt: int
    calls: tuple[str, ...]


class AuditedJob(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    project_id: UUID
    tool_call_id: str
    status: JobStatus
    has_bundle: bool
    is_sound: bool
    """Source and bundle are both there or both not, and are what their hashes say."""


class AuditedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """All that belongs to one message, as of one moment. Durations are by the database's clock."""

    id: UUID
    project_id: UUID
    role: Role
    kind: MessageKind
    status: MessageStatus
    content: str
    error_code: str | None
    has_question: bool
    """Of an answer: what it replies to is a user's message of the same project."""
    answers: int
    """Of a user's: messages that reply to it."""
    job_id: UUID | None
    attempt: int
    run: int
    tries: int
    is_leased: bool
    lease_overdue_s: float
    """Seconds since the lease ran out; negative while it lasts, 0 where there is none."""
    unwritten_s: float
    """Seconds since the row was last written."""
    unrung_s: float
    """Seconds since it was rung for, else since it was enqueued."""
    cancel_age_s: float | None
    is_waited_for: bool
    """Its turn has come, as a worker or builder sees it. Never a batch's: those are rung for at a pace of their own."""
    project_quiet_s: float
    """Seconds since any message of a pending message's project was last written: a turn that came, came then."""
    queue_number: int | None
    shares_number: bool
    """An earlier pending message of the project has the same."""
    newest_queue_number: int
    """The project's."""
    last_event_id: str | None
    ending: tuple[bytes, ...]
    ending_appended: bool
    rounds: tuple[AuditedRound, ...]
    calls: tuple[AuditedCall, ...]
    jobs: tuple[AuditedJob, ...]
    oldest_version: int
    """The lowest that is stored of its project's: what is below was pruned."""
    versions: tuple[tuple[UUID, int], ...]
    """Project and number of the document versions that the message made."""

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def mark(self) -> tuple[object, ...]:
        """Changes with whatever changes what the log may hold."""
        return (self.status, self.attempt, self.run, self.last_event_id, self.ending_appended)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long something may wait before nobody is thought to do it any more, in seconds; and who is called in vain."""

    overdue_s: float
    max_tries: int
    workers_have_room: bool = True
    """Bells would be answered: where too many wait, nobody rings, and that is right."""
    builders_have_room: bool = True


# --- a message ---------------------------------------------------------------------------------------------------


def compare_message(message: AuditedMessage, patience: Patience) -> list[Finding]:
    """What disagrees about a message beside its log."""
    if message.role is Role.USER:
        found = _compare_question(message)
    else:
        found = (
            *_compare_row(message),
            *_compare_waiting(message, patience),
            *_compare_jobs(message),
            *_compare_calls(message),
        )
    return [Finding(kind=kind, id=message.id, detail=detail) for kind, detail in found]


_Found = tuple[Disagreement, str]


def _compare_question(message: AuditedMessage) -> tuple[_Found, ...]:
    found: list[_Found] = []
    if message.answers != 1:
        found.append((Disagreement.QUESTION_WITHOUT_ANSWER, f"{message.answers} messages answer it, not 1"))
    if message.kind is not MessageKind.MESSAGE or message.status is not MessageStatus.SUCCESS:
        found.append((Disagreement.ROW_CONTRADICTS_ITSELF, f"a user's message is {message.kind}, {message.status}"))
    return tuple(found)


def _compare_row(message: AuditedMessage) -> Iterator[_Found]:
    if not message.has_question:
        yield Disagreement.ANSWER_WITHOUT_QUESTION, "it answers no message of its project"
    itself = Disagreement.ROW_CONTRADICTS_ITSELF
    if (message.error_code is not None) != (message.status is MessageStatus.ERROR):
        yield itself, f"{message.status} with the error code {message.error_code}"
    if (message.kind is MessageKind.ERROR) != (message.status is MessageStatus.ERROR):
        yield itself, f"{message.status} with the kind {message.kind}"
    if not message.is_final:
        return
    if message.last_event_id is None or not message.ending:
        yield itself, f"{message.status} without an ending"
        return
    try:
        last = events.decode(message.ending[-1])
    except msgspec.DecodeError:
        yield itself, "its ending cannot be read"
        return
    if not isinstance(last, events.Finalized) or last.status != message.status:
        yield itself, f"{message.status}, and its ending says {getattr(last, 'status', last.id)}"
    elif last.id != message.last_event_id or EventId.parse(last.id).attempt != message.attempt:
        yield itself, f"attempt {message.attempt}, last event {message.last_event_id}, and its ending is {last.id}"


def _compare_waiting(message: AuditedMessage, patience: Patience) -> Iterator[_Found]:
    if message.is_final:
        if not message.ending_appended and message.unwritten_s > patience.overdue_s:
            yield Disagreement.ENDING_NOT_APPENDED, f"for {message.unwritten_s:.0f} s"
        return
    if message.status is MessageStatus.PENDING:
        number = message.queue_number
        if number is None or not 1 <= number <= message.newest_queue_number:
            yield (
                Disagreement.QUEUE_NUMBER_WRONG,
                f"{number}, and the newest given out is {message.newest_queue_number}",
            )
        elif message.shares_number:
            yield Disagreement.QUEUE_NUMBER_WRONG, f"{number} is another's too"
    elif message.job_id is None or all(job.id != message.job_id for job in message.jobs):
        yield Disagreement.BUILDING_WITHOUT_JOB, f"job {message.job_id}"
        return
    if message.is_leased:
        if message.lease_overdue_s > patience.overdue_s:
            yield Disagreement.LEASE_LAPSED, f"for {message.lease_overdue_s:.0f} s"
    elif message.cancel_age_s is not None:
        if min(message.cancel_age_s, message.unwritten_s) > patience.overdue_s:
            yield Disagreement.CANCEL_UNANSWERED, f"for {message.cancel_age_s:.0f} s"
    elif message.tries >= patience.max_tries:
        if message.unwritten_s > patience.overdue_s:
            yield Disagreement.TRIES_SPENT, f"{message.tries} tries, for {message.unwritten_s:.0f} s"
    elif message.is_waited_for:
        pending = message.status is MessageStatus.PENDING
        has_room = patience.workers_have_room if pending else patience.builders_have_room
        silent_s = min(message.unrung_s, message.unwritten_s, message.project_quiet_s)
        if has_room and silent_s > patience.overdue_s:
            yield Disagreement.NOT_RUNG, f"for {message.unrung_s:.0f} s"


def _compare_jobs(message: AuditedMessage) -> Iterator[_Found]:
    open_ = (JobStatus.PENDING, JobStatus.BUILDING)
    called = {call.tool_call_id: call.job_id for call in message.calls if call.job_id is not None}
    for job in message.jobs:
        if called.pop(job.tool_call_id, None) != job.id:
            yield Disagreement.CALL_WITHOUT_JOB, f"no call of the ledger began the job {job.id}"
        if job.project_id != message.project_id:
            yield Disagreement.JOB_CONTRADICTS_MESSAGE, f"the job {job.id} is of another project"
        if not job.is_sound or (job.status is JobStatus.SUCCESS and not job.has_bundle):
            yield Disagreement.BUNDLE_DAMAGED, f"of the job {job.id}"
        if not message.is_final:
            if job.id == message.job_id and message.status is MessageStatus.BUILDING and job.status not in open_:
                yield Disagreement.JOB_CONTRADICTS_MESSAGE, f"building, and its job {job.id} is {job.status}"
        elif job.status in open_:
            yield Disagreement.JOB_OPEN, f"{message.status}, and the job {job.id} is {job.status}"
        elif job.id == message.job_id and job.status.value != message.status.value:
            yield Disagreement.JOB_CONTRADICTS_MESSAGE, f"{message.status}, and the job {job.id} is {job.status}"
    for tool_call_id, job_id in called.items():
        yield Disagreement.CALL_WITHOUT_JOB, f"the job {job_id} of the call {tool_call_id} is not there"
    if message.is_final and message.job_id is not None and all(job.id != message.job_id for job in message.jobs):
        yield Disagreement.JOB_MISSING, f"job {message.job_id}"


def _compare_calls(message: AuditedMessage) -> Iterator[_Found]:
    decided = {
        (stored.run, stored.round, index): tool_call_id
        for stored in message.rounds
        for index, tool_call_id in enumerate(stored.calls)
    }
    made = {(call.run, call.round, call.index): call.tool_call_id for call in message.calls}
    for place, tool_call_id in made.items():
        if decided.get(place) != tool_call_id:
            yield Disagreement.CALL_WITHOUT_ROUND, f"{tool_call_id} in run {place[0]}, round {place[1]}"
    # a success, or a turn that handed over, has made all its calls; so has every run that another one followed
    is_whole = message.status in (MessageStatus.SUCCESS, MessageStatus.BUILDING)
    for place, tool_call_id in decided.items():
        if place not in made and (place[0] < message.run or is_whole):
            yield Disagreement.CALL_NOT_MADE, f"{tool_call_id} in run {place[0]}, round {place[1]}"
    attempts = [*(stored.attempt for stored in message.rounds), *(call.attempt for call in message.calls)]
    newest = max(attempts, default=0)
    if newest > message.attempt:
        yield Disagreement.ATTEMPT_AHEAD, f"attempt {message.attempt}, and something was written in {newest}"
    told = Counter((message.project_id, call.version) for call in message.calls if call.version is not None)
    there = Counter(message.versions)
    for _, version in told - there:
        if version < message.oldest_version:
            continue
        yield Disagreement.CALL_WITHOUT_VERSION, f"version {version} is not there, or not this message's"
    for call in message.calls:
        if call.name == "applyJsonPatch" and call.succeeded and call.version is None:
            yield Disagreement.CALL_WITHOUT_VERSION, f"{call.tool_call_id} succeeded without one"
    for _, version in there - told:
        yield Disagreement.VERSION_WITHOUT_CALL, f"version {version}"


# --- a message and its log ---------------------------------------------------------------------------------------


def compare_log(message: AuditedMessage, log: Sequence[Entry], *, expires: bool = True) -> list[Finding]:
    """What disagrees between a final answer and the newest attempt of its log, which was read while the row did not change.

    A log that stops before the end, or lost its beginning, is one that readers do not take: the row serves them.
    """
    found = [] if expires else [(Disagreement.LOG_UNREADABLE, "it never expires")]
    if log and message.is_final and message.last_event_id is not None:
        found += _compare_log(message, log, EventId.parse(message.last_event_id))
    return [Finding(kind=kind, id=message.id, detail=detail) for kind, detail in found]


def _compare_log(message: AuditedMessage, log: Sequence[Entry], end: EventId) -> Iterator[_Found]:
    last = log[-1].id
    if last > end:
        yield Disagreement.LOG_BEYOND_END, f"the log ends with {last}, the row with {end}"
        return
    if last < end:
        if message.ending_appended and message.ending and last.next == events.peek(message.ending[0])[1]:
            yield Disagreement.END_MISSING_IN_LOG, f"the log ends with {last}, the row with {end}"
        return
    if log[0].id.n > 0:
        return
    try:
        told = [events.decode(entry.payload) for entry in log]
    except msgspec.DecodeError:
        yield Disagreement.LOG_UNREADABLE, "an entry is no event"
        return
    for entry, event in zip(log, told, strict=True):
        if event.id != str(entry.id) or event.message_id != str(message.id):
            yield Disagreement.LOG_UNREADABLE, f"the entry {entry.id} is the event {event.id} of {event.message_id}"
            return
    if any(after.id.n != before.id.n + 1 for before, after in itertools.pairwise(log)):
        yield Disagreement.LOG_UNREADABLE, "ids are missing"
        return
    if any(events.is_terminal(event) for event in told[:-1]) or not events.is_terminal(told[-1]):
        yield Disagreement.LOG_CONTRADICTS_ROW, "its terminal event is not its last"
        return
    shown = fold(Transcript(), told)
    if shown.status != message.status:
        yield Disagreement.LOG_CONTRADICTS_ROW, f"the log says {shown.status}, the row {message.status}"
    if shown.content != message.content:
        sizes = f"{len(shown.content)} characters, the row {len(message.content)}"
        yield Disagreement.LOG_CONTRADICTS_ROW, f"the texts differ: the log has {sizes}"
    # what a call was decided to do and did not come to is shown as begun, and stands in no ledger
    in_log = {call.tool_call_id: call.state == "succeeded" for call in shown.tool_calls if call.state != "started"}
    in_ledger = {call.tool_call_id: call.succeeded for call in message.calls if call.run == message.run}
    if in_log != in_ledger:
        yield Disagreement.LOG_CONTRADICTS_ROW, f"{len(in_log)} calls, the ledger has {len(in_ledger)}, or not the same"


# --- a project's versions ----------------------------------------------------------------------------------------


class AuditedVersion(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    operations: list[JsonValue]
    inverse: list[JsonValue]


def compare_numbers(project_id: UUID, newest: int, stored: tuple[int, int, int], *, reach: int) -> list[Finding]:
    """A project at version `newest`; `stored` is how many versions there are, the lowest and the highest (0, 0, 0: none).

    Version 1 is what it was made with and is not stored; old ones may have been pruned, but none of the newest `reach`.
    """
    count, lowest, highest = stored
    if newest == 1 and count == 0:
        return []
    is_whole = count > 0 and count == highest - lowest + 1 and lowest >= 2
    if is_whole and highest == newest and count >= min(newest - 1, reach):
        return []
    detail = f"version {newest}, and {count} stored, {lowest} to {highest}"
    return [Finding(kind=Disagreement.VERSION_MISSING, id=project_id, detail=detail)]


def compare_versions(project_id: UUID, document: JsonValue, newest_first: Iterable[AuditedVersion]) -> list[Finding]:
    """Walks back from the present document: each inverse must apply, and its operations then make what it was taken from.

    Neither `document` nor the versions are the caller's any more. Stops at the first that does not fit: what lies before is
    not known then.
    """
    after = document
    for version in newest_first:
        kind = Disagreement.VERSION_CONTRADICTS_DOCUMENT
        kept = copy.deepcopy(after)
        try:
            before = replay(after, version.inverse)
        except Exception:  # whatever jsonpatch makes of operations that do not fit, they do not
            return [
                Finding(kind=kind, id=project_id, detail=f"the inverse of version {version.version} does not apply")
            ]
        base = copy.deepcopy(before)
        try:
            again = replay(before, version.operations)
        except Exception:
            return [Finding(kind=kind, id=project_id, detail=f"version {version.version} does not apply again")]
        if not same_json(again, kept):
            return [Finding(kind=kind, id=project_id, detail=f"version {version.version} makes another document")]
        after = base
    return []
