"""What a client of the AI SDK is told of a message: whatever happens, it shows the row's text, calls and end."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from api.catch_up import compact
from api.close_codes import CloseCode
from api.protocols.ai_sdk import chunks
from api.protocols.ai_sdk.telling import SocketTelling, StreamTelling, failed, no_active
from api.protocols.telling import ComeBack
from api.wire import Frame
from shared import event_log, events, notices
from shared.event_log import Entry
from shared.events import (
    Delta,
    Error,
    EventId,
    Finalized,
    Snapshot,
    Status,
    StreamEvent,
    ToolCall,
    ToolResult,
    ToolStart,
)
from shared.lifecycle import ErrorCode, JobStatus, MessageKind, MessageStatus, Role
from shared.records import Job, Message, MessageError
from shared.transcript import Transcript, fold
from tests.strategies import MESSAGE_ID, LegalLog, json_values, legal_logs
from tests.ui_message import Json, UiMessage

ROW = Message(
    id=uuid.UUID(MESSAGE_ID),
    project_id=uuid.UUID(int=1),
    role=Role.ASSISTANT,
    author=None,
    kind=MessageKind.STATUS,
    status=MessageStatus.PENDING,
    content="",
    error=None,
    attempt=0,
    job_id=None,
    tool_calls=[],
    model="scripted",
    usage=None,
    timing=None,
    reply_to=uuid.UUID(int=2),
    queue_number=1,
    created_at=datetime(2026, 11, 25, 12, tzinfo=UTC),
    updated_at=datetime(2026, 11, 25, 12, tzinfo=UTC),
)
JOB_ID = str(uuid.UUID(int=7))
LOGS = legal_logs() | legal_logs(min_attempts=3)
"""Some with what is taken back."""
BASE: dict[str, Any] = {"message_id": MESSAGE_ID, "ts": 1}


def entry_of(event: StreamEvent) -> Entry:
    return Entry(EventId.parse(event.id), events.encode(event))


class Client:
    """Reads blocks of an event stream."""

    def __init__(self, *, resets: bool = True, row: Message = ROW) -> None:
        self.telling = StreamTelling(row, resets=resets)
        self.message = UiMessage(7 if resets else 6)
        self.chunks: list[Json] = []
        self.take(self.telling.begin())

    def take(self, units: Iterable[bytes]) -> None:
        for unit in units:
            data = re.fullmatch(r"data: (.*)\n\n", unit.decode(), re.DOTALL)
            assert data is not None
            assert "\n" not in data[1]
            if data[1] == "[DONE]":
                continue
            chunk = json.loads(data[1])
            self.chunks.append(chunk)
            self.message.take(chunk)

    def tell(self, told: Iterable[StreamEvent | Entry]) -> Client:
        for one in told:
            if self.telling.is_over():
                break
            self.take(self.telling.tell(Frame.of(one if isinstance(one, Entry) else entry_of(one))))
        return self

    def kinds(self) -> list[str]:
        return [chunk["type"] for chunk in self.chunks]


def until_terminal(log: Sequence[StreamEvent]) -> list[StreamEvent]:
    end = next((index for index, event in enumerate(log) if events.is_terminal(event)), len(log))
    return list(log[: end + 1])


def shows(message: UiMessage, expected: Transcript) -> None:
    """Text, calls and end are those of the fold."""
    assert message.text == expected.content
    states = {"output-available": "succeeded", "output-error": "failed", "input-available": "started"}
    assert {part["toolCallId"]: states[part["state"]] for part in message.tools} == {
        call.tool_call_id: call.state for call in expected.tool_calls
    }
    for part in message.tools:
        [call] = [call for call in expected.tool_calls if call.tool_call_id == part["toolCallId"]]
        assert (part["type"], part["input"]) == (
            f"tool-{call.name}",
            json.loads(json.dumps(chunks.safe_input(call.arguments))),
        )
    if expected.status in ("success", "error", "cancelled"):
        assert message.metadata["status"] == expected.status
    assert (message.error is not None) == (expected.status == "error" and message.is_finished)
    assert message.is_aborted == (expected.status == "cancelled" and "status" in message.metadata)
    assert all(part["state"] == "done" for part in message.parts if part["type"] == "text") or not message.is_finished


# --- every legal log --------------------------------------------------------------------------------------------


@given(LOGS)
def test_a_client_that_knows_resets_shows_the_fold_after_every_event(log: LegalLog) -> None:
    """Through attempts, renewals, builds and closings, up to the end."""
    client, so_far = Client(), Transcript()
    for event in until_terminal(log.events):
        client.tell([event])
        so_far = fold(so_far, [event])
        shows(client.message, so_far)
    assert client.telling.is_over() == events.is_terminal(until_terminal(log.events)[-1])


@given(LOGS)
def test_a_client_that_knows_none_is_never_told_one_and_resumes_to_the_same(log: LegalLog) -> None:
    """Cut off where something is taken back, it comes back, is told the newest attempt and shows the fold."""
    subject, client, told = until_terminal(log.events), Client(resets=False), 0
    while told < len(subject):
        try:
            client.tell([subject[told]])
        except ComeBack:
            newest = EventId.parse(subject[told].id).attempt
            client = Client(resets=False)
            client.tell(event for event in subject[: told + 1] if EventId.parse(event.id).attempt == newest)
        told += 1
        shows(client.message, fold(Transcript(), subject[:told]))


@given(LOGS, st.data())
def test_who_joins_late_shows_the_same_as_who_was_there(log: LegalLog, data: st.DataObject) -> None:
    """The newest attempt from its start, its neighbouring deltas as one, then live."""
    subject = until_terminal(log.events)
    joined = data.draw(st.integers(1, len(subject)))
    newest = EventId.parse(subject[joined - 1].id).attempt
    replay = event_log.merge(entry_of(event) for event in subject[:joined] if EventId.parse(event.id).attempt == newest)
    client = Client().tell(replay).tell(subject[joined:])
    shows(client.message, fold(Transcript(), subject))


@given(LOGS, st.data())
def test_a_slow_client_shows_the_same(log: LegalLog, data: st.DataObject) -> None:
    """In place of what it missed it is told one snapshot of the whole attempt; it is not cut off for that alone."""
    subject = until_terminal(log.events)
    had = data.draw(st.integers(0, len(subject)))
    missed = data.draw(st.integers(had, len(subject)))
    client = Client().tell(subject[:had])
    if missed > had:
        newest = EventId.parse(subject[missed - 1].id).attempt
        attempt = [entry_of(event) for event in subject[:missed] if EventId.parse(event.id).attempt == newest]
        after = EventId.parse(subject[had - 1].id) if had else EventId(0, 0)
        client.tell(compact(ROW.id, attempt, after))
    client.tell(subject[missed:])
    shows(client.message, fold(Transcript(), subject))


@given(LOGS)
def test_text_is_appended_as_it_comes(log: LegalLog) -> None:
    """Where nothing is taken back, no character is told twice: the deltas are the text."""
    first = [event for event in until_terminal(log.events) if event.id.startswith("1-")]
    client = Client(resets=False).tell(first)
    deltas = [chunk["delta"] for chunk in client.chunks if chunk["type"] == "text-delta"]
    assert "".join(deltas) == client.message.text == fold(Transcript(), first).content


@given(LOGS)
def test_a_socket_is_told_the_same_in_frames_numbered_without_a_gap(log: LegalLog) -> None:
    telling, client = SocketTelling(ROW, 'r"1', "resume"), Client()
    units = list(telling.begin())
    for event in until_terminal(log.events):
        client.tell([event])
        units += telling.tell(Frame.of(entry_of(event)))
    units += telling.end(CloseCode.FINISHED) if telling.is_over() else ()
    started, *frames = map(json.loads, units)
    assert started == {"type": "start", "requestId": 'r"1'}
    if telling.is_over():
        assert frames.pop() == {"type": "end", "requestId": 'r"1'}
    assert [frame["sequence"] for frame in frames] == list(range(len(frames)))
    assert [frame["chunk"] for frame in frames] == client.chunks
    assert {(frame["type"], frame["requestId"]) for frame in frames} == {("chunk", 'r"1')}


# --- beginning and end ------------------------------------------------------------------------------------------


def answer(*ending: StreamEvent) -> list[StreamEvent]:
    return [Status(id="1-0", status="thinking", **BASE), Delta(id="1-1", content="Half", **BASE), *ending]


def test_a_stream_begins_with_the_rows_id_and_what_is_known_of_it() -> None:
    client = Client()
    assert client.kinds() == ["start", "start-step"]
    assert client.message.id == MESSAGE_ID
    assert client.message.metadata == {
        "model": "scripted",
        "createdAt": "2026-11-25T12:00:00Z",
        "replyTo": str(uuid.UUID(int=2)),
    }


def test_a_success_finishes_with_its_usage_and_timing() -> None:
    usage = events.Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    timing = events.Timing(queued_ms=1, first_token_ms=2, total_ms=3)
    client = Client().tell(answer(Finalized(id="1-2", status="success", usage=usage, timing=timing, **BASE)))
    assert client.kinds()[-3:] == ["text-end", "finish-step", "finish"]
    assert client.message.finish_reason == "stop"
    assert client.message.metadata["usage"] == {"promptTokens": 1, "completionTokens": 2, "totalTokens": 3}
    assert client.message.metadata["timing"]["totalMs"] == 3
    assert client.telling.end(CloseCode.FINISHED) == [b"data: [DONE]\n\n"]


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_is_told_in_public_words_behind_its_metadata(code: ErrorCode) -> None:
    """A client looks at nothing behind the error, so that its code has to come before."""
    error = Error(id="1-2", error=code.detail, code=code, retryable=code.retryable, final_content="Half", **BASE)
    client = Client().tell(answer(error, Finalized(id="1-3", status="error", **BASE)))
    assert client.kinds()[-5:] == ["text-end", "message-metadata", "finish-step", "error", "finish"]
    message = client.message
    assert message.error == code.detail
    assert message.metadata["code"] == code
    assert message.metadata["retryable"] is code.retryable
    reasons = {"length": "length", "content_filter": "content-filter", "refusal": "content-filter"}
    assert message.finish_reason == reasons.get(code, "error")


def test_a_failure_of_which_only_the_row_tells_has_the_rows_words() -> None:
    """The log is gone: the snapshot and the end are all that comes."""
    code = ErrorCode.PROVIDER_QUOTA
    failure = MessageError(code=code, detail=code.detail, retryable=False)
    told: list[StreamEvent] = [
        Snapshot(id="1-2", content="Half", status="error", tool_calls=(), reason="restored", **BASE),
        Finalized(id="1-3", status="error", **BASE),
    ]
    known = Client(row=replace(ROW, status=MessageStatus.ERROR, error=failure)).tell(told)
    assert (known.message.error, known.message.metadata["code"]) == (code.detail, code)
    unknown = Client().tell(told)
    assert (unknown.message.error, unknown.message.text) == (ErrorCode.INTERNAL.detail, "Half")


def test_a_cancelled_answer_is_aborted_with_its_text() -> None:
    client = Client().tell(answer(Finalized(id="1-2", status="cancelled", **BASE)))
    assert client.kinds()[-4:] == ["text-end", "message-metadata", "finish-step", "abort"]
    assert (client.message.text, client.message.metadata["status"]) == ("Half", "cancelled")


@pytest.mark.parametrize("code", CloseCode)
def test_a_stream_that_is_cut_off_is_not_taken_for_a_finished_one(code: CloseCode) -> None:
    """Where the transport cannot show that it broke: an error says so. Who was withdrawn is told that."""
    client = Client().tell(answer())
    client.take(client.telling.end(code))
    if code is CloseCode.FINISHED:
        assert client.message.finish_reason == "other"
    else:
        assert client.kinds()[-2:] == ["text-end", "error"]
        assert ("access" in str(client.message.error)) == (code is CloseCode.WITHDRAWN)


@pytest.mark.parametrize("code", CloseCode)
def test_a_request_on_a_socket_ends_or_fails(code: CloseCode) -> None:
    telling = SocketTelling(ROW, "1", "send")
    told = [json.loads(unit)["type"] for unit in (*telling.begin(), *telling.end(code))]
    expected = ["chunk", "chunk", "end"] if code is CloseCode.FINISHED else ["error"]
    assert told[2:] == expected
    assert [json.loads(no_active("1")), json.loads(failed("1", "x"))] == [
        {"type": "no-active", "requestId": "1"},
        {"type": "error", "requestId": "1", "errorText": "x"},
    ]


# --- status, calls, jobs ----------------------------------------------------------------------------------------


def test_the_status_is_told_and_kept_nowhere() -> None:
    client = Client().tell(answer())
    assert [chunk["data"] for chunk in client.message.transient] == [{"status": "thinking"}]
    assert client.message.data("status") == []


def call(n: int, **more: Any) -> list[StreamEvent]:
    names: dict[str, Any] = {"name": "generateRemotionComponent", "tool_call_id": "c1"}
    return [
        ToolStart(id=f"1-{n}", arguments={"name": "Confetti"}, **names, **BASE),
        Status(id=f"1-{n + 1}", status="tool_calling", **BASE),
        ToolResult(id=f"1-{n + 2}", **names, **{"success": True, "final_content": "Begun", **more}, **BASE),
    ]


def test_a_call_is_the_servers_own_which_no_client_is_to_make() -> None:
    client = Client().tell([*answer(), *call(2)])
    made = [chunk for chunk in client.chunks if chunk["type"].startswith("tool-")]
    assert [chunk["type"] for chunk in made] == ["tool-input-start", "tool-input-available", "tool-output-available"]
    assert all(chunk["providerExecuted"] is True for chunk in made)
    [part] = client.message.tools
    assert (part["input"], part["output"]) == ({"name": "Confetti"}, {"finalContent": "Begun"})


def test_a_call_that_failed_says_why() -> None:
    client = Client().tell([*answer(), *call(2, success=False, final_content=None, error="No.")])
    assert [(part["state"], part["errorText"]) for part in client.message.tools] == [("output-error", "No.")]


@given(json_values)
def test_an_input_that_a_clients_parser_would_refuse_comes_as_text(value: Any) -> None:
    for suspect in ({"__proto__": value}, [{"constructor": {"prototype": value}}]):
        shown = chunks.safe_input({"a": suspect})
        assert isinstance(shown, str)
        assert json.loads(shown) == json.loads(json.dumps({"a": suspect}))
    said = json.dumps(value)
    if "prototype" not in said and "__proto__" not in said:
        assert chunks.safe_input({"constructor": value, "a": [value]}) == {"constructor": value, "a": [value]}


def job_notice(status: JobStatus, phase: Any = None, tries: int = 0, job_id: str = JOB_ID) -> bytes:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    job = Job(
        id=uuid.UUID(job_id),
        project_id=ROW.project_id,
        message_id=ROW.id,
        name="Confetti",
        effect_description="x",
        status=status,
        phase=phase,
        tries=tries,
        error=None,
        created_at=now,
        updated_at=now,
    )
    return notices.job_changed(job).payload


def handed_over() -> list[StreamEvent]:
    return [
        *answer(),
        *call(2, job_id=JOB_ID),
        Status(id="1-5", status="building", **BASE),
        Finalized(id="1-6", status="building", job_id=JOB_ID, **BASE),
    ]


BUILT: list[StreamEvent] = [
    Snapshot(
        id="2-0",
        content="Half",
        status="building",
        tool_calls=(
            ToolCall(
                tool_call_id="c1",
                name="generateRemotionComponent",
                arguments={"name": "Confetti"},
                state="succeeded",
                final_content="Begun",
                job_id=JOB_ID,
            ),
        ),
        reason="attempt",
        **BASE,
    ),
    Status(id="2-1", status="building", **BASE),
    Finalized(id="2-2", status="success", **BASE),
]


def test_a_job_is_one_part_that_shows_its_phases_until_the_messages_end() -> None:
    """Nothing is taken back meanwhile, so that a client without resets is not cut off."""
    client = Client(resets=False).tell(handed_over())
    assert client.telling.job() == uuid.UUID(JOB_ID)
    assert client.message.data("job") == [{"jobId": JOB_ID, "status": "pending"}]
    seen = []
    for status, phase, tries in [("pending", None, 0), ("building", "writing", 1), ("building", "checking", 1)]:
        client.take(client.telling.tell_job(job_notice(JobStatus(status), phase, tries)))
        seen += client.message.data("job")
        client.take(client.telling.tell_job(job_notice(JobStatus(status), phase, tries)))
    assert [(data["status"], data.get("phase"), data["try"], data["name"]) for data in seen] == [
        ("pending", None, 0, "Confetti"),
        ("building", "writing", 1, "Confetti"),
        ("building", "checking", 1, "Confetti"),
    ]
    told = client.kinds().count("data-job")
    client.tell(BUILT)
    assert client.message.data("job") == [{"jobId": JOB_ID, "name": "Confetti", "status": "success", "try": 1}]
    assert client.kinds().count("data-job") == told + 1
    assert client.telling.job() is None
    assert list(client.telling.tell_job(job_notice(JobStatus.SUCCESS))) == []


def test_another_messages_job_is_not_told() -> None:
    client = Client().tell(handed_over())
    assert list(client.telling.tell_job(job_notice(JobStatus.BUILDING, job_id=str(uuid.UUID(int=8))))) == []


def test_who_joins_while_it_is_built_is_told_of_the_job_too() -> None:
    client = Client().tell(BUILT[:2])
    assert client.message.data("job") == [{"jobId": JOB_ID, "status": "building"}]
    assert client.telling.job() == uuid.UUID(JOB_ID)


def test_what_a_reset_takes_back_of_the_job_is_told_again() -> None:
    client = Client().tell(handed_over())
    client.take(client.telling.tell_job(job_notice(JobStatus.BUILDING, "writing", 1)))
    client.tell([replace(BUILT[0], content="Other")])
    assert "reset-step" in client.kinds()
    assert [(data["name"], data["phase"]) for data in client.message.data("job")] == [("Confetti", "writing")]
