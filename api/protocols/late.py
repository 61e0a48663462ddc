"""An answer that comes once a message is final, and holds no thread until then.

The request's connection is given to the relay, where it is a reader that is told nothing: when the message ends, or the
reader's time is up, one of the relay's threads for calls makes the answer, which is written as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec
from flask import Response, request

from api import origins, wire
from api.calls import Answer
from api.close_codes import CloseCode
from api.handover import HandedOver, take_socket
from api.hub import Hub
from api.readers import MOST_UNREAD_BYTES, ConnectedReader, MessageTarget, Place
from api.relay import Admission
from api.requests import LONGEST_WAIT_S
from api.services import Services

Finish = Callable[[CloseCode | None], Answer]
"""Makes the answer; None: the time is up. May block, and raises nothing."""


def answer(
    services: Services, target: MessageTarget, finish: Finish, *, admission: Admission, timeout_s: float | None = None
) -> Response:
    """The answer to the present request: what `finish` makes once `target`, which the caller has authorised, is final.

    Owns `admission`. Where the server gives no connection away, the request's thread waits, for two minutes at most.
    """
    try:
        connection = take_socket(request.environ)
    except OSError:
        admission.release()
        raise
    if connection is None:
        try:
            return _in_this_thread(services, target, finish, timeout_s)
        finally:
            admission.release()
    own = [*origins.headers(services.settings).items()]
    services.relay.adopt(
        connection,
        lambda hub: _Waiting(hub, target, admission, finish, headers=own, timeout_s=timeout_s),
        admission,
        _encoded(finish(CloseCode.RESTART), own),
    )
    return HandedOver()


class _Waiting(ConnectedReader):
    """A request whose answer is to come."""

    __slots__ = ("_deadline_s", "_finish", "_headers", "_is_written", "_unread_bytes")
    kind = "protocol"

    def __init__(
        self,
        hub: Hub,
        target: MessageTarget,
        place: Place,
        finish: Finish,
        *,
        headers: Iterable[tuple[str, str]],
        timeout_s: float | None,
    ) -> None:
        super().__init__(hub, target, place)
        self._finish = finish
        self._headers = headers
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._is_written = False
        self._unread_bytes = 0

    def deliver(self, frame: wire.Frame) -> None:
        """What happens before the end does not matter."""

    def count_close(self, code: CloseCode) -> None:
        """It has an answer, whatever the code: too slow means that its time is up."""

    def say_goodbye(self, code: CloseCode) -> None:
        self._answer(None if code is CloseCode.TOO_SLOW else code)

    def _answer(self, code: CloseCode | None) -> None:
        assert isinstance(self.hub, Hub)
        finish, headers = self._finish, self._headers
        self.hub.call(lambda: _encoded(finish(code), headers), self._write)

    def _write(self, encoded: bytes | None) -> None:
        if self._connection is None:
            return
        if encoded is None:
            self._connection.abort()
            return
        self._is_written = True
        self._closing_since_s = time.monotonic()
        self._connection.write(encoded)
        self._connection.close()

    def tick(self, now_s: float) -> None:
        if self._closed_with is None or self._is_written:  # an answer that is being made has its store's deadlines
            super().tick(now_s)

    def tick_open(self, now_s: float) -> None:
        if self._deadline_s is not None and now_s > self._deadline_s:
            self.close(CloseCode.TOO_SLOW)

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        if self._unread_bytes > MOST_UNREAD_BYTES:
            self.abort()


def _encoded(made: Answer, headers: Iterable[tuple[str, str]]) -> bytes:
    body = b"" if made.body is None else msgspec.json.encode(made.body)
    return wire.whole_answer(made.status, [*headers, *made.headers.items()], body)


def _in_this_thread(services: Services, target: MessageTarget, finish: Finish, timeout_s: float | None) -> Response:
    wait_s = LONGEST_WAIT_S if timeout_s is None else timeout_s
    is_final = False
    if services.waiting.acquire(blocking=False):
        try:
            is_final = services.relay.wait_final(target.message_id, wait_s)
        finally:
            services.waiting.release()
    return finish(CloseCode.FINISHED if is_final else None).response()
