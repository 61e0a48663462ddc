"""The registry: what is wrong with a call is told to the model, and a third party adds a tool by installing it."""

from __future__ import annotations

import json
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import MAX_ARGUMENTS_DEPTH
from shared.patching import PatchLimits
from shared.records import StoredCall
from shared.store import EditDocument, Effect, Told
from tests.strategies import json_values, texts
from worker.tools import Registry, Situation, ToolRefused
from worker.tools.apply_json_patch import ApplyJsonPatch

SITUATION = Situation(tool_call_id="call_1", project_id=uuid.uuid4(), document_version=7, limits=PatchLimits())


class Greet:
    name = "greet"
    description = "Says hello."
    parameters: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"who": {"type": "string"}},
        "additionalProperties": False,
    }

    def prepare(self, arguments: dict[str, Any], situation: Situation) -> Effect:
        if arguments.get("who") == "nobody":
            raise ToolRefused("There is nobody to greet.")
        if arguments.get("who") == "an odd one":
            raise ToolRefused("Not \x00\ud83d.")
        if arguments.get("who") == "a fault":
            raise KeyError("secret")
        if arguments.get("who") == "a page":
            return Told(succeeded=True, result="found: \x00\ud83d", words="Found \udc00.\x00")
        return Told(succeeded=True, result=json.dumps({"greeted": arguments.get("who"), "by": situation.tool_call_id}))


REGISTRY = Registry([Greet(), ApplyJsonPatch()])


def called(name: str, arguments: str) -> Effect:
    return REGISTRY.prepare(StoredCall(tool_call_id="call_1", name=name, arguments=arguments), SITUATION)


def refused(effect: Effect) -> str:
    """The refusal's words, which the model is told and readers are shown."""
    assert isinstance(effect, Told)
    assert not effect.succeeded
    assert effect.error is not None
    assert json.loads(effect.result) == {"error": effect.error}
    return effect.error


def test_what_a_tool_brings_from_elsewhere_can_be_stored_and_sent() -> None:
    """Neither Postgres nor UTF-8 has a place for NUL and lone surrogates; the tool is not called again for that."""
    assert called("greet", '{"who":"a page"}') == Told(
        succeeded=True, result="found: \ufffd\ufffd", words="Found \ufffd.\ufffd"
    )


def test_a_tools_refusal_can_be_stored_and_sent_too() -> None:
    assert refused(called("greet", '{"who":"an odd one"}')) == "Not \ufffd\ufffd."


def test_a_call_that_fits_becomes_its_tools_effect() -> None:
    effect = called("greet", '{"who":"Anna"}')
    assert effect == Told(succeeded=True, result='{"greeted": "Anna", "by": "call_1"}')


def test_a_tool_that_needs_no_arguments_may_be_called_without() -> None:
    assert called("greet", "") == Told(succeeded=True, result='{"greeted": null, "by": "call_1"}')


def test_an_unknown_tool_is_told_to_the_model() -> None:
    assert "'fly'" in refused(called("fly", "{}"))


@pytest.mark.parametrize(
    "arguments",
    [
        "{",
        '{"who":',
        "who=Anna",
        '{"who":"Anna"}}',
        '{"who":NaN}',
        '{"who":"Boris","who":"Anna"}',
        '{"who":1e999}',
        '{"who":99999999999999999999}',
        '{"who":"\\ud83d"}',
        '{"who":"a\\u0000b"}',
        '{"w\\u0000":1}',
        '{"who":["\\u0000"]}',
        "[" * 100_000,
    ],
    ids=lambda arguments: arguments[:20],
)
def test_arguments_that_are_not_the_json_that_is_accepted_are_told_to_the_model(arguments: str) -> None:
    """As strict as with a request's body: nothing that readers disagree on, nothing that Postgres could hold nowhere."""
    assert refused(called("greet", arguments)).startswith("The arguments are not the JSON that is accepted. ")


def test_arguments_that_break_the_schema_are_told_to_the_model_with_the_place() -> None:
    assert "who" in refused(called("greet", '{"who":5}'))
    assert "whom" in refused(called("greet", '{"whom":"Anna"}'))
    assert "fit" in refused(called("greet", "[]"))


def test_arguments_that_are_nested_too_deep_are_told_to_the_model() -> None:
    """No check of a schema survives them."""
    deep = '{"who":' + "[" * MAX_ARGUMENTS_DEPTH + "]" * MAX_ARGUMENTS_DEPTH + "}"
    assert "nested" in refused(called("greet", deep))


@pytest.mark.parametrize("arguments", ['{"who":"a\\u0000b"}', '{"w\\u0000":1}', '{"who":["\\u0000"]}'])
def test_arguments_with_nul_are_told_to_the_model(arguments: str) -> None:
    """Postgres could hold them nowhere."""
    assert "U+0000" in refused(called("greet", arguments))


@pytest.mark.parametrize(
    "arguments", ['{"who":"Anna","who":"Ben"}', '{"who":"Anna","wh\\u006f":"Ben"}', '{"a":[{"b":1,"b":1}]}']
)
def test_arguments_that_programs_read_differently_are_told_to_the_model(arguments: str) -> None:
    """A page that takes the first of two keys would show another call than the one that is made."""
    assert "same key twice" in refused(called("greet", arguments))


@pytest.mark.parametrize(
    ("number", "is_refused"), [(2**63 - 1, False), (-(2**63) + 1, False), (2**63, True), (10**400, True)]
)
def test_an_integer_that_not_every_program_holds_is_told_to_the_model(number: int, is_refused: bool) -> None:
    """As over HTTP: a page would read infinity where the document has a number."""
    effect = patched(operations=[{"op": "add", "path": "/a", "value": number}])
    assert isinstance(effect, Told) == is_refused
    assert not is_refused or "64 bits" in refused(effect)


def test_what_a_tool_refuses_is_told_to_the_model_in_its_own_words() -> None:
    assert refused(called("greet", '{"who":"nobody"}')) == "There is nobody to greet."


def test_a_fault_of_a_tool_is_that_calls_result_and_tells_nothing_of_it() -> None:
    """A third party's code does not end the message."""
    assert refused(called("greet", '{"who":"a fault"}')) == "The tool failed."


@given(texts | json_values.map(json.dumps), st.sampled_from(["greet", "applyJsonPatch", "other"]))
def test_whatever_a_model_writes_a_call_has_an_effect(arguments: str, name: str) -> None:
    """Nothing that a model can say breaks its message."""
    assert isinstance(called(name, arguments), Told | EditDocument)


def test_tools_are_specified_in_the_providers_form() -> None:
    assert REGISTRY.specifications()[0] == {
        "type": "function",
        "function": {"name": "greet", "description": "Says hello.", "parameters": Greet.parameters},
    }


# --- applyJsonPatch ---------------------------------------------------------------------------------------------


def patched(**arguments: Any) -> Effect:
    return called("applyJsonPatch", json.dumps(arguments))


def test_a_patch_edits_the_document_that_the_model_saw() -> None:
    operations = [{"op": "replace", "path": "/title", "value": "Summer"}]
    assert patched(operations=operations, explanation=" A new title. ") == EditDocument(
        operations=operations, words="A new title.", expected_version=7, limits=PatchLimits()
    )


def test_a_patch_without_an_explanation_is_put_into_words() -> None:
    effect = patched(operations=[{"op": "remove", "path": path} for path in ("/a", "", "/c", "/d", "/e")])
    assert isinstance(effect, EditDocument)
    assert effect.words == "Changed the document: remove /a, remove /, remove /c and 2 more."


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"operations": []},
        {"operations": [{"op": "rename", "path": "/a"}]},
        {"operations": [{"op": "add", "value": 1}]},
        {"operations": {"op": "remove", "path": "/a"}},
        {"operations": [{"op": "remove", "path": "/a"}], "explanation": 5},
        {"operations": [{"op": "remove", "path": "/a"}], "reason": "none"},
    ],
)
def test_a_patch_of_another_shape_is_told_to_the_model(arguments: dict[str, Any]) -> None:
    assert "schema" in refused(patched(**arguments))


# --- third parties ----------------------------------------------------------------------------------------------


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, entry_point: str, source: str) -> None:
    """A distribution with one module and one entry point, as an installer leaves it."""
    module = f"third_party_{uuid.uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
    declared = tmp_path / f"{module}-1.0.dist-info"
    declared.mkdir()
    (declared / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (declared / "entry_points.txt").write_text(f"[chatrelay.tools]\n{entry_point} = {module}:Roll\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


ROLL = """
    from shared.store import Told

    class Roll:
        name = "roll"
        description = "Rolls a die."
        parameters = {"type": "object", "properties": {}, "additionalProperties": False}

        def prepare(self, arguments, situation):
            return Told(succeeded=True, result='{"rolled": 4}', words="Rolled a four.")
"""


def test_a_third_partys_tool_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing the distribution is all: it is offered to the model beside the built-in ones, and called."""
    installed(tmp_path, monkeypatch, entry_point="roll", source=ROLL)
    registry = Registry.installed()
    names = [specification["function"]["name"] for specification in registry.specifications()]
    assert {"roll", "applyJsonPatch"} <= set(names)
    call = StoredCall(tool_call_id="call_1", name="roll", arguments="{}")
    assert registry.prepare(call, SITUATION) == Told(succeeded=True, result='{"rolled": 4}', words="Rolled a four.")


def test_an_entry_point_of_another_name_than_its_tool_is_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, entry_point="dice", source=ROLL)
    with pytest.raises(TypeError, match="dice"):
        Registry.installed()


def test_an_entry_point_that_is_no_tool_is_refused_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch, entry_point="roll", source="class Roll:\n    name = 'roll'\n")
    with pytest.raises(TypeError, match="roll"):
        Registry.installed()
