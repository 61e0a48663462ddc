"""A message that this process holds: what a turn and a build have in common.

Both write under a lease that may be lost, stop when they are asked to, go on while the database or Redis is away, and end by
a commit whose events are appended afterwards.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self, TypeVar

import msgspec
import tenacity

from shared import metrics, notices
from shared.doorbell import Doorbell
from shared.errors import Fenced, LogUnavailable, StoreUnavailable
from shared.event_log import EventLog, Publication
from shared.events import MessageStatusName, ToolCall
from shared.lifecycle import ErrorCode
from shared.metrics import AttemptReason
from shared.ops_events import AttemptState
from shared.records import Lease
from shared.settings import Settings
from shared.store import Store
from worker import telling
from worker.leases import Hold, LeaseKeeper, Stop
from worker.publisher import Publisher
from worker.streams import StreamLoop
from worker.tools import Registry

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Workshop(msgspec.Struct, frozen=True, kw_only=True):
    """What turns and builds work with, made once a process."""

    settings: Settings
    store: Store
    log: EventLog
    doorbell: Doorbell
    streams: StreamLoop
    leases: LeaseKeeper
    tools: Registry


class Stopped(Exception):
    """The work should end before it is done."""

    def __init__(self, reason: Stop) -> None:
        super().__init__(reason.name)
        self.reason = reason


class DeadlineOver(Exception):
    """It took as long as it may take."""


C = TypeVar("C")
_CLAIM_S: Final = 10.0
"""A claim whose answer was lost is repeated as long; then its lease has run out, or nearly."""
_WAITING: Final = tenacity.wait_exponential_jitter(multiplier=0.1, max=2.0)
"""Seconds between two tries of what the database does not answer."""


def _count_retry(_: object) -> None:
    metrics.SQL_RETRIES.add()


def claimed(workshop: Workshop, claim: Callable[[str], C | None]) -> tuple[C, float] | None:
    """What `claim` took under a name of its own, and when it was sent, by `time.monotonic`; None where nothing was there.

    Where the database does not answer it is repeated for a while, since it may have been committed. Raises
    `StoreUnavailable`.
    """
    owner = workshop.leases.new_owner()
    repeating = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(StoreUnavailable),
        wait=_WAITING,
        before_sleep=_count_retry,
        stop=tenacity.stop_after_delay(min(_CLAIM_S, workshop.settings.lease_s)),
        reraise=True,
    )
    for attempt in repeating:
        with attempt:
            sent_at = time.monotonic()
            taken = claim(owner)
    return None if taken is None else (taken, sent_at)


class Held:
    """One message under a lease, with its publisher."""

    def __init__(
        self,
        workshop: Workshop,
        lease: Lease,
        hold: Hold,
        *,
        deadline: float,
        content: str,
        tool_calls: tuple[ToolCall, ...],
        status: MessageStatusName,
        model: str,
    ) -> None:
        """`deadline`: by `time.monotonic`. `status`: the row's while it is held."""
        self._workshop = workshop
        self._model = model
        self._settings = workshop.settings
        self._store = workshop.store
        self._hold = hold
        self._deadline = deadline
        self.publisher = Publisher(
            workshop.streams.log,
            lease,
            renew=self._renew,
            may_append=hold.is_valid,
            window_s=workshop.settings.merge_window_s,
            content=content,
            tool_calls=tool_calls,
            status=status,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """However it ended: nothing is appended, and no attempt taken, after it. Where it broke, which nobody expected, the
        message is not left to its lease: it is handed back, with one try less."""
        self._workshop.streams.run(self.publisher.close())
        if error is not None:
            try:
                self._store.hand_back(self._lease, failed=True)
            except (Fenced, StoreUnavailable):
                return  # somebody else has it, or the lease runs out
            self._tell_attempt("failed", code=ErrorCode.INTERNAL)

    @property
    def _lease(self) -> Lease:
        return self.publisher.lease

    # --- reading the model's stream ------------------------------------------------------------------------------

    async def _until_read(self, reading: Coroutine[Any, Any, None]) -> None:
        """Await `reading` on the loop, until it is done, the work should end, or the deadline. Raises what it raised."""
        loop = asyncio.get_running_loop()
        stream = loop.create_task(reading)
        self._hold.when_stopped(lambda: loop.call_soon_threadsafe(stream.cancel))
        try:
            done, _ = await asyncio.wait([stream], timeout=max(0.0, self._deadline - time.monotonic()))
            if not done:
                stream.cancel()
                await asyncio.wait([stream])
        finally:
            self._hold.when_stopped(None)
        error = None if stream.cancelled() else stream.exception()
        await self.publisher.settle()
        if not done:
            raise DeadlineOver
        if error is not None:
            raise error

    # --- being interrupted, and going on -------------------------------------------------------------------------

    def _check(self) -> None:
        """Raises `Stopped` or `DeadlineOver` where the work should end."""
        if (reason := self._hold.stop_reason) is not None:
            raise Stopped(reason)
        if time.monotonic() > self._deadline:
            raise DeadlineOver

    def _pause(self, seconds: float) -> None:
        self._hold.pause(seconds)
        self._check()

    def _insist(self, write: Callable[[], T], *, only_while: Callable[[], bool] = lambda: True) -> T:
        """`write`, which is safe to repeat, until the database has answered. Raises `Fenced`, also where the lease went
        meanwhile, and `StoreUnavailable` once `only_while` does not hold."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, StoreUnavailable) and only_while()),
            wait=_WAITING,
            before_sleep=_count_retry,
            sleep=time.sleep,
            before=lambda _: self._still_held(),
            reraise=True,
        )
        return retrying(write)

    def _look(self, read: Callable[[], T]) -> T:
        """`read`, which changes nothing, until the database has answered or the work should end, as `_check` raises.

        A question that the database never answers in time must not hold the message for ever.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreUnavailable),
            wait=_WAITING,
            before_sleep=_count_retry,
            sleep=self._hold.pause,
            before=lambda _: self._check(),
            reraise=True,
        )
        return retrying(read)

    def _still_held(self) -> None:
        if self._hold.stop_reason is Stop.LOST:
            raise Fenced

    async def _renew(self, lease: Lease, above: int) -> Lease:
        """The log was lost: an attempt above its and the row's."""
        loop = asyncio.get_running_loop()

        def renew() -> Lease:
            renewed = self._insist(lambda: self._store.begin_attempt(lease, above=above))
            self._tell_attempt("log_lost", of=lease)
            return renewed

        renewed = await loop.run_in_executor(self._workshop.streams.sql, contextvars.copy_context().run, renew)
        telling.attempt_begun(renewed, AttemptReason.LOG_LOST)
        return renewed

    # --- the end -------------------------------------------------------------------------------------------------

    def _settled(self) -> None:
        """All that was published is in the log, or Redis is away. Raises `Fenced`."""
        try:
            self._workshop.streams.run(self.publisher.settle())
        except (Fenced, StoreUnavailable) as error:
            raise Fenced from error

    def hand_back(self) -> None:
        """This process is to stop: another one goes on at once. Where the database is away, as late as the lease lasts."""
        self._workshop.streams.run(self.publisher.close())
        try:
            self._insist(lambda: self._store.hand_back(self._lease), only_while=self._hold.is_valid)
        except (Fenced, StoreUnavailable):
            return
        metrics.HANDED_BACK.add()
        self._tell_attempt("handed_back")
        self._ring_again()

    def _ring_again(self) -> None:
        """Call somebody else to the message."""
        self._workshop.doorbell.ring(self._lease.message_id)

    def _tell_attempt(
        self, state: AttemptState, *, of: Lease | None = None, tries: int | None = None, code: ErrorCode | None = None
    ) -> None:
        """For operators: this attempt came to nothing, and the message is not over."""
        lease = of or self._lease
        self._publish(
            notices.attempt_over(
                state,
                message_id=lease.message_id,
                project_id=lease.project_id,
                attempt=lease.attempt,
                model=self._model,
                tries=tries,
                code=code,
            )
        )

    def _publish(self, publication: Publication) -> None:
        try:
            self._workshop.log.publish(publication)
        except LogUnavailable:
            _log.warning("a notice was not published: Redis is away")
