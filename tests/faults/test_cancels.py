"""A cancel at every moment of a message's life: the provider's stream is closed, the text kept, the end told once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import create_engine, text

from dev.embedded import EmbeddedValkey
from shared.engine import sqlalchemy_url
from shared.events import Finalized
from tests.people import Person, eventually
from tests.stack import Stack

SEED: Final = 20261125
HOLD: Final = "held"


def _cancel(person: Person, message_id: str, *, web: int = 0) -> int:
    return person.clients[web].post(f"/v1/messages/{message_id}/cancel").status_code


@contextmanager
def _told_as_cancelled(person: Person, message_id: str, content: str) -> Iterator[Any]:
    """What is done within ends the message as cancelled, with this text; every reader is told so once."""
    seeded = random.Random(SEED)
    print(f"seed {SEED}")
    with person.audience(message_id, leaves_after=lambda: seeded.randint(2, 6)) as audience:
        yield audience
        audience.finish()
        row = person.row(message_id)
        stories = audience.check(row)
    assert (row["status"], row["content"]) == ("cancelled", content)
    for story in stories:
        assert [event.status for event in story if isinstance(event, Finalized)] == ["cancelled"]


def _closes_the_stream(person: Person, message_id: str, number: int) -> None:
    """Cancels; returns once the model server has seen its stream closed."""
    asked_at_s = time.monotonic()
    assert _cancel(person, message_id) == 202
    person.stack.model.wait_disconnected(number)
    print(f"provider's stream closed {time.monotonic() - asked_at_s:.2f} s after the cancel was sent")


def test_before_any_worker_takes_it_the_api_commits_it(fragile: Stack, person: Person) -> None:
    """Nobody is needed for that: no worker and no sweeper runs."""
    for name in ("worker-1", "worker-2", "sweeper"):
        fragile.kill(name)
    message_id = person.submit(person.project(), "never begun")
    with _told_as_cancelled(person, message_id, ""):
        assert _cancel(person, message_id) == 202
    assert fragile.model.requests() == []


def test_while_the_model_thinks(fragile: Stack, person: Person) -> None:
    fragile.model.say("thinks", {"open": True}, {"hold": HOLD}, {"text": "too late"})
    message_id = person.submit(person.project(), "thinks")
    with _told_as_cancelled(person, message_id, ""):
        fragile.model.wait_held(HOLD)
        _closes_the_stream(person, message_id, 0)


def test_in_the_middle_of_the_text(fragile: Stack, person: Person) -> None:
    fragile.model.say("streams", {"text": "So far, "}, {"hold": HOLD}, {"text": "and no further"})
    message_id = person.submit(person.project(), "streams")
    with _told_as_cancelled(person, message_id, "So far, ") as audience:
        audience.wait_text("So far, ")
        _closes_the_stream(person, message_id, 0)


def test_while_a_tool_is_at_work_its_effect_stands_or_not_but_never_half(fragile: Stack, person: Person) -> None:
    """The project is locked by somebody else, so that the effect waits; what was committed is shown, and is done once."""
    operations = [{"op": "add", "path": "/list/-", "value": "once"}]
    call = {"name": "applyJsonPatch", "arguments": {"operations": operations, "explanation": "Added it."}}
    fragile.model.on("tool", {"rounds": [{"steps": [{"text": "I add it."}, {"hold": HOLD}, {"tool": call}]}]})
    project_id = person.project(document={"list": []})
    message_id = person.submit(project_id, "tool")
    locking = create_engine(sqlalchemy_url(fragile.database_url))
    try:
        with _told_as_cancelled(person, message_id, "I add it.") as audience, locking.connect() as connection:
            audience.wait_text("I add it.")
            connection.execute(text("SELECT 1 FROM projects WHERE id = :id FOR UPDATE"), {"id": project_id})
            fragile.model.release(HOLD)
            eventually(lambda: fragile.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            assert _cancel(person, message_id) == 202
            connection.rollback()
    finally:
        locking.dispose()
    made = fragile.sql("SELECT succeeded FROM tool_ledger WHERE message_id = :id", id=message_id)
    project = person.document(project_id)
    assert (project["document"], project["version"]) == ({"list": ["once"] * len(made)}, 1 + len(made))
    assert len(person.row(message_id)["toolCalls"]) == len(made)


def test_during_the_pause_before_a_retry(fragile: Stack, person: Person) -> None:
    """The provider asked for minutes of patience; nobody waits for them."""
    fragile.model.on("pauses", {"rounds": [{"status": 429, "headers": {"Retry-After": "300"}}]})
    message_id = person.submit(person.project(), "pauses")
    with _told_as_cancelled(person, message_id, ""):
        eventually(lambda: fragile.sql("SELECT 1 FROM messages WHERE id = :id AND tries = 1", id=message_id))
        assert _cancel(person, message_id) == 202
    assert len(fragile.model.requests()) == 1


def test_with_redis_down_the_lease_brings_it(fragile: Stack, person: Person, valkey_server: EmbeddedValkey) -> None:
    """The text that Redis was never given is kept all the same, and told when Redis is back."""
    fragile.model.say("alone", {"text": "Before, "}, {"hold": HOLD}, {"text": "after, "}, {"hold": "for ever"})
    message_id = person.submit(person.project(), "alone")
    with _told_as_cancelled(person, message_id, "Before, after, ") as audience:
        audience.wait_text("Before, ")
        valkey_server.kill()
        fragile.model.release(HOLD)
        fragile.model.wait_held("for ever")
        _closes_the_stream(person, message_id, 0)
        eventually(lambda: person.row(message_id)["status"] == "cancelled")
        valkey_server.restart()


def test_when_its_worker_is_lost_too_the_sweeper_commits_it(fragile: Stack, person: Person) -> None:
    """The text that readers were shown is kept, not only that of the stored rounds."""
    fragile.model.say("orphan", {"text": "Shown, "}, {"hold": HOLD}, {"text": "never shown"})
    message_id = person.submit(person.project(), "orphan")
    with _told_as_cancelled(person, message_id, "Shown, ") as audience:
        audience.wait_text("Shown, ")
        fragile.kill(eventually(lambda: fragile.holder(message_id)))
        assert _cancel(person, message_id) == 202


@pytest.mark.parametrize("seed", range(6))
def test_racing_the_end_the_first_commit_wins(fragile: Stack, person: Person, seed: int) -> None:
    """Several cancels and the answer's end at the same time: whichever came first, everybody is told the same."""
    seeded = random.Random(seed)
    fragile.model.say("race", {"text": "Nearly done, "}, {"hold": HOLD}, {"text": "done."})
    message_id = person.submit(person.project(), "race")
    answers: list[int] = []
    with person.audience(message_id) as audience:
        audience.wait_text("Nearly done, ")
        cancels = [
            threading.Thread(target=lambda web=web: answers.append(_cancel(person, message_id, web=web)))
            for web in (0, 1)
        ]
        acts: list[Any] = [partial(fragile.model.release, HOLD), *(thread.start for thread in cancels)]
        seeded.shuffle(acts)
        for act in acts:
            act()
        for thread in cancels:
            thread.join()
        audience.finish()
        row = person.row(message_id)
        audience.check(row)
    assert set(answers) <= {202, 409}
    ends = {"success": "Nearly done, done.", "cancelled": row["content"]}
    assert row["content"] == ends[row["status"]]
    assert "Nearly done, done.".startswith(row["content"])
    if answers == [409, 409]:
        assert row["status"] == "success", "nobody's cancel was taken"
    assert _cancel(person, message_id) == 409
