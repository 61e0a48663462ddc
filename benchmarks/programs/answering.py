"""The program's side: requests come on standard input, answers go to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

Answers = Mapping[str, Callable[..., Any]]
_READ_BYTES: Final = 1024 * 1024


def serve(answers: Answers) -> None:
    """Answer one request after the other until the input ends."""
    for line in sys.stdin.buffer:
        reply(*decode(line), answers)


def decode(line: bytes) -> tuple[str, dict[str, Any]]:
    request: dict[str, Any] = msgspec.json.decode(line)
    return request.pop("do"), request


def reply(do: str, request: dict[str, Any], answers: Answers) -> None:
    try:
        answer = answers[do](**request)
    except Exception as error:
        say(failed=f"{type(error).__name__}: {error}")
    else:
        say(answer=answer)


def say(**answer: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


class Requests:
    """Requests for a program that waits for other descriptors too: `read` when standard input is readable."""

    def __init__(self) -> None:
        self._rest = b""
        self.are_over = False

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        data = os.read(sys.stdin.fileno(), _READ_BYTES)
        self.are_over = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from map(decode, lines)
