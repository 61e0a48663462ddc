"""Operators see how everything is doing, find anybody's messages and end or repeat them, and never read a text."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from websockets.exceptions import InvalidStatus

from api import figures
from shared import closing, keys
from shared.event_log import Entry
from shared.events import Delta, EventId, Status, StreamEvent, encode
from shared.lifecycle import ErrorCode, MessageStatus, OnBusy
from shared.outcomes import Cancelled, Failed
from shared.records import StoredCall
from shared.store import Store, Told, Wanted, operators
from tests.integration.api_parts import Api, Person, answered, job_made, listening, refused
from tests.integration.store_parts import Scene, call
from tests.integration.test_api_streams import bearer, open_socket

CANARY = "canary"


@pytest.fixture
def operator(api: Api) -> Person:
    return api.operator()


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


@pytest.fixture
def sql(engine: Engine) -> Iterator[list[str]]:
    """Every statement that is sent."""
    sent: list[str] = []

    def on_statement(_: Any, __: Any, statement: str, *___: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", on_statement)
    yield sent
    event.remove(engine, "before_cursor_execute", on_statement)


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


def test_the_summary_counts_what_there_is(api: Api, scene: Scene, operator: Person) -> None:
    """What waits and is held by status, lapsed leases, who holds, what ended how and when, how long it took."""
    parallel: dict[str, Any] = {"on_busy": OnBusy.PARALLEL}
    held = [scene.claimed(scene.message(**parallel), owner) for owner in ("host-1/7", "host-1/8", "host-2/1")]
    scene.let_lease_run_out(held[2].message_id)
    waiting = [scene.message(**parallel) for _ in range(2)]
    anna = api.person()
    _, building = job_made(api, anna, anna.project()["id"])
    succeeded = [scene.ended(**parallel) for _ in range(4)]
    scene.ended(Cancelled(content=""), **parallel)
    failed = [scene.ended(Failed(content="", code=code), **parallel) for code in (ErrorCode.DEADLINE,) * 2]
    for message_id, minutes in zip(succeeded, (0, 3, 30, 90), strict=True):
        scene.execute(
            "UPDATE messages SET updated_at = now() - make_interval(mins => :minutes), timing = json_build_object("
            "'queuedMs', 1, 'firstTokenMs', CAST(:first AS int), 'totalMs', CAST(:total AS int)) WHERE id = :id",
            minutes=minutes,
            first=100 + minutes,
            total=1000 + minutes,
            id=message_id,
        )
    scene.execute("UPDATE messages SET timing = NULL WHERE status = 'error'")
    scene.store.sweeper_came_round("sweeper-1")
    summary = answered(operator.get("/v1/ops/summary"), 200)
    pending, builds = summary["unfinished"]
    assert (pending["status"], pending["queue"], pending["waiting"], pending["held"]) == (
        "pending",
        "interactive",
        2,
        3,
    )
    assert (builds["status"], builds["queue"], builds["waiting"], builds["held"]) == ("building", "builds", 1, 0)
    assert pending["oldestWaitingMs"] >= 0
    assert summary["lapsedLeases"] == 1
    assert summary["workers"] == [{"name": "host-1", "held": 2}, {"name": "host-2", "held": 1}]
    assert [sweeper["name"] for sweeper in summary["sweepers"]] == ["sweeper-1"]
    counts = {
        (row["status"], row["code"]): (row["lastMinute"], row["lastFiveMinutes"], row["lastHour"])
        for row in summary["ended"]
    }
    assert counts == {("success", None): (1, 2, 3), ("error", "deadline"): (2, 2, 2), ("cancelled", None): (1, 1, 1)}
    assert summary["firstToken"] == {"count": 2, "p50Ms": 102, "p95Ms": 103, "p99Ms": 103}
    assert summary["completion"] == {"count": 2, "p50Ms": 1002, "p95Ms": 1003, "p99Ms": 1003}
    assert summary["tokensLastHour"] == 12 * 6
    unfinished = [str(lease.message_id) for lease in held] + [str(message_id) for message_id in waiting] + [building]
    assert ids(summary["slowestUnfinished"]) == unfinished
    assert ids(summary["newestFailed"]) == [str(message_id) for message_id in reversed(failed)]
    hour_ago = datetime.fromisoformat(summary["at"]) - timedelta(hours=1)
    assert abs(datetime.fromisoformat(summary["endedSince"]) - hour_ago) < timedelta(seconds=5)


def test_of_more_than_is_counted_the_summary_says_since_when(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are counted, and `endedSince` is the oldest of them."""
    monkeypatch.setattr(operators, "MOST_COUNTED", 3)
    ended = [scene.ended() for _ in range(5)]
    summary = scene.store.summary()
    assert [row.last_hour for row in summary.ended] == [3]
    assert summary.ended_since == scene.row(ended[2])["updated_at"]


def test_however_many_look_the_database_is_asked_once(
    api: Api, operator: Person, sql: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as a summary is fresh; then once more."""

    def asked() -> int:
        return sum("percentile_cont" in statement for statement in sql)

    monkeypatch.setattr(figures, "FRESH_S", 3600.0)
    first = [answered(operator.get("/v1/ops/summary"), 200) for _ in range(10)]
    assert all(summary == first[0] for summary in first)
    assert asked() == 1
    monkeypatch.setattr(figures, "FRESH_S", -1.0)
    answered(operator.get("/v1/ops/summary"), 200)
    assert asked() == 2


def test_messages_are_found_by_what_an_operator_knows_of_them(api: Api, scene: Scene, operator: Person) -> None:
    """Status, code, project, model, since, slower than; newest first, page by page."""
    succeeded, failed = scene.ended(), scene.ended(Failed(content="x", code=ErrorCode.DEADLINE))
    scene.execute(
        "UPDATE messages SET timing = json_build_object('queuedMs', 1, 'firstTokenMs', 2, 'totalMs', 2001)"
        " WHERE id = :id",
        id=failed,
    )
    other = Scene(scene.store, scene.engine)
    theirs = other.message()
    scene.execute("UPDATE messages SET model = 'large' WHERE id = :id", id=theirs)
    everything = [str(theirs), str(failed), str(succeeded)]

    def found(query: str) -> list[str]:
        return ids(answered(operator.get(f"/v1/ops/messages{query}"), 200)["items"])

    assert found("") == everything
    assert found("?status=success") == [str(succeeded)]
    assert found("?status=pending") == [str(theirs)]
    assert found("?status=building") == []
    assert found("?code=deadline") == found("?status=error") == [str(failed)]
    assert found("?code=deadline&status=success") == []
    assert found(f"?project={other.project_id}") == [str(theirs)]
    assert found("?model=large") == [str(theirs)]
    assert found("?slowerThan=2s") == found("?slowerThan=2000ms&status=error") == [str(failed)]
    assert found("?slowerThan=3s") == []
    scene.execute("UPDATE messages SET enqueued_at = now() - interval '1 hour' WHERE id = :id", id=theirs)
    assert found("?slowerThan=59m") == [str(theirs)], "unfinished ones count until now"
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat().replace("+", "%2B")
    assert found(f"?since={tomorrow}") == []
    assert found("?since=2026-01-01T00:00:00Z") == everything
    paged, cursor = [], ""
    for _ in range(3):
        page = answered(operator.get(f"/v1/ops/messages?limit=1{cursor}"), 200)
        paged += ids(page["items"])
        cursor = f"&before={page['nextCursor']}"
    assert paged == everything
    assert page["nextCursor"] is None
    wrong_times = ("since=soon", "since=0001-01-01T00:00:00", "since=2026-01-31T12:00:00")
    for wrong in ("status=odd", "code=odd", "slowerThan=soon", *wrong_times, "model=%00", "project=x", "limit=0"):
        refused(operator.get(f"/v1/ops/messages?{wrong}"), 400, "invalid_query")


def test_a_page_looks_at_a_bounded_number_of_messages(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be empty, and says where to go on; nothing is passed over."""
    monkeypatch.setattr(operators, "MOST_LOOKED_AT", 2)
    wanted = scene.ended(Cancelled(content=""))
    for _ in range(4):
        scene.ended()
    asked = Wanted(status=MessageStatus.CANCELLED)
    before, found, pages = None, [], 0
    while pages == 0 or before is not None:
        page, before = scene.store.operator_messages(asked, limit=10, before=before)
        found += [message.id for message in page]
        pages += 1
    assert (found, pages) == ([wanted], 3)


def test_a_message_is_shown_with_all_that_is_known_of_it(api: Api, scene: Scene, operator: Person) -> None:
    """Its rounds, calls and attempts; deltas as counts."""
    lease = scene.claimed()
    base: dict[str, Any] = {"message_id": str(lease.message_id), "ts": 5}
    told: list[StreamEvent] = [
        Status(id="1-0", **base, status="thinking"),
        Delta(id="1-1", **base, content="ab"),
        Delta(id="1-2", **base, content="ü"),
    ]
    for made in told:
        api.log.append(lease.message_id, [Entry(EventId.parse(made.id), encode(made))])
    made_call = call(lease, 1)
    scene.store_round(lease, 1, "abü", made_call)
    scene.store.commit_effect(lease, 1, 0, made_call, Told(succeeded=True, result="{}", words="Did it."))
    closing.append_ending(scene.store, api.log, scene.finalize(lease))
    shown = answered(operator.get(f"/v1/ops/messages/{lease.message_id}"), 200)
    assert (shown["message"]["status"], shown["message"]["attempt"], shown["message"]["author"]) == (
        "success",
        1,
        scene.principal.user,
    )
    [stored] = shown["rounds"]
    assert (stored["round"], stored["textBytes"], stored["calls"]) == (1, 4, ["applyJsonPatch"])
    [outlined] = shown["toolCalls"]
    assert (outlined["name"], outlined["state"], outlined["argumentsBytes"]) == ("applyJsonPatch", "succeeded", 17)
    assert shown["log"]["isWhole"]
    [attempt] = shown["log"]["attempts"]
    assert (attempt["attempt"], attempt["events"], attempt["deltas"], attempt["ending"]) == (1, 5, 2, "success")
    assert [told["type"] for told in shown["log"]["events"]] == ["status", "delta", "complete", "finalized"]
    deltas = shown["log"]["events"][1]
    assert (deltas["id"], deltas["deltas"], deltas["textBytes"]) == ("1-2", 2, 4)
    refused(operator.get(f"/v1/ops/messages/{uuid.uuid4()}"), 404, "not_found")


def test_operators_are_shown_nobodys_text(api: Api, operator: Person) -> None:
    """Not the question, the answer, a tool's arguments or words, nor why a component failed."""
    anna = api.person()
    pair = anna.pair(anna.project(name=CANARY, document={CANARY: CANARY})["id"], CANARY)
    message_id = uuid.UUID(pair["assistantMessage"]["id"])
    claim = api.store.claim(message_id, "worker/1", lease_s=60, max_tries=3)
    assert claim is not None
    made = StoredCall(tool_call_id=f"call_{message_id}", name="free", arguments=f'{{"a":"{CANARY}"}}')
    api.store.commit_effect(claim.lease, 1, 0, made, Told(succeeded=False, result=CANARY, words=CANARY, error=CANARY))
    outcome = Failed(content=CANARY, code=ErrorCode.BUILD_FAILED, reason=CANARY)
    ending = api.store.finalize(claim.lease, outcome, first=EventId(1, 0), usage=None, first_token_ms=None)
    closing.append_ending(api.store, api.log, ending)
    for path in ("summary", "messages", f"messages/{message_id}"):
        response = operator.get(f"/v1/ops/{path}")
        assert answered(response, 200)
        assert CANARY.encode() not in response.data, path
    retried = operator.post(f"/v1/ops/messages/{message_id}/retry")
    assert answered(retried, 202)["status"] == "pending"
    assert CANARY.encode() not in retried.data


def test_an_operator_ends_and_repeats_anybodys_message(api: Api, operator: Person) -> None:
    """Told on the operators' channel; a retry goes on counting for its author; what is not possible is refused."""
    anna = api.person()
    message_id = anna.pair(anna.project()["id"])["assistantMessage"]["id"]
    path = f"/v1/ops/messages/{message_id}"
    refused(operator.post(f"{path}/retry"), 409, "not_final")
    with listening(api.log._client, keys.OPS) as next_told:
        cancelled = answered(operator.post(f"{path}/cancel"), 202)
        assert (cancelled["status"], cancelled["author"]) == ("cancelled", anna.name)
        assert [next_told()["type"] for _ in range(2)] == ["cancelled", "finalized"]
        refused(operator.post(f"{path}/cancel"), 409, "already_final")
        retried = answered(operator.post(f"{path}/retry"), 202)
        assert (retried["status"], retried["author"], retried["run"]) == ("pending", anna.name, 1)
        told = next_told()
        assert (told["type"], told["messageId"], told["status"]) == ("retried", message_id, "pending")
    claim = api.store.claim(uuid.UUID(message_id), "worker/1", lease_s=60, max_tries=3)
    assert claim is not None
    assert answered(operator.post(f"{path}/cancel"), 202)["cancelRequestedAt"] is not None
    user_message = answered(anna.get(f"/v1/messages/{message_id}"), 200)["replyTo"]
    for act in ("cancel", "retry"):
        refused(operator.post(f"/v1/ops/messages/{user_message}/{act}"), 404, "not_found")


def test_an_end_is_told_to_operators_though_redis_had_lost_the_log(api: Api, scene: Scene) -> None:
    """What a log refuses is not published; operators have nothing else to hear it from."""
    lease = scene.claimed()
    ending = scene.finalize(lease, Failed(content="", code=ErrorCode.DEADLINE), n=5)
    with listening(api.log._client, keys.OPS) as next_told:
        assert closing.append_ending(scene.store, api.log, ending)
        told = next_told()
    assert (told["type"], told["status"], told["code"], told["model"]) == ("finalized", "error", "deadline", "scripted")
    assert not api.log.replay(lease.message_id)
    assert scene.row(lease.message_id)["ending_appended"]


def test_the_socket_begins_with_the_summary_and_ends_with_the_scope(
    api: Api, served: str, operator: Person, engine: Engine
) -> None:
    """Through the server: `ready`, lines, the filter of the query; 4403 once the token is revoked."""
    anna = api.person()
    project_id = anna.project()["id"]
    with pytest.raises(InvalidStatus) as caught:
        open_socket(served, "/v1/ops/socket", bearer(anna)).close()
    assert caught.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as caught:
        open_socket(served, "/v1/ops/socket?status=%00", bearer(operator)).close()
    assert caught.value.response.status_code == 400
    ticket = answered(operator.post("/v1/tickets", {"path": "/v1/ops/socket"}), 201)["ticket"]
    with open_socket(served, f"/v1/ops/socket?ticket={ticket}&project={project_id}&type=submitted") as socket:
        ready = json.loads(socket.recv(timeout=30))
        assert ready["type"] == "ready"
        assert ready["summary"]["unfinished"][0]["waiting"] == 0
        anna.pair(anna.project()["id"])
        mine = anna.pair(project_id)["assistantMessage"]["id"]
        told = json.loads(socket.recv(timeout=30))
        assert (told["type"], told["messageId"]) == ("submitted", mine)
        with engine.begin() as connection:
            connection.execute(text("UPDATE tokens SET scopes = '{}'"))
        with pytest.raises(Exception, match="4403"):
            socket.recv(timeout=60)
