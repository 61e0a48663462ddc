"""What the scripted model remembers for tests: the requests it got and what became of each, and signals to wait on.

Every change is told to whoever waits for it at the moment it happens, so that a test never polls. The newest 1,000 requests
are kept; their numbers go on counting.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

MAX_RECORDS: Final = 1_000
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Record:
    """One request to the model; `outcome` is None while it is being answered."""

    def __init__(self, number: int, headers: dict[str, str], body: bytes, journal: "Journal") -> None:
        self.number = number
        self.headers = {name.lower(): value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS}
        self.body = body
        self.status: int | None = None
        self.outcome: str | None = None
        self.answered_by = "natural"
        self.round: int | None = None
        self.times_seen = 0
        self.chunks_sent = 0
        self.received_ms = _now_ms()
        self.first_chunk_ms: int | None = None
        self.ended_ms: int | None = None
        self._journal = journal

    @property
    def disconnected(self) -> bool:
        return self.outcome == "disconnected"

    def chunk_sent(self) -> None:
        self.chunks_sent += 1
        if self.chunks_sent == 1:
            self.first_chunk_ms = _now_ms()
        self._journal.changed()

    def end(self, outcome: str) -> None:
        """Closes the record: `finished`, `refused` (an HTTP error), `cut` (by the script), `disconnected` (by the client)."""
        if self.outcome is None:
            self.outcome = outcome
            self.ended_ms = _now_ms()
            self._journal.changed()

    def as_json(self) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            request = None
        fields = request if isinstance(request, dict) else {}
        return {
            "number": self.number,
            "model": fields.get("model"),
            "messages": fields.get("messages"),
            "tools": fields.get("tools"),
            "request": request,
            "headers": self.headers,
            "status": self.status,
            "outcome": self.outcome,
            "answered_by": self.answered_by,
            "round": self.round,
            "times_seen": self.times_seen,
            "chunks_sent": self.chunks_sent,
            "disconnected": self.disconnected,
            "received_ms": self.received_ms,
            "first_chunk_ms": self.first_chunk_ms,
            "ended_ms": self.ended_ms,
        }


class Journal:
    """The records since the last reset, the names released and held, and those who wait for a change."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=MAX_RECORDS)
        self._count = 0
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._released: dict[str, asyncio.Event] = {}
        self._held: set[str] = set()

    @property
    def count(self) -> int:
        """How many requests came since the last reset."""
        return self._count

    def open(self, headers: dict[str, str], body: bytes) -> Record:
        record = Record(self._count, headers, body, self)
        self._records.append(record)
        self._count += 1
        self.changed()
        return record

    def records(self) -> list[Record]:
        return list(self._records)

    def record(self, number: int) -> Record | None:
        """The record of that number; None where it has not come yet or is not kept any more."""
        index = number - (self._count - len(self._records))
        return self._records[index] if 0 <= index < len(self._records) else None

    def release(self, name: str) -> None:
        """Lets go every stream held under the name, now and later, until the next reset."""
        self._release_event(name).set()

    async def hold(self, name: str) -> None:
        self._held.add(name)
        self.changed()
        await self._release_event(name).wait()

    def is_held(self, name: str) -> bool:
        """Whether a stream has reached a hold of that name since the last reset, released or not."""
        return name in self._held

    def reset(self) -> None:
        """Forgets the records and the releases; streams that are held go on."""
        for event in self._released.values():
            event.set()
        self._released = {}
        self._held = set()
        self._records.clear()
        self._count = 0
        self.changed()

    def changed(self) -> None:
        if self._waiting:
            for condition, future in self._waiting:
                if not future.done() and condition():
                    future.set_result(None)

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether the condition came to hold within the time."""
        if condition():
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (condition, future)
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(entry)
        return True

    def _release_event(self, name: str) -> asyncio.Event:
        return self._released.setdefault(name, asyncio.Event())
