"""A build that is interrupted in any of its phases, or whose model fails in any way, ends as it should: message and job."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import text

from shared.errors import AlreadyFinal
from shared.events import is_terminal
from shared.lifecycle import ErrorCode, JobStatus
from tests.integration.test_build import GOOD, Building, fenced, handed_over, job_of, writes
from tests.integration.worker_parts import PATIENCE_S, Bench, eventually
from worker.build import run_build
from worker.compiler import Compiler

_GATE: Final = """\
#!/bin/sh
if [ ! -e {directory}/open ]; then
  : > {directory}/reached
  read _ < {directory}/gate
fi
exec {program} "$@"
"""
PHASES: Final = ("checking", "bundling")


class GatedCompiler:
    """The installed programs; the phase's one waits before it starts, until `open`."""

    def __init__(self, directory: Path, phase: str) -> None:
        self._directory = directory
        scripts = Path(sys.executable).parent
        programs = {"checking": scripts / "oxlint", "bundling": scripts / "deno"}
        gated = directory / "gated"
        gated.write_text(_GATE.format(directory=directory, program=programs[phase]))
        gated.chmod(0o700)
        os.mkfifo(directory / "gate")
        programs[phase] = gated
        self.compiler = Compiler(oxlint=programs["checking"], deno=programs["bundling"])

    def wait_reached(self) -> None:
        eventually((self._directory / "reached").exists)

    def open(self) -> None:
        (self._directory / "open").touch()
        (self._directory / "gate").write_text("go\n")


def _ends(bench: Bench, message_id: Any) -> int:
    return sum(is_terminal(event) for event in bench.events(message_id))


@pytest.mark.parametrize("phase", PHASES)
def test_a_cancel_while_it_is_compiled_ends_it(bench: Bench, tmp_path: Path, phase: str) -> None:
    workshop, gated = bench.workshop(), GatedCompiler(tmp_path, phase)
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    building = Building(workshop, gated.compiler, message_id)
    gated.wait_reached()
    assert job_of(bench, message_id).phase == phase
    bench.cancel(message_id)
    gated.open()
    building.join()
    row, _ = bench.check(message_id)
    assert (row.status, row.content, _ends(bench, message_id)) == ("cancelled", "I build it.", 1)
    job = job_of(bench, message_id)
    assert (job.status, job.phase) == (JobStatus.CANCELLED, None)


@pytest.mark.parametrize("first", ["the cancel", "the end"])
def test_a_cancel_and_an_end_that_meet_leave_one_end_and_a_job_that_fits(
    bench: Bench, tmp_path: Path, first: str
) -> None:
    """Both wait for the row at once. A wish that comes before the end, and is not seen any more, changes nothing either."""
    workshop, gated = bench.workshop(), GatedCompiler(tmp_path, "bundling")
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    building = Building(workshop, gated.compiler, message_id)
    gated.wait_reached()
    answers: list[object] = []

    def cancel() -> None:
        try:
            answers.append(bench.store.request_cancel(bench.anna, message_id).held)
        except AlreadyFinal as refused:
            answers.append(type(refused))

    cancelling = threading.Thread(target=cancel, name="cancel")
    begin = [cancelling.start, gated.open]
    with bench.engine.begin() as holding:
        holding.execute(text("SELECT id FROM messages WHERE id = :id FOR UPDATE"), {"id": message_id})
        for number, act in enumerate(begin if first == "the cancel" else reversed(begin), start=1):
            act()
            eventually(partial(_are_waiting, bench, number))
    cancelling.join(PATIENCE_S)
    building.join()
    row, _ = bench.check(message_id)
    assert answers == ([True] if first == "the cancel" else [AlreadyFinal])
    assert (row.status, job_of(bench, message_id).status, _ends(bench, message_id)) == ("success", JobStatus.SUCCESS, 1)
    assert bench.store.closing_of(message_id) is None


def _are_waiting(bench: Bench, number: int) -> bool:
    """Whether as many sessions of this database wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with bench.engine.connect() as connection:
        return bool(connection.execute(text(waiting)).scalar_one() == number)


@pytest.mark.parametrize("phase", PHASES)
def test_a_builder_that_is_to_stop_while_it_compiles_hands_back(bench: Bench, tmp_path: Path, phase: str) -> None:
    workshop, other, gated = bench.workshop(), bench.workshop(), GatedCompiler(tmp_path, phase)
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    building = Building(workshop, gated.compiler, message_id)
    gated.wait_reached()
    workshop.leases.drain()
    gated.open()
    building.join()
    assert (bench.row(message_id).status, bench.column(message_id, "tries")) == ("building", 0)
    bench.model.on("Write the component", {"rounds": [{"attempts": [{"steps": [fenced(GOOD)]}]}]})
    run_build(other, gated.compiler, message_id)
    row, _ = bench.check(message_id)
    assert (row.status, _ends(bench, message_id)) == ("success", 1)
    assert job_of(bench, message_id).status is JobStatus.SUCCESS


@pytest.mark.parametrize("phase", PHASES)
def test_a_lease_that_went_while_it_is_compiled_leaves_the_end_to_the_next(
    bench: Bench, tmp_path: Path, phase: str
) -> None:
    """The lost builder comes back after the other one's end, and changes nothing."""
    workshop, other, gated = bench.workshop(), bench.workshop(), GatedCompiler(tmp_path, phase)
    writes(bench, [fenced(GOOD)])
    message_id = handed_over(bench, workshop)
    building = Building(workshop, gated.compiler, message_id)
    gated.wait_reached()
    bench.lose_lease(message_id)
    bench.model.on("Write the component", {"rounds": [{"attempts": [{"steps": [fenced(GOOD)]}]}]})
    run_build(other, Compiler.installed(), message_id)
    ended = bench.row(message_id)
    gated.open()
    building.join()
    row, _ = bench.check(message_id)
    assert (row, row.status, _ends(bench, message_id)) == (ended, "success", 1)
    assert job_of(bench, message_id).status is JobStatus.SUCCESS


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"status": 401}, ErrorCode.PROVIDER_AUTH),
        ({"status": 400}, ErrorCode.PROVIDER_REJECTED),
        ({"status": 400, "error": {"code": "context_length_exceeded"}}, ErrorCode.CONTEXT_TOO_LONG),
        ({"status": 429, "error": {"code": "insufficient_quota"}}, ErrorCode.PROVIDER_QUOTA),
        ({"status": 429}, ErrorCode.PROVIDER_RATE_LIMITED),
        ({"status": 408}, ErrorCode.PROVIDER_UNAVAILABLE),
        ({"status": 500}, ErrorCode.PROVIDER_UNAVAILABLE),
        ({"steps": [{"text": "```tsx"}, {"cut": "rst"}]}, ErrorCode.STREAM_BROKEN),
        ({"steps": [{"text": "```tsx"}, {"stall": True}]}, ErrorCode.PROVIDER_TIMEOUT),
        ({"steps": [{"finish": "stop"}]}, ErrorCode.EMPTY_ANSWER),
        ({"steps": [{"text": "```tsx"}, {"finish": "length"}]}, ErrorCode.LENGTH),
        ({"steps": [{"text": "```tsx"}, {"finish": "content_filter"}]}, ErrorCode.CONTENT_FILTER),
        ({"steps": [{"refusal": "I'd rather not."}]}, ErrorCode.REFUSAL),
    ],
    ids=str,
)
def test_a_model_that_fails_while_it_writes_ends_the_message_with_its_code(
    bench: Bench, answer: dict[str, Any], code: ErrorCode
) -> None:
    workshop = bench.workshop(provider_silence_s=0.3)
    bench.model.on("Write the component", {"rounds": [{"attempts": [answer]}]})
    message_id = handed_over(bench, workshop)
    run_build(workshop, Compiler.installed(), message_id)
    row, _ = bench.check(message_id)
    assert row.error is not None
    assert (row.status, row.error.code, _ends(bench, message_id)) == ("error", code, 1)
    assert job_of(bench, message_id).status is JobStatus.ERROR
