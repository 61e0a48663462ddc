"""Our events as tRPC's clients know them: the seven, each tracked by its id, ended after the first `finalized`. Pure.

A `snapshot` goes out as a `complete` with the text so far. `cancelled` goes out as an `error` and a `finalized` `error`: the
first under the id before the other's, so that a client whose connection is cut between them gets both again, and not neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from api import wire
from api.close_codes import CloseCode
from api.protocols.trpc import envelopes
from api.protocols.trpc.envelopes import Envelope, Transformer
from api.protocols.trpc.errors import FORBIDDEN, Shape, shape
from api.wire import Frame
from shared import events
from shared.events import Complete, Error, EventId, Finalized, Snapshot

CANCELLED: Final = "The answer was cancelled."
_WITHDRAWN: Final = "Your access to this project was withdrawn."


def tracked(frame: Frame) -> Iterator[tuple[str, bytes]]:
    """What goes out for one event: ids, and events as JSON. What needs no change is passed on unparsed."""
    event_id = str(wire.unpack(frame.position))
    if frame.kind == "snapshot":
        snapshot = events.decode(frame.payload)
        assert isinstance(snapshot, Snapshot)
        yield event_id, events.encode(as_complete(snapshot))
    elif frame.kind == "finalized" and b'"status":"cancelled"' in frame.payload:
        finalized = events.decode(frame.payload)
        assert isinstance(finalized, Finalized)
        before = str(EventId.parse(finalized.id).before)
        yield before, events.encode(cancellation(finalized, before))
        yield event_id, events.encode(replace(finalized, status="error"))
    else:
        yield event_id, frame.payload


def as_complete(snapshot: Snapshot) -> Complete:
    return Complete(id=snapshot.id, message_id=snapshot.message_id, ts=snapshot.ts, final_content=snapshot.content)


def cancellation(finalized: Finalized, event_id: str) -> Error:
    """Without a `finalContent`: the text stays as it is shown."""
    return Error(
        id=event_id,
        message_id=finalized.message_id,
        ts=finalized.ts,
        error=CANCELLED,
        code="cancelled",
        retryable=False,
    )


class _Telling:
    def __init__(self) -> None:
        self._is_over = False

    def is_over(self) -> bool:
        return self._is_over

    def _taken(self, frame: Frame) -> Iterator[tuple[str, bytes]]:
        self._is_over = frame.kind == "finalized"
        return tracked(frame)


class SocketTelling(_Telling):
    """To the subscription that `envelope` is addressed to; units are frames."""

    def __init__(self, envelope: Envelope, path: str) -> None:
        super().__init__()
        self._envelope = envelope
        self._path = path

    def begin(self) -> Sequence[bytes]:
        return (self._envelope.started,)

    def tell(self, frame: Frame) -> Sequence[bytes]:
        return [self._envelope.tracked(event_id, encoded) for event_id, encoded in self._taken(frame)]

    def end(self, code: CloseCode) -> Sequence[bytes]:
        if code is CloseCode.WITHDRAWN:
            return (self._envelope.error(withdrawn(self._path)),)
        return (self._envelope.stopped,)


class StreamTelling(_Telling):
    """To an EventSource; units are blocks.

    `return` ends the subscription. A stream that ends without it is one to come back to.
    """

    def __init__(self, transformer: Transformer, path: str, *, reconnect_after_ms: int) -> None:
        super().__init__()
        self._transformer = transformer
        self._path = path
        self._reconnect_after_ms = reconnect_after_ms

    def begin(self) -> Sequence[bytes]:
        return (connected(self._reconnect_after_ms),)

    def tell(self, frame: Frame) -> Sequence[bytes]:
        return [
            envelopes.tracked_event(event_id, encoded, self._transformer) for event_id, encoded in self._taken(frame)
        ]

    def end(self, code: CloseCode) -> Sequence[bytes]:
        if code is CloseCode.FINISHED:
            return (envelopes.event("return"),)
        if code is CloseCode.WITHDRAWN:
            return (envelopes.error_event(withdrawn(self._path), self._transformer),)
        return ()


def connected(reconnect_after_ms: int) -> bytes:
    return envelopes.event("connected", b'{"reconnectAfterInactivityMs":%d}' % reconnect_after_ms)


def withdrawn(path: str) -> Shape:
    return shape(FORBIDDEN, _WITHDRAWN, path)
