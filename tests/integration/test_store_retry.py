"""Retries: an error or a cancelled message goes on where it was, a success begins a new run."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import Engine

from shared.errors import NotFinal, NotFound, TooManyUnfinished
from shared.lifecycle import ErrorCode, MessageKind, MessageStatus
from shared.outcomes import Cancelled, Failed, Outcome, Succeeded
from shared.store import Store, SubmitLimits
from tests.integration.store_parts import LIMITS, MAX_TRIES, Scene, call, errors_of, together


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
