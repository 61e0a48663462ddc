"""Refusals and failures as ``application/problem+json`` (RFC 9457): one table, and nothing of the inside in an answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from api import refusals
from api.relay import TooManyReaders
from shared import errors
from shared.errors import ChatrelayError

_log = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"

STATUSES: Final[Mapping[type[ChatrelayError], int]] = {
    refusals.Unauthorized: 401,
    refusals.ForeignOrigin: 403,
    refusals.MissingScope: 403,
    refusals.BodyTooLarge: 413,
    refusals.UnsupportedMediaType: 415,
    errors.InvalidJson: 400,
    refusals.InvalidHeader: 400,
    refusals.InvalidQuery: 400,
    refusals.InvalidFields: 422,
    refusals.UpgradeRequired: 426,
    errors.NotFound: 404,
    errors.Forbidden: 403,
    errors.Busy: 409,
    errors.AlreadyFinal: 409,
    errors.NotFinal: 409,
    errors.NotBuilt: 409,
    errors.BatchOver: 409,
    errors.PatchRejected: 409,
    errors.NothingToUndo: 409,
    errors.NothingToRedo: 409,
    errors.LastOwner: 409,
    errors.TooManyMembers: 409,
    errors.VersionMismatch: 412,
    errors.SchemaViolation: 422,
    errors.InvalidSchema: 422,
    errors.VersionOutOfReach: 422,
    errors.IdempotencyMismatch: 422,
    refusals.TooManyRequests: 429,
    refusals.TooManyAttempts: 429,
    errors.TooManyUnfinished: 429,
    errors.QuotaExceeded: 429,
    TooManyReaders: 429,
    errors.StoreUnavailable: 503,
    errors.LogUnavailable: 503,
    refusals.IdentityUnavailable: 503,
}
"""The status of each error that a caller can meet. What is not here is ours, and a 500."""

_RETRY_AFTER_S: Final = 5
_UNKNOWN_OUTCOME: Final = (
    "The database did not answer in time. Whether the request took effect is unknown; a message sent with an"
    " Idempotency-Key may be sent again with the same key and body."
)
_OF_STATUS: Final = {404: errors.NotFound, 413: refusals.BodyTooLarge, 415: refusals.UnsupportedMediaType}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457, with a `code` for programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[PlaceProblem] | None = None
    """Fields that are wrong: in the body, the query or the document."""
    index: int | None = None
    """The failing operation's, of a patch."""


class PlaceProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong at one place; `path` is a JSON Pointer."""

    path: str
    message: str


def install(app: Flask) -> None:
    """Answer every error of `app`, Flask's own included, as a problem."""
    app.register_error_handler(ChatrelayError, answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unforeseen)


def problem_of(error: ChatrelayError) -> Problem:
    """What a caller is told of `error`."""
    status = STATUSES.get(type(error))
    if status is None:
        return _problem(500, errors.Broken)
    detail = _UNKNOWN_OUTCOME if isinstance(error, errors.StoreUnavailable) else error.detail
    places = getattr(error, "errors", None)
    return _problem(
        status,
        type(error),
        detail=detail,
        errors=[PlaceProblem(path=path, message=message) for path, message in places] if places else None,
        index=getattr(error, "index", None),
    )


def answer(error: ChatrelayError) -> Response:
    """`error` as a response."""
    problem = problem_of(error)
    if problem.status == 500:
        _log.error("a request failed", exc_info=error)
    elif problem.status == 503:
        _log.warning("a request was not served: %s", error.__cause__ or error)
    return _response(problem, headers_of(error, problem.status))


def headers_of(error: ChatrelayError, status: int) -> dict[str, str]:
    """What an answer with this error says beside its body."""
    match error:
        case errors.QuotaExceeded():
            return {"Retry-After": str(_seconds_to_midnight())}
        case refusals.TooManyRequests() | refusals.TooManyAttempts():
            return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
        case refusals.Unauthorized():
            return {"WWW-Authenticate": 'Bearer realm="chatrelay"'}
        case refusals.UpgradeRequired():
            return {"Upgrade": "websocket"}
        case _:
            return {"Retry-After": str(_RETRY_AFTER_S)} if status in (429, 503) else {}


def _seconds_to_midnight() -> int:
    """Until the next day begins in UTC."""
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(1, int((tomorrow - now).total_seconds()))


def _answer_http(error: HTTPException) -> Response:
    """What Flask and werkzeug refuse: no such address, no such method, a malformed request."""
    status = error.code or 500
    if status < 400:
        return Response(status=status, headers=error.get_headers())
    known = _OF_STATUS.get(status)
    if known is not None:
        problem = _problem(status, known)
    else:
        code = error.name.lower().replace(" ", "_").replace("'", "")
        problem = Problem(type="about:blank", title=error.name, status=status, detail=error.name, code=code)
    allowed = {name: value for name, value in error.get_headers() if name == "Allow"}
    return _response(problem, allowed)


def _answer_unforeseen(error: Exception) -> Response:
    _log.error("a request failed", exc_info=error)
    return _response(_problem(500, errors.Broken), {})


def _problem(
    status: int,
    kind: type[ChatrelayError],
    *,
    detail: str | None = None,
    errors: list[PlaceProblem] | None = None,
    index: int | None = None,
) -> Problem:
    title = (kind.__doc__ or kind.code).split("\n\n")[0]
    return Problem(
        type=f"/docs#{kind.code}",
        title=title,
        status=status,
        detail=detail or title,
        code=kind.code,
        errors=errors,
        index=index,
    )


def _response(problem: Problem, headers: Mapping[str, Any]) -> Response:
    response = Response(msgspec.json.encode(problem), problem.status, mimetype=PROBLEM_JSON)
    response.headers.update(headers)
    return response
