"""What the model answers to a request when no script says it: in words, with an edit, or with a component. Pure.

`plan` looks at nothing but the messages and the tools that are offered, and gives the same plan for the same ones.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from dev.scripted_model import components, edits, prose
from dev.scripted_model.draft import CannotEdit
from dev.scripted_model.wire import Message, OfferedTool, ToolCall

EDIT_TOOL: Final = "applyJsonPatch"
COMPONENT_TOOL: Final = "generateRemotionComponent"

_MOST_EDIT_TRIES: Final = 2
_INLINE_SCRIPT = re.compile(r"^#script ", re.MULTILINE)
_DOCUMENT = re.compile(r"^[ \t]*<document\b[^>\n]*>[ \t]*\n(?P<json>.*?)^[ \t]*</document>", re.DOTALL | re.MULTILINE)
_COMPONENTS = re.compile(r"^<components>[ \t]*\n(?P<json>.*?)^</components>", re.DOTALL | re.MULTILINE)
_BUILDER_MARK = re.compile(r"^\s*chatrelay-builder\b", re.MULTILINE)
_SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_GOOD_BEGINNING = re.compile(
    r"\s*[\"']?(?:done|applied|ok|success|succeeded|added|changed|the (?:patch|edit) (?:was|is) applied)\b", re.I
)
_BAD_NEWS = re.compile(
    r"\b(?:not (?:been )?applied|not done|nothing (?:was |has been )?(?:changed|applied)|changed (?:meanwhile|since|by)|"
    r"fail(?:ed|s|ure)?|errors?|refused|rejected|invalid|could(?: not|n't)|can(?:not|'t)|unknown|breaks?|conflict|"
    r"does(?: not|n't)|was(?: not|n't))\b",
    re.IGNORECASE,
)
_MOST_QUOTED_CHARACTERS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One round: `text`, then the tool calls in order."""

    text: str
    calls: tuple[PlannedCall, ...] = ()


def newest_user_message(messages: Sequence[Message]) -> int | None:
    """The index of the newest user message."""
    return next((index for index in reversed(range(len(messages))) if messages[index].role == "user"), None)


def tool_turns_after(messages: Sequence[Message], index: int | None) -> int:
    """How many of the messages after that index are an assistant's with tool calls: the number of the round, from 0."""
    following = messages if index is None else messages[index + 1 :]
    return sum(1 for message in following if message.role == "assistant" and message.tool_calls)


def inline_script(text: str) -> str | None:
    """The JSON behind `#script ` at the beginning of a line of the message, to the message's end."""
    found = _INLINE_SCRIPT.search(text)
    return None if found is None else text[found.end() :]


def plan(messages: Sequence[Message], tools: Sequence[OfferedTool]) -> Plan:
    """What to answer to the messages."""
    system = "\n".join(message.text for message in messages if message.role in _SYSTEM_ROLES)
    newest = newest_user_message(messages)
    asked = "" if newest is None else messages[newest].text.strip()
    if not tools and _BUILDER_MARK.search(system):
        # the first request describes it; those that follow tell what is wrong with the answer
        described = [message.text for message in messages if message.role == "user"] or [""]
        return Plan(text=components.component_answer(described[0], repairs=len(described) - 1))
    offered = frozenset(tool.function.name for tool in tools)
    asked = components.placement(asked, built_components(system)) or asked
    if tool_turns_after(messages, newest):
        return _after_tools(asked, messages[(newest or 0) :], offered)
    return _first_round(asked, parse_document(system), offered)


def parse_document(text: str) -> Any:
    """The JSON between the last `<document …>` and `</document>` of a text; prose.NO_DOCUMENT where there is none."""
    found = list(_DOCUMENT.finditer(text))
    if not found:
        return prose.NO_DOCUMENT
    try:
        return msgspec.json.decode(found[-1]["json"])
    except msgspec.DecodeError:
        return prose.NO_DOCUMENT


def built_components(text: str) -> list[tuple[str, str]]:
    """Ids and names of the list between `<components>` and `</components>`, newest first."""
    found = list(_COMPONENTS.finditer(text))
    try:
        listed = msgspec.json.decode(found[-1]["json"], type=list[dict[str, Any]]) if found else []
    except msgspec.DecodeError:
        return []
    return [(str(component.get("id")), str(component.get("name"))) for component in listed]


def _first_round(asked: str, document: Any, offered: frozenset[str]) -> Plan:
    component = components.component_request(asked)
    if component is not None and COMPONENT_TOOL in offered:
        call = PlannedCall(
            name=COMPONENT_TOOL, arguments={"effectDescription": component.description, "name": component.name}
        )
        return Plan(text=f"I'll build that as the component `{component.name}`.", calls=(call,))
    if document is not prose.NO_DOCUMENT and EDIT_TOOL in offered:
        try:
            edit = edits.plan_edit(asked, document)
        except CannotEdit as reason:
            return Plan(text=str(reason))
        if edit is not None:
            return Plan(text=prose.before_an_edit(asked), calls=(_edit_call(edit),))
    return Plan(text=prose.answer(asked, document, may_edit=EDIT_TOOL in offered, may_build=COMPONENT_TOOL in offered))


def _edit_call(edit: edits.Edit) -> PlannedCall:
    return PlannedCall(name=EDIT_TOOL, arguments={"operations": edit.operations, "explanation": edit.explanation})


def _after_tools(asked: str, following: Sequence[Message], offered: frozenset[str]) -> Plan:
    """The round after a tool's result: says what came of the newest calls, or tries an overtaken edit once more."""
    turns = [message for message in following if message.role == "assistant" and message.tool_calls]
    results = {message.tool_call_id: message.text for message in following if message.role == "tool"}
    outcomes = [(call, results.get(call.id, "")) for call in turns[-1].tool_calls or ()]
    if len(turns) < _MOST_EDIT_TRIES and EDIT_TOOL in offered:
        for call, result in outcomes:
            shown = (
                _shown_document(result) if call.function.name == EDIT_TOOL and _failed(result) else prose.NO_DOCUMENT
            )
            if shown is not prose.NO_DOCUMENT:
                return _try_again(asked, shown)
    return Plan(text="\n\n".join(_in_words(call, result) for call, result in outcomes))


def _try_again(asked: str, document: Any) -> Plan:
    try:
        edit = edits.plan_edit(asked, document)
    except CannotEdit as reason:
        return Plan(text=f"The document has changed meanwhile. {reason}")
    if edit is None:
        return Plan(text="The document has changed meanwhile, and what you asked for doesn't fit it any more.")
    return Plan(
        text="The document has changed meanwhile, so I'm doing it again on the newest version.",
        calls=(_edit_call(edit),),
    )


def _in_words(call: ToolCall, result: str) -> str:
    arguments = _json_object(call.function.arguments)
    if _failed(result):
        return (
            f"That didn't work. The tool `{call.function.name}` answered:\n\n> {_shortened(_reason(result))}\n\n"
            "Nothing was changed by it. Tell me how you'd like to go on."
        )
    explanation = arguments.get("explanation")
    if isinstance(explanation, str) and explanation:
        return f"Done. {explanation}"
    if call.function.name == COMPONENT_TOOL:
        return f"The component `{arguments.get('name', 'Component')}` is on its way."
    return f"Done: the tool `{call.function.name}` did what it was asked to."


def _failed(result: str) -> bool:
    """Whether a tool's result tells of a failure: by its fields where it is JSON, else by its first words."""
    fields = _json_object(result)
    for key in ("success", "ok", "applied"):
        if isinstance(fields.get(key), bool):
            return not fields[key]
    if fields.get("error") or fields.get("state") == "failed":
        return True
    if fields or _GOOD_BEGINNING.match(result):
        return False
    return _BAD_NEWS.search(result[:_MOST_QUOTED_CHARACTERS]) is not None


def _shown_document(result: str) -> Any:
    fields = _json_object(result)
    return fields["document"] if "document" in fields else parse_document(result)


def _reason(result: str) -> str:
    fields = _json_object(result)
    reason = fields.get("error", fields.get("reason", fields.get("detail", result)))
    if isinstance(reason, dict):
        reason = reason.get("detail", reason.get("message", result))
    return reason if isinstance(reason, str) else result


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MOST_QUOTED_CHARACTERS else text[: _MOST_QUOTED_CHARACTERS - 1] + "…"


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}
