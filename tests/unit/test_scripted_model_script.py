"""Scripts are read strictly: what is wrong is said with its place."""

import pytest

from dev.scripted_model.script import Answer, HttpError, ScriptRejected, Text, parse_script, parse_script_text


def test_every_kind_of_step_is_read() -> None:
    steps: list[object] = [
        {"text": "a", "chunks": 2, "pace": 0},
        {"text": "a", "chunk_size": 2, "pace": "human"},
        {"repeat": {"text": "word ", "count": 500, "pace": 0.02}},
        {"tool": {"name": "t", "arguments": {"a": 1}, "id": "x", "split": 3}},
        {"tool": {"name": "t", "arguments": "{not json", "every_byte": True}},
        {"tools": [{"name": "a"}, {"name": "b"}], "interleave": True},
        {"refusal": "no"},
        {"open": True},
        {"wait": 0.5},
        {"hold": "here"},
        {"stall": True},
        {"cut": "rst", "at_byte": 7},
        {"cut": "fin", "inside_character": True},
        {"raw": "data: \xff\n\n"},
        {"raw64": "/w=="},
        {"finish": "length"},
        {"finish": None},
        {"usage": {"prompt_tokens": 1, "completion_tokens": 2}},
        {"usage": None},
        {"done": False},
    ]
    found = parse_script({"rounds": [{"steps": steps}]}).round_for(0, 0)
    assert isinstance(found, Answer)
    assert len(found.steps) == len(steps)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "script: not an object"),
        ("{}", "rounds: not a list with at least one entry"),
        ('{"rounds": [], "more": 1}', "unknown field more"),
        ('{"rounds": [{}]}', "none of status, steps, attempts"),
        ('{"rounds": [{"steps": [], "wait": 1}]}', "rounds[0]: unknown field wait"),
        ('{"rounds": [{"steps": {}}]}', "rounds[0].steps: not a list"),
        ('{"rounds": [{"steps": [1]}]}', "rounds[0].steps[0]: not an object"),
        ('{"rounds": [{"steps": [{}]}]}', "needs exactly one of"),
        ('{"rounds": [{"steps": [{"text": "a", "stall": true}]}]}', "has text and stall"),
        ('{"rounds": [{"steps": [{"text": "a", "chunk": 2}]}]}', "unknown field `chunk`"),
        ('{"rounds": [{"steps": [{"text": "a", "chunks": 2, "chunk_size": 2}]}]}', "exclude each other"),
        ('{"rounds": [{"steps": [{"text": "a", "pace": -1}]}]}', "$.pace"),
        ('{"rounds": [{"steps": [{"text": "a", "pace": "fast"}]}]}', "fast"),
        ('{"rounds": [{"steps": [{"stall": false}]}]}', "rounds[0].steps[0]"),
        ('{"rounds": [{"steps": [{"tool": {"arguments": {}}}]}]}', "missing required field `name`"),
        ('{"rounds": [{"steps": [{"tools": []}]}]}', "$.tools"),
        ('{"rounds": [{"steps": [{"cut": "fin", "at_byte": 1, "inside_character": true}]}]}', "exclude each other"),
        ('{"rounds": [{"steps": [{"raw": "\u0394"}]}]}', "use raw64"),
        ('{"rounds": [{"steps": [{"raw64": "!"}]}]}', "isn't base64"),
        ('{"rounds": [{"status": 200}]}', "$.status"),
        ('{"rounds": [{"attempts": []}]}', "rounds[0].attempts: not a list"),
        ('{"rounds": [{"attempts": [{"steps": []}, {"status": 1}]}]}', "rounds[0].attempts[1]"),
    ],
)
def test_what_is_no_script_is_refused_with_its_place_and_reason(text: str, reason: str) -> None:
    with pytest.raises(ScriptRejected) as refused:
        parse_script_text(text)
    assert reason in str(refused.value)


def test_the_last_of_several_attempts_serves_all_later_ones() -> None:
    script = parse_script({"rounds": [{"attempts": [{"status": 500}, {"steps": [{"text": "a"}]}]}, {"steps": []}]})
    good = Answer(steps=(Text(text="a"),))
    assert script.round_for(0, 0) == HttpError(status=500)
    assert script.round_for(0, 1) == good
    assert script.round_for(0, 9) == good
    assert script.round_for(1, 3) == Answer(steps=())
    assert script.round_for(2, 0) is None
