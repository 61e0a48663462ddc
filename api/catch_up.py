"""What a reader is owed that it has not got: decided from one look at the row and at the log. Pure but for `Sources`.

The row is read before the log. So a log that ends below the row's last event id has lost something, or is about to be
appended to: an ending is appended right after its commit. The second is given one short wait.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol
from uuid import UUID

from api.wire import Frame, pack
from shared import event_log, events, transcript
from shared.errors import LogUnavailable, StoreUnavailable
from shared.event_log import NOTHING, Entry, EventLog, Stretch
from shared.events import EventId, Snapshot
from shared.records import MessageState, ProjectNews, ProjectState, ReaderRow, Since


class ReaderSource(Protocol):
    """Where rows are read. `Store` is one."""

    def reader_rows(self, message_ids: Sequence[UUID]) -> dict[UUID, ReaderRow]:
        """The rows that there are. Blocking, as the others. Raises `StoreUnavailable`, as the others."""
        ...

    def project_states(self, project_ids: Collection[UUID]) -> dict[UUID, ProjectState]:
        """How far each project has come; a deleted one is missing."""
        ...

    def project_news(self, project_id: UUID, since: Since | None, job_ids: Collection[UUID] = ()) -> ProjectNews | None:
        """How far a project has come and what `since` lacks; None where it is gone."""
        ...

    def members_among(self, pairs: Collection[tuple[UUID, UUID]]) -> frozenset[tuple[UUID, UUID]]:
        """Those of the pairs of project and user that are members."""
        ...

    def dead_tokens(self, digests: Collection[bytes]) -> frozenset[bytes]:
        """Those of the tokens, by their hashes, that are good no more."""
        ...


class Verdict(Enum):
    """What becomes of the reader once it has what it was owed."""

    LIVE = auto()
    DONE = auto()
    """It has had the terminal event."""
    LACKING = auto()
    """Live, but the log has yet to show what the row knows: look again soon."""
    GONE = auto()
    """The message does not exist any more."""


class Reading(NamedTuple):
    """One look at a message. `row` None where there is none, or where the database did not answer."""

    message_id: UUID
    row: ReaderRow | None
    database_answered: bool
    last: EventId | None
    """The id of the log's last entry; None where it is empty or where Redis did not answer."""
    entries: Stretch
    """The log's newest attempt, or what follows the lowest position asked for."""
    at_ms: int
    """When, in ms since the epoch."""

    @property
    def log_lacks(self) -> bool:
        """Whether the row knows an event that the log does not reach."""
        known = self.row.last_event_id if self.row is not None else None
        return known is not None and (self.last is None or self.last < known)


class ProjectReading(NamedTuple):
    """One look at a project. `news` None where it is gone, or where the database did not answer."""

    news: ProjectNews | None
    database_answered: bool


class Look(NamedTuple):
    """One look at many messages and projects, without their events."""

    messages: dict[UUID, Reading]
    projects: dict[UUID, ProjectState | None]
    """None for one that is gone; empty where the database did not answer."""
    strangers: frozenset[tuple[UUID, UUID]]
    """Pairs of project and user that are not members any more; empty where the database did not answer."""


class Want(NamedTuple):
    """A reader's position, and whether it is to get one snapshot in place of single events."""

    after: EventId
    compacted: bool


class Decision(NamedTuple):
    """Frames in the order of their ids, all above the reader's position; `position` (packed) is where it stands then."""

    frames: Sequence[Frame]
    position: int
    verdict: Verdict


def is_done(row: MessageState, after: EventId | None) -> bool:
    """Whether a reader that has had `after` has had everything that there is of a final message."""
    if not row.is_final:
        return False
    return row.last_event_id is None or (after is not None and after >= row.last_event_id)


def is_current(after: EventId, reading: Reading) -> bool:
    """Whether a reader at `after` is owed nothing, as far as the sources answered."""
    if reading.row is None:
        return not reading.database_answered and (reading.last is None or reading.last <= after)
    if is_done(reading.row, after):
        return False
    known = max((id_ for id_ in (reading.last, reading.row.last_event_id) if id_ is not None), default=None)
    return known is None or known <= after


def decide(want: Want, reading: Reading, *, is_patient: bool) -> Decision:
    """What a reader is sent after `want.after`.

    `is_patient`: a log that ends below what the row knows may still be catching up; otherwise it is taken for lost and
    the row speaks in its place.
    """
    after, row = want.after, reading.row
    if row is None and reading.database_answered:
        return Decision((), pack(after), Verdict.GONE)
    if row is not None and is_done(row, after):
        return Decision((), pack(after), Verdict.DONE)
    if row is not None and reading.log_lacks and not (is_patient and reading.last is not None):
        shown = _from_row(row, after, reading.at_ms)
        return _decision(shown, after, Verdict.DONE if row.is_final else Verdict.LIVE)
    if _is_beheaded(want, reading):
        shown = _from_row(row, after, reading.at_ms) if row is not None and row.last_event_id is not None else []
        return _decision(shown, after, Verdict.DONE if row is not None and row.is_final else Verdict.LIVE)
    if want.compacted:
        shown = compact(reading.message_id, reading.entries, after)
    else:
        shown = event_log.merge(reading.entries.after(after))
    if not shown:
        return _decision(shown, after, Verdict.LACKING if reading.log_lacks else Verdict.LIVE)
    last = shown[-1]
    if events.is_terminal_payload(last.kind, last.payload):
        if not _was_retried(row, last.id):
            return _decision(shown, after, Verdict.DONE)
        # The end of a run that somebody has since asked to retry: the message is not final, and a new attempt follows.
        return _decision(shown[:-1], after, Verdict.LIVE)._replace(position=pack(last.id))
    return _decision(shown, after, Verdict.LACKING if reading.log_lacks else Verdict.LIVE)


def compact(message_id: UUID, entries: Iterable[Entry], after: EventId) -> list[Entry]:
    """A whole attempt as one snapshot under its last event's id, then the end of it, where it has ended."""
    merged = event_log.merge(entries)
    cut = len(merged)
    if merged and events.is_terminal_payload(merged[-1].kind, merged[-1].payload):
        cut -= 1
        if cut and merged[cut - 1].kind == "error":
            cut -= 1
    shown = [entry for entry in merged[cut:] if entry.id > after]
    if cut and merged[cut - 1].id > after:
        decoded = events.decode_all([entry.payload for entry in merged[:cut]])
        folded = transcript.fold(transcript.Transcript(), decoded)
        snapshot = Snapshot(
            id=str(folded.position),
            message_id=str(message_id),
            ts=decoded[-1].ts,
            content=folded.content,
            status=folded.status,
            tool_calls=folded.tool_calls,
            reason="compacted",
        )
        shown.insert(0, Entry(folded.position, events.encode(snapshot)))
    return shown


def _decision(shown: Sequence[Entry], after: EventId, verdict: Verdict) -> Decision:
    return Decision([Frame.of(entry) for entry in shown], pack(shown[-1].id if shown else after), verdict)


def _is_beheaded(want: Want, reading: Reading) -> bool:
    """Whether somebody trimmed from the log what the reader is owed first: the rest alone would be half a text."""
    owed = reading.entries if want.compacted else reading.entries.after(want.after)
    if not owed:
        return False
    first = owed[0].id
    return first.n > 0 and (want.compacted or first.before != want.after)


def _was_retried(row: ReaderRow | None, terminal: EventId) -> bool:
    """Whether the row, read before the log, knew of this end and was unfinished nevertheless."""
    if row is None or row.is_final or row.last_event_id is None:
        return False
    return terminal <= row.last_event_id


def _from_row(row: ReaderRow, after: EventId, at_ms: int) -> list[Entry]:
    last = row.last_event_id
    assert last is not None
    if not row.is_final:
        return [_restored(row, last, at_ms)] if last > after else []
    shown = [_restored(row, last.before, at_ms)] if last.before > after else []
    return [*shown, *(Entry(last, payload) for payload in row.ending[-1:])]


def _restored(row: ReaderRow, under: EventId, at_ms: int) -> Entry:
    snapshot = Snapshot(
        id=str(under),
        message_id=str(row.message_id),
        ts=at_ms,
        content=row.content,
        status=row.status.value,
        tool_calls=row.tool_calls,
        reason="restored",
    )
    return Entry(under, events.encode(snapshot))


class Sources:
    """The row and the log of messages, read by blocking calls that never raise for an outage."""

    def __init__(self, log: EventLog, rows: ReaderSource) -> None:
        self._log = log
        self._rows = rows

    def decisions(
        self, message_id: UUID, wants: Collection[Want], *, is_patient: bool, redis_is_up: bool
    ) -> dict[Want, Decision]:
        """What each of `wants` is sent, from one look."""
        reading = self.read(message_id, wants, redis_is_up=redis_is_up)
        return {want: decide(want, reading, is_patient=is_patient) for want in wants}

    def read(self, message_id: UUID, wants: Collection[Want], *, redis_is_up: bool) -> Reading:
        """One look, deep enough for every one of `wants`."""
        rows = self._read_rows([message_id])
        after = None if any(want.compacted for want in wants) else min(want.after for want in wants)
        entries = NOTHING
        last: EventId | None = None
        if redis_is_up:
            try:
                entries, last = self._read_log(message_id, after)
            except LogUnavailable:
                pass  # the row alone decides
        row = rows.get(message_id) if rows is not None else None
        return Reading(message_id, row, rows is not None, last, entries, _now_ms())

    def compare(
        self,
        message_ids: Sequence[UUID],
        project_ids: Sequence[UUID] = (),
        memberships: Collection[tuple[UUID, UUID]] = (),
        *,
        redis_is_up: bool,
    ) -> Look:
        """A look at many messages and projects, in a few round trips to each store."""
        rows = self._read_rows(message_ids) if message_ids else {}
        lasts: list[EventId | None] = [None] * len(message_ids)
        if redis_is_up and message_ids:
            try:
                lasts = self._log.last_ids(message_ids)
            except LogUnavailable:
                pass  # the rows alone are compared
        at_ms = _now_ms()
        readings = {
            message_id: Reading(
                message_id,
                rows.get(message_id) if rows is not None else None,
                rows is not None,
                last,
                NOTHING,
                at_ms,
            )
            for message_id, last in zip(message_ids, lasts, strict=True)
        }
        try:
            states = self._rows.project_states(project_ids) if project_ids else {}
            strangers = frozenset(memberships) - self._rows.members_among(memberships)
        except StoreUnavailable:
            return Look(readings, {}, frozenset())
        return Look(readings, {project_id: states.get(project_id) for project_id in project_ids}, strangers)

    def project_news(self, project_id: UUID, since: Since | None, job_ids: Collection[UUID]) -> ProjectReading:
        """What the rows have for a reader that knows `since`."""
        try:
            return ProjectReading(self._rows.project_news(project_id, since, job_ids), database_answered=True)
        except StoreUnavailable:
            return ProjectReading(None, database_answered=False)

    def strangers(self, memberships: Collection[tuple[UUID, UUID]]) -> frozenset[tuple[UUID, UUID]]:
        """Those of the pairs of project and user that are no members; none where the database does not answer."""
        try:
            return frozenset(memberships) - self._rows.members_among(memberships) if memberships else frozenset()
        except StoreUnavailable:
            return frozenset()

    def dead_tokens(self, digests: Collection[bytes]) -> frozenset[bytes]:
        """As the rows tell; none where the database does not answer."""
        try:
            return self._rows.dead_tokens(digests)
        except StoreUnavailable:
            return frozenset()

    def _read_rows(self, message_ids: Sequence[UUID]) -> dict[UUID, ReaderRow] | None:
        try:
            return self._rows.reader_rows(message_ids)
        except StoreUnavailable:
            return None

    def _read_log(self, message_id: UUID, after: EventId | None) -> tuple[Stretch, EventId | None]:
        entries = self._log.replay(message_id, after)
        if entries or after is None:
            return entries, entries[-1].id if entries else None
        (last,) = self._log.last_ids([message_id])
        if last is not None and last > after:  # appended to in between
            entries = self._log.replay(message_id, after)
            last = entries[-1].id if entries else None
        return entries, last


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
