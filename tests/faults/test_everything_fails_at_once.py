"""Several things fail together: both stores, one worker's ways to both, every process, all of it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from dev.embedded import EmbeddedPostgres, EmbeddedValkey
from shared.events import Delta
from tests.faults.conftest import PROCESSES
from tests.faults.scenes import HALVES, HOLD, PATCHED, WHOLE, check_patched_once, finished, holder_of, play_patch
from tests.followers import is_snapshot
from tests.people import Person, eventually
from tests.stack import Stack


def test_postgres_and_redis_away_at_once(
    fragile: Stack, person: Person, postgres_server: EmbeddedPostgres, valkey_server: EmbeddedValkey
) -> None:
    """The model is read on without either; a tool's effect is committed once, and the end told, when both are back."""
    play_patch(fragile, "both away")
    message_id = person.submit(person.project(document={"list": []}), "both away")
    with person.audience(message_id) as audience:
        audience.wait_text("I patch.")
        holder = holder_of(fragile, message_id)
        valkey_server.kill()
        postgres_server.kill()
        fragile.model.release(HOLD)
        fragile.model.wait_ended(0)
        eventually(lambda: "leases not renewed" in fragile.output(holder))
        postgres_server.restart()
        valkey_server.restart()
        row = finished(person, audience, message_id)
    check_patched_once(fragile, person, row)


def test_one_worker_is_cut_off_from_both_stores_and_what_it_sent_comes_late(fragile: Stack, person: Person) -> None:
    """The other worker's answer stands: the late bytes bear an older attempt, and are refused."""
    attempts = [
        {"steps": [{"text": "Half of a "}, {"hold": "it goes on"}, {"text": "zombie."}]},
        {"steps": [{"text": "The living "}, {"hold": HOLD}, {"text": "answer."}]},
    ]
    fragile.model.on("cut off", {"rounds": [{"attempts": attempts}]})
    message_id = person.submit(person.project(), "cut off from both")
    with person.audience(message_id) as audience:
        audience.wait_text("Half of a ")
        lost = holder_of(fragile, message_id)
        links = [fragile.link(lost, "postgres"), fragile.link(lost, "redis")]
        for link in links:
            link.blackhole(late=True)
        fragile.model.release("it goes on")
        fragile.model.wait_ended(0)
        audience.wait_for(is_snapshot("attempt", attempt=2))
        audience.wait_text("The living ")
        for link in links:
            link.undo()
        eventually(lambda: "newer attempt" in fragile.output(lost))
        fragile.model.release(HOLD)
        row = finished(person, audience, message_id)
        for story in audience.check(row):
            assert "zombie." not in "".join(event.content for event in story if isinstance(event, Delta))
    assert (row["status"], row["content"], row["attempt"]) == ("success", "The living answer.", 2)


@pytest.mark.parametrize("with_stores", [False, True], ids=["every process", "every process and both stores"])
def test_kill_9_of_everything_at_once(
    fragile: Stack,
    person: Person,
    postgres_server: EmbeddedPostgres,
    valkey_server: EmbeddedValkey,
    with_stores: bool,
) -> None:
    """Started again, all that was acknowledged becomes final: what streamed, what waited, what had yet to take effect."""
    fragile.model.say("streams", *HALVES)
    play_patch(fragile, "patches")
    streaming = person.project()
    patching = person.project(document={"list": []})
    messages = {
        person.submit(streaming, "it streams"): WHOLE,
        person.submit(streaming, "it waits, and then streams", web=1): WHOLE,
        person.submit(patching, "it patches"): PATCHED,
    }
    with ExitStack() as exits:
        audiences = {message_id: exits.enter_context(person.audience(message_id)) for message_id in messages}
        first, _, patched = audiences.values()
        first.wait_text("The first half, ")
        patched.wait_text("I patch.")
        for name in PROCESSES:
            fragile.kill(name)
        if with_stores:
            postgres_server.kill()
            valkey_server.kill()
            postgres_server.restart()
            valkey_server.restart()
        fragile.model.release(HOLD)
        fragile.restart(*PROCESSES)
        rows = {message_id: finished(person, audience, message_id) for message_id, audience in audiences.items()}
    assert {message_id: row["content"] for message_id, row in rows.items()} == messages
    check_patched_once(fragile, person, list(rows.values())[-1])
