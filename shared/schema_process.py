"""Processes that check documents against schemas, each with bounded time and memory.

A validator cannot be interrupted, and keeps every other thread of its process waiting. Schemas that people bring are
therefore looked at in processes of their own, which the kernel ends where one takes too long; the next check starts another.

    request    size (4 bytes), JSON [schema, document or null], each as a JSON text
    answer     size (4 bytes), JSON of `Answer`

python -m shared.schema_process
"""

from __future__ import annotations

import atexit
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Final

import msgspec

from shared.validation import Problems, Unusable, problems

CPU_S: Final = 1.0
"""Of one check. A document at its limit in a schema as people write them takes some milliseconds."""
WALL_S: Final = 4.0
"""For a free process, and once more until its answer: a busy machine gives CPU time late. Both are less than a lease."""
MEMORY_BYTES: Final = 512 * 1024**2
"""Of one process. A schema as large as a body may be takes 85 MiB while it is read, and 22 MiB while it is kept."""
GROWN_BYTES: Final = 128 * 1024**2
"""A process that has grown so large ends after its answer: what one stranger's schemas take, the next one would lack."""
MOST_PROCESSES: Final = 4
"""Of one process that asks; further checks wait for one of them."""
_SIZE_BYTES: Final = 4


_log = logging.getLogger(__name__)


class CheckTooLong(Exception):
    """The check was given up: it took too long, or too much memory."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    is_usable: bool
    problems: Problems = ()
    is_last: bool = False
    """Whether the process ends now."""


class Checkers:
    """The processes that a process keeps, started when they are needed."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(MOST_PROCESSES)
        self._idle: list[_Checker] = []

    def ask(self, schema: bytes, document: bytes | None) -> Answer:
        """What a check came to. Raises `CheckTooLong`."""
        request = msgspec.json.encode((schema.decode(), None if document is None else document.decode()))
        if not self._room.acquire(timeout=WALL_S):
            raise CheckTooLong
        try:
            checker = self._free()
            answer = checker.ask(request)
            if answer.is_last:
                checker.end()
            else:
                self._idle.append(checker)
        finally:
            self._room.release()
        return answer

    def _free(self) -> _Checker:
        while True:
            try:
                checker = self._idle.pop()
            except IndexError:
                return _Checker()
            if not checker.is_gone:
                return checker
            checker.end()

    def close(self) -> None:
        """End those that nobody asks."""
        while self._idle:
            self._idle.pop().end()


class _Checker:
    """One process. Of no use any more once it has not answered."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "shared.schema_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            bufsize=0,
        )

    @property
    def is_gone(self) -> bool:
        return self._process.poll() is not None

    def ask(self, request: bytes) -> Answer:
        """Its answer. Raises `CheckTooLong` where it has none, and it is ended."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("a checker has pipes")
        try:
            _write(self._process.stdin, request)
            answer = _read_until(self._process.stdout.fileno(), time.monotonic() + WALL_S)
        except OSError:
            answer = None
        if answer is None:
            self.end()
            _log.warning("a check of a document against its schema was given up (%s)", self._process.returncode)
            raise CheckTooLong
        return msgspec.json.decode(answer, type=Answer)

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


def _write(pipe: IO[bytes], content: bytes) -> None:
    left = memoryview(len(content).to_bytes(_SIZE_BYTES, "big") + content)
    while left:
        left = left[pipe.write(left) :]


def _read_until(descriptor: int, deadline: float) -> bytes | None:
    """One message; None where its writer ends, or the deadline passes, before it is whole."""
    content = bytearray()
    wanted = _SIZE_BYTES
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(content) < wanted:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        piece = os.read(descriptor, 65536)
        if not piece:
            return None
        content += piece
        if wanted == _SIZE_BYTES and len(content) >= _SIZE_BYTES:
            wanted += int.from_bytes(content[:_SIZE_BYTES], "big")
    return bytes(content[_SIZE_BYTES:])


_checkers = Checkers()
atexit.register(lambda: _checkers.close())


def _forget() -> None:
    """A forked process has none: the pipes are its parent's."""
    global _checkers
    _checkers = Checkers()


os.register_at_fork(after_in_child=_forget)


def ask(schema: bytes, document: bytes | None) -> Answer:
    """Check in one of this process's checkers. Raises `CheckTooLong`."""
    return _checkers.ask(schema, document)


# --- the process itself ---------------------------------------------------------------------------------------------


def main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks decides
    reader, writer = sys.stdin.buffer, sys.stdout.buffer
    while len(size := reader.read(_SIZE_BYTES)) == _SIZE_BYTES:
        request = reader.read(int.from_bytes(size, "big"))
        # the kernel ends the process where a check takes longer; no Python has to run for that
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        found = _answer(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        is_last = _data_bytes() > GROWN_BYTES
        answer = msgspec.json.encode(msgspec.structs.replace(found, is_last=is_last))
        writer.write(len(answer).to_bytes(_SIZE_BYTES, "big") + answer)
        writer.flush()
        if is_last:
            return


def _data_bytes() -> int:
    """What `MEMORY_BYTES` limits."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _answer(request: bytes) -> Answer:
    schema, document = msgspec.json.decode(request, type=tuple[str, str | None])
    try:
        return Answer(
            is_usable=True, problems=problems(schema.encode(), None if document is None else document.encode())
        )
    except Unusable:
        return Answer(is_usable=False)


if __name__ == "__main__":
    main()
