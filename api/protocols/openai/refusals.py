"""Refusals and failures in the shape of OpenAI's API: ``{"error": {message, type, param, code}}``, with our own statuses.

Its clients repeat by themselves what was answered with 408, 409, 429 or 5xx. After a refusal of a request that makes
something they must not: without a key, the repetition would be taken for one of an earlier request of the same words
(`http._sent_before`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import msgspec
from flask import Response, request

from api import errors
from api.calls import Answer, Words
from api.refusals import Unauthorized
from shared.errors import ChatrelayError, QuotaExceeded

_log = logging.getLogger(__name__)

_TYPES: Final = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: Final[dict[type[ChatrelayError], str]] = {Unauthorized: "invalid_api_key", QuotaExceeded: "insufficient_quota"}
"""Where programs look for a code of OpenAI's; the others are ours."""
_REPEATED_BY_CLIENTS: Final = frozenset({409, 429})
_BROKEN: Final = "Something went wrong on the server."


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was refused, or went wrong. `param` names a field."""

    error: ErrorDetail


class Refusal(Exception):
    """What this protocol alone refuses."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status


def answer(error: Exception) -> Answer:
    """Any error's. Of one that is not ours, nothing is told."""
    if isinstance(error, Refusal):
        return _answer(error.status, error.message, error.code, error.param)
    if not isinstance(error, ChatrelayError):
        _log.error("a request failed", exc_info=error)
        return _answer(500, _BROKEN, "internal")
    problem = errors.problem_of(error)
    if problem.status == 500:
        _log.error("a request failed", exc_info=error)
    elif problem.status == 503:
        _log.warning("a request was not served: %s", error.__cause__ or error)
    places = problem.errors or []
    return _answer(
        problem.status,
        "; ".join(f"{place.path.lstrip('/') or 'the body'} {place.message}" for place in places) or problem.detail,
        _CODES.get(type(error), problem.code),
        (places[0].path.strip("/").replace("/", ".") or None) if places else None,
        errors.headers_of(error, problem.status),
    )


def _answer(
    status: int, message: str, code: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    body = ErrorAnswer(error=ErrorDetail(message=message, type=kind, param=param, code=code))
    return Answer(status=status, body=body, headers=headers or {})


def final(made: Answer) -> Answer:
    """The same, which clients do not repeat by themselves."""
    return Answer(status=made.status, body=made.body, headers={**made.headers, "X-Should-Retry": "false"})


def _say(error: Exception) -> Response:
    made = answer(error)
    if request.method == "POST" and made.status in _REPEATED_BY_CLIENTS and "Idempotency-Key" not in request.headers:
        made = final(made)
    return made.response()


WORDS: Final = Words(say=_say, body=ErrorAnswer)
