"""What a client says on a socket: frames in, meanings out. No I/O.

A message is at most `max_bytes` long, a client sends at most `max_frames_per_s` frames a second, control frames and
fragments counted, and each in so many pieces at most; whoever goes beyond is a flood. permessage-deflate is never agreed on,
and what has come of a message is kept as bytes, so that it takes as much memory as it took on the way, however it was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

import msgspec
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from api import wire
from api.close_codes import CloseCode
from shared import strict_json
from shared.errors import InvalidJson


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client asks to cancel a message: the one that it names, or the socket's."""

    message_id: UUID | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes to send back."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """The socket is to be closed with `code`; what comes after is not looked at."""

    code: CloseCode


@dataclass(frozen=True, slots=True)
class Closed:
    """The client closed, or answered our close; `answer` is the close frame for the first case."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """A whole message that is for somebody else to understand; None where it was not text."""

    text: str | None


BYTES_A_FRAME: Final = 64 * 1024
"""A longer message counts as so many frames as it has begun of these: reading it takes the loop of all sockets as long."""
PIECES_A_FRAME: Final = 64
"""So many reads a second are one frame's share: a frame of 64 KiB comes in 45 packets of an Ethernet."""
Said: TypeAlias = Cancel | Answer | Misbehaved | Closed | Text


class _ClientFrame(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    type: str
    message_id: UUID | None = None


_LONGEST_CHARS: Final = 1000
"""Of a frame of ours, which has two fields. Longer ones are not read: that would be done on the relay's loop."""
_MAX_DEPTH: Final = 4
_PONG: Final = wire.text_frame(b'{"type":"pong"}')


def error_frame(code: str, detail: str) -> bytes:
    """The frame that tells a client why something that it said was not done."""
    return wire.text_frame(msgspec.json.encode({"type": "error", "code": code, "detail": detail}))


class FrameBudget:
    """Counts frames in windows of one second."""

    __slots__ = ("_frames", "_most", "_window_began_s")

    def __init__(self, most_per_s: int) -> None:
        self._most = most_per_s
        self._frames = 0
        self._window_began_s = 0.0

    def spend(self, now_s: float, frames: int = 1) -> bool:
        """Whether so many more are allowed."""
        if now_s - self._window_began_s >= 1.0:
            self._window_began_s = now_s
            self._frames = 0
        self._frames += frames
        return self._frames <= self._most


class Inbound:
    """The client's side of one socket after its handshake."""

    __slots__ = ("_budget", "_connection", "_is_binary", "_max_bytes", "_meaning", "_message", "_pieces")

    def __init__(
        self, *, max_bytes: int, max_frames_per_s: int, meaning: Callable[[str | None], Said] | None = None
    ) -> None:
        """`meaning` is that of a whole message, None for one that is not text; by default our own frames'."""
        self._meaning = meaning or _meaning
        self._connection = Connection(ConnectionType.SERVER)
        self._budget = FrameBudget(max_frames_per_s)
        self._pieces = FrameBudget(max_frames_per_s * PIECES_A_FRAME)
        self._max_bytes = max_bytes
        self._message = bytearray()
        self._is_binary = False

    def feed(self, data: bytes, now_s: float) -> Iterator[Said]:
        """What `data` completes. Nothing may be fed after a `Misbehaved` or a `Closed`."""
        if not self._pieces.spend(now_s):
            yield Misbehaved(CloseCode.FLOOD)
            return
        self._connection.receive_data(data)
        for event in self._connection.events():
            match event:
                case CloseConnection():
                    yield self._on_close(event)
                    return
                case TextMessage() | BytesMessage():
                    said = self._on_part(event, now_s)
                case Ping():
                    said = Answer(wire.pong_frame(bytes(event.payload)))
                    if not self._budget.spend(now_s):
                        said = Misbehaved(CloseCode.FLOOD)
                case Pong():
                    said = None if self._budget.spend(now_s) else Misbehaved(CloseCode.FLOOD)
                case _:
                    said = None
            if said is not None:
                yield said
            if isinstance(said, Misbehaved):
                return

    def _on_close(self, event: CloseConnection) -> Said:
        if self._connection.state is ConnectionState.OPEN:  # the parser's own way to say that this is no frame
            is_text = event.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA
            return Misbehaved(CloseCode.INVALID_TEXT if is_text else CloseCode.PROTOCOL_ERROR)
        code = None if event.code == CloseReason.NO_STATUS_RCVD else int(event.code)
        return Closed(wire.close_frame(code))

    def _on_part(self, event: TextMessage | BytesMessage, now_s: float) -> Said | None:
        is_binary = isinstance(event, BytesMessage)
        data = event.data if isinstance(event, BytesMessage) else event.data.encode()
        size = len(self._message) + len(data)
        if size > self._max_bytes:
            return Misbehaved(CloseCode.FLOOD)
        if event.frame_finished and not self._budget.spend(now_s, max(1, -(-size // BYTES_A_FRAME))):
            return Misbehaved(CloseCode.FLOOD)
        self._message += data
        self._is_binary |= is_binary
        if not event.message_finished:
            return None
        text = None if self._is_binary else self._message.decode()
        self._message, self._is_binary = bytearray(), False
        return self._meaning(text)


def _meaning(text: str | None) -> Said:
    if text is None:
        return Answer(error_frame("bad_frame", "Frames are text."))
    try:
        if len(text) > _LONGEST_CHARS:
            raise InvalidJson
        frame = msgspec.convert(strict_json.load(text.encode(), max_depth=_MAX_DEPTH), _ClientFrame)
    except (InvalidJson, msgspec.ValidationError):
        return Answer(error_frame("bad_frame", 'A frame is a JSON object with a "type" and at most a "messageId".'))
    match frame.type:
        case "cancel":
            return Cancel(frame.message_id)
        case "ping":
            return Answer(_PONG)
        case _:
            return Answer(error_frame("bad_frame", "There is no such type of frame."))
