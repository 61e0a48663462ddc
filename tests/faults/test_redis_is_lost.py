"""Redis emptied, killed, cut off or away: no answer is lost, and readers see one story."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pytest

from dev.embedded import EmbeddedValkey
from shared.events import Delta, Finalized
from tests.followers import Audience, is_snapshot
from tests.people import Person, eventually
from tests.stack import Stack

THIRDS: Final = (
    {"text": "The first third, "},
    {"hold": "one"},
    {"text": "the second, "},
    {"hold": "two"},
    {"text": "and the last."},
)
WHOLE: Final = "The first third, the second, and the last."


def _check_success(person: Person, audience: Audience, message_id: str) -> dict[str, Any]:
    audience.finish()
    row = person.row(message_id)
    audience.check(row)
    assert (row["status"], row["content"]) == ("success", WHOLE)
    return row


def test_flushall_in_the_middle_readers_get_a_restored_snapshot_and_then_the_rest(
    fragile: Stack, person: Person
) -> None:
    """Nothing is lost and nothing doubled; the model is asked once, and a late reader finds a whole log."""
    fragile.model.say("flushed", *THIRDS)
    message_id = person.submit(person.project(), "to be flushed")
    with person.audience(message_id) as audience:
        audience.wait_text("The first third, ")
        fragile.redis.flushall()
        fragile.model.release("one")
        audience.wait_for(is_snapshot("restored", attempt=2))
        audience.wait_text("the second, ")
        fragile.model.release("two")
        row = _check_success(person, audience, message_id)
    assert len(fragile.model.requests()) == 1
    with person.audience(message_id) as late:
        late.check(row)


def test_a_log_that_is_lost_after_the_end_is_made_up_for_by_the_row(fragile: Stack, person: Person) -> None:
    """Readers of a finished message after a FLUSHALL."""
    fragile.model.say("flushed", {"text": WHOLE})
    row = person.answer_to(person.project(), "flushed afterwards")
    fragile.redis.flushall()
    with person.audience(row["id"]) as audience:
        for story in audience.check(row):
            assert [type(event).__name__ for event in story] == ["Snapshot", "Finalized"]


@pytest.mark.parametrize("keeps_its_data", [True, False], ids=["with its data", "empty"])
def test_redis_killed_in_the_middle_and_started_again_later_readers_get_the_rest(
    fragile: Stack, person: Person, valkey_server: EmbeddedValkey, keeps_its_data: bool
) -> None:
    """While it is away the model is read on; live events come again when it is back."""
    fragile.model.say("redis dies", *THIRDS)
    message_id = person.submit(person.project(), "redis dies in between")
    with person.audience(message_id) as audience:
        audience.wait_text("The first third, ")
        valkey_server.kill()
        fragile.model.release("one")
        fragile.model.wait_held("two")
        if not keeps_its_data:
            valkey_server.forget()
        valkey_server.restart()
        audience.wait_text("the second, ")
        fragile.model.release("two")
        _check_success(person, audience, message_id)
    assert len(fragile.model.requests()) == 1


def test_redis_away_until_the_end_the_answer_is_committed_and_readers_get_it_from_the_row(
    fragile: Stack, person: Person, valkey_server: EmbeddedValkey
) -> None:
    """Readers that stayed come to the end without Redis; a submit meanwhile is accepted and answered once it is back."""
    fragile.model.say("without redis", *THIRDS)
    fragile.model.say("meanwhile", {"text": WHOLE})
    project_id = person.project()
    message_id = person.submit(project_id, "without redis")
    with person.audience(message_id) as audience:
        audience.wait_text("The first third, ")
        valkey_server.kill()
        fragile.model.release("one")
        fragile.model.release("two")
        row = _check_success(person, audience, message_id)
        meanwhile = person.submit(project_id, "meanwhile", web=1)
        with person.audience(meanwhile) as other:
            valkey_server.restart()
            _check_success(person, other, meanwhile)
    assert person.row(message_id) == row
    # the end that could not be appended is appended by the sweeper, or the log was lost and the row speaks for it
    eventually(lambda: fragile.sql("SELECT 1 FROM messages WHERE id = :id AND ending_appended", id=message_id))
    with person.audience(message_id) as late:
        late.check(row)


def test_a_call_made_while_redis_is_away_is_told_once_to_whoever_was_shown_the_row(
    fragile: Stack, person: Person, valkey_server: EmbeddedValkey
) -> None:
    """Without Redis readers are shown the row, with the call as made; its events, appended later, come after none of them."""
    patch = {"operations": [{"op": "add", "path": "/title", "value": "made"}]}
    called = [{"text": "I change it."}, {"hold": "one"}, {"tool": {"name": "applyJsonPatch", "arguments": patch}}]
    fragile.model.on("call", {"rounds": [{"steps": called}, {"steps": [{"hold": "two"}, {"text": "Done."}]}]})
    project_id = person.project()
    message_id = person.submit(project_id, "call without redis")
    with person.audience(message_id) as audience:
        audience.wait_text("I change it.")
        valkey_server.kill()
        fragile.model.release("one")
        fragile.model.wait_held("two")
        with person.audience(message_id) as late:
            late.wait_for(is_snapshot("restored"))
            valkey_server.restart()
            fragile.model.release("two")
            for readers in (audience, late):
                readers.finish()
                for story in readers.check(person.row(message_id)):
                    assert len({event.id for event in story}) == len(story)
    assert person.document(project_id)["document"] == {"title": "made"}


def test_a_subscription_that_is_cut_delays_events_and_loses_none(fragile: Stack, person: Person) -> None:
    """CLIENT KILL TYPE pubsub, again and again, while deltas come."""
    fragile.model.say(
        "cut off",
        {"text": "The first third, "},
        {"text": "the second, ", "chunks": 12, "pace": 0.1},
        {"hold": "two"},
        {"text": "and the last."},
    )
    message_id = person.submit(person.project(), "cut off")
    with person.audience(message_id) as audience:
        audience.wait_for(lambda event: isinstance(event, Delta))
        killed = 0
        for count in range(3, 13, 3):
            fragile.model.wait_chunks(0, count)
            killed += fragile.redis.client_kill_filter(_type="pubsub")
        assert killed
        audience.wait_text("the second, ")
        fragile.redis.client_kill_filter(_type="pubsub")
        fragile.model.release("two")
        row = _check_success(person, audience, message_id)
        assert row["attempt"] == 1
        for follower in audience.followers:
            assert isinstance(follower.events[-1], Finalized)


def test_every_client_cut_off_in_the_middle_the_workers_connection_too(fragile: Stack, person: Person) -> None:
    """An append whose answer was lost is repeated with the same bytes and stands in the log once."""
    fragile.model.say(
        "all cut",
        {"text": "The first third, "},
        {"text": "the second, ", "chunks": 12, "pace": 0.1},
        {"text": "and the last."},
    )
    message_id = person.submit(person.project(), "all cut")
    with person.audience(message_id) as audience:
        audience.wait_for(lambda event: isinstance(event, Delta))
        for count in range(3, 13, 3):
            fragile.model.wait_chunks(0, count)
            for kind in ("normal", "pubsub"):
                fragile.redis.client_kill_filter(_type=kind, skipme=True)
        _check_success(person, audience, message_id)


def test_workers_outlive_a_redis_that_is_full_and_cuts_them_off(fragile: Stack, person: Person) -> None:
    """What they would write as they come back is refused; they try again, and hear bells once there is room."""
    fragile.model.say("after all", {"text": WHOLE})
    workers = ("worker-1", "worker-2")
    fragile.redis.config_set("maxmemory", 1)
    try:
        fragile.redis.client_kill_filter(_type="normal", skipme=True)
        for name in workers:
            eventually(partial(_was_refused, fragile, name))
    finally:
        fragile.redis.config_set("maxmemory", 0)
    message_id = person.submit(person.project(), "after all")
    with person.audience(message_id) as audience:
        _check_success(person, audience, message_id)
    assert [name for name in workers if not fragile.is_running(name)] == []


def _was_refused(stack: Stack, name: str) -> bool:
    return "OutOfMemoryError" in stack.output(name)
