"""Readers on one event loop: WebSocket and Server-Sent Events, leaving and coming back with `after`, and no thread each.

They keep the bytes of what they receive and look into none of them but the newest; checking comes afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Final

import aiohttp

from benchmarks.soak.plan import ReaderPlan
from benchmarks.soak.recording import Recording

_CONNECT_S: Final = 5.0
_SILENCE_S: Final = 8.0
"""Without an event for so long a reader leaves and comes back, elsewhere: its server may be stopped."""
_CLOSE_S: Final = 0.5
_COMES_BACK_S: Final = 0.2
_FINISHED: Final = 1000
_RECONNECT_CODES: Final = frozenset({1006, 1012, 4008})
"""Cut off, the server restarts, too slow: what a client comes back after."""
_MOST_PROBLEMS: Final = 3


class Tally:
    """What all readers did together; also shows that something still moves."""

    def __init__(self) -> None:
        self.events = 0
        self.connections = 0
        self.reconnects = 0
        self.lives = 0


class Reader:
    """Follows one message to its end, as often as it is asked to."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        token: str,
        message_id: str,
        plan: ReaderPlan,
        *,
        name: str,
        tally: Tally,
        shared_frames: dict[bytes, bytes],
    ) -> None:
        """`shared_frames` keeps one copy of what all readers of the message received."""
        self.recording = Recording(message_id=message_id, reader=name)
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"}
        self._plan = plan
        self._webs = itertools.cycle((*urls[plan.first_web :], *urls[: plan.first_web]))
        self._leaves_after = iter(plan.leaves_after)
        self._tally = tally
        self._shared_frames = shared_frames
        self._back_off = random.Random(name)

    def use(self, session: aiohttp.ClientSession) -> None:
        """Connect by another session from now on."""
        self._session = session

    async def follow(self) -> None:
        """Until the server says that this reader has had everything. What is wrong on the way is noted."""
        while len(self.recording.problems) < _MOST_PROBLEMS:
            self._tally.connections += 1
            self._tally.reconnects += self.recording.connections > 0
            self.recording.connections += 1
            url = f"{next(self._webs)}/v1/messages/{self.recording.message_id}"
            try:
                if await (self._socket(url) if self._plan.transport == "socket" else self._sse(url)):
                    if self.recording.is_at_an_end:
                        return
                    self._wrong("was told that all is said before it had the end")
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass  # cut off, refused or silent
            await asyncio.sleep(_COMES_BACK_S * self._back_off.uniform(0.5, 1.5))

    async def _socket(self, url: str) -> bool:
        """One connection; whether the server ended it as finished."""
        after = self.recording.last
        query = {} if after is None else {"after": str(after)}
        connecting = self._session.ws_connect(
            f"{url}/socket",
            params=query,
            headers=self._headers,
            max_msg_size=0,
            decode_text=False,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
        )
        try:
            async with asyncio.timeout(_CONNECT_S):
                socket = await connecting
        except aiohttp.WSServerHandshakeError as refused:
            self._refused(refused.status, "")
            return False
        most = next(self._leaves_after, None)
        async with socket:
            async with asyncio.timeout(_SILENCE_S) as silence:
                while most is None or most > 0:
                    frame = await socket.receive()
                    if frame.type is not aiohttp.WSMsgType.TEXT:
                        break
                    self._take(frame.data)
                    most = None if most is None else most - 1
                    silence.reschedule(asyncio.get_running_loop().time() + _SILENCE_S)
                else:
                    return False  # it leaves by itself
        code = socket.close_code
        if code is not None and code != _FINISHED and code not in _RECONNECT_CODES:
            self._wrong(f"was closed with {code}")
        return code == _FINISHED

    async def _sse(self, url: str) -> bool:
        """One connection; whether it was told that there is nothing more (204)."""
        after = self.recording.last
        headers = self._headers if after is None else {**self._headers, "Last-Event-ID": str(after)}
        async with asyncio.timeout(_CONNECT_S):
            answer = await self._session.get(f"{url}/events", headers=headers)
        async with answer:
            if answer.status == 204:
                return True
            if answer.status != 200:
                self._refused(answer.status, await answer.text())
                return False
            most = next(self._leaves_after, None)
            rest = b""
            async with asyncio.timeout(_SILENCE_S) as silence:
                async for chunk in answer.content.iter_any():
                    *blocks, rest = (rest + chunk).split(b"\n\n")
                    for block in blocks:
                        if most == 0:
                            answer.close()
                            return False
                        if self._take_block(block) and most is not None:
                            most -= 1
                    if blocks:
                        silence.reschedule(asyncio.get_running_loop().time() + _SILENCE_S)
        return False  # after the end it comes back once, as an EventSource does, and is told so

    def _take_block(self, block: bytes) -> bool:
        """Whether it was an event, and not a comment or a field alone."""
        identity, data = b"", None
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                data = line[6:]
            elif line.startswith(b"id: "):
                identity = line[4:]
        if data is None:
            return False
        if b'"id":"%s"' % identity not in data[:80]:
            self._wrong(f"the id field {identity!r} is not that of {data[:80]!r}")
        self._take(data)
        return True

    def _take(self, frame: bytes) -> None:
        self.recording.frames.append(self._shared_frames.setdefault(frame, frame))
        self._tally.events += 1

    def _refused(self, status: int, text: str) -> None:
        if status not in (429, 503):
            self._wrong(f"was answered {status} {text[:200]}")

    def _wrong(self, what: str) -> None:
        self.recording.problems.append(what)
