"""A project's channel: all that happens in the project, to each of its watchers.

A watcher is sent `ready`, the newest attempt of each unfinished message, then what happens. Its messages' events come from
the messages' own channels, each through a `Strand`, so that they have no gap and come once as on a message's own socket.
`message`, `document` and `job` come from the project's channel, which has no log: there the rows are what tells of a gap.
A watcher knows the document up to a version and the messages up to one, and what is published is a hint that there is more:
the next version is handed on, one beyond it makes the watcher *settle*, that is, read what it lacks from the rows.

A reader of one component job (`JobTarget`) is told of that job's phases and nothing else: `JobWatcher`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec.structs import replace

from api import wire
from api.catch_up import Look, ProjectReading
from api.channels import LONGEST_QUIET, Channel, Compared, Surroundings
from api.close_codes import CloseCode
from api.readers import JobTarget, MessageTarget, Reader, State
from api.wire import Frame
from shared import notices
from shared.events import EventId
from shared.lifecycle import UNFINISHED, JobStatus, MessageStatus
from shared.records import JobMark, JobPhase, Message, ProjectNews, ProjectState, Since

BACKLOG_PAYLOADS: Final = 1_000
BACKLOG_BYTES: Final = 1024 * 1024
MOST_ENDED: Final = 1_000
"""Messages whose end a watcher remembers; one that is retried later is told again from its newest attempt's start."""
AGAIN_S: Final = 0.4
"""How soon the rows are read again where they could not be."""

_JOB_STATUSES: Final = frozenset(JobStatus)
_OPEN: Final = frozenset({JobStatus.PENDING, JobStatus.BUILDING})

logger = logging.getLogger("chatrelay.relay")


class _ToldMessage(msgspec.Struct, frozen=True):
    id: UUID
    status: MessageStatus
    attempt: int


class _Told(msgspec.Struct, frozen=True, rename="camel"):
    """What the relay has to know of a publication."""

    type: str
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,10}-[0-9]{1,10}$")] | None = None
    message_id: UUID | None = None
    message: _ToldMessage | None = None
    version: int | None = None
    job_id: UUID | None = None
    status: str | None = None
    phase: JobPhase | None = None
    tries: int = msgspec.field(default=0, name="try")


_decoder: Final = msgspec.json.Decoder(_Told)


class Strand(Reader):
    """One unfinished message, on its way to a watcher of its project."""

    __slots__ = ("_watcher", "message_id")

    def __init__(self, watcher: Watcher, target: MessageTarget, position: int) -> None:
        super().__init__(watcher.reader.hub, target)
        self.message_id = target.message_id
        self._watcher = watcher
        self.position = position
        self.is_paused = watcher.reader.is_paused

    def deliver(self, frame: Frame) -> None:
        self._watcher.reader.deliver(frame)

    def close(self, code: CloseCode) -> None:
        if self.state is not State.LEFT:
            self._watcher.on_ended(self)

    def abort(self) -> None:
        self._watcher.reader.abort()

    def tick(self, now_s: float) -> None:
        """Its watcher's connection has the deadlines."""


class Watcher:
    """What one reader of the project was told so far. `since` None: nothing, not even `ready`."""

    __slots__ = ("_ended", "_hub", "_jobs", "_project_id", "_seen", "_strands", "reader", "since")

    def __init__(self, hub: Surroundings, reader: Reader, project_id: UUID) -> None:
        self.reader = reader
        self.since: Since | None = None
        self._hub = hub
        self._project_id = project_id
        self._seen: set[UUID] = set()
        """Messages above `since` of which it was told as they were published."""
        self._jobs: dict[UUID, JobMark] = {}
        """Unfinished jobs, as it was told of them."""
        self._strands: dict[UUID, Strand] = {}
        self._ended: dict[UUID, int] = {}
        """Where the strands of messages ended that have become final."""

    @property
    def job_ids(self) -> Iterable[UUID]:
        return self._jobs

    def is_current(self, state: ProjectState) -> bool:
        """Whether the rows have nothing that it does not know."""
        return (
            self.since is not None
            and self.since.version >= state.version
            and self.since.queue_number >= state.newest_queue_number
            and all(message_id in self._strands for message_id in state.unfinished)
            and self._jobs == state.jobs
        )

    # --- from the rows ------------------------------------------------------------------------------------------

    def catch_up(self, news: ProjectNews) -> Iterator[Frame]:
        """What it lacks. A frame counts as told once it is taken: who stops early goes on from there with later news."""
        state, messages = news.state, news.messages
        if self.since is None:
            self.since = Since(
                version=state.version, message_id=state.newest_message_id, queue_number=state.newest_queue_number
            )
            self._jobs = dict(state.jobs)
            # what another watcher lacks, a GET shows to this one
            newest = state.newest_message_id
            messages = tuple(message for message in messages if newest is None or message.id > newest)
            yield _frame("ready", notices.ready(state.version, state.newest_message_id))
        for change in news.changes:
            if change.version > self.since.version:
                self.since = replace(self.since, version=change.version)
                yield _frame("document", notices.document_changed(self._project_id, change).payload)
        for message in messages:
            if self._takes(message):
                yield _frame("message", notices.message_made(message).payload)
        for job in news.jobs:
            if self._takes_job(job.id, job.mark):
                yield _frame("job", notices.job_changed(job).payload)
        self.since = replace(self.since, queue_number=max(self.since.queue_number, state.newest_queue_number))
        for message_id in state.unfinished:
            self.follow(message_id)

    def _takes(self, message: Message) -> bool:
        """Whether the row is news, and takes it for told."""
        assert self.since is not None
        newest = self.since.message_id
        if newest is None or message.id > newest:
            self.since = replace(self.since, message_id=message.id)
            was_told = message.id in self._seen
            self._seen.discard(message.id)
        else:
            was_told = not self._is_retried(message.id, message.attempt, message.status)
        if message.status in UNFINISHED or not was_told:
            self.follow(message.id)
        return not was_told

    def _is_retried(self, message_id: UUID, attempt: int, status: MessageStatus) -> bool:
        """Whether a known message, told of once more, was retried since: the first telling has no attempt."""
        if message_id in self._strands or not attempt:
            return False
        ended = wire.unpack(self._ended.get(message_id, 0)).attempt
        return ended < attempt or (ended == attempt and status in UNFINISHED)

    def _takes_job(self, job_id: UUID, mark: JobMark) -> bool:
        known = self._jobs.get(job_id)
        if known == mark:
            return False
        if mark[0] in _OPEN:
            self._jobs[job_id] = mark
            return True
        return self._jobs.pop(job_id, None) is not None

    # --- from what was published --------------------------------------------------------------------------------

    def tell(self, told: _Told, frame: Frame) -> bool:
        """Hand it on, if it is news. False where it shows that something before it is lacking."""
        assert self.since is not None
        match told.type:
            case "document":
                return self._tell_version(told, frame)
            case "message":
                self._tell_message(told, frame)
            case "job":
                self._tell_job(told, frame)
            case _:
                return self._hear(told)
        return True

    def _tell_version(self, told: _Told, frame: Frame) -> bool:
        assert self.since is not None
        if told.version is None or told.version <= self.since.version:
            return True
        if told.version != self.since.version + 1:
            return False
        self.since = replace(self.since, version=told.version)
        self.reader.deliver(frame)
        return True

    def _tell_message(self, told: _Told, frame: Frame) -> None:
        assert self.since is not None
        message = told.message
        if message is None:
            return
        newest = self.since.message_id
        if message.id in self._seen or (newest is not None and message.id <= newest):
            if not self._is_retried(message.id, message.attempt, message.status):
                return
        else:
            self._seen.add(message.id)
        self.reader.deliver(frame)
        if message.status in UNFINISHED:
            self.follow(message.id)

    def _tell_job(self, told: _Told, frame: Frame) -> None:
        if told.job_id is None or told.status not in _JOB_STATUSES:
            return
        if self._takes_job(told.job_id, (JobStatus(told.status), told.phase, told.tries)):
            self.reader.deliver(frame)

    def _hear(self, told: _Told) -> bool:
        """An event of a message, which its strand brings; False where there is none and ought to be."""
        message_id = told.message_id
        if message_id is None or told.id is None or message_id in self._strands:
            return True
        ended = self._ended.get(message_id)
        if ended is None:
            return False
        if wire.pack(EventId.parse(told.id)) > ended:
            self.follow(message_id)
        return True

    # --- the messages' events -----------------------------------------------------------------------------------

    def follow(self, message_id: UUID) -> None:
        """Tell it the message's events from now on; harmless where it is followed."""
        if message_id in self._strands:
            return
        target = MessageTarget(message_id=message_id, project_id=self._project_id, user_id=self.reader.target.user_id)
        strand = self._strands[message_id] = Strand(self, target, self._ended.pop(message_id, 0))
        self._hub.attach(strand)

    def on_ended(self, strand: Strand) -> None:
        """Its message is final, or gone."""
        self._hub.leave(strand)
        del self._strands[strand.message_id]
        self._ended[strand.message_id] = strand.position
        if len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def end(self) -> None:
        for strand in self._strands.values():
            self._hub.leave(strand)
        self._strands.clear()

    def pause(self) -> None:
        for strand in list(self._strands.values()):
            strand.pause_writing()

    def resume(self) -> None:
        for strand in list(self._strands.values()):
            strand.resume_writing()


class JobWatcher:
    """What one reader of a single job was told of it so far."""

    __slots__ = ("_job_id", "_mark", "reader")

    since: Final = None
    """Of the document and of messages it wants to know nothing."""

    def __init__(self, reader: Reader, job_id: UUID) -> None:
        self.reader = reader
        self._job_id = job_id
        self._mark: JobMark | None = None

    @property
    def job_ids(self) -> Iterable[UUID]:
        return (self._job_id,)

    def is_current(self, state: ProjectState) -> bool:
        """As `Watcher.is_current`: a job that is over is none of the state's."""
        newest = state.jobs.get(self._job_id)
        return newest == self._mark or (newest is None and self._mark is not None and self._mark[0] not in _OPEN)

    def catch_up(self, news: ProjectNews) -> Iterator[Frame]:
        """The job as it is, where that is news."""
        for job in news.jobs:
            if job.id == self._job_id and self._takes(job.mark):
                yield _frame("job", notices.job_changed(job).payload)

    def tell(self, told: _Told, frame: Frame) -> bool:
        """Hand it on, if it is of this job and news."""
        if told.type != "job" or told.job_id != self._job_id or told.status not in _JOB_STATUSES:
            return True
        if self._takes((JobStatus(told.status), told.phase, told.tries)):
            self.reader.deliver(frame)
        return True

    def _takes(self, mark: JobMark) -> bool:
        was_known, self._mark = mark == self._mark, mark
        return not was_known

    def end(self) -> None:
        """It has nothing of its own."""

    def pause(self) -> None:
        """As `end`."""

    def resume(self) -> None:
        """As `end`."""


class ProjectChannel(Channel):
    """The watchers of one project."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_is_waiting",
        "_project_id",
        "_quiet",
        "_was_confirmed_meanwhile",
        "_watchers",
    )

    def __init__(self, hub: Surroundings, name: bytes, project_id: UUID) -> None:
        super().__init__(hub, name)
        self._project_id = project_id
        self._watchers: dict[Reader, Watcher | JobWatcher] = {}
        self._backlog: list[bytes] | None = None
        """What came since the rows began to be read; None while nobody reads them."""
        self._backlog_bytes = 0
        self._is_waiting = False
        """For its turn to have the rows read."""
        self._was_confirmed_meanwhile = False
        """The rows began to be read before the subscription stood."""
        self._quiet = 1

    # --- watchers -----------------------------------------------------------------------------------------------

    def on_joined(self, reader: Reader) -> None:
        target = reader.target
        if isinstance(target, JobTarget):
            self._watchers[reader] = JobWatcher(reader, target.job_id)
        else:
            self._watchers[reader] = Watcher(self.hub, reader, self._project_id)
        reader.state = State.SETTLING
        if self.is_subscribed or not self.hub.redis_is_up:
            self._fetch()

    def on_left(self, reader: Reader) -> None:
        reader.state = State.LEFT
        self._watchers.pop(reader).end()

    def on_paused(self, reader: Reader) -> None:
        if reader.state is State.LIVE:
            reader.state = State.SLOW
        self._watchers[reader].pause()

    def on_resumed(self, reader: Reader) -> None:
        self._watchers[reader].resume()
        if reader.state is State.SLOW:
            self._settle((reader,))

    def _settle(self, readers: Iterable[Reader]) -> None:
        for reader in readers:
            reader.state = State.SETTLING
        self._fetch()

    # --- live ---------------------------------------------------------------------------------------------------

    def on_payload(self, payload: bytes) -> None:
        told = _decoder.decode(payload)
        self._quiet = 1
        self.check_later()
        if self._backlog is not None:
            self._keep(payload, self._backlog)
        self._offer(told, payload, list(self.readers))

    def _offer(self, told: _Told, payload: bytes, readers: Iterable[Reader]) -> None:
        frame = Frame(told.type, 0, payload)
        behind: list[Reader] = []
        for reader in readers:
            if reader.state is not State.LIVE:
                continue
            try:
                if not self._watchers[reader].tell(told, frame):
                    behind.append(reader)
            except Exception:
                self._give_up(reader)
        if behind:
            self._settle(behind)

    def _keep(self, payload: bytes, backlog: list[bytes]) -> None:
        backlog.append(payload)
        self._backlog_bytes += len(payload)
        if len(backlog) > BACKLOG_PAYLOADS or self._backlog_bytes > BACKLOG_BYTES:
            backlog.clear()  # the next check finds who lacks what
            self._backlog_bytes = 0
            self._check_soon(0.0)

    def _give_up(self, reader: Reader) -> None:
        logger.exception("a watcher could not be written to")
        reader.abort()

    # --- settling -----------------------------------------------------------------------------------------------

    def on_confirmed(self) -> None:
        """Whatever was published before may have been missed."""
        self.is_subscribed = True
        self._was_confirmed_meanwhile = self._backlog is not None
        self._settle(self.in_state(State.LIVE))

    def on_link_down(self) -> None:
        self.is_subscribed = False
        self._quiet = 1
        self._fetch()
        self.check_at_s = min(self.check_at_s, self.hub.now_s + self.hub.idle_check_s)

    def _check_soon(self, delay_s: float) -> None:
        self._quiet = 1
        self.check_at_s = self.hub.now_s + delay_s
        if not delay_s:
            self.hub.check_now()

    def _fetch(self) -> None:
        """Have the rows read for all who are settling; once at a time."""
        if self._backlog is None and not self._is_waiting and self.in_state(State.SETTLING):
            self._is_waiting = True
            self.hub.when_free(self._begin_fetch)

    def _begin_fetch(self) -> bool:
        self._is_waiting = False
        fetching = self.in_state(State.SETTLING)
        if not fetching:
            return False
        for reader in fetching:
            reader.state = State.FETCHING
        self._backlog = []
        self._backlog_bytes = 0
        watchers = [self._watchers[reader] for reader in fetching]
        lowest = _lowest([watcher.since for watcher in watchers if watcher.since is not None])
        job_ids = {job_id for watcher in watchers for job_id in watcher.job_ids}
        sources, project_id = self.hub.sources, self._project_id

        def read() -> ProjectReading:
            return sources.project_news(project_id, lowest, job_ids)

        self.hub.in_pool(read, self._on_news)
        return True

    def _on_news(self, found: ProjectReading | None) -> None:
        self.hub.free()
        fetched = self.in_state(State.FETCHING)
        backlog, self._backlog = self._backlog or (), None
        if found is None or not found.database_answered:
            for reader in fetched:
                reader.state = State.SETTLING
            self._check_soon(AGAIN_S)
            return
        for reader in fetched:
            try:
                self._apply(self._watchers[reader], found.news)
            except Exception:
                self._give_up(reader)
        for payload in backlog:
            self._offer(_decoder.decode(payload), payload, fetched)
        if self._was_confirmed_meanwhile:
            self._was_confirmed_meanwhile = False
            self._settle([reader for reader in fetched if reader.state is State.LIVE])
        self._fetch()

    def _apply(self, watcher: Watcher | JobWatcher, news: ProjectNews | None) -> None:
        reader = watcher.reader
        if news is None:
            reader.close(CloseCode.WITHDRAWN)
            return
        if not news.is_whole and watcher.since is not None:
            reader.close(CloseCode.TOO_SLOW)
            return
        for frame in () if reader.is_paused else watcher.catch_up(news):
            reader.deliver(frame)
            if reader.is_paused:
                break  # what is left is read again when it has drained
        reader.state = State.SLOW if reader.is_paused else State.LIVE

    # --- the idle check -----------------------------------------------------------------------------------------

    def compared(self) -> Compared:
        self._fetch()  # subscribed or not, nobody who settles waits for ever
        self.checked_at_s = self.hub.now_s
        self.check_at_s = self.hub.now_s + self.hub.idle_check_s * self._quiet
        return Compared(projects=(self._project_id,) if self.in_state(State.LIVE) else ())

    def on_compared(self, look: Look) -> None:
        if self._project_id not in look.projects:
            return  # the database did not answer
        state = look.projects[self._project_id]
        live = self.in_state(State.LIVE)
        behind = [reader for reader in live if state is None or not self._watchers[reader].is_current(state)]
        if behind:
            self._settle(behind)
        elif self.hub.redis_is_up:
            self._quiet = min(self._quiet * 2, LONGEST_QUIET)


def _frame(kind: str, payload: bytes) -> Frame:
    return Frame(kind, 0, payload)


def _lowest(known: Sequence[Since]) -> Since | None:
    """What the one who knows least knows; None where nobody knows anything."""
    if not known:
        return None
    ids = [since.message_id for since in known if since.message_id is not None]
    return Since(
        version=min(since.version for since in known),
        message_id=min(ids) if len(ids) == len(known) else None,
        queue_number=min(since.queue_number for since in known),
    )
