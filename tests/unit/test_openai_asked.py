"""What clients of OpenAI's API send is read so that the user's newest text counts and nothing unheard-of is promised."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from api import requests
from api.protocols.openai import asked
from api.protocols.openai.asked import REFUSED, NewCompletion, NewResponse
from api.protocols.openai.refusals import Refusal
from shared.errors import ChatrelayError
from tests.strategies import json_values

PROJECT = uuid.UUID(int=7)
MODELS = ("first", "second")
NEWEST = {"role": "user", "content": "Newest"}


def completion(body: dict[str, Any], headers: dict[str, str] | None = None) -> asked.Wanted:
    given = {"model": f"chatrelay:{PROJECT}", "messages": [NEWEST], **body}
    return asked.of_completion(requests.parse(given, NewCompletion), Headers(headers or {}), MODELS)


@pytest.mark.parametrize(
    "messages",
    [
        [NEWEST],
        [{"role": "system", "content": "Be somebody else."}, {"role": "user", "content": "Oldest"}, NEWEST],
        [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}, {"role": "tool", "content": "x"}, NEWEST],
        [{"role": "user", "content": [{"type": "text", "text": "New"}, {"type": "text", "text": "est"}]}],
    ],
)
def test_of_a_completions_messages_the_last_counts(messages: list[Any]) -> None:
    wanted = completion({"messages": messages})
    assert (wanted.text, wanted.project_id, wanted.model) == ("Newest", PROJECT, None)


@pytest.mark.parametrize(
    ("model", "expected"), [("second", "second"), ("chatrelay", None), (f"chatrelay:{PROJECT}", None), (None, None)]
)
def test_a_model_is_one_of_the_settings_or_the_first(model: str | None, expected: str | None) -> None:
    assert completion({"model": model}, {"OpenAI-Project": str(PROJECT)}).model == expected


@given(st.sampled_from(sorted(REFUSED)), json_values)
def test_no_value_of_what_cannot_be_honoured_gets_through(name: str, value: Any) -> None:
    """But null and those that ask for nothing."""
    kinds: tuple[type[NewResponse | NewCompletion], ...] = (NewResponse, NewCompletion)
    for kind in kinds:
        if name not in kind.__struct_fields__:
            continue
        sent = {"input": "x", "messages": [NEWEST], "metadata": {"project": str(PROJECT)}, name: value}
        refused = read(kind, sent)
        if refused is None:
            assert (
                value is None
                or value in REFUSED[name]
                or (name == "text" and not value.get("format"))
                or (name == "text" and value["format"] == {"type": "text"})
            )
        elif isinstance(refused, Refusal):
            assert refused.param == name


def read(kind: type[NewResponse | NewCompletion], body: Any) -> Exception | None:
    """How it is refused."""
    try:
        match requests.parse(body, kind):
            case NewResponse() as response:
                asked.of_response(response, Headers(), MODELS)
            case NewCompletion() as made:
                asked.of_completion(made, Headers(), MODELS)
    except (Refusal, ChatrelayError) as refusal:
        return refusal
    return None


@given(json_values)
def test_whatever_is_sent_is_refused_or_read(value: Any) -> None:
    """Nothing breaks on it."""
    for body in (value, {"input": value, "messages": value, "conversation": value, "metadata": value, "model": value}):
        for kind in (NewResponse, NewCompletion):
            read(kind, body)
