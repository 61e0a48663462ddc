"""A worker's writes: taken once, fenced by the attempt, effects made once, an end that can be repeated."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import msgspec
import pytest
from sqlalchemy import Engine, text

from shared import events
from shared.errors import Fenced
from shared.events import EventId, Finalized
from shared.lifecycle import MOVES, ErrorCode, MessageKind, MessageStatus, OnBusy, Role
from shared.outcomes import Cancelled, Failed, HandedOver, Outcome, Succeeded
from shared.records import Claim, Lease, ToolEffect
from shared.store import EditDocument, Store, Told, turn_statements
from tests.integration.store_parts import (
    LEASE_S,
    LIMITS,
    MAX_TRIES,
    PATCH_LIMITS,
    USAGE,
    Scene,
    call,
    errors_of,
    together,
    waiting_for_a_lock,
)


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


# --- the claim --------------------------------------------------------------------------------------------------


def test_a_claim_takes_the_message_under_the_next_attempt(scene: Scene) -> None:
    message_id = scene.message()
    claim = scene.claim(message_id)
    assert claim is not None
    assert (claim.lease.attempt, claim.lease.run, claim.tries) == (1, 1, 0)
    assert (claim.rounds, claim.effects, claim.content, claim.model) == ((), (), "", "scripted")
    assert 0 <= claim.run_age_s <= claim.enqueued_age_s
    row = scene.row(message_id)
    assert (row["attempt"], row["lease_owner"], row["status"]) == (1, "worker-a", "pending")


@pytest.mark.parametrize("on_busy", [OnBusy.QUEUE, OnBusy.PARALLEL])
def test_who_is_put_in_front_while_a_claim_waits_for_the_row_goes_first(scene: Scene, on_busy: OnBusy) -> None:
    """But for a message that waits for nobody. The claim's look at the queue is older than the row that it gets."""
    message_id, newcomer = scene.message(on_busy=on_busy), scene.message()
    with ThreadPoolExecutor(1) as pool:
        with scene.engine.begin() as connection:
            for id_, number in ((newcomer, 0), (message_id, 2)):
                connection.execute(
                    text("UPDATE messages SET queue_number = :number WHERE id = :id"), {"id": id_, "number": number}
                )
            claim = pool.submit(scene.claim, message_id)
            while not waiting_for_a_lock(scene.engine):
                assert not claim.done()
        assert (claim.result() is None) == (on_busy is OnBusy.QUEUE)
    scene.claimed(newcomer)


def test_a_claim_whose_rounds_cannot_be_read_gives_the_message_up_at_the_cost_of_a_try(scene: Scene) -> None:
    lease = scene.claimed()
    scene.store_round(lease, 1, "text")
    scene.store.hand_back(lease)
    scene.execute("UPDATE rounds SET calls = '[7]' WHERE message_id = :message", message=lease.message_id)
    with pytest.raises(msgspec.ValidationError):
        scene.claim(lease.message_id)
    row = scene.row(lease.message_id)
    assert (row["lease_owner"], row["tries"], row["attempt"]) == (None, 1, 2)


def test_what_is_held_is_not_taken_again(scene: Scene) -> None:
    lease = scene.claimed()
    assert scene.claim(lease.message_id, "worker-b") is None
    assert scene.claim(lease.message_id, "worker-a-2") is None, "a bell rung twice"


def test_what_is_over_or_not_there_is_not_taken(scene: Scene) -> None:
    assert scene.claim(scene.ended()) is None
    assert scene.claim(uuid.uuid4()) is None
    assert scene.claim(scene.submit().user_message.id) is None


def test_of_many_that_claim_at_once_one_gets_it(scene: Scene) -> None:
    for _ in range(5):
        message_id = scene.message(on_busy=OnBusy.PARALLEL)
        results = together(*[partial(scene.claim, message_id, f"worker-{number}") for number in range(8)])
        assert errors_of(results) == []
        claims = [claim for claim in results if isinstance(claim, Claim)]
        assert [claim.lease.attempt for claim in claims] == [1]
        assert scene.row(message_id)["lease_owner"] == claims[0].lease.owner


def test_of_many_queued_messages_claimed_at_once_only_the_first_is_taken(scene: Scene) -> None:
    ids = [scene.message() for _ in range(6)]
    results = together(*[partial(scene.claim, id_, f"worker-{number}") for number, id_ in enumerate(ids)])
    taken = [claim.lease.message_id for claim in results if isinstance(claim, Claim)]
    assert taken == [ids[0]]


def test_a_lease_that_ran_out_is_still_nobody_s_to_claim(scene: Scene) -> None:
    """The sweeper takes it first, and counts the try."""
    lease = scene.claimed()
    scene.let_lease_run_out(lease.message_id)
    assert scene.claim(lease.message_id, "worker-b") is None


def test_a_message_without_tries_left_is_not_taken(scene: Scene) -> None:
    message_id = scene.message()
    scene.execute("UPDATE messages SET tries = :tries WHERE id = :id", tries=MAX_TRIES, id=message_id)
    assert scene.claim(message_id) is None


# --- the lease --------------------------------------------------------------------------------------------------


def test_a_renewal_prolongs_what_the_owner_holds_and_says_what_is_lost(scene: Scene) -> None:
    mine, other = scene.claimed(), scene.claimed(scene.message(on_busy=OnBusy.PARALLEL), "worker-b")
    gone = scene.claimed(scene.message(on_busy=OnBusy.PARALLEL), "worker-a-2")
    scene.store.hand_back(gone)
    before = scene.row(mine.message_id)["lease_until"], scene.row(other.message_id)["lease_until"]
    renewed = scene.store.renew_leases([mine.owner, gone.owner], lease_s=LEASE_S * 2)
    assert {owner: leased.attempt for owner, leased in renewed.items()} == {mine.owner: 1}
    assert scene.row(mine.message_id)["lease_until"] > before[0]
    assert scene.row(other.message_id)["lease_until"] == before[1]


def test_a_renewal_of_nothing_is_fine(scene: Scene) -> None:
    assert scene.store.renew_leases([], lease_s=10) == {}


def test_what_is_handed_back_costs_no_try_and_can_be_taken_at_once(scene: Scene) -> None:
    lease = scene.claimed()
    scene.store.hand_back(lease)
    assert scene.store.ring_for(limit=10, again_s=3600) == [lease.message_id]
    claim = scene.claim(lease.message_id, "worker-b")
    assert claim is not None
    assert (claim.lease.attempt, claim.tries) == (2, 0)


def test_a_new_attempt_is_above_the_row_s_and_the_log_s(scene: Scene) -> None:
    lease = scene.claimed()
    lease = scene.store.begin_attempt(lease)
    assert lease.attempt == 2
    lease = scene.store.begin_attempt(lease, above=7)
    assert lease.attempt == 8
    lease = scene.store.begin_attempt(lease, above=3, tries=1)
    row = scene.row(lease.message_id)
    assert (lease.attempt, row["attempt"], row["tries"], row["lease_owner"]) == (9, 9, 1, "worker-a")


def test_failed_tries_are_counted_once_however_often_they_are_told(scene: Scene) -> None:
    lease = scene.claimed()
    for tries in (1, 1, 2, 2):
        scene.store.count_tries(lease, tries)
        assert scene.row(lease.message_id)["tries"] == tries


def test_a_claim_whose_answer_was_lost_is_answered_again_with_its_attempt(scene: Scene) -> None:
    """The same claim finds what it took; another one finds nothing to take."""
    first = scene.claim(scene.message(), "worker-a-1")
    assert first is not None
    message_id = first.lease.message_id
    again = scene.claim(message_id, "worker-a-1")
    assert again is not None
    assert (again.lease, again.tries) == (first.lease, first.tries)
    assert scene.claim(message_id, "worker-a-2") is None
    scene.finalize(first.lease)
    assert scene.claim(message_id, "worker-a-1") is None, "it has ended"


@pytest.mark.parametrize("above", [0, 4])
def test_an_attempt_whose_answer_was_lost_is_answered_again(scene: Scene, above: int) -> None:
    """It costs one attempt and one try, and what carries the attempt before is refused."""
    lease = scene.claimed()
    began = scene.store.begin_attempt(lease, above=above, tries=1)
    assert scene.store.begin_attempt(lease, above=above, tries=1) == began
    row = scene.row(lease.message_id)
    assert (row["attempt"], row["tries"]) == (began.attempt, 1)
    with pytest.raises(Fenced):
        scene.store.count_tries(lease, 2)
    assert scene.store.begin_attempt(lease, above=began.attempt).attempt == began.attempt + 1


# --- the fence --------------------------------------------------------------------------------------------------

_Write = Callable[[Scene, Lease], object]
_WRITES: dict[str, _Write] = {
    "begin_attempt": lambda scene, lease: scene.store.begin_attempt(lease),
    "count_tries": lambda scene, lease: scene.store.count_tries(lease, 1),
    "hand_back": lambda scene, lease: scene.store.hand_back(lease),
    "store_round": lambda scene, lease: scene.store_round(lease, 0, "late", call(lease)),
    "commit_effect": lambda scene, lease: scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease)),
    "commit_effect of nothing": lambda scene, lease: scene.store.commit_effect(
        lease, 0, 0, call(lease), Told(succeeded=True, result="late")
    ),
    "finalize": lambda scene, lease: scene.finalize(lease, Succeeded(content="late")),
    "finalize cancelled": lambda scene, lease: scene.finalize(lease, Cancelled(content="late")),
    "finalize building": lambda scene, lease: scene.finalize(
        lease, HandedOver(content="late", job_id=str(uuid.uuid4()))
    ),
}


def _taken_by_another(scene: Scene, lease: Lease) -> None:
    scene.let_lease_run_out(lease.message_id)
    scene.store.take_lapsed(limit=10)
    scene.claimed(lease.message_id, "worker-b")


def _taken_by_the_same_process_again(scene: Scene, lease: Lease) -> None:
    scene.store.hand_back(lease)
    scene.claimed(lease.message_id, f"{lease.owner}-2")


def _lapsed_and_taken_away(scene: Scene, lease: Lease) -> None:
    scene.let_lease_run_out(lease.message_id)
    scene.store.take_lapsed(limit=10)


def _closed(scene: Scene, lease: Lease) -> None:
    _lapsed_and_taken_away(scene, lease)
    closed = scene.store.close_message(lease.message_id, Cancelled(content="x"), seen_attempt=lease.attempt)
    assert closed is not None


def _ended_by_another_and_retried(scene: Scene, lease: Lease) -> None:
    _closed(scene, lease)
    scene.store.retry(scene.principal, lease.message_id, LIMITS)


def _renewed_by_itself(scene: Scene, lease: Lease) -> None:
    scene.store.begin_attempt(lease, above=3)


def _project_deleted(scene: Scene, lease: Lease) -> None:
    scene.store.delete_project(scene.principal, lease.project_id)


_LOSSES: dict[str, Callable[[Scene, Lease], None]] = {
    "another worker took it": _taken_by_another,
    "its own process took it again": _taken_by_the_same_process_again,
    "the sweeper took the lease": _lapsed_and_taken_away,
    "it was closed": _closed,
    "it was closed and retried": _ended_by_another_and_retried,
    "it began a newer attempt itself": _renewed_by_itself,
}


_SAFE_TO_REPEAT: Final = [("begin_attempt", "it began a newer attempt itself")]
"""What is no stale write, but the same one again."""


@pytest.mark.parametrize(
    ("write", "lose"),
    [(write, lose) for write in _WRITES for lose in _LOSSES if (write, lose) not in _SAFE_TO_REPEAT],
)
def test_a_stale_worker_changes_nothing(scene: Scene, write: str, lose: str) -> None:
    lease = scene.claimed()
    _LOSSES[lose](scene, lease)
    row, document = scene.row(lease.message_id), scene.document()
    with pytest.raises(Fenced):
        _WRITES[write](scene, lease)
    assert scene.row(lease.message_id) == row
    assert scene.document() == document
    assert (scene.count("rounds"), scene.count("tool_ledger"), scene.count("document_versions")) == (0, 0, 0)


@pytest.mark.parametrize("name", [name for name in _WRITES if name not in ("store_round", "commit_effect")])
def test_a_worker_of_a_deleted_project_is_fenced(scene: Scene, name: str) -> None:
    lease = scene.claimed()
    _project_deleted(scene, lease)
    with pytest.raises(Fenced):
        _WRITES[name](scene, lease)
    with pytest.raises(Fenced):
        scene.store.context(lease, max_tokens=100)


def test_a_zombie_s_renewal_brings_its_lease_not_back(scene: Scene) -> None:
    lease = scene.claimed()
    _taken_by_another(scene, lease)
    assert scene.store.renew_leases([lease.owner], lease_s=100) == {}
    assert scene.row(lease.message_id)["lease_owner"] == "worker-b"


# --- rounds -----------------------------------------------------------------------------------------------------


def test_a_later_attempt_gets_the_stored_rounds_and_what_was_made(scene: Scene) -> None:
    lease = scene.claimed()
    calls = (call(lease, 0, 0), call(lease, 0, 1))
    scene.store_round(lease, 0, "I edit.", *calls)
    effect = scene.store.commit_effect(lease, 0, 0, calls[0], scene.append_one(lease))
    _lapsed_and_taken_away(scene, lease)
    claim = scene.claim(lease.message_id, "worker-b")
    assert claim is not None
    assert (claim.lease.attempt, claim.tries, claim.content, claim.first_token_ms) == (2, 1, "I edit.", 4)
    (round_,) = claim.rounds
    assert (round_.text, round_.calls, round_.usage, round_.document_version) == ("I edit.", calls, USAGE, 1)
    assert claim.effects == (msgspec.structs.replace(effect, change=None),)


def test_a_round_may_be_stored_twice_under_the_same_lease(scene: Scene) -> None:
    """The answer to the first was lost."""
    lease = scene.claimed()
    for _ in range(2):
        scene.store_round(lease, 0, "once", call(lease))
    assert scene.count("rounds") == 1


def test_an_unfinished_message_shows_its_calls_that_were_not_made_yet_as_started(scene: Scene) -> None:
    lease = scene.claimed()
    calls = (call(lease, 0, 0), call(lease, 0, 1))
    scene.store_round(lease, 0, "I edit.", *calls)
    effect = scene.store.commit_effect(lease, 0, 0, calls[0], scene.append_one(lease))
    shown = scene.store.message(scene.principal, lease.message_id)
    assert [(one.tool_call_id, one.state, one.version) for one in shown.tool_calls] == [
        (calls[0].tool_call_id, "succeeded", 2),
        (calls[1].tool_call_id, "started", None),
    ]
    reader = scene.store.reader_rows([lease.message_id])[lease.message_id]
    assert list(reader.tool_calls) == [effect.call]  # a snapshot shows what was made
    assert (reader.content, reader.last_event_id) == ("I edit.", EventId(1, 1))
    scene.finalize(lease, Cancelled(content="I edit."))
    final = scene.store.message(scene.principal, lease.message_id)
    assert [one.tool_call_id for one in final.tool_calls] == [calls[0].tool_call_id]


# --- effects ----------------------------------------------------------------------------------------------------


def test_an_effect_its_ledger_row_and_the_document_s_version_are_there_together(scene: Scene) -> None:
    lease = scene.claimed()
    made = scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease, "x"))
    assert made.call.state == "succeeded"
    assert (made.call.final_content, made.call.version) == ("Appended.", 2)
    assert made.change is not None
    assert (made.change.version, made.change.message_id) == (2, lease.message_id)
    assert scene.document() == {"list": ["x"]}
    (version,), _ = scene.store.versions(scene.principal, scene.project_id, limit=5)
    assert (version.version, version.message_id) == (2, lease.message_id)
    assert version.inverse == [{"op": "remove", "path": "/list/0"}]


def test_a_call_that_comes_twice_has_its_effect_once(scene: Scene) -> None:
    """Also under a later attempt: the answer is what the ledger has."""
    lease = scene.claimed()
    effect = scene.append_one(lease)
    first = scene.store.commit_effect(lease, 0, 0, call(lease), effect)
    again = scene.store.commit_effect(lease, 0, 0, call(lease), effect)
    scene.store.hand_back(lease)
    other = scene.claimed(lease.message_id, "worker-b")
    later = scene.store.commit_effect(other, 0, 0, call(lease), effect)
    assert again == later == msgspec.structs.replace(first, change=None)
    assert scene.document() == {"list": [1]}
    assert scene.count("document_versions") == 1


def test_a_call_that_comes_many_times_at_once_has_its_effect_once(scene: Scene) -> None:
    lease = scene.claimed()
    effect = scene.append_one(lease)
    results = together(*[partial(scene.store.commit_effect, lease, 0, 0, call(lease), effect)] * 6)
    assert errors_of(results) == []
    made = [result for result in results if isinstance(result, ToolEffect)]
    assert sum(result.change is not None for result in made) == 1
    assert len({msgspec.json.encode(result.call) for result in made}) == 1
    assert scene.document() == {"list": [1]}


def test_of_a_zombie_and_the_worker_after_it_one_has_the_effect(scene: Scene) -> None:
    for _ in range(4):
        lease = scene.claimed(scene.message(on_busy=OnBusy.PARALLEL))
        length = len(scene.document()["list"])
        _lapsed_and_taken_away(scene, lease)
        other = scene.claimed(lease.message_id, "worker-b")
        effect = scene.append_one(lease)
        results = together(
            partial(scene.store.commit_effect, lease, 0, 0, call(lease), effect),
            partial(scene.store.commit_effect, other, 0, 0, call(lease), effect),
        )
        assert isinstance(results[0], Fenced)
        assert isinstance(results[1], ToolEffect)
        assert len(scene.document()["list"]) == length + 1


def test_an_effect_races_the_sweeper_and_either_wins_whole(scene: Scene) -> None:
    for _ in range(6):
        lease = scene.claimed(scene.message(on_busy=OnBusy.PARALLEL))
        length = len(scene.document()["list"])
        scene.let_lease_run_out(lease.message_id)
        results = together(
            partial(scene.store.commit_effect, lease, 0, 0, call(lease), scene.append_one(lease)),
            partial(scene.store.take_lapsed, limit=10),
        )
        grown = len(scene.document()["list"]) - length
        assert grown == (0 if isinstance(results[0], Fenced) else 1)
        scene.store.take_lapsed(limit=10)
        claim = scene.claim(lease.message_id, "worker-b")
        assert claim is not None
        assert len(claim.effects) == grown
        scene.finalize(claim.lease)


def test_a_document_that_others_changed_is_not_edited_and_is_shown(scene: Scene) -> None:
    lease = scene.claimed()
    effect = scene.append_one(lease)
    scene.store.patch_document(
        scene.principal, scene.project_id, [{"op": "add", "path": "/theirs", "value": "é"}], PATCH_LIMITS
    )
    made = scene.store.commit_effect(lease, 0, 0, call(lease), effect)
    assert made.call.state == "failed"
    assert made.change is None
    assert made.call.version is None
    told = msgspec.json.decode(made.result)
    assert (told["applied"], told["version"], told["document"]) == (False, 2, {"list": [], "theirs": "é"})
    assert scene.document() == {"list": [], "theirs": "é"}
    again = scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease))
    assert again.call.state == "failed", "a call's result does not change"


def test_a_patch_that_does_not_apply_is_told_to_the_model_and_changes_nothing(scene: Scene) -> None:
    lease = scene.claimed()
    effect = EditDocument(
        operations=[{"op": "add", "path": "/list/-", "value": 1}, {"op": "remove", "path": "/nowhere"}],
        words="",
        expected_version=1,
        limits=PATCH_LIMITS,
    )
    made = scene.store.commit_effect(lease, 0, 0, call(lease), effect)
    assert (made.call.state, made.change) == ("failed", None)
    assert made.call.error is not None
    assert "operation 1" in made.call.error
    assert "operation 1" in made.result
    assert scene.document() == {"list": []}
    assert scene.count("tool_ledger") == 1


def test_a_patch_that_breaks_the_schema_is_told_to_the_model_and_changes_nothing(scene: Scene) -> None:
    schema = {"properties": {"list": {"items": {"type": "string"}}}}
    lease = scene.claimed(scene.message(project_id=scene.new_project(schema=schema)))
    made = scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease, 1))
    assert (made.call.state, made.change) == ("failed", None)
    assert "/list/0" in made.result
    assert scene.document(lease.project_id) == {"list": []}


def test_a_third_party_s_effect_is_noted_as_it_is_told(scene: Scene) -> None:
    lease = scene.claimed()
    made = scene.store.commit_effect(
        lease, 0, 0, call(lease), Told(succeeded=False, result="to the model", error="to the reader")
    )
    assert (made.result, made.call.error, made.call.state) == ("to the model", "to the reader", "failed")


# --- the end ----------------------------------------------------------------------------------------------------

_ENDS: dict[str, tuple[Outcome, MessageStatus, MessageKind]] = {
    "success": (Succeeded(content="done"), MessageStatus.SUCCESS, MessageKind.TEXT),
    "success by a tool": (
        Succeeded(content="done", kind=MessageKind.TOOL_RESULT),
        MessageStatus.SUCCESS,
        MessageKind.TOOL_RESULT,
    ),
    "error": (Failed(content="so far", code=ErrorCode.LENGTH), MessageStatus.ERROR, MessageKind.ERROR),
    "cancelled": (Cancelled(content="so far"), MessageStatus.CANCELLED, MessageKind.TEXT),
    "cancelled before any text": (Cancelled(content=""), MessageStatus.CANCELLED, MessageKind.STATUS),
    "building": (
        HandedOver(content="I make it.", job_id="0198c2a4-6f3e-7c11-9b1a-5d0c3c1f2e77"),
        MessageStatus.BUILDING,
        MessageKind.TOOL_RESULT,
    ),
}


@pytest.mark.parametrize(("outcome", "status", "kind"), _ENDS.values(), ids=_ENDS.keys())
def test_an_end_is_in_the_row_with_the_events_that_tell_it(
    scene: Scene, outcome: Outcome, status: MessageStatus, kind: MessageKind
) -> None:
    lease = scene.claimed()
    ending = scene.finalize(lease, outcome, n=4)
    shown, row = scene.store.message(scene.principal, lease.message_id), scene.row(lease.message_id)
    assert (shown.status, shown.kind, shown.content) == (status, kind, outcome.content)
    assert (shown.error and shown.error.code) == (outcome.code if isinstance(outcome, Failed) else None)
    assert shown.usage == USAGE
    assert (row["lease_owner"], row["lease_until"], row["ending_appended"]) == (None, None, False)
    assert tuple(map(bytes, row["ending"])) == ending.events
    last = events.decode(ending.events[-1])
    assert isinstance(last, Finalized)
    assert (last.status, last.id, last.usage, last.timing) == (
        status.value,
        row["last_event_id"],
        shown.usage,
        shown.timing,
    )
    assert str(events.peek(ending.events[0])[1]) == "1-4"
    assert shown.timing is not None
    assert shown.timing.first_token_ms == 5


def test_a_handed_over_message_names_its_job(scene: Scene) -> None:
    lease, job_id = scene.claimed(), str(uuid.uuid4())
    ending = scene.finalize(lease, HandedOver(content="", job_id=job_id))
    last = events.decode(ending.events[-1])
    assert isinstance(last, Finalized)
    assert last.job_id == job_id
    assert str(scene.store.message(scene.principal, lease.message_id).job_id) == job_id


def test_a_repeated_end_answers_the_same_bytes(scene: Scene) -> None:
    """The answer to the first commit was lost; whatever is asked for the second time, the first counts."""
    lease = scene.claimed()
    first = scene.finalize(lease, Succeeded(content="first"))
    row = scene.row(lease.message_id)
    assert scene.finalize(lease, Succeeded(content="first")) == first
    assert scene.finalize(lease, Cancelled(content="second"), n=9) == first
    assert scene.row(lease.message_id) == row
    assert scene.row(lease.message_id)["total_tokens"] == 12


def test_an_end_committed_many_times_at_once_is_one_end(scene: Scene) -> None:
    lease = scene.claimed()
    results = together(*[partial(scene.finalize, lease, Succeeded(content=str(number))) for number in range(6)])
    assert errors_of(results) == []
    assert len({repr(result) for result in results}) == 1


def test_an_end_races_a_cancel_and_the_first_commit_wins(scene: Scene) -> None:
    """The holder ends it, whichever way: the wish of a cancel alone ends nothing."""
    lease = scene.claimed()
    together(
        lambda: scene.finalize(lease, Succeeded(content="done")),
        lambda: scene.store.request_cancel(scene.principal, lease.message_id),
    )
    shown = scene.store.message(scene.principal, lease.message_id)
    assert (shown.status, shown.content) == (MessageStatus.SUCCESS, "done")
    assert scene.store.closing_of(lease.message_id) is None


def test_the_next_in_line_is_told_once_somebody_has_ended(scene: Scene) -> None:
    lease, waiting = scene.claimed(), scene.message()
    assert scene.store.next_in_line(scene.project_id) is None
    scene.finalize(lease)
    assert scene.store.next_in_line(scene.project_id) == waiting
    assert scene.store.ring_for(limit=10, again_s=3600) == [], "it was marked as rung for"


# --- the context ------------------------------------------------------------------------------------------------


def test_the_model_sees_what_stands_before_the_message_oldest_first(scene: Scene) -> None:
    for number in range(3):
        scene.finalize(
            scene.claimed(scene.message(content=f"question {number}")), Succeeded(content=f"answer {number}")
        )
    mine = scene.message(content="mine")
    scene.message(content="later")
    context = scene.store.context(scene.claimed(mine), max_tokens=10_000)
    assert [(one.role, one.content) for one in context.history] == [
        *[
            pair
            for number in range(3)
            for pair in ((Role.USER, f"question {number}"), (Role.ASSISTANT, f"answer {number}"))
        ],
        (Role.USER, "mine"),
    ]
    assert (context.document, context.version, context.schema) == ({"list": []}, 1, None)


def test_the_newest_messages_that_fit_are_shown_in_pairs(scene: Scene) -> None:
    for number in range(4):
        scene.finalize(scene.claimed(scene.message(content=str(number) * 40)), Succeeded(content="x" * 40))
    context = scene.store.context(scene.claimed(scene.message(content="mine")), max_tokens=45)
    assert [one.content[0] for one in context.history] == ["2", "x", "3", "x", "m"]


def test_of_a_long_conversation_only_what_fits_is_fetched(scene: Scene) -> None:
    """An answer may have a megabyte, and a worker has a hundred conversations at once."""
    for number in range(6):
        scene.finalize(scene.claimed(scene.message(content=str(number) * 40)), Succeeded(content="x" * 40))
    lease = scene.claimed(scene.message(content="mine"))
    asked = {"message": lease.message_id, "project": lease.project_id, "max_tokens": 45}
    with scene.engine.connect() as connection:
        fetched = connection.execute(turn_statements.CONTEXT, asked).one().pairs
    assert fetched == [["5" * 40, "x" * 40], ["4" * 40, "x" * 40]]
    assert len(scene.store.context(lease, max_tokens=45).history) == 5


def test_a_retried_message_sees_only_what_stands_before_it(scene: Scene) -> None:
    """It goes to the end of the queue, and stays where it is in the conversation."""
    scene.ended(content="first")
    second = scene.ended(content="second")
    scene.ended(content="third")
    scene.store.retry(scene.principal, second, LIMITS)
    context = scene.store.context(scene.claimed(second), max_tokens=10_000)
    assert [one.content for one in context.history] == ["first", "an answer", "second"]


# --- random schedules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_over_a_random_schedule_the_laws_of_attempt_lease_and_effect_hold(scene: Scene, seed: int) -> None:
    """Workers, zombies, sweepers and users come in any order.

    After each step: the attempt has not gone back, a status moved only as the table of moves allows, whoever is not the
    holder was fenced and changed nothing, every call has taken effect at most once.
    """
    seeded = random.Random(seed)
    message_id = scene.message()
    claims = itertools.count()
    leases: list[Lease] = []
    effects: set[str] = set()
    ends: list[Outcome] = [Succeeded(content="a"), Cancelled(content="b"), Failed(content="c", code=ErrorCode.LENGTH)]

    def claim() -> None:
        taken = scene.claim(message_id, f"{seeded.choice(['worker-a', 'worker-b'])}-{next(claims)}")
        if taken is not None:
            leases.append(taken.lease)

    def write() -> None:
        if not leases:
            return
        lease = seeded.choice([leases[-1], leases[-1], seeded.choice(leases)])
        before = scene.row(message_id)
        holds = (before["attempt"], before["lease_owner"]) == (lease.attempt, lease.owner)
        ended_it = before["lease_owner"] is None and (before["last_event_id"] or "").startswith(f"{lease.attempt}-")
        round_ = seeded.randrange(2)
        name = seeded.choice(["effect", "effect", "round", "begin", "try", "back", "end"])
        acts: dict[str, Callable[[], object]] = {
            "effect": lambda: scene.store.commit_effect(
                lease, round_, 0, call(lease, round_), scene.append_one(lease, f"{lease.run}-{round_}")
            ),
            "round": lambda: scene.store_round(lease, round_, "text", call(lease, round_)),
            "begin": lambda: leases.append(scene.store.begin_attempt(lease, above=seeded.randrange(4))),
            "try": lambda: scene.store.count_tries(lease, before["tries"] + 1),
            "back": lambda: scene.store.hand_back(lease),
            "end": lambda: scene.finalize(lease, seeded.choice(ends)),
        }
        try:
            acts[name]()
        except Fenced:
            assert not holds, f"the holder was fenced at {name}"
            assert scene.row(message_id) == before
        else:
            began_it = name == "begin" and before["lease_owner"] == lease.owner
            assert holds or began_it or (name == "end" and ended_it), f"somebody else could {name}"
            if name == "effect":
                effects.add(f"{lease.run}-{round_}")

    def lapse() -> None:
        scene.let_lease_run_out(message_id)
        scene.store.take_lapsed(limit=5)

    def cancel() -> None:
        if scene.row(message_id)["status"] == "pending":
            scene.store.request_cancel(scene.principal, message_id)

    def close() -> None:
        for found in scene.store.to_close(limit=5, max_tries=MAX_TRIES):
            scene.store.close_message(message_id, Cancelled(content=found.content), seen_attempt=found.attempt)

    def retry() -> None:
        if scene.row(message_id)["status"] not in ("pending", "building"):
            scene.store.retry(scene.principal, message_id, LIMITS)

    steps = [claim, claim, write, write, write, write, lapse, cancel, close, retry]
    for _ in range(90):
        before = scene.row(message_id)
        seeded.choice(steps)()
        after = scene.row(message_id)
        said = f"seed {seed}: {before} {after}"
        assert after["attempt"] >= before["attempt"], said
        old, new = MessageStatus(before["status"]), MessageStatus(after["status"])
        assert new is old or new in MOVES[old], said
        assert (after["ending"] is None) or after["status"] != "pending", said
        assert sorted(scene.document()["list"]) == sorted(effects), said
