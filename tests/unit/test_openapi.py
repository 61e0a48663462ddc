"""The OpenAPI document: valid, complete, and of the types that requests are held to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from api import openapi
from api.app import CALLS
from api.calls import Access, Call
from api.errors import STATUSES
from shared.errors import ChatrelayError, Fenced, NotMigrated

_META_SCHEMA = Path(__file__).parents[1] / "cases" / "openapi-3.1-schema.json"
"""The OpenAPI Initiative's JSON Schema of OpenAPI 3.1 (Apache License 2.0)."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(openapi.document(CALLS)))
    return made


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    """By the OpenAPI Initiative's own schema, in which every schema is one of JSON Schema 2020-12."""
    validator = jsonschema_rs.Draft202012Validator(json.loads(_META_SCHEMA.read_text()))
    problems = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message[:200]}" for error in validator.iter_errors(document)
    ]
    assert problems == []
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_reference_in_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    known = document["components"]["schemas"]
    lost = [name for name in _references(document) if name not in known]
    assert lost == []


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                assert inner.startswith("#/components/schemas/")
                yield inner.rpartition("/")[2]
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_call_is_described_with_its_parameters_and_answers(call: Call, document: dict[str, Any]) -> None:
    """Summary, every part of the path, every status that the call can answer, and its security."""
    operation = document["paths"][call.path][call.method.lower()]
    assert operation["summary"].endswith(".")
    named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
    assert named == set(re.findall(r"\{(\w+)\}", call.path))
    assert {str(status) for status in call.answers} <= set(operation["responses"])
    if call.access is not Access.ANYBODY:
        assert operation["security"]
        assert {"401", "403", "503"} <= set(operation["responses"])
    if call.body is not None:
        assert {"400", "413", "415", "422"} <= set(operation["responses"])


def test_who_may_call_names_the_ways_in_that_there_are(document: dict[str, Any]) -> None:
    """A token, a JWT, and on some addresses a ticket; what needs none says so."""
    ways = document["components"]["securitySchemes"]
    assert (ways["token"]["scheme"], ways["jwt"]["bearerFormat"], ways["ticket"]["in"]) == ("bearer", "JWT", "query")
    for call in CALLS:
        security = document["paths"][call.path][call.method.lower()]["security"]
        named = {name for way in security for name in way}
        with_ticket = {"ticket"} if call.access is Access.TOKEN_OR_TICKET else set()
        assert named == (set() if call.access is Access.ANYBODY else {"token", "jwt"} | with_ticket), call.name


def test_every_refusal_that_a_caller_can_meet_has_its_status() -> None:
    """No class of ours falls through to a 500 but the families themselves and what only workers meet."""
    internal = {"refused", "unavailable", "internal", Fenced.code, NotMigrated.code}
    ours = (kind for kind in _kinds(ChatrelayError) if kind.__module__.startswith(("api.", "shared.errors")))
    missing = {kind.__name__ for kind in ours if kind not in STATUSES and kind.code not in internal}
    assert missing == set()


def _kinds(kind: type[ChatrelayError]) -> Iterator[type[ChatrelayError]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _kinds(inner)


def test_a_code_has_one_status() -> None:
    statuses: dict[str, set[int]] = {}
    for kind, status in STATUSES.items():
        statuses.setdefault(kind.code, set()).add(status)
    assert all(len(found) == 1 for found in statuses.values()), statuses
