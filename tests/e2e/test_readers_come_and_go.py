"""Readers that join late, leave, come back elsewhere, or have had everything: each of them sees one whole story."""

from __future__ import annotations

import random
from typing import Final

import pytest

from shared.events import Delta
from tests.followers import Audience
from tests.people import Person
from tests.readers import Reader, SocketReader, SseReader
from tests.stack import Stack
from tests.trace_checker import check_trace

SEED: Final = random.SystemRandom().randrange(1_000_000)
WORDS: Final = [f"word{number} " for number in range(160)]


def _edit(value: int) -> dict[str, object]:
    operations = [{"op": "add", "path": "/n", "value": value}]
    return {
        "tool": {"name": "applyJsonPatch", "arguments": {"operations": operations, "explanation": f"n is {value}."}}
    }


def test_a_message_started_through_one_web_process_is_followed_through_the_other(
    shared_stack: Stack, person: Person
) -> None:
    """Both ways round, and over both transports."""
    for web, other in ((0, 1), (1, 0)):
        shared_stack.model.reset()
        shared_stack.model.say("through the other", {"text": "Begun. "}, {"hold": "gate"}, {"text": "Done."})
        message_id = person.submit(person.project(), "through the other", web=web)
        socket = SocketReader(shared_stack.urls[other], person.token)
        sse = SseReader(shared_stack.urls[other], person.token)
        with socket.follow(message_id), sse.follow(message_id):
            socket.until(lambda event: isinstance(event, Delta))
            sse.until(lambda event: isinstance(event, Delta))
            shared_stack.model.release("gate")
            row = None
            for reader in (socket, sse):
                reader.until_finalized()
                reader.until_ended()
                row = row or person.row(message_id, web=web)
                check_trace(reader.events, row=row)
            assert socket.close_code == 1000
            assert sse.ids == [event.id for event in sse.events]
            assert person.row(message_id, web=other) == row


def test_readers_that_come_and_go_at_random_all_fold_to_the_row(shared_stack: Stack, person: Person) -> None:
    """Joins and reconnects with `after` at random moments, in a message with text, tool calls and several rounds."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    pace = 0.004
    shared_stack.model.on(
        "come and go",
        {
            "rounds": [
                {"steps": [{"text": "".join(WORDS[:80]), "chunks": 80, "pace": pace}, _edit(1), _edit(2)]},
                {"steps": [{"text": "".join(WORDS[80:]), "chunks": 80, "pace": pace}, _edit(3)]},
                {"steps": [{"text": "The end.", "pace": pace}]},
            ]
        },
    )
    message_id = person.submit(person.project(), "readers come and go")
    audiences = [
        person.audience(message_id, leaves_after=lambda: chance.randint(1, 12) if chance.random() < 0.9 else 1000)
        for _ in range(3)
    ]
    entered: list[Audience] = []
    try:
        for number, audience in enumerate(audiences):
            if number:  # the later ones come when the first has seen so many words
                entered[0].wait_for(
                    lambda event: isinstance(event, Delta) and f"word{chance.randint(1, 70)} " in event.content
                )
            entered.append(audience.__enter__())
        for audience in entered:
            audience.finish()
        row = person.row(message_id)
        for audience in entered:
            audience.check(row)
    finally:
        for audience in entered:
            audience.__exit__()
    assert row["content"] == "\n\n".join(["".join(WORDS[:80]), "".join(WORDS[80:]), "The end."])
    assert [call["state"] for call in row["toolCalls"]] == ["succeeded"] * 3


def test_a_late_reader_gets_merged_deltas_and_from_any_event_on_the_rest(shared_stack: Stack, person: Person) -> None:
    """A replay after each event of the log continues it without a gap and ends where the row is."""
    shared_stack.model.on(
        "late",
        {
            "rounds": [
                {"steps": [{"text": "".join(WORDS[:20]), "chunks": 20, "pace": 0.025}, _edit(1)]},
                {"steps": [{"text": "And no more.", "pace": 0.025}]},
            ]
        },
    )
    row = person.answer_to(person.project(), "for late readers")
    log = shared_stack.log.replay(row["id"])
    deltas = [entry for entry in log if entry.kind == "delta"]
    assert len(deltas) > 10

    for reader in _readers(shared_stack, person):
        with reader.follow(row["id"]):
            reader.until_ended()
            check_trace(reader.events, row=row)
            merged = [event for event in reader.events if isinstance(event, Delta)]
            assert [event.from_ is not None for event in merged] == [True, True]
            assert "".join(event.content for event in merged) == row["content"]

    for number, entry in enumerate(log):
        reader = _readers(shared_stack, person)[number % 4]
        after = str(entry.id)
        with reader.follow(row["id"], after=after):
            reader.until_ended()
            check_trace(reader.events, row=row, joined_after=after)
            assert bool(reader.events) is (number < len(log) - 1)


def test_a_reader_that_has_had_the_end_is_told_so_at_once(shared_stack: Stack, person: Person) -> None:
    """204 for an EventSource, which then stops; a socket is closed with 1000."""
    shared_stack.model.say("all of it", {"text": "All of it."})
    row = person.answer_to(person.project(), "all of it")
    last = str(shared_stack.log.replay(row["id"])[-1].id)
    for client in person.clients:
        answer = client.get(f"/v1/messages/{row['id']}/events", headers={"Last-Event-ID": last})
        assert (answer.status_code, answer.content) == (204, b"")
        assert client.get(f"/v1/messages/{row['id']}/events?after={last}").status_code == 204
    for url in shared_stack.urls:
        with SocketReader(url, person.token).follow(row["id"], after=last) as reader:
            reader.until_ended()
            assert (reader.frames, reader.close_code) == ([], 1000)


def test_a_ticket_opens_one_socket_and_an_event_stream_again_and_again(shared_stack: Stack, person: Person) -> None:
    """What a browser does, which can set no header; a ticket is good for its own path, at any web process."""
    shared_stack.model.say("with a ticket", {"text": "Come in."})
    row = person.answer_to(person.project(), "with a ticket")
    base = f"/v1/messages/{row['id']}"

    def ticket(path: str) -> str:
        answer = person.client.post("/v1/tickets", json={"path": path})
        assert answer.status_code == 201, answer.text
        made: str = answer.json()["ticket"]
        return made

    used = ticket(f"{base}/socket")
    with SocketReader(shared_stack.urls[1], None, ticket=used).follow(row["id"]) as reader:
        reader.until_ended()
        check_trace(reader.events, row=row)
    with shared_stack.client_for(None, 1) as nobody:
        events = ticket(f"{base}/events")
        for url in (*shared_stack.urls, shared_stack.urls[0]):
            with SseReader(url, None, ticket=events).follow(row["id"]) as source:
                source.until_ended()
                check_trace(source.events, row=row)
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        for refused in (used, events, "no-such-ticket"):
            answer = nobody.get(f"{base}/socket?ticket={refused}", headers=upgrade)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert nobody.get(f"{base}/events?ticket={ticket(f'{base}/socket')}").status_code == 401
        assert nobody.get(f"{base}?ticket={events}").status_code == 401
    answer = person.client.post("/v1/tickets", json={"path": "/v1/projects"})
    assert answer.status_code == 404


def test_a_socket_answers_pings_and_ignores_what_it_does_not_know(shared_stack: Stack, person: Person) -> None:
    """An error frame has no id; the message's events go on."""
    shared_stack.model.say("pings", {"text": "One. "}, {"hold": "pinged"}, {"text": "Two."})
    message_id = person.submit(person.project(), "between pings")
    with SocketReader(shared_stack.urls[0], person.token).follow(message_id) as reader:
        reader.until(lambda event: isinstance(event, Delta))
        reader.send('{"type":"ping"}')
        assert reader.until_frame(lambda frame: frame["type"] == "pong") == {"type": "pong"}
        for nonsense in ("nonsense", '{"type":"dance"}', "[]", b"\x00\x01"):
            reader.send(nonsense)
            frame = reader.until_frame(lambda frame: frame["type"] == "error")
            assert set(frame) == {"type", "code", "detail"}
        shared_stack.model.release("pinged")
        reader.until_finalized()
        reader.until_ended()
        check_trace(reader.events, row=person.row(message_id))


@pytest.mark.parametrize("transport", [SocketReader, SseReader])
def test_a_retried_success_is_one_story_for_a_reader_of_its_first_run(
    shared_stack: Stack, person: Person, transport: type[SocketReader] | type[SseReader]
) -> None:
    """A reader that comes back with `after` of the first run's end gets the second run's snapshot and its events."""
    shared_stack.model.on(
        "twice", {"rounds": [{"attempts": [{"steps": [{"text": "First."}]}, {"steps": [{"text": "Second."}]}]}]}
    )
    message_id = person.submit(person.project(), "say it twice")
    with transport(shared_stack.urls[0], person.token).follow(message_id) as reader:
        reader.until_ended()
        first = person.row(message_id)
        check_trace(reader.events, row=first)
        assert person.client.post(f"/v1/messages/{message_id}/retry").status_code == 202
        reader.reconnect()
        reader.until_finalized()
        reader.until_ended()
        second = person.row(message_id)
        check_trace(reader.events, row=second)
    assert [(row["status"], row["content"], row["attempt"]) for row in (first, second)] == [
        ("success", "First.", 1),
        ("success", "Second.", 2),
    ]


def _readers(stack: Stack, person: Person) -> list[Reader]:
    kinds: tuple[type[SocketReader] | type[SseReader], ...] = (SocketReader, SseReader)
    return [kind(url, person.token) for url in stack.urls for kind in kinds]
