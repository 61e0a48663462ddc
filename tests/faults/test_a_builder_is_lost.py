"""A builder that dies or is told to go while it builds: another one builds the component, and the message always ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pytest

from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.faults.conftest import SHORT_LEASES
from tests.faults.outcome import Witness, check_outcome
from tests.people import Person, eventually
from tests.readers import SocketReader
from tests.stack import Stack, StackStarter

HOLD: Final = "writing"
SOURCE: Final = 'import React from "react";\nexport default function Ball() {\n  return <div>ball</div>;\n}\n'


@pytest.fixture(scope="module")
def stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(builders=1, settings=SHORT_LEASES)


@pytest.fixture
def somebody(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Person]:
    stack.model.reset()
    failed_before = request.session.testsfailed
    with Witness(stack) as person:
        yield person
        if not stack.is_running("builder-1"):
            stack.restart("builder-1")
        if request.session.testsfailed == failed_before:
            check_outcome(stack, person)


def _answers(stack: Stack, *first: dict[str, Any]) -> None:
    """The model calls for a component; it answers the first request for its source by `first`, later ones with the source."""
    call = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "a ball", "name": "Ball"}}
    stack.model.on("ball, please", {"rounds": [{"steps": [{"text": "I build it."}, {"tool": call}]}]})
    whole = [{"text": f"```tsx\n{SOURCE}```\n"}]
    attempts = [{"steps": list(first)}] if first else []
    stack.model.on("Write the component", {"rounds": [{"attempts": [*attempts, {"steps": whole}]}]})


def _lease(stack: Stack, message_id: str) -> Any:
    return stack.sql("SELECT status, lease_owner, tries FROM messages WHERE id = :id", id=message_id)[0]


def _has_changed(stack: Stack, message_id: str, before: tuple[Any, ...]) -> bool:
    return tuple(_lease(stack, message_id)) != before


def _child(stack: Stack, message_id: str) -> int:
    """The process id of the builder's child that holds the message."""
    owner: str = eventually(
        lambda: lease.lease_owner if (lease := _lease(stack, message_id)).status == "building" else None
    )
    return int(owner.rsplit("-", 2)[1])


def _built(person: Person, message_id: str) -> dict[str, Any]:
    row = person.row(message_id)
    job: dict[str, Any] = person.client.get(f"/v1/jobs/{row['jobId']}").json()
    assert (row["status"], row["content"], job["status"]) == ("success", "I build it.", "success")
    assert person.client.get(f"/v1/jobs/{row['jobId']}/source").text == SOURCE
    return job


def _asked(person: Person) -> str:
    return person.submit(person.project(), "A ball, please: ball, please")


def test_a_component_is_built_and_everybody_sees_the_same(stack: Stack, somebody: Person) -> None:
    _answers(stack)
    message_id = _asked(somebody)
    with somebody.audience(message_id) as audience:
        audience.finish()
        audience.check(somebody.row(message_id))
    assert _built(somebody, message_id)["tries"] == 1


@pytest.mark.parametrize("whom", ["the whole builder", "its child", "its parent"])
def test_kill_9_while_the_model_writes_another_one_builds_it(stack: Stack, somebody: Person, whom: str) -> None:
    """The readers see a snapshot, and the end."""
    _answers(stack, {"text": "```tsx"}, {"hold": HOLD}, {"cut": "rst"})
    message_id = _asked(somebody)
    with somebody.audience(message_id) as audience:
        stack.model.wait_held(HOLD)
        child = _child(stack, message_id)
        match whom:
            case "the whole builder":
                stack.kill("builder-1")
                stack.restart("builder-1")
            case "its child":
                os.kill(child, signal.SIGKILL)
            case _:
                os.kill(stack.pid("builder-1"), signal.SIGKILL)
                stack.wait_ended("builder-1")
                stack.restart("builder-1")
        audience.finish()
        audience.check(somebody.row(message_id))
    _built(somebody, message_id)


@pytest.mark.parametrize("phase", ["checking", "bundling"])
@pytest.mark.parametrize("how", ["kill the whole builder", "kill its child", "kill its parent", "SIGTERM", "cancel"])
def test_whatever_happens_while_it_is_compiled_the_message_ends(
    stack: Stack, somebody: Person, phase: str, how: str
) -> None:
    """The child is stopped as soon as readers are told of the phase, so that what happens to it happens there."""
    _answers(stack, {"text": "```tsx\n"}, {"hold": HOLD}, {"text": f"{SOURCE}```\n"})
    project_id = somebody.project()
    message_id = somebody.submit(project_id, "A ball, please: ball, please")
    with (
        somebody.audience(message_id) as audience,
        SocketReader(stack.urls[0], somebody.token).follow_project(project_id) as watcher,
    ):
        stack.model.wait_held(HOLD)
        child = _child(stack, message_id)
        stack.model.release(HOLD)
        watcher.until_frame(lambda frame: frame["type"] == "job" and frame["phase"] == phase)
        os.kill(child, signal.SIGSTOP)
        try:
            assert stack.sql("SELECT phase FROM component_jobs WHERE message_id = :id", id=message_id)[0].phase == phase
            match how:
                case "kill the whole builder":
                    stack.kill("builder-1")
                case "kill its child":
                    os.kill(child, signal.SIGKILL)
                case "kill its parent":
                    os.kill(stack.pid("builder-1"), signal.SIGKILL)
                case "SIGTERM":
                    stack.kill("builder-1", signal.SIGTERM)
                case _:
                    assert somebody.client.post(f"/v1/messages/{message_id}/cancel").status_code == 202
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)
        if how not in ("kill its child", "cancel"):
            stack.wait_ended("builder-1")
            stack.restart("builder-1")
        audience.finish()
        row = somebody.row(message_id)
        audience.check(row)
    if how == "cancel":
        job = somebody.client.get(f"/v1/jobs/{row['jobId']}").json()
        assert (row["status"], job["status"]) == ("cancelled", "cancelled")
    else:
        _built(somebody, message_id)


def test_sigterm_hands_the_build_back_at_no_cost_of_a_try(stack: Stack, somebody: Person) -> None:
    _answers(stack, {"text": "```tsx"}, {"hold": HOLD}, {"cut": "rst"})
    message_id = _asked(somebody)
    with somebody.audience(message_id) as audience:
        stack.model.wait_held(HOLD)
        _child(stack, message_id)
        stack.kill("builder-1", signal.SIGTERM)
        stack.wait_ended("builder-1")
        lease = _lease(stack, message_id)
        assert (lease.status, lease.lease_owner, lease.tries) == ("building", None, 0)
        stack.restart("builder-1")
        audience.finish()
        audience.check(somebody.row(message_id))
    _built(somebody, message_id)


def test_without_any_builder_a_cancel_ends_the_message(stack: Stack, somebody: Person) -> None:
    _answers(stack)
    stack.kill("builder-1")
    message_id = _asked(somebody)
    eventually(lambda: _lease(stack, message_id).status == "building")
    assert somebody.client.post(f"/v1/messages/{message_id}/cancel").status_code == 202
    assert somebody.row(message_id)["status"] == "cancelled"


def test_builders_that_are_lost_again_and_again_end_the_message(stack: Stack, somebody: Person) -> None:
    """Each loss costs a try; after the last one the message ends as `worker_lost` with its text."""
    _answers(stack)
    call = {"rounds": [{"steps": [{"text": "```tsx"}, {"stall": True}]}]}
    stack.model.on("Write the component", call)
    message_id = _asked(somebody)
    with somebody.audience(message_id) as audience:
        killed: set[int] = set()
        while (lease := _lease(stack, message_id)).status in ("pending", "building"):
            if lease.status == "building" and lease.lease_owner is not None:
                child = int(lease.lease_owner.rsplit("-", 2)[1])
                if child not in killed:
                    os.kill(child, signal.SIGKILL)
                    killed.add(child)
            eventually(partial(_has_changed, stack, message_id, tuple(lease)))
        audience.finish()
        row = somebody.row(message_id)
        audience.check(row)
    assert len(killed) == 3
    assert (row["status"], row["error"]["code"], row["content"]) == ("error", "worker_lost", "I build it.")
