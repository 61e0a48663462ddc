"""A restore of Postgres to an earlier moment, as docs/deployment.md has it: what was unfinished then is answered anew."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest

from api.catch_up import Sources, Want
from dev.embedded import EmbeddedPostgres
from dev.procfile import ROOT
from dev.scripted_model import control
from dev.scripted_model.control import ScriptedModel
from shared import events
from shared.closing import append_ending
from shared.event_log import Entry
from shared.events import Delta, EventId, Finalized, Snapshot, Status
from shared.outcomes import Succeeded
from shared.records import Claim
from shared.transcript import Transcript, fold
from tests import rights
from tests.integration.worker_parts import Bench, opened_bench
from tests.trace_checker import check_trace

_RESTORED = "restored"


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with control.running(pace="full") as running:
        yield running


def _postgres_program(postgres: EmbeddedPostgres, name: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(postgres.bin_dir / name), *arguments],
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _write(bench: Bench, claim: Claim, text: str) -> EventId:
    """What a worker appends first; the next event's id."""
    attempt, message_id = claim.lease.attempt, str(claim.lease.message_id)
    opening = (
        Status(id=f"{attempt}-0", message_id=message_id, ts=1, status="thinking")
        if attempt == 1
        else Snapshot(
            id=f"{attempt}-0",
            message_id=message_id,
            ts=1,
            content="",
            status="pending",
            tool_calls=(),
            reason="attempt",
        )
    )
    told = (opening, Delta(id=f"{attempt}-1", message_id=message_id, ts=1, content=text))
    entries = [Entry(EventId.parse(event.id), events.encode(event)) for event in told]
    assert bench.log.append(message_id, entries).word == "ok"
    return entries[-1].id.next


def _claim(bench: Bench, message_id: UUID) -> Claim:
    claim = bench.store.claim(message_id, "lost", lease_s=60, max_tries=3)
    assert claim is not None
    return claim


@pytest.mark.parametrize("redis_is_emptied", [True, False], ids=["an empty Redis", "the old Redis"])
def test_what_was_unfinished_at_the_backup_is_answered_under_attempts_above_all_that_was_lost(
    database_url: str,
    redis_url: str,
    postgres: EmbeddedPostgres,
    model: ScriptedModel,
    tmp_path: Path,
    redis_is_emptied: bool,
) -> None:
    """Nobody is stuck by a log that is ahead of the row, and who has read the lost story to its end is told the new one."""
    dump = tmp_path / "backup"
    with ExitStack() as endings:
        lost = endings.enter_context(opened_bench(database_url=database_url, redis_url=redis_url, model=model))
        message_id = lost.ask("go")
        _write(lost, _claim(lost, message_id), "The first")
        _postgres_program(postgres, "pg_dump", "--format=custom", f"--file={dump}", rights.as_admin(database_url))
        lost.lose_lease(message_id)
        claim = _claim(lost, message_id)
        first = _write(lost, claim, "A story that will have been lost.")
        done = Succeeded(content="A story that will have been lost.")
        ending = lost.store.finalize(claim.lease, done, first=first, usage=None, first_token_ms=None)
        assert append_ending(lost.store, lost.log, ending)
        read_to_the_end = EventId.parse(events.decode(ending.events[-1]).id)
        assert read_to_the_end.attempt == 2
        if redis_is_emptied:
            lost.client.flushdb()

    restored_url = postgres.create_database(_RESTORED)
    try:
        _postgres_program(
            postgres, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={restored_url}", str(dump)
        )
        script = ROOT / "ops" / "postgres" / "after_restore.sql"
        _postgres_program(
            postgres,
            "psql",
            "--no-psqlrc",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            f"--dbname={restored_url}",
            f"--file={script}",
        )
        with opened_bench(database_url=restored_url, redis_url=redis_url, model=model) as bench:
            model.say("go", {"text": "The story as it is now."})
            bench.start(bench.workshop(), message_id).join()
            row = bench.row(message_id)
            assert (row.status, row.content) == ("success", "The story as it is now.")
            want = Want(after=read_to_the_end, compacted=False)
            sources = Sources(bench.log, bench.store)
            decision = sources.decisions(message_id, [want], is_patient=False, redis_is_up=True)[want]
            told = [events.decode(frame.payload) for frame in decision.frames]
            assert isinstance(told[0], Snapshot)
            assert isinstance(told[-1], Finalized)
            assert all(EventId.parse(event.id) > read_to_the_end for event in told)
            check_trace(told, row=row)
            assert fold(Transcript(), told).content == row.content
    finally:
        postgres.drop_database(_RESTORED)
