"""JSON Schemas that users bring: checked, bounded, fetching nothing, giving nothing away."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidSchema, SchemaViolation
from shared.schema import check_document, check_schema

_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 5},
        "scenes": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["title"],
    "additionalProperties": False,
}


def test_a_document_that_fits_passes() -> None:
    check_schema(_SCHEMA)
    check_document({"title": "a", "scenes": [{}]}, _SCHEMA)


def test_without_a_schema_everything_fits() -> None:
    check_document({"any": [1, None]}, None)


@pytest.mark.parametrize("schema", [True, {}])
def test_a_schema_may_allow_everything(schema: Any) -> None:
    check_schema(schema)
    check_document({"any": 1}, schema)


def test_every_place_that_breaks_it_is_told_by_its_pointer() -> None:
    with pytest.raises(SchemaViolation) as violated:
        check_document({"title": 1, "scenes": [{}, 2]}, _SCHEMA)
    assert {path for path, _ in violated.value.errors} == {"/title", "/scenes/1"}


def test_at_most_ten_places_are_told() -> None:
    with pytest.raises(SchemaViolation) as violated:
        check_document({"title": "a", "scenes": [1] * 50}, _SCHEMA)
    assert len(violated.value.errors) == 10


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        ({"type": "integer"}, "canary-7f3a"),
        ({"properties": {"a": {"maxLength": 3}}}, {"a": "canary-7f3a"}),
        ({"properties": {"a": {"enum": ["b"]}}}, {"a": "canary-7f3a"}),
        ({"properties": {"a": {"const": 1}}}, {"a": {"deep": "canary-7f3a"}}),
        ({"properties": {"a": {"pattern": "^x"}}}, {"a": "canary-7f3a"}),
        ({"uniqueItems": True}, ["canary-7f3a", "canary-7f3a"]),
        ({"properties": {"a": {"format": "email"}}, "not": {}}, {"a": "canary-7f3a"}),
    ],
)
def test_no_value_of_the_document_is_shown(schema: Any, document: Any) -> None:
    with pytest.raises(SchemaViolation) as violated:
        check_document(document, schema)
    assert violated.value.errors
    assert "canary" not in f"{violated.value} {violated.value.errors}"


@pytest.mark.parametrize(
    "schema",
    [
        None,
        1,
        "text",
        [],
        {"type": "nothing"},
        {"type": 1},
        {"properties": []},
        {"$ref": "https://example.org/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$ref": "http://127.0.0.1:1/"}}},
        {"$ref": "#/nowhere"},
        {"pattern": "("},
        {"minLength": -1},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: Any) -> None:
    """An address is refused and never fetched: sockets are closed here."""
    with pytest.raises(InvalidSchema):
        check_schema(schema)


def test_a_schema_may_refer_to_itself() -> None:
    schema = {
        "$defs": {"tree": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}}},
        "$ref": "#/$defs/tree",
    }
    check_schema(schema)
    check_document({"a": {"b": {}}}, schema)
    with pytest.raises(SchemaViolation):
        check_document({"a": {"b": 1}}, schema)


def test_a_pattern_takes_linear_time() -> None:
    """A backtracking engine would take longer than the test may run."""
    with pytest.raises(SchemaViolation):
        check_document(["a" * 5000 + "!"], {"items": {"pattern": "^(a+)+$"}})
    with pytest.raises(InvalidSchema):
        check_schema({"pattern": "(?=look)ahead"})


def test_a_schema_nested_very_deep_is_refused_or_used_but_breaks_nothing() -> None:
    schema: dict[str, Any] = {}
    for _ in range(60):
        schema = {"properties": {"a": schema}}
    check_schema(schema)
    check_document({"a": {"a": 1}}, schema)
