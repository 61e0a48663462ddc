"""Numbers one message's events and appends them in order, merged where they come faster than the window.

Lives on the event loop. One append is on its way at a time; text that arrives meanwhile becomes one delta. With Redis away
the answer goes on: events are kept and tried again with the same bytes. Where the log turns out lost, or overtaken, a new
attempt is taken and opens with a snapshot of all text so far, so that readers miss nothing.

Who calls owns it: a round's stream while it runs, else the task's thread through `settle`. No append and no change of the
attempt happens outside of these.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from shared import events, notices
from shared.errors import Fenced, LogUnavailable
from shared.event_log import Entry, LoopEventLog, Word
from shared.events import EventId, MessageStatusName, SnapshotReason, StreamEvent, ToolCall
from shared.records import Lease
from shared.transcript import with_call

Renew = Callable[[Lease, int], Awaitable[Lease]]
"""Take an attempt above the row's and above the number given. Raises `Fenced` or `StoreUnavailable`."""

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
        self._pump: asyncio.Task[None] | None = None
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

    def start(self) -> None:
        """Send what waits without waiting for it to arrive."""
        self._start()

    async def settle(self) -> None:
        """Until all that was published is in the log, or it is clear that Redis is away. Raises what lost the lease."""
        while True:
            if self._pump is None and (self._waiting or self._text):
                self._start()
            if (pump := self._pump) is None:
                break
            await asyncio.wait([pump])
            if self._pump is None and self._waiting:  # Redis is away; the next call tries again
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
        if self._pump is not None:
            await asyncio.wait([self._pump])

    # --- the pump ------------------------------------------------------------------------------------------------

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
        if self._pump is not None or self._timer is not None or self.failure is not None:
            return
        wait_s = self._not_before - time.monotonic()
        if wait_s <= 0:
            self._start()
        else:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pump is None and self.failure is None:
            self._pump = asyncio.get_running_loop().create_task(self._send_all())
            self._pump.add_done_callback(self._pumped)

    def _pumped(self, pump: asyncio.Task[None]) -> None:
        self._pump = None
        if not pump.cancelled() and (failure := pump.exception()) is not None:
            self.failure = failure
        if self._text or self._waiting:  # what came after the pump had looked, and what Redis did not take
            self._start_when_due()

    async def _send_all(self) -> None:
        while (self._waiting or self._text) and self.failure is None:
            self._number_text()
            if not self._may_append() or not await self._send_one():
                # kept; tried again in a while, or by settle
                self._not_before = time.monotonic() + _RETRY_S
                return
            if self._text and not self._waiting and self._not_before > time.monotonic():
                return  # `_pumped` starts the next one when it is due

    def _note_first(self) -> None:
        now = time.monotonic()
        if self.first_append_at is None:
            self.first_append_at = now
        if self._has_delta:
            self.first_token_at = now

    async def _send_one(self) -> bool:
        """Append the oldest events; False where Redis is away."""
        # what may have arrived is repeated as it was, so that nothing else is published beside it again
        batch = self._waiting[: self._unknown or _MOST_ENTRIES]
        self._unknown = len(batch)
        lease = self.lease
        try:
            answer = await self._log.append(self._message_id, batch, notices.lifecycle(lease.project_id, batch))
        except LogUnavailable:
            return False
        match answer.word:
            case Word.OK | Word.THERE:
                del self._waiting[: len(batch)]
                self._unknown = 0
                if self.first_token_at is None:
                    self._note_first()
            case Word.LOST | Word.STALE:
                above = answer.last.attempt if answer.last is not None else 0
                renewed = await self._renew(lease, above)
                self.open_attempt(renewed, content=self.content, tool_calls=self._tool_calls, reason="restored")
        return True
