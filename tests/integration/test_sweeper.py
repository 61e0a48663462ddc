"""The sweeper: what processes that died left undone is done, once, and not before its time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import text

from dev.embedded import EmbeddedValkey
from dev.scripted_model.control import ScriptedModel
from shared import events, keys
from shared.engine import make_engine
from shared.errors import StoreUnavailable
from shared.event_log import Entry
from shared.events import Delta, EventId, Snapshot, Status, StreamEvent
from shared.outcomes import Succeeded
from shared.records import Claim, Ending, StoredRound
from shared.store import Store
from tests.integration.worker_parts import Bench, Listener, eventually, opened_bench
from worker.sweep import BATCH, MOST_BELLS_WAITING, Sweeper
from worker.turn import run_turn


def sweeper(bench: Bench, **changed: float) -> Sweeper:
    return Sweeper(bench.store, bench.log, bench.doorbell, bench.settings(model_url=None, **changed))


def asks(bench: Bench, count: int) -> list[UUID]:
    """Messages that wait for nobody, each in a project of its own."""
    return [bench.ask(project_id=bench.new_project()) for _ in range(count)]


def rung_long_ago(bench: Bench) -> None:
    bench.sql("UPDATE messages SET rung_at = now() - interval '1 h'")


def claimed(bench: Bench, message_id: UUID) -> Claim:
    claim = bench.store.claim(message_id, "dead", lease_s=60, max_tries=3)
    assert claim is not None
    return claim


def wrote(bench: Bench, claim: Claim, *texts: str, content: str = "") -> EventId:
    """What the worker appended before it died; the next event's id."""
    attempt, message_id = claim.lease.attempt, claim.lease.message_id
    made: list[StreamEvent] = []

    def base() -> dict[str, object]:
        return {"id": f"{attempt}-{len(made)}", "message_id": str(message_id), "ts": 1}

    if attempt > 1:
        made.append(
            Snapshot(
                id=f"{attempt}-0",
                message_id=str(message_id),
                ts=1,
                content=content,
                status="pending",
                tool_calls=(),
                reason="attempt",
            )
        )
    made.append(Status(id=f"{attempt}-{len(made)}", message_id=str(message_id), ts=1, status="thinking"))
    for piece in texts:
        made.append(Delta(id=f"{attempt}-{len(made)}", message_id=str(message_id), ts=1, content=piece))
    entries = [Entry(EventId.parse(event.id), events.encode(event)) for event in made]
    assert bench.log.append(message_id, entries).word == "ok"
    return entries[-1].id.next


def committed(bench: Bench, message_id: UUID, content: str = "Hello.") -> Ending:
    """A worker that died between its commit and the append."""
    claim = claimed(bench, message_id)
    first = wrote(bench, claim, content)
    ending = bench.store.finalize(claim.lease, Succeeded(content=content), first=first, usage=None, first_token_ms=None)
    aged(bench, message_id)
    return ending


def aged(bench: Bench, message_id: UUID) -> None:
    bench.sql("UPDATE messages SET updated_at = now() - interval '1 min' WHERE id = :id", id=message_id)


def lost_now(bench: Bench, message_id: UUID) -> None:
    """The lease is over, and nobody has taken it away yet."""
    bench.sql("UPDATE messages SET lease_until = now() - interval '1 s' WHERE id = :id", id=message_id)


# --- ringing ----------------------------------------------------------------------------------------------------


def test_a_message_that_nobody_took_is_rung_for_again(bench: Bench) -> None:
    """Its bell was lost; a worker then takes it."""
    bench.model.say("go", {"text": "Hello."})
    message_id = bench.ask()
    rung_long_ago(bench)
    sweeper(bench).sweep()
    assert bench.bells() == 1
    run_turn(bench.workshop(), message_id)
    assert bench.check(message_id)[0].status == "success"


def test_a_message_is_not_rung_for_more_often_than_once_in_a_while(bench: Bench) -> None:
    asks(bench, 3)
    made = sweeper(bench, ring_again_s=60)
    made.sweep()
    assert bench.bells() == 0  # their submit rang
    rung_long_ago(bench)
    for _ in range(3):
        made.sweep()
    assert bench.bells() == 3
    rung_long_ago(bench)
    made.sweep()
    assert bench.bells() == 6


def test_only_the_first_in_line_is_rung_for(bench: Bench) -> None:
    first, second = bench.ask(), bench.ask()
    rung_long_ago(bench)
    made = sweeper(bench, ring_again_s=60)
    made.sweep()
    assert bench.bells() == 1
    claimed(bench, first)
    rung_long_ago(bench)
    made.sweep()
    assert bench.bells() == 1
    assert bench.row(second).status == "pending"


def test_nobody_is_rung_for_while_the_workers_have_no_room(bench: Bench) -> None:
    """More bells would only lengthen the queue."""
    waiting = asks(bench, 3)
    rung_long_ago(bench)
    for _ in range(MOST_BELLS_WAITING):
        bench.doorbell.ring(waiting[0])
    made = sweeper(bench, ring_again_s=60)
    made.sweep()
    assert bench.bells() == MOST_BELLS_WAITING
    bench.client.ltrim(keys.INTERACTIVE_QUEUE, 2, -1)
    made.sweep()
    assert bench.bells() == MOST_BELLS_WAITING
    bench.client.delete(keys.INTERACTIVE_QUEUE)
    made.sweep()
    assert bench.bells() == 1  # the third


# --- lost workers -----------------------------------------------------------------------------------------------


def until_taken(made: Sweeper, bench: Bench, message_id: UUID) -> None:
    def taken() -> bool:
        made.sweep()
        return bench.column(message_id, "lease_owner") is None

    eventually(taken)


def test_a_lapsed_lease_is_taken_after_a_whole_lease_of_a_healthy_database(bench: Bench) -> None:
    """Until then its holder may only have been unable to renew it. It costs a try, operators hear of it, and a bell rings."""
    message_id = bench.ask()
    claimed(bench, message_id)
    lost_now(bench, message_id)
    operators = Listener(bench.redis_url, keys.OPS)
    made = sweeper(bench, lease_s=1, heartbeat_s=0.2)
    began_s = time.monotonic()
    until_taken(made, bench, message_id)
    assert time.monotonic() - began_s >= 1
    assert bench.column(message_id, "tries") == 1
    notice = json.loads(operators.until(lambda payload: str(message_id).encode() in payload))
    operators.close()
    assert (notice["type"], notice["state"], notice["attempt"], notice["tries"]) == ("attempt", "lost", 1, 1)
    assert bench.bells() == 1


def test_after_an_outage_of_the_database_a_whole_lease_passes_again(bench: Bench, database_url: str) -> None:
    first, second = asks(bench, 2)
    engine = make_engine(database_url, pool_size=2, application="sweeper")
    try:
        read = bench.settings(lease_s=1, heartbeat_s=0.2)
        made = Sweeper(Store(engine), bench.log, bench.doorbell, read)
        claimed(bench, first)
        lost_now(bench, first)
        until_taken(made, bench, first)
        claimed(bench, second)
        lost_now(bench, second)
        with engine.connect(), engine.connect(), pytest.raises(StoreUnavailable):
            made.sweep()  # no connection is left for it
        began_s = time.monotonic()
        until_taken(made, bench, second)
        assert time.monotonic() - began_s >= 1
    finally:
        engine.dispose()


def test_a_host_with_more_messages_than_a_batch_is_noticed_in_one_round(bench: Bench) -> None:
    """Many workers die at once; all of theirs are taken within the time that one message has."""
    bench.sql(
        "INSERT INTO messages (project_id, role, kind, status, attempt, lease_owner, lease_until)"
        " SELECT :project, 'assistant', 'status', 'building', 1, 'dead/' || n, now() - interval '1 s'"
        " FROM generate_series(1, :many) AS n",
        project=bench.project_id,
        many=2 * BATCH + 1,
    )
    made = sweeper(bench, lease_s=0.2, heartbeat_s=0.1)
    left = "SELECT count(*) FROM messages WHERE lease_owner IS NOT NULL"

    def swept() -> bool:
        made.sweep()
        return bool(bench.sql(left) < 2 * BATCH + 1)

    eventually(swept)
    assert bench.sql(left) == 0


def test_lost_workers_are_noticed_though_another_of_the_rounds_questions_is_never_answered(bench: Bench) -> None:
    """The database is there all the time; what closes a message waits for a table that somebody has locked."""
    cancelled, lapsed = asks(bench, 2)
    bench.store.request_cancel(bench.anna, cancelled)
    claimed(bench, lapsed)
    lost_now(bench, lapsed)
    made = sweeper(bench, lease_s=0.3, heartbeat_s=0.1, sweep_s=10)
    with bench.engine.begin() as locking:
        locking.execute(text("LOCK TABLE tool_ledger IN ACCESS EXCLUSIVE MODE"))
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                made.sweep()
        assert bench.column(lapsed, "lease_owner") is None


def test_a_lease_that_holds_is_not_taken(bench: Bench) -> None:
    held, lapsed = asks(bench, 2)
    claimed(bench, held)
    claimed(bench, lapsed)
    lost_now(bench, lapsed)
    until_taken(sweeper(bench, lease_s=0.2, heartbeat_s=0.1), bench, lapsed)
    assert bench.column(held, "lease_owner") == "dead"


def test_a_message_whose_workers_were_lost_too_often_ends_with_the_text_of_the_log(bench: Bench) -> None:
    message_id = bench.ask()
    for said in ("One", "Two", "Three"):
        wrote(bench, claimed(bench, message_id), said, " and more")
        bench.lose_lease(message_id)
    sweeper(bench).sweep()
    row, kinds = bench.check(message_id)
    assert row.error is not None
    assert (row.error.code, row.content, row.attempt) == ("worker_lost", "Three and more", 4)
    assert kinds[-3:] == ["snapshot", "error", "finalized"]


def test_the_next_message_goes_on_behind_one_that_was_closed(bench: Bench) -> None:
    first, second = bench.ask(), bench.ask()
    bench.sql("UPDATE messages SET tries = 3 WHERE id = :id", id=first)
    sweeper(bench).sweep()
    assert bench.check(first)[0].status == "error"
    assert bench.bells() == 1
    assert bench.store.claim(second, "worker", lease_s=60, max_tries=3) is not None


# --- cancelled and held by nobody -------------------------------------------------------------------------------


def test_a_cancelled_message_that_nobody_holds_ends_with_the_text_of_the_log(bench: Bench) -> None:
    message_id = bench.ask()
    wrote(bench, claimed(bench, message_id), "Once ", "upon")
    bench.store.request_cancel(bench.anna, message_id)
    bench.lose_lease(message_id)
    sweeper(bench).sweep()
    row, kinds = bench.check(message_id)
    assert (row.status, row.content) == ("cancelled", "Once upon")
    assert kinds == ["status", "delta", "delta", "snapshot", "finalized"]
    assert bench.column(message_id, "ending_appended")


@pytest.mark.parametrize("lost", ["the log", "the attempt"])
def test_where_the_log_does_not_tell_of_it_the_text_is_the_rows(bench: Bench, lost: str) -> None:
    """The log was emptied; or tells of an attempt before the row's, whose text was taken back."""
    message_id = bench.ask()
    claim = claimed(bench, message_id)
    wrote(bench, claim, "Stored.", "\n\nGone")
    stored = StoredRound(round=1, text="Stored.", calls=(), document_version=1, usage=None)
    bench.store.store_round(claim.lease, stored, content="Stored.", last_event_id=None, first_token_ms=None)
    if lost == "the log":
        bench.client.delete(keys.log(message_id))
    else:
        bench.store.begin_attempt(claim.lease)
    bench.store.request_cancel(bench.anna, message_id)
    bench.lose_lease(message_id)
    sweeper(bench).sweep()
    row, _ = bench.check(message_id)
    assert (row.status, row.content) == ("cancelled", "Stored.")


def test_of_a_log_whose_beginning_was_trimmed_no_half_a_text_is_kept(bench: Bench) -> None:
    message_id = bench.ask()
    wrote(bench, claimed(bench, message_id), "Once ", "upon")
    bench.client.xtrim(keys.log(message_id), maxlen=1, approximate=False)
    bench.store.request_cancel(bench.anna, message_id)
    bench.lose_lease(message_id)
    sweeper(bench).sweep()
    assert (bench.column(message_id, "status"), bench.column(message_id, "content")) == ("cancelled", "")


def test_a_closing_goes_above_the_logs_newest_attempt(bench: Bench) -> None:
    """A log may know of an attempt that the row has lost."""
    message_id = bench.ask()
    bench.sql("UPDATE messages SET attempt = 6 WHERE id = :id", id=message_id)
    wrote(bench, claimed(bench, message_id), "Text")
    bench.sql("UPDATE messages SET attempt = 1 WHERE id = :id", id=message_id)
    bench.store.request_cancel(bench.anna, message_id)
    bench.lose_lease(message_id)
    sweeper(bench).sweep()
    row, _ = bench.check(message_id)
    assert (row.status, row.attempt) == ("cancelled", 8)


def test_a_message_is_closed_without_redis_and_told_when_it_is_back(
    database_url: str, own_valkey: EmbeddedValkey, scripted: ScriptedModel
) -> None:
    with opened_bench(database_url=database_url, redis_url=own_valkey.url, model=scripted) as bench:
        message_id = bench.ask()
        bench.store.request_cancel(bench.anna, message_id)
        made = sweeper(bench)
        own_valkey.kill()
        made.sweep()
        assert bench.row(message_id).status == "cancelled"
        assert not bench.column(message_id, "ending_appended")
        aged(bench, message_id)
        own_valkey.restart()
        made.sweep()
        assert bench.check(message_id)[1] == ["snapshot", "finalized"]
        assert bench.column(message_id, "ending_appended")


# --- endings ----------------------------------------------------------------------------------------------------


def test_an_ending_that_was_committed_and_not_appended_is_appended(bench: Bench) -> None:
    """A crash between the two is invisible; the live reader's end comes late."""
    message_id = bench.ask()
    live = bench.listen(message_id)
    committed(bench, message_id)
    sweeper(bench).sweep()
    row, kinds = bench.check(message_id)
    assert (row.status, kinds) == ("success", ["status", "delta", "complete", "finalized"])
    assert bench.column(message_id, "ending_appended")
    assert live.until_kind("finalized").id == "1-3"


def test_an_ending_that_was_appended_and_not_acknowledged_is_not_appended_twice(bench: Bench) -> None:
    message_id = bench.ask()
    ending = committed(bench, message_id)
    entries = [Entry(events.peek(payload)[1], payload) for payload in ending.events]
    bench.log.append(message_id, entries)
    before = bench.events(message_id)
    made = sweeper(bench)
    for _ in range(2):
        made.sweep()
    assert bench.events(message_id) == before
    bench.check(message_id)
    assert bench.column(message_id, "ending_appended")


def test_a_fresh_ending_is_left_to_its_committer(bench: Bench) -> None:
    message_id = bench.ask()
    committed(bench, message_id)
    bench.sql("UPDATE messages SET updated_at = now() + interval '1 h' WHERE id = :id", id=message_id)
    sweeper(bench).sweep()
    assert not bench.column(message_id, "ending_appended")


def test_an_ending_whose_log_is_gone_is_not_tried_for_ever(bench: Bench) -> None:
    """Readers take it from the row."""
    message_id = bench.ask()
    committed(bench, message_id)
    bench.client.delete(keys.log(message_id))
    sweeper(bench).sweep()
    assert bench.column(message_id, "ending_appended")
    assert bench.events(message_id) == []


def test_an_ending_that_cannot_be_read_keeps_nobody_else_from_anything(bench: Bench) -> None:
    """One row of another version of this program, and the oldest: others' endings are appended, and bells rung."""
    broken, ended = bench.ask(), bench.ask(project_id=bench.new_project())
    waiting = bench.ask(project_id=bench.new_project())
    for message_id in (broken, ended):
        committed(bench, message_id)
    bench.sql(
        "UPDATE messages SET ending = ARRAY[convert_to('{}', 'UTF8')], updated_at = now() - interval '1 h'"
        " WHERE id = :id",
        id=broken,
    )
    rung_long_ago(bench)
    sweeper(bench).sweep()
    assert bench.check(ended)[1][-1] == "finalized"
    assert bench.bells() == 1
    assert bench.row(waiting).status == "pending"


def test_a_row_that_somebody_keeps_locked_keeps_nobody_else_waiting(bench: Bench) -> None:
    """An operator's open transaction: what is to be closed or acknowledged there waits, all else is done."""
    cancelled, ended, waiting = (bench.ask(project_id=bench.new_project()) for _ in range(3))
    bench.store.request_cancel(bench.anna, cancelled)
    committed(bench, ended)
    rung_long_ago(bench)
    made = sweeper(bench)
    with bench.engine.begin() as locking:
        locking.execute(text("SELECT id FROM messages WHERE id IN (:a, :b) FOR UPDATE"), {"a": cancelled, "b": ended})
        made.sweep()
        assert bench.bells() == 1
        assert bench.row(waiting).status == bench.row(cancelled).status == "pending"
    made.sweep()
    assert bench.check(cancelled)[0].status == "cancelled"
    assert bench.check(ended)[1] == ["status", "delta", "complete", "finalized"]
    assert bench.column(ended, "ending_appended")


# --- any number may run -----------------------------------------------------------------------------------------


def at_once(*works: Callable[[], object]) -> None:
    barrier = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        barrier.wait(30)
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(work,), name="sweeper") for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_two_sweepers_do_nothing_twice(bench: Bench) -> None:
    """Each bell rung once, each lost worker counted once, each message closed once, each ending appended once."""
    waiting, lapsed, cancelled, ended = (asks(bench, 5) for _ in range(4))
    for message_id in cancelled:
        wrote(bench, claimed(bench, message_id), "Some text")
        bench.store.request_cancel(bench.anna, message_id)
        bench.lose_lease(message_id)
    for message_id in ended:
        committed(bench, message_id)
    for message_id in lapsed:
        claimed(bench, message_id)
        lost_now(bench, message_id)
    rung_long_ago(bench)
    made = [sweeper(bench, lease_s=0.3, heartbeat_s=0.1, ring_again_s=3600) for _ in range(2)]

    def sweep_all() -> bool:
        at_once(*(one.sweep for one in made))
        return all(bench.column(message_id, "lease_owner") is None for message_id in lapsed)

    eventually(sweep_all)
    assert [bench.column(message_id, "tries") for message_id in lapsed] == [1] * 5
    assert bench.bells() == len(waiting) + len(lapsed)
    for message_id in cancelled:
        row, kinds = bench.check(message_id)
        assert (row.status, row.attempt) == ("cancelled", 2)
        assert kinds == ["status", "delta", "snapshot", "finalized"]
    for message_id in ended:
        assert bench.check(message_id)[1] == ["status", "delta", "complete", "finalized"]
