"""Several messages at once: each runs in one worker, those of a project in order; what a cancel, a retry and a wait do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import pytest

from shared.events import Error
from tests.people import Person, eventually
from tests.readers import SocketReader
from tests.stack import Stack


def test_thirty_messages_run_in_exactly_one_worker_each(shared_stack: Stack, person: Person) -> None:
    """Two workers, thirty projects: attempt 1 throughout, and the model is asked once for each message."""
    shared_stack.model.say("parallel", {"text": "One. "}, {"hold": "all run"}, {"text": "Two."})
    with Person(shared_stack) as other, ExitStack() as leaving:
        asked = {}
        for number in range(30):
            asker = (person, other)[number % 2]
            message_id = asker.submit(asker.project(), f"parallel {number}", web=number % 2)
            asked[message_id] = (asker, number)
        audiences = {
            message_id: leaving.enter_context(asker.audience(message_id))
            for message_id, (asker, number) in asked.items()
            if number < 6
        }
        shared_stack.model.wait_requests(30, timeout_s=60)
        held = {message_id: shared_stack.holder(message_id) for message_id in asked}
        print("messages per worker:", {name: list(held.values()).count(name) for name in set(held.values())})
        assert None not in held.values()
        shared_stack.model.release("all run")
        for message_id, audience in audiences.items():
            audience.finish()
            audience.check(asked[message_id][0].row(message_id))
        for message_id, (asker, _) in asked.items():
            row = eventually(partial(_final_row, asker, message_id))
            assert (row["status"], row["content"], row["attempt"]) == ("success", "One. Two.", 1)
    questions = [request["messages"][-1]["content"] for request in shared_stack.model.requests()]
    assert sorted(questions) == sorted(f"parallel {number}" for number in range(30))


def _final_row(person: Person, message_id: str) -> dict[str, Any] | None:
    row = person.row(message_id)
    return row if row["status"] in ("success", "error", "cancelled") else None


def test_messages_of_one_project_are_answered_in_order_and_see_what_came_before(
    shared_stack: Stack, person: Person
) -> None:
    """Three submits at once: the model's context of each has the answers to those before it."""
    shared_stack.model.say("first question", {"hold": "in line"}, {"text": "First answer."})
    shared_stack.model.say("second question", {"text": "Second answer."})
    shared_stack.model.say("third question", {"text": "Third answer."})
    project_id = person.project()
    questions = ["The first question", "The second question", "The third question"]
    ids = [person.submit(project_id, question, web=number % 2) for number, question in enumerate(questions)]
    with ExitStack() as leaving:
        audiences = [leaving.enter_context(person.audience(message_id)) for message_id in ids]
        shared_stack.model.wait_held("in line")
        assert [person.row(message_id)["attempt"] for message_id in ids] == [1, 0, 0]
        shared_stack.model.release("in line")
        for audience, message_id in zip(audiences, ids, strict=True):
            audience.finish()
            audience.check(person.row(message_id))
    requests = shared_stack.model.requests()
    said = [[m["content"] for m in request["messages"] if m["role"] != "system"] for request in requests]
    assert said == [
        [questions[0]],
        [questions[0], "First answer.", questions[1]],
        [questions[0], "First answer.", questions[1], "Second answer.", questions[2]],
    ]


def test_while_a_message_is_pending_the_next_one_may_run_beside_it_or_be_refused(
    shared_stack: Stack, person: Person
) -> None:
    """`parallel` is answered at once; `reject` is a 409 that changes nothing."""
    shared_stack.model.say("slow one", {"text": "Slow. "}, {"hold": "slow"}, {"text": "Done."})
    shared_stack.model.say("quick one", {"text": "Quick."})
    project_id = person.project()
    slow = person.submit(project_id, "a slow one")
    with person.audience(slow) as audience:
        audience.wait_text("Slow. ")
        refused = person.client.post(
            f"/v1/projects/{project_id}/messages", json={"content": "a refused one", "onBusy": "reject"}
        )
        assert (refused.status_code, refused.json()["code"]) == (409, "busy")
        quick = person.submit(project_id, "a quick one", onBusy="parallel")
        with person.audience(quick) as beside:
            beside.finish()
            assert beside.check(person.row(quick))
        assert person.row(slow)["status"] == "pending"
        shared_stack.model.release("slow")
        audience.finish()
        audience.check(person.row(slow))
    items = person.client.get(f"/v1/projects/{project_id}/messages").json()["items"]
    assert len(items) == 4
    accepted = person.submit(project_id, "another quick one", onBusy="reject")
    with person.audience(accepted) as audience:
        audience.finish()
        audience.check(person.row(accepted))


def test_an_interruption_keeps_the_text_of_what_ran_and_goes_before_what_waits(
    shared_stack: Stack, person: Person
) -> None:
    """The running message is cancelled with its text, its stream to the provider closed; the newcomer goes first."""
    shared_stack.model.say("talking", {"text": "Blah. "}, {"hold": "never released"})
    shared_stack.model.say("waiting", {"text": "At last."})
    shared_stack.model.say("interrupting", {"text": "I go first."})
    project_id = person.project()
    running = person.submit(project_id, "keep talking")
    with person.audience(running) as audience:
        audience.wait_text("Blah. ")
        waiting = person.submit(project_id, "waiting")
        newcomer = person.submit(project_id, "interrupting", onBusy="interrupt")
        shared_stack.model.wait_disconnected(0)
        audience.finish()
        row = person.row(running)
        audience.check(row)
    assert (row["status"], row["content"]) == ("cancelled", "Blah. ")
    for message_id in (newcomer, waiting):
        with person.audience(message_id) as audience:
            audience.finish()
            audience.check(person.row(message_id))
    questions = [request["messages"][-1]["content"] for request in shared_stack.model.requests()]
    assert questions == ["keep talking", "interrupting", "waiting"]


@pytest.mark.parametrize("over_the_socket", [False, True], ids=["by POST", "over the socket"])
def test_a_cancel_in_the_middle_of_the_text_closes_the_providers_stream_and_keeps_the_text(
    shared_stack: Stack, person: Person, over_the_socket: bool
) -> None:
    """Its end is an event; a second cancel is a 409."""
    shared_stack.model.say("cancel me", {"text": "Kept text. "}, {"hold": "never released"}, {"text": "Never."})
    message_id = person.submit(person.project(), "cancel me")
    with person.audience(message_id) as audience:
        audience.wait_text("Kept text. ")
        if over_the_socket:
            with SocketReader(shared_stack.urls[1], person.token).follow(message_id) as reader:
                reader.send('{"type":"cancel"}')
                reader.until_finalized()
        else:
            assert person.clients[1].post(f"/v1/messages/{message_id}/cancel").status_code == 202
        shared_stack.model.wait_disconnected(0)
        audience.finish()
        row = person.row(message_id)
        audience.check(row)
    assert (row["status"], row["content"], row["error"], row["attempt"]) == ("cancelled", "Kept text. ", None, 1)
    again = person.client.post(f"/v1/messages/{message_id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "already_final")


def test_a_message_that_waits_in_the_queue_is_cancelled_before_any_worker_takes_it(
    shared_stack: Stack, person: Person
) -> None:
    """The model never hears of it; the one behind it moves up."""
    shared_stack.model.say("in front", {"hold": "front"}, {"text": "In front."})
    shared_stack.model.say("behind", {"text": "Behind."})
    project_id = person.project()
    front = person.submit(project_id, "in front")
    shared_stack.model.wait_held("front")
    unwanted = person.submit(project_id, "unwanted")
    behind = person.submit(project_id, "behind")
    with person.audience(unwanted) as audience:
        assert person.client.post(f"/v1/messages/{unwanted}/cancel").status_code == 202
        audience.finish()
        row = person.row(unwanted)
        audience.check(row)
    assert (row["status"], row["content"], row["toolCalls"]) == ("cancelled", "", [])
    shared_stack.model.release("front")
    for message_id in (front, behind):
        with person.audience(message_id) as audience:
            audience.finish()
            audience.check(person.row(message_id))
    questions = [request["messages"][-1]["content"] for request in shared_stack.model.requests()]
    assert questions == ["in front", "behind"]


def test_a_retry_of_an_error_goes_on_from_the_last_stored_round(shared_stack: Stack, person: Person) -> None:
    """The tool of the first round is not run again; readers of the error get a new attempt."""
    patch = {"operations": [{"op": "add", "path": "/n", "value": 1}], "explanation": "n is 1."}
    shared_stack.model.on(
        "fails once",
        {
            "rounds": [
                {"steps": [{"text": "A patch first."}, {"tool": {"name": "applyJsonPatch", "arguments": patch}}]},
                {
                    "attempts": [
                        {"status": 400, "error": {"message": "No.", "type": "invalid_request_error"}},
                        {"steps": [{"text": "Now it works."}]},
                    ]
                },
            ]
        },
    )
    project_id = person.project()
    message_id = person.submit(project_id, "this fails once")
    with person.audience(message_id) as audience:
        audience.finish()
        failed = person.row(message_id)
        received = audience.check(failed)
    assert (failed["status"], failed["kind"], failed["error"]["code"]) == ("error", "error", "provider_rejected")
    assert failed["content"] == "A patch first."
    (error,) = [event for event in received[0] if isinstance(event, Error)]
    assert error.code == "provider_rejected"

    assert person.client.post(f"/v1/messages/{message_id}/retry").status_code == 202
    with person.audience(message_id) as audience:
        audience.finish()
        row = person.row(message_id)
        audience.check(row)
    assert (row["status"], row["content"], row["error"]) == ("success", "A patch first.\n\nNow it works.", None)
    assert row["attempt"] == failed["attempt"] + 1
    assert [version["version"] for version in person.versions(project_id)] == [2]
    assert len(shared_stack.model.requests()) == 3


def test_a_retry_of_a_success_is_a_new_run_and_undoes_nothing(shared_stack: Stack, person: Person) -> None:
    """Its tool runs again, as a call of its own. A message that is not final can't be retried."""
    patch = {"operations": [{"op": "add", "path": "/list/-", "value": "x"}], "explanation": "One more."}
    shared_stack.model.on(
        "one more",
        {
            "rounds": [
                {"steps": [{"tool": {"name": "applyJsonPatch", "arguments": patch}}]},
                {
                    "attempts": [
                        {"steps": [{"text": "There."}]},
                        {"steps": [{"text": "And "}, {"hold": "again"}, {"text": "again."}]},
                    ]
                },
            ]
        },
    )
    project_id = person.project(document={"list": []})
    first = person.answer_to(project_id, "one more")
    assert person.client.post(f"/v1/messages/{first['id']}/retry").status_code == 202
    with person.audience(first["id"]) as audience:
        audience.wait_text("And ")
        refused = person.client.post(f"/v1/messages/{first['id']}/retry")
        assert (refused.status_code, refused.json()["code"]) == (409, "not_final")
        shared_stack.model.release("again")
        audience.finish()
        second = person.row(first["id"])
        audience.check(second)
    assert (first["content"], second["content"]) == ("There.", "And again.")
    assert person.document(project_id)["document"] == {"list": ["x", "x"]}
    ids = {call["toolCallId"] for row in (first, second) for call in row["toolCalls"]}
    assert len(ids) == 2


def test_a_client_that_prefers_to_wait_gets_the_final_message(shared_stack: Stack, person: Person) -> None:
    """200 once it is final; 202 where it takes longer than the client wants to wait."""
    shared_stack.model.say("quickly", {"text": "Quick."})
    shared_stack.model.say("slowly", {"text": "Slow. "}, {"hold": "waited"}, {"text": "Done."})
    address = f"/v1/projects/{person.project()}/messages"
    final = person.client.post(address, json={"content": "quickly"}, headers={"Prefer": "wait=25"})
    assert final.status_code == 200
    assert final.headers["Preference-Applied"] == "wait=25"
    message = final.json()["assistantMessage"]
    assert (message["status"], message["content"]) == ("success", "Quick.")
    with person.audience(message["id"]) as audience:
        audience.check(message)

    pending = person.client.post(address, json={"content": "slowly"}, headers={"Prefer": "wait=1"})
    assert (pending.status_code, pending.json()["assistantMessage"]["status"]) == (202, "pending")
    shared_stack.model.release("waited")
    message_id = pending.json()["assistantMessage"]["id"]
    with person.audience(message_id) as audience:
        audience.finish()
        audience.check(person.row(message_id))


def test_one_idempotency_key_through_two_web_processes_makes_one_pair_of_messages(
    shared_stack: Stack, person: Person
) -> None:
    """Sent at the same moment, ten times, and again later; with another body it is refused."""
    shared_stack.model.say("only once", {"text": "Once."})
    project_id = person.project()
    address = f"/v1/projects/{project_id}/messages"
    together = threading.Barrier(10)

    def send(number: int) -> httpx.Response:
        together.wait()
        return person.clients[number % 2].post(
            address, json={"content": "only once"}, headers={"Idempotency-Key": "the-key"}
        )

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(send, range(10)))
    assert {answer.status_code for answer in answers} == {202}
    ids = {(answer.json()["userMessage"]["id"], answer.json()["assistantMessage"]["id"]) for answer in answers}
    assert len(ids) == 1
    ((_, message_id),) = ids
    with person.audience(message_id) as audience:
        audience.finish()
        row = person.row(message_id)
        audience.check(row)
    again = person.client.post(address, json={"content": "only once"}, headers={"Idempotency-Key": "the-key"})
    assert again.json()["assistantMessage"] == row
    other = person.client.post(address, json={"content": "something else"}, headers={"Idempotency-Key": "the-key"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(person.client.get(address).json()["items"]) == 2
    assert len(shared_stack.model.requests()) == 1
