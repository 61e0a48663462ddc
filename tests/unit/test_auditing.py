"""What an audit compares, on rows and logs in memory: sound ones agree, and each thing that is off is told as what it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.auditing import (
    AuditedCall,
    AuditedJob,
    AuditedMessage,
    AuditedRound,
    AuditedVersion,
    Disagreement,
    Patience,
    compare_log,
    compare_message,
    compare_numbers,
    compare_versions,
)
from shared.event_log import Entry
from shared.events import Complete, Delta, EventId, Finalized, Snapshot, Status, encode
from shared.lifecycle import JobStatus, MessageKind, MessageStatus, Role
from shared.patching import PatchLimits, apply_patch

ID: Final = UUID(int=1)
PROJECT: Final = UUID(int=2)
JOB: Final = UUID(int=3)
PATIENCE: Final = Patience(overdue_s=60.0, max_tries=3)
LONG_S: Final = 3600.0


def event(kind: Any, id_: str, **fields: Any) -> bytes:
    return encode(kind(id=id_, message_id=str(ID), ts=1, **fields))


def log(*payloads: bytes) -> list[Entry]:
    ids = [EventId.parse(msgspec.json.decode(payload)["id"]) for payload in payloads]
    return [Entry(id_, payload) for id_, payload in zip(ids, payloads, strict=True)]


ENDING: Final = (event(Complete, "1-2", final_content="so it is"), event(Finalized, "1-3", status="success"))
WHOLE: Final = (event(Status, "1-0", status="thinking"), event(Delta, "1-1", content="so it is"), *ENDING)

AFTERWARDS: Final = event(Snapshot, "2-0", content="", status="pending", tool_calls=(), reason="attempt")

SUCCESS: Final = AuditedMessage(
    id=ID,
    project_id=PROJECT,
    role=Role.ASSISTANT,
    kind=MessageKind.TEXT,
    status=MessageStatus.SUCCESS,
    content="so it is",
    error_code=None,
    has_question=True,
    answers=0,
    job_id=None,
    attempt=1,
    run=1,
    tries=0,
    is_leased=False,
    lease_overdue_s=0.0,
    unwritten_s=LONG_S,
    unrung_s=LONG_S,
    cancel_age_s=None,
    is_waited_for=False,
    project_quiet_s=LONG_S,
    queue_number=1,
    shares_number=False,
    newest_queue_number=1,
    last_event_id="1-3",
    ending=ENDING,
    ending_appended=True,
    rounds=(),
    calls=(),
    jobs=(),
    oldest_version=2,
    versions=(),
)
PENDING: Final = msgspec.structs.replace(
    SUCCESS,
    status=MessageStatus.PENDING,
    kind=MessageKind.STATUS,
    content="",
    is_waited_for=True,
    last_event_id=None,
    ending=(),
    unwritten_s=1.0,
    unrung_s=1.0,
)


def kinds(message: AuditedMessage, patience: Patience = PATIENCE) -> list[Disagreement]:
    return [finding.kind for finding in compare_message(message, patience)]


def test_sound_rows_agree() -> None:
    question = msgspec.structs.replace(SUCCESS, role=Role.USER, kind=MessageKind.MESSAGE, answers=1, ending=())
    for message in (SUCCESS, PENDING, question):
        assert kinds(message) == []


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"unrung_s": LONG_S}, None),  # written just now
        ({"unrung_s": LONG_S, "unwritten_s": LONG_S}, Disagreement.NOT_RUNG),
        # its turn came just now
        ({"unrung_s": LONG_S, "unwritten_s": LONG_S, "project_quiet_s": 1.0}, None),
        ({"unrung_s": LONG_S, "unwritten_s": LONG_S, "is_waited_for": False}, None),
        ({"is_leased": True, "lease_overdue_s": 59.0, "unwritten_s": LONG_S}, None),
        ({"is_leased": True, "lease_overdue_s": 61.0}, Disagreement.LEASE_LAPSED),
        ({"cancel_age_s": 59.0, "unwritten_s": LONG_S}, None),
        ({"cancel_age_s": LONG_S, "unwritten_s": LONG_S}, Disagreement.CANCEL_UNANSWERED),
        ({"cancel_age_s": LONG_S, "unwritten_s": LONG_S, "is_leased": True}, None),  # its holder is to commit it
        ({"tries": 3, "unwritten_s": LONG_S}, Disagreement.TRIES_SPENT),
        ({"tries": 2, "unwritten_s": LONG_S}, None),
        ({"queue_number": None}, Disagreement.QUEUE_NUMBER_WRONG),
        ({"queue_number": 2}, Disagreement.QUEUE_NUMBER_WRONG),
        ({"shares_number": True}, Disagreement.QUEUE_NUMBER_WRONG),
        ({"status": MessageStatus.BUILDING}, Disagreement.BUILDING_WITHOUT_JOB),
    ],
    ids=str,
)
def test_what_waits_is_wrong_only_where_nobody_would_leave_it(
    changed: Mapping[str, Any], kind: Disagreement | None
) -> None:
    """A minute's patience: what a sweeper does within seconds is no disagreement before."""
    assert kinds(msgspec.structs.replace(PENDING, **changed)) == ([] if kind is None else [kind])


def test_nobody_need_ring_while_workers_have_no_room() -> None:
    waiting = msgspec.structs.replace(PENDING, unrung_s=LONG_S, unwritten_s=LONG_S)
    assert kinds(waiting, msgspec.structs.replace(PATIENCE, workers_have_room=False)) == []
    assert kinds(waiting, msgspec.structs.replace(PATIENCE, builders_have_room=False)) == [Disagreement.NOT_RUNG]


CALL: Final = AuditedCall(
    tool_call_id="c",
    run=1,
    round=0,
    index=0,
    attempt=1,
    name="applyJsonPatch",
    succeeded=True,
    job_id=None,
    version=2,
)
ROUND: Final = AuditedRound(run=1, round=0, attempt=1, calls=("c",))
EDITED: Final = msgspec.structs.replace(SUCCESS, rounds=(ROUND,), calls=(CALL,), versions=((PROJECT, 2),))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"rounds": ()}, [Disagreement.CALL_WITHOUT_ROUND]),
        ({"calls": (), "versions": ()}, [Disagreement.CALL_NOT_MADE]),
        ({"calls": (), "versions": (), "run": 2}, [Disagreement.CALL_NOT_MADE]),  # of an earlier run
        ({"versions": ()}, [Disagreement.CALL_WITHOUT_VERSION]),
        ({"versions": (), "oldest_version": 3}, []),  # pruned
        ({"versions": ((PROJECT, 2), (PROJECT, 3))}, [Disagreement.VERSION_WITHOUT_CALL]),
        (
            {"versions": ((UUID(int=9), 2),)},
            [Disagreement.CALL_WITHOUT_VERSION, Disagreement.VERSION_WITHOUT_CALL],
        ),
        ({"rounds": (msgspec.structs.replace(ROUND, attempt=2),)}, [Disagreement.ATTEMPT_AHEAD]),
    ],
    ids=str,
)
def test_calls_are_compared_with_rounds_and_versions(changed: Mapping[str, Any], expected: list[Disagreement]) -> None:
    assert kinds(msgspec.structs.replace(EDITED, **changed)) == expected


def test_a_message_that_failed_need_not_have_made_its_calls() -> None:
    """A retry makes them."""
    failed = msgspec.structs.replace(
        EDITED,
        status=MessageStatus.CANCELLED,
        calls=(),
        versions=(),
        ending=(event(Finalized, "1-3", status="cancelled"),),
    )
    assert kinds(failed) == []


def test_jobs_are_compared_with_their_message_and_their_call() -> None:
    job = AuditedJob(
        id=JOB, project_id=PROJECT, tool_call_id="c", status=JobStatus.SUCCESS, has_bundle=True, is_sound=True
    )
    made = msgspec.structs.replace(CALL, name="generateRemotionComponent", job_id=JOB, version=None)
    built = msgspec.structs.replace(SUCCESS, job_id=JOB, jobs=(job,), rounds=(ROUND,), calls=(made,))
    assert kinds(built) == []

    def with_job(**changed: Any) -> list[Disagreement]:
        return kinds(msgspec.structs.replace(built, jobs=(msgspec.structs.replace(job, **changed),)))

    assert with_job(status=JobStatus.PENDING) == [Disagreement.JOB_OPEN]
    assert with_job(status=JobStatus.ERROR) == [Disagreement.JOB_CONTRADICTS_MESSAGE]
    assert with_job(project_id=UUID(int=9)) == [Disagreement.JOB_CONTRADICTS_MESSAGE]
    assert with_job(is_sound=False) == [Disagreement.BUNDLE_DAMAGED]
    assert with_job(has_bundle=False) == [Disagreement.BUNDLE_DAMAGED]
    assert with_job(tool_call_id="d") == [Disagreement.CALL_WITHOUT_JOB] * 2
    assert kinds(msgspec.structs.replace(built, jobs=())) == [Disagreement.CALL_WITHOUT_JOB, Disagreement.JOB_MISSING]


# --- logs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (log(*WHOLE), []),
        ([], []),
        # the row serves readers of a log that stops, or that lost its beginning
        (log(*WHOLE[:1]), []),
        (log(*WHOLE[1:]), []),
        (log(*WHOLE[:2]), [Disagreement.END_MISSING_IN_LOG]),
        (log(*WHOLE, event(Delta, "1-4", content="more")), [Disagreement.LOG_BEYOND_END]),
        (
            log(event(Snapshot, "2-0", content="", status="pending", tool_calls=(), reason="attempt")),
            [Disagreement.LOG_BEYOND_END],
        ),
        (log(WHOLE[0], event(Delta, "1-1", content="?"), *ENDING), []),  # `complete` replaces
        (
            log(*WHOLE[:2], event(Complete, "1-2", final_content="no"), WHOLE[3]),
            [Disagreement.LOG_CONTRADICTS_ROW],
        ),
        (log(*WHOLE[:3], event(Finalized, "1-3", status="error")), [Disagreement.LOG_CONTRADICTS_ROW]),
        (log(*WHOLE[:3], event(Delta, "1-3", content="x")), [Disagreement.LOG_CONTRADICTS_ROW]),
        (log(WHOLE[0], *ENDING), [Disagreement.LOG_UNREADABLE]),
        ([*log(WHOLE[0]), Entry(EventId(1, 1), b"{}"), *log(*ENDING)], [Disagreement.LOG_UNREADABLE]),
        ([*log(WHOLE[0]), Entry(EventId(1, 1), WHOLE[0]), *log(*ENDING)], [Disagreement.LOG_UNREADABLE]),
    ],
    ids=lambda value: "" if value and isinstance(value[0], Disagreement) else str(len(value)),
)
def test_a_log_is_compared_with_its_final_row(entries: list[Entry], expected: list[Disagreement]) -> None:
    assert [finding.kind for finding in compare_log(SUCCESS, entries)] == expected


def test_the_log_of_an_unfinished_row_is_not_judged_but_for_its_expiry() -> None:
    assert compare_log(PENDING, log(*WHOLE)) == []
    assert [finding.kind for finding in compare_log(PENDING, log(*WHOLE), expires=False)] == [
        Disagreement.LOG_UNREADABLE
    ]


def test_findings_hold_none_of_the_users_text() -> None:
    secret = msgspec.structs.replace(SUCCESS, content="the secret")
    (finding,) = compare_log(secret, log(*WHOLE))
    assert "secret" not in finding.detail
    assert "so it is" not in finding.detail


# --- versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "stored", "is_whole"),
    [
        (1, (0, 0, 0), True),
        (2, (1, 2, 2), True),
        (5, (4, 2, 5), True),
        (5, (3, 2, 5), False),  # a gap
        (5, (3, 3, 5), False),  # the oldest is gone, and was in reach
        (5, (3, 2, 4), False),
        (4, (3, 2, 5), False),
        (4, (4, 2, 5), False),
        (3, (0, 0, 0), False),
        (30, (10, 21, 30), True),  # pruned beyond reach
        (30, (9, 22, 30), False),
    ],
)
def test_versions_are_whole_as_far_as_undo_reaches(newest: int, stored: tuple[int, int, int], is_whole: bool) -> None:
    assert (compare_numbers(PROJECT, newest, stored, reach=10) == []) == is_whole


_VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(st.lists(_VALUES, min_size=1, max_size=6), st.integers(0, 5))
def test_versions_that_made_the_document_fit_it_and_another_document_does_not(values: list[Any], wrong: int) -> None:
    """Whatever the operations were: all inverses lead back, and a version that tells something else is found."""
    document: Any = {"list": []}
    versions: list[AuditedVersion] = []
    for number, value in enumerate(values):
        operations = [{"op": "add", "path": "/list/-", "value": value}, {"op": "add", "path": "/last", "value": number}]
        patched = apply_patch(document, operations, PatchLimits())
        document = patched.document
        versions.insert(0, AuditedVersion(version=number + 2, operations=operations, inverse=patched.inverse))
    assert compare_versions(PROJECT, copy.deepcopy(document), copy.deepcopy(versions)) == []
    at = wrong % len(versions)
    lie = msgspec.structs.replace(versions[at], operations=[{"op": "add", "path": "/lie", "value": 1}])
    (finding,) = compare_versions(PROJECT, document, [*versions[:at], lie, *versions[at + 1 :]])
    assert (finding.kind, f"version {lie.version} " in finding.detail) == (
        Disagreement.VERSION_CONTRADICTS_DOCUMENT,
        True,
    )
