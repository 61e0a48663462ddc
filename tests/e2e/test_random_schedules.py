"""Random schedules: what several people do to two projects, all at once, never breaks what holds for every message.

``CHATRELAY_TEST_SEED=7`` repeats what a person does; how the processes answer one another is theirs. A trigger in the stack's
own database writes down who was held when, so that no moment is missed.
"""

from __future__ import annotations

import os
import random
import secrets
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import text

from shared import events, keys
from shared.engine import make_engine
from tests import rights
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.people import Person, eventually
from tests.stack import Stack, StackStarter
from tests.trace_checker import check_trace

ACTORS: Final = 4
ACTS: Final = 40
"""Of each actor."""
SOURCE: Final = 'import React from "react";\nexport default function Ball() {\n  return <div>ball</div>;\n}\n'
WATCH: Final = """
CREATE TABLE held (
    n bigserial PRIMARY KEY, project_id uuid, message_id uuid, begins boolean, at timestamptz DEFAULT clock_timestamp(),
    overtook integer
);
CREATE FUNCTION note_held() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO held (project_id, message_id, begins, overtook)
    SELECT NEW.project_id, NEW.id, NEW.lease_owner IS NOT NULL, count(*) FROM messages
    WHERE NEW.lease_owner IS NOT NULL AND project_id = NEW.project_id AND status = 'pending'
      AND queue_number < NEW.queue_number;
    RETURN NULL;
END $$;
CREATE TRIGGER note_held AFTER UPDATE ON messages FOR EACH ROW
WHEN (OLD.status = 'pending' AND NEW.waits AND (OLD.lease_owner IS NULL) <> (NEW.lease_owner IS NULL))
EXECUTE FUNCTION note_held();
"""
"""Turns that wait for others: when each was taken and let go, and how many that stood before it were pending then."""


@pytest.fixture
def stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(webs=2, workers=2, builders=1, settings={"CHATRELAY_MAX_UNFINISHED_PER_USER": 200})


def scripts(stack: Stack) -> None:
    patch = {"operations": [{"op": "add", "path": "/list/-", "value": 1}], "explanation": "One more."}
    call = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "a ball", "name": "Ball"}}
    refused = {"status": 400, "error": {"message": "No.", "type": "invalid_request_error"}}
    words = {"text": "some words that take a while to say ", "pace": 0.02}
    stack.model.say("say", words)
    stack.model.on("edit", {"rounds": [{"steps": [words, {"tool": {"name": "applyJsonPatch", "arguments": patch}}]}]})
    stack.model.on("fail", {"rounds": [{"attempts": [refused, {"steps": [words]}]}]})
    stack.model.on("broken", {"rounds": [{"attempts": [{"steps": [words, {"cut": "rst"}]}, {"steps": [words]}]}]})
    stack.model.say("build", {"text": "I build it."}, {"tool": call})
    stack.model.on(
        "Write the component", {"rounds": [{"attempts": [refused, {"steps": [{"text": f"```tsx\n{SOURCE}```\n"}]}]}]}
    )


class Actor:
    """Somebody who submits, retries and cancels at random; what was answered is checked at once."""

    def __init__(self, person: Person, projects: list[str], seed: str) -> None:
        self._person = person
        self._projects = projects
        self._random = random.Random(seed)
        self._name = seed
        self._mine: list[str] = []
        self.did: dict[str, int] = defaultdict(int)

    def act(self) -> None:
        for number in range(ACTS):
            act = self._random.choices(["submit", "retry", "cancel"], [6, 2, 1])[0]
            if act == "submit" or not self._mine:
                self._submit(number)
            else:
                client = self._random.choice(self._person.clients)
                self._note(act, client.post(f"/v1/messages/{self._random.choice(self._mine)}/{act}"), {202, 409})
            if self._random.random() < 0.2 and self._mine:
                eventually(partial(self._is_under_way, self._random.choice(self._mine)))

    def _is_under_way(self, message_id: str) -> bool:
        return bool(self._person.row(message_id)["queueNumber"] is None)

    def _submit(self, number: int) -> None:
        kind = self._random.choices(["say", "edit", "fail", "broken", "build"], [5, 4, 2, 2, 1])[0]
        on_busy = self._random.choices(["queue", "parallel", "reject", "interrupt"], [6, 3, 2, 2])[0]
        project_id, web = self._random.choice(self._projects), self._random.randrange(2)
        for _ in range(self._random.choice([1, 1, 2])):
            answer = self._person.clients[web].post(
                f"/v1/projects/{project_id}/messages",
                json={"content": f"{kind} {self._name} {number}", "onBusy": on_busy},
                headers={"Idempotency-Key": f"{self._name}-{number}"},
            )
            self._note(f"submit {on_busy}", answer, {202} | ({409} if on_busy == "reject" else set()))
        if answer.status_code == 202:
            message_id = answer.json()["assistantMessage"]["id"]
            if message_id not in self._mine:
                self._mine.append(message_id)

    def _note(self, act: str, answer: httpx.Response, allowed: set[int]) -> None:
        assert answer.status_code in allowed, f"{act}: {answer.text}"
        self.did[f"{act} {answer.status_code}"] += 1


def test_whatever_is_done_at_once_each_message_ends_in_its_turn_and_is_told_as_it_is(stack: Stack) -> None:
    """One turn at a time in each project but for parallel ones, by their numbers; every trace legal; every job over."""
    seed = os.environ.get("CHATRELAY_TEST_SEED") or secrets.token_hex(4)
    print("CHATRELAY_TEST_SEED =", seed)
    engine = make_engine(rights.as_owner(stack.database_url), pool_size=1, application="test")
    with engine.begin() as connection:
        connection.execute(text(WATCH))
    engine.dispose()
    scripts(stack)
    with Person(stack) as anna, Person(stack) as boris, ThreadPoolExecutor(ACTORS) as pool:
        projects = [anna.project(document={"list": []}) for _ in range(2)]
        for project_id in projects:
            path = f"/v1/projects/{project_id}/members/{boris.name}"
            assert anna.client.put(path, json={"role": "editor"}).status_code == 200
        actors = [Actor((anna, boris)[number % 2], projects, f"{seed}-{number}") for number in range(ACTORS)]
        for acting in [pool.submit(actor.act) for actor in actors]:
            acting.result()
        print("did:", [dict(actor.did) for actor in actors])
        eventually(
            lambda: (
                not stack.sql("SELECT 1 FROM messages WHERE status IN ('pending', 'building') OR NOT ending_appended")
            )
        )
        for project_id in projects:
            _check_turns(stack, project_id)
            _check_messages(stack, anna, project_id)
            _check_document(stack, project_id)
    _check_contexts(stack)


def _check_turns(stack: Stack, project_id: str) -> None:
    notes = stack.sql("SELECT * FROM held WHERE project_id = :id ORDER BY at, n", id=project_id)
    assert notes
    holds = None
    for note in notes:
        if note.begins:
            assert holds is None, f"{note.message_id} began while {holds} ran"
            assert note.overtook == 0, f"{note.message_id} went before {note.overtook} others"
            holds = note.message_id
        else:
            assert holds == note.message_id
            holds = None
    assert holds is None


def _check_messages(stack: Stack, person: Person, project_id: str) -> None:
    ids = stack.sql("SELECT id FROM messages WHERE project_id = :id AND role = 'assistant'", id=project_id)
    for (message_id,) in ids:
        row: dict[str, Any] = person.row(str(message_id))
        entries: Any = stack.redis.xrange(keys.log(message_id))
        check_trace([events.decode(fields[keys.LOG_FIELD.encode()]) for _, fields in entries], row=row)
        assert row["queueNumber"] is None
    jobs = stack.sql(
        "SELECT m.status AS message, j.status AS job FROM component_jobs j JOIN messages m ON m.job_id = j.id"
        " WHERE m.project_id = :id",
        id=project_id,
    )
    assert all(row.job == row.message for row in jobs)


def _check_document(stack: Stack, project_id: str) -> None:
    """Each edit that a ledger has is one version, and one item."""
    (row,) = stack.sql(
        "SELECT json_array_length(document -> 'list') AS items, version,"
        " (SELECT count(*) FROM tool_ledger l JOIN messages m ON m.id = l.message_id"
        "  WHERE m.project_id = p.id AND l.version IS NOT NULL) AS edits FROM projects p WHERE id = :id",
        id=project_id,
    )
    assert row.items == row.edits == row.version - 1


def _check_contexts(stack: Stack) -> None:
    """Every context has what stands before its message, in order, and nothing else."""
    order = {
        row.content: place
        for place, row in enumerate(
            stack.sql("SELECT content FROM messages WHERE role = 'user' ORDER BY project_id, id")
        )
    }
    for request in stack.model.requests():
        said = [message["content"] for message in request["messages"] if message["role"] == "user"]
        if said[0].startswith("Write the component"):
            continue
        places = [order[content] for content in said]
        assert places == sorted(set(places))
