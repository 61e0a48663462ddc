"""How much of a request has come: whether a thread that is asked to answer it would have to wait for its sender. No I/O.

Only the framing is looked at (RFC 9112, section 6), and nothing is refused but a head without an end: what a request means,
and whether it is one, is the web server's own parser's to say. It is given every byte, so that the two cannot disagree about
more than whether to wait.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

HEAD_BYTES: Final = 32 * 1024
"""A request line and headers beyond it are refused: four times what a browser or nginx sends at most."""
_END_OF_HEAD: Final = b"\r\n\r\n"
_FRAMING: Final = re.compile(rb"\r\n(content-length|transfer-encoding):[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_EXPECTS: Final = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[^\r\n]*\r\n")
_SIZE_LINE_BYTES: Final = 4096


class Progress(Enum):
    HEAD = auto()
    """The head has not all come."""
    BODY = auto()
    WHOLE = auto()
    """All has come, or enough of it to be refused."""
    ENDLESS_HEAD = auto()


class Arriving:
    """The bytes of one request, and of what its sender sent behind it."""

    __slots__ = ("_chunks_from", "_most_body_bytes", "_whole_bytes", "data", "head_bytes", "progress", "wants_continue")

    def __init__(self, *, most_body_bytes: int) -> None:
        """A longer body is not waited for: its head is enough to refuse it."""
        self.data = bytearray()
        self.progress = Progress.HEAD
        self.head_bytes = 0
        self.wants_continue = False
        """The sender waits to be told that its body is wanted (``Expect: 100-continue``)."""
        self._most_body_bytes = most_body_bytes
        self._whole_bytes: int | None = None
        self._chunks_from = 0

    def feed(self, data: bytes) -> Progress:
        known = len(self.data)
        self.data += data
        if self.progress is Progress.HEAD:
            self._look_for_head(max(0, known - len(_END_OF_HEAD) + 1))
        if self.progress is Progress.BODY:
            self._look_for_end()
        return self.progress

    def _look_for_head(self, start: int) -> None:
        end = self.data.find(_END_OF_HEAD, start, HEAD_BYTES)
        if end < 0:
            if len(self.data) >= HEAD_BYTES:
                self.progress = Progress.ENDLESS_HEAD
            return
        self.head_bytes = self._chunks_from = end + len(_END_OF_HEAD)
        head = bytes(self.data[: end + 2])
        match _FRAMING.findall(head):
            case [(name, value)] if len(name) == len(b"content-length") and _LENGTH.fullmatch(value):
                if (length := int(value)) <= self._most_body_bytes:
                    self._whole_bytes = self.head_bytes + length
                    self.progress = Progress.BODY
            case [(_, value)] if value.lower() == b"chunked":
                self.progress = Progress.BODY
        if self.progress is Progress.BODY:
            self.wants_continue = _EXPECTS.search(head) is not None
        else:  # no body, or one that is not waited for
            self.progress = Progress.WHOLE

    def _look_for_end(self) -> None:
        if self._whole_bytes is not None:
            if len(self.data) >= self._whole_bytes:
                self.progress = Progress.WHOLE
        elif (
            len(self.data) > self.head_bytes + 2 * self._most_body_bytes + _SIZE_LINE_BYTES or self._chunks_have_ended()
        ):
            self.progress = Progress.WHOLE

    def _chunks_have_ended(self) -> bool:
        """Whether the last chunk, or something that is none, has come."""
        while True:
            line = _CHUNK_SIZE.match(self.data, self._chunks_from)
            if line is None:
                rest = len(self.data) - self._chunks_from
                return rest > _SIZE_LINE_BYTES or self.data.find(b"\r\n", self._chunks_from) >= 0
            size = int(line[1], 16)
            if size == 0:  # an empty line follows, or trailers and one
                end = line.end()
                if (
                    len(self.data) - end > _SIZE_LINE_BYTES
                ):  # more trailers than anybody sends: the parser says what that is
                    return True
                return self.data.startswith(b"\r\n", end) or self.data.find(_END_OF_HEAD, end) >= 0
            if line.end() + size + 2 > len(self.data):
                return False
            self._chunks_from = line.end() + size + 2
