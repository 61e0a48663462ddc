"""A message as Server-Sent Events in the words of a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flask import Response, request

from api import origins, readers, throttle, wire
from api.auth import Caller
from api.calls import EVENT_STREAM
from api.close_codes import CloseCode
from api.handover import HandedOver, take_socket
from api.hub import Hub
from api.protocols.jobs import JobFollower
from api.protocols.telling import ComeBack, Telling
from api.readers import EventStreamReader, Place
from api.relay import Admission, FollowingEnded, Heartbeat, MessageTarget, Relay
from api.services import Services
from shared import events
from shared.event_log import Entry


def answer(
    services: Services,
    caller: Caller,
    target: MessageTarget,
    telling: Telling,
    *,
    heartbeat: bytes = wire.HEARTBEAT,
    headers: Mapping[str, str] | None = None,
    admission: Admission | None = None,
    breaks_off: bool = False,
    retry: bytes | None = None,
) -> Response:
    """The answer to the present request: `target`, for which `caller` was authorised, as `telling` tells it.

    `heartbeat` is what silence is broken with, `headers` are added to the answer's. `admission` is the reader's where the
    caller has one already, and owned from now on. `retry` comes first: when to come back by default, nothing for clients that
    take it for an event.
    Raises `TooManyReaders`.

    `breaks_off`: a client that would take the end of the answer for the end of the message sees instead that the connection
    broke: where one is to come back, the last chunk is not sent. What no chunks can tell, to HTTP/1.0 and where the server
    gives no connection away, the telling's `end` has to say. There the phases of component jobs are not told either.
    """
    retry = readers.retry() if retry is None else retry
    admission = admission or services.relay.admit_caller(caller, throttle.place())
    try:
        connection = take_socket(request.environ)
    except OSError:
        admission.release()
        raise
    if connection is None:
        return _in_this_thread(services.relay, target, admission, telling, heartbeat, headers or {}, retry)
    chunked = request.environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
    breaks_off = breaks_off and chunked
    own = [*origins.headers(services.settings).items(), *(headers or {}).items()]
    services.relay.adopt(
        connection,
        lambda hub: _ToldStream(
            hub,
            target,
            admission,
            telling,
            head=wire.event_stream_head(own, chunked=chunked, breaks_off=breaks_off),
            chunked=chunked,
            heartbeat=heartbeat,
            breaks_off=breaks_off,
            retry=retry,
        ),
        admission,
        wire.event_stream_head(own, chunked=breaks_off, breaks_off=breaks_off),
    )
    return HandedOver()


class _ToldStream(EventStreamReader):
    """As `EventStreamReader`, in other words."""

    __slots__ = ("_breaks_off", "_heartbeat", "_jobs", "_retry", "_telling")
    kind = "protocol"

    def __init__(
        self,
        hub: Hub,
        target: MessageTarget,
        place: Place,
        telling: Telling,
        *,
        head: bytes,
        chunked: bool,
        heartbeat: bytes,
        breaks_off: bool,
        retry: bytes,
    ) -> None:
        super().__init__(hub, target, place, head=head, chunked=chunked)
        self._telling = telling
        self._heartbeat = heartbeat
        self._breaks_off = breaks_off
        self._retry = retry
        self._jobs = JobFollower(hub, target, telling, self._say)

    def opening(self) -> bytes:
        return self._retry + b"".join(self._telling.begin())

    def heartbeat(self) -> bytes:
        return self._heartbeat

    def deliver(self, frame: wire.Frame) -> None:
        if self._telling.is_over() or self._closed_with is not None:
            return
        try:
            self._say(self._telling.tell(frame))
        except ComeBack:
            self.close(CloseCode.RESTART)
            return
        if self._telling.is_over():
            self.close(CloseCode.FINISHED)
        else:
            self._jobs.look(is_paused=self.is_paused)

    def _say(self, units: Sequence[bytes]) -> None:
        self.write(b"".join(units))

    def ending(self, code: CloseCode) -> bytes:
        return b"".join(self._telling.end(code))

    def close(self, code: CloseCode) -> None:
        self._jobs.end()
        super().close(code)

    def say_goodbye(self, code: CloseCode) -> None:
        if self._breaks_off and code.reconnects and code is not CloseCode.TOO_SLOW:
            assert self._connection is not None
            self._connection.close()
        else:
            super().say_goodbye(code)

    def connection_lost(self) -> None:
        self._jobs.end()
        super().connection_lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._jobs.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._jobs.resume()


def _in_this_thread(
    relay: Relay,
    target: MessageTarget,
    admission: Admission,
    telling: Telling,
    heartbeat: bytes,
    headers: Mapping[str, str],
    retry: bytes,
) -> Response:
    """For servers that give no connection away: the events come through the request's own thread."""

    def lines() -> Iterator[bytes]:
        yield retry
        yield from telling.begin()
        code = CloseCode.FINISHED
        try:
            for item in relay.follow(target, admission):
                if isinstance(item, Heartbeat):
                    yield heartbeat
                    continue
                yield from telling.tell(wire.Frame.of(Entry(events.peek(item)[1], item)))
                if telling.is_over():
                    break
        except FollowingEnded as ended:
            code = ended.code
        except ComeBack:
            code = CloseCode.RESTART
        yield from telling.end(code)

    response = Response(lines(), mimetype=EVENT_STREAM, headers={"X-Accel-Buffering": "no", **headers})
    response.call_on_close(admission.release)
    return response
