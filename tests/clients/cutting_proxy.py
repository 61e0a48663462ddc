"""A way to the server that breaks: connections that carry a stream of events are cut after so many bytes."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit

_STREAM_REQUEST: Final = re.compile(rb"GET \S*/(?:socket|events|trpc|chat\.streamResponse)[? ]")
_PIECE_BYTES: Final = 1 << 16
_STOP_TIMEOUT_S: Final = 10.0

Manner = Literal["fin", "rst"]


class CuttingProxy:
    """Passes bytes on to `target`, a base URL, and cuts the first streams: number i after `cuts[i]` bytes of its answer.

    The head of the answer counts. ``fin`` closes as a server does, ``rst`` as one that is gone. All else, and the streams
    behind the last cut, pass untouched. `cuts_made` counts.
    """

    def __init__(self, target: str, cuts: Sequence[int], *, manner: Manner = "rst") -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._cuts = list(cuts)
        self._manner = manner
        self.cuts_made = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(),), name="cutting proxy"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_STOP_TIMEOUT_S)
        self._loop.close()

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._pass(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accepted, sock=self._listener)
        await self._stopping.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _pass(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it or it is cut."""
        server, to_server = await asyncio.open_connection(*self._target)
        left: list[int] = []  # bytes until the cut, once a stream was asked for

        async def upwards() -> None:
            while piece := await client.read(_PIECE_BYTES):
                if not left and self._cuts and _STREAM_REQUEST.match(piece):
                    left.append(self._cuts.pop(0))
                to_server.write(piece)
                await to_server.drain()

        async def downwards() -> None:
            while piece := await server.read(_PIECE_BYTES):
                to_client.write(piece[: left[0]] if left else piece)
                await to_client.drain()
                if left:
                    left[0] -= len(piece)
                    if left[0] <= 0:
                        self.cuts_made += 1
                        if self._manner == "rst":
                            _reset_on_close(to_client)
                        return

        ways = [asyncio.ensure_future(upwards()), asyncio.ensure_future(downwards())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_server.transport.abort()
            to_client.close()


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    """SO_LINGER of 0 s: what is not sent yet is thrown away and the peer is sent RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
