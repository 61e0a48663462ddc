"""Redis refuses, stands still, forgets, fills up or is cut off from one process: answers are committed, the story is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from shared import keys
from shared.event_log import EventLog
from tests.fault_proxy import Link, Manner, Way, down, up
from tests.faults.scenes import WORKERS, Ambush, finished, holder_of
from tests.followers import Audience, is_snapshot
from tests.people import Person, eventually
from tests.stack import Stack

FIRST: Final = "The first third, "
SECOND: Final = "the second, "
THIRDS: Final = (
    {"text": FIRST},
    {"hold": "one"},
    {"text": SECOND, "chunks": 1},  # so that one event has all of it
    {"hold": "two"},
    {"text": "and the last."},
)
WHOLE: Final = FIRST + SECOND + "and the last."
PACED: Final = (
    {"text": FIRST},
    {"hold": "one"},
    {"text": SECOND, "chunks": 12, "pace": 0.05},
    {"hold": "two"},
    {"text": "and the last."},
)

# What an append can be known by on the wire.
APPEND: Final = up(SECOND.encode())
"""The append of the second third, up to the middle of its text's event."""
PUBLISHED: Final = down(re.compile(rb"message\r\n[^{]*\{[^}]*\}\r\n.*" + SECOND.encode(), re.DOTALL))
"""The second third as a subscription brings it."""

CUT_OFF: Final = ("refused", "silent", "never answered")


def _whole(person: Person, audience: Audience, message_id: str, *, attempt: int | None = 1) -> dict[str, Any]:
    """The row of a success, told to everybody; the model was asked for it once. `attempt` None: any."""
    row = finished(person, audience, message_id)
    assert (row["status"], row["content"]) == ("success", WHOLE)
    assert attempt is None or row["attempt"] == attempt
    return row


def _asked_once(stack: Stack) -> None:
    assert len(stack.model.requests()) == 1


def _in_the_log(stack: Stack, message_id: str, text: str) -> bool:
    return any(text.encode() in entry.payload for entry in EventLog(stack.redis).replay(message_id))


# --- the server itself ---------------------------------------------------------------------------------------------


def _appends_that_wait(stack: Stack) -> list[str]:
    """Connections on which the server holds an append back."""
    return [
        client["id"] for client in stack.redis.client_list() if "b" in client["flags"] and client["cmd"] == "evalsha"
    ]


def test_client_pause_in_the_middle_delays_and_doubles_nothing(fragile: Stack, person: Person) -> None:
    """A worker gives up an append that the server holds back, and repeats it; whether it arrived is all the same."""
    fragile.model.say("paused", *THIRDS)
    message_id = person.submit(person.project(), "paused")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        fragile.redis.client_pause(600_000, all=False)
        try:
            fragile.model.release("one")
            waiting = eventually(lambda: _appends_that_wait(fragile))
            eventually(lambda: waiting[0] not in {client["id"] for client in fragile.redis.client_list()})
            fragile.model.wait_held("two")
        finally:
            fragile.redis.client_unpause()
        audience.wait_text(FIRST + SECOND)
        fragile.model.release("two")
        _whole(person, audience, message_id)
    _asked_once(fragile)


@contextmanager
def _full(stack: Stack) -> Iterator[None]:
    """Redis has no room: whatever would take more is answered OOM."""
    stack.redis.config_set("maxmemory-policy", "noeviction")
    stack.redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        stack.redis.config_set("maxmemory", 0)


def _refused_for_room(stack: Stack) -> int:
    """How many commands were answered OOM."""
    counted: dict[str, Any] = stack.redis.info("errorstats").get("errorstat_OOM", {})
    return int(counted.get("count", 0))


def _wait_refused(stack: Stack, since: int) -> None:
    eventually(lambda: _refused_for_room(stack) > since)


def test_memory_runs_out_in_the_middle_live_events_resume_when_there_is_room_again(
    fragile: Stack, person: Person
) -> None:
    fragile.model.say("full", *THIRDS)
    message_id = person.submit(person.project(), "full")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        with _full(fragile):
            before = _refused_for_room(fragile)
            fragile.model.release("one")
            fragile.model.wait_held("two")
            _wait_refused(fragile, before)
        audience.wait_text(FIRST + SECOND)
        fragile.model.release("two")
        _whole(person, audience, message_id)
    _asked_once(fragile)


def test_memory_runs_out_until_the_end_the_answer_is_committed_and_a_submit_is_accepted(
    fragile: Stack, person: Person
) -> None:
    """Readers get the end from the row; the bell that found no room is rung again once there is some."""
    fragile.model.say("full", *THIRDS)
    fragile.model.say("meanwhile", {"text": WHOLE})
    message_id = person.submit(person.project(), "full")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        with _full(fragile):
            fragile.model.release("one")
            fragile.model.release("two")
            before = _refused_for_room(fragile)
            meanwhile = person.submit(person.project(), "meanwhile", web=1)
            _wait_refused(fragile, before)
            _whole(person, audience, message_id)
            assert person.row(meanwhile)["status"] == "pending"
        with person.audience(meanwhile) as other:
            _whole(person, other, meanwhile)


# --- what it holds -------------------------------------------------------------------------------------------------


def _delete(stack: Stack, log: str) -> None:
    assert stack.redis.delete(log) == 1


def _trim_all(stack: Stack, log: str) -> None:
    assert stack.redis.xtrim(log, maxlen=0, approximate=False) > 0


@pytest.mark.parametrize("forget", [_delete, _trim_all], ids=["deleted", "trimmed to nothing"])
def test_a_log_that_is_emptied_in_the_middle_is_begun_anew_with_all_text_so_far(
    fragile: Stack, person: Person, forget: Callable[[Stack, str], None]
) -> None:
    fragile.model.say("emptied", *THIRDS)
    message_id = person.submit(person.project(), "emptied")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        forget(fragile, keys.log(message_id))
        fragile.model.release("one")
        audience.wait_for(is_snapshot("restored", attempt=2))
        audience.wait_text(SECOND)
        fragile.model.release("two")
        _whole(person, audience, message_id, attempt=2)
    _asked_once(fragile)


def test_a_log_that_lost_its_beginning_shows_nobody_half_a_text(fragile: Stack, person: Person) -> None:
    """Who had the beginning goes on live. Who had not waits, for the row: also one that comes after the end."""
    fragile.model.say("beheaded", *THIRDS)
    message_id = person.submit(person.project(), "beheaded")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        assert fragile.redis.xtrim(keys.log(message_id), maxlen=1, approximate=False) > 0
        with person.audience(message_id) as late:
            fragile.model.release("one")
            audience.wait_text(SECOND)
            fragile.model.release("two")
            row = _whole(person, audience, message_id)
            late.check(row)
    with person.audience(message_id) as latest:
        latest.check(row)


def test_script_flush_in_the_middle_is_not_noticed(fragile: Stack, person: Person) -> None:
    fragile.model.say("unscripted", *THIRDS)
    message_id = person.submit(person.project(), "unscripted")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        fragile.redis.script_flush()
        fragile.model.release("one")
        audience.wait_text(SECOND)
        fragile.redis.script_flush()
        fragile.model.release("two")
        _whole(person, audience, message_id)
    for follower in audience.followers:
        assert not any(is_snapshot("restored")(event) for event in follower.events)


def test_flushall_between_the_last_append_and_the_commit_the_row_tells_the_end(fragile: Stack, person: Person) -> None:
    fragile.model.say("flushed at the end", {"text": WHOLE}, {"hold": "end"})
    message_id = person.submit(person.project(), "flushed at the end")
    with person.audience(message_id) as audience:
        audience.wait_text(WHOLE)
        fragile.redis.flushall()
        fragile.model.release("end")
        _whole(person, audience, message_id, attempt=None)
    _asked_once(fragile)


def test_flushall_between_the_commit_and_its_finalized_the_row_tells_the_end(fragile: Stack, person: Person) -> None:
    fragile.model.say("flushed on the way", {"text": WHOLE})
    ambush = Ambush(fragile, "redis", lambda link: link.hold(up(b'"type":"complete"')))
    message_id = person.submit(person.project(), "flushed on the way")
    with person.audience(message_id) as audience:
        ambush.wait()
        assert person.row(message_id)["status"] == "success"
        fragile.redis.flushall()
        ambush.release()
        _whole(person, audience, message_id)


def test_deleted_bells_are_rung_again(fragile: Stack, person: Person) -> None:
    """The queue, and what Celery knows of queues, vanish while nobody is there to answer."""
    fragile.model.say("bell", {"text": WHOLE})
    for name in (*WORKERS, "sweeper"):
        fragile.kill(name)
    waiting = [person.submit(person.project(), f"bell {number}") for number in range(5)]
    assert fragile.redis.llen(keys.INTERACTIVE_QUEUE) >= len(waiting)
    fragile.redis.delete(keys.INTERACTIVE_QUEUE, *fragile.redis.keys("_kombu*"))
    fragile.restart(*WORKERS, "sweeper")
    for message_id in waiting:
        with person.audience(message_id) as audience:
            _whole(person, audience, message_id)


# --- a worker's way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", ["rst", "fin"])
@pytest.mark.parametrize("arrived", [False, True], ids=["cut before it arrived", "cut after it arrived"])
def test_a_workers_connections_are_cut_at_an_append_again_and_again(
    fragile: Stack, person: Person, manner: Manner, arrived: bool
) -> None:
    """In the middle of its text, or when Redis has all of it and the answer is under way: it stands in the log once."""
    fragile.model.say("cut", *PACED)
    message_id = person.submit(person.project(), "cut")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        link = fragile.link(holder_of(fragile, message_id), "redis")
        event = up(b'"type":"delta"')
        steps = (event, down(b"ok")) if arrived else (event,)
        others = link.reset if manner == "rst" else None  # the worker's other connections too
        cut = link.cut(*steps, manner=manner, passing=not arrived, times=3, then=others)
        fragile.model.release("one")
        cut.wait(3)
        audience.wait_text(SECOND)
        fragile.model.release("two")
        _whole(person, audience, message_id)
    _asked_once(fragile)


def test_a_worker_is_answered_by_silence_in_the_middle_of_an_append(fragile: Stack, person: Person) -> None:
    """Half of an append stands still on its way and nothing else passes. When it passes at last, it comes late."""
    fragile.model.say("silence", *THIRDS)
    message_id = person.submit(person.project(), "silence")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        link = fragile.link(holder_of(fragile, message_id), "redis")
        held = link.hold(APPEND, passing=True)
        fragile.model.release("one")
        held.wait()
        link.blackhole()
        link.wait_opened(link.opened + 1)  # given up, and tried anew in vain
        fragile.model.wait_held("two")
        link.undo()
        audience.wait_text(SECOND)
        fragile.model.release("two")
        _whole(person, audience, message_id)
    _asked_once(fragile)


def test_an_append_that_comes_late_after_it_was_repeated_is_there_already(fragile: Stack, person: Person) -> None:
    fragile.model.say("late", *THIRDS)
    message_id = person.submit(person.project(), "late")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        link = fragile.link(holder_of(fragile, message_id), "redis")
        held = link.hold(APPEND, passing=True)
        arrives = link.watch(APPEND)  # counts the one that is held only once it goes on
        fragile.model.release("one")
        held.wait()
        audience.wait_text(SECOND)
        assert arrives.struck == 1
        held.release()
        arrives.wait(2)
        fragile.model.release("two")
        _whole(person, audience, message_id)


def test_the_answer_to_an_append_is_lost_its_bytes_are_sent_again_and_told_once(fragile: Stack, person: Person) -> None:
    """Readers have the text while its worker does not know that it arrived; the second time Redis says that it is there."""
    fragile.model.say("unanswered", *THIRDS)
    message_id = person.submit(person.project(), "unanswered")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        link = fragile.link(holder_of(fragile, message_id), "redis")
        unanswered = link.hold(APPEND, down(b"ok"))
        there = link.watch(APPEND, down(b"there"))
        fragile.model.release("one")
        unanswered.wait()
        audience.wait_text(SECOND)
        there.wait()
        fragile.model.release("two")
        _whole(person, audience, message_id)
    _asked_once(fragile)


@contextmanager
def _cut_off(link: Link, how: str) -> Iterator[None]:
    if how == "refused":
        link.refuse()
        link.reset()
    elif how == "silent":
        link.blackhole()
    else:
        link.blackhole(Way.DOWN)
    try:
        yield
    finally:
        link.undo()


@pytest.mark.parametrize("how", CUT_OFF)
def test_a_worker_that_is_cut_off_from_redis_in_the_middle_goes_on_and_tells_the_rest_later(
    fragile: Stack, person: Person, how: str
) -> None:
    fragile.model.say("cut off", *THIRDS)
    message_id = person.submit(person.project(), "cut off")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        link = fragile.link(holder_of(fragile, message_id), "redis")
        with _cut_off(link, how):
            fragile.model.release("one")
            fragile.model.wait_held("two")
            if how == "never answered":
                eventually(lambda: _in_the_log(fragile, message_id, SECOND))
            else:
                assert not _in_the_log(fragile, message_id, SECOND)
        audience.wait_text(SECOND)
        fragile.model.release("two")
        _whole(person, audience, message_id)
    _asked_once(fragile)


@pytest.mark.parametrize("how", CUT_OFF)
def test_a_worker_that_is_cut_off_from_redis_until_the_end_commits_and_readers_get_it_all(
    fragile: Stack, person: Person, how: str
) -> None:
    """The sweeper, which has Redis, finds that the log lacks what stands before the end; the row speaks."""
    fragile.model.say("cut off", *THIRDS)
    message_id = person.submit(person.project(), "cut off")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        link = fragile.link(holder_of(fragile, message_id), "redis")
        with _cut_off(link, how):
            fragile.model.release("one")
            fragile.model.release("two")
            _whole(person, audience, message_id)
    _asked_once(fragile)


@pytest.mark.parametrize("seconds", [0.1, 2.5], ids=["slow", "slower than anybody waits"])
def test_a_slow_redis_delays_and_doubles_nothing(fragile: Stack, person: Person, seconds: float) -> None:
    """Where answers come later than the worker waits for them, every append is repeated for ever, and the row speaks."""
    fragile.model.say("slow", *PACED)
    message_id = person.submit(person.project(), "slow")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        fragile.link(holder_of(fragile, message_id), "redis").slow(seconds)
        fragile.model.release("one")
        fragile.model.release("two")
        _whole(person, audience, message_id)
    _asked_once(fragile)


# --- the API's way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", CUT_OFF)
def test_a_submit_is_accepted_by_an_api_that_is_cut_off_from_redis_and_the_sweeper_rings(
    fragile: Stack, person: Person, how: str
) -> None:
    """Also who reads at that process comes to the end, from the row."""
    fragile.model.say("no bell", {"text": WHOLE})
    project_id = person.project()
    with _cut_off(fragile.link("web-1", "redis"), how):
        message_id = person.submit(project_id, "no bell")
        with person.audience(message_id) as audience:
            _whole(person, audience, message_id)
    _asked_once(fragile)


def test_subscriptions_that_fall_silent_are_made_up_for_by_the_log(fragile: Stack, person: Person) -> None:
    """Nothing comes on them any more and their connections stand; every reader has the text before that is undone."""
    fragile.model.say("deaf", *THIRDS)
    message_id = person.submit(person.project(), "deaf")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        silenced = [fragile.link(web, "redis").hold(PUBLISHED) for web in ("web-1", "web-2")]
        fragile.model.release("one")
        for trap in silenced:
            trap.wait()
        audience.wait_text(SECOND)
        fragile.model.release("two")
        _whole(person, audience, message_id)


@pytest.mark.parametrize("how", CUT_OFF)
def test_readers_of_an_api_that_is_cut_off_from_redis_get_the_end_from_the_row(
    fragile: Stack, person: Person, how: str
) -> None:
    fragile.model.say("web alone", *THIRDS)
    message_id = person.submit(person.project(), "web alone")
    with person.audience(message_id) as audience:
        audience.wait_text(FIRST)
        with _cut_off(fragile.link("web-1", "redis"), how), _cut_off(fragile.link("web-2", "redis"), how):
            fragile.model.release("one")
            fragile.model.wait_held("two")
            eventually(lambda: _in_the_log(fragile, message_id, SECOND))
            fragile.model.release("two")
            _whole(person, audience, message_id)
