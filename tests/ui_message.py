"""What a client of the AI SDK makes of a UI message stream: `processUIMessageStream` of `ai` 6 and 7, in Python.

The real ones are held to it by tests/clients/test_ai_sdk_fold.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

Json = dict[str, Any]
Version = Literal[6, 7]

_FIELDS: Final[dict[str, dict[str, type]]] = {
    "start": {"messageId": str},
    "start-step": {},
    "reset-step": {},
    "finish-step": {},
    "text-start": {"id": str},
    "text-delta": {"id": str, "delta": str},
    "text-end": {"id": str},
    "tool-input-start": {"toolCallId": str, "toolName": str},
    "tool-input-available": {"toolCallId": str, "toolName": str, "input": object},
    "tool-output-available": {"toolCallId": str, "output": object},
    "tool-output-error": {"toolCallId": str, "errorText": str},
    "message-metadata": {"messageMetadata": object},
    "error": {"errorText": str},
    "abort": {},
    "finish": {"finishReason": str},
}
_REASONS: Final = {"stop", "length", "content-filter", "tool-calls", "error", "other"}


class BadStream(AssertionError):
    """A client would throw this stream away."""


class UiMessage:
    """One message as it is shown."""

    def __init__(self, version: Version = 7) -> None:
        self.id: str | None = None
        self.parts: list[Json] = []
        self.metadata: Json = {}
        self.finish_reason: str | None = None
        self.error: str | None = None
        self.is_aborted = False
        self.transient: list[Json] = []
        self.is_finished = False
        self._version = version
        self._active: dict[str, Json] = {}

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def tools(self) -> list[Json]:
        return [part for part in self.parts if part["type"].startswith("tool-")]

    def data(self, kind: str) -> list[Json]:
        return [part["data"] for part in self.parts if part["type"] == f"data-{kind}"]

    def take_all(self, chunks: Iterable[Json]) -> UiMessage:
        for chunk in chunks:
            self.take(chunk)
        return self

    def take(self, chunk: Json) -> None:
        """Raises `BadStream`."""
        kind = chunk["type"]
        self._check(kind, chunk)
        if self.error is not None:
            if kind != "finish":
                raise BadStream(f"{kind} behind an error")
            self.is_finished, self.finish_reason = True, chunk["finishReason"]
            return
        match kind:
            case "start":
                self.id = chunk["messageId"]
                self._learn(chunk)
            case "start-step":
                self.parts.append({"type": "step-start"})
            case "reset-step":
                del self.parts[self._step() :]
                self._active.clear()
            case "text-start":
                part = {"type": "text", "text": "", "state": "streaming"}
                self._active[chunk["id"]] = part
                self.parts.append(part)
            case "text-delta":
                self._text_part(chunk)["text"] += chunk["delta"]
            case "text-end":
                self._text_part(chunk)["state"] = "done"
                del self._active[chunk["id"]]
            case "tool-input-start":
                self._tool(chunk, "input-streaming", input=None)
            case "tool-input-available":
                self._tool(chunk, "input-available", input=chunk["input"])
            case "tool-output-available":
                self._known_tool(chunk).update(state="output-available", output=chunk["output"])
            case "tool-output-error":
                self._known_tool(chunk).update(state="output-error", errorText=chunk["errorText"])
            case "message-metadata":
                self._learn(chunk)
            case "error":
                self.error = chunk["errorText"]
            case "abort":
                self.is_aborted = True
            case "finish":
                self.is_finished, self.finish_reason = True, chunk["finishReason"]
                self._learn(chunk)
            case _ if kind.startswith("data-"):
                self._take_data(chunk)

    def _check(self, kind: str, chunk: Json) -> None:
        if kind.startswith("data-"):
            if "data" not in chunk:
                raise BadStream(f"{kind} without data")
            return
        fields = _FIELDS.get(kind)
        if fields is None or (kind == "reset-step" and self._version < 7):
            raise BadStream(f"version {self._version} does not know {kind}")
        for name, wanted in fields.items():
            if name not in chunk or not isinstance(chunk[name], wanted):
                raise BadStream(f"{kind} has no {name}: {chunk}")
        if kind == "finish" and chunk["finishReason"] not in _REASONS:
            raise BadStream(f"finished for {chunk['finishReason']}")
        if self.is_finished or self.is_aborted:
            raise BadStream(f"{kind} behind the end")

    def _step(self) -> int:
        starts = [index for index, part in enumerate(self.parts) if part["type"] == "step-start"]
        return starts[-1] + 1 if starts else 0

    def _text_part(self, chunk: Json) -> Json:
        if (part := self._active.get(chunk["id"])) is None:
            raise BadStream(f"no text part {chunk['id']}")
        return part

    def _tool(self, chunk: Json, state: str, **fields: Any) -> None:
        step = self.parts[self._step() :]
        part = next((part for part in step if part.get("toolCallId") == chunk["toolCallId"]), None)
        if part is None:
            part = {"toolCallId": chunk["toolCallId"]}
            self.parts.append(part)
        part.update(type=f"tool-{chunk['toolName']}", state=state, **fields)

    def _known_tool(self, chunk: Json) -> Json:
        for part in reversed(self.parts):
            if part.get("toolCallId") == chunk["toolCallId"]:
                return part
        raise BadStream(f"no tool part {chunk['toolCallId']}")

    def _take_data(self, chunk: Json) -> None:
        if chunk.get("transient"):
            self.transient.append(chunk)
            return
        for part in self.parts:
            if part["type"] == chunk["type"] and part.get("id") == chunk["id"]:
                part["data"] = chunk["data"]
                return
        self.parts.append(chunk)

    def _learn(self, chunk: Json) -> None:
        self.metadata |= chunk.get("messageMetadata") or {}
