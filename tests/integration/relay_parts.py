"""What the relay's tests stand on: rows in memory, a log in a real Valkey, and clients that check the grammar of ids."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from api.catch_up import ReaderSource
from api.relay import MessageTarget, Relay, Target
from shared import event_log, events, settings
from shared.errors import StoreUnavailable
from shared.event_log import Entry, EventLog
from shared.events import Delta, EventId, Finalized, Snapshot, Status, StreamEvent
from shared.lifecycle import MessageStatus
from shared.records import ProjectNews, ProjectState, ReaderRow, Since
from shared.transcript import Transcript, fold
from tests import rights

PATIENCE_S = 30.0
"""How long a test waits for what must come."""


def eventually(holds: Callable[[], bool]) -> None:
    """Until `holds`, for what sends no signal."""
    pause = threading.Event()
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to hold"
        pause.wait(0.02)


class Rows(ReaderSource):
    """Rows in memory, for the seam that the store implements."""

    def __init__(self) -> None:
        self._rows: dict[uuid.UUID, ReaderRow] = {}
        self.is_down = False
        self.strangers: set[tuple[uuid.UUID, uuid.UUID]] = set()
        self.dead: set[bytes] = set()
        self.reads = 0
        self.was_read = threading.Condition()

    def reader_rows(self, message_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, ReaderRow]:
        with self.was_read:
            self.reads += 1
            self.was_read.notify_all()
        if self.is_down:
            raise StoreUnavailable
        return {message_id: row for message_id in message_ids if (row := self._rows.get(message_id)) is not None}

    def project_states(self, project_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, ProjectState]:
        raise AssertionError("nobody watches a project here")

    def project_news(
        self, project_id: uuid.UUID, since: Since | None, job_ids: Collection[uuid.UUID] = ()
    ) -> ProjectNews | None:
        raise AssertionError("nobody watches a project here")

    def members_among(self, pairs: Collection[tuple[uuid.UUID, uuid.UUID]]) -> frozenset[tuple[uuid.UUID, uuid.UUID]]:
        if self.is_down:
            raise StoreUnavailable
        return frozenset(pairs) - self.strangers

    def dead_tokens(self, digests: Collection[bytes]) -> frozenset[bytes]:
        if self.is_down:
            raise StoreUnavailable
        return frozenset(digests) & self.dead

    def wait_reads(self, more: int) -> None:
        """Until `more` reads have begun from now on."""
        with self.was_read:
            wanted = self.reads + more
            assert self.was_read.wait_for(lambda: self.reads >= wanted, PATIENCE_S), "the rows are not read"

    def put(self, row: ReaderRow) -> None:
        self._rows[row.message_id] = row

    def delete(self, message_id: uuid.UUID) -> None:
        del self._rows[message_id]


@dataclass
class Story:
    """The writer's side of one message: its log, its row, and what it should look like."""

    log: EventLog
    rows: Rows
    message_id: uuid.UUID = field(default_factory=uuid.uuid4)
    project_id: uuid.UUID = field(default_factory=uuid.uuid4)
    attempt: int = 1
    n: int = 0
    transcript: Transcript = field(default_factory=Transcript)

    def __post_init__(self) -> None:
        self.commit("pending")

    def target(self, **changes: Any) -> MessageTarget:
        defaults = {"message_id": self.message_id, "project_id": self.project_id, "user_id": uuid.uuid4()}
        return MessageTarget(**(defaults | changes))

    def base(self) -> dict[str, Any]:
        base = {"id": f"{self.attempt}-{self.n}", "message_id": str(self.message_id), "ts": 1}
        self.n += 1
        return base

    def make(self, made: Iterable[StreamEvent]) -> list[Entry]:
        made = list(made)
        self.transcript = fold(self.transcript, made)
        return [Entry(EventId.parse(event.id), events.encode(event)) for event in made]

    def append(self, *made: StreamEvent) -> None:
        answer = self.log.append(self.message_id, self.make(made))
        assert answer.word == "ok", answer

    def begin(self) -> None:
        self.append(Status(**self.base(), status="thinking"))

    def say(self, *texts: str) -> None:
        self.append(*(Delta(**self.base(), content=text) for text in texts))

    def say_unheard(self, *texts: str) -> None:
        """Appended to the log, and the publication lost on its way."""
        client = self.log._client  # the test is the accident
        for entry in self.make(Delta(**self.base(), content=text) for text in texts):
            client.xadd(f"chatrelay:log:{{{self.message_id}}}", {"e": entry.payload}, id=str(entry.id))

    def new_attempt(self) -> None:
        self.attempt, self.n = self.attempt + 1, 0
        self.append(
            Snapshot(
                **self.base(),
                content=self.transcript.content,
                status="pending",
                tool_calls=self.transcript.tool_calls,
                reason="attempt",
            )
        )

    def commit(self, status: str, ending: Sequence[StreamEvent] = ()) -> tuple[Entry, ...]:
        entries = tuple(self.make(ending))
        last = self.transcript.position if self.transcript.position.attempt else None
        self.rows.put(
            ReaderRow(
                message_id=self.message_id,
                project_id=self.project_id,
                status=MessageStatus(status),
                attempt=self.attempt,
                last_event_id=last,
                content=self.transcript.content,
                tool_calls=self.transcript.tool_calls,
                ending=tuple(entry.payload for entry in entries),
            )
        )
        return entries

    def finish(self, *, append: bool = True) -> None:
        """Commit a success, then append its ending."""
        entries = self.commit(
            "success",
            [
                events.Complete(**self.base(), final_content=self.transcript.content),
                Finalized(**self.base(), status="success"),
            ],
        )
        if append:
            assert self.log.append(self.message_id, entries).word == "ok"

    def retry(self) -> None:
        """Somebody asked to retry: the row is pending again and knows its last event."""
        self.transcript = msgspec.structs.replace(self.transcript, status="pending")
        self.commit("pending")


class Stage:
    """A relay, and what it stands on."""

    def __init__(self, url: str, *, store: ReaderSource | None = None, **environment: Any) -> None:
        """`store` is read in place of the rows in memory."""
        self.url = url = rights.as_web(url)
        self.log = EventLog(event_log.connect(url))
        self.rows = Rows()
        self.cancels: list[tuple[uuid.UUID, uuid.UUID]] = []
        self.cancelled = threading.Event()
        self.settings = settings.load(
            {"DATABASE_URL": "postgresql://nowhere/none", "REDIS_URL": url}
            | {f"CHATRELAY_{name.upper()}": str(value) for name, value in ({"idle_check_s": 0.2} | environment).items()}
        )
        self.relay = Relay(
            redis_url=url, log=self.log, rows=store or self.rows, settings=self.settings, on_cancel=self._on_cancel
        )
        self.relay.start()
        self._clients: list[Client] = []

    def _on_cancel(self, message_id: uuid.UUID, user_id: uuid.UUID) -> None:
        self.cancels.append((message_id, user_id))
        self.cancelled.set()

    def story(self) -> Story:
        return Story(self.log, self.rows)

    def socket(self, target: Target) -> SocketClient:
        theirs, ours = socket.socketpair()
        self.relay.adopt_socket(ours, target, self.relay.admit(target.user_id))
        client = SocketClient(theirs)
        self._clients.append(client)
        return client

    def stream(self, target: Target, **options: Any) -> StreamClient:
        theirs, ours = socket.socketpair()
        self.relay.adopt_sse(ours, target, self.relay.admit(target.user_id), **options)
        client = StreamClient(theirs)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.sock.close()
        self.relay.stop(5.0)
        self.log._client.close()


class Client:
    """A reader's other end: what it got, checked for the order of ids as it comes."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE_S)
        self.sock = sock
        self.events: list[StreamEvent] = []
        self.position: EventId | None = None
        self.is_ended = False

    def feed(self, data: bytes) -> None:
        raise NotImplementedError

    def receive(self) -> None:
        data = self.sock.recv(65536)
        if data:
            self.feed(data)
        else:
            self.is_ended = True

    def on_event(self, payload: str | bytes) -> None:
        event = events.decode(payload)
        id_ = EventId.parse(event.id)
        first = EventId.parse(event.from_) if isinstance(event, Delta) and event.from_ else id_
        if self.position is not None:
            assert first > self.position, f"{event} came after {self.position}"
            assert isinstance(event, Snapshot) or first == self.position.next, f"a gap: {event} after {self.position}"
        self.position = id_
        self.events.append(event)

    def until(self, wanted: EventId) -> StreamEvent:
        """The last event received, once it is the wanted one or beyond."""
        while self.position is None or self.position < wanted:
            assert not self.is_ended, f"ended at {self.position}"
            self.receive()
        return self.events[-1]

    def until_end(self) -> None:
        while not self.is_ended:
            self.receive()

    @property
    def transcript(self) -> Transcript:
        return fold(Transcript(), self.events)


class SocketClient(Client):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.connection = Connection(ConnectionType.CLIENT)
        self.close_code: int | None = None
        self.pings = 0
        self.replies: list[dict[str, Any]] = []
        self._text = ""

    def feed(self, data: bytes) -> None:
        self.connection.receive_data(data)
        for event in self.connection.events():
            match event:
                case TextMessage():
                    self._text += event.data
                    if event.message_finished:
                        text, self._text = self._text, ""
                        self.on_text(text)
                case BytesMessage():
                    raise AssertionError("a binary message")
                case Ping():
                    self.pings += 1
                    self.sock.sendall(self.connection.send(event.response()))
                case CloseConnection():
                    self.close_code = event.code
                    self.is_ended = True
                    self.answer_close(event)

    def answer_close(self, event: CloseConnection) -> None:
        if self.connection.state is not ConnectionState.REMOTE_CLOSING:
            return  # it is the answer to ours
        try:
            self.sock.sendall(self.connection.send(event.response()))
        except OSError:
            pass  # the server did not wait for it

    def on_text(self, text: str) -> None:
        decoded = msgspec.json.decode(text)
        if "id" in decoded:
            self.on_event(text)
        else:
            self.replies.append(decoded)

    def until_closed(self) -> int | None:
        """The close code; None where the connection ended without one."""
        self.until_end()
        return self.close_code

    def until_reply(self) -> dict[str, Any]:
        while not self.replies:
            assert not self.is_ended, self.close_code
            self.receive()
        return self.replies.pop(0)

    def send_text(self, text: str) -> None:
        self.sock.sendall(self.connection.send(TextMessage(data=text)))


class StreamClient(Client):
    """An EventSource of sorts: reads the head, the chunks, the events."""

    def __init__(self, sock: socket.socket, *, chunked: bool = True) -> None:
        super().__init__(sock)
        self.head = b""
        self.comments = 0
        self.retry_ms: int | None = None
        self.ended_well = False
        self._raw = b""
        self._body = b""

    def feed(self, data: bytes) -> None:
        self._raw += data
        if not self.head:
            if b"\r\n\r\n" not in self._raw:
                return
            self.head, _, self._raw = self._raw.partition(b"\r\n\r\n")
        if b"chunked" not in self.head:
            self._body, self._raw = self._body + self._raw, b""
        while b"\r\n" in self._raw:
            size, _, rest = self._raw.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                break
            assert rest[length : length + 2] == b"\r\n"
            self._body += rest[:length]
            self._raw = rest[length + 2 :]
            self.ended_well = length == 0
        while b"\n\n" in self._body:
            block, _, self._body = self._body.partition(b"\n\n")
            self.on_block(block.decode())

    def on_block(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "retry" in fields:
            self.retry_ms = int(fields["retry"])
        elif "data" in fields:
            assert msgspec.json.decode(fields["data"])["id"] == fields["id"]
            self.on_event(fields["data"])
        else:
            assert block == ": ping"
            self.comments += 1
