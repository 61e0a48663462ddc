"""A message's component job, followed beside the message: its phases come from the project's channel, which has no log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from api.close_codes import CloseCode
from api.hub import Hub
from api.protocols.telling import Telling, TellsJobs
from api.readers import JobTarget, MessageTarget, Reader
from api.wire import Frame

Say = Callable[[Sequence[bytes]], None]


class JobStrand(Reader):
    """The reader of one job, on its way to whoever follows its message."""

    __slots__ = ("_say", "_telling")

    def __init__(self, hub: Hub, target: JobTarget, telling: TellsJobs, say: Say, *, is_paused: bool) -> None:
        super().__init__(hub, target)
        self._telling = telling
        self._say = say
        self.is_paused = is_paused

    def deliver(self, frame: Frame) -> None:
        self._say(self._telling.tell_job(frame.payload))

    def close(self, code: CloseCode) -> None:
        """Why, is told to its message's reader."""
        self.hub.leave(self)

    def abort(self) -> None:
        self.hub.leave(self)

    def tick(self, now_s: float) -> None:
        """The connection has the deadlines."""


class JobFollower:
    """Follows the job that a telling wants to know of, from when it does until `end`. On the loop."""

    __slots__ = ("_hub", "_say", "_strand", "_target", "_telling")

    def __init__(self, hub: Hub, target: MessageTarget, telling: Telling, say: Say) -> None:
        self._hub = hub
        self._target = target
        self._telling = telling if isinstance(telling, TellsJobs) else None
        self._say = say
        self._strand: JobStrand | None = None

    def look(self, *, is_paused: bool) -> None:
        """The telling was told something, and may want to know of a job now."""
        if self._telling is None or (job_id := self._telling.job()) is None or self._follows(job_id):
            return
        self.end()
        target = JobTarget(job_id=job_id, project_id=self._target.project_id, user_id=self._target.user_id)
        self._strand = JobStrand(self._hub, target, self._telling, self._say, is_paused=is_paused)
        self._hub.attach(self._strand)

    def _follows(self, job_id: UUID) -> bool:
        target = None if self._strand is None else self._strand.target
        return isinstance(target, JobTarget) and target.job_id == job_id

    def pause(self) -> None:
        if self._strand is not None:
            self._strand.pause_writing()

    def resume(self) -> None:
        if self._strand is not None:
            self._strand.resume_writing()

    def end(self) -> None:
        strand, self._strand = self._strand, None
        if strand is not None:
            self._hub.leave(strand)
