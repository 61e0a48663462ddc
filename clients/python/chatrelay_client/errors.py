"""What a call or a stream can raise. Each has a `code` for programs, a `detail` that is safe to show, and a `status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

_REFUSED_CODES: Final[Mapping[int, tuple[str, str]]] = {
    1002: ("protocol_error", "The server met something that is no WebSocket frame."),
    1007: ("invalid_text", "The server was sent text that is not UTF-8."),
    1008: ("flood", "The server was sent too many frames."),
    4401: ("unauthorized", "The server was told no valid token in time."),
    4403: ("access_withdrawn", "The project was deleted, or you are no longer one of its members."),
}
"""The codes with which the server closes a socket for good. 1000 is the end; after every other one a reader comes back."""


class ChatrelayError(Exception):
    """`status` is the HTTP answer's; None where there was none."""

    def __init__(self, detail: str, *, code: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status


class ApiError(ChatrelayError):
    """The server refused (a status below 500: nothing has changed), or failed (of a change the outcome is unknown).

    `errors` are places that are wrong, each `path` and `message`; `index` is the failing operation's, of a patch;
    `retry_after_s` is what the server asked to wait.
    """

    def __init__(self, status: int, body: bytes, retry_after: str | None = None) -> None:
        problem = _object(body)
        title = str(problem.get("title") or f"HTTP {status}")
        super().__init__(
            str(problem.get("detail") or title), code=str(problem.get("code") or f"http_{status}"), status=status
        )
        self.title = title
        self.errors: list[dict[str, str]] = problem.get("errors") or []
        self.index: int | None = problem.get("index")
        self.retry_after_s = float(retry_after) if retry_after and retry_after.isdecimal() else None

    @property
    def is_transient(self) -> bool:
        """Whether the same call may well succeed a little later."""
        assert self.status is not None
        return self.status >= 500 or self.status in (408, 429)


class NoAnswer(ChatrelayError):
    """No answer came: the network is down, the server is, or the deadline passed. What became of the call is unknown."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"The server could not be reached: {cause}", code="no_answer")


class StreamClosed(ChatrelayError):
    """The server will not have this reader any more; `close_code` says why (4403: access withdrawn)."""

    def __init__(self, close_code: int) -> None:
        code, detail = _REFUSED_CODES[close_code]
        super().__init__(detail, code=code)
        self.close_code = close_code


def is_for_good(close_code: int) -> bool:
    """Whether a socket that was closed with this code is to stay closed, without having come to its end."""
    return close_code in _REFUSED_CODES


def _object(body: bytes) -> dict[str, Any]:
    """What a proxy in between answers need not be a problem, nor JSON."""
    try:
        problem = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}
