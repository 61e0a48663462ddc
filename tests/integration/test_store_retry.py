"""Retries: an error or a cancelled message goes on where it was, a success begins a new run."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import Engine

from shared.errors import NotFinal, NotFound, QuotaExceeded, TooManyUnfinished
from shared.lifecycle import ErrorCode, MemberRole, MessageKind, MessageStatus
from shared.outcomes import Cancelled, Failed, HandedOver, Outcome, Succeeded
from shared.store import StartJob, Store, SubmitLimits
from tests.integration.store_parts import LEASE_S, LIMITS, MAX_TRIES, USAGE, Scene, call, errors_of, together


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


_UNSUCCESSFUL: list[Outcome] = [
    Failed(content="I edit. And then", code=ErrorCode.STREAM_BROKEN),
    Cancelled(content="I e"),
]


@pytest.mark.parametrize("outcome", _UNSUCCESSFUL, ids=["error", "cancelled"])
def test_what_did_not_succeed_goes_on_from_its_last_stored_round(scene: Scene, outcome: Outcome) -> None:
    lease = scene.claimed()
    scene.store_round(lease, 0, "I edit.", call(lease))
    made = scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease))
    scene.finalize(lease, outcome)
    again = scene.store.retry(scene.principal, lease.message_id, LIMITS)
    assert (again.status, again.kind, again.content) == (MessageStatus.PENDING, MessageKind.STATUS, "I edit.")
    assert (again.error, again.usage, again.timing) == (None, None, None)
    claim = scene.claim(lease.message_id, "worker-b")
    assert claim is not None
    assert (claim.lease.run, claim.lease.attempt, claim.tries) == (1, 2, 0)
    assert [stored.text for stored in claim.rounds] == ["I edit."]
    assert [effect.call for effect in claim.effects] == [made.call]
    assert claim.content == "I edit."


def test_several_stored_rounds_are_told_with_a_blank_line_between_their_texts(scene: Scene) -> None:
    lease = scene.claimed()
    scene.store_round(lease, 0, "First.", call(lease, 0))
    scene.store_round(lease, 1, "", call(lease, 1))
    scene.store_round(lease, 2, "Third.", call(lease, 2))
    scene.finalize(lease, Failed(content="First.\n\nThird.", code=ErrorCode.DEADLINE))
    assert scene.store.retry(scene.principal, lease.message_id, LIMITS).content == "First.\n\nThird."


def test_a_success_begins_a_new_run_and_undoes_nothing(scene: Scene) -> None:
    lease = scene.claimed()
    scene.store_round(lease, 0, "I edit.", call(lease))
    scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease))
    scene.finalize(lease, Succeeded(content="I edit."))
    again = scene.store.retry(scene.principal, lease.message_id, LIMITS)
    assert (again.status, again.content, again.tool_calls) == (MessageStatus.PENDING, "", [])
    claim = scene.claim(lease.message_id, "worker-b")
    assert claim is not None
    assert (claim.lease.run, claim.lease.attempt, claim.rounds, claim.effects) == (2, 2, (), ())
    assert scene.document() == {"list": [1]}
    scene.store.commit_effect(claim.lease, 0, 0, call(claim.lease), scene.append_one(claim.lease, 2))
    assert scene.document() == {"list": [1, 2]}, "another run's call is another call"
    scene.finalize(claim.lease)
    shown = scene.store.message(scene.principal, lease.message_id)
    assert [one.tool_call_id for one in shown.tool_calls] == [call(claim.lease).tool_call_id]


def test_a_retry_has_all_its_tries_again(scene: Scene) -> None:
    message_id = scene.message()
    for _ in range(MAX_TRIES):
        scene.claimed(message_id)
        scene.let_lease_run_out(message_id)
        scene.store.take_lapsed(limit=10)
    scene.store.close_message(message_id, Failed(content="", code=ErrorCode.WORKER_LOST), seen_attempt=MAX_TRIES)
    scene.store.retry(scene.principal, message_id, LIMITS)
    assert scene.claim(message_id) is not None


def test_a_retry_of_what_was_cancelled_is_cancelled_no_more(scene: Scene) -> None:
    lease = scene.claimed()
    scene.store.request_cancel(scene.principal, lease.message_id)
    scene.finalize(lease, Cancelled(content=""))
    scene.store.retry(scene.principal, lease.message_id, LIMITS)
    assert scene.claim(lease.message_id) is not None


def test_a_retry_goes_to_the_end_of_the_queue(scene: Scene) -> None:
    first = scene.ended()
    waiting = scene.message()
    scene.store.retry(scene.principal, first, LIMITS)
    assert scene.claim(first) is None
    scene.finalize(scene.claimed(waiting))
    assert scene.claim(first) is not None


def test_its_time_is_counted_from_the_retry(scene: Scene) -> None:
    message_id = scene.ended()
    scene.execute(
        "UPDATE messages SET enqueued_at = now() - interval '1 h', claimed_at = now() - interval '1 h' WHERE id = :id",
        id=message_id,
    )
    scene.store.retry(scene.principal, message_id, LIMITS)
    claim = scene.claim(message_id)
    assert claim is not None
    assert claim.run_age_s < 1800
    assert claim.enqueued_age_s < 1800
    assert claim.first_token_ms is None


def test_what_is_not_final_is_not_retried(scene: Scene) -> None:
    message_id = scene.message()
    with pytest.raises(NotFinal):
        scene.store.retry(scene.principal, message_id, LIMITS)
    scene.claimed(message_id)
    with pytest.raises(NotFinal):
        scene.store.retry(scene.principal, message_id, LIMITS)


def test_a_user_s_own_message_is_not_retried(scene: Scene) -> None:
    with pytest.raises(NotFound):
        scene.store.retry(scene.principal, scene.submit().user_message.id, LIMITS)


def test_a_retry_counts_among_the_unfinished(scene: Scene) -> None:
    done = scene.ended()
    scene.message()
    with pytest.raises(TooManyUnfinished):
        scene.store.retry(scene.principal, done, SubmitLimits(max_unfinished=1, max_tokens_per_day=None))
    assert scene.row(done)["status"] == "success"


def test_of_several_retries_at_once_one_is_taken(scene: Scene) -> None:
    done = scene.ended()
    results = together(*[partial(scene.store.retry, scene.principal, done, LIMITS)] * 5)
    assert errors_of(results) == [NotFinal] * 4
    assert scene.row(done)["run"] == 2


def test_a_retry_counts_for_whoever_asked_for_it(scene: Scene) -> None:
    """Else an editor has no limit at others' messages, and they have none left for their own."""
    boris = scene.newcomer()
    scene.store.put_member(scene.principal, scene.project_id, boris.user, MemberRole.EDITOR, max_members=2)
    first, second, third = (scene.ended() for _ in range(3))
    two = SubmitLimits(max_unfinished=2, max_tokens_per_day=None)
    scene.store.retry(boris, first, two)
    scene.store.retry(boris, second, two)
    with pytest.raises(TooManyUnfinished):
        scene.store.retry(boris, third, two)
    scene.submit(limits=two)


def test_the_tokens_of_a_retry_are_of_the_day_on_which_it_was_asked_for(scene: Scene) -> None:
    """Neither is a former day's message free for ever, nor are its former tokens paid for again."""
    message_id = scene.ended()
    scene.execute(
        "UPDATE messages SET created_at = created_at - interval '2 d', enqueued_at = enqueued_at - interval '2 d'"
    )
    today = SubmitLimits(max_unfinished=20, max_tokens_per_day=13)
    for _ in range(2):
        scene.store.retry(scene.principal, message_id, today)
        scene.finalize(scene.claimed(message_id))
    with pytest.raises(QuotaExceeded):
        scene.store.retry(scene.principal, message_id, today)
    with pytest.raises(QuotaExceeded):
        scene.submit(limits=today)


@pytest.mark.parametrize("days", [0, 2])
def test_a_cancel_of_what_is_retried_gives_no_token_back(scene: Scene, days: int) -> None:
    """The stored rounds were paid for, on the day that is over or today."""
    lease = scene.claimed()
    scene.store_round(lease, 1, "First.")
    scene.finalize(lease, Failed(content="First.", code=ErrorCode.STREAM_BROKEN))
    scene.execute("UPDATE messages SET enqueued_at = enqueued_at - make_interval(days => :days)", days=days)
    scene.store.retry(scene.principal, lease.message_id, LIMITS)
    scene.store.request_cancel(scene.principal, lease.message_id)
    found = scene.store.closing_of(lease.message_id)
    assert found is not None
    scene.store.close_message(found.message_id, Cancelled(content="First."), seen_attempt=found.attempt)
    assert scene.row(lease.message_id)["total_tokens"] == (0 if days else USAGE.total_tokens)
    assert scene.store.message(scene.principal, lease.message_id).usage == USAGE


def test_a_build_that_is_tried_again_tells_how_long_it_waited(scene: Scene) -> None:
    lease = scene.claimed()
    started = scene.store.commit_effect(lease, 1, 0, call(lease), StartJob(name="Ball", effect_description="a ball"))
    job_id = started.call.job_id
    assert job_id is not None
    scene.finalize(lease, HandedOver(content="I build it.", job_id=job_id))
    for _ in range(2):
        claim = scene.store.claim_build(lease.message_id, "builder", lease_s=LEASE_S, max_tries=MAX_TRIES)
        assert claim is not None
        scene.finalize(claim.lease, Failed(content="I build it.", code=ErrorCode.BUILD_FAILED))
        timing = scene.store.message(scene.principal, lease.message_id).timing
        assert timing is not None
        assert timing.queued_ms is not None
        scene.store.retry(scene.principal, lease.message_id, LIMITS)
