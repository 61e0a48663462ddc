"""What clients of OpenAI's API ask for, and what of it can be had here. Pure.

The project's messages are the conversation: of what a client sends of it, the user's newest text counts, and nothing else
is read. `REFUSED` has the fields that are refused, since a client relies on them (its tools, its instructions, a format);
what only tunes an answer is passed over, as is what nobody knows. docs/protocols.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from werkzeug.datastructures import Headers

from api import requests
from api.protocols.openai.objects import RESPONSE_PREFIX, Conversation
from api.protocols.openai.refusals import Refusal

PROJECT_MODEL: Final = "chatrelay"
"""The name of the first model; `chatrelay:<projectId>` names a project too."""
PROJECT_HEADER: Final = "OpenAI-Project"

_TEXT_PARTS: Final = ("input_text", "text")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a message."""

    type: str
    text: str | None = None


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A message or another item of a client's conversation."""

    role: str | None = None
    type: str = "message"
    content: str | list[Part] | None = None


class _Common(msgspec.Struct, frozen=True, kw_only=True):
    model: str | None = None
    stream: bool | None = None
    metadata: dict[str, Any] | None = None
    tools: Any = None
    tool_choice: Any = None
    moderation: Any = None


class TextConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`verbosity`, beside it, only tunes."""

    format: Any = None


class NewResponse(_Common, frozen=True, kw_only=True):
    """A message for the project that `conversation`, `metadata.project`, the header or the model names."""

    input: str | list[Said]
    background: bool | None = None
    store: bool | None = None
    conversation: str | Conversation | None = None
    previous_response_id: str | None = None
    instructions: Any = None
    prompt: Any = None
    text: TextConfig | None = None


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool | None = None


class NewCompletion(_Common, frozen=True, kw_only=True):
    """The same for the plainest of clients."""

    messages: list[Said]
    stream_options: StreamOptions | None = None
    n: Any = None
    stop: Any = None
    logprobs: Any = None
    response_format: Any = None
    modalities: Any = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None


class ResponseQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`starting_after`: the sequence number of the last event that the client has."""

    stream: bool | None = None
    starting_after: int | None = None


REFUSED: Final[Mapping[str, Sequence[Any]]] = {
    "store": (True,),
    "instructions": ("",),
    "prompt": (),
    "text": (TextConfig(), TextConfig(format={"type": "text"})),
    "tools": ([],),
    "tool_choice": ("auto",),
    "moderation": (),
    "n": (1,),
    "stop": ([],),
    "logprobs": (False,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "functions": ([],),
    "function_call": ("auto",),
    "web_search_options": (),
}
"""Fields that cannot be honoured, and what they may be beside null since it asks for nothing."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """`model` None: the first one. `previous` is the message that goes before, which names a project too."""

    text: str
    project_id: UUID | None
    model: str | None
    previous: UUID | None = None


def of_response(body: NewResponse, headers: Headers, models: Sequence[str]) -> Wanted:
    """Raises `Refusal`."""
    _check(body)
    said = [Said(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    named = body.conversation.id if isinstance(body.conversation, Conversation) else body.conversation
    project_id, model = _project_and_model(body, headers, models, "conversation", named)
    previous = None
    if body.previous_response_id is not None:
        previous = _id(body.previous_response_id.removeprefix(RESPONSE_PREFIX), "previous_response_id")
    elif project_id is None:
        raise _no_project("conversation")
    return Wanted(text=_newest(said, "input"), project_id=project_id, model=model, previous=previous)


def of_completion(body: NewCompletion, headers: Headers, models: Sequence[str]) -> Wanted:
    """Raises `Refusal`."""
    _check(body)
    project_id, model = _project_and_model(body, headers, models, "model", None)
    if project_id is None:
        raise _no_project("model")
    return Wanted(text=_newest(body.messages, "messages"), project_id=project_id, model=model)


def _check(body: msgspec.Struct) -> None:
    for name, harmless in REFUSED.items():
        value = getattr(body, name, None)
        if value is not None and not any(type(value) is type(one) and value == one for one in harmless):
            raise Refusal(f"{name} cannot be honoured here.", param=name, code="unsupported_parameter")


def _newest(said: Sequence[Said], param: str) -> str:
    """The text of the last message, which must be the user's."""
    last = said[-1] if said else None
    if last is None or last.type != "message" or last.role != "user":
        raise Refusal(f"{param} must end with a message of the user's.", param=param)
    if isinstance(last.content, str):
        return last.content
    parts = last.content or []
    if any(part.type not in _TEXT_PARTS or part.text is None for part in parts):
        raise Refusal("Only text can be answered here.", param=param, code="unsupported_value")
    return "".join(part.text or "" for part in parts)


def _project_and_model(
    body: _Common, headers: Headers, models: Sequence[str], param: str, named: str | None
) -> tuple[UUID | None, str | None]:
    """Raises `Refusal` where two different projects are named, or a model that there is not."""
    found: dict[UUID, str] = {}
    model, _, of_model = (body.model or PROJECT_MODEL).partition(":") if _is_ours(body.model) else (body.model, "", "")
    in_metadata = (body.metadata or {}).get("project")
    for text, place in (
        (named, param),
        (in_metadata, "metadata.project"),
        (headers.get(PROJECT_HEADER), PROJECT_HEADER),
        (of_model, "model"),
    ):
        if text is not None and text != "":
            found[_id(text, place)] = place
    if len(found) > 1:
        raise Refusal(f"{' and '.join(found.values())} name different projects.", param=param)
    if model not in (PROJECT_MODEL, *models):
        raise Refusal("There is no such model.", param="model", code="model_not_found", status=404)
    return next(iter(found), None), None if model == PROJECT_MODEL else model


def _is_ours(model: str | None) -> bool:
    return model is None or model == PROJECT_MODEL or model.startswith(f"{PROJECT_MODEL}:")


def _id(text: object, param: str) -> UUID:
    """Raises `NotFound`: what is no id names nothing."""
    if not isinstance(text, str):
        raise Refusal("must be the id of a project", param=param)
    return requests.path_id(text)


def _no_project(param: str) -> Refusal:
    return Refusal(
        "Name the project: as conversation, as metadata.project, in the OpenAI-Project header (the client's project), or in"
        f" the model, {PROJECT_MODEL}:<projectId>.",
        param=param,
        code="missing_project",
    )
