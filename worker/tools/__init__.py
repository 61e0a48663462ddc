"""The tools that the model may call.

A tool is a class with the attributes of `Tool`; third parties add one by an entry point of the group ``chatrelay.tools``,
named as the tool. `prepare` turns arguments that fit `parameters` into an effect. Effects on the project are committed by
the store, exactly once, with the call's ledger row; what a tool does elsewhere, inside `prepare`, happens at least once, with
`Situation.tool_call_id` as its stable idempotency key.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import metadata
from typing import Any, Final, Protocol, runtime_checkable
from uuid import UUID

import jsonschema_rs
import msgspec

from shared.errors import InvalidJson, Refused
from shared.events import arguments_of
from shared.patching import PatchLimits
from shared.records import StoredCall
from shared.store import Effect, Told
from shared.strict_json import NOT_TEXT

GROUP: Final = "chatrelay.tools"

_log = logging.getLogger(__name__)


class ToolRefused(Refused):
    """The call cannot be made; the text is told to the model."""

    code = "tool_refused"


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call is made. `document_version`: the one that the model had before it, changed by nobody else since."""

    tool_call_id: str
    project_id: UUID
    document_version: int
    limits: PatchLimits


@runtime_checkable
class Tool(Protocol):
    name: str
    description: str

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of the arguments, an object."""
        ...

    def prepare(self, arguments: dict[str, Any], situation: Situation) -> Effect:
        """The effect of a call. Raises `ToolRefused`."""
        ...


class Registry:
    """The tools by name, with their compiled schemas."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._schemas = {
            name: jsonschema_rs.Draft202012Validator(tool.parameters) for name, tool in self._tools.items()
        }

    @classmethod
    def installed(cls) -> Registry:
        """Every tool that an installed distribution declares. Raises `TypeError` for one that is none."""
        tools: list[Tool] = []
        for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name):
            tool = point.load()()
            if not isinstance(tool, Tool) or tool.name != point.name:
                raise TypeError(f"the entry point {point.name} of {GROUP} is not a tool of that name")
            tools.append(tool)
        return cls(tools)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._tools)

    def specifications(self) -> list[dict[str, Any]]:
        """The tools in the provider's wire form."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in self._tools.values()
        ]

    def prepare(self, call: StoredCall, situation: Situation) -> Effect:
        """The call's effect; what is wrong with it is an effect too, which tells the model."""
        tool = self._tools.get(call.name)
        if tool is None:
            return refusal(f"There is no tool named {call.name[:100]!r}.")
        try:
            arguments: Any = arguments_of(call.arguments or "{}")
        except InvalidJson as error:
            return refusal(f"The arguments are not the JSON that is accepted. {error.detail}")
        problems = [
            f"{'/'.join(map(str, error.instance_path))[:300] or 'arguments'}: {error.message[:300]}"
            for error, _ in zip(self._schemas[call.name].iter_errors(arguments), range(5), strict=False)
        ]
        if problems:
            return refusal("The arguments do not fit the tool's schema: " + "; ".join(problems))
        try:
            return _storable(tool.prepare(arguments, situation))
        except ToolRefused as error:
            return refusal(NOT_TEXT.sub("\ufffd", error.detail))
        except Exception:
            # a third party's code: its fault is that call's result, not the message's end
            _log.exception("the tool %s failed", call.name)
            return refusal("The tool failed.")


def _storable(effect: Effect) -> Effect:
    """Without what neither Postgres nor UTF-8 can hold in the texts of an effect: else it would be made again, and again."""
    texts = {name: value for name, value in msgspec.structs.asdict(effect).items() if isinstance(value, str)}
    return msgspec.structs.replace(effect, **{name: NOT_TEXT.sub("\ufffd", value) for name, value in texts.items()})


def refusal(error: str) -> Told:
    """A call that was not made, and why."""
    return Told(succeeded=False, result=msgspec.json.encode({"error": error}).decode(), error=error)
