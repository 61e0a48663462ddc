"""One socket of a protocol, on which a client follows several messages and asks for several things at once.

It is one connection of the relay's loop. Each message that is followed has a reader of its own in that message's channel (a
`Strand` of it, as `api.project_channel` has), so that each is told as on a socket of its own. What the client asks for is
blocking work: it is done on the relay's threads for calls, one at a time and in order for each socket, and its outcome comes
back to the loop. Nothing is begun while the client does not take what it is sent.

What counts as a reader of the user's: the socket, each message followed, each end waited for. A client that does not
say who it is within a heartbeat is sent away.
"""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from api import wire
from api.close_codes import CloseCode
from api.hub import Hub
from api.inbound import Inbound, Text
from api.protocols.jobs import JobFollower
from api.protocols.telling import Telling
from api.readers import NOBODY, MessageTarget, Place, Reader, SocketReader, UserTarget
from api.relay import RESTARTS, Admission, Relay
from api.wire import Frame
from shared.settings import Settings

MOST_WAITING: Final = 200
"""Of what a client asked for and is not begun; who asks for more is a flood."""


# --- what a dialect answers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    """Send a text frame. As an outcome: that was all."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Follow:
    """An outcome: the client follows `target` from now on, in `telling`'s words. Owns `admission`."""

    target: MessageTarget
    telling: Telling
    admission: Admission


@dataclass(frozen=True, slots=True)
class Await:
    """An outcome: once `target` is final, or after `timeout_s`, ask for `then`, which is told whether. Owns `admission`."""

    target: MessageTarget
    timeout_s: float
    then: Callable[[bool], Outcome]
    admission: Admission


@dataclass(frozen=True, slots=True)
class Known:
    """An outcome: the client has said who it is. Owns `admission`, from now on the socket's."""

    user_id: UUID
    admission: Admission


Outcome: TypeAlias = Say | Follow | Await | Known | None
"""What came of work that was asked for; None: nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Have `work` done, which may block and raises nothing. `key` names it for `Stop`; without one it cannot be stopped."""

    key: Hashable
    work: Callable[[], Outcome]


@dataclass(frozen=True, slots=True)
class Stop:
    """End what `key` names, wherever it has come to, and say `payload`; nothing where there is no such thing."""

    key: Hashable
    payload: bytes | None = None


Act: TypeAlias = Say | Ask | Stop


class Dialect(ABC):
    """A protocol on one socket. Called on the loop: it must not block."""

    @abstractmethod
    def hear(self, text: str | None, taken: Container[Hashable]) -> Iterable[Act]:
        """What a message of the client's asks for; None is one that is not text. `taken` are the keys in use, live."""

    def most_frame_bytes(self, settings: Settings) -> int:
        """The largest message of the client's; who says more is a flood."""
        return settings.max_frame_bytes

    def moving(self) -> Sequence[bytes]:
        """What tells the client to go to another server while this one still serves it; nothing where it cannot be told."""
        return ()

    def goodbye(self, code: CloseCode) -> Sequence[bytes]:
        """What is said before the socket is closed with `code`."""
        return ()


# --- the socket -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SocketGuest:
    """What a socket's view returns: a conversation that begins as soon as the handshake is done.

    `admission` is the user's, or `NOBODY`'s where the dialect is to find out who it is. `project_id` is the project that the
    socket as a whole belongs to, where there is one: who loses it is sent away.
    """

    relay: Relay
    dialect: Dialect
    admission: Admission
    project_id: UUID | None = None

    def adopt(self, sock: socket.socket) -> None:
        target = UserTarget(user_id=self.admission.user_id)
        goodbye = [wire.text_frame(payload) for payload in self.dialect.goodbye(CloseCode.RESTART)]
        self.relay.adopt(
            sock,
            lambda hub: Conversation(hub, target, self.admission, self.dialect, self.project_id),
            self.admission,
            b"".join([*goodbye, RESTARTS]),
        )

    def turn_away(self) -> None:
        self.admission.release()


class Conversation(SocketReader):
    """The relay's side of one such socket."""

    __slots__ = (
        "_begun_at_s",
        "_dialect",
        "_is_begun",
        "_is_stopped",
        "_moving_since_s",
        "_project_id",
        "_queue",
        "_running",
        "_strands",
        "_taken",
        "calls",
    )
    kind = "protocol"

    def __init__(
        self, hub: Hub, target: UserTarget, place: Place, dialect: Dialect, project_id: UUID | None = None
    ) -> None:
        super().__init__(hub, target, place)
        self.calls = hub
        self._dialect = dialect
        self._project_id = project_id
        self._queue: deque[Ask] = deque()
        self._running: Ask | None = None
        self._is_stopped = False
        """What runs is not wanted any more."""
        self._strands: set[_Strand] = set()
        self._taken: set[Hashable] = set()
        self._is_begun = False
        self._begun_at_s = time.monotonic()
        self._moving_since_s: float | None = None

    @property
    def membership(self) -> tuple[UUID, UUID] | None:
        """Of the socket as a whole."""
        return None if self._project_id is None else (self._project_id, self.target.user_id)

    # --- the client -----------------------------------------------------------------------------------------------

    def on_open(self) -> None:
        self._begun_at_s = time.monotonic()

    def make_inbound(self) -> Inbound:
        settings = self.hub.settings
        return Inbound(
            max_bytes=self._dialect.most_frame_bytes(settings),
            max_frames_per_s=settings.max_frames_per_second,
            meaning=Text,
        )

    def on_text(self, text: str | None) -> None:
        self._is_begun = True
        if self._closed_with is not None:
            return  # it has not heard yet that it was closed
        for act in self._dialect.hear(text, self._taken):
            match act:
                case Say():
                    self.say([act.payload])
                case Stop():
                    self._stop(act)
                case Ask():
                    if len(self._queue) >= MOST_WAITING:
                        self.close(CloseCode.FLOOD)
                        return
                    self._ask(act)
        self._next()

    def say(self, payloads: Iterable[bytes]) -> None:
        if self._connection is not None and (frames := b"".join(map(wire.text_frame, payloads))):
            self.wrote_at_s = self.hub.now_s
            self._connection.write(frames)

    # --- what is asked for ----------------------------------------------------------------------------------------

    def _ask(self, ask: Ask) -> None:
        if ask.key is not None:
            self._taken.add(ask.key)
        self._queue.append(ask)

    def _next(self) -> None:
        if self._running is None and self._queue and not self.is_paused and self._closed_with is None:
            self._running = self._queue.popleft()
            self._is_stopped = False
            self.calls.call(self._running.work, self._on_outcome)

    def _on_outcome(self, outcome: Outcome) -> None:
        ask, self._running = self._running, None
        assert ask is not None
        if self._connection is None or self._closed_with is not None or self._is_stopped:
            if isinstance(outcome, Follow | Await | Known):
                outcome.admission.release()
            outcome = None
        match outcome:
            case Follow():
                self.say(outcome.telling.begin())
                self._begin(_Told(self, ask.key, outcome))
            case Await():
                self._begin(_Awaited(self, ask.key, outcome))
            case Known():
                place, self._place = self._place, outcome.admission
                place.release()
                self.target = UserTarget(user_id=outcome.user_id)
            case Say():
                self._taken.discard(ask.key)
                self.say([outcome.payload])
            case None:
                self._taken.discard(ask.key)
        self._next()

    def _begin(self, strand: _Strand) -> None:
        self._strands.add(strand)
        self.calls.attach(strand)

    def _stop(self, stop: Stop) -> None:
        if stop.key not in self._taken:
            return
        if self._running is not None and self._running.key == stop.key:
            self._is_stopped = True
        self._queue = deque(ask for ask in self._queue if ask.key != stop.key)
        for strand in [strand for strand in self._strands if strand.key == stop.key]:
            self.drop(strand)
        self._taken.discard(stop.key)
        if stop.payload is not None:
            self.say([stop.payload])

    def drop(self, strand: _Strand) -> None:
        """It is told nothing more."""
        if strand in self._strands:
            self._strands.discard(strand)
            self._taken.discard(strand.key)
            strand.on_dropped()
            self.hub.leave(strand)
            strand.admission.release()

    def ask_now(self, ask: Ask) -> None:
        """The rest of something that was asked for before."""
        self._ask(ask)
        self._next()

    # --- the relay ------------------------------------------------------------------------------------------------

    def withdraw(self, project_id: UUID, user_id: UUID | None) -> None:
        if self._project_id == project_id and user_id in (None, self.target.user_id):
            self.close(CloseCode.WITHDRAWN)
        for strand in list(self._strands):
            strand.withdraw(project_id, user_id)

    def pause_writing(self) -> None:
        super().pause_writing()
        for strand in list(self._strands):
            strand.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        for strand in list(self._strands):
            strand.resume_writing()
        self._next()

    def close(self, code: CloseCode) -> None:
        moves = code is CloseCode.RESTART and self._is_begun and self._moving_since_s is None
        if moves and self._closed_with is None and (moving := self._dialect.moving()):
            self._moving_since_s = time.monotonic()
            self.say(moving)
            return
        super().close(code)
        self._drop_all()

    def say_goodbye(self, code: CloseCode) -> None:
        self.say(self._dialect.goodbye(code))
        super().say_goodbye(code)

    def connection_lost(self) -> None:
        super().connection_lost()
        self._drop_all()

    def _drop_all(self) -> None:
        self._queue.clear()
        for strand in list(self._strands):
            self.drop(strand)

    def tick_open(self, now_s: float) -> None:
        for strand in list(self._strands):
            strand.tick(now_s)
        if self.target.user_id == NOBODY and now_s - self._begun_at_s > self.hub.settings.heartbeat_socket_s:
            self.close(CloseCode.UNKNOWN)
        elif self._moving_since_s is not None and (
            now_s - self._moving_since_s > self.hub.settings.drain_s / 2
            or not (self._strands or self._queue or self._running)
        ):
            self.close(CloseCode.RESTART)
        else:
            super().tick_open(now_s)


class _Strand(Reader):
    """One message, for one thing that the client asked for on its socket."""

    __slots__ = ("admission", "key", "socket")

    def __init__(self, conversation: Conversation, key: Hashable, target: MessageTarget, admission: Admission) -> None:
        super().__init__(conversation.hub, target)
        self.socket = conversation
        self.key = key
        self.admission = admission
        self.is_paused = conversation.is_paused

    def abort(self) -> None:
        self.socket.abort()

    def tick(self, now_s: float) -> None:
        """The connection has the deadlines."""

    def on_dropped(self) -> None:
        """Nothing more comes of it."""


class _Told(_Strand):
    """A message that is followed."""

    __slots__ = ("_jobs", "_telling")

    def __init__(self, conversation: Conversation, key: Hashable, follow: Follow) -> None:
        super().__init__(conversation, key, follow.target, follow.admission)
        self._telling = follow.telling
        self._jobs = JobFollower(conversation.calls, follow.target, follow.telling, conversation.say)

    def deliver(self, frame: Frame) -> None:
        if self.channel is None:
            return
        self.socket.say(self._telling.tell(frame))
        if self._telling.is_over():
            self.close(CloseCode.FINISHED)
        else:
            self._jobs.look(is_paused=self.is_paused)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._jobs.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._jobs.resume()

    def on_dropped(self) -> None:
        self._jobs.end()

    def close(self, code: CloseCode) -> None:
        if self.channel is not None:
            self.socket.drop(self)
            self.socket.say(self._telling.end(code))


class _Awaited(_Strand):
    """A message whose end is waited for."""

    __slots__ = ("_deadline_s", "_then")

    def __init__(self, conversation: Conversation, key: Hashable, awaiting: Await) -> None:
        super().__init__(conversation, key, awaiting.target, awaiting.admission)
        self._deadline_s = time.monotonic() + awaiting.timeout_s
        self._then = awaiting.then

    def deliver(self, frame: Frame) -> None:
        """What happens before the end does not matter."""

    def close(self, code: CloseCode) -> None:
        if self.channel is None:
            return
        is_final, then = code is CloseCode.FINISHED, self._then
        self.socket.drop(self)
        self.socket.ask_now(Ask(self.key, lambda: then(is_final)))

    def tick(self, now_s: float) -> None:
        if now_s > self._deadline_s:
            self.close(CloseCode.TOO_SLOW)
