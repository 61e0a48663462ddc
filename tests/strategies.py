"""Random but legal things for property tests: logs of messages and the rows that they end in, JSON, patches."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from hypothesis import strategies as st

from shared.events import (
    Complete,
    Delta,
    Error,
    EventId,
    Finalized,
    Snapshot,
    Stages,
    Status,
    StreamEvent,
    Timing,
    ToolCall,
    ToolResult,
    ToolStart,
    Usage,
)
from shared.lifecycle import ErrorCode, MessageKind, MessageStatus, Role
from shared.records import Message, MessageError
from shared.transcript import with_call

MESSAGE_ID: Final = "0198c2a4-6f3e-7c11-9b1a-5d0c3c1f2e77"
_TS: Final = 1_763_800_000_000
_MOST_ATTEMPTS: Final = 4
_NOT_JSON: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0")

texts = st.text(_NOT_JSON, max_size=12)
some_text = st.text(_NOT_JSON, min_size=1, max_size=12)
# Within the numbers that every JSON parser reads back as they were.
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False, width=32)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)
json_documents = json_objects | st.lists(json_values, max_size=4)
event_ids = st.builds(EventId, st.integers(1, 10**9), st.integers(0, 10**9))
usages = st.builds(
    Usage,
    prompt_tokens=st.integers(0, 10**6),
    completion_tokens=st.integers(0, 10**6),
    total_tokens=st.integers(0, 10**6),
)
timings = st.builds(
    Timing,
    queued_ms=st.none() | st.integers(0, 10**6),
    first_token_ms=st.none() | st.integers(0, 10**6),
    total_ms=st.integers(0, 10**6),
    **dict.fromkeys(Stages.__struct_fields__, st.none() | st.integers(0, 10**6)),
)
tool_calls = st.builds(
    ToolCall,
    tool_call_id=some_text,
    name=some_text,
    arguments=json_values,
    state=st.sampled_from(["started", "succeeded", "failed"]),
    final_content=st.none() | texts,
    error=st.none() | texts,
    job_id=st.none() | st.uuids().map(str),
    version=st.none() | st.integers(1, 10**6),
)
_common: Final[dict[str, st.SearchStrategy[Any]]] = {
    "id": event_ids.map(str),
    "message_id": st.uuids().map(str),
    "ts": st.integers(0, 2**53 - 1),
}
any_event: st.SearchStrategy[StreamEvent] = st.one_of(
    st.builds(Status, status=st.sampled_from(["thinking", "tool_calling", "building"]), **_common),
    st.builds(Delta, content=texts, from_=st.none() | event_ids.map(str), **_common),
    st.builds(ToolStart, name=texts, tool_call_id=texts, arguments=json_values, **_common),
    st.builds(
        ToolResult,
        name=texts,
        tool_call_id=texts,
        success=st.booleans(),
        job_id=st.none() | st.uuids().map(str),
        final_content=st.none() | texts,
        error=st.none() | texts,
        **_common,
    ),
    st.builds(Complete, final_content=texts, **_common),
    st.builds(
        Error,
        error=texts,
        code=st.sampled_from([code.value for code in ErrorCode]),
        retryable=st.booleans(),
        final_content=st.none() | texts,
        **_common,
    ),
    st.builds(
        Finalized,
        status=st.sampled_from(["success", "error", "building", "cancelled"]),
        job_id=st.none() | st.uuids().map(str),
        usage=st.none() | usages,
        timing=st.none() | timings,
        **_common,
    ),
    st.builds(
        Snapshot,
        content=texts,
        status=st.sampled_from([status.value for status in MessageStatus]),
        tool_calls=st.lists(tool_calls, max_size=3).map(tuple),
        reason=st.sampled_from(["attempt", "restored", "compacted"]),
        **_common,
    ),
)
"""Every type with every field, each event by itself: they make no log."""


class LegalLog(NamedTuple):
    """A message's whole log, all its attempts, and its row at the end of it, where the log ends in a finalized."""

    events: tuple[StreamEvent, ...]
    row: Message | None


@st.composite
def legal_logs(draw: st.DrawFn, *, min_attempts: int = 1) -> LegalLog:
    """A log by the grammar: attempts that die anywhere, renewals, retries, builds, closings; and its row, if it is over."""
    writer = _Writer(draw)
    writer.write_first()
    while writer.attempt < min_attempts or (writer.attempt < _MOST_ATTEMPTS and draw(st.booleans())):
        writer.write_next()
    return LegalLog(tuple(writer.log), writer.row())


class _Writer:
    """Writes a log as workers, builders and closers would; what it draws decides what happens to them."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.log: list[StreamEvent] = []
        self.attempt = 0
        self._n = 0
        self._status: MessageStatus = MessageStatus.PENDING
        self._run = 1
        self._text = ""
        self._calls: tuple[ToolCall, ...] = ()
        # what the row knows: the text and calls of stored rounds
        self._stored_text = ""
        self._stored_calls: tuple[ToolCall, ...] = ()
        self._rounds = 0
        self._steps_left: int | None = None
        """Events until this attempt's worker dies; None: it does not."""
        self._opens_round = False
        """Whether the next delta opens a round: after another's text it begins with a blank line."""
        self._job_id: str | None = None
        self._code: ErrorCode | None = None

    # --- attempts ---------------------------------------------------------------------------------------------------

    def write_first(self) -> None:
        self.attempt = 1
        self._choose_death()
        try:
            if self._draw(st.integers(0, 5)) == 0:
                self._snapshot("attempt")  # cancelled before pickup
                self._close()
            else:
                self._put(Status, status="thinking")
                self._turn()
        except _Died:
            pass

    def write_next(self) -> None:
        restored = self._status is MessageStatus.PENDING and self._draw(st.booleans())
        if self._status is MessageStatus.SUCCESS:
            self._run += 1
            self._rounds = 0
            self._text = self._stored_text = ""
            self._calls = self._stored_calls = ()
            self._status = MessageStatus.PENDING
        elif self._status in (MessageStatus.ERROR, MessageStatus.CANCELLED):
            self._status = MessageStatus.PENDING
        if not restored:
            self._text, self._calls = self._stored_text, self._stored_calls
        closing = not restored and self._draw(st.integers(0, 4)) == 0
        if closing:
            # as the final row will show them: what was made
            self._calls = tuple(call for call in self._calls if call.state != "started")
        self.attempt += 1
        self._n = 0
        self._choose_death()
        try:
            self._snapshot("restored" if restored else "attempt")
            if closing:
                self._close()
            elif self._status is MessageStatus.BUILDING:
                self._build()
            elif restored:
                self._turn(goes_on=True)
            else:
                self._put(Status, status="thinking")
                self._turn()
        except _Died:
            pass

    def _choose_death(self) -> None:
        self._steps_left = self._draw(st.none() | st.integers(1, 9))

    def _turn(self, *, goes_on: bool = False) -> None:
        for index, call in enumerate(self._started()):
            self._call(call, first_step=self._draw(st.integers(0, 2)) if goes_on and index == 0 else 0)
        calls: list[tuple[str, Any]] = [("", None)]
        while calls:
            pieces = self._draw(st.lists(some_text, max_size=4))
            if pieces and self._text and self._opens_round:
                self._put(Delta, content="\n\n")
            for piece in pieces:
                self._put(Delta, content=piece)
            calls = self._draw(st.lists(st.tuples(st.sampled_from(["applyJsonPatch", "x"]), json_objects), max_size=2))
            if calls:
                self._store_round(calls)
                for call in self._started():
                    self._call(call)
        self._end()

    def _started(self) -> list[ToolCall]:
        return [call for call in self._calls if call.state == "started"]

    def _store_round(self, calls: list[tuple[str, Any]]) -> None:
        """The round's text and calls are in the row."""
        self._stored_text = self._text
        for index, (name, arguments) in enumerate(calls):
            call = ToolCall(
                tool_call_id=f"{self._run}-{self._rounds}-{index}", name=name, arguments=arguments, state="started"
            )
            self._stored_calls = with_call(self._stored_calls, call)
            self._calls = with_call(self._calls, call)
        self._rounds += 1

    def _call(self, call: ToolCall, *, first_step: int = 0) -> None:
        """`first_step`: of the call's three events, the first that this attempt still has to tell."""
        if first_step < 1:
            self._put(ToolStart, name=call.name, tool_call_id=call.tool_call_id, arguments=call.arguments)
        if first_step < 2:
            self._put(Status, status="tool_calling")
        succeeded = self._draw(st.booleans())
        made = msgspec.structs.replace(
            call,
            state="succeeded" if succeeded else "failed",
            final_content="an effect" if succeeded else None,
            error=None if succeeded else "no effect",
        )
        self._stored_calls = with_call(self._stored_calls, made)
        self._calls = with_call(self._calls, made)
        self._put(
            ToolResult,
            name=call.name,
            tool_call_id=call.tool_call_id,
            success=succeeded,
            final_content=made.final_content,
            error=made.error,
        )

    def _end(self) -> None:
        how = self._draw(st.sampled_from(["success", "error", "cancelled", "building"]))
        self._commit()
        match how:
            case "success":
                self._succeed()
            case "building":
                self._stored_text = self._text
                self._job_id = str(uuid.UUID(int=self.attempt))
                self._put(Status, status="building")
                self._finalize("building", self._job_id)
            case _:
                self._break_off(how)

    def _build(self) -> None:
        self._put(Status, status="building")
        how = self._draw(st.sampled_from(["success", "error", "cancelled"]))
        self._commit()
        if how == "success":
            self._succeed()
        else:
            self._break_off(how)

    def _close(self) -> None:
        self._commit()
        self._break_off(self._draw(st.sampled_from(["error", "cancelled"])))

    def _commit(self) -> None:
        """The end is in the row: whatever is not appended by its writer is appended by a sweeper. Nobody dies any more."""
        self._steps_left = None

    def _succeed(self) -> None:
        self._text = self._text or "the tools' effects"
        self._stored_text = self._text
        self._put(Complete, final_content=self._text)
        self._finalize("success")

    def _break_off(self, how: str) -> None:
        if how == "error":
            self._code = self._draw(st.sampled_from(list(ErrorCode)))
            self._put(
                Error,
                error=self._code.detail,
                code=self._code.value,
                retryable=self._code.retryable,
                final_content=self._text,
            )
        self._finalize(how)

    def _finalize(self, status: str, job_id: str | None = None) -> None:
        self._put(
            Finalized,
            status=status,
            job_id=job_id,
            usage=self._draw(st.none() | usages),
            timing=self._draw(st.none() | timings),
        )
        self._status = MessageStatus(status)

    # --- events -----------------------------------------------------------------------------------------------------

    def _snapshot(self, reason: str) -> None:
        self._put(Snapshot, content=self._text, status=self._status.value, tool_calls=self._calls, reason=reason)
        self._opens_round = reason == "attempt"

    def _put(self, kind: type[StreamEvent], **fields: Any) -> None:
        if self._steps_left is not None:
            if self._steps_left == 0 and self._n > 0:
                raise _Died
            self._steps_left -= 1
        event = kind(id=f"{self.attempt}-{self._n}", message_id=MESSAGE_ID, ts=_TS + len(self.log), **fields)
        self.log.append(event)
        self._n += 1
        if isinstance(event, Delta):
            self._text += event.content
            self._opens_round = False
        elif isinstance(event, ToolResult):
            self._opens_round = True

    def row(self) -> Message | None:
        """The row, as a GET shows it; None while somebody still writes."""
        last = self.log[-1]
        if not isinstance(last, Finalized):
            return None
        failed = self._status is MessageStatus.ERROR
        assert self._code is not None or not failed
        return Message(
            id=uuid.UUID(MESSAGE_ID),
            project_id=uuid.UUID(int=1),
            role=Role.ASSISTANT,
            author=None,
            kind=MessageKind.TEXT,
            status=self._status,
            content=self._text,
            error=MessageError(code=self._code, detail=self._code.detail, retryable=self._code.retryable)
            if failed and self._code
            else None,
            attempt=self.attempt,
            job_id=None if self._job_id is None else uuid.UUID(self._job_id),
            tool_calls=list(self._calls),
            model="scripted",
            usage=last.usage,
            timing=last.timing,
            reply_to=uuid.UUID(int=2),
            queue_number=None,
            created_at=datetime.fromtimestamp(0, UTC),
            updated_at=datetime.fromtimestamp(0, UTC),
        )


class _Died(Exception):
    """The attempt's worker is gone."""
