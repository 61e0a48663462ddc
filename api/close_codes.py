"""Every code with which this server closes a socket: one table."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """The number that goes over the wire, the words beside it, and what a client does about it.

    `reconnects`: the client comes back, with `after` set to the last event id that it has.
    """

    FINISHED = (1000, "finished", False)
    """The terminal event was sent, or the reader had it already."""
    PROTOCOL_ERROR = (1002, "not a WebSocket frame", False)
    INVALID_TEXT = (1007, "text that is not UTF-8", False)
    FLOOD = (1008, "too many or too large frames", False)
    BROKEN = (1011, "something went wrong on the server", True)
    RESTART = (1012, "the server restarts", True)
    UNKNOWN = (4401, "no valid token in time", False)
    """On a socket whose client says who it is after the handshake."""
    TOO_SLOW = (4008, "too slow", True)
    """What waited for this reader was not taken in time."""
    WITHDRAWN = (4403, "access withdrawn", False)
    """The project was deleted, or the reader is no longer one of its members."""

    reason: str
    reconnects: bool

    def __new__(cls, number: int, reason: str, reconnects: bool) -> CloseCode:
        code = int.__new__(cls, number)
        code._value_ = number
        code.reason = reason
        code.reconnects = reconnects
        return code
