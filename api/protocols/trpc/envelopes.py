"""The bytes of tRPC 11: what a client sends, parsed; what it is sent, built. Pure.

A transformer is what both sides wrap values in: none, or superjson, whose ``{"json": …}`` is all that plain JSON needs. What
superjson says of types (``meta``) is not read: every input here is of strings, numbers and null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeGuard, get_args

import msgspec

from api.protocols.trpc.errors import MalformedMessage, Shape
from shared import strict_json
from shared.errors import InvalidJson
from shared.records import JsonValue

ProcedureKind: TypeAlias = Literal["query", "mutation", "subscription"]
_KINDS: Final = frozenset(get_args(ProcedureKind))
LONGEST_ID: Final = 100
"""Characters of a request's id that is text: it comes back with every event."""

PING: Final = "PING"
PONG: Final = "PONG"
RECONNECT: Final = b'{"id":null,"method":"reconnect"}'

RequestId: TypeAlias = int | float | str | None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a client's on a socket."""

    id: RequestId
    jsonrpc: bool
    """Whether it says that it is JSON-RPC 2.0; then answers say so too."""
    kind: ProcedureKind | None
    """None: it stops the subscription of that id."""
    path: str = ""
    input: JsonValue = None
    last_event_id: str | None = None


class Transformer:
    """How values are written."""

    def __init__(self, name: Literal["superjson"] | None) -> None:
        self._is_superjson = name == "superjson"

    def wrap(self, encoded: bytes) -> bytes:
        return b'{"json":%b}' % encoded if self._is_superjson else encoded

    def unwrap(self, value: JsonValue) -> JsonValue:
        """None for a value that is undefined, too."""
        if not self._is_superjson:
            return value
        return value.get("json") if isinstance(value, dict) else None


# --- from the client --------------------------------------------------------------------------------------------


def parse(text: str, transformer: Transformer, *, max_depth: int) -> list[Request]:
    """The messages of one text frame, which holds one or an array. Raises `MalformedMessage`, for all of them together."""
    value = load(text.encode(), max_depth=max_depth)
    return [_request(one, transformer) for one in (value if isinstance(value, list) else [value])]


def load(raw: bytes, *, max_depth: int) -> JsonValue:
    """JSON, as strictly as in every body. Raises `MalformedMessage`."""
    try:
        return strict_json.load(raw, max_depth=max_depth, what="The message")
    except InvalidJson as error:
        raise MalformedMessage(error.detail) from None


def _request(value: JsonValue, transformer: Transformer) -> Request:
    if not isinstance(value, dict):
        raise MalformedMessage("Not an object")
    request_id, jsonrpc, method = value.get("id", ...), value.get("jsonrpc", ...), value.get("method")
    if not _is_request_id(request_id):
        raise MalformedMessage("Invalid request id")
    if jsonrpc not in (..., "2.0"):
        raise MalformedMessage("Must be JSONRPC 2.0")
    if method == "subscription.stop":
        return Request(id=request_id, jsonrpc=jsonrpc == "2.0", kind=None)
    if not _is_kind(method):
        raise MalformedMessage("Invalid procedure type")
    params = value.get("params")
    if not isinstance(params, dict):
        raise MalformedMessage("Not an object")
    path, last_event_id = params.get("path"), params.get("lastEventId")
    if not isinstance(path, str) or not isinstance(last_event_id, str | None):
        raise MalformedMessage("Invalid string")
    return Request(
        id=request_id,
        jsonrpc=jsonrpc == "2.0",
        kind=method,
        path=path,
        input=transformer.unwrap(params.get("input")),
        last_event_id=last_event_id,
    )


def _is_request_id(value: Any) -> TypeGuard[RequestId]:
    if isinstance(value, str):
        return len(value) <= LONGEST_ID
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_kind(value: Any) -> TypeGuard[ProcedureKind]:
    return isinstance(value, str) and value in _KINDS


def first_message(text: str, *, max_depth: int) -> str | None:
    """The token of ``{"method":"connectionParams","data":{"token":…}}``, None without one. Raises `MalformedMessage`."""
    value = load(text.encode(), max_depth=max_depth)
    if not isinstance(value, dict):
        raise MalformedMessage("Malformed TRPCConnectionParamsMessage")
    return token_of(value.get("data"))


def token_of(params: JsonValue) -> str | None:
    """The token of ``connectionParams``. Raises `MalformedMessage`."""
    if params is None:
        return None
    if not isinstance(params, dict) or not all(isinstance(value, str) for value in params.values()):
        raise MalformedMessage("Invalid connection params shape")
    token = params.get("token")
    return token if isinstance(token, str) else None


# --- to the client on a socket ----------------------------------------------------------------------------------


class Envelope:
    """What comes back for one request, addressed to it."""

    __slots__ = ("_head", "_transformer")

    def __init__(self, request_id: RequestId, transformer: Transformer, *, jsonrpc: bool = False) -> None:
        version = b',"jsonrpc":"2.0"' if jsonrpc else b""
        self._head = b'{"id":%b%b' % (msgspec.json.encode(request_id), version)
        self._transformer = transformer

    @property
    def started(self) -> bytes:
        return self._head + b',"result":{"type":"started"}}'

    @property
    def stopped(self) -> bytes:
        return self._head + b',"result":{"type":"stopped"}}'

    def data(self, encoded: bytes) -> bytes:
        """The result of a query or a mutation."""
        return b'%b,"result":{"type":"data","data":%b}}' % (self._head, self._transformer.wrap(encoded))

    def tracked(self, event_id: str, encoded: bytes) -> bytes:
        """An event that a client may resume after."""
        quoted = b'"%b"' % event_id.encode()
        data = self._transformer.wrap(b'{"id":%b,"data":%b}' % (quoted, encoded))
        return b'%b,"result":{"type":"data","data":%b,"id":%b}}' % (self._head, data, quoted)

    def error(self, shape: Shape) -> bytes:
        return b'%b,"error":%b}' % (self._head, self._transformer.wrap(msgspec.json.encode(shape)))


# --- to the client over HTTP ------------------------------------------------------------------------------------


def response(result: bytes | Shape, transformer: Transformer) -> bytes:
    """What one call came to: its encoded result, or how it was refused."""
    if isinstance(result, Shape):
        return b'{"error":%b}' % transformer.wrap(msgspec.json.encode(result))
    return b'{"result":{"data":%b}}' % transformer.wrap(result)


def batch(responses: Sequence[bytes]) -> bytes:
    return b"[%b]" % b",".join(responses)


def status_of(results: Sequence[bytes | Shape]) -> int:
    """200, the one status of all refusals, or 207 where they differ."""
    statuses = {result.data.http_status if isinstance(result, Shape) else 200 for result in results}
    return statuses.pop() if len(statuses) == 1 else 207


def lines_head(calls: int, transformer: Transformer) -> bytes:
    """The first line of a streamed batch: each call's answer is promised under its own number."""
    promised = b",".join(b'"%d":[[0],[null,0,%d]]' % (index, index) for index in range(calls))
    return transformer.wrap(b"{%b}" % promised) + b"\n"


def line(index: int, result: bytes | Shape, transformer: Transformer) -> bytes:
    """One call's answer in a streamed batch, where each line is wrapped as a whole."""
    plain = response(result, Transformer(None))
    return transformer.wrap(b"[%d,0,[[%b]]]" % (index, plain)) + b"\n"


def event(name: str, data: bytes = b"") -> bytes:
    """A block of an event stream that is tRPC's own."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def tracked_event(event_id: str, encoded: bytes, transformer: Transformer) -> bytes:
    return b"data: %b\nid: %b\n\n" % (transformer.wrap(encoded), event_id.encode())


def error_event(shape: Shape, transformer: Transformer) -> bytes:
    return event("serialized-error", transformer.wrap(msgspec.json.encode(shape)))


def inputs_of(value: JsonValue, paths: Sequence[str], *, is_batch: bool) -> Mapping[int, JsonValue] | None:
    """The input, still wrapped, of each call by its number; None where a batch's is no object."""
    if value is None:
        return {}
    if not is_batch:
        return {0: value}
    if not isinstance(value, dict):
        return None
    return {index: value[str(index)] for index in range(len(paths)) if str(index) in value}
