"""Numbers one message's events and appends them in order, merged where they come faster than the window.

Lives on the event loop. One append is on its way at a time; text that arrives meanwhile becomes one delta. With Redis away
the answer goes on: events are kept and tried again with the same bytes. Where the log turns out lost, or overtaken, a new
attempt is taken and opens with a snapshot of all text so far, so that readers miss nothing.

Who calls owns it: a round's stream while it runs, else the task's thread through `settle`. No append and no change of the
attempt happens outside of these.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable
from typing import Any

from shared import events, notices
from shared.errors import Fenced
from shared.event_log import Answer, Entry, LoopEventLog, Publication, Word
from shared.events import EventId, MessageStatusName, SnapshotReason, StreamEvent, ToolCall
from shared.records import Lease
from shared.transcript import with_call

Renew = Callable[[Lease, int], Awaitable[Lease]]
"""Take an attempt above the row's and above the number given. Raises `Fenced` or `StoreUnavailable`."""

_TAKEN = (Word.OK, Word.THERE)
_MOST_ENTRIES = 64
_RETRY_S = 0.5


class Publisher:
    def __init__(
        self,
        log: LoopEventLog,
        lease: Lease,
        *,
        renew: Renew,
        may_append: Callable[[], bool],
        window_s: float,
        content: str,
        tool_calls: tuple[ToolCall, ...],
        status: MessageStatusName = "pending",
    ) -> None:
        """`content` and `tool_calls`: what the stored rounds of the run show. `may_append`: whether the lease holds.

        `status`: the row's.
        """
        self.lease = lease
        self._message_id = str(lease.message_id)
        self.first_token_at: float | None = None
        """`time.monotonic` when the first delta of this turn was acknowledged."""
        self.first_append_at: float | None = None
        """`time.monotonic` when the first event of this turn was."""
        self.first_text_at: float | None = None
        """`time.monotonic` when the first piece of text came."""
        self.failure: BaseException | None = None
        """Why nothing can be published any more: the lease is lost."""
        self._log = log
        self._renew = renew
        self._may_append = may_append
        self._window_s = window_s
        self._status: MessageStatusName = status
        self._content = [content] if content else []
        self._tool_calls = tool_calls
        self._n = 0
        self._waiting: list[Entry] = []  # numbered, not acknowledged
        self._unknown = 0  # how many of them were sent and not answered
        self._text: list[str] = []  # not numbered yet
        self._beside: list[Publication] = []
        self._is_sending = False
        """Whether an append is on its way, or a new attempt."""
        self._renewing: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._context = contextvars.copy_context()
        """The turn's: what answers come in is the connection's."""
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0  # by `time.monotonic`: text that comes earlier waits and is merged
        self._has_delta = False

    @property
    def content(self) -> str:
        """All text so far."""
        if len(self._content) > 1:
            self._content = ["".join(self._content)]
        return self._content[0] if self._content else ""

    @property
    def next_id(self) -> EventId:
        return EventId(self.lease.attempt, self._n)

    @property
    def last_id(self) -> EventId | None:
        """The newest event of this attempt, in the log or on its way there; None where it has none yet."""
        return EventId(self.lease.attempt, self._n - 1) if self._n else None

    # --- what is published ---------------------------------------------------------------------------------------

    def text(self, content: str) -> None:
        """A piece of the answer; the first goes at once."""
        if self.first_text_at is None:
            self.first_text_at = time.monotonic()
        self._content.append(content)
        self._text.append(content)
        self._start_when_due()

    def status(self, activity: events.AssistantActivity) -> None:
        self._add(events.Status, status=activity)

    def tool_start(self, call: ToolCall) -> None:
        self._tool_calls = with_call(self._tool_calls, call)
        self._add(events.ToolStart, name=call.name, tool_call_id=call.tool_call_id, arguments=call.arguments)

    def tool_result(self, call: ToolCall) -> None:
        self._tool_calls = with_call(self._tool_calls, call)
        self._add(
            events.ToolResult,
            name=call.name,
            tool_call_id=call.tool_call_id,
            success=call.state == "succeeded",
            job_id=call.job_id,
            final_content=call.final_content,
            error=call.error,
        )

    def open_attempt(
        self, lease: Lease, *, content: str, tool_calls: tuple[ToolCall, ...], reason: SnapshotReason
    ) -> None:
        """Begin `lease.attempt` with a snapshot, which stands for everything that was published before it."""
        self.lease = lease
        self._n = 0
        self._unknown = 0
        self._waiting.clear()
        self._text.clear()
        self._content = [content] if content else []
        self._tool_calls = tool_calls
        self._add(events.Snapshot, content=content, status=self._status, tool_calls=tool_calls, reason=reason)

    def beside(self, publication: Publication) -> None:
        """Publish this together with the next append. Best effort: an append that was lost may take it along."""
        self._beside.append(publication)

    def start(self) -> None:
        """Send what waits without waiting for it to arrive."""
        self._send()

    async def settle(self) -> None:
        """Until all that was published is in the log, or it is clear that Redis is away. Raises what lost the lease."""
        while True:
            self._send()
            if not await self._until_idle():
                break
            if self._waiting and not self._is_sending:  # Redis is away; the next call tries again
                break
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._number_text()
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """Nothing is published any more; returns once nothing is on its way."""
        if self.failure is None:
            self.failure = Fenced()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while await self._until_idle():
            pass

    # --- sending ------------------------------------------------------------------------------------------------

    def _add(self, kind: type[StreamEvent], **fields: Any) -> None:
        self._number_text()
        self._number(kind, fields)

    def _number(self, kind: type[StreamEvent], fields: dict[str, Any]) -> None:
        event_id = self.next_id
        event = kind(id=str(event_id), message_id=self._message_id, ts=notices.now_ms(), **fields)
        self._waiting.append(Entry(event_id, events.encode(event)))
        self._n += 1

    def _number_text(self) -> None:
        if self._text:
            text = "".join(self._text)
            self._text.clear()
            self._has_delta = True
            self._not_before = time.monotonic() + self._window_s
            for piece in events.split_for_deltas(text):
                self._number(events.Delta, {"content": piece})

    def _start_when_due(self) -> None:
        if self._is_sending or self._timer is not None or self.failure is not None:
            return
        wait_s = self._not_before - time.monotonic()
        if wait_s <= 0:
            self._send()
        else:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._send)

    def _send(self) -> None:
        """Append the oldest events, unless some are on their way: what waits goes as these are answered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_sending or self.failure is not None:
            return
        try:
            self._send_oldest()
        except Exception as error:
            # nobody else's: the connection serves other messages too
            self.failure, self._is_sending = error, False
            self._tell_idle()

    def _send_oldest(self) -> None:
        self._number_text()
        if not self._waiting:
            return
        if not self._may_append():
            self._try_later()
            return
        # what may have arrived is repeated as it was, so that nothing else is published beside it again
        batch = self._waiting[: self._unknown or _MOST_ENTRIES]
        self._unknown = len(batch)
        self._is_sending = True
        also = notices.lifecycle(self.lease.project_id, batch)
        if self._beside:
            also += self._beside
        self._log.append(self._message_id, batch, also, self._answered)

    def _answered(self, answer: Answer | None) -> None:
        self._is_sending = False
        if answer is None:
            self._try_later()
        elif answer.word in _TAKEN:
            self._beside.clear()
            del self._waiting[: self._unknown]
            self._unknown = 0
            if self.first_token_at is None:
                self._note_first()
            if self._waiting:
                self._send()
            elif self._text:
                self._start_when_due()
        else:
            above = answer.last.attempt if answer.last is not None else 0
            self._is_sending = True
            beginning = self._begin_anew(above)
            renewing = asyncio.get_running_loop().create_task(beginning, context=self._context.copy())
            self._renewing = renewing
            renewing.add_done_callback(self._renewed)
        self._tell_idle()

    def _try_later(self) -> None:
        """Redis is away, or the lease's end is near: what waits is kept, and tried again in a while or by `settle`."""
        self._not_before = time.monotonic() + _RETRY_S
        self._start_when_due()

    async def _begin_anew(self, above: int) -> None:
        """The log was lost, or another attempt is in it: a new one opens with all text so far."""
        renewed = await self._renew(self.lease, above)
        self.open_attempt(renewed, content=self.content, tool_calls=self._tool_calls, reason="restored")

    def _renewed(self, renewing: asyncio.Task[None]) -> None:
        self._is_sending, self._renewing = False, None
        if not renewing.cancelled() and (failure := renewing.exception()) is not None:
            self.failure = failure
        self._send()
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None and not self._is_sending:
            self._idle.set_result(None)
            self._idle = None

    async def _until_idle(self) -> bool:
        """Until nothing is on its way for the moment; whether anything was."""
        if not self._is_sending:
            return False
        if self._idle is None:
            self._idle = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._idle)  # there may be two who wait, and one who is cancelled
        return True

    def _note_first(self) -> None:
        now = time.monotonic()
        if self.first_append_at is None:
            self.first_append_at = now
        if self._has_delta:
            self.first_token_at = now
