"""A worker is killed, or loses an answer, exactly between two steps of a turn: one effect, and the whole story."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from tests.fault_proxy import Step, Way, down, up
from tests.faults.scenes import (
    CLAIM,
    CLAIMED,
    COMMIT,
    EFFECT,
    END,
    HALVES,
    HOLD,
    ROUND,
    WHOLE,
    Ambush,
    check_patched_once,
    finished,
    play_patch,
    refused_by_postgres,
    tries_of,
)
from tests.people import Person
from tests.stack import Stack

KILLED: Final = {
    "as the claim was sent": ((CLAIM,), 2),  # which arrives after its sender's end
    "after the claim": ((CLAIM, CLAIMED), 2),
    "after the round was stored": ((ROUND, down(COMMIT)), 2),
    "after the effect and before its event": ((EFFECT, down(COMMIT)), 2),
    "after the end and before finalized": ((END, down(COMMIT)), 1),
}
"""Where the worker's way to Postgres is held while it is killed, and the attempt that ends the message."""


@pytest.mark.parametrize(("steps", "attempt"), KILLED.values(), ids=list(KILLED))
def test_kill_9_between_two_steps(fragile: Stack, person: Person, steps: tuple[Step, ...], attempt: int) -> None:
    """The model is asked once for each round, and the patch is in the document once."""
    play_patch(fragile, "patch")
    fragile.model.release(HOLD)
    ambush = Ambush(fragile, "postgres", lambda link: link.hold(*steps))
    message_id = person.submit(person.project(document={"list": []}), "patch it")
    with person.audience(message_id) as audience:
        fragile.kill(ambush.wait())
        ambush.release()
        row = finished(person, audience, message_id)
    check_patched_once(fragile, person, row)
    assert row["attempt"] == attempt
    assert len(fragile.model.requests()) == 2


COMMITS: Final[Mapping[str, Mapping[Way, tuple[Step, ...]]]] = {
    "claim": {Way.DOWN: (CLAIM, CLAIMED), Way.UP: (CLAIM,)},  # a statement that commits itself
    **{
        name: {Way.DOWN: (statement, down(COMMIT)), Way.UP: (statement, up(COMMIT))}
        for name, statement in {"stored round": ROUND, "tool's effect": EFFECT, "end": END}.items()
    },
}


@pytest.mark.parametrize("lost", [Way.DOWN, Way.UP], ids=["answer lost", "request lost"])
@pytest.mark.parametrize("steps", COMMITS.values(), ids=list(COMMITS))
def test_a_commit_that_nobody_answered(
    fragile: Stack, person: Person, steps: Mapping[Way, tuple[Step, ...]], lost: Way
) -> None:
    """Committed or not, the worker cannot know: it asks again, and goes on in the same attempt at no cost of a try."""
    play_patch(fragile, "patch")
    fragile.model.release(HOLD)
    ambush = Ambush(fragile, "postgres", lambda link: link.cut(*steps[lost]))
    message_id = person.submit(person.project(document={"list": []}), "patch it")
    with person.audience(message_id) as audience:
        ambush.wait()
        row = finished(person, audience, message_id)
    check_patched_once(fragile, person, row)
    assert (row["attempt"], tries_of(fragile, message_id)) == (1, 0)
    assert len(fragile.model.requests()) == 2


def test_a_bell_whose_answer_is_lost_on_the_wire_is_rung_again(fragile: Stack, person: Person) -> None:
    """Redis has given the bell away, and no worker has heard it."""
    fragile.model.say("unheard", *HALVES)
    fragile.model.release(HOLD)
    ambush = Ambush(fragile, "redis", lambda link: link.cut(down(b"chatrelay.interactive\r\n$")))
    message_id = person.submit(person.project(), "unheard")
    with person.audience(message_id) as audience:
        ambush.wait()
        row = finished(person, audience, message_id)
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 1)
    assert len(fragile.model.requests()) == 1


def test_a_message_that_breaks_every_turn_ends_with_its_text(fragile: Stack, person: Person) -> None:
    """An error that nobody foresaw costs a try each time, and no worker; after the third the message ends."""
    play_patch(fragile, "poison")
    fragile.model.release(HOLD)
    project_id = person.project(document={"list": []})
    with refused_by_postgres(fragile, "rounds", "INSERT", "XX000"):
        message_id = person.submit(project_id, "poison")
        with person.audience(message_id) as audience:
            row = finished(person, audience, message_id)
    assert (row["status"], row["error"]["code"], row["content"]) == ("error", "worker_lost", "I patch.")
    assert person.document(project_id)["document"] == {"list": []}
    assert all(fragile.is_running(name) for name in ("worker-1", "worker-2"))
    assert len(fragile.model.requests()) == 3
