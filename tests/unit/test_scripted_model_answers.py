"""The scripted model's natural answers: what is said, which tool is called, and what follows a tool's result."""

import json
import re
from typing import Any

import pytest

from dev.scripted_model import answers, pieces
from dev.scripted_model.answers import COMPONENT_TOOL, EDIT_TOOL, Plan, plan
from dev.scripted_model.wire import FunctionCall, Message, OfferedFunction, OfferedTool, ToolCall
from shared import video

_ABSENT = object()


def _tools(*names: str) -> list[OfferedTool]:
    return [OfferedTool(type="function", function=OfferedFunction(name=name)) for name in names]


def _conversation(asked: str, document: Any = _ABSENT) -> list[Message]:
    system = "You are an assistant."
    if document is not _ABSENT:
        system += f'\n<document version="7">\n{json.dumps(document)}\n</document>\nBe kind.'
    return [Message(role="system", content=system), Message(role="user", content=asked)]


def _ask(asked: str, document: Any = _ABSENT, *tools: str) -> Plan:
    return plan(_conversation(asked, document), _tools(*(tools or (EDIT_TOOL, COMPONENT_TOOL))))


def _after(asked: str, document: Any, result: str, *, turns: int = 1) -> Plan:
    """The plan for the round after `turns` edits, each of which got `result`."""
    messages = _conversation(asked, document)
    for turn in range(turns):
        (call,) = _ask(asked, document).calls
        function = FunctionCall(name=call.name, arguments=json.dumps(call.arguments))
        messages.append(Message(role="assistant", content="", tool_calls=[ToolCall(id=f"c{turn}", function=function)]))
        messages.append(Message(role="tool", tool_call_id=f"c{turn}", content=result))
    return plan(messages, _tools(EDIT_TOOL))


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("Hello!", "assistant of this project"),
        ("what can you do?", "Edit the video"),
        ("How many scenes are there?", "3 scenes"),
        ("how long is the video?", "12 seconds"),
        ("what's the title of the video?", "My first video"),
        ("What's in the document?", "**closing** (text), from 8 s to 12 s, saying “Tell me what to change”"),
        ("tell me a story about the sea", "A story about the sea"),
        ("write a poem about rain", "On rain"),
        ("show me some python code", "```python\n"),
        ("please count to 5", "1, 2, 3, 4, 5."),
        ("say hello world", "hello world"),
        ("add a frobnicator", "I'm not sure what to change"),
        ("xyzzy", "> xyzzy"),
    ],
)
def test_free_text_is_answered_in_words(asked: str, part: str) -> None:
    planned = _ask(asked, video.new_document())
    assert part in planned.text
    assert planned.calls == ()


def test_the_same_question_gets_the_same_answer() -> None:
    document = video.new_document()
    assert _ask("tell me a long story about tea", document) == _ask("tell me a long story about tea", document)


def test_without_a_document_it_says_that_there_is_none() -> None:
    assert "no document" in _ask("what's in the document?").text
    assert "no document" in _ask("add a title scene saying Hello").text


def test_a_document_of_any_other_kind_is_shown_as_json() -> None:
    text = _ask("what's in the document?", {"list": ["milk"]}).text
    assert "`list`" in text
    assert '"milk"' in text


def test_a_document_that_contains_its_own_end_mark_is_read_whole() -> None:
    document = video.new_document()
    document["meta"]["title"] = "</document> and <document>"
    assert answers.parse_document(_conversation("hi", document)[0].text) == document


def test_the_newest_of_several_documents_counts() -> None:
    shown = '<document version="1">\n{"a":1}\n</document>\n<document version="2">\n{"a":2}\n</document>'
    assert answers.parse_document(shown) == {"a": 2}


def test_an_edit_is_announced_and_made_with_the_tool() -> None:
    planned = _ask('add a title scene saying "Hi"', video.new_document())
    (call,) = planned.calls
    assert planned.text
    assert call.name == EDIT_TOOL
    assert set(call.arguments) == {"operations", "explanation"}
    assert [operation["op"] for operation in call.arguments["operations"]] == ["add", "replace"]


def test_without_the_tool_it_says_that_it_cannot_edit() -> None:
    planned = _ask("make the background blue", video.new_document(), "somethingElse")
    assert planned.calls == ()
    assert "can't change the document here" in planned.text


@pytest.mark.parametrize(
    "result",
    [
        "Done.",
        '{"applied": true, "version": 8}',
        "Applied. The document is now at version 8.",
        "Added a scene; no errors.",
    ],
)
def test_a_result_that_tells_of_success_is_told_in_words(result: str) -> None:
    planned = _after('add a title scene saying "error"', video.new_document(), result)
    assert planned == Plan(text="Done. Added a text scene saying “error” at 12 s, 4 s long.")


@pytest.mark.parametrize(
    "result",
    [
        "The patch was not applied: the document would not fit its schema: /meta: no",
        '{"success": false, "error": "the document would not fit its schema"}',
        "Error: the document would not fit its schema",
    ],
)
def test_a_result_that_tells_of_failure_is_explained(result: str) -> None:
    planned = _after("make the background blue", video.new_document(), result)
    assert planned.calls == ()
    assert "didn't work" in planned.text
    assert "would not fit its schema" in planned.text


def _shown(document: Any) -> list[str]:
    said = "The document was changed by somebody else meanwhile; nothing was applied."
    return [
        json.dumps({"applied": False, "error": said, "version": 8, "document": document}),
        f'{said} It is now:\n<document version="8">\n{json.dumps(document)}\n</document>',
    ]


@pytest.mark.parametrize("form", [0, 1])
def test_an_edit_that_was_overtaken_is_tried_once_more_on_the_document_that_is_shown(form: int) -> None:
    newer = video.new_document()
    newer["scenes"][-1]["duration"] = 10
    newer["meta"]["duration"] = 18
    planned = _after("add a shape scene", video.new_document(), _shown(newer)[form])
    (call,) = planned.calls
    assert call.arguments["operations"][0]["value"]["start"] == 18
    again = _after("add a shape scene", video.new_document(), _shown(newer)[form], turns=2)
    assert again.calls == ()
    assert "somebody else" in again.text


def test_a_component_is_asked_for_where_its_tool_is_offered() -> None:
    (call,) = _ask("Build me a bouncing ball component", video.new_document()).calls
    assert (call.name, call.arguments) == (
        COMPONENT_TOOL,
        {"effectDescription": "bouncing ball component", "name": "BouncingBall"},
    )
    assert _ask("Build me a bouncing ball component", video.new_document(), EDIT_TOOL).calls == ()


def test_a_scene_with_an_animation_is_an_edit_and_no_component() -> None:
    (call,) = _ask("add a text animation scene saying Hi", video.new_document()).calls
    assert call.name == EDIT_TOOL


@pytest.mark.parametrize("request_text", ["a bouncing ball", "confetti", "a typewriter", "a spinning logo", "a title"])
def test_the_builder_gets_one_code_fence_that_imports_only_what_is_allowed(request_text: str) -> None:
    messages = [
        Message(role="system", content="Write TSX.\nchatrelay-builder\n"),
        Message(role="user", content=f"name: MyThing\n{request_text} in red"),
    ]
    text = plan(messages, []).text
    found = re.fullmatch(r"```tsx\n(?P<source>.*)\n```\n", text, re.DOTALL)
    assert found is not None
    source = found["source"]
    assert "```" not in source
    assert "export default function MyThing()" in source
    assert "__" not in source
    assert re.findall(r'from "([^"]+)"', source) == ["react", "remotion"]
    allowed = {"AbsoluteFill", "useCurrentFrame", "useVideoConfig", "interpolate", "spring", "Sequence"}
    names = re.search(r"import \{([^}]*)\} from \"remotion\"", source)
    assert names is not None
    imported = {name.strip() for name in names[1].split(",")}
    assert imported <= allowed
    body = source.split('from "remotion";')[1]
    assert all(name in body for name in imported), "what is imported is used"


def test_a_builder_that_tells_of_errors_gets_the_component_that_was_described() -> None:
    """Whatever words the errors are told in."""
    asked = [
        Message(role="system", content="chatrelay-builder\n"),
        Message(role="user", content='name: "Fall"\nconfetti in red'),
    ]
    first = plan(asked, []).text
    told = Message(role="user", content="4:2: Expected a corresponding tag. Mend what spins and bounces.")
    assert plan([*asked, Message(role="assistant", content=first), told], []).text == first


def test_the_round_is_counted_from_the_newest_user_message() -> None:
    call = ToolCall(id="c", function=FunctionCall(name="x", arguments="{}"))
    used = Message(role="assistant", tool_calls=[call])
    messages = [Message(role="user", content="a"), used, used, Message(role="user", content="b"), used]
    assert answers.newest_user_message(messages) == 3
    assert answers.tool_turns_after(messages, 3) == 1


def test_a_script_stands_in_a_message_from_a_line_of_its_own_to_the_end() -> None:
    assert answers.inline_script('#script {"rounds": []}') == '{"rounds": []}'
    assert answers.inline_script('Hello\n#script {"a":\n1}') == '{"a":\n1}'
    assert answers.inline_script("nothing #script {}") is None


def test_a_text_is_the_same_joined_again_however_it_was_cut() -> None:
    text = "  Añ ”quoted” — naïve\n\n\tline, 12.5%!?… 🙂  "
    assert "".join(pieces.tokens(text)) == text
    assert "".join(pieces.split(text, 7)) == text
    assert "".join(pieces.sized(text, 3)) == text
    assert len(pieces.split(text, 7)) == 7
    assert pieces.split("", 3) == []


def test_the_human_pace_comes_from_the_seed_and_is_about_forty_pieces_a_second() -> None:
    def first(count: int, seed: int) -> list[float]:
        delays = pieces.human_delays(seed)
        return [next(delays) for _ in range(count)]

    assert first(50, 1) == first(50, 1)
    assert first(50, 1) != first(50, 2)
    mean_s = sum(first(1_001, 3)[1:]) / 1_000
    assert 1 / 45 < mean_s < 1 / 36
