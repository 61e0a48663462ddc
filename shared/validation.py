"""JSON Schema 2020-12 on a document: fetches nothing, quotes nothing, and runs patterns in linear time. Pure.

It holds the interpreter for as long as it takes, and a short schema can make that hours: see `shared.schema_process`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final, NoReturn, TypeAlias

import jsonschema_rs
import msgspec

Problems: TypeAlias = tuple[tuple[str, str], ...]
"""(JSON Pointer, message) pairs, none of the document's values in them."""

MOST_PROBLEMS: Final = 10
_MOST_CHARS: Final = 300
"""Of a pointer, and of a message."""


class Unusable(Exception):
    """The schema is none, or asks for what is not done here."""


def problems(schema: bytes, document: bytes | None) -> Problems:
    """Where `document` breaks `schema`, at most ten places; without a document only the schema is looked at.

    Raises `Unusable`.
    """
    compiled = _compiled(schema)
    if document is None:
        return ()
    found: list[tuple[str, str]] = []
    for error in compiled.iter_errors(msgspec.json.decode(document)):
        found.append((_pointer(error.instance_path), error.message[:_MOST_CHARS]))
        if len(found) == MOST_PROBLEMS:
            break
    return tuple(found)


def _pointer(parts: Iterable[str | int]) -> str:
    """JSON Pointer (RFC 6901) of a place, or of one around it where names in the document are long."""
    pointer = ""
    for part in parts:
        longer = f"{pointer}/{str(part).replace('~', '~0').replace('/', '~1')}"
        if len(longer) > _MOST_CHARS:
            break
        pointer = longer
    return pointer


def _refuse(uri: str) -> NoReturn:
    raise ValueError("a schema may not refer to other addresses")


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
        raise Unusable from error
