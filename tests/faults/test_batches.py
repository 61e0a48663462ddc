"""Batches on a running system: nobody waits for one, and a sweeper that is killed in the middle costs no item."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from shared import event_log, keys
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.people import Person, eventually
from tests.stack import Stack, StackStarter

PROGRAM: Final = Path(sys.executable).with_name("chatrelay")
MESSAGES: Final = 60
EDIT: Final = {
    "steps": [
        {
            "tool": {
                "name": "applyJsonPatch",
                "arguments": {"operations": [{"op": "add", "path": "/list/-", "value": 1}]},
            }
        }
    ]
}


@pytest.fixture(scope="module")
def _small_stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    """One worker, which can do two things at a time."""
    settings = {
        "CHATRELAY_WORKER_CONCURRENCY": 2,
        "CHATRELAY_MAX_UNFINISHED_PER_USER": 100,
        "CHATRELAY_SWEEP_S": 0.2,
        "CHATRELAY_RING_AGAIN_S": 1,
        "CHATRELAY_BATCH_WINDOW": 20,
    }
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(settings=settings)


@pytest.fixture
def small(_small_stack: Stack) -> Stack:
    _small_stack.model.reset()
    return _small_stack


@pytest.fixture
def person(small: Stack) -> Iterator[Person]:
    with Person(small, scopes=frozenset({"ops"})) as somebody:
        yield somebody


def ended(person: Person, message_id: str) -> dict[str, Any]:
    return eventually(lambda: row if (row := person.row(message_id))["status"] not in ("pending", "building") else None)


def failed(person: Person, project_ids: list[str], content: str) -> list[str]:
    """Messages that failed, one in each project."""
    ids = [person.submit(project_id, content) for project_id in project_ids]
    assert {ended(person, message_id)["status"] for message_id in ids} == {"error"}
    return ids


def batch(person: Person, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = person.client.get(f"/v1/ops/batches/{batch_id}").json()
    return found


def over(person: Person, batch_id: str) -> dict[str, Any]:
    return eventually(lambda: found if (found := batch(person, batch_id))["endedAt"] else None)


def test_a_persons_message_is_answered_while_every_slot_for_batches_is_taken(small: Stack, person: Person) -> None:
    """In the project of an item that runs, before any further item, and though all of them were rung for."""
    small.model.say("Fail", {"refusal": "No."})
    project_ids = [person.project() for _ in range(6)]
    ids = failed(person, project_ids, "Fail")
    small.model.reset()
    small.model.say("Fail", {"text": "At last"}, {"hold": "item"}, {"text": "."})
    small.model.say("Hello", {"text": "Hello."})
    started = person.client.post("/v1/ops/reprocess", json={"status": "error", "model": None}).json()
    assert started["matched"] == len(ids)
    small.model.wait_held("item")
    eventually(lambda: batch(person, started["batchId"])["counts"]["sent"] == len(ids))
    running = next(id_ for id_ in ids if person.row(id_)["attempt"] == 2)
    there = person.row(running)["projectId"]
    for on_busy in ("queue", "reject", "interrupt"):
        row = ended(person, person.submit(there, "Hello", onBusy=on_busy))
        assert (row["status"], row["attempt"]) == ("success", 1)
    asked = [request["messages"][-1]["content"] for request in small.model.requests()]
    assert asked == ["Fail", "Hello", "Hello", "Hello"], "no further item was begun"
    small.model.release("item")
    report = over(person, started["batchId"])
    assert (report["status"], report["counts"]["succeeded"]) == ("done", len(ids))
    assert {person.row(id_)["content"] for id_ in ids} == {"At last."}


def test_a_batch_comes_to_its_end_with_every_item_once_though_its_sweeper_is_killed(
    small: Stack, person: Person
) -> None:
    """Watched by the command line, told to operators; committed effects are not repeated, and failures told by code."""
    small.model.on("Edit", {"rounds": [EDIT, {"steps": [{"refusal": "No."}]}]})
    project_ids = [person.project(document={"list": []}) for _ in range(MESSAGES)]
    ids = [person.submit(project_id, f"Edit {number % 3}") for number, project_id in enumerate(project_ids)]
    assert {ended(person, id_)["error"]["code"] for id_ in ids} == {"refusal"}
    small.model.reset()
    small.model.on("Edit", {"rounds": [EDIT, {"steps": [{"text": "Done."}]}]})
    small.model.on("Edit 0", {"rounds": [EDIT, {"steps": [{"text": "Half"}, {"finish": "length"}]}]})
    told = event_log.connect(small.redis_url).pubsub()  # type: ignore[no-untyped-call]  # redis-py's
    told.subscribe(keys.OPS)
    command = [str(PROGRAM), "reprocess", "--status", "error", "--code", "refusal", "--rate", "40/s", "--json"]
    environment = {**os.environ, "DATABASE_URL": small.database_url}
    watching = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: sum(person.row(id_)["attempt"] > 1 for id_ in ids[:10]) > 3)
    small.kill("sweeper")
    small.restart("sweeper")
    output, errors = watching.communicate(timeout=120)
    assert watching.returncode == 3, errors
    report = json.loads(output)
    assert report["counts"] == {"waiting": 0, "sent": 0, "succeeded": 40, "failed": 20, "skipped": 0}
    assert {(end["state"], end["firstCode"], end["code"], end["count"]) for end in report["ends"]} == {
        ("succeeded", "refusal", None, 40),
        ("failed", "refusal", "length", 20),
    }
    rows = [person.row(id_) for id_ in ids]
    assert Counter(row["status"] for row in rows) == {"success": 40, "error": 20}
    assert {row["attempt"] for row in rows} == {2}, "none was begun twice"
    assert all(person.document(project_id)["document"] == {"list": [1]} for project_id in project_ids)
    lines = []
    while (message := told.get_message(timeout=1)) is not None:
        if message["type"] == "message" and json.loads(message["data"])["type"] == "reprocess":
            lines.append(json.loads(message["data"]))
    told.close()
    assert {line["batchId"] for line in lines} == {report["id"]}
    assert (lines[0]["status"], lines[0]["waiting"]) == ("running", MESSAGES)
    assert (lines[-1]["status"], lines[-1]["succeeded"], lines[-1]["failed"]) == ("done", 40, 20)
    assert sum(line["status"] == "done" for line in lines) == 1
