"""JSON Schema for documents.

Safe for schemas that users bring: nothing is fetched, and a check that would take long is given up.
"""

from __future__ import annotations

import functools

import msgspec

from shared import schema_process, video
from shared.errors import InvalidSchema, SchemaViolation
from shared.records import JsonValue
from shared.schema_process import Answer, CheckTooLong
from shared.validation import problems


def check_schema(schema: JsonValue) -> None:
    """Raises `InvalidSchema` where `schema` cannot be used."""
    if not isinstance(schema, dict | bool):
        raise InvalidSchema
    try:
        answer = _answer(msgspec.json.encode(schema), None)
    except CheckTooLong:
        raise InvalidSchema("The schema takes too long to read.") from None
    if not answer.is_usable:
        raise InvalidSchema


def check_document(document: JsonValue, schema: JsonValue) -> None:
    """Raises `SchemaViolation` with at most ten places, none of the document's values in it; no schema allows everything.

    Takes twice `schema_process.WALL_S` at the longest.
    """
    if schema is None:
        return
    try:
        answer = _answer(msgspec.json.encode(schema), msgspec.json.encode(document))
    except CheckTooLong:
        raise SchemaViolation(errors=(("", "takes too long to check against the schema"),)) from None
    if not answer.is_usable:
        raise InvalidSchema
    if answer.problems:
        raise SchemaViolation(errors=answer.problems)


def _answer(schema: bytes, document: bytes | None) -> Answer:
    if schema == _template():  # ours: no document makes it slow
        return Answer(is_usable=True, problems=problems(schema, document))
    return schema_process.ask(schema, document)


@functools.cache
def _template() -> bytes:
    return msgspec.json.encode(video.SCHEMA)
