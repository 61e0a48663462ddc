"""The soak's verdict fails where it should: on doctored recordings, rows that are not final, retries that were forgotten."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pytest

from benchmarks.soak.faults import Kill
from benchmarks.soak.load import Sent
from benchmarks.soak.plan import Plan, make_plan
from benchmarks.soak.readers import Reader
from benchmarks.soak.recording import Recording, SavedRecording
from benchmarks.soak.verdict import check_messages, check_readers, recoveries_s
from dev.scripted_model.answers import inline_script
from dev.scripted_model.script import parse_script_text
from shared import events
from shared.events import Complete, Delta, Finalized, Snapshot, Status, StreamEvent, Timing

MESSAGE: Final = "01a20000-0000-7000-8000-000000000001"
PROJECT: Final = "01a20000-0000-7000-8000-000000000002"
TIMING: Final = Timing(queued_ms=1, first_token_ms=2, total_ms=3)


def _event(kind: type[StreamEvent], id_: str, ts: int = 0, **fields: Any) -> bytes:
    return events.encode(cast(Any, kind)(id=id_, message_id=MESSAGE, ts=ts, **fields))


def _told() -> list[bytes]:
    """An answer whose first worker died."""
    return [
        _event(Status, "1-0", status="thinking"),
        _event(Delta, "1-1", content="Lost"),
        _event(Snapshot, "2-0", 3_000, content="", status="pending", tool_calls=(), reason="attempt"),
        _event(Status, "2-1", status="thinking"),
        _event(Delta, "2-2", content="Hello, "),
        _event(Delta, "2-3", content="world."),
        _event(Complete, "2-4", final_content="Hello, world."),
        _event(Finalized, "2-5", status="success", timing=TIMING),
    ]


def _row(**changed: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": MESSAGE,
        "projectId": PROJECT,
        "role": "assistant",
        "author": None,
        "kind": "text",
        "status": "success",
        "content": "Hello, world.",
        "error": None,
        "attempt": 2,
        "jobId": None,
        "toolCalls": [],
        "model": "m",
        "usage": None,
        "timing": {"queuedMs": 1, "firstTokenMs": 2, "totalMs": 3},
        "replyTo": None,
        "queueNumber": None,
        "createdAt": "2026-11-01T00:00:00Z",
        "updatedAt": "2026-11-01T00:00:00Z",
    }
    return row | changed


class _Heard:
    """In a reader's place: what it received."""

    def __init__(self, frames: list[bytes]) -> None:
        self.recording = Recording(message_id=MESSAGE, reader="a reader", frames=frames)


def _plan(number: int = 1) -> Plan:
    return make_plan(1, number, readers=4, chunks=20, webs=2, builds=True)


def _sent(*recordings: list[bytes], **fields: Any) -> Sent:
    sent = Sent(plan=_plan(), message_id=MESSAGE, project_id=PROJECT, token="", is_over=True)
    sent.readers = [cast(Reader, _Heard(frames)) for frames in recordings]
    for name, value in fields.items():
        setattr(sent, name, value)
    return sent


def _without(at: int) -> list[bytes]:
    told = _told()
    del told[at]
    return told


DOCTORED: Final[dict[str, tuple[str, Callable[[], list[bytes]]]]] = {
    "an event is missing": ("trace", lambda: _without(4)),
    "the end is missing": ("trace", lambda: _without(7)),
    "an event came twice": ("doubled", lambda: [*_told()[:5], *_told()[4:]]),
    "two events changed places": ("trace", lambda: [*_told()[:4], _told()[5], _told()[4], *_told()[6:]]),
    "a text is another": (
        "trace",
        lambda: [frame.replace(b"world", b"wor1d") for frame in _told()],
    ),
    "the snapshot is missing": ("trace", lambda: _without(2)),
    "nothing came": ("trace", list),
}


def test_a_recording_as_it_should_be_is_no_violation() -> None:
    assert not list(check_readers([_sent(_told(), _told())], {MESSAGE: _row()}))


@pytest.mark.parametrize("name", DOCTORED)
def test_a_doctored_recording_is_a_violation_and_its_file_shows_it_again(name: str, tmp_path: Path) -> None:
    """Beside a reader that was told rightly, only the other is named; its saved recording fails the check once more."""
    kind, doctored = DOCTORED[name]
    (violation,) = check_readers([_sent(_told(), doctored())], {MESSAGE: _row()})
    assert violation.kind == kind
    assert violation.recording is not None
    assert violation.row is not None
    path = tmp_path / "saved.json"
    SavedRecording.of(violation.recording, violation.row, seed=7, violation=violation.what).save(path)
    reason = SavedRecording.read(path).check()
    assert reason is not None
    assert violation.what.endswith(reason)


def test_a_problem_that_a_reader_noted_is_a_violation() -> None:
    sent = _sent(_told())
    sent.readers[0].recording.problems.append("was closed with 1011")
    (violation,) = check_readers([sent], {MESSAGE: _row()})
    assert violation.kind == "answer"


@pytest.mark.parametrize(
    ("kind", "rows", "fields"),
    [
        ("lost", {}, {}),
        ("lost", {MESSAGE: _row(status="pending")}, {}),
        ("lost", {MESSAGE: _row(status="building")}, {}),
        ("lost", {MESSAGE: _row()}, {"retried_above": 2}),
        ("stuck", {MESSAGE: _row()}, {"is_over": False}),
    ],
)
def test_a_message_that_was_acknowledged_and_is_not_final_is_a_violation(
    kind: str, rows: dict[str, dict[str, Any]], fields: dict[str, Any]
) -> None:
    """Missing, unfinished, a retry forgotten, readers left waiting."""
    (violation,) = check_messages([_sent(_told(), **fields)], rows)
    assert violation.kind == kind


def test_a_final_message_whose_readers_came_to_the_end_is_no_violation() -> None:
    assert not list(check_messages([_sent(_told(), retried_above=1)], {MESSAGE: _row()}))


def test_recovery_is_the_time_from_the_kill_to_the_next_attempts_first_event() -> None:
    """What a reader had of the attempt that was killed does not count, nor a message that ended in it."""
    sent = [_sent(_told())]
    assert recoveries_s([Kill(at_ms=1_000, held={MESSAGE: 1})], sent) == [2.0]
    assert recoveries_s([Kill(at_ms=1_000, held={MESSAGE: 2, PROJECT: 1})], sent) == []


def test_a_plan_hangs_on_the_seed_and_its_number_alone_and_its_script_is_one() -> None:
    """Whatever was planned before; every kind's script is read by the scripted model."""
    plans = [_plan(number) for number in range(1, 400)]
    assert [_plan(plan.number) for plan in random.Random(1).sample(plans, 50)] == [
        plans[plan.number - 1] for plan in random.Random(1).sample(plans, 50)
    ]
    assert len({plan.kind for plan in plans}) == 16
    for plan in plans:
        script = inline_script(plan.content)
        assert script is not None
        assert parse_script_text(script).rounds
    assert plans[0] != make_plan(2, 1, readers=4, chunks=20, webs=2, builds=True)
    assert msgspec.json.encode(plans[0])
