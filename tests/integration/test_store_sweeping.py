"""What nobody else does: lapsed leases, bells again, closings, endings that were not appended."""

from __future__ import annotations

import uuid
from functools import partial

import pytest
from sqlalchemy import Engine, event

from shared import closing, events
from shared.event_log import Entry, EventLog
from shared.events import Delta, EventId, Finalized, Snapshot, Status
from shared.lifecycle import ErrorCode, MessageStatus, OnBusy
from shared.outcomes import Cancelled, Failed, HandedOver, Succeeded
from shared.records import Claim, Ending
from shared.store import CloseReason, Store, ToClose
from tests.integration.store_parts import LIMITS, MAX_TRIES, USAGE, Scene, call, errors_of, together
from tests.trace_checker import check_trace


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


def _to_close(scene: Scene) -> list[ToClose]:
    return scene.store.to_close(limit=10, max_tries=MAX_TRIES)


# --- leases that ran out ----------------------------------------------------------------------------------------


def test_a_lapsed_lease_is_taken_away_and_counts_as_a_try(scene: Scene) -> None:
    lease = scene.claimed()
    assert scene.store.take_lapsed(limit=10) == []
    scene.let_lease_run_out(lease.message_id)
    (lapsed,) = scene.store.take_lapsed(limit=10)
    assert (lapsed.message_id, lapsed.project_id) == (lease.message_id, scene.project_id)
    assert (lapsed.attempt, lapsed.tries) == (1, 1)
    assert scene.store.take_lapsed(limit=10) == []
    claim = scene.claim(lease.message_id, "worker-b")
    assert claim is not None
    assert (claim.lease.attempt, claim.tries) == (2, 1)


def test_a_renewal_saves_a_lease_that_ran_out_and_was_not_taken_yet(scene: Scene) -> None:
    lease = scene.claimed()
    scene.let_lease_run_out(lease.message_id)
    assert lease.owner in scene.store.renew_leases([lease.owner], lease_s=10)
    assert scene.store.take_lapsed(limit=10) == []


def test_of_several_sweepers_each_lease_is_taken_by_one(scene: Scene) -> None:
    ids = {scene.claimed(scene.message(on_busy=OnBusy.PARALLEL)).message_id for _ in range(12)}
    for message_id in ids:
        scene.let_lease_run_out(message_id)
    results = together(*[partial(scene.store.take_lapsed, limit=100)] * 4)
    assert errors_of(results) == []
    taken = [lapsed.message_id for result in results if isinstance(result, list) for lapsed in result]
    assert sorted(taken) == sorted(ids)
    assert {scene.row(message_id)["tries"] for message_id in ids} == {1}


def test_a_sweep_takes_at_most_so_many_the_oldest_first(scene: Scene) -> None:
    ids = [scene.claimed(scene.message(on_busy=OnBusy.PARALLEL)).message_id for _ in range(3)]
    for age_s, message_id in enumerate(reversed(ids), start=1):
        scene.execute(
            "UPDATE messages SET lease_until = now() - make_interval(secs => :age) WHERE id = :id",
            age=age_s,
            id=message_id,
        )
    assert {lapsed.message_id for lapsed in scene.store.take_lapsed(limit=2)} == {ids[0], ids[1]}


# --- bells ------------------------------------------------------------------------------------------------------


def test_a_message_that_nobody_took_is_rung_for_again_once_in_a_while(scene: Scene) -> None:
    message_id = scene.message()
    assert scene.store.ring_for(limit=10, again_s=60) == [], "its submit rang"
    assert scene.store.ring_for(limit=10, again_s=0) == [message_id]
    assert scene.store.ring_for(limit=10, again_s=60) == []


def test_only_what_could_be_taken_is_rung_for(scene: Scene) -> None:
    lease, waiting = scene.claimed(), scene.message()
    parallel = scene.message(on_busy=OnBusy.PARALLEL)
    cancelled = scene.message(project_id=scene.new_project())
    scene.store.request_cancel(scene.principal, cancelled)
    assert scene.store.ring_for(limit=10, again_s=0) == [parallel]
    scene.finalize(lease)
    assert set(scene.store.ring_for(limit=10, again_s=0)) == {waiting, parallel}


def test_of_several_sweepers_one_rings_for_a_message(scene: Scene) -> None:
    ids = [scene.message(on_busy=OnBusy.PARALLEL) for _ in range(10)]
    scene.execute("UPDATE messages SET rung_at = NULL")
    results = together(*[partial(scene.store.ring_for, limit=100, again_s=60)] * 4)
    assert errors_of(results) == []
    assert sorted(id_ for result in results if isinstance(result, list) for id_ in result) == sorted(ids)


def test_bells_are_as_many_as_there_is_room_for(scene: Scene) -> None:
    ids = [scene.message(on_busy=OnBusy.PARALLEL) for _ in range(4)]
    assert set(scene.store.ring_for(limit=2, again_s=0)) == set(ids[:2])


def test_how_long_somebody_waits_is_told(scene: Scene) -> None:
    assert scene.store.longest_wait_s() == 0
    message_id = scene.message()
    scene.execute("UPDATE messages SET enqueued_at = now() - interval '100 s' WHERE id = :id", id=message_id)
    assert scene.store.longest_wait_s() >= 100
    scene.claimed(message_id)
    assert scene.store.longest_wait_s() == 0


# --- closing ----------------------------------------------------------------------------------------------------


def test_what_was_cancelled_before_pickup_is_to_be_closed(scene: Scene) -> None:
    message_id = scene.message()
    assert _to_close(scene) == []
    scene.store.request_cancel(scene.principal, message_id)
    (found,) = _to_close(scene)
    assert found == scene.store.closing_of(message_id)
    assert (found.message_id, found.attempt, found.content, found.reason) == (message_id, 0, "", CloseReason.CANCEL)


def test_what_is_held_is_closed_by_nobody_else(scene: Scene) -> None:
    lease = scene.claimed()
    scene.store.request_cancel(scene.principal, lease.message_id)
    assert _to_close(scene) == []
    assert scene.store.closing_of(lease.message_id) is None
    assert scene.store.close_message(lease.message_id, Cancelled(content=""), seen_attempt=1) is None


def test_what_lost_its_worker_too_often_is_to_be_closed(scene: Scene) -> None:
    message_id = scene.message()
    for _ in range(MAX_TRIES):
        assert _to_close(scene) == []
        scene.claimed(message_id)
        scene.let_lease_run_out(message_id)
        scene.store.take_lapsed(limit=10)
    assert scene.claim(message_id) is None
    (found,) = _to_close(scene)
    assert (found.reason, found.attempt) == (CloseReason.WORKER_LOST, MAX_TRIES)


def test_a_closing_is_an_attempt_of_its_own_above_the_row_s_and_the_log_s(scene: Scene) -> None:
    message_id = scene.message()
    ending = scene.store.close_message(message_id, Cancelled(content=""), seen_attempt=0, above=6)
    assert ending is not None
    check_trace(ending.events, row=scene.store.message(scene.principal, message_id))
    assert events.peek(ending.events[0]) == ("snapshot", EventId(7, 0))
    row = scene.row(message_id)
    assert (row["attempt"], row["status"], row["last_event_id"]) == (7, "cancelled", "7-1")


def test_a_closing_tells_the_calls_that_were_made(scene: Scene) -> None:
    """The fold of its events is the row, also where calls were decided and never made."""
    lease = scene.claimed()
    calls = (call(lease, 0, 0), call(lease, 0, 1))
    scene.store_round(lease, 0, "I edit.", *calls)
    scene.store.commit_effect(lease, 0, 0, calls[0], scene.append_one(lease))
    scene.store.hand_back(lease)
    scene.store.request_cancel(scene.principal, lease.message_id)
    (found,) = _to_close(scene)
    assert found.content == "I edit."
    ending = scene.store.close_message(found.message_id, Cancelled(content=found.content), seen_attempt=found.attempt)
    assert ending is not None
    shown = scene.store.message(scene.principal, lease.message_id)
    assert [one.tool_call_id for one in shown.tool_calls] == [calls[0].tool_call_id]
    check_trace(ending.events, row=shown)


def test_a_message_that_is_built_is_closed_with_what_it_has_used(scene: Scene) -> None:
    lease = scene.claimed()
    scene.finalize(lease, HandedOver(content="I make it.", job_id=str(uuid.uuid4())), usage=USAGE)
    scene.store.request_cancel(scene.principal, lease.message_id)
    found = scene.store.closing_of(lease.message_id)
    assert found is not None
    ending = scene.store.close_message(found.message_id, Cancelled(content=found.content), seen_attempt=found.attempt)
    assert ending is not None
    shown = scene.store.message(scene.principal, lease.message_id)
    check_trace(ending.events, row=shown)
    assert (shown.content, shown.usage) == ("I make it.", USAGE)
    assert scene.row(lease.message_id)["total_tokens"] == USAGE.total_tokens, "counted once"


def test_of_several_closings_one_is_committed(scene: Scene) -> None:
    message_id = scene.message()
    scene.store.request_cancel(scene.principal, message_id)
    results = together(
        *[partial(scene.store.close_message, message_id, Cancelled(content=""), seen_attempt=0)] * 6,
    )
    assert errors_of(results) == []
    assert sum(isinstance(result, Ending) for result in results) == 1
    assert scene.row(message_id)["attempt"] == 1


def test_a_closing_races_a_claim_and_the_first_commit_wins(scene: Scene) -> None:
    """Whoever comes second finds the row changed: the closing None, the claim nothing to take."""
    for _ in range(8):
        message_id = scene.message(on_busy=OnBusy.PARALLEL)
        claimed, closed = together(
            partial(scene.claim, message_id),
            partial(
                scene.store.close_message,
                message_id,
                Failed(content="", code=ErrorCode.WORKER_LOST),
                seen_attempt=0,
            ),
        )
        assert (isinstance(claimed, Claim), isinstance(closed, Ending)) in ((True, False), (False, True))
        status = scene.row(message_id)["status"]
        assert status == ("pending" if isinstance(claimed, Claim) else "error")


def test_a_closing_does_not_end_what_was_written_since_it_looked(scene: Scene) -> None:
    lease = scene.claimed()
    scene.store.hand_back(lease)
    assert scene.store.close_message(lease.message_id, Cancelled(content=""), seen_attempt=0) is None
    assert scene.row(lease.message_id)["status"] == "pending"
    assert scene.store.close_message(uuid.uuid4(), Cancelled(content=""), seen_attempt=0) is None
    over = scene.ended(on_busy=OnBusy.PARALLEL)
    assert scene.store.close_message(over, Cancelled(content=""), seen_attempt=1) is None


# --- closing, with the log --------------------------------------------------------------------------------------


def _shown(lease_message: uuid.UUID, attempt: int, *texts: str) -> list[Entry]:
    """What a worker showed before it was lost."""
    message_id = str(lease_message)
    made: list[events.StreamEvent] = []
    if attempt > 1:
        made.append(
            Snapshot(
                id=f"{attempt}-0",
                message_id=message_id,
                ts=1,
                content="",
                status="pending",
                tool_calls=(),
                reason="attempt",
            )
        )
    made.append(Status(id=f"{attempt}-{len(made)}", message_id=message_id, ts=1, status="thinking"))
    for text in texts:
        made.append(Delta(id=f"{attempt}-{len(made)}", message_id=message_id, ts=1, content=text))
    return [Entry(EventId.parse(event.id), events.encode(event)) for event in made]


def test_a_closed_message_keeps_the_text_that_its_readers_were_shown(scene: Scene, log: EventLog) -> None:
    """The row knows less: its worker stored nothing yet."""
    lease = scene.claimed()
    log.append(lease.message_id, _shown(lease.message_id, 1, "so ", "far"))
    scene.store.hand_back(lease)
    scene.store.request_cancel(scene.principal, lease.message_id)
    (found,) = _to_close(scene)
    assert closing.close(scene.store, log, found) is not None
    shown = scene.store.message(scene.principal, lease.message_id)
    assert (shown.status, shown.content) == (MessageStatus.CANCELLED, "so far")
    check_trace([entry.payload for entry in log.replay(lease.message_id)], row=shown)
    assert scene.row(lease.message_id)["ending_appended"]


def test_a_retried_message_is_not_closed_with_the_text_of_the_run_before(scene: Scene, log: EventLog) -> None:
    """The log lacks that run's end: it was committed while Redis was away."""
    lease = scene.claimed()
    log.append(lease.message_id, _shown(lease.message_id, 1, "of the run ", "before"))
    scene.finalize(lease, n=4)
    scene.store.retry(scene.principal, lease.message_id, LIMITS)
    scene.store.request_cancel(scene.principal, lease.message_id)
    (found,) = _to_close(scene)
    closing.close(scene.store, log, found)
    shown = scene.store.message(scene.principal, lease.message_id)
    assert (shown.status, shown.content) == (MessageStatus.CANCELLED, "")


def test_a_closing_is_above_a_log_that_knows_a_newer_attempt_than_the_row(scene: Scene, log: EventLog) -> None:
    """A worker's commit was lost by a database that came back without it. Its readers still see ids that rise."""
    lease = scene.claimed()
    log.append(lease.message_id, _shown(lease.message_id, 5, "of a lost commit"))
    scene.store.hand_back(lease)
    scene.store.request_cancel(scene.principal, lease.message_id)
    (found,) = _to_close(scene)
    closing.close(scene.store, log, found)
    shown = scene.store.message(scene.principal, lease.message_id)
    assert (shown.attempt, shown.content) == (6, "")
    check_trace([entry.payload for entry in log.replay(lease.message_id)], row=shown)


def test_a_message_lost_too_often_ends_as_an_error_with_its_text(scene: Scene, log: EventLog) -> None:
    message_id = scene.message()
    for attempt in range(1, MAX_TRIES + 1):
        scene.claimed(message_id)
        log.append(message_id, _shown(message_id, attempt, f"text {attempt}"))
        scene.let_lease_run_out(message_id)
        scene.store.take_lapsed(limit=10)
    (found,) = _to_close(scene)
    closing.close(scene.store, log, found)
    shown = scene.store.message(scene.principal, message_id)
    assert shown.error is not None
    assert (shown.error.code, shown.content) == (ErrorCode.WORKER_LOST, "text 3")
    check_trace([entry.payload for entry in log.replay(message_id)], row=shown)


# --- endings ----------------------------------------------------------------------------------------------------


def test_an_ending_that_nobody_acknowledged_is_found_until_somebody_does(scene: Scene) -> None:
    lease = scene.claimed()
    ending = scene.finalize(lease)
    assert scene.store.endings_to_append(limit=10, older_than_s=3600) == [], "its committer is at it"
    assert scene.store.endings_to_append(limit=10, older_than_s=0) == [ending]
    scene.store.ending_was_appended(lease.message_id, EventId(1, 1))
    assert scene.store.endings_to_append(limit=10, older_than_s=0) == [ending], "another event's acknowledgement"
    scene.store.ending_was_appended(lease.message_id, events.peek(ending.events[-1])[1])
    assert scene.store.endings_to_append(limit=10, older_than_s=0) == []


def test_an_ending_is_appended_after_what_its_worker_had_shown_and_once(scene: Scene, log: EventLog) -> None:
    lease = scene.claimed()
    log.append(lease.message_id, _shown(lease.message_id, 1, "an answer"))
    ending = scene.finalize(lease, Succeeded(content="an answer"), n=2)
    for _ in range(2):
        assert closing.append_ending(scene.store, log, ending)
    check_trace(
        [entry.payload for entry in log.replay(lease.message_id)],
        row=scene.store.message(scene.principal, lease.message_id),
    )
    assert scene.store.endings_to_append(limit=10, older_than_s=0) == []


def test_an_ending_whose_log_is_gone_is_left_to_the_row(scene: Scene, log: EventLog) -> None:
    ending = scene.finalize(scene.claimed(), n=2)
    assert closing.append_ending(scene.store, log, ending)
    assert not log.replay(ending.message_id)
    assert scene.row(ending.message_id)["ending_appended"]


def test_a_reader_s_row_has_the_ending_s_bytes(scene: Scene) -> None:
    lease = scene.claimed()
    ending = scene.finalize(lease)
    pending = scene.message()
    rows = scene.store.reader_rows([lease.message_id, pending, uuid.uuid4()])
    assert set(rows) == {lease.message_id, pending}
    final = rows[lease.message_id]
    assert final.is_final
    assert final.ending == ending.events
    assert final.last_event_id == events.peek(ending.events[-1])[1]
    assert not rows[pending].is_final
    assert (rows[pending].ending, rows[pending].last_event_id, rows[pending].attempt) == ((), None, 0)
    assert scene.store.reader_rows([]) == {}


@pytest.mark.parametrize("asked", ["a reader's row", "a message", "a page"])
def test_a_row_and_its_calls_are_of_one_moment(scene: Scene, asked: str) -> None:
    """Else a snapshot would show a call as made under the id of an event before the call, and tell of it again."""
    lease = scene.claimed()
    effects = [scene.append_one(lease)]

    def commit(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "messages.content" in statement and effects:  # the row has been read, its calls have not
            effect = effects.pop()
            scene.store.commit_effect(lease, 1, 0, call(lease, 1), effect, last_event_id=EventId(1, 9))

    event.listen(scene.engine, "after_cursor_execute", commit)
    if asked == "a reader's row":
        row = scene.store.reader_rows([lease.message_id])[lease.message_id]
        assert (row.last_event_id, row.tool_calls) == (None, ())
    elif asked == "a message":
        assert scene.store.message(scene.principal, lease.message_id).tool_calls == []
    else:
        page, _ = scene.store.messages(scene.principal, scene.project_id, limit=5)
        assert [message.tool_calls for message in page] == [[], []]
    row = scene.store.reader_rows([lease.message_id])[lease.message_id]
    assert (row.last_event_id, len(row.tool_calls)) == (EventId(1, 9), 1)


def test_a_retry_takes_the_old_ending_off_the_list(scene: Scene) -> None:
    """Its readers are led on by the next attempt's snapshot."""
    message_id = scene.ended()
    scene.store.retry(scene.principal, message_id, LIMITS)
    assert scene.store.endings_to_append(limit=10, older_than_s=0) == []
    assert scene.store.reader_rows([message_id])[message_id].ending == ()


def test_an_ending_tells_finalized_last(scene: Scene) -> None:
    last = events.decode(scene.finalize(scene.claimed()).events[-1])
    assert isinstance(last, Finalized)
