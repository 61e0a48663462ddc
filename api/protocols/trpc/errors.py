"""Refusals as tRPC's error shapes: ``{message, code, data: {code, httpStatus, path?}}``. Pure.

Numbers and names are `TRPC_ERROR_CODES_BY_KEY` and `JSONRPC2_TO_HTTP_CODE` of @trpc/server 11.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from api import errors, refusals
from shared.errors import ChatrelayError


class Kind(NamedTuple):
    key: str
    number: int
    http_status: int


PARSE_ERROR: Final = Kind("PARSE_ERROR", -32700, 400)
BAD_REQUEST: Final = Kind("BAD_REQUEST", -32600, 400)
UNAUTHORIZED: Final = Kind("UNAUTHORIZED", -32001, 401)
FORBIDDEN: Final = Kind("FORBIDDEN", -32003, 403)
NOT_FOUND: Final = Kind("NOT_FOUND", -32004, 404)
METHOD_NOT_SUPPORTED: Final = Kind("METHOD_NOT_SUPPORTED", -32005, 405)
CONFLICT: Final = Kind("CONFLICT", -32009, 409)
PRECONDITION_FAILED: Final = Kind("PRECONDITION_FAILED", -32012, 412)
PAYLOAD_TOO_LARGE: Final = Kind("PAYLOAD_TOO_LARGE", -32013, 413)
UNSUPPORTED_MEDIA_TYPE: Final = Kind("UNSUPPORTED_MEDIA_TYPE", -32015, 415)
UNPROCESSABLE_CONTENT: Final = Kind("UNPROCESSABLE_CONTENT", -32022, 422)
TOO_MANY_REQUESTS: Final = Kind("TOO_MANY_REQUESTS", -32029, 429)
INTERNAL_SERVER_ERROR: Final = Kind("INTERNAL_SERVER_ERROR", -32603, 500)
SERVICE_UNAVAILABLE: Final = Kind("SERVICE_UNAVAILABLE", -32603, 503)
"""Clients come back by themselves after a number of -32603."""

_OF_STATUS: Final = {
    kind.http_status: kind
    for kind in (
        BAD_REQUEST,
        UNAUTHORIZED,
        FORBIDDEN,
        NOT_FOUND,
        METHOD_NOT_SUPPORTED,
        CONFLICT,
        PRECONDITION_FAILED,
        PAYLOAD_TOO_LARGE,
        UNSUPPORTED_MEDIA_TYPE,
        UNPROCESSABLE_CONTENT,
        TOO_MANY_REQUESTS,
        INTERNAL_SERVER_ERROR,
        SERVICE_UNAVAILABLE,
    )
}


class ShapeData(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    code: str
    http_status: int
    path: str | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """An error as a client gets it."""

    message: str
    code: int
    data: ShapeData


class Refusal(Exception):
    """What tRPC itself refuses: a frame, a procedure, a method."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class MalformedMessage(Refusal):
    """What was said is not a message of tRPC's."""

    def __init__(self, message: str) -> None:
        super().__init__(PARSE_ERROR, message)


def shape(kind: Kind, message: str, path: str | None = None) -> Shape:
    return Shape(
        message=message, code=kind.number, data=ShapeData(code=kind.key, http_status=kind.http_status, path=path)
    )


def shape_of(error: Exception, path: str | None = None) -> Shape:
    """Any error's. Of one that is not ours, nothing is told."""
    if isinstance(error, Refusal):
        return shape(error.kind, error.message, path)
    if not isinstance(error, ChatrelayError):
        return shape(INTERNAL_SERVER_ERROR, "Something went wrong on the server.", path)
    problem = errors.problem_of(error)
    places = "; ".join(f"{place.path.lstrip('/') or 'input'} {place.message}" for place in problem.errors or ())
    kind = BAD_REQUEST if isinstance(error, refusals.InvalidFields) else _OF_STATUS[problem.status]
    return shape(kind, places or problem.detail, path)
