"""Protocols of clients that exist already, over the same messages. A protocol lives in a module or package of its own here.

What one needs, and nothing of it in another room:

- a `Telling` (`telling.py`): a pure translation of one message's events into the protocol's words;
- for its sockets a `Dialect` (`sockets.py`): what a client says, as acts; pure but for the work that they bring along;
- calls, as every route, listed in `CALLS`, or in `DOCUMENTED` where the OpenAPI document can describe them and the tests of
  every other route hold for them; with `Words` of their own where refusals are not to be problems. Event streams are answered
  by `streams.answer`, sockets by a `SocketGuest`, what is to be answered once a message is final by `late.answer`.

Readers of all protocols sit in the relay's channels as every reader does: gap-free, once, compacted where they are slow; idle
ones cost no thread. What clients ask for is done on the relay's own threads for calls, each socket's one after another.
"""

from __future__ import annotations

from typing import Final

from api.calls import Call
from api.protocols import ai_sdk, openai, trpc

CALLS: Final[tuple[Call, ...]] = (*trpc.calls,)
DOCUMENTED: Final[tuple[Call, ...]] = (*ai_sdk.calls, *openai.calls)
