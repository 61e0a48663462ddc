"""A worker that dies, hangs or is told to go in the middle of an answer: another one goes on, and readers see one story."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import create_engine, text

from shared import keys
from shared.doorbell import Doorbell, make_celery
from shared.engine import sqlalchemy_url
from shared.events import AssistantActivity, Delta, EventId, Snapshot, Status, StreamEvent, ToolResult, ToolStart
from tests.faults.outcome import Witness, check_outcome
from tests.faults.scenes import HALVES, HOLD, WHOLE
from tests.followers import is_snapshot
from tests.people import Person, eventually
from tests.stack import Stack


def _edit(**more: Any) -> dict[str, Any]:
    operations = [{"op": "add", "path": "/list/-", "value": "once"}]
    return {
        "tool": {"name": "applyJsonPatch", "arguments": {"operations": operations, "explanation": "Added it."}, **more}
    }


def _holder(stack: Stack, message_id: str) -> str:
    return eventually(lambda: stack.holder(message_id))


def _ledger(stack: Stack, message_id: str) -> int:
    return len(stack.sql("SELECT 1 FROM tool_ledger WHERE message_id = :id", id=message_id))


def _tries(stack: Stack, message_id: str) -> int:
    tries: int = stack.sql("SELECT tries FROM messages WHERE id = :id", id=message_id)[0].tries
    return tries


def _is_delta_of(attempt: int, event: StreamEvent) -> bool:
    return isinstance(event, Delta) and EventId.parse(event.id).attempt == attempt


def _status(event: StreamEvent, status: AssistantActivity) -> StreamEvent:
    return Status(id=event.id, message_id=event.message_id, ts=event.ts, status=status)


def _finish(person: Person, audience: Any, message_id: str) -> tuple[dict[str, Any], list[Any]]:
    audience.finish()
    row = person.row(message_id)
    return row, audience.check(row)


def test_kill_9_of_the_worker_with_default_settings_another_one_begins_anew_and_says_it_all(
    shared_stack: Stack,
) -> None:
    """Readers on both web processes get the next attempt's snapshot and the whole answer."""
    shared_stack.model.say("survive", *HALVES)
    killed = None
    try:
        with Witness(shared_stack) as person:
            message_id = person.submit(person.project(), "Will you survive?")
            with person.audience(message_id) as audience:
                audience.wait_text("The first half, ")
                killed = _holder(shared_stack, message_id)
                shared_stack.kill(killed)
                killed_at_s = time.monotonic()
                audience.wait_for(is_snapshot("attempt", attempt=2))
                for follower in audience.followers:
                    snapshot = follower.wait_for(is_snapshot("attempt", attempt=2))
                    print(f"{follower.name}: next attempt after {follower.received_at_s(snapshot) - killed_at_s:.2f} s")
                shared_stack.model.release(HOLD)
                row, _ = _finish(person, audience, message_id)
            check_outcome(shared_stack, person)
    finally:
        if killed is not None:
            shared_stack.restart(killed)
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 2)
    assert len(shared_stack.model.requests()) == 2


def test_kill_9_between_a_tools_commit_and_its_event_the_next_attempt_shows_its_effect_once(
    fragile: Stack, person: Person
) -> None:
    """The next attempt's snapshot has the call as succeeded; the patch is in the document once."""
    fragile.model.on(
        "patch",
        {"rounds": [{"steps": [{"text": "I patch."}, {"hold": HOLD}, _edit()]}, {"steps": [{"text": "Patched."}]}]},
    )
    project_id = person.project(document={"list": []})
    message_id = person.submit(project_id, "patch it")
    with person.audience(message_id) as audience:
        audience.wait_text("I patch.")
        holder = _holder(fragile, message_id)
        fragile.redis.client_pause(120_000, all=False)
        try:
            fragile.model.release(HOLD)
            eventually(lambda: _ledger(fragile, message_id))
            fragile.kill(holder)
        finally:
            fragile.redis.client_unpause()
        row, stories = _finish(person, audience, message_id)
    for story in stories:
        opening = next(
            event
            for event in story
            if isinstance(event, Snapshot) and EventId.parse(event.id).attempt == row["attempt"]
        )
        assert [(call.name, call.state) for call in opening.tool_calls] == [("applyJsonPatch", "succeeded")]
        assert opening.content == "I patch."
    assert (row["status"], row["content"]) == ("success", "I patch.\n\nPatched.")
    assert [(call["state"], call["version"]) for call in row["toolCalls"]] == [("succeeded", 2)]
    assert person.document(project_id)["document"] == {"list": ["once"]}
    assert [(version["version"], version["messageId"]) for version in person.versions(project_id)] == [(2, message_id)]
    assert _ledger(fragile, message_id) == 1


def test_kill_9_after_a_round_was_stored_and_before_its_tool_ran_the_next_attempt_runs_it(
    fragile: Stack, person: Person
) -> None:
    """The model is not asked for that round again: its call is made as it was decided, once."""
    fragile.model.on(
        "stored",
        {"rounds": [{"steps": [{"text": "I patch."}, {"hold": HOLD}, _edit()]}, {"steps": [{"text": "Patched."}]}]},
    )
    project_id = person.project(document={"list": []})
    message_id = person.submit(project_id, "stored and not run")
    locking = create_engine(sqlalchemy_url(fragile.database_url))
    try:
        with person.audience(message_id) as audience, locking.connect() as connection:
            audience.wait_text("I patch.")
            connection.execute(text("SELECT 1 FROM projects WHERE id = :id FOR UPDATE"), {"id": project_id})
            fragile.model.release(HOLD)
            eventually(lambda: fragile.sql("SELECT 1 FROM rounds WHERE message_id = :id", id=message_id))
            eventually(lambda: fragile.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            fragile.kill(_holder(fragile, message_id))
            assert _ledger(fragile, message_id) == 0
            connection.rollback()
            row, stories = _finish(person, audience, message_id)
    finally:
        locking.dispose()
    for story in stories:
        opening, thinking, start, calling, result = [event for event in story if event.id.startswith("2-")][:5]
        assert isinstance(opening, Snapshot)
        assert (opening.content, opening.tool_calls) == ("I patch.", ())
        assert (thinking, calling) == (_status(thinking, "thinking"), _status(calling, "tool_calling"))
        assert isinstance(start, ToolStart)
        assert isinstance(result, ToolResult)
        assert result.success
    assert (row["status"], row["content"]) == ("success", "I patch.\n\nPatched.")
    assert person.document(project_id)["document"] == {"list": ["once"]}
    assert _ledger(fragile, message_id) == 1
    assert len(fragile.model.requests()) == 2


def test_sigterm_of_the_worker_hands_the_message_to_the_other_at_no_cost_of_a_try(
    fragile: Stack, person: Person
) -> None:
    """The provider's stream is closed, the other worker goes on at once, and the process ends well."""
    fragile.model.say("handed over", *HALVES)
    message_id = person.submit(person.project(), "to be handed over")
    with person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        leaving = _holder(fragile, message_id)
        fragile.kill(leaving, signal.SIGTERM)
        fragile.model.wait_disconnected(0)
        audience.wait_for(is_snapshot("attempt", attempt=2))
        assert fragile.holder(message_id) not in (None, leaving)
        assert _tries(fragile, message_id) == 0
        assert fragile.wait_ended(leaving) == 0
        fragile.model.release(HOLD)
        row, _ = _finish(person, audience, message_id)
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 2)


def test_worker_and_sweeper_killed_together_the_next_sweeper_takes_the_lease(fragile: Stack, person: Person) -> None:
    """Without a sweeper nothing is lost, only late."""
    fragile.model.say("orphaned", *HALVES)
    message_id = person.submit(person.project(), "to be orphaned")
    with person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        fragile.kill("sweeper")
        fragile.kill(_holder(fragile, message_id))
        eventually(
            lambda: fragile.sql(
                "SELECT 1 FROM messages WHERE id = :id AND lease_until < clock_timestamp()", id=message_id
            )
        )
        fragile.model.release(HOLD)
        assert person.row(message_id)["status"] == "pending"
        fragile.restart("sweeper")
        row, _ = _finish(person, audience, message_id)
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 2)


def test_a_message_that_loses_three_workers_ends_as_worker_lost_with_its_text(fragile: Stack, person: Person) -> None:
    """It is not tried for ever, and what readers were shown last is what the row keeps."""
    fragile.model.say("poison", *HALVES)
    message_id = person.submit(person.project(), "poison")
    with person.audience(message_id) as audience:
        for attempt in (1, 2, 3):
            audience.wait_for(partial(_is_delta_of, attempt))
            holder = _holder(fragile, message_id)
            fragile.kill(holder)
            if attempt < 3:
                fragile.restart(holder)
        row, _ = _finish(person, audience, message_id)
    assert (row["status"], row["content"]) == ("error", "The first half, ")
    assert (row["error"]["code"], row["error"]["retryable"]) == ("worker_lost", True)
    fragile.model.release(HOLD)
    assert person.client.post(f"/v1/messages/{message_id}/retry").status_code == 202
    with person.audience(message_id) as audience:
        row, _ = _finish(person, audience, message_id)
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 5)


def test_a_worker_that_was_stopped_beyond_its_lease_and_wakes_up_harms_nothing(fragile: Stack, person: Person) -> None:
    """A zombie's deltas are refused and its end is not written: the other worker's answer stands."""
    fragile.model.on(
        "zombie",
        {
            "rounds": [
                {
                    "attempts": [
                        {"steps": [{"text": "Half of a "}, {"hold": "zombie wakes"}, {"text": "zombie."}]},
                        {"steps": [{"text": "The living "}, {"hold": HOLD}, {"text": "answer."}]},
                    ]
                }
            ]
        },
    )
    message_id = person.submit(person.project(), "a zombie story")
    with person.audience(message_id) as audience:
        audience.wait_text("Half of a ")
        zombie = _holder(fragile, message_id)
        fragile.kill(zombie, signal.SIGSTOP)
        fragile.model.release("zombie wakes")
        fragile.model.wait_ended(0)
        audience.wait_text("The living ")
        woken_at = fragile.sql("SELECT clock_timestamp() AS now")[0].now
        fragile.kill(zombie, signal.SIGCONT)
        eventually(lambda: "newer attempt" in fragile.output(zombie) or not _leases_renewed_before(fragile, woken_at))
        fragile.model.release(HOLD)
        row, stories = _finish(person, audience, message_id)
    assert (row["status"], row["content"], row["attempt"]) == ("success", "The living answer.", 2)
    for story in stories:
        last_of_the_zombie = max(number for number, event in enumerate(story) if event.id.startswith("1-"))
        assert all(event.id.startswith("2-") for event in story[last_of_the_zombie + 1 :])
        assert "zombie." not in "".join(event.content for event in story if isinstance(event, Delta))


def _leases_renewed_before(stack: Stack, moment: Any) -> bool:
    """Whether a worker has yet to look at its leases since."""
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'chatrelay-leases' AND query_start < :moment"
    return bool(stack.sql(query, moment=moment))


def test_a_lost_bell_is_rung_again_and_a_doubled_one_changes_nothing(fragile: Stack, person: Person) -> None:
    """The row is the queue: emptying Celery's queue loses nothing, and more bells for a message run it once."""
    fragile.model.say("rung for", *HALVES)
    celery = make_celery(fragile.redis_url)

    def ring_and_wait(message_id: str) -> None:
        for _ in range(10):
            assert Doorbell(celery).ring(UUID(message_id))
        eventually(lambda: not fragile.redis.llen(keys.INTERACTIVE_QUEUE))

    for name in ("worker-1", "worker-2"):
        fragile.kill(name)
    message_id = person.submit(person.project(), "rung for")
    assert fragile.redis.delete(keys.INTERACTIVE_QUEUE) == 1
    fragile.restart("worker-1")
    with celery, person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        ring_and_wait(message_id)
        fragile.model.release(HOLD)
        row, _ = _finish(person, audience, message_id)
        ring_and_wait(message_id)
    assert person.row(message_id) == row
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 1)
    assert len(fragile.model.requests()) == 1
