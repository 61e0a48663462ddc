"""`onBusy` in its four ways over two web processes, two workers and a builder; with retries, and builds going on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final

import httpx
import pytest

from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.people import Person, eventually
from tests.stack import Stack, StackStarter

SOURCE: Final = 'import React from "react";\nexport default function Ball() {\n  return <div>ball</div>;\n}\n'
COMPONENT: Final = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "a ball", "name": "Ball"}}


@pytest.fixture(scope="module")
def stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(webs=2, workers=2, builders=1)


@pytest.fixture
def person(stack: Stack) -> Iterator[Person]:
    stack.model.reset()
    with Person(stack) as somebody:
        yield somebody


def asked(stack: Stack) -> list[list[str]]:
    """What the model was shown with each request of a turn: questions and answers, without the system's prompt."""
    said = [
        [message["content"] for message in request["messages"] if message["role"] != "system"]
        for request in stack.model.requests()
    ]
    return [one for one in said if not one[0].startswith("Write the component")]


def finished(person: Person, *message_ids: str) -> list[dict[str, Any]]:
    """The final rows. Whoever followed one of them, to the end, saw what its row says."""
    rows = []
    for message_id in message_ids:
        with person.audience(message_id) as audience:
            audience.finish()
            rows.append(person.row(message_id))
            audience.check(rows[-1])
    return rows


def state(stack: Stack, project_id: str) -> list[Any]:
    """All that a refused submit could have changed; not the leases, which their workers renew meanwhile."""
    return [
        stack.sql(
            f"SELECT to_jsonb({table}) - 'lease_until' FROM {table} WHERE {column} = :id ORDER BY 1", id=project_id
        )
        for table, column in (("projects", "id"), ("messages", "project_id"), ("idempotency_keys", "project_id"))
    ]


def post(person: Person, project_id: str, content: str, *, web: int = 0, key: str | None = None, **fields: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    path = f"/v1/projects/{project_id}/messages"
    return person.clients[web].post(path, json={"content": content, **fields}, headers=headers)


# --- queue ------------------------------------------------------------------------------------------------------


def test_of_concurrent_submitters_each_answer_has_all_before_it_in_its_context(stack: Stack, person: Person) -> None:
    """Twelve at once, of two members over two web processes: their numbers' order is the order of everything."""
    count = 12
    for number in range(count):
        stack.model.say(f"question {number:02}", {"text": f"Answer {number:02}."})
    project_id, together = person.project(), threading.Barrier(count)
    with Person(stack) as other, ThreadPoolExecutor(count) as pool:
        path = f"/v1/projects/{project_id}/members/{other.name}"
        assert person.client.put(path, json={"role": "editor"}).status_code == 200

        def submit(number: int) -> str:
            together.wait()
            return (person, other)[number // 2 % 2].submit(project_id, f"question {number:02}", web=number % 2)

        ids = list(pool.map(submit, range(count)))
    rows = finished(person, *ids)
    assert {(row["status"], row["attempt"]) for row in rows} == {("success", 1)}
    in_line = [
        str(row.id)
        for row in stack.sql(
            "SELECT id FROM messages WHERE project_id = :id AND role = 'assistant' ORDER BY queue_number", id=project_id
        )
    ]
    assert sorted(in_line) == in_line, "ids and numbers were taken in one order"
    numbers = [ids.index(message_id) for message_id in in_line]
    answers = [text for number in numbers for text in (f"question {number:02}", f"Answer {number:02}.")]
    assert asked(stack) == [answers[: 2 * before + 1] for before in range(count)]


# --- parallel ---------------------------------------------------------------------------------------------------


def test_parallel_messages_stream_at_the_same_time_and_what_queues_waits_for_all_of_them(
    stack: Stack, person: Person
) -> None:
    """All three are in the middle of their texts at one moment; the next in line sees all three answers."""
    names = ["ahead", "beside-a", "beside-b"]
    for name in names:
        stack.model.say(name, {"text": f"{name} begins. "}, {"hold": name}, {"text": "Ends."})
    stack.model.say("behind", {"text": "Behind."})
    project_id = person.project()
    ids = [
        person.submit(project_id, name, web=number % 2, **({"onBusy": "parallel"} if number else {}))
        for number, name in enumerate(names)
    ]
    with ExitStack() as leaving:
        audiences = [leaving.enter_context(person.audience(message_id)) for message_id in ids]
        for name, audience in zip(names, audiences, strict=True):
            audience.wait_text(f"{name} begins. ")
        behind = person.submit(project_id, "behind")
        for name, audience in zip(reversed(names), reversed(audiences), strict=True):
            assert isinstance(person.row(behind)["queueNumber"], int)
            assert {person.row(message_id)["queueNumber"] for message_id in ids} == {None}
            assert len(asked(stack)) == 3
            stack.model.release(name)
            audience.finish()
        for message_id, audience in zip(ids, audiences, strict=True):
            audience.check(person.row(message_id))
    (row,) = finished(person, behind)
    assert row["content"] == "Behind."
    assert asked(stack)[-1] == [
        *(text for name in names for text in (name, f"{name} begins. Ends.")),
        "behind",
    ]


# --- reject -----------------------------------------------------------------------------------------------------


def test_a_rejected_message_leaves_nothing_behind(stack: Stack, person: Person) -> None:
    """Not a row, not a number, not its key, which is good for the next one."""
    stack.model.say("runs", {"text": "Runs. "}, {"hold": "runs"})
    project_id = person.project()
    running = person.submit(project_id, "runs")
    stack.model.wait_held("runs")
    before = state(stack, project_id)
    for web in (0, 1, 0):
        refused = post(person, project_id, "rejected", web=web, key="k", onBusy="reject")
        assert (refused.status_code, refused.json()["code"]) == (409, "busy")
    assert state(stack, project_id) == before
    stack.model.release("runs")
    finished(person, running)
    accepted = post(person, project_id, "rejected", key="k", onBusy="reject")
    assert accepted.status_code == 202
    finished(person, accepted.json()["assistantMessage"]["id"])


# --- interrupt --------------------------------------------------------------------------------------------------


def test_an_interruption_ends_all_that_runs_and_goes_before_three_that_wait(stack: Stack, person: Person) -> None:
    """The texts are kept; then the newcomer, then the three in their order, each with what stood before it."""
    for name in ("talks", "beside"):
        stack.model.say(name, {"text": f"{name}… "}, {"hold": "for ever"})
    for name in ("newcomer", "one", "two", "three"):
        stack.model.say(name, {"text": f"{name}!"})
    project_id = person.project()
    running = [person.submit(project_id, "talks"), person.submit(project_id, "beside", onBusy="parallel")]
    with ExitStack() as leaving:
        audiences = [leaving.enter_context(person.audience(message_id)) for message_id in running]
        for name, audience in zip(("talks", "beside"), audiences, strict=True):
            audience.wait_text(f"{name}… ")
        waiting = [
            person.submit(project_id, name, web=number % 2) for number, name in enumerate(("one", "two", "three"))
        ]
        newcomer = person.submit(project_id, "newcomer", web=1, onBusy="interrupt")
        for name, message_id, audience in zip(("talks", "beside"), running, audiences, strict=True):
            audience.finish()
            row = person.row(message_id)
            audience.check(row)
            assert (row["status"], row["content"], row["error"]) == ("cancelled", f"{name}… ", None)
    rows = finished(person, newcomer, *waiting)
    assert [row["content"] for row in rows] == ["newcomer!", "one!", "two!", "three!"]
    before = ["talks", "talks… ", "beside", "beside… "]
    pairs = [["one", "one!"], ["two", "two!"], ["three", "three!"]]
    assert asked(stack)[2:] == [
        [*before, "newcomer"],
        [*before, "one"],
        [*before, *pairs[0], "two"],
        [*before, *pairs[0], *pairs[1], "three"],
    ]


# --- repeats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_busy", ["queue", "parallel", "reject", "interrupt"])
def test_a_repeated_submit_answers_the_same_pair_and_changes_nothing(
    stack: Stack, person: Person, on_busy: str
) -> None:
    """Before its end and after it; a repeated interruption does not interrupt what it began itself."""
    stack.model.say("runs before", {"text": "Before. "}, {"hold": "before"})
    stack.model.say("the repeated", {"text": "Once. "}, {"hold": "repeated"}, {"text": "Only."})
    stack.model.say("waits behind", {"text": "Behind."})
    project_id = person.project()
    if on_busy != "reject":
        person.submit(project_id, "runs before")
        stack.model.wait_held("before")

    def send(web: int) -> httpx.Response:
        answer: httpx.Response = post(person, project_id, "the repeated", web=web, key="k", onBusy=on_busy)
        return answer

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, (0, 1, 0, 1)))
    assert {answer.status_code for answer in answers} == {202}
    ids = {answer.json()["assistantMessage"]["id"] for answer in answers}
    assert len(ids) == 1
    (message_id,) = ids
    behind = person.submit(project_id, "waits behind")
    if on_busy == "queue":
        stack.model.release("before")
    stack.model.wait_held("repeated")
    before = state(stack, project_id)
    assert send(1).json()["assistantMessage"]["id"] == message_id
    assert state(stack, project_id) == before
    stack.model.release("repeated")
    stack.model.release("before")
    rows = finished(person, message_id, behind)
    assert [row["content"] for row in rows] == ["Once. Only.", "Behind."]
    assert send(0).json()["assistantMessage"] == rows[0]
    assert [said[-1] for said in asked(stack)].count("the repeated") == 1


# --- builds and retries -----------------------------------------------------------------------------------------


def builds(stack: Stack, *first: dict[str, Any]) -> None:
    """The model calls for a component; the first request for its source is answered by `first`, later ones by the source."""
    stack.model.say("build it", {"text": "I build it."}, {"tool": COMPONENT})
    whole = {"steps": [{"text": f"```tsx\n{SOURCE}```\n"}]}
    stack.model.on("Write the component", {"rounds": [{"attempts": [*first, whole]}]})


def test_a_building_message_holds_nobody_up_and_nobody_ends_it(stack: Stack, person: Person) -> None:
    """While it builds, each of the four ways answers at once, an interruption leaves it alone, and all see its text."""
    builds(stack, {"steps": [{"text": "```tsx\n"}, {"hold": "writing"}, {"text": f"{SOURCE}```\n"}]})
    stack.model.say("meanwhile", {"text": "Meanwhile."})
    project_id = person.project()
    building = person.submit(project_id, "build it")
    with person.audience(building) as audience:
        stack.model.wait_held("writing")
        for on_busy in ("queue", "parallel", "reject", "interrupt"):
            (row,) = finished(person, person.submit(project_id, f"meanwhile {on_busy}", onBusy=on_busy))
            assert (row["status"], row["content"]) == ("success", "Meanwhile.")
            assert asked(stack)[-1][:2] == ["build it", "I build it."]
        assert person.row(building)["status"] == "building"
        stack.model.release("writing")
        audience.finish()
        row = person.row(building)
        audience.check(row)
    assert (row["status"], row["content"]) == ("success", "I build it.")


def test_a_retried_message_goes_to_the_end_and_is_shown_what_stands_before_it(stack: Stack, person: Person) -> None:
    """Behind two that wait; it is answered last, from the same context as the first time."""
    refused = {"status": 400, "error": {"message": "No.", "type": "invalid_request_error"}}
    stack.model.say("before", {"text": "Before."})
    stack.model.on("fails", {"rounds": [{"attempts": [refused, {"steps": [{"text": "Works."}]}]}]})
    stack.model.say("runs", {"text": "Runs. "}, {"hold": "runs"})
    stack.model.say("waits", {"text": "Waited."})
    project_id = person.project()
    _, failed = finished(person, person.submit(project_id, "before"), person.submit(project_id, "fails"))
    assert failed["error"]["code"] == "provider_rejected"
    running = person.submit(project_id, "runs")
    stack.model.wait_held("runs")
    waiting = person.submit(project_id, "waits")
    again = person.clients[1].post(f"/v1/messages/{failed['id']}/retry")
    assert again.status_code == 202
    assert again.json()["queueNumber"] > person.row(waiting)["queueNumber"]
    assert person.client.post(f"/v1/messages/{failed['id']}/retry").status_code == 409
    stack.model.release("runs")
    rows = finished(person, running, waiting, failed["id"])
    assert [row["content"] for row in rows] == ["Runs. ", "Waited.", "Works."]
    said = asked(stack)
    assert [one[-1] for one in said] == ["before", "fails", "runs", "waits", "fails"]
    assert said[-1] == said[1] == ["before", "Before.", "fails"]


def test_a_failed_build_is_retried_while_another_message_runs(stack: Stack, person: Person) -> None:
    """The build goes on beside it; the turn is not asked for again, and nobody waits for it."""
    refused = {"status": 400, "error": {"message": "No.", "type": "invalid_request_error"}}
    builds(stack, refused)
    stack.model.say("runs", {"text": "Runs. "}, {"hold": "runs"})
    stack.model.say("waits", {"text": "Waited."})
    project_id = person.project()
    (failed,) = finished(person, person.submit(project_id, "build it"))
    assert (failed["status"], failed["error"]["code"]) == ("error", "provider_rejected")
    running = person.submit(project_id, "runs")
    stack.model.wait_held("runs")
    waiting = person.submit(project_id, "waits")
    again = person.client.post(f"/v1/messages/{failed['id']}/retry").json()
    assert (again["status"], again["queueNumber"]) == ("building", None)
    (built,) = finished(person, failed["id"])
    assert (built["status"], built["content"], built["jobId"]) == ("success", "I build it.", failed["jobId"])
    assert person.row(running)["status"] == "pending"
    assert person.row(waiting)["attempt"] == 0
    stack.model.release("runs")
    finished(person, running, waiting)
    assert [one[-1] for one in asked(stack)] == ["build it", "runs", "waits"]
    eventually(lambda: person.client.get(f"/v1/jobs/{built['jobId']}").json()["status"] == "success")
