"""JSON Patch on a document: RFC 6902's meaning, all or nothing, limits, the way back, and discreet error texts."""

from __future__ import annotations

import copy
import sys
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given

from shared.errors import PatchRejected
from shared.patching import PatchLimits, apply_patch, oversized, replay, same_json
from shared.records import JsonValue
from tests.strategies import json_documents, json_values

LIMITS: Final = PatchLimits()


def _applied(document: JsonValue, *operations: dict[str, Any]) -> JsonValue:
    return apply_patch(document, list(operations), LIMITS).document


# --- the operations ---------------------------------------------------------------------------------------------
# Each row is one rule of RFC 6902, sections 4 and A.

_APPLIES: Final[dict[str, tuple[JsonValue, list[JsonValue], JsonValue]]] = {
    "add makes a member": ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
    "add replaces a member that is there": ({"a": 1}, [{"op": "add", "path": "/a", "value": 2}], {"a": 2}),
    "add puts an element before the one at its index": (
        {"a": ["x", "z"]},
        [{"op": "add", "path": "/a/1", "value": "y"}],
        {"a": ["x", "y", "z"]},
    ),
    "add at the length appends": ({"a": ["x"]}, [{"op": "add", "path": "/a/1", "value": "y"}], {"a": ["x", "y"]}),
    "add at - appends": ({"a": ["x"]}, [{"op": "add", "path": "/a/-", "value": "y"}], {"a": ["x", "y"]}),
    "add appends a list as one element": (
        {"a": ["x"]},
        [{"op": "add", "path": "/a/-", "value": ["y", "z"]}],
        {"a": ["x", ["y", "z"]]},
    ),
    "add makes an object in an object": (
        {"a": 1},
        [{"op": "add", "path": "/b", "value": {"c": {}}}],
        {"a": 1, "b": {"c": {}}},
    ),
    "add of the root replaces everything": ({"a": 1}, [{"op": "add", "path": "", "value": [1]}], [1]),
    "add of null makes a member that is null": ({}, [{"op": "add", "path": "/a", "value": None}], {"a": None}),
    "the empty name is a name": ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
    "remove takes a member away": ({"a": 1, "b": 2}, [{"op": "remove", "path": "/b"}], {"a": 1}),
    "remove closes the gap in an array": (
        {"a": ["x", "y", "z"]},
        [{"op": "remove", "path": "/a/1"}],
        {"a": ["x", "z"]},
    ),
    "replace keeps the place": (
        {"a": ["x", "y"]},
        [{"op": "replace", "path": "/a/0", "value": {"b": 1}}],
        {"a": [{"b": 1}, "y"]},
    ),
    "move takes a value elsewhere": (
        {"a": {"x": 1, "y": 2}, "b": {}},
        [{"op": "move", "from": "/a/x", "path": "/b/z"}],
        {"a": {"y": 2}, "b": {"z": 1}},
    ),
    "move in an array counts without the moved one": (
        {"a": ["w", "x", "y", "z"]},
        [{"op": "move", "from": "/a/1", "path": "/a/3"}],
        {"a": ["w", "y", "z", "x"]},
    ),
    "move to above its source leaves nothing of what was around it": (
        {"a": {"x": {"y": [1]}, "z": 2}},
        [{"op": "move", "from": "/a/x", "path": "/a"}],
        {"a": {"y": [1]}},
    ),
    "move to the root": ([[1], 2], [{"op": "move", "from": "/0", "path": ""}], [1]),
    "move to the end of its array": ([1, 2], [{"op": "move", "from": "/0", "path": "/-"}], [2, 1]),
    "move of the only element to the end": ([1], [{"op": "move", "from": "/0", "path": "/-"}], [1]),
    "move to what is behind it in its array counts without the moved one": (
        [1, 2, {"x": 3}, {"x": 4}],
        [{"op": "move", "from": "/0", "path": "/2/x"}],
        [2, {"x": 3}, {"x": 1}],
    ),
    "move to what is before it in its array": (
        [{"x": 3}, 1, {"x": 4}],
        [{"op": "move", "from": "/1", "path": "/0/x"}],
        [{"x": 1}, {"x": 4}],
    ),
    "move out of an element puts it before that": (
        [{"x": 1, "z": 2}],
        [{"op": "move", "from": "/0/x", "path": "/0"}],
        [1, {"z": 2}],
    ),
    "move to where it is changes nothing": ({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
    "copy leaves the source": (
        {"a": {"x": [1]}},
        [{"op": "copy", "from": "/a", "path": "/b"}],
        {"a": {"x": [1]}, "b": {"x": [1]}},
    ),
    "test passes on equal values": (
        {"a": ["x", {"y": 2}]},
        [{"op": "test", "path": "/a/0", "value": "x"}, {"op": "test", "path": "/a/1", "value": {"y": 2}}],
        {"a": ["x", {"y": 2}]},
    ),
    "test knows that 1 is 1.0": ({"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}], {"a": 1}),
    "test knows no order of members": (
        {"a": {"x": 1, "y": 2}},
        [{"op": "test", "path": "/a", "value": {"y": 2, "x": 1}}],
        {"a": {"x": 1, "y": 2}},
    ),
    "~1 is a slash and ~0 a tilde, in this order": (
        {"~1": 10, "/": 9},
        [{"op": "test", "path": "/~01", "value": 10}, {"op": "replace", "path": "/~1", "value": 8}],
        {"~1": 10, "/": 8},
    ),
    "a number names a member of an object": ({"0": "a"}, [{"op": "replace", "path": "/0", "value": "b"}], {"0": "b"}),
    "fields that nobody knows are passed over": (
        {"a": 1},
        [{"op": "add", "path": "/b", "value": 2, "explanation": "why"}],
        {"a": 1, "b": 2},
    ),
    "operations come one after the other": (
        {},
        [
            {"op": "add", "path": "/a", "value": []},
            {"op": "add", "path": "/a/-", "value": 1},
            {"op": "test", "path": "/a/0", "value": 1},
        ],
        {"a": [1]},
    ),
    "no operation changes nothing": ({"a": 1}, [], {"a": 1}),
}


@pytest.mark.parametrize(("document", "operations", "expected"), _APPLIES.values(), ids=_APPLIES.keys())
def test_rfc_6902(document: JsonValue, operations: list[JsonValue], expected: JsonValue) -> None:
    before = copy.deepcopy(document)
    patched = apply_patch(document, operations, LIMITS)
    assert same_json(patched.document, expected)
    assert same_json(document, before), "the caller's document is its own"
    assert same_json(apply_patch(patched.document, patched.inverse, LIMITS).document, before)


_REJECTED: Final[dict[str, tuple[JsonValue, Any]]] = {
    "a parent that is not there": ({"a": 1}, {"op": "add", "path": "/b/c", "value": 1}),
    "a parent that is no container": ({"a": 1}, {"op": "add", "path": "/a/b", "value": 1}),
    "a parent that is a text": ({"a": "text"}, {"op": "add", "path": "/a/0", "value": 1}),
    "an index past the end": ({"a": [1]}, {"op": "add", "path": "/a/2", "value": 1}),
    "an index below zero": ({"a": [1]}, {"op": "add", "path": "/a/-1", "value": 1}),
    "an index with leading zeros": ({"a": [1, 2]}, {"op": "replace", "path": "/a/01", "value": 1}),
    "an index that is no number": ({"a": [1]}, {"op": "add", "path": "/a/x", "value": 1}),
    "remove of what is not there": ({"a": 1}, {"op": "remove", "path": "/b"}),
    "remove past the end": ({"a": [1]}, {"op": "remove", "path": "/a/1"}),
    "remove of the element after the last": ({"a": [1]}, {"op": "remove", "path": "/a/-"}),
    "replace of what is not there": ({"a": 1}, {"op": "replace", "path": "/b", "value": 1}),
    "replace of the element after the last": ({"a": [1]}, {"op": "replace", "path": "/a/-", "value": 1}),
    "move of what is not there": ({"a": 1}, {"op": "move", "from": "/b", "path": "/a"}),
    "move into itself": ({"a": {"b": {}}}, {"op": "move", "from": "/a", "path": "/a/b"}),
    "copy of what is not there": ({"a": 1}, {"op": "copy", "from": "/b", "path": "/c"}),
    "test of what is not there": ({"a": 1}, {"op": "test", "path": "/b", "value": None}),
    "test of another value": ({"a": 1}, {"op": "test", "path": "/a", "value": 2}),
    "test of 1 for true": ({"a": True}, {"op": "test", "path": "/a", "value": 1}),
    "test of false for 0": ({"a": 0}, {"op": "test", "path": "/a", "value": False}),
    "test of true deep inside for 1": ({"a": [{"b": 1}]}, {"op": "test", "path": "/a", "value": [{"b": True}]}),
    "test of a text for a number": ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": "10"}),
    "test of a list for an object": ({"a": {}}, {"op": "test", "path": "/a", "value": []}),
    "a root that is a text": ({"a": 1}, {"op": "replace", "path": "", "value": "text"}),
    "a root that is null": ({"a": 1}, {"op": "add", "path": "", "value": None}),
    "a root that is a number": ({"a": 1}, {"op": "copy", "from": "/a", "path": ""}),
    "no root": ({"a": 1}, {"op": "remove", "path": ""}),
    "an operation that nobody knows": ({"a": 1}, {"op": "spam", "path": "/a", "value": 1}),
    "an op that is no text": ({"a": 1}, {"op": ["add"], "path": "/a", "value": 1}),
    "no op": ({"a": 1}, {"path": "/a", "value": 1}),
    "no path": ({"a": 1}, {"op": "remove"}),
    "no value": ({"a": 1}, {"op": "add", "path": "/b"}),
    "no from": ({"a": 1}, {"op": "move", "path": "/b"}),
    "a path that is no text": ({"a": 1}, {"op": "remove", "path": 1}),
    "a path that is null": ({"a": 1}, {"op": "remove", "path": None}),
    "a path without its first slash": ({"a": 1}, {"op": "remove", "path": "a"}),
    "a path with a tilde by itself": ({"a~": 1}, {"op": "remove", "path": "/a~"}),
    "a path with a tilde before another digit": ({"a~2": 1}, {"op": "remove", "path": "/a~2"}),
    "a from that is no pointer": ({"a": 1}, {"op": "copy", "from": "a", "path": "/b"}),
    "an operation that is a text": ({"a": 1}, "remove /a"),
    "an operation that is null": ({"a": 1}, None),
    "an operation that is a list": ({"a": 1}, ["remove", "/a"]),
}


@pytest.mark.parametrize(("document", "operation"), _REJECTED.values(), ids=_REJECTED.keys())
def test_a_patch_is_rejected_for(document: JsonValue, operation: Any) -> None:
    """All or nothing: what came before it is not done either, and the failing one is told by its index."""
    before = copy.deepcopy(document)
    first = {"op": "test", "path": "", "value": document}
    with pytest.raises(PatchRejected) as rejected:
        apply_patch(document, [first, operation], LIMITS)
    assert rejected.value.index == 1
    assert same_json(document, before)


def test_nothing_is_changed_by_a_patch_that_fails_in_the_end() -> None:
    document = {"a": [1, {"b": 2}]}
    with pytest.raises(PatchRejected) as rejected:
        _applied(
            document,
            {"op": "add", "path": "/a/1/c", "value": 3},
            {"op": "remove", "path": "/a/0"},
            {"op": "move", "from": "/a/0", "path": "/d"},
            {"op": "remove", "path": "/nowhere"},
        )
    assert rejected.value.index == 3
    assert document == {"a": [1, {"b": 2}]}


def test_a_copied_value_is_no_longer_the_source() -> None:
    patched = _applied(
        {"a": {"x": 1}},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "replace", "path": "/b/x", "value": 2},
    )
    assert patched == {"a": {"x": 1}, "b": {"x": 2}}


def test_an_added_value_is_not_the_caller_s_any_more() -> None:
    """The operations are stored as the version's: later operations of the patch must not change them."""
    operations: list[JsonValue] = [
        {"op": "add", "path": "/a", "value": {"x": 1}},
        {"op": "replace", "path": "/a/x", "value": 2},
    ]
    patched = apply_patch({}, operations, LIMITS)
    assert patched.document == {"a": {"x": 2}}
    assert operations[0]["value"] == {"x": 1}


# --- limits -----------------------------------------------------------------------------------------------------


def test_a_patch_has_at_most_so_many_operations() -> None:
    limits = PatchLimits(max_operations=3)
    operation = {"op": "add", "path": "/a", "value": 1}
    apply_patch({}, [operation] * 3, limits)
    with pytest.raises(PatchRejected) as rejected:
        apply_patch({}, [operation] * 4, limits)
    assert rejected.value.index is None


def test_copies_of_copies_are_stopped_at_the_operation_that_grows_too_large() -> None:
    """Each operation doubles the document: the size is looked at after every one."""
    bomb: list[JsonValue] = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(40)]
    with pytest.raises(PatchRejected, match="larger than") as rejected:
        apply_patch({"seed": "x" * 1000}, bomb, PatchLimits(max_depth=64))
    assert rejected.value.index is not None
    assert rejected.value.index < 10


_WIDE: Final[JsonValue] = {"a": [[] for _ in range(3_000)], "b": {}}
_NARROW: Final = PatchLimits(max_document_bytes=20_000)


def _steps_of(document: JsonValue, operations: list[JsonValue]) -> int:
    """Calls made while a patch is applied or refused: what it costs, whatever the machine."""
    calls = 0

    def note(_frame: object, event: str, _what: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        apply_patch(document, operations, _NARROW)
    except PatchRejected:
        pass
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "add", "path": "/b/x", "value": 1}],
        [{"op": "replace", "path": "/b", "value": {}}],
        [{"op": "test", "path": "/a/0", "value": []}],
        [{"op": "move", "from": "/a", "path": "/c"}, {"op": "move", "from": "/c", "path": "/a"}],
        [{"op": "move", "from": "/a", "path": "/b/c"}, {"op": "move", "from": "/b/c", "path": "/a"}],
        [{"op": "copy", "from": "/a", "path": "/b/c"}],
        [
            {"op": "move", "from": "/a", "path": "/b/c"},
            {"op": "move", "from": "/b/c", "path": "/b"},
            {"op": "move", "from": "/b", "path": "/a"},
            {"op": "add", "path": "/b", "value": {}},
        ],
    ],
    ids=["add", "replace", "test", "move", "move to deeper", "copy", "move to above"],
)
def test_a_patch_costs_what_it_says_and_not_a_document_an_operation(operations: list[JsonValue]) -> None:
    """A small patch of a large document once took a minute: each operation walked and copied all of it."""
    many = operations * (800 // len(operations))
    once = _steps_of(_WIDE, operations)
    small = _steps_of({"a": [[]], "b": {}}, many)
    assert _steps_of(_WIDE, many) < small + 30 * once


def test_a_patch_carries_so_much_and_no_more() -> None:
    """What is copied over and over takes time though the document does not grow."""
    document = {"a": "x" * 100_000}
    copies: list[JsonValue] = [{"op": "copy", "from": "/a", "path": "/b"}] * 30
    with pytest.raises(PatchRejected, match="copies and moves too much") as rejected:
        apply_patch(document, copies, LIMITS)
    assert rejected.value.index == 8 * LIMITS.max_document_bytes // 100_002
    moves: list[JsonValue] = [
        {"op": "move", "from": "/a", "path": "/b"},
        {"op": "move", "from": "/b", "path": "/a"},
    ] * 500
    assert apply_patch(document, moves, LIMITS).document == document


def test_a_document_is_at_most_so_many_bytes_of_json() -> None:
    document = {"a": "é" * 10}
    size = len(msgspec.json.encode(document))
    operations: list[JsonValue] = [{"op": "add", "path": "/a", "value": "é" * 10}]
    assert apply_patch({}, operations, PatchLimits(max_document_bytes=size)).document == document
    with pytest.raises(PatchRejected) as rejected:
        apply_patch({}, operations, PatchLimits(max_document_bytes=size - 1))
    assert rejected.value.index == 0


def test_a_document_that_is_too_large_only_in_between_is_refused() -> None:
    operations: list[JsonValue] = [
        {"op": "add", "path": "/a", "value": "x" * 200},
        {"op": "remove", "path": "/a"},
    ]
    with pytest.raises(PatchRejected) as rejected:
        apply_patch({}, operations, PatchLimits(max_document_bytes=100))
    assert rejected.value.index == 0


def _nested(depth: int) -> JsonValue:
    value: JsonValue = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("depth", [100, 500, 50_000])
def test_a_value_nested_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(PatchRejected) as rejected:
        _applied({}, {"op": "add", "path": "/x", "value": _nested(depth)})
    assert rejected.value.index == 0


def test_copying_a_document_into_itself_can_t_nest_it_too_deep() -> None:
    limits = PatchLimits(max_depth=8)
    with pytest.raises(PatchRejected, match="nested deeper"):
        apply_patch(_nested(5), [{"op": "copy", "from": "", "path": "/a/a/a/b"}] * 3, limits)


def test_a_copy_of_what_is_around_its_place_is_as_deep_as_it_was() -> None:
    document: JsonValue = {"a": {"a": {"a": 1}}}
    limits = PatchLimits(max_depth=4)
    assert apply_patch(document, [{"op": "copy", "from": "", "path": "/a"}], limits).document == {"a": document}


def test_nesting_is_counted_in_steps_from_the_root() -> None:
    limits = PatchLimits(max_depth=3)
    values: list[JsonValue] = [1, [], {}]
    for value in values:
        assert oversized({"a": {"b": {"c": value}}}, limits) is None
        assert oversized([[[value]]], limits) is None
        assert oversized({"a": {"b": {"c": [value]}}}, limits) is not None
        assert oversized([[[[value]]]], limits) is not None


@pytest.mark.parametrize("field", ["path", "from"])
def test_a_pointer_has_at_most_so_many_segments(field: str) -> None:
    limits = PatchLimits(max_segments=2)
    operation = {"op": "copy", "from": "/a", "path": "/b", field: "/a/b/c"}
    with pytest.raises(PatchRejected, match="segments") as rejected:
        apply_patch({"a": {"b": {"c": 1}}}, [operation], limits)
    assert rejected.value.index == 0


@pytest.mark.parametrize("document", [None, True, 1, 1.5, "text"])
def test_a_document_is_a_container(document: JsonValue) -> None:
    assert oversized(document, LIMITS) is not None


# --- error texts ------------------------------------------------------------------------------------------------

_CANARY: Final = "canary-7f3a"


@pytest.mark.parametrize(("document", "operation"), _REJECTED.values(), ids=_REJECTED.keys())
def test_no_error_text_quotes_the_document(document: JsonValue, operation: Any) -> None:
    """Neither its values nor its names: it may be another user's."""
    hidden = {**document, _CANARY: {_CANARY: [_CANARY]}}
    with pytest.raises(PatchRejected) as rejected:
        apply_patch(hidden, [operation], LIMITS)
    shown = [str(rejected.value), repr(rejected.value), str(rejected.value.__cause__ or "")]
    assert not any(_CANARY in text for text in shown)
    assert rejected.value.__suppress_context__ or rejected.value.__context__ is None


def test_an_error_text_quotes_little_of_a_long_pointer() -> None:
    with pytest.raises(PatchRejected) as rejected:
        _applied({}, {"op": "remove", "path": "/" + "x" * 100_000})
    assert len(str(rejected.value)) < 400


# --- equality, and what is stored ---------------------------------------------------------------------------------


@given(json_values, json_values)
def test_same_json_is_equality_of_the_json_text_s_meaning(left: JsonValue, right: JsonValue) -> None:
    assert same_json(left, left)
    assert same_json(left, right) == same_json(right, left)
    assert same_json(left, msgspec.json.decode(msgspec.json.encode(left)))


def test_an_inverse_is_never_much_larger_than_a_document() -> None:
    """A patch that takes a large value away with each operation is taken back by one replacement of the whole."""
    document = {"a": "x" * 100_000, "b": 1}
    operations: list[JsonValue] = [{"op": "copy", "from": "/a", "path": "/b"}] * 20
    patched = apply_patch(document, operations, LIMITS)
    assert patched.inverse == [{"op": "replace", "path": "", "value": document}]
    assert apply_patch(patched.document, patched.inverse, LIMITS).document == document


@given(json_documents, json_values)
def test_a_stored_inverse_is_replayed(document: JsonValue, value: JsonValue) -> None:
    patched = apply_patch(document, [{"op": "replace", "path": "", "value": {"new": value}}], LIMITS)
    assert same_json(replay(patched.document, patched.inverse), document)
