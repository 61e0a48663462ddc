"""Submitting messages: the pair, its repetition, the limits, and whose turn it is."""

from __future__ import annotations

import uuid
from functools import partial

import msgspec
import pytest
from sqlalchemy import Engine

from shared.errors import (
    AlreadyFinal,
    Busy,
    Forbidden,
    IdempotencyMismatch,
    NotFound,
    QuotaExceeded,
    TooManyUnfinished,
)
from shared.lifecycle import MemberRole, MessageKind, MessageStatus, OnBusy, Role
from shared.outcomes import Cancelled
from shared.store import Store, SubmitLimits, Told
from tests.integration.store_parts import LIMITS, Scene, call, errors_of, together


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


def test_a_submit_makes_the_user_s_message_and_the_pending_answer(scene: Scene) -> None:
    pair = scene.submit("what?")
    asked, answer = pair.user_message, pair.assistant_message
    assert (asked.role, asked.kind, asked.status, asked.content) == (
        Role.USER,
        MessageKind.MESSAGE,
        MessageStatus.SUCCESS,
        "what?",
    )
    assert (answer.role, answer.kind, answer.status, answer.content) == (
        Role.ASSISTANT,
        MessageKind.STATUS,
        MessageStatus.PENDING,
        "",
    )
    assert answer.reply_to == asked.id
    assert (answer.attempt, answer.tool_calls, answer.usage, answer.error) == (0, [], None, None)
    assert not pair.repeated
    assert asked.id < answer.id, "ids sort as they were made"


def test_a_users_message_has_its_author_and_the_assistants_has_none(scene: Scene) -> None:
    """Also where another member reads, and after the answer's end."""
    boris = scene.newcomer()
    scene.store.put_member(scene.principal, scene.project_id, boris.user, MemberRole.EDITOR, max_members=2)
    pairs = [scene.submit(principal=principal) for principal in (scene.principal, boris)]
    assert [pair.user_message.author for pair in pairs] == [scene.principal.user, boris.user]
    assert [pair.assistant_message.author for pair in pairs] == [None, None]
    scene.finalize(scene.claimed(pairs[0].assistant_message.id))
    page, _ = scene.store.messages(boris, scene.project_id, limit=10)
    assert [message.author for message in page] == [None, boris.user, None, scene.principal.user]


def test_whoever_waits_in_line_has_a_number_and_nobody_else_has(scene: Scene) -> None:
    """The lower goes first; claimed, parallel, ended and building messages have none, nor has a user's."""

    def numbers() -> list[int | None]:
        return [scene.store.message(scene.principal, message_id).queue_number for message_id in ids]

    pair = scene.submit()
    assert pair.user_message.queue_number is None
    ids = [pair.assistant_message.id, scene.message(), scene.message(on_busy=OnBusy.PARALLEL)]
    first, second, parallel = numbers()
    assert first is not None
    assert second is not None
    assert first < second
    assert parallel is None
    lease = scene.claimed(ids[0])
    assert numbers() == [None, second, None]
    ids.append(scene.message(on_busy=OnBusy.INTERRUPT))
    held, moved, _, newcomer = numbers()
    assert held is None
    assert newcomer is not None
    assert moved is not None
    assert newcomer < moved
    scene.store.hand_back(lease)
    back = numbers()[0]
    assert back is not None
    assert back < newcomer
    scene.store.close_message(ids[0], Cancelled(content=""), seen_attempt=1)
    assert numbers()[0] is None
    renewed = scene.store.retry(scene.principal, ids[0], LIMITS)
    assert renewed.queue_number is not None
    assert renewed.queue_number > moved


def test_a_page_of_messages_is_newest_first_and_says_where_the_next_begins(scene: Scene) -> None:
    made = [scene.submit(str(number)) for number in range(3)]
    ids = [message.id for pair in made for message in (pair.user_message, pair.assistant_message)][::-1]
    found, cursor = [], None
    while True:
        page, cursor = scene.store.messages(scene.principal, scene.project_id, limit=4, before=cursor)
        found += [message.id for message in page]
        if cursor is None:
            break
    assert found == ids
    pending, _ = scene.store.messages(scene.principal, scene.project_id, limit=10, status=MessageStatus.PENDING)
    assert [message.id for message in pending] == ids[::2]
    asked, _ = scene.store.messages(scene.principal, scene.project_id, limit=10, kind=MessageKind.MESSAGE)
    assert [message.id for message in asked] == ids[1::2]


def test_a_page_of_large_messages_is_shorter_and_nothing_is_left_out(scene: Scene) -> None:
    """Texts and what was called count; a single message is shown however large it is."""
    texts = [scene.ended() for _ in range(6)]
    callers = []
    for _ in range(6):
        lease = scene.claimed()
        scene.store.commit_effect(lease, 1, 0, call(lease), Told(succeeded=True, result="{}"))
        scene.finalize(lease)
        callers.append(lease.message_id)
    scene.execute("UPDATE messages SET content = repeat('x', 1000000) WHERE id = ANY(:ids)", ids=texts)
    scene.execute("UPDATE tool_ledger SET arguments = concat('{\"x\":\"', repeat('x', 1500000), '\"}')")
    scene.execute("UPDATE messages SET content = repeat('x', 5000000) WHERE id = :id", id=texts[0])
    found, sizes, cursor = [], [], None
    while True:
        page, cursor = scene.store.messages(scene.principal, scene.project_id, limit=200, before=cursor)
        found += [message.id for message in page]
        sizes.append(sum(len(msgspec.json.encode(message)) for message in page))
        if cursor is None:
            break
    assert len(found) == len(set(found)) == 24
    assert found == sorted(found, reverse=True)
    assert max(sizes) < 5_100_000
    assert len(sizes) > 3


# --- repetition -------------------------------------------------------------------------------------------------


def test_the_same_key_and_body_answer_the_same_pair(scene: Scene) -> None:
    first, again = scene.submit("a", key="k"), scene.submit("a", key="k")
    assert again.repeated
    assert (again.user_message, again.assistant_message) == (first.user_message, first.assistant_message)
    assert scene.count("messages") == 2


def test_the_same_key_with_another_body_is_refused_and_changes_nothing(scene: Scene) -> None:
    scene.submit("a", key="k")
    with pytest.raises(IdempotencyMismatch):
        scene.submit("b", key="k")
    assert scene.count("messages") == 2


def test_a_key_is_the_user_s_and_the_project_s(scene: Scene) -> None:
    first = scene.submit("a", key="k")
    elsewhere = scene.submit("b", key="k", project_id=scene.new_project())
    assert elsewhere.assistant_message.id != first.assistant_message.id
    other = Scene(scene.store, scene.engine)
    assert other.submit("c", key="k").assistant_message.id != first.assistant_message.id


def test_a_repeated_submit_answers_also_when_the_limits_are_reached(scene: Scene) -> None:
    """The outcome of the first was unknown to its caller: it is told, not refused."""
    limits = SubmitLimits(max_unfinished=1, max_tokens_per_day=None)
    first = scene.submit("a", key="k", limits=limits)
    again = scene.submit("a", key="k", limits=limits, on_busy=OnBusy.REJECT)
    assert again.assistant_message.id == first.assistant_message.id


def test_the_same_key_at_the_same_time_makes_one_pair(scene: Scene) -> None:
    results = together(*[partial(scene.submit, "a", key="k")] * 8)
    assert errors_of(results) == []
    assert len({result.assistant_message.id for result in results if not isinstance(result, Exception)}) == 1
    assert scene.count("messages") == 2


# --- limits and rights ------------------------------------------------------------------------------------------


def test_a_user_has_at_most_so_many_unfinished_messages_in_all_projects(scene: Scene) -> None:
    limits = SubmitLimits(max_unfinished=2, max_tokens_per_day=None)
    first = scene.message(limits=limits)
    scene.submit(limits=limits, project_id=scene.new_project())
    with pytest.raises(TooManyUnfinished):
        scene.submit(limits=limits)
    scene.finalize(scene.claimed(first))
    scene.submit(limits=limits)


def test_the_limit_of_unfinished_messages_holds_also_for_submits_at_the_same_time(scene: Scene) -> None:
    limits = SubmitLimits(max_unfinished=3, max_tokens_per_day=None)
    projects = [scene.new_project() for _ in range(8)]
    results = together(*[partial(scene.submit, limits=limits, project_id=project) for project in projects])
    assert errors_of(results) == [TooManyUnfinished] * 5
    assert scene.count("messages") == 6


def test_a_refused_submit_takes_no_place_in_the_queue(scene: Scene) -> None:
    scene.submit()
    with pytest.raises(Busy):
        scene.submit(on_busy=OnBusy.REJECT)
    assert scene.row(scene.message())["queue_number"] == 2


def test_a_day_s_tokens_are_counted_over_all_runs(scene: Scene) -> None:
    limits = SubmitLimits(max_unfinished=10, max_tokens_per_day=24)
    done = scene.ended()
    scene.submit(limits=limits)
    scene.store.retry(scene.principal, done, LIMITS)
    assert scene.row(done)["total_tokens"] == 12
    other = Scene(scene.store, scene.engine)
    other.submit(limits=limits)
    scene.execute("UPDATE messages SET total_tokens = 24 WHERE id = :id", id=done)
    with pytest.raises(QuotaExceeded):
        scene.submit(limits=limits)
    other.submit(limits=limits)


def test_a_stranger_s_submit_is_as_to_a_project_that_does_not_exist(scene: Scene) -> None:
    with pytest.raises(NotFound):
        scene.submit(principal=scene.newcomer())
    with pytest.raises(NotFound):
        scene.submit(project_id=uuid.uuid4())
    assert scene.count("messages") == 0


def test_a_viewer_reads_and_neither_writes_nor_cancels(scene: Scene) -> None:
    viewer, message_id = scene.newcomer(), scene.message()
    scene.execute(
        "INSERT INTO members (project_id, user_id, role) VALUES (:project, :user, 'viewer')",
        project=scene.project_id,
        user=viewer.user_id,
    )
    assert scene.store.message(viewer, message_id).id == message_id
    _, may_cancel = scene.store.message_for_reader(viewer, message_id)
    assert not may_cancel
    with pytest.raises(Forbidden):
        scene.submit(principal=viewer)
    with pytest.raises(Forbidden):
        scene.store.request_cancel(viewer, message_id)
    with pytest.raises(Forbidden):
        scene.store.retry(viewer, scene.ended(on_busy=OnBusy.PARALLEL), LIMITS)


# --- whose turn it is -------------------------------------------------------------------------------------------


def test_queued_messages_are_taken_one_at_a_time_in_their_order(scene: Scene) -> None:
    first, second, third = [scene.message() for _ in range(3)]
    assert scene.claim(third) is None
    assert scene.claim(second) is None
    lease = scene.claimed(first)
    assert scene.claim(second) is None
    scene.finalize(lease)
    assert scene.claim(third) is None
    assert scene.store.next_in_line(scene.project_id) == second
    scene.finalize(scene.claimed(second))
    assert scene.store.next_in_line(scene.project_id) == third


def test_projects_do_not_wait_for_one_another(scene: Scene) -> None:
    scene.claimed()
    assert scene.claim(scene.message(project_id=scene.new_project())) is not None


def test_a_parallel_message_waits_for_nobody(scene: Scene) -> None:
    scene.claimed()
    waiting = scene.message()
    parallel = scene.message(on_busy=OnBusy.PARALLEL)
    assert scene.claim(parallel) is not None
    assert scene.claim(waiting) is None


def test_reject_is_told_that_the_project_is_busy(scene: Scene) -> None:
    lease = scene.claimed()
    with pytest.raises(Busy):
        scene.submit(on_busy=OnBusy.REJECT)
    scene.finalize(lease)
    assert scene.claim(scene.message(on_busy=OnBusy.REJECT)) is not None


def test_of_two_that_reject_at_the_same_time_one_gets_in(scene: Scene) -> None:
    results = together(*[partial(scene.submit, on_busy=OnBusy.REJECT)] * 6)
    assert errors_of(results) == [Busy] * 5
    assert scene.count("messages") == 2


def test_interrupt_asks_what_runs_to_end_and_goes_before_all_that_wait(scene: Scene) -> None:
    running = scene.claimed()
    waiting = scene.message()
    pair = scene.submit(on_busy=OnBusy.INTERRUPT)
    first = pair.assistant_message.id
    assert pair.interrupted == (running.message_id,)
    assert scene.row(running.message_id)["cancel_requested_at"] is not None
    assert scene.row(waiting)["cancel_requested_at"] is None
    assert scene.claim(first) is None, "what runs has not ended yet"
    scene.finalize(running, Cancelled(content="so far"))
    assert scene.claim(waiting) is None
    lease = scene.claimed(first)
    scene.finalize(lease)
    assert scene.claim(waiting) is not None


def test_interrupt_also_ends_what_is_between_two_workers(scene: Scene) -> None:
    """A message that was begun and handed back runs, though nobody holds it at this moment."""
    begun = scene.claimed()
    scene.store.hand_back(begun)
    waiting = scene.message()
    pair = scene.submit(on_busy=OnBusy.INTERRUPT)
    assert pair.interrupted == (begun.message_id,)
    numbers = [scene.row(id_)["queue_number"] for id_ in (begun.message_id, pair.assistant_message.id, waiting)]
    assert numbers == sorted(numbers)
    assert scene.claim(begun.message_id) is None
    assert scene.claim(pair.assistant_message.id) is None, "what ran has not ended yet"


def test_two_interrupts_leave_a_queue_without_doubles(scene: Scene) -> None:
    waiting = [scene.message() for _ in range(3)]
    first = scene.message(on_busy=OnBusy.INTERRUPT)
    second = scene.message(on_busy=OnBusy.INTERRUPT)
    last = scene.message()
    order = sorted([*waiting, first, second, last], key=lambda id_: scene.row(id_)["queue_number"])
    assert order == [second, first, *waiting, last]
    assert len({scene.row(id_)["queue_number"] for id_ in order}) == 6


def test_a_building_message_holds_nobody_up(scene: Scene) -> None:
    from shared.outcomes import HandedOver

    lease, waiting = scene.claimed(), scene.message()
    scene.finalize(lease, HandedOver(content="I make it.", job_id=str(uuid.uuid4())))
    assert scene.claim(waiting) is not None


# --- cancel -----------------------------------------------------------------------------------------------------


def test_a_cancel_is_a_wish_noted_once_that_tells_whether_somebody_holds_the_message(scene: Scene) -> None:
    message_id = scene.message()
    assert not scene.store.request_cancel(scene.principal, message_id).held
    asked = scene.row(message_id)["cancel_requested_at"]
    assert not scene.store.request_cancel(scene.principal, message_id).held
    assert scene.row(message_id)["cancel_requested_at"] == asked
    assert scene.claim(message_id) is None, "nobody takes it any more"


def test_a_held_message_s_cancel_is_its_worker_s_to_commit(scene: Scene) -> None:
    lease = scene.claimed()
    assert scene.store.request_cancel(scene.principal, lease.message_id).held
    renewed = scene.store.renew_leases([lease.owner], lease_s=10)
    assert renewed[lease.owner].cancel_requested


def test_what_is_final_cannot_be_cancelled(scene: Scene) -> None:
    with pytest.raises(AlreadyFinal):
        scene.store.request_cancel(scene.principal, scene.ended())


def test_a_stranger_s_cancel_is_as_of_a_message_that_does_not_exist(scene: Scene) -> None:
    message_id, stranger = scene.message(), scene.newcomer()
    for principal, id_ in ((stranger, message_id), (scene.principal, uuid.uuid4())):
        with pytest.raises(NotFound):
            scene.store.request_cancel(principal, id_)
        with pytest.raises(NotFound):
            scene.store.message(principal, id_)
        with pytest.raises(NotFound):
            scene.store.message_for_reader(principal, id_)
        with pytest.raises(NotFound):
            scene.store.retry(principal, id_, LIMITS)
    assert scene.row(message_id)["cancel_requested_at"] is None
