"""A web process or Postgres goes away in the middle: readers come back elsewhere, and the message completes."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from dev.embedded import EmbeddedPostgres
from shared.events import Delta, Snapshot
from tests.followers import Follower
from tests.people import Person
from tests.readers import SocketReader, SseReader
from tests.stack import Stack
from tests.trace_checker import check_trace

HALVES: Final = (
    {"text": "The first half, "},
    {"hold": "halfway"},
    {"text": "and ", "pace": 0.05},
    {"text": "the second."},
)
WHOLE: Final = "The first half, and the second."


def _go_on(stack: Stack, person: Person, message_id: str, followers: list[Follower]) -> None:
    stack.model.release("halfway")
    for follower in followers:
        follower.finish()
    row = person.row(message_id, web=1)
    for follower in followers:
        follower.check(row)
    assert (row["status"], row["content"], row["attempt"]) == ("success", WHOLE, 1)


def test_kill_9_of_a_web_process_its_readers_go_on_at_the_other_without_a_gap(fragile: Stack, person: Person) -> None:
    """They come back with `after`, and get neither the first half again nor less than the second."""
    fragile.model.say("process dies", *HALVES)
    message_id = person.submit(person.project(), "a web process dies")
    with person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        fragile.kill("web-1")
        _go_on(fragile, person, message_id, audience.followers)
        cut_off = [follower for follower in audience.followers if len(follower.close_codes) > 1]
        assert len(cut_off) == 2
        for follower in audience.followers:
            assert not any(isinstance(event, Snapshot) for event in follower.events)
            deltas = [event.content for event in follower.events if isinstance(event, Delta)]
            assert "".join(deltas) == WHOLE


def test_sigterm_of_a_web_process_sends_its_readers_away_with_1012(fragile: Stack, person: Person) -> None:
    """They are told to come back; a request that came before is still answered, and the process ends well."""
    fragile.model.say("process restarts", *HALVES)
    message_id = person.submit(person.project(), "a web process restarts")
    with (
        SocketReader(fragile.urls[0], person.token).follow(message_id) as socket,
        SseReader(fragile.urls[0], person.token).follow(message_id) as sse,
        person.audience(message_id) as audience,
    ):
        audience.wait_text("The first half, ")
        fragile.kill("web-1", signal.SIGTERM)
        socket.until_ended()
        sse.until_ended()
        assert (socket.close_code, socket.close_reason) == (1012, "the server restarts")
        assert fragile.wait_ended("web-1") == 0
        _go_on(fragile, person, message_id, audience.followers)
        assert 1012 in audience.followers[0].close_codes
        for reader in (socket, sse):
            check_trace(reader.events)


def test_postgres_killed_in_the_middle_and_started_again_the_message_completes(
    fragile: Stack, person: Person, postgres_server: EmbeddedPostgres
) -> None:
    """Deltas flow on without it as long as the lease holds; the end is committed when it is back."""
    fragile.model.say("postgres dies", *HALVES)
    message_id = person.submit(person.project(), "postgres dies in between")
    with person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        postgres_server.kill()
        fragile.model.release("halfway")
        fragile.model.wait_ended(0)
        refused = person.client.get("/v1/projects")
        assert (refused.status_code, refused.json()["code"]) == (503, "outcome_unknown")
        assert person.client.get("/healthz").status_code == 200
        postgres_server.restart()
        audience.finish()
        row = person.row(message_id)
        audience.check(row)
    assert (row["status"], row["content"]) == ("success", WHOLE)


def test_requests_after_a_restart_of_postgres_find_no_dead_connection(
    fragile: Stack, person: Person, postgres_server: EmbeddedPostgres
) -> None:
    """The first one of each web process is served: connections that ended while they were idle are not used."""
    project_id = person.project()
    with ThreadPoolExecutor(8) as pool:
        for web in (0, 1):  # several connections in each pool
            assert all(pool.map(partial(person.document, web=web), [project_id] * 16))
    postgres_server.kill()
    postgres_server.restart()
    for web in (0, 1, 0, 1):
        assert person.document(project_id, web=web)["id"] == project_id


def test_postgres_restarted_between_two_halves_costs_nobody_a_try(
    fragile: Stack, person: Person, postgres_server: EmbeddedPostgres
) -> None:
    """A restart shorter than a lease: the same worker goes on, or hands over as to a newer attempt."""
    fragile.model.say("postgres restarts", *HALVES)
    message_id = person.submit(person.project(), "postgres restarts in between")
    with person.audience(message_id) as audience:
        audience.wait_text("The first half, ")
        postgres_server.kill()
        postgres_server.restart()
        fragile.model.release("halfway")
        audience.finish()
        row = person.row(message_id)
        audience.check(row)
    assert (row["status"], row["content"]) == ("success", WHOLE)
    (counted,) = fragile.sql("SELECT tries FROM messages WHERE id = :id", id=message_id)
    assert counted.tries == 0
