"""The event loop thread of a worker: it owns every model stream, and the one Redis connection that deltas leave by.

SQL never runs here. The tasks' threads hand in coroutines and wait for them, or calls, and go on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
import uvloop

from shared import keys
from shared.event_log import LoopEventLog
from shared.redis_link import RedisLink
from worker.model import Model

T = TypeVar("T")
_log = logging.getLogger(__name__)

BEAT_S = 0.5
_GATHER_S = 0.002
"""While many answers stream, what they append leaves together this often: a tenth of the window for deltas."""


class StreamLoop:
    """`start` brings the thread up with its clients; `run` is for other threads."""

    def __init__(
        self,
        *,
        redis_url: str,
        make_model: Callable[[], Model],
        log_retention_s: int,
        on_nudge: Callable[[], None],
    ) -> None:
        """`on_nudge` is called on the loop when somebody asked a message to end; it must not block."""
        self._redis_url = redis_url
        self._make_model = make_model
        self._log_retention_s = log_retention_s
        self._on_nudge = on_nudge
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._main, name="streams", daemon=True)
        self._beat = 0.0
        self._failure: Exception | None = None
        # renewals of attempts are SQL: they have threads of their own
        self.sql = concurrent.futures.ThreadPoolExecutor(max_workers=4, thread_name_prefix="renewals")
        self.model: Model
        self.log: LoopEventLog

    def start(self) -> None:
        """Raises what kept the clients from being made."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=5)
        self.sql.shutdown(wait=False, cancel_futures=True)

    @property
    def silent_s(self) -> float:
        """Seconds since the loop last came round."""
        return time.monotonic() - self._beat

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for its result."""
        return self.begin(work).result()

    def begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Callable[[], object]) -> None:
        """Call `function` on the loop, soon."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except Exception as error:
            # whoever waits in `start` raises it; later the beat stops, and with it the leases
            self._failure = error
            _log.exception("the streams' loop ended")
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        appends = RedisLink(self._redis_url, gather_s=_GATHER_S)
        control = RedisLink(
            self._redis_url, on_push=self._pushed, on_up=lambda: control.tell("SUBSCRIBE", keys.CONTROL)
        )
        self.log = LoopEventLog(appends, retention_s=self._log_retention_s)
        self.model = self._make_model()
        appends.start()
        control.start()
        self._beat = time.monotonic()
        self._started.set()
        while not self._stopping.is_set():
            self._beat = time.monotonic()
            self.log.hand_over_counts()
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._stopping.wait()
            except TimeoutError:
                pass
        await self.model.close()
        await control.close()
        await appends.close()
        self.log.hand_over_counts()

    def _pushed(self, push: list[Any]) -> None:
        if push[0] != b"message":
            return
        try:
            kind = msgspec.json.decode(push[2], type=_Control).type
        except msgspec.DecodeError:
            _log.warning("a control message that is none")
            return
        if kind == "cancel":
            self._on_nudge()


class _Control(msgspec.Struct):
    type: str
