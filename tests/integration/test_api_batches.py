"""Batches over HTTP, as an operator asks for them."""

from __future__ import annotations

import csv
import io
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, text

from shared.store import Store
from tests.integration.api_parts import Api, Person, answered, refused


@pytest.fixture
def operator(api: Api) -> Person:
    token, _ = api.store.create_token("olga", scopes=frozenset({"ops"}))
    return Person(api.app, "olga", token)


def failed(api: Api, engine: Engine, code: str = "length", count: int = 1) -> list[str]:
    """Messages that ended with this code, each in a project of its own."""
    person = api.person()
    ids = [person.pair(person.project()["id"])["assistantMessage"]["id"] for _ in range(count)]
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE messages SET status = 'error', kind = 'error', error_code = :code WHERE id = ANY(:ids)"),
            {"code": code, "ids": [uuid.UUID(id_) for id_ in ids]},
        )
    return ids


def test_a_batch_is_started_and_reported(api: Api, engine: Engine, operator: Person, store: Store) -> None:
    ids = failed(api, engine, count=3)
    started = answered(operator.post("/v1/ops/reprocess", {"status": "error", "rate": "90/m"}), 202)
    assert started == {"batchId": started["batchId"], "matched": 3, "explanation": None}
    path = f"/v1/ops/batches/{started['batchId']}"
    batch = answered(operator.get(path), 200)
    assert batch["counts"] == {"waiting": 3, "sent": 0, "succeeded": 0, "failed": 0, "skipped": 0}
    assert (batch["status"], batch["rate"], batch["askedBy"]) == ("running", 1.5, "olga")
    assert (batch["filter"], batch["endedAt"]) == ({"status": "error"}, None)
    assert batch["ends"] == [{"state": "waiting", "firstCode": "length", "code": None, "reason": None, "count": 3}]
    listed = answered(operator.get("/v1/ops/batches"), 200)
    assert listed["items"] == [{name: value for name, value in batch.items() if name != "ends"}]
    first = answered(operator.get(f"{path}/items?limit=2"), 200)
    rest = answered(operator.get(f"{path}/items?limit=2&before={first['nextCursor']}"), 200)
    assert [item["messageId"] for item in [*first["items"], *rest["items"]]] == ids[::-1]
    assert rest["nextCursor"] is None
    assert answered(operator.get(f"{path}/items?state=failed"), 200)["items"] == []


def test_a_dry_run_explains_and_does_nothing(api: Api, engine: Engine, operator: Person) -> None:
    failed(api, engine)
    body = {"status": "error", "code": "refusal", "dryRun": True}
    told = answered(operator.post("/v1/ops/reprocess", body), 202)
    explanation = {"matched": 0, "byCode": {}, "byModel": {}, "excluded": {"other_code": 1}}
    assert told == {"batchId": None, "matched": 0, "explanation": explanation}
    assert answered(operator.get("/v1/ops/batches"), 200)["items"] == []


def test_pause_resume_and_stop(api: Api, engine: Engine, operator: Person) -> None:
    failed(api, engine)
    path = f"/v1/ops/batches/{answered(operator.post('/v1/ops/reprocess', {'status': 'error'}), 202)['batchId']}"
    for act, status in (("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("stop", "stopped")):
        assert answered(operator.post(f"{path}/{act}"), 200)["status"] == status
    refused(operator.post(f"{path}/resume"), 409, "batch_over")
    assert answered(operator.get(path), 200)["counts"]["skipped"] == 1


def test_the_same_key_starts_one_batch(api: Api, engine: Engine, operator: Person) -> None:
    """However its body is written down; another body is refused."""
    failed(api, engine)
    key = {"Idempotency-Key": "night"}
    bodies: list[dict[str, Any]] = [{"status": "error", "rate": 5}, {"rate": "5/s", "status": "error", "model": None}]
    ids = {answered(operator.post("/v1/ops/reprocess", body, headers=key), 202)["batchId"] for body in bodies}
    assert len(ids) == 1
    refused(operator.post("/v1/ops/reprocess", {"status": "cancelled"}, headers=key), 422, "idempotency_key_reused")


WRONG: list[tuple[Any, str]] = [
    ({}, "/status"),
    ({"status": "success"}, "/status"),
    ({"status": "error", "code": "nonsense"}, "/code"),
    ({"status": "cancelled", "code": "length"}, "/code"),
    ({"status": "error", "since": "yesterday"}, "/since"),
    ({"status": "error", "since": "2026-01-01T00:00:00"}, "/since"),
    ({"status": "error", "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "/until"),
    ({"status": "error", "project": "x"}, "/project"),
    ({"status": "error", "rate": 0}, "/rate"),
    ({"status": "error", "rate": "5"}, "/rate"),
    ({"status": "error", "rate": "0/s"}, "/rate"),
    ({"status": "error", "rate": "99999999/s"}, "/rate"),
    ({"status": "error", "nonsense": 1}, ""),
]


@pytest.mark.parametrize(("body", "place"), WRONG, ids=str)
def test_what_is_wrong_with_a_request_is_said_by_its_place(operator: Person, body: Any, place: str) -> None:
    problem = refused(operator.post("/v1/ops/reprocess", body), 422, "invalid_fields")
    assert [error["path"] for error in problem["errors"]] == [place]


def test_the_report_is_csv_with_a_line_for_every_message(api: Api, engine: Engine, operator: Person) -> None:
    ids = failed(api, engine, count=2)
    batch_id = answered(operator.post("/v1/ops/reprocess", {"status": "error"}), 202)["batchId"]
    answered(operator.post(f"/v1/ops/batches/{batch_id}/stop"), 200)
    response = operator.get(f"/v1/ops/batches/{batch_id}/report.csv")
    assert response.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    listed = answered(operator.get(f"/v1/ops/batches/{batch_id}/items"), 200)["items"]
    assert [row["messageId"] for row in rows] == ids[::-1]
    assert rows == [{name: "" if value is None else str(value) for name, value in item.items()} for item in listed]


def test_a_batch_of_chosen_messages_takes_those_of_them_that_pass(
    api: Api, engine: Engine, operator: Person, store: Store
) -> None:
    """A message that is named and has another code is left out, and told of; what is not named is not looked at."""
    chosen, other = failed(api, engine, count=2), failed(api, engine, code="refusal")
    failed(api, engine)
    wanted = {"status": "error", "code": "length", "messages": [*chosen, *other]}
    told = answered(operator.post("/v1/ops/reprocess", {**wanted, "dryRun": True}), 202)
    assert (told["matched"], told["explanation"]["excluded"]) == (2, {"other_code": 1})
    path = f"/v1/ops/batches/{answered(operator.post('/v1/ops/reprocess', wanted), 202)['batchId']}"
    assert {item["messageId"] for item in answered(operator.get(f"{path}/items"), 200)["items"]} == set(chosen)
    assert answered(operator.get(path), 200)["filter"] == wanted
    for wrong in ([], ["x"], [chosen[0]] * 1_001):
        refused(operator.post("/v1/ops/reprocess", {**wanted, "messages": wrong}), 422, "invalid_fields")
