"""What was done is what the metrics tell: known traffic through turns, builds, the sweeper and the relay, counted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import text

from api import announcing
from api.close_codes import CloseCode
from dev.embedded import EmbeddedValkey
from dev.scripted_model.control import ScriptedModel
from shared import engine as engine_module
from shared import metrics, notices
from shared.batches import BatchFilter
from shared.errors import LogUnavailable
from shared.events import EventId, Status
from shared.exporter import Exporter
from shared.lifecycle import MessageStatus, OnBusy
from shared.store import Store, SubmitLimits
from tests.integration.relay_parts import Stage, Story
from tests.integration.test_build import GOOD, fenced, handed_over, writes
from tests.integration.test_turn import attempts, edit, rounds
from tests.integration.worker_parts import Bench, eventually, opened_bench
from tests.told_metrics import Told
from worker.build import run_build
from worker.compiler import Compiler
from worker.sweep import Sweeper
from worker.turn import run_turn

PACE_S: Final = 0.05
LIMITS: Final = SubmitLimits(max_unfinished=20, max_tokens_per_day=None)


class Counted:
    """What was counted from a moment on. Loops hand over in their own time: ask `eventually`."""

    def __init__(self) -> None:
        self._before = Told.here()

    @property
    def told(self) -> Told:
        return Told.here().since(self._before)

    def value(self, name: str, **labels: str) -> float:
        return self.told.value(name, **labels)

    def by(self, name: str, label: str) -> dict[str, float]:
        return dict(self.told.by(name, label))


def usage_of(bench: Bench, message_id: uuid.UUID) -> dict[str, float]:
    usage = bench.row(message_id).usage
    assert usage is not None
    return {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens}


# --- turns and builds -------------------------------------------------------------------------------------------


def test_an_answer_with_tools_is_counted_as_it_was(bench: Bench) -> None:
    """Its end, its attempt, its tokens, its calls, its events; each stage once, with the time that the row tells."""
    metrics.know(models=["scripted"])
    bench.model.on(
        "go",
        rounds(
            [
                {"wait": PACE_S},
                {"text": "Let me."},
                {"tools": [edit("/title", "X"), {"name": "made-up", "arguments": {}}]},
            ],
            [{"text": "Done."}],
        ),
    )
    workshop = bench.workshop()
    counted = Counted()
    message_id = bench.ask()
    run_turn(workshop, message_id)
    row, log = bench.check(message_id)
    assert row.timing is not None
    assert counted.by("chatrelay_messages_total", "status") == {"success": 1}
    assert counted.by("chatrelay_messages_total", "code") == {"none": 1}
    assert counted.by("chatrelay_attempts_total", "reason") == {"claim": 1}
    assert counted.by("chatrelay_tokens_total", "kind") == usage_of(bench, message_id)
    assert counted.by("chatrelay_tokens_total", "model") == {"scripted": sum(usage_of(bench, message_id).values())}
    assert counted.value("chatrelay_tool_calls_total", tool="applyJsonPatch", success="true") == 1
    assert counted.value("chatrelay_tool_calls_total", tool="other", success="false") == 1
    stages = counted.by("chatrelay_stage_seconds_count", "stage")
    assert stages == dict.fromkeys(map(str, metrics.Stage), 1)
    took = counted.by("chatrelay_stage_seconds_sum", "stage")
    assert row.timing.queued_ms is not None
    assert row.timing.tools_ms is not None
    assert took["queue"] == pytest.approx(row.timing.queued_ms / 1000, abs=0.003)
    assert took["connect"] + took["first_byte"] >= PACE_S, "of the call that wrote the first text"
    assert took["tools"] == pytest.approx(row.timing.tools_ms / 1000, abs=0.003)
    for name, milliseconds in (("first_token", row.timing.first_token_ms), ("completion", row.timing.total_ms)):
        assert milliseconds is not None
        assert sum(counted.by(f"chatrelay_{name}_seconds_sum", "model").values()) == pytest.approx(milliseconds / 1000)
        assert counted.by(f"chatrelay_{name}_seconds_count", "model") == {"scripted": 1}
    eventually(lambda: counted.value("chatrelay_events_appended_total") == len(log))
    assert set(counted.by("chatrelay_log_appends_total", "result")) == {"ok"}


def test_a_message_is_running_while_it_is_held(bench: Bench) -> None:
    bench.model.say("go", {"hold": "h"}, {"text": "Hello."})
    turn = bench.start(bench.workshop(), bench.ask())
    bench.model.wait_held("h")
    assert Told.here().value("chatrelay_messages_running") == 1
    bench.model.release("h")
    turn.join()
    assert Told.here().value("chatrelay_messages_running") == 0


def test_failures_of_the_provider_are_counted_by_code_whatever_becomes_of_the_message(bench: Bench) -> None:
    """A call that broke with text shown is tried in a new attempt; the third failure ends the message."""
    tries = [[{"text": f"Try {n}"}, {"cut": "fin"}] for n in range(2)]
    bench.model.on("go", {"rounds": [attempts(*tries, [{"text": "Well"}, {"finish": None}])]})
    workshop = bench.workshop()
    counted = Counted()
    run_turn(workshop, bench.ask())
    assert counted.by("chatrelay_provider_failures_total", "code") == {"stream_broken": 2, "stream_incomplete": 1}
    assert counted.by("chatrelay_attempts_total", "reason") == {"claim": 1, "provider": 2}
    assert counted.by("chatrelay_messages_total", "code") == {"stream_incomplete": 1}
    assert counted.by("chatrelay_messages_total", "status") == {"error": 1}


def test_a_lost_log_is_counted_as_an_answer_and_as_an_attempt(bench: Bench) -> None:
    bench.model.say("go", {"text": "Hello, "}, {"hold": "h"}, {"text": "world!"})
    message_id = bench.ask()
    live = bench.listen(message_id)
    workshop = bench.workshop()
    counted = Counted()
    turn = bench.start(workshop, message_id)
    live.until_kind("delta")
    bench.client.flushdb()
    bench.model.release("h")
    turn.join()
    eventually(lambda: counted.value("chatrelay_log_appends_total", result="lost") == 1)
    assert counted.by("chatrelay_attempts_total", "reason") == {"claim": 1, "log_lost": 1}


def test_a_message_handed_back_and_one_taken_away_are_counted_apart(bench: Bench) -> None:
    bench.model.on("go", {"rounds": [attempts([{"hold": "h"}], [{"hold": "i"}], [{"text": "Hello."}])]})
    message_id = bench.ask()
    counted = Counted()
    leaving = bench.workshop()
    first = bench.start(leaving, message_id)
    bench.model.wait_held("h")
    leaving.leases.drain()
    first.join()
    assert (counted.value("chatrelay_attempts_handed_back_total"), counted.value("chatrelay_leases_lost_total")) == (
        1,
        0,
    )
    second = bench.start(bench.workshop(), message_id)
    bench.model.wait_held("i")
    bench.sql("UPDATE messages SET lease_until = now() - interval '1 s' WHERE id = :id", id=message_id)
    read = bench.settings(lease_s=0.2, heartbeat_s=0.1)
    Sweeper(bench.store, bench.log, bench.doorbell, read)._take_lapsed(tell=True)
    second.join()
    run_turn(bench.workshop(), message_id)
    assert counted.value("chatrelay_attempts_lost_total") == 1
    assert counted.value("chatrelay_attempts_handed_back_total") == 1
    assert counted.value("chatrelay_leases_lost_total") == 1
    assert counted.by("chatrelay_attempts_total", "reason") == {"claim": 3}
    assert counted.by("chatrelay_messages_total", "status") == {"success": 1}


def test_what_the_api_and_the_sweeper_end_is_counted_as_well(bench: Bench) -> None:
    """A cancel before pickup, and a message that lost too many workers."""
    counted = Counted()
    cancelled, lost = bench.ask(), bench.ask(project_id=bench.new_project())
    announcing.cancel(bench.store, bench.log, bench.doorbell, bench.anna, cancelled)
    bench.sql("UPDATE messages SET tries = 3 WHERE id = :id", id=lost)
    Sweeper(bench.store, bench.log, bench.doorbell, bench.settings(max_tries=3)).sweep()
    assert counted.value("chatrelay_cancels_total") == 1
    assert counted.by("chatrelay_messages_total", "status") == {"cancelled": 1, "error": 1}
    assert counted.by("chatrelay_messages_total", "code") == {"none": 1, "worker_lost": 1}
    assert counted.by("chatrelay_attempts_total", "reason") == {"closing": 2}
    assert sum(counted.by("chatrelay_completion_seconds_count", "status").values()) == 2


def test_a_build_is_counted_with_its_phases(bench: Bench) -> None:
    """One source that breaks and one that does not: the model writes twice, one bundle is made, the message ends once."""
    metrics.know(models=["scripted"])
    broken = GOOD.replace("</AbsoluteFill>", "</AbsoluteFull>")
    writes(bench, [fenced(broken)], [fenced(GOOD)])
    counted = Counted()
    workshop = bench.workshop()
    message_id = handed_over(bench, workshop)
    assert counted.by("chatrelay_messages_total", "status") == {}, "a hand-over is no end"
    run_build(workshop, Compiler.installed(), message_id)
    assert counted.by("chatrelay_builds_total", "outcome") == {"success": 1}
    assert counted.by("chatrelay_build_phase_seconds_count", "phase") == {"writing": 2, "checking": 2, "bundling": 1}
    assert counted.by("chatrelay_attempts_total", "reason") == {"claim": 1, "build": 1}
    assert counted.by("chatrelay_messages_total", "status") == {"success": 1}
    assert counted.by("chatrelay_tokens_total", "kind") == usage_of(bench, message_id)


def test_transactions_that_are_sent_again_are_counted(bench: Bench) -> None:
    """The worker's connections die while the model holds: the next statement of each is asked again."""
    bench.model.on("go", rounds([{"text": "Let me."}, {"hold": "h"}, {"tool": edit("/title", "X")}], [{"text": "So."}]))
    workshop = bench.workshop()
    counted = Counted()
    turn = bench.start(workshop, bench.ask())
    bench.model.wait_held("h")
    with bench.engine.begin() as connection:
        # whoever writes a round waits for this lock longer than it may
        connection.execute(text("LOCK TABLE rounds IN ACCESS EXCLUSIVE MODE"))
        bench.model.release("h")
        eventually(lambda: counted.value("chatrelay_sql_retries_total") >= 1)
    turn.join()
    assert counted.by("chatrelay_messages_total", "status") == {"success": 1}


def test_what_redis_does_not_take_is_counted(
    database_url: str, own_valkey: EmbeddedValkey, scripted: ScriptedModel
) -> None:
    """Appends, notices and bells, each by itself; the message ends all the same."""
    with opened_bench(database_url=database_url, redis_url=own_valkey.url, model=scripted) as bench:
        workshop = bench.workshop()
        message_id = bench.ask()
        bench.model.say("go", {"text": "Hello."})
        counted = Counted()
        assert bench.doorbell.ring(message_id)
        own_valkey.kill()
        run_turn(workshop, message_id)
        assert not bench.doorbell.ring(message_id)
        with pytest.raises(LogUnavailable):
            bench.log.publish(notices.cancel_asked(message_id))
        eventually(lambda: counted.value("chatrelay_log_appends_total", result="unavailable") >= 2)
        assert set(counted.by("chatrelay_log_appends_total", "result")) == {"unavailable"}
        assert counted.value("chatrelay_publish_failures_total") == 1, (
            "the test's: the worker's `started` goes with an append"
        )
        assert counted.by("chatrelay_bells_total", "result") == {"rung": 1, "lost": 1}
        assert counted.by("chatrelay_messages_total", "status") == {"success": 1}


# --- what users ask for -----------------------------------------------------------------------------------------


def test_submits_and_retries_are_counted_and_repeats_are_not(bench: Bench) -> None:
    counted = Counted()
    pair = bench.store.submit(bench.anna, bench.project_id, "go", model="scripted", on_busy=OnBusy.QUEUE, limits=LIMITS)
    announcing.submitted(bench.log, bench.doorbell, pair)
    announcing.submitted(bench.log, bench.doorbell, msgspec.structs.replace(pair, repeated=True))
    assert counted.value("chatrelay_messages_submitted_total") == 1
    bench.model.say("go", {"text": "Hello."})
    run_turn(bench.workshop(), pair.assistant_message.id)
    message = bench.store.retry(bench.anna, pair.assistant_message.id, LIMITS)
    announcing.retried(bench.log, bench.doorbell, message)
    assert counted.value("chatrelay_retries_total") == 1
    assert counted.by("chatrelay_bells_total", "result") == {"rung": 3}


# --- asked of the database --------------------------------------------------------------------------------------


def test_the_database_tells_of_queues_and_sweepers(bench: Bench) -> None:
    """Depth counts those whose turn it is; a second one of the same project waits for the first, and does not count."""
    assert not Told(Exporter(bench.store).scrape().decode()).has("chatrelay_sweeper_silent_seconds"), "none came yet"
    building = handed_over(bench, bench.workshop())
    waiting = bench.ask()
    bench.ask()
    bench.sql("UPDATE messages SET enqueued_at = now() - interval '100 s' WHERE id = :id", id=waiting)
    held = bench.ask(project_id=bench.new_project())
    assert bench.store.claim(held, "somebody", lease_s=60, max_tries=3) is not None
    bench.sql("UPDATE messages SET updated_at = now() - interval '50 s' WHERE id = :id", id=building)
    bench.sql("INSERT INTO sweepers (name, swept_at) VALUES ('one', now() - interval '7 s')")
    told = Told(Exporter(bench.store).scrape().decode())
    assert told.by("chatrelay_messages_unfinished", "status") == {"pending": 3, "building": 1}
    assert told.by("chatrelay_queue_depth", "queue") == {"interactive": 1, "builds": 1}
    assert 100 <= told.value("chatrelay_queue_oldest_seconds", queue="interactive") < 700
    assert 50 <= told.value("chatrelay_queue_oldest_seconds", queue="builds") < 100
    assert 7 <= told.value("chatrelay_sweeper_silent_seconds") < 600


def test_what_waits_for_a_batch_is_a_queue_of_its_own(bench: Bench) -> None:
    failed = bench.ask()
    bench.sql("UPDATE messages SET status = 'error', error_code = 'length' WHERE id = :id", id=failed)
    bench.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="ops")
    bench.store.send_batch_items(limit=10, window=10)
    told = Told(Exporter(bench.store).scrape().decode())
    assert told.by("chatrelay_queue_depth", "queue") == {"batch": 1}


def test_what_the_last_audit_of_everything_left_is_told(bench: Bench) -> None:
    """Absent before one; an audit of one project says nothing of the others."""
    assert not Told(Exporter(bench.store).scrape().decode()).has("chatrelay_audit_disagreements")
    for project_id, left in ((None, 3), (None, 2), (bench.new_project(), 5)):
        bench.store.keep_audit(
            project_id=project_id,
            began_at=bench.store.database_now(),
            looked_at={"rows": 9},
            found={"no_ending": left},
            repaired={},
            disagreements_left=left,
        )
    assert Told(Exporter(bench.store).scrape().decode()).value("chatrelay_audit_disagreements") == 2


def test_the_database_is_asked_once_in_a_while_however_many_scrape(bench: Bench) -> None:
    exporter = Exporter(bench.store)
    exporter.scrape()
    bench.ask()
    assert Told(exporter.scrape().decode()).value("chatrelay_queue_depth", queue="interactive") == 0
    assert Told(Exporter(bench.store).scrape().decode()).value("chatrelay_queue_depth", queue="interactive") == 1


def test_while_postgres_is_away_its_figures_are_left_out_and_all_others_told(database_url: str) -> None:
    gone = engine_module.make_engine("postgresql://nobody@127.0.0.1:1/none", pool_size=1, application="test")
    told = Told(Exporter(Store(gone)).scrape().decode())
    gone.dispose()
    assert not any("chatrelay_queue" in name or "unfinished" in name for name in told.names)
    assert told.has("chatrelay_publish_failures_total")


# --- the relay --------------------------------------------------------------------------------------------------


@contextmanager
def staged(redis_url: str, **environment: Any) -> Iterator[Stage]:
    stage = Stage(redis_url, socket_heartbeat_s=0.4, **environment)
    try:
        yield stage
    finally:
        stage.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_sockets_events_and_the_relays_share_are_counted(redis_url: str) -> None:
    """Two sockets and a stream follow one message: each event is written three times; each lifecycle event is timed once."""
    with staged(redis_url) as stage:
        counted = Counted()
        story = stage.story()
        story.append(Status(**_at(story, now_ms()), status="thinking"))
        clients = [stage.socket(story.target()), stage.socket(story.target()), stage.stream(story.target())]
        for client in clients:
            client.until(EventId(1, 0))
        eventually(lambda: Told.here().by("chatrelay_sockets_open", "kind") == {"ws": 2, "sse": 1})
        assert Told.here().value("chatrelay_subscriptions_up") == 1
        story.say("one ", "two ")
        story.append(Status(**_at(story, now_ms() + 3_600_000), status="tool_calling"))
        story.append(Status(**_at(story, now_ms() - 5_000), status="thinking"))
        story.finish()
        for client in clients:
            client.until_end()
        eventually(lambda: not Told.here().by("chatrelay_sockets_open", "kind"))
        assert counted.value("chatrelay_events_written_total") == 3 * 7
        assert counted.by("chatrelay_relay_seconds_count", "event") == {"status": 2, "complete": 1, "finalized": 1}
        assert counted.value("chatrelay_relay_clock_skew_total") == 1
        assert 5 <= counted.value("chatrelay_relay_seconds_sum", event="status") < 600, "the future counts as 0"
        assert counted.by("chatrelay_sockets_closed_total", "code") == {"1000": 3}
    assert Told.here().value("chatrelay_subscriptions_up") == 0


def test_readers_that_are_slow_flood_or_leave_are_counted_by_what_became_of_them(redis_url: str) -> None:
    with staged(redis_url, socket_buffer_bytes=20_000, slow_reader_s=600) as stage:
        counted = Counted()
        story = stage.story()
        story.begin()
        slow, keeps_up = stage.socket(story.target()), stage.socket(story.target())
        slow.until(EventId(1, 0))
        for _ in range(150):
            story.say("a piece of text " * 400)
            keeps_up.until(story.transcript.position)
        eventually(lambda: counted.value("chatrelay_readers_slow_total") >= 1)
        assert counted.value("chatrelay_readers_compacted_total") == 0, "it does not read yet"
        slow.until(story.transcript.position)
        assert counted.value("chatrelay_readers_compacted_total") >= 1
        keeps_up.sock.close()
        eventually(lambda: counted.by("chatrelay_sockets_closed_total", "code") == {"gone": 1})
        stage.relay.withdraw(story.project_id)
        eventually(lambda: counted.by("chatrelay_sockets_closed_total", "code") == {"gone": 1, "4403": 1})


def test_a_reader_that_takes_nothing_in_time_is_counted_as_too_slow(redis_url: str) -> None:
    with staged(redis_url, socket_buffer_bytes=20_000, slow_reader_s=0.2) as stage:
        counted = Counted()
        story = stage.story()
        story.begin()
        slow, keeps_up = stage.socket(story.target()), stage.socket(story.target())
        slow.until(EventId(1, 0))
        for _ in range(150):
            story.say("a piece of text " * 400)
            keeps_up.until(story.transcript.position)
        eventually(lambda: counted.value("chatrelay_sockets_closed_total", code=str(int(CloseCode.TOO_SLOW))) == 1)


def _at(story: Story, ts: int) -> dict[str, Any]:
    return {**story.base(), "ts": ts}
