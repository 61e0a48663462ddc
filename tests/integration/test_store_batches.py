"""Batches in the store: which messages, each once, whoever is killed when; and that nobody pays or waits for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event

from shared.batches import POISON_AFTER, BatchFilter, SkipReason
from shared.errors import BatchOver, Busy, IdempotencyMismatch, NotFound
from shared.lifecycle import BatchStatus, ErrorCode, ItemState, MessageStatus, OnBusy
from shared.outcomes import Cancelled, Failed, HandedOver, Outcome, Succeeded
from shared.store import Idempotency, StartJob, Store, SubmitLimits
from tests.integration.store_parts import LEASE_S, LIMITS, MAX_TRIES, USAGE, Scene, call, errors_of, together

FAILED = BatchFilter(status=MessageStatus.ERROR)
WINDOW = 1000


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


def failed(scene: Scene, code: ErrorCode = ErrorCode.STREAM_BROKEN, **options: Any) -> UUID:
    return scene.ended(Failed(content="half", code=code), **options)


def failed_apart(scene: Scene, code: ErrorCode = ErrorCode.STREAM_BROKEN) -> UUID:
    """In a project of its own, and so waiting for no other."""
    return failed(scene, code, project_id=scene.new_project())


def started(scene: Scene, wanted: BatchFilter = FAILED, *, rate: float | None = None) -> UUID:
    return scene.store.start_batch(wanted, rate=rate, asked_by="ops")[0].id


def sent(scene: Scene, *, limit: int = 100, window: int = WINDOW) -> list[UUID]:
    """What one step puts back in the queue."""
    step = scene.store.send_batch_items(limit=limit, window=window)
    return [] if step is None else [message.id for message in step.again]


def states(scene: Scene, batch_id: UUID) -> dict[UUID, ItemState]:
    scene.store.note_batches()
    return {item.message_id: item.state for item in scene.store.batch_items(batch_id, limit=200)[0]}


def item(scene: Scene, batch_id: UUID, message_id: UUID) -> Any:
    scene.store.note_batches()
    (found,) = [one for one in scene.store.batch_items(batch_id, limit=200)[0] if one.message_id == message_id]
    return found


# --- what becomes of an item ------------------------------------------------------------------------------------


def test_a_failed_message_goes_on_from_its_last_stored_round_and_is_told_apart(scene: Scene) -> None:
    """What its tools did stays done, under the same keys."""
    lease = scene.claimed()
    scene.store_round(lease, 0, "I edit.", call(lease))
    made = scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease))
    scene.finalize(lease, Failed(content="I edit. And", code=ErrorCode.STREAM_BROKEN))
    batch_id = started(scene)
    assert states(scene, batch_id) == {lease.message_id: ItemState.WAITING}
    assert sent(scene) == [lease.message_id]
    assert states(scene, batch_id) == {lease.message_id: ItemState.SENT}
    claim = scene.claim(lease.message_id, "worker-b")
    assert claim is not None
    assert claim.is_of_a_batch
    assert (claim.lease.run, claim.tries, claim.content) == (1, 0, "I edit.")
    assert [effect.call for effect in claim.effects] == [made.call]
    scene.finalize(claim.lease, Succeeded(content="I edit. Done."))
    assert states(scene, batch_id) == {lease.message_id: ItemState.SUCCEEDED}
    assert scene.document() == {"list": [1]}
    assert scene.store.batch(batch_id).status is BatchStatus.DONE


def test_what_fails_again_is_told_by_its_code(scene: Scene) -> None:
    broken, long, cancelled = failed_apart(scene), failed_apart(scene, ErrorCode.LENGTH), failed_apart(scene)
    batch_id = started(scene)
    sent(scene)
    scene.finalize(scene.claimed(broken), Failed(content="", code=ErrorCode.REFUSAL))
    scene.finalize(scene.claimed(long), Failed(content="", code=ErrorCode.LENGTH))
    scene.finalize(scene.claimed(cancelled), Cancelled(content=""))
    scene.store.note_batches()
    report = scene.store.batch(batch_id)
    assert {(end.state, end.first_code, end.code, end.count) for end in report.ends} == {
        (ItemState.FAILED, "stream_broken", "refusal", 1),
        (ItemState.FAILED, "length", "length", 1),
        (ItemState.FAILED, "stream_broken", "cancelled", 1),
    }
    assert (report.status, report.counts.failed, report.counts.total) == (BatchStatus.DONE, 3, 3)
    assert report.ended_at is not None


def failed_build(scene: Scene) -> UUID:
    """In a project of its own."""
    lease = scene.claimed(scene.message(project_id=scene.new_project()))
    effect = StartJob(name="Ball", effect_description="a ball")
    job_id = scene.store.commit_effect(lease, 1, 0, call(lease), effect).call.job_id
    assert job_id is not None
    scene.finalize(lease, HandedOver(content="", job_id=job_id))
    claim = scene.store.claim_build(lease.message_id, "builder", lease_s=LEASE_S, max_tries=MAX_TRIES)
    assert claim is not None
    scene.finalize(claim.lease, Failed(content="", code=ErrorCode.BUILD_FAILED))
    return lease.message_id


def test_what_waits_in_a_batch_lets_no_figure_of_what_people_wait_for_grow(scene: Scene) -> None:
    """Alerts and the summary tell for how long the oldest waits: a batch's items wait for each other, and that is right."""
    ids = [failed(scene), failed_build(scene)]
    started(scene)
    assert sent(scene) == ids
    told = {one.queue: one.oldest_waiting_ms for one in scene.store.summary().unfinished}
    assert told == {"interactive": None, "builds": None}
    depths = {name: queue.depth for name, queue in scene.store.figures().queues.items()}
    assert depths == {"interactive": 0, "builds": 0, "batch": 1}


def test_a_failed_build_is_the_job_again_and_a_batch_takes_one_builder_at_a_time(scene: Scene) -> None:
    ids = [failed_build(scene) for _ in range(2)]
    batch_id = started(scene)
    assert sent(scene) == ids
    assert scene.store.ring_builders_for(limit=10, again_s=0) == [], "those bells are people's"
    assert scene.store.ring_batch_builders_for(again_s=60) == ids[:1]
    assert scene.store.ring_batch_builders_for(again_s=60) == []
    claim = scene.store.claim_build(ids[0], "builder", lease_s=LEASE_S, max_tries=MAX_TRIES)
    assert claim is not None
    assert scene.store.ring_batch_builders_for(again_s=0) == [], "it is being built"
    scene.finalize(claim.lease, Succeeded(content="Built."))
    assert scene.store.ring_batch_builders_for(again_s=0) == ids[1:]
    assert states(scene, batch_id) == {ids[0]: ItemState.SUCCEEDED, ids[1]: ItemState.SENT}


def test_who_retries_by_hand_takes_the_message_out_of_the_batch(scene: Scene) -> None:
    """Its end in the batch is noted first, though nobody had looked."""
    message_id = failed(scene)
    batch_id = started(scene)
    sent(scene)
    scene.finalize(scene.claimed(message_id), Failed(content="", code=ErrorCode.REFUSAL))
    scene.store.retry(scene.principal, message_id, LIMITS)
    found = item(scene, batch_id, message_id)
    assert (found.state, found.code) == (ItemState.FAILED, "refusal")
    claim = scene.claim(message_id)
    assert claim is not None
    assert not claim.is_of_a_batch


def test_what_changed_while_it_waited_is_left_alone_and_said(scene: Scene) -> None:
    retried, answered, other_end = failed(scene), failed_apart(scene), failed_apart(scene)
    elsewhere = scene.new_project()
    deleted = failed(scene, project_id=elsewhere)
    batch_id = started(scene)
    scene.store.retry(scene.principal, answered, LIMITS)
    scene.finalize(scene.claimed(answered))
    scene.store.retry(scene.principal, other_end, LIMITS)
    scene.finalize(scene.claimed(other_end), Cancelled(content=""))
    scene.store.retry(scene.principal, retried, LIMITS)
    scene.store.delete_project(scene.principal, elsewhere)
    step = scene.store.send_batch_items(limit=10, window=WINDOW)
    assert step is not None
    assert (step.again, step.skipped) == ((), 4)
    reasons = {one.message_id: one.reason for one in scene.store.batch_items(batch_id, limit=10)[0]}
    assert reasons == {
        retried: SkipReason.RUNNING,
        answered: SkipReason.SUCCEEDED,
        other_end: SkipReason.CHANGED,
        deleted: SkipReason.DELETED,
    }
    scene.store.note_batches()
    assert scene.store.batch(batch_id).status is BatchStatus.DONE


def test_what_is_deleted_while_it_runs_does_not_keep_the_batch_open(scene: Scene) -> None:
    message_id = failed(scene)
    batch_id = started(scene)
    sent(scene)
    scene.store.delete_project(scene.principal, scene.project_id)
    found = item(scene, batch_id, message_id)
    assert (found.state, found.reason) == (ItemState.SKIPPED, "deleted")
    assert scene.store.batch(batch_id).status is BatchStatus.DONE


# --- which messages ---------------------------------------------------------------------------------------------


def test_the_filter_says_which_and_a_dry_run_changes_nothing(scene: Scene) -> None:
    elsewhere = scene.new_project()
    broken, length, there = failed(scene), failed(scene, ErrorCode.LENGTH), failed(scene, project_id=elsewhere)
    cancelled, good = scene.ended(Cancelled(content="")), scene.ended()
    scene.execute("UPDATE messages SET updated_at = '2026-01-02T00:00Z' WHERE id = :id", id=there)
    wanted = {
        FAILED: {broken, length, there},
        BatchFilter(status=MessageStatus.CANCELLED): {cancelled},
        BatchFilter(status=MessageStatus.ERROR, code=ErrorCode.LENGTH): {length},
        BatchFilter(status=MessageStatus.ERROR, project=elsewhere): {there},
        BatchFilter(status=MessageStatus.ERROR, model="other"): set(),
    }
    for filter_, ids in wanted.items():
        assert scene.store.explain_batch(filter_).matched == len(ids)
    assert scene.count("batches") == scene.count("batch_items") == 0
    for filter_, ids in wanted.items():
        batch_id = started(scene, filter_)
        assert set(states(scene, batch_id)) == ids
        scene.execute("DELETE FROM batches")
    assert scene.row(good)["status"] == "success"


def test_since_and_until_are_about_when_a_message_ended(scene: Scene) -> None:
    ids = [failed(scene) for _ in range(3)]
    day = datetime(2026, 1, 1, tzinfo=UTC)
    for number, message_id in enumerate(ids):
        scene.execute("UPDATE messages SET updated_at = :at WHERE id = :id", id=message_id, at=day + timedelta(number))
    batch_id = started(
        scene, BatchFilter(status=MessageStatus.ERROR, since=day + timedelta(1), until=day + timedelta(2))
    )
    assert set(states(scene, batch_id)) == {ids[1]}


def test_a_dry_run_says_by_code_and_model_what_matches_and_why_others_do_not(scene: Scene) -> None:
    failed(scene)
    failed(scene)
    in_a_batch, later, running = failed(scene, ErrorCode.LENGTH), failed(scene), scene.message()
    started(scene, BatchFilter(status=MessageStatus.ERROR, code=ErrorCode.LENGTH))
    sent(scene)
    scene.finalize(scene.claimed(in_a_batch), Failed(content="", code=ErrorCode.REFUSAL))
    started(scene, BatchFilter(status=MessageStatus.ERROR, code=ErrorCode.REFUSAL))
    told = scene.store.explain_batch(BatchFilter(status=MessageStatus.ERROR))
    assert told.matched == 3
    assert told.by_code == {"stream_broken": 3}
    assert told.by_model == {"scripted": 3}
    assert told.excluded == {"running": 1, "in_batch": 1}
    other = scene.store.explain_batch(BatchFilter(status=MessageStatus.ERROR, code=ErrorCode.REFUSAL))
    assert (other.matched, other.excluded) == (0, {"running": 1, "in_batch": 1, "other_code": 3})
    assert scene.row(later)["status"] == "error"
    assert scene.row(running)["status"] == "pending"


def test_a_message_is_in_one_unfinished_batch_however_many_are_started_at_once(scene: Scene) -> None:
    ids = {failed(scene) for _ in range(20)}
    results = together(*[partial(started, scene)] * 4)
    assert errors_of(results) == []
    found = [set(states(scene, result)) for result in results if isinstance(result, UUID)]
    assert set.union(*found) == ids
    assert sum(map(len, found)) == len(ids)


def test_the_same_key_answers_the_same_batch(scene: Scene) -> None:
    """Of the same asker, for the same body, however many ask at once."""
    failed(scene)
    key, other = Idempotency(key="k", body_sha256=b"1"), Idempotency(key="k", body_sha256=b"2")

    def start(asked_by: str, idempotency: Idempotency) -> tuple[UUID, int]:
        batch, matched = scene.store.start_batch(FAILED, rate=None, asked_by=asked_by, idempotency=idempotency)
        return batch.id, matched

    results = together(*[partial(start, "ops", key)] * 4)
    assert errors_of(results) == []
    (made,) = set(results)
    assert made == (start("ops", key)[0], 1)
    with pytest.raises(IdempotencyMismatch):
        start("ops", other)
    batch_id, matched = start("somebody else", key)
    assert (batch_id, 1) != made
    assert matched == 0


def test_what_fails_again_and_again_is_set_aside_until_it_is_asked_for(scene: Scene) -> None:
    message_id = failed(scene)
    for number in range(POISON_AFTER):
        batch_id = started(scene)
        assert sent(scene) == [message_id]
        scene.finalize(scene.claimed(message_id), Failed(content="", code=ErrorCode.LENGTH))
        assert item(scene, batch_id, message_id).tries == number + 1
    batch, matched = scene.store.start_batch(FAILED, rate=None, asked_by="ops")
    assert matched == 0
    assert scene.store.explain_batch(FAILED).excluded == {"poison": 1}
    found = item(scene, batch.id, message_id)
    assert (found.state, found.reason, found.first_code) == (ItemState.SKIPPED, "poison", "length")
    assert sent(scene) == []
    started(scene, BatchFilter(status=MessageStatus.ERROR, include_poison=True))
    assert sent(scene) == [message_id]


def test_a_run_that_begins_anew_is_no_poison(scene: Scene) -> None:
    """Only failures of the run that goes on count."""
    message_id = failed(scene)
    for _ in range(POISON_AFTER):
        started(scene)
        sent(scene)
        scene.finalize(scene.claimed(message_id), Failed(content="", code=ErrorCode.LENGTH))
        scene.store.note_batches()
    scene.store.retry(scene.principal, message_id, LIMITS)
    scene.finalize(scene.claimed(message_id))
    scene.store.retry(scene.principal, message_id, LIMITS)
    scene.finalize(scene.claimed(message_id), Failed(content="", code=ErrorCode.LENGTH))
    assert scene.store.explain_batch(FAILED).matched == 1


# --- what is stuck ----------------------------------------------------------------------------------------------


def long_ago(scene: Scene, message_id: UUID) -> None:
    scene.execute(
        "UPDATE messages SET enqueued_at = now() - interval '1 h', updated_at = now() - interval '1 h',"
        " rung_at = now() + interval '1 h' WHERE id = :id",
        id=message_id,
    )


def test_stuck_messages_are_those_whose_turn_it_is_and_that_nobody_took_for_long(scene: Scene) -> None:
    stuck, behind, recent = scene.message(), scene.message(), scene.message(project_id=scene.new_project())
    held = scene.claimed(scene.message(project_id=scene.new_project())).message_id
    for message_id in (stuck, behind, held):
        long_ago(scene, message_id)
    wanted = BatchFilter(status=MessageStatus.PENDING)
    told = scene.store.explain_batch(wanted)
    assert (told.matched, told.excluded) == (1, {"in_line": 1, "recent": 1, "held": 1})
    batch_id = started(scene, wanted)
    step = scene.store.send_batch_items(limit=10, window=WINDOW)
    assert step is not None
    assert [(bell.message_id, bell.builds) for bell in step.bells] == [(stuck, False)]
    row = scene.row(stuck)
    assert (row["batch_id"], row["waits"]) == (None, True), "it stays a person's message, in its place in line"
    scene.finalize(scene.claimed(stuck))
    assert states(scene, batch_id) == {stuck: ItemState.SUCCEEDED}
    assert scene.row(recent)["status"] == "pending"


def test_a_stuck_message_that_fails_and_is_retried_at_once_had_its_end_in_the_batch(scene: Scene) -> None:
    """Though no sweeper came round in between: what somebody's retry comes to is not the batch's."""
    stuck = scene.message()
    long_ago(scene, stuck)
    batch_id = started(scene, BatchFilter(status=MessageStatus.PENDING))
    sent(scene)
    scene.finalize(scene.claimed(stuck), Failed(content="", code=ErrorCode.DEADLINE))
    scene.store.retry(scene.principal, stuck, LIMITS)
    assert states(scene, batch_id) == {stuck: ItemState.FAILED}


def test_what_is_rung_for_in_vain_is_still_stuck_and_does_not_keep_the_batch_open(scene: Scene) -> None:
    message_id = scene.message()
    long_ago(scene, message_id)
    batch_id = started(scene, BatchFilter(status=MessageStatus.PENDING))
    assert scene.store.send_batch_items(limit=10, window=WINDOW) is not None
    assert states(scene, batch_id) == {message_id: ItemState.SENT}
    scene.execute("UPDATE batch_items SET sent_at = now() - interval '1 h'")
    found = item(scene, batch_id, message_id)
    assert (found.state, found.code) == (ItemState.FAILED, "still_stuck")
    assert scene.store.batch(batch_id).status is BatchStatus.DONE


# --- nobody waits for a batch, nor pays for it ------------------------------------------------------------------


def test_nobody_waits_for_what_a_batch_runs_in_the_same_project(scene: Scene) -> None:
    item_id = failed(scene)
    started(scene)
    sent(scene)
    for on_busy in (OnBusy.REJECT, OnBusy.INTERRUPT, OnBusy.QUEUE):
        mine = scene.submit(on_busy=on_busy)
        assert mine.interrupted == ()
        scene.finalize(scene.claimed(mine.assistant_message.id))
    lease = scene.claimed(item_id)
    mine = scene.submit(on_busy=OnBusy.INTERRUPT)
    assert mine.interrupted == (), "who interrupts means what was asked, not what a batch does"
    assert scene.row(item_id)["cancel_requested_at"] is None
    with pytest.raises(Busy):
        scene.submit(on_busy=OnBusy.REJECT)
    scene.finalize(scene.claimed(mine.assistant_message.id))
    scene.finalize(lease)


def test_a_batch_item_waits_for_nobody_in_its_project(scene: Scene) -> None:
    item_id = failed(scene)
    scene.claimed()
    started(scene)
    sent(scene)
    assert scene.claim(item_id) is not None


def test_the_next_in_line_is_a_persons_message(scene: Scene) -> None:
    failed(scene)
    started(scene)
    sent(scene)
    mine = scene.message()
    assert scene.store.next_in_line(scene.project_id) == mine
    scene.execute("UPDATE messages SET rung_at = NULL")
    assert scene.store.ring_for(limit=10, again_s=0) == [mine]
    assert len(scene.store.ring_batches_for(limit=10, again_s=0)) == 1


def test_a_batch_takes_nothing_from_a_persons_limits(scene: Scene) -> None:
    """Neither its unfinished messages nor its tokens count, then or after somebody retried one by hand."""
    ids = [failed_apart(scene) for _ in range(3)]
    scene.execute("UPDATE messages SET total_tokens = 0")
    started(scene)
    assert len(sent(scene)) == 3
    one = SubmitLimits(max_unfinished=1, max_tokens_per_day=USAGE.total_tokens)
    mine = scene.submit(limits=one).assistant_message.id
    scene.store.request_cancel(scene.principal, mine)
    for message_id in ids:
        scene.finalize(scene.claimed(message_id))
    scene.store.retry(scene.principal, ids[0], SubmitLimits(max_unfinished=9, max_tokens_per_day=1))
    assert scene.row(ids[0])["total_tokens"] == 0


def test_a_message_of_a_batch_is_given_to_one_worker_at_a_time(scene: Scene) -> None:
    ids = {failed_apart(scene) for _ in range(3)}
    started(scene)
    sent(scene)
    given = together(*[scene.store.next_of_a_batch] * 5)
    assert sorted(map(str, given), key=str) == sorted([*map(str, ids), "None", "None"], key=str)


# --- one at a time in a project ---------------------------------------------------------------------------------


def test_a_projects_items_are_answered_in_the_order_in_which_they_were_asked_one_at_a_time(scene: Scene) -> None:
    """Whoever is to take them next, and however they end; many projects side by side."""
    elsewhere = scene.new_project()
    here, there = [], []
    for _ in range(3):
        here.append(failed(scene))
        there.append(failed(scene, project_id=elsewhere))
    batch_id = started(scene)
    outcomes: tuple[Outcome, ...] = (
        Succeeded(content=""),
        Failed(content="", code=ErrorCode.REFUSAL),
        Cancelled(content=""),
    )
    for here_id, there_id, outcome in zip(here, there, outcomes, strict=True):
        assert sent(scene) == [here_id, there_id]
        assert sent(scene) == [], "they have not ended"
        given = {scene.store.next_of_a_batch() for _ in range(3)}
        assert given == {here_id, there_id, None}
        lease = scene.claimed(here_id)
        scene.finalize(scene.claimed(there_id))
        assert states(scene, batch_id)[here_id] is ItemState.SENT
        scene.finalize(lease, outcome)
        scene.store.note_batches()
    assert scene.store.batch(batch_id).status is BatchStatus.DONE


def test_a_project_that_is_done_with_one_goes_on_though_another_takes_long(scene: Scene) -> None:
    slow = failed(scene)
    failed(scene)
    elsewhere = scene.new_project()
    quick = [failed(scene, project_id=elsewhere) for _ in range(3)]
    started(scene)
    for number, message_id in enumerate(quick):
        assert sent(scene) == ([slow, message_id] if number == 0 else [message_id])
        scene.finalize(scene.claimed(message_id))
        scene.store.note_batches()
    assert sent(scene) == []


def test_two_batches_do_not_work_in_one_project_at_once(scene: Scene) -> None:
    """And one that must wait keeps no other from its turn."""
    first, second, apart = failed(scene), failed(scene, ErrorCode.LENGTH), failed_apart(scene, ErrorCode.REFUSAL)
    for code in (ErrorCode.STREAM_BROKEN, ErrorCode.LENGTH, ErrorCode.REFUSAL):
        started(scene, BatchFilter(status=MessageStatus.ERROR, code=code))
    assert [sent(scene), sent(scene), sent(scene)] == [[first], [apart], []]
    scene.finalize(scene.claimed(first))
    scene.store.note_batches()
    assert sent(scene) == [second]


def test_a_projects_many_items_keep_no_other_project_from_its_turn(scene: Scene) -> None:
    """Though they are older, and one is sent at a time: projects take turns."""
    many = [failed(scene) for _ in range(4)]
    others = [failed_apart(scene) for _ in range(2)]
    started(scene)
    order = []
    for _ in range(6):
        (message_id,) = sent(scene, limit=1)
        scene.finalize(scene.claimed(message_id))
        scene.store.note_batches()
        order.append(message_id)
    assert set(order[:3]) == {many[0], *others}
    assert order[3:] == many[1:]


def test_a_project_that_stays_locked_keeps_no_other_from_its_turn(scene: Scene) -> None:
    """Though only one may be sent at a time, and its turn may come first."""
    busy, free = failed(scene), failed_apart(scene)
    started(scene)
    with scene.engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT id FROM projects WHERE id = '{scene.project_id}' FOR UPDATE")
        assert sorted(sent(scene, limit=1) for _ in range(3)) == [[], [], [free]]
    assert sent(scene, limit=1) == [busy]


# --- pace, window, pause, stop ----------------------------------------------------------------------------------


def test_the_window_bounds_what_is_unfinished_in_all_batches(scene: Scene) -> None:
    codes = (ErrorCode.LENGTH, ErrorCode.REFUSAL)
    for code in codes:
        for _ in range(4):
            failed_apart(scene, code)
        started(scene, BatchFilter(status=MessageStatus.ERROR, code=code))
    first = sent(scene, limit=2, window=5)
    assert len([*first, *sent(scene, limit=2, window=5), *sent(scene, limit=2, window=5)]) == 5
    assert sent(scene, limit=2, window=5) == []
    scene.finalize(scene.claimed(first[0]))
    scene.store.note_batches()
    assert len(sent(scene, limit=2, window=5)) == 1


def test_batches_take_turns(scene: Scene) -> None:
    for code in (ErrorCode.LENGTH, ErrorCode.REFUSAL):
        for _ in range(2):
            failed_apart(scene, code)
        started(scene, BatchFilter(status=MessageStatus.ERROR, code=code))
    steps = [scene.store.send_batch_items(limit=1, window=WINDOW) for _ in range(4)]
    order = [step.batch_id for step in steps if step is not None]
    assert order[0] == order[2] != order[1] == order[3]


def test_a_rate_is_kept_to_by_the_databases_clock(scene: Scene) -> None:
    """A tenth of a second at 5/s allows none, 3 s after a pause no more than a second's worth."""
    for _ in range(20):
        failed_apart(scene)
    batch_id = started(scene, rate=5.0)

    def let_pass(seconds: float) -> None:
        scene.execute("UPDATE batches SET paced_at = clock_timestamp() - make_interval(secs => :s)", s=seconds)

    let_pass(-10)
    assert sent(scene) == []
    let_pass(0.45)
    assert 2 <= len(sent(scene)) <= 5
    let_pass(-10)
    assert sent(scene) == []
    let_pass(3600)
    assert len(sent(scene)) == 5
    let_pass(-10)
    scene.store.change_batch(batch_id, BatchStatus.PAUSED)
    scene.store.change_batch(batch_id, BatchStatus.RUNNING)
    assert len(sent(scene)) <= 5


def test_a_slow_rate_sends_one_when_its_time_has_come(scene: Scene) -> None:
    for _ in range(3):
        failed_apart(scene)
    started(scene, rate=1 / 60)
    scene.execute("UPDATE batches SET paced_at = clock_timestamp() - interval '59 s'")
    assert sent(scene) == []
    scene.execute("UPDATE batches SET paced_at = clock_timestamp() - interval '61 s'")
    assert len(sent(scene)) == 1
    assert sent(scene) == []


def test_a_paused_batch_sends_nothing_until_it_goes_on(scene: Scene) -> None:
    running, waiting = failed(scene), failed(scene)
    batch_id = started(scene)
    assert sent(scene, limit=1) == [running]
    for _ in range(2):
        assert scene.store.change_batch(batch_id, BatchStatus.PAUSED).status is BatchStatus.PAUSED
    assert sent(scene) == []
    scene.finalize(scene.claimed(running))
    assert states(scene, batch_id) == {running: ItemState.SUCCEEDED, waiting: ItemState.WAITING}
    scene.store.change_batch(batch_id, BatchStatus.RUNNING)
    assert sent(scene) == [waiting]


def test_a_stopped_batch_ends_with_what_was_sent_and_leaves_the_rest_to_another(scene: Scene) -> None:
    running, left = failed(scene), failed(scene)
    batch_id = started(scene)
    sent(scene, limit=1)
    scene.store.change_batch(batch_id, BatchStatus.STOPPED)
    assert states(scene, batch_id) == {running: ItemState.SENT, left: ItemState.SKIPPED}
    assert scene.store.batch(batch_id).ended_at is None
    scene.finalize(scene.claimed(running))
    assert states(scene, batch_id)[running] is ItemState.SUCCEEDED
    report = scene.store.batch(batch_id)
    assert (report.status, report.ended_at is not None) == (BatchStatus.STOPPED, True)
    with pytest.raises(BatchOver):
        scene.store.change_batch(batch_id, BatchStatus.RUNNING)
    with pytest.raises(NotFound):
        scene.store.change_batch(uuid4(), BatchStatus.PAUSED)
    started(scene)
    assert sent(scene) == [left]


# --- who is killed, and who is at it as well --------------------------------------------------------------------


def test_a_step_is_whole_or_did_not_happen_wherever_it_is_cut_off(scene: Scene) -> None:
    """Each statement of it in turn is the last: no message is put back that is not marked, none marked that is not."""
    ids = {failed_apart(scene) for _ in range(3)}
    batch_id = started(scene)

    class Cut(Exception):
        pass

    survived = 0
    while True:
        left = survived

        def count_down(*_: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cut

        event.listen(scene.engine, "before_cursor_execute", count_down)
        try:
            step = scene.store.send_batch_items(limit=10, window=WINDOW)
            break
        except Cut:
            survived += 1
        finally:
            event.remove(scene.engine, "before_cursor_execute", count_down)
        assert set(states(scene, batch_id).values()) == {ItemState.WAITING}
        assert {scene.row(message_id)["status"] for message_id in ids} == {"error"}
    assert step is not None
    assert {message.id for message in step.again} == ids
    assert survived > 5, "it has as many statements"


def test_several_sweepers_at_once_send_every_item_once(scene: Scene) -> None:
    ids = [failed(scene, project_id=scene.new_project()) for _ in range(24)]
    batch_id = started(scene)
    found: list[UUID] = []

    def drive() -> list[UUID]:
        mine: list[UUID] = []
        for _ in range(12):
            scene.store.note_batches()
            mine += sent(scene, limit=3)
        return mine

    for result in together(*[drive] * 4):
        assert isinstance(result, list)
        found += result
    while more := sent(scene, limit=3):
        found += more
    assert sorted(found) == sorted(ids)
    assert set(states(scene, batch_id).values()) == {ItemState.SENT}


def test_a_project_that_somebody_works_on_is_passed_over_and_not_waited_for(scene: Scene) -> None:
    busy, free = failed(scene), failed(scene, project_id=scene.new_project())
    started(scene)
    with scene.engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT id FROM projects WHERE id = '{scene.project_id}' FOR UPDATE")
        assert sent(scene) == [free]
    assert sent(scene) == [busy]


def test_a_batch_without_anything_is_done_at_once(scene: Scene) -> None:
    batch_id = started(scene)
    assert sent(scene) == []
    scene.store.note_batches()
    assert scene.store.batch(batch_id).status is BatchStatus.DONE


def test_operators_are_told_of_the_start_of_progress_and_of_the_end(scene: Scene) -> None:
    message_id = failed(scene)
    batch_id = started(scene)
    (told,) = scene.store.note_batches()
    assert (told.id, told.status, told.counts.waiting) == (batch_id, BatchStatus.RUNNING, 1)
    sent(scene)
    assert scene.store.note_batches() == [], "once a second at most"
    scene.execute("UPDATE batches SET told_at = now() - interval '2 s'")
    assert [batch.counts.sent for batch in scene.store.note_batches()] == [1]
    scene.execute("UPDATE batches SET told_at = now() - interval '2 s'")
    assert scene.store.note_batches() == [], "nothing has changed"
    scene.finalize(scene.claimed(message_id))
    (told,) = scene.store.note_batches()
    assert (told.status, told.counts.succeeded) == (BatchStatus.DONE, 1)
    assert scene.store.note_batches() == []
