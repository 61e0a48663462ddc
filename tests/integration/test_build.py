"""A component job on real parts: from words to a stored bundle, and every way in which it can end otherwise."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any, Final
from uuid import UUID

import pytest

from shared import keys
from shared.closing import close
from shared.errors import NotBuilt, NotFound
from shared.events import Snapshot, ToolResult
from shared.lifecycle import ErrorCode, JobStatus, MessageKind
from shared.records import Job
from tests.integration.worker_parts import PATIENCE_S, Bench, eventually
from worker.build import MOST_REPAIRS, run_build
from worker.compiler import Compiler
from worker.held import Workshop
from worker.turn import run_turn

ASKED: Final = "go"
DESCRIPTION: Final = "a red bouncing ball"
GOOD: Final = """\
import { AbsoluteFill, useCurrentFrame } from "remotion";

export default function Ball() {
  return <AbsoluteFill>{useCurrentFrame()}</AbsoluteFill>;
}
"""
BROKEN: Final = GOOD.replace("</AbsoluteFill>", "</AbsoluteFull>")
FORBIDDEN: Final = 'import fs from "fs";\n' + GOOD


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler.installed()


def component_call(description: str = DESCRIPTION, **fields: object) -> dict[str, Any]:
    return {"name": "generateRemotionComponent", "arguments": {"effectDescription": description, **fields}}


def fenced(source: str) -> dict[str, Any]:
    return {"text": f"```tsx\n{source}```\n"}


def writes(bench: Bench, *answers: list[dict[str, Any]] | dict[str, Any]) -> None:
    """What the model answers to the first request for the source, the second and so on; the last one serves all later."""
    attempts = [{"steps": one} if isinstance(one, list) else one for one in answers]
    first, later = attempts[:1], attempts[1:] or attempts
    bench.model.on("Write the component", {"rounds": [{"attempts": first}]})
    bench.model.on("cannot be built", {"rounds": [{"attempts": later}]}, times=None)


def handed_over(bench: Bench, workshop: Workshop, *calls: dict[str, Any], text: str = "I build it.") -> UUID:
    """A message whose turn is over and whose component is to be built."""
    steps: list[dict[str, Any]] = [{"text": text}] if text else []
    made = list(calls) or [component_call(name="Ball")]
    bench.model.on(ASKED, {"rounds": [{"steps": [*steps, {"tools": made}]}]})
    message_id = bench.ask(ASKED)
    run_turn(workshop, message_id)
    assert bench.row(message_id).status == "building"
    return message_id


def job_of(bench: Bench, message_id: UUID) -> Job:
    job_id = bench.row(message_id).job_id
    assert job_id is not None
    return bench.store.job(bench.anna, job_id)


class Building:
    """A build on a thread of its own."""

    def __init__(self, workshop: Workshop, compiler: Compiler, message_id: UUID) -> None:
        self._thread = threading.Thread(target=run_build, args=(workshop, compiler, message_id), name="build")
        self._thread.start()

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the build does not end"


# --- from words to a bundle -------------------------------------------------------------------------------------


def test_a_turn_that_calls_for_a_component_ends_as_building_and_rings_for_a_builder(bench: Bench) -> None:
    """The result names the job; the model is not called again; the job is there once and the project hears of it at once."""
    watching = bench.listen_to_project()
    message_id = handed_over(bench, bench.workshop())
    row, log = bench.row(message_id), bench.events(message_id)
    assert (row.content, row.kind) == ("I build it.", MessageKind.TOOL_RESULT)
    job = job_of(bench, message_id)
    assert (job.status, job.name, job.effect_description, job.tries) == (JobStatus.PENDING, "Ball", DESCRIPTION, 0)
    (result,) = (event for event in log if isinstance(event, ToolResult))
    assert (result.success, result.job_id) == (True, str(job.id))
    assert [call.job_id for call in row.tool_calls] == [str(job.id)]
    assert len(bench.model.requests()) == 1
    assert bench.log.bells_waiting(keys.BUILDS_QUEUE) == 1
    notice = json.loads(watching.until(lambda payload: b'"type":"job"' in payload))
    assert notice == {
        "type": "job",
        "jobId": str(job.id),
        "messageId": str(message_id),
        "name": "Ball",
        "status": "pending",
        "phase": None,
        "try": 0,
    }
    assert not any(b'"type":"finalized"' in payload for payload in watching.heard), "told with the hand-over only"


def test_from_words_to_a_stored_bundle(bench: Bench, compiler: Compiler) -> None:
    """The scripted model's own component: written, checked, bundled, hashed; every phase is told; the trace is legal."""
    workshop = bench.workshop()
    message_id = bench.ask("Build a red bouncing ball component called Ball")
    run_turn(workshop, message_id)
    watching = bench.listen_to_project()
    run_build(workshop, compiler, message_id)
    row, kinds = bench.check(message_id)
    assert (row.status, row.attempt) == ("success", 2)
    assert kinds[-4:] == ["snapshot", "status", "complete", "finalized"]
    (snapshot,) = (event for event in bench.events(message_id) if isinstance(event, Snapshot))
    assert (snapshot.status, snapshot.reason, snapshot.content) == ("building", "attempt", row.content)
    job = job_of(bench, message_id)
    assert (job.status, job.phase, job.tries, job.error) == (JobStatus.SUCCESS, None, 1, None)
    source, source_sha256 = bench.store.job_source(bench.anna, job.id)
    bundle, bundle_sha256 = bench.store.job_bundle(bench.anna, job.id)
    assert "export default function Ball" in source
    assert 'from "remotion"' in bundle
    assert source_sha256 == hashlib.sha256(source.encode()).hexdigest()
    assert bundle_sha256 == hashlib.sha256(bundle.encode()).hexdigest()
    watching.until(lambda payload: b'"type":"job"' in payload and b'"status":"success"' in payload)
    notices = [told for told in map(json.loads, watching.heard) if told["type"] == "job"]
    assert [(told["status"], told["phase"], told["try"]) for told in notices] == [
        ("building", "writing", 1),
        ("building", "checking", 1),
        ("building", "bundling", 1),
        ("success", None, 1),
    ]
    request = bench.model.requests()[-1]
    assert "chatrelay-builder" in request["messages"][0]["content"].splitlines()
    assert row.usage is not None
    assert bench.column(message_id, "total_tokens") == row.usage.total_tokens


def test_the_model_can_place_what_was_built(bench: Bench, compiler: Compiler) -> None:
    """The next message's prompt names the component by its job's id."""
    workshop = bench.workshop()
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    run_build(workshop, compiler, message_id)
    bench.model.say("place it", {"text": "Placed."})
    run_turn(workshop, bench.ask("place it"))
    prompt = bench.model.requests()[-1]["messages"][0]["content"]
    assert str(job_of(bench, message_id).id) in prompt.split("<components>")[1]


def test_a_turn_without_text_ends_with_words_about_the_component(bench: Bench, compiler: Compiler) -> None:
    workshop = bench.workshop()
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop, text="")
    run_build(workshop, compiler, message_id)
    assert bench.check(message_id)[0].content == "Built the component Ball."


def test_what_is_wrong_is_told_to_the_model_with_its_place_and_the_repaired_source_is_built(
    bench: Bench, compiler: Compiler
) -> None:
    workshop = bench.workshop()
    writes(bench, [fenced(BROKEN)], [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    run_build(workshop, compiler, message_id)
    assert bench.check(message_id)[0].status == "success"
    job = job_of(bench, message_id)
    assert (job.status, job.tries) == (JobStatus.SUCCESS, 2)
    assert bench.store.job_source(bench.anna, job.id)[0] == GOOD
    messages = bench.model.requests()[-1]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "- 4:" in messages[-1]["content"]
    assert "AbsoluteFill" in messages[-1]["content"]


@pytest.mark.parametrize("source", [BROKEN, FORBIDDEN], ids=["mismatched tag", "forbidden import"])
def test_what_stays_wrong_ends_as_build_failed_and_the_text_is_kept(
    bench: Bench, compiler: Compiler, source: str
) -> None:
    """After three repairs; the job says what was wrong at last; nothing is stored."""
    workshop = bench.workshop()
    writes(bench, [fenced(source)])
    message_id = handed_over(bench, workshop)
    run_build(workshop, compiler, message_id)
    row, kinds = bench.check(message_id)
    assert (row.status, row.content) == ("error", "I build it.")
    assert row.error is not None
    assert row.error.code is ErrorCode.BUILD_FAILED
    assert kinds[-4:] == ["snapshot", "status", "error", "finalized"]
    job = job_of(bench, message_id)
    assert (job.status, job.tries) == (JobStatus.ERROR, MOST_REPAIRS + 1)
    assert job.error is not None
    assert ("'fs'" if source == FORBIDDEN else "AbsoluteFill") in job.error
    with pytest.raises(NotBuilt):
        bench.store.job_bundle(bench.anna, job.id)


def test_a_second_component_in_a_turn_is_refused(bench: Bench) -> None:
    """One job, one bell; the second call failed, and the turn still ends as building."""
    message_id = handed_over(bench, bench.workshop(), component_call(name="One"), component_call(name="Two"))
    row = bench.row(message_id)
    assert [(call.state, call.job_id is not None) for call in row.tool_calls] == [
        ("succeeded", True),
        ("failed", False),
    ]
    assert job_of(bench, message_id).name == "One"
    assert bench.sql("SELECT count(*) FROM component_jobs") == 1


def test_the_job_is_made_once_whoever_comes_again(bench: Bench, compiler: Compiler) -> None:
    """A worker that was lost after the call: the next attempt hands over the same job, without asking the model."""
    workshop = bench.workshop()
    message_id = handed_over(bench, workshop)
    job = job_of(bench, message_id)
    # as if the worker had been lost between the call and the end
    bench.sql("UPDATE messages SET status = 'pending', kind = 'status', job_id = NULL WHERE id = :id", id=message_id)
    run_turn(workshop, message_id)
    assert job_of(bench, message_id).id == job.id
    assert bench.sql("SELECT count(*) FROM component_jobs") == 1
    assert len(bench.model.requests()) == 1
    writes(bench, [fenced(GOOD)])
    run_build(workshop, compiler, message_id)
    assert bench.check(message_id)[0].status == "success"


def test_a_doubled_bell_builds_once(bench: Bench, compiler: Compiler) -> None:
    workshop = bench.workshop()
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    builds = [Building(workshop, compiler, message_id) for _ in range(3)]
    for build in builds:
        build.join()
    run_build(workshop, compiler, message_id)
    bench.check(message_id)
    assert len(bench.model.requests()) == 2


# --- other ends -------------------------------------------------------------------------------------------------


def test_cancelled_before_a_builder_took_it(bench: Bench, compiler: Compiler) -> None:
    workshop = bench.workshop()
    message_id = handed_over(bench, workshop)
    bench.cancel(message_id)
    row, kinds = bench.check(message_id)
    assert (row.status, row.content) == ("cancelled", "I build it.")
    assert kinds[-2:] == ["snapshot", "finalized"]
    assert job_of(bench, message_id).status is JobStatus.CANCELLED
    run_build(workshop, compiler, message_id)
    assert len(bench.model.requests()) == 1


def test_cancelled_while_the_model_writes_the_connection_to_it_is_closed(bench: Bench, compiler: Compiler) -> None:
    workshop = bench.workshop()
    bench.model.say("Write the component", {"text": "```tsx\nimport"}, {"stall": True})
    message_id = handed_over(bench, workshop)
    building = Building(workshop, compiler, message_id)
    bench.model.wait_requests(2)
    bench.cancel(message_id)
    building.join()
    row, kinds = bench.check(message_id)
    assert (row.status, row.content) == ("cancelled", "I build it.")
    assert kinds[-3:] == ["snapshot", "status", "finalized"]
    assert job_of(bench, message_id).status is JobStatus.CANCELLED


def test_the_model_fails_while_writing_and_is_asked_again(bench: Bench, compiler: Compiler) -> None:
    workshop = bench.workshop()
    half: list[dict[str, Any]] = [{"text": "```tsx\nimp"}, {"cut": "rst"}]
    bench.model.on(
        "Write the component",
        {"rounds": [{"attempts": [{"status": 500}, {"steps": half}, {"steps": [fenced(GOOD)]}]}]},
    )
    message_id = handed_over(bench, workshop)
    run_build(workshop, compiler, message_id)
    assert bench.check(message_id)[0].status == "success"
    assert job_of(bench, message_id).tries == 1


def test_a_model_that_keeps_failing_ends_the_message_with_its_code(bench: Bench, compiler: Compiler) -> None:
    workshop = bench.workshop()
    bench.model.on("Write the component", {"rounds": [{"attempts": [{"status": 503}]}]})
    message_id = handed_over(bench, workshop)
    run_build(workshop, compiler, message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert row.error.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert job_of(bench, message_id).status is JobStatus.ERROR
    assert len(bench.model.requests()) == 1 + 3


def test_a_build_that_takes_too_long_ends(bench: Bench, compiler: Compiler) -> None:
    message_id = handed_over(bench, bench.workshop())
    bench.model.say("Write the component", {"stall": True})
    run_build(bench.workshop(run_deadline_s=0.5), compiler, message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert row.error.code is ErrorCode.DEADLINE


def test_a_lost_builder_is_followed_by_another_and_after_the_last_try_the_message_ends(
    bench: Bench, compiler: Compiler
) -> None:
    """The lease lapses, the sweeper counts and rings; the third loss is the last."""
    workshop = bench.workshop()
    message_id = handed_over(bench, workshop)
    for tries in range(1, 4):
        claim = bench.store.claim_build(message_id, "lost", lease_s=60, max_tries=3)
        assert claim is not None
        bench.lose_lease(message_id)
        assert bench.column(message_id, "tries") == tries
        rung = bench.store.ring_builders_for(limit=10, again_s=60)
        assert rung == [message_id]
        assert bench.store.ring_for(limit=10, again_s=0) == []
    run_build(workshop, compiler, message_id)
    assert bench.row(message_id).status == "building"
    (found,) = bench.store.to_close(limit=10, max_tries=3)
    assert close(bench.store, bench.log, found) is not None
    row = bench.row(message_id)
    assert row.error is not None
    assert row.error.code is ErrorCode.WORKER_LOST
    assert job_of(bench, message_id).status is JobStatus.ERROR


def test_the_next_builder_begins_anew_after_one_was_lost(bench: Bench, compiler: Compiler) -> None:
    workshop = bench.workshop()
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    assert bench.store.claim_build(message_id, "lost", lease_s=60, max_tries=3) is not None
    bench.lose_lease(message_id)
    run_build(workshop, compiler, message_id)
    row, _ = bench.check(message_id)
    assert (row.status, row.attempt) == ("success", 3)


def test_a_builder_that_is_to_stop_hands_back_at_no_cost_of_a_try(bench: Bench, compiler: Compiler) -> None:
    workshop, other = bench.workshop(), bench.workshop()
    bench.model.on(
        "Write the component",
        {"rounds": [{"attempts": [{"steps": [{"stall": True}]}, {"steps": [fenced(GOOD)]}]}]},
    )
    message_id = handed_over(bench, workshop)
    building = Building(workshop, compiler, message_id)
    bench.model.wait_requests(2)
    before = bench.log.bells_waiting(keys.BUILDS_QUEUE)
    workshop.leases.drain()
    building.join()
    assert bench.column(message_id, "tries") == 0
    assert bench.log.bells_waiting(keys.BUILDS_QUEUE) == before + 1
    run_build(other, compiler, message_id)
    assert bench.check(message_id)[0].status == "success"


def test_the_log_is_lost_while_it_is_built(bench: Bench, compiler: Compiler) -> None:
    """The end is appended in an attempt of its own behind a snapshot, or told by the row."""
    workshop = bench.workshop()
    bench.model.say("Write the component", {"hold": "written"}, fenced(GOOD))
    message_id = handed_over(bench, workshop)
    building = Building(workshop, compiler, message_id)
    bench.model.wait_requests(2)
    eventually(lambda: any(isinstance(event, Snapshot) for event in bench.events(message_id)))
    bench.client.delete(keys.log(message_id))
    bench.model.release("written")
    building.join()
    assert bench.row(message_id).status == "success"
    assert bench.column(message_id, "ending_appended")


@pytest.mark.parametrize("end", ["error", "cancelled"])
def test_a_retry_of_a_failed_build_is_the_job_again(bench: Bench, compiler: Compiler, end: str) -> None:
    """The same job, with all its tries; the turn is not asked for again."""
    workshop = bench.workshop()
    writes(bench, [fenced(BROKEN)])
    message_id = handed_over(bench, workshop)
    if end == "error":
        run_build(workshop, compiler, message_id)
    else:
        bench.cancel(message_id)
    job = job_of(bench, message_id)
    assert bench.row(message_id).status == end
    bench.retry(message_id)
    assert bench.row(message_id).status == "building"
    assert bench.row(message_id).content == "I build it."
    again = job_of(bench, message_id)
    assert (again.id, again.status, again.tries, again.error) == (job.id, JobStatus.PENDING, 0, None)
    writes(bench, [fenced(GOOD)])
    run_build(workshop, compiler, message_id)
    assert bench.check(message_id)[0].status == "success"
    assert job_of(bench, message_id).status is JobStatus.SUCCESS


def test_a_retry_of_a_built_component_is_a_new_run_with_a_job_of_its_own(bench: Bench, compiler: Compiler) -> None:
    workshop = bench.workshop()
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    run_build(workshop, compiler, message_id)
    first = job_of(bench, message_id)
    bench.retry(message_id)
    assert bench.row(message_id).status == "pending"
    run_turn(workshop, message_id)
    run_build(workshop, compiler, message_id)
    assert bench.check(message_id)[0].status == "success"
    second = job_of(bench, message_id)
    assert second.id != first.id
    assert bench.store.job(bench.anna, first.id).status is JobStatus.SUCCESS
    jobs, cursor = bench.store.jobs(bench.anna, bench.project_id, limit=10)
    assert ([job.id for job in jobs], cursor) == ([second.id, first.id], None)


def test_a_job_is_nobody_elses(bench: Bench) -> None:
    message_id = handed_over(bench, bench.workshop())
    token, _ = bench.store.create_token("eve")
    known = bench.store.authenticate(token)
    assert known is not None
    with pytest.raises(NotFound):
        bench.store.job(known[0], job_of(bench, message_id).id)
    with pytest.raises(NotFound):
        bench.store.jobs(known[0], bench.project_id, limit=10)
