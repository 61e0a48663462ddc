"""Clients that mean no good, many at once, until they are told to stop: each way of it is a function of `ATTACKS`.

Whoever is cut off comes again at once. What becomes of them is counted.

Requests:
    begin    {name, count, host, ports, token, path}   so many clients; `path` is a socket's that the token opens
    counts   {}                                       what became of them so far
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from benchmarks.measuring import allow_many_files
from benchmarks.programs.answering import decode, reply
from chatrelay_client.backoff import backoff_s

_ONE_ADDRESS: Final = frozenset({"unknown-from-one", "requests", "bad-tokens"})
"""In these attacks all clients come from one; in the others each from one of its own."""
_KEY: Final = "AAAAAAAAAAAAAAAAAAAAAA=="
_BODY_BYTES: Final = 1024 * 1024 - 1
_AGAIN_S: Final = 0.02


@dataclass(frozen=True)
class Target:
    host: str
    ports: list[int]
    token: str
    path: str
    seen: Counter[str]
    address: str
    """That it comes from, as a proxy on this machine would say: this machine itself has no limits."""

    async def connect(self, *, receive_bytes: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        limit = 64 * 1024 if receive_bytes is None else receive_bytes
        reading, writing = await asyncio.open_connection(self.host, random.choice(self.ports), limit=limit)
        self.seen["connected"] += 1
        return reading, writing

    def head(self, method: str, path: str, *lines: str) -> bytes:
        first = f"{method} {path} HTTP/1.1", f"Host: {self.host}", f"X-Forwarded-For: {self.address}"
        return "\r\n".join([*first, *lines, "", ""]).encode()

    def post(self, length: int) -> bytes:
        token, kind = f"Authorization: Bearer {self.token}", "Content-Type: application/json"
        return self.head("POST", "/v1/projects", token, kind, f"Content-Length: {length}")

    async def socket(
        self, path: str | None = None, *lines: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """An open WebSocket; None where it was refused."""
        reading, writing = await self.connect()
        upgrade = (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {_KEY}",
        )
        token = () if path is not None else (f"Authorization: Bearer {self.token}",)
        writing.write(self.head("GET", path or self.path, *upgrade, *token, *lines))
        status = (await reading.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
        self.seen[status] += 1
        if status == "101":
            return reading, writing
        writing.close()
        return None

    async def until_closed(self, reading: asyncio.StreamReader) -> None:
        """Reads what comes, and counts the close code."""
        code = "cut off"
        try:
            while head := await reading.readexactly(2):
                size = head[1] & 127
                if size >= 126:
                    size = int.from_bytes(await reading.readexactly(2 if size == 126 else 8), "big")
                payload = await reading.readexactly(size)
                if head[0] == 0x88:
                    code = str(int.from_bytes(payload[:2], "big"))
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        self.seen[code] += 1


def _frame(first: int, payload: bytes) -> bytes:
    """A client's, masked with nothing."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + payload


Client = Callable[[Target], Awaitable[None]]


async def _silent(target: Target) -> None:
    reading, _ = await target.connect()
    await reading.read()
    target.seen["cut off"] += 1


async def _slow_head(target: Target) -> None:
    reading, writing = await target.connect()
    ended = asyncio.ensure_future(reading.read())
    for byte in target.head("GET", "/healthz", "X-Filler: " + "x" * 8000):
        writing.write(bytes([byte]))
        if ended in (await asyncio.wait([ended], timeout=0.25))[0]:
            break
    target.seen["408" if ended.done() and b" 408 " in ended.result() else "cut off"] += 1
    ended.cancel()
    writing.close()


async def _slow_body(target: Target) -> None:
    reading, writing = await target.connect()
    writing.write(target.post(_BODY_BYTES))
    ended = asyncio.ensure_future(reading.read())
    while not ended.done():
        writing.write(b" ")
        await asyncio.wait([ended], timeout=0.25)
    target.seen["408" if b" 408 " in ended.result() else "cut off"] += 1
    writing.close()


async def _large_body(target: Target) -> None:
    """All but the last byte of the largest body."""
    reading, writing = await target.connect()
    writing.write(target.post(_BODY_BYTES) + b" " * (_BODY_BYTES - 1))
    await reading.read()
    target.seen["cut off"] += 1
    writing.close()


async def _untaken(target: Target) -> None:
    _, writing = await target.connect(receive_bytes=4096)
    writing.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can
    while not writing.is_closing():
        writing.write(target.head("GET", "/openapi.json") * 40)
        await asyncio.wait_for(writing.drain(), None)
        await asyncio.sleep(1)
    target.seen["cut off"] += 1


async def _hangs_on(target: Target) -> None:
    """Says that it closes, gets its answer, and does not."""
    reading, writing = await target.connect()
    writing.write(target.head("GET", "/healthz", "Connection: close"))
    await reading.read()
    target.seen["answered"] += 1
    await asyncio.sleep(10)
    writing.close()


async def _frames(target: Target) -> None:
    if opened := await target.socket():
        reading, writing = opened
        closed = asyncio.ensure_future(target.until_closed(reading))
        flood = _frame(0x81, b'{"type":"ping"}') * 100
        while not closed.done():
            writing.write(flood)
            await writing.drain()
        writing.close()


async def _trickled_frames(target: Target) -> None:
    """Two bytes of a message at a time, at a rate that is just allowed, and never its end."""
    if opened := await target.socket():
        reading, writing = opened
        closed = asyncio.ensure_future(target.until_closed(reading))
        writing.write(b"\x01\xfe" + (60_000).to_bytes(2, "big") + bytes(4))
        while not closed.done():
            writing.write(b"xy")
            await asyncio.wait([closed], timeout=0.002)
        writing.close()


async def _giant_frames(target: Target) -> None:
    if opened := await target.socket():
        reading, writing = opened
        closed = asyncio.ensure_future(target.until_closed(reading))
        writing.write(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
        while not closed.done():
            writing.write(b"x" * 65536)
            await asyncio.wait([closed], timeout=0.005)
        writing.close()


async def _bombs(target: Target) -> None:
    """Compressed frames, which nobody agreed to."""
    if opened := await target.socket(None, "Sec-WebSocket-Extensions: permessage-deflate"):
        reading, writing = opened
        writing.write(_frame(0xC1, b"\x00" * 60_000))
        await target.until_closed(reading)
        writing.close()


async def _unread(target: Target) -> None:
    """Follows, and reads nothing."""
    if opened := await target.socket():
        _, writing = opened
        writing.transport.pause_reading()  # type: ignore[attr-defined]
        while not writing.is_closing():
            await asyncio.sleep(0.2)
        target.seen["cut off"] += 1


async def _unknown(target: Target) -> None:
    """Opens a tRPC socket and never says who it is."""
    if opened := await target.socket("/trpc?connectionParams=1"):
        await target.until_closed(opened[0])
    else:
        await asyncio.sleep(0.5)


async def _follows(target: Target) -> None:
    """A good client: it comes back after a while, longer each time, as ours do."""
    failures = 0
    while True:
        try:
            if opened := await target.socket():
                failures = 0
                target.seen["open"] += 1
                await target.until_closed(opened[0])
                target.seen["open"] -= 1
                opened[1].close()
        except (OSError, asyncio.IncompleteReadError):
            target.seen["refused"] += 1
        failures += 1
        await asyncio.sleep(backoff_s(failures))


async def _requests(target: Target, *lines: str) -> None:
    reading, writing = await target.connect()
    for _ in range(1000):
        writing.write(target.head("GET", "/v1/me", *lines))
        head = await reading.readuntil(b"\r\n\r\n")
        target.seen[head.split(b" ", 2)[1].decode()] += 1
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reading.readexactly(int(length.split(b":")[1]))
    writing.close()


async def _request_flood(target: Target) -> None:
    await _requests(target, f"Authorization: Bearer {target.token}")


async def _bad_tokens(target: Target) -> None:
    await _requests(target, "Authorization: Bearer wrong")


class Attack(NamedTuple):
    what: str
    client: Client
    clients: int
    """At a time."""
    is_stopped: bool = False
    """The program itself is to be stopped: its kernel goes on acknowledging, and it says nothing any more."""


ATTACKS: Final[dict[str, Attack]] = {
    "silent": Attack("connections that send nothing", _silent, 400),
    "slow-heads": Attack("requests whose head comes a byte at a time", _slow_head, 200),
    "slow-bodies": Attack("requests whose body comes a byte at a time", _slow_body, 200),
    "large-bodies": Attack("bodies of 1 MiB without their last byte", _large_body, 200),
    "untaken-answers": Attack("answers that are asked for and not taken", _untaken, 50),
    "hangs-on": Attack("clients that do not close", _hangs_on, 100),
    "frames": Attack("sockets that send as many frames as they can", _frames, 50),
    "trickled-frames": Attack("sockets whose message comes two bytes at a time", _trickled_frames, 50),
    "giant-frames": Attack("sockets that announce a terabyte", _giant_frames, 50),
    "bombs": Attack("sockets that send compressed frames", _bombs, 20),
    "unread": Attack("sockets that follow an answer and read nothing", _unread, 100),
    "half-open": Attack("sockets whose client is there no more", _unread, 100, is_stopped=True),
    "unknown": Attack("sockets that never say who they are", _unknown, 1000),
    "unknown-from-one": Attack("the same from one address", _unknown, 1000),
    "restart": Attack("sockets of a web process that is restarted, and come back", _follows, 500),
    "requests": Attack("requests from one address, as fast as may be", _request_flood, 16),
    "bad-tokens": Attack("tokens tried from one address, as fast as may be", _bad_tokens, 16),
}


async def _again_and_again(client: Client, target: Target) -> None:
    while True:
        try:
            await client(target)
        except (OSError, asyncio.IncompleteReadError):
            target.seen["cut off"] += 1
        await asyncio.sleep(_AGAIN_S)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    tasks: list[asyncio.Task[Any]] = []
    seen: Counter[str] = Counter()

    def begin(*, name: str, count: int, **where: Any) -> None:
        for number in range(count):
            last = 0 if name in _ONE_ADDRESS else number
            target = Target(**where, seen=seen, address=f"198.18.{last // 250}.{last % 250 + 1}")
            tasks.append(loop.create_task(_again_and_again(ATTACKS[name].client, target)))

    def counts() -> dict[str, int]:
        return dict(seen)

    while line := await requests.readline():
        reply(*decode(line), {"begin": begin, "counts": counts})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    allow_many_files()
    asyncio.run(_serve())
