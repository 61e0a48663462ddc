"""What the model is told: in order, the document between its marks, and never a tool call without its result."""

from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import ToolCall
from shared.lifecycle import Role
from shared.records import BuiltComponent, Context, HistoryMessage, StoredCall, StoredRound, ToolEffect
from tests.strategies import json_objects, json_values, some_text, texts
from worker.prompts import conversation, system_prompt

history = st.lists(st.builds(HistoryMessage, role=st.sampled_from(Role), content=texts), max_size=4).map(tuple)
contexts = st.builds(
    Context, document=json_values, version=st.integers(1, 99), schema=st.none() | json_objects, history=history
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[StoredRound], list[ToolEffect]]:
    """Stored rounds, and the effects of some of their calls: a later attempt may ask before all were made."""
    rounds, effects = [], []
    for number in range(1, draw(st.integers(0, 3)) + 1):
        calls = tuple(
            StoredCall(tool_call_id=f"call_{number}_{index}", name=draw(some_text), arguments=draw(texts))
            for index in range(draw(st.integers(1, 3)))
        )
        rounds.append(StoredRound(round=number, text=draw(texts), calls=calls, document_version=1, usage=None))
        for call in calls:
            if draw(st.booleans()):
                shown = ToolCall(tool_call_id=call.tool_call_id, name=call.name, arguments=None, state="succeeded")
                effects.append(ToolEffect(call=shown, result=f"result of {call.tool_call_id}"))
    return rounds, effects


@given(contexts, runs())
def test_no_tool_call_goes_without_its_result(
    context: Context, run: tuple[list[StoredRound], list[ToolEffect]]
) -> None:
    """Providers refuse a conversation in which one does: each call's result follows its round, in the calls' order."""
    rounds, effects = run
    known = {effect.call.tool_call_id: effect.result for effect in effects}
    told = conversation(context, rounds, effects)[1 + len(context.history) :]
    for stored in rounds:
        said = told.pop(0)
        assert said["role"] == "assistant"
        assert said["content"] == (stored.text or None)
        assert [
            (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in said["tool_calls"]
        ] == [(call.tool_call_id, call.name, call.arguments) for call in stored.calls]
        for call in stored.calls:
            result = told.pop(0)
            assert (result["role"], result["tool_call_id"]) == ("tool", call.tool_call_id)
            assert result["content"] == known.get(call.tool_call_id, '{"error": "This call was not made."}')
    assert told == []


@given(contexts, runs())
def test_the_conversation_is_told_in_order(context: Context, run: tuple[list[StoredRound], list[ToolEffect]]) -> None:
    """The task first, then what was said before, oldest first, then this run's rounds."""
    told = conversation(context, *run)
    assert told[0] == {"role": "system", "content": system_prompt(context)}
    assert [(one["role"], one["content"]) for one in told[1 : 1 + len(context.history)]] == [
        (message.role.value, message.content) for message in context.history
    ]


@given(contexts)
def test_the_document_stands_between_its_marks_whatever_it_holds(context: Context) -> None:
    """No text in a document can end it: each mark is a line of its own, and the document is one line."""
    lines = system_prompt(context).split("\n")
    start = lines.index(f'<document version="{context.version}">')
    assert json.loads(lines[start + 1]) == context.document
    assert lines[start + 2] == "</document>"
    assert lines.count("</document>") == 1
    assert sum(line.startswith("<document version=") for line in lines) == 1


@pytest.mark.parametrize(
    "text", ["</document>", "\n</document>\n", "</schema>", "</components>", "<document version=2>"]
)
def test_no_text_in_the_project_closes_a_mark(text: str) -> None:
    """Not within its line either, where a model might take it for the end; and what is told is still the same JSON."""
    schema = {"title": text, "type": "object"}
    built = BuiltComponent(id=uuid.uuid4(), name="Ball", description=text)
    prompt = system_prompt(Context(document={text: text}, version=1, schema=schema, history=(), components=(built,)))
    assert [prompt.count(f"</{mark}>") for mark in ("document", "schema", "components")] == [1, 1, 1]
    assert json.loads(prompt.split('<document version="1">')[1].split("</document>")[0]) == {text: text}


@given(contexts)
def test_the_schema_is_told_where_there_is_one(context: Context) -> None:
    lines = system_prompt(context).split("\n")
    assert lines.count("<schema>") == (context.schema is not None)
    if context.schema is not None:
        assert json.loads(lines[lines.index("<schema>") + 1]) == context.schema


def test_the_model_is_told_of_the_components_that_it_can_show() -> None:
    """With the ids that a custom scene names; nothing is said of them where there are none."""
    plain = Context(document={}, version=1, schema=None, history=())
    assert "componentId" not in system_prompt(plain)
    ball = BuiltComponent(id=uuid.uuid4(), name="Ball", description="a ball")
    told = system_prompt(msgspec.structs.replace(plain, components=(ball,)))
    assert json.loads(told.split("<components>")[1].split("</components>")[0]) == [
        {"id": str(ball.id), "name": "Ball", "description": "a ball"}
    ]
