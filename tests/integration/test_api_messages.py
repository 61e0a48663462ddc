"""Messages over HTTP: what a submit makes, how it is repeated, listed, cancelled and retried."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from werkzeug.test import TestResponse

from shared import keys
from shared.event_log import EventLog
from tests.integration.api_parts import Api, Person, answered, listening, refused


def messages(person: Person, project_id: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answered(person.get(f"/v1/projects/{project_id}/messages{query}"), 200)["items"]
    return found


def bells(client: redis.Redis) -> int:
    return int(client.llen(keys.INTERACTIVE_QUEUE))


# --- submit -----------------------------------------------------------------------------------------------------


def test_a_submit_answers_both_messages_and_where_to_follow_the_answer(api: Api, redis_client: redis.Redis) -> None:
    """202 with the user's message, the pending assistant message and two paths; the bell was rung once."""
    anna = api.person()
    project = anna.project()
    pair = anna.pair(project["id"], "Hello")
    assistant = pair["assistantMessage"]
    assert set(pair) == {"userMessage", "assistantMessage", "socketUrl", "eventsUrl"}
    assert pair["userMessage"]["content"] == "Hello"
    assert (assistant["role"], assistant["kind"], assistant["status"]) == ("assistant", "status", "pending")
    assert assistant["replyTo"] == pair["userMessage"]["id"]
    assert assistant["model"] == api.settings.models[0]
    assert pair["socketUrl"] == f"/v1/messages/{assistant['id']}/socket"
    assert pair["eventsUrl"] == f"/v1/messages/{assistant['id']}/events"
    assert answered(anna.get(f"/v1/messages/{assistant['id']}"), 200) == assistant
    assert bells(redis_client) == 1


def test_watchers_of_the_project_are_told_of_both_messages(api: Api, redis_client: redis.Redis) -> None:
    """After the commit, on the project's channel, as a GET shows them."""
    anna = api.person()
    project = anna.project()
    with listening(redis_client, keys.project_channel(project["id"])) as next_told:
        pair = anna.pair(project["id"])
        told = [next_told(), next_told()]
    assert told == [
        {"type": "message", "message": pair["userMessage"]},
        {"type": "message", "message": pair["assistantMessage"]},
    ]


def test_every_character_of_a_content_is_kept(api: Api) -> None:
    anna = api.person()
    content = "Grüße 😀 \u2028 ‮ \t\r\n \\u0000 </script> " + "é" * 100
    pair = anna.pair(anna.project()["id"], content)
    assert pair["userMessage"]["content"] == content


def test_the_same_key_and_body_answer_the_same_messages_again(api: Api, redis_client: redis.Redis) -> None:
    """However the body is written down, and whatever has become of the message meanwhile."""
    anna = api.person()
    project = anna.project()
    path, key = f"/v1/projects/{project['id']}/messages", {"Idempotency-Key": "key-1"}
    first = answered(anna.post(path, {"content": "é", "onBusy": "queue"}, headers=key), 202)
    again = answered(anna.post(path, raw=b'{ "content": "\\u00e9" }', headers=key), 202)
    assert again == first
    api.finish(first["assistantMessage"]["id"])
    final = answered(anna.post(path, {"content": "é"}, headers=key), 202)
    assert final["assistantMessage"]["id"] == first["assistantMessage"]["id"]
    assert final["assistantMessage"]["status"] == "success"
    assert len(messages(anna, project["id"])) == 2


def test_a_key_means_something_in_its_project_and_for_its_user_alone(api: Api) -> None:
    anna, boris = api.person(), api.person()
    key = {"Idempotency-Key": "the-same"}
    made = [
        person.pair(person.project()["id"], headers=key)["assistantMessage"]["id"] for person in (anna, anna, boris)
    ]
    assert len(set(made)) == 3


def test_the_same_key_with_another_body_is_refused(api: Api) -> None:
    anna = api.person()
    project = anna.project()
    key = {"Idempotency-Key": "key-1"}
    anna.pair(project["id"], "one", headers=key)
    for body in ({"content": "two"}, {"content": "one", "onBusy": "parallel"}):
        refused(anna.post(f"/v1/projects/{project['id']}/messages", body, headers=key), 422, "idempotency_key_reused")
    assert len(messages(anna, project["id"])) == 2


def test_a_key_sent_many_times_at_once_makes_one_pair(api: Api) -> None:
    """Eight requests in eight threads: one pair, eight equal answers."""
    anna = api.person()
    project = anna.project()
    barrier = threading.Barrier(8)

    def submit(_: int) -> str:
        barrier.wait()
        pair = anna.pair(project["id"], headers={"Idempotency-Key": "race"})
        return str(pair["assistantMessage"]["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(submit, range(8)))
    assert len(ids) == 1
    assert len(messages(anna, project["id"])) == 2


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "/content"),
        ({"content": ""}, "/content"),
        ({"content": "x" * 32_001}, "/content"),
        ({"content": 7}, "/content"),
        ({"content": "x", "model": "canary-model"}, "/model"),
        ({"content": "x", "onBusy": "canary"}, "/onBusy"),
        ({"content": "x", "canary": 1}, ""),
        (["canary"], ""),
        ("canary", ""),
        (None, ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_message_with_wrong_fields_is_refused_and_nothing_is_made(api: Api, body: Any, path: str) -> None:
    """422 with the field's place; not its value."""
    anna = api.person()
    project = anna.project()
    response = anna.post(f"/v1/projects/{project['id']}/messages", body)
    problem = refused(response, 422, "invalid_fields")
    assert [error["path"] for error in problem["errors"]] == [path]
    assert "canary" not in response.get_data(as_text=True)
    assert messages(anna, project["id"]) == []


def test_the_longest_content_counts_characters_and_not_bytes(api: Api) -> None:
    anna = api.person()
    pair = anna.pair(anna.project()["id"], "😀" * 32_000)
    assert len(pair["userMessage"]["content"]) == 32_000


@pytest.mark.parametrize("key", ["", "k" * 201, "two words"])
def test_a_bad_idempotency_key_is_refused_and_nothing_is_made(api: Api, key: str) -> None:
    anna = api.person()
    project = anna.project()
    path = f"/v1/projects/{project['id']}/messages"
    refused(anna.post(path, {"content": "x"}, headers={"Idempotency-Key": key}), 400, "invalid_header")
    assert messages(anna, project["id"]) == []


def test_a_busy_project_refuses_where_it_was_asked_to(api: Api) -> None:
    anna = api.person()
    project = anna.project()
    path = f"/v1/projects/{project['id']}/messages"
    anna.pair(project["id"])
    refused(anna.post(path, {"content": "x", "onBusy": "reject"}), 409, "busy")
    assert len(messages(anna, project["id"])) == 2


def test_too_many_unfinished_messages_are_refused_with_when_to_come_back(api: Api) -> None:
    """In all projects of the user together; a final one makes room."""
    anna = api.person(app=api.new_app(max_unfinished_per_user=2))
    first, second = anna.project(), anna.project()
    pair = anna.pair(first["id"])
    anna.pair(second["id"])
    response = anna.post(f"/v1/projects/{first['id']}/messages", {"content": "x"})
    refused(response, 429, "too_many_unfinished")
    assert int(response.headers["Retry-After"]) > 0
    api.finish(pair["assistantMessage"]["id"])
    anna.pair(first["id"])


def test_a_submit_while_redis_is_away_is_accepted(api: Api) -> None:
    """The row is the truth: 202, and the sweeper will ring."""
    anna = api.person(app=api.new_app(redis_url=SecretStr("redis://127.0.0.1:1/0")))
    project = anna.project()
    pair = anna.pair(project["id"])
    assert pair["assistantMessage"]["status"] == "pending"
    assert len(messages(anna, project["id"])) == 2
    assert api.store.ring_for(limit=10, again_s=0) == [uuid.UUID(pair["assistantMessage"]["id"])]


def test_a_cancel_while_redis_is_away_is_committed(api: Api) -> None:
    """With the row's text; the ending stays stored for the sweeper to append."""
    anna = api.person(app=api.new_app(redis_url=SecretStr("redis://127.0.0.1:1/0")))
    message_id = anna.pair(anna.project()["id"])["assistantMessage"]["id"]
    assert answered(anna.post(f"/v1/messages/{message_id}/cancel"), 202)["status"] == "cancelled"
    assert [str(ending.message_id) for ending in api.store.endings_to_append(limit=10, older_than_s=0)] == [message_id]


# --- Prefer: wait -----------------------------------------------------------------------------------------------


def test_a_submit_that_waits_answers_200_once_the_answer_is_final(api: Api, redis_client: redis.Redis) -> None:
    """The synchronous path of old clients: the same body, with the answer in it."""
    anna = api.person()
    project = anna.project()
    done: list[TestResponse] = []
    waiting = threading.Thread(
        target=lambda: done.append(
            anna.post(f"/v1/projects/{project['id']}/messages", {"content": "Hello"}, headers={"Prefer": "wait=60"})
        )
    )
    waiting.start()
    redis_client.brpop([keys.INTERACTIVE_QUEUE], timeout=1.5)  # the bell: it is committed
    (assistant,) = (message for message in messages(anna, project["id"]) if message["role"] == "assistant")
    api.finish(assistant["id"], "Hello yourself.")
    waiting.join(30)
    (response,) = done
    pair = answered(response, 200)
    assert response.headers["Preference-Applied"] == "wait=60"
    assert pair["assistantMessage"]["content"] == "Hello yourself."
    assert pair["assistantMessage"]["status"] == "success"


def test_a_wait_that_is_too_short_answers_202(api: Api) -> None:
    anna = api.person()
    response = anna.post(
        f"/v1/projects/{anna.project()['id']}/messages", {"content": "x"}, headers={"Prefer": "wait=0"}
    )
    answered(response, 202)
    assert "Preference-Applied" not in response.headers


def test_waiting_takes_at_most_half_of_the_request_threads(api: Api) -> None:
    """With one place, taken, the next is answered 202 at once."""
    app = api.new_app(api_threads=2)
    services = app.extensions["chatrelay"]
    anna = api.person(app=app)
    with services.waiting:
        anna.pair(anna.project()["id"], headers={"Prefer": "wait=120"})


# --- lists ------------------------------------------------------------------------------------------------------


def test_pages_of_messages_come_newest_first_and_end(api: Api) -> None:
    """Following `nextCursor` shows each message once, whatever the page's size."""
    anna = api.person()
    project = anna.project()
    made: list[str] = []
    for number in range(3):
        pair = anna.pair(project["id"], f"message {number}")
        made[:0] = [pair["assistantMessage"]["id"], pair["userMessage"]["id"]]
    for limit in (1, 4, 6, 200):
        seen, cursor = [], None
        while True:
            query = f"?limit={limit}" + (f"&before={cursor}" if cursor else "")
            page = answered(anna.get(f"/v1/projects/{project['id']}/messages{query}"), 200)
            assert len(page["items"]) <= limit
            seen += [message["id"] for message in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert seen == made


def test_messages_are_filtered_by_status_and_kind(api: Api) -> None:
    anna = api.person()
    project = anna.project()
    first = anna.pair(project["id"])["assistantMessage"]["id"]
    api.finish(first)
    second = anna.pair(project["id"])["assistantMessage"]["id"]
    assert [message["id"] for message in messages(anna, project["id"], "?status=pending")] == [second]
    assert [message["id"] for message in messages(anna, project["id"], "?kind=text")] == [first]
    assert messages(anna, project["id"], "?kind=text&status=error") == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=canary", "before=canary", "status=canary", "kind=canary", "limit=1&limit=2"],
)
def test_a_query_that_is_not_valid_is_refused_by_name(api: Api, query: str) -> None:
    anna = api.person()
    response = anna.get(f"/v1/projects/{anna.project()['id']}/messages?{query}")
    problem = refused(response, 400, "invalid_query")
    assert [error["path"] for error in problem["errors"]] == [f"/{query.partition('=')[0]}"]
    assert "canary" not in response.get_data(as_text=True)


# --- cancel and retry -------------------------------------------------------------------------------------------


def test_a_message_cancelled_before_pickup_is_final_at_once(api: Api, log: EventLog) -> None:
    """The API commits the end itself: row and log say so."""
    anna = api.person()
    message_id = anna.pair(anna.project()["id"])["assistantMessage"]["id"]
    cancelled = answered(anna.post(f"/v1/messages/{message_id}/cancel"), 202)
    assert (cancelled["id"], cancelled["status"]) == (message_id, "cancelled")
    assert [entry.kind for entry in log.replay(message_id)] == ["snapshot", "finalized"]
    refused(anna.post(f"/v1/messages/{message_id}/cancel"), 409, "already_final")


def test_operators_are_told_once_of_a_cancelled_message_and_then_of_its_end(
    api: Api, redis_client: redis.Redis
) -> None:
    anna = api.person()
    message_id = anna.pair(anna.project()["id"])["assistantMessage"]["id"]
    with listening(redis_client, keys.OPS) as next_told:
        answered(anna.post(f"/v1/messages/{message_id}/cancel"), 202)
        told: list[Any] = []
        while not told or told[-1]["type"] != "finalized":
            line = next_told()
            told += [line] if line["messageId"] == message_id else []  # else another test's
    assert [line["type"] for line in told] == ["cancelled", "finalized"]
    assert told[1]["status"] == "cancelled"


def test_cancelling_rings_for_the_next_in_line(api: Api, redis_client: redis.Redis) -> None:
    anna = api.person()
    project = anna.project()
    first, _second = (anna.pair(project["id"])["assistantMessage"]["id"] for _ in range(2))
    before = bells(redis_client)
    answered(anna.post(f"/v1/messages/{first}/cancel"), 202)
    assert bells(redis_client) == before + 1


def test_cancelling_a_message_that_a_worker_holds_nudges_the_worker(api: Api, redis_client: redis.Redis) -> None:
    """The row carries the wish; the nudge goes over the control channel."""
    anna = api.person()
    message_id = anna.pair(anna.project()["id"])["assistantMessage"]["id"]
    claim = api.store.claim(uuid.UUID(message_id), "worker", lease_s=60, max_tries=3)
    assert claim is not None
    with listening(redis_client, keys.CONTROL) as next_told:
        assert answered(anna.post(f"/v1/messages/{message_id}/cancel"), 202)["status"] == "pending"
        while next_told() != {"type": "cancel", "messageId": message_id}:
            pass  # another test's
    renewed = api.store.renew_leases(["worker"], lease_s=60)
    assert renewed["worker"].cancel_requested


def test_an_interrupting_message_cancels_what_runs(api: Api, redis_client: redis.Redis) -> None:
    anna = api.person()
    project = anna.project()
    running = anna.pair(project["id"])["assistantMessage"]["id"]
    api.store.claim(uuid.UUID(running), "worker", lease_s=60, max_tries=3)
    with listening(redis_client, keys.CONTROL) as next_told:
        answered(anna.post(f"/v1/projects/{project['id']}/messages", {"content": "x", "onBusy": "interrupt"}), 202)
        while next_told() != {"type": "cancel", "messageId": running}:
            pass  # another test's


def test_a_final_message_is_put_back_in_the_queue(api: Api, redis_client: redis.Redis) -> None:
    """202, pending again, and the bell rings; what is not final is refused."""
    anna = api.person()
    message_id = anna.pair(anna.project()["id"])["assistantMessage"]["id"]
    refused(anna.post(f"/v1/messages/{message_id}/retry"), 409, "not_final")
    answered(anna.post(f"/v1/messages/{message_id}/cancel"), 202)
    before = bells(redis_client)
    assert answered(anna.post(f"/v1/messages/{message_id}/retry"), 202)["status"] == "pending"
    assert bells(redis_client) == before + 1


def test_a_users_message_can_be_neither_cancelled_nor_retried(api: Api) -> None:
    anna = api.person()
    message_id = anna.pair(anna.project()["id"])["userMessage"]["id"]
    refused(anna.post(f"/v1/messages/{message_id}/cancel"), 409, "already_final")
    refused(anna.post(f"/v1/messages/{message_id}/retry"), 404, "not_found")
