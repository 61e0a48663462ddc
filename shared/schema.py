"""JSON Schema for documents and tool arguments.

Safe for schemas that users bring: nothing is fetched, and patterns run in linear time.
"""

from __future__ import annotations

import functools
from typing import Final, NoReturn

import jsonschema_rs
import msgspec

from shared.errors import InvalidSchema, SchemaViolation
from shared.records import JsonValue

_SHOWN: Final = 10


def check_schema(schema: JsonValue) -> None:
    """Raises `InvalidSchema` where `schema` cannot be used."""
    if not isinstance(schema, dict | bool):
        raise InvalidSchema
    _compiled(msgspec.json.encode(schema))


def check_document(document: JsonValue, schema: JsonValue) -> None:
    """Raises `SchemaViolation` with at most ten places, none of the document's values in it; no schema allows everything."""
    if schema is None:
        return
    problems = []
    for error in _compiled(msgspec.json.encode(schema)).iter_errors(document):
        problems.append(("".join(f"/{part}" for part in error.instance_path), error.message[:300]))
        if len(problems) == _SHOWN:
            break
    if problems:
        raise SchemaViolation(errors=tuple(problems))


def _refuse(uri: str) -> NoReturn:
    raise InvalidSchema("a schema may not refer to other addresses")


@functools.lru_cache(maxsize=256)
def _compiled(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            msgspec.json.decode(schema),
            mask="the value",
            retriever=_refuse,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except (ValueError, jsonschema_rs.ValidationError, RecursionError) as error:
        raise InvalidSchema from error
