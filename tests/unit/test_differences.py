"""The operations between two documents: they lead from one to the other, are few for what is a small change, and bounded."""

from __future__ import annotations

import copy
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.differences import difference
from shared.patching import PatchLimits, apply_patch, same_json
from shared.records import JsonValue
from tests.strategies import json_documents, json_values

LIMITS: Final = PatchLimits()
FEW: Final = PatchLimits(max_operations=3, max_segments=2, max_document_bytes=2_000)


@given(json_documents, json_documents)
def test_the_difference_makes_the_one_document_of_the_other(old: JsonValue, new: JsonValue) -> None:
    """Within the limits of a patch, so that it can be sent as one; neither document is touched."""
    kept = copy.deepcopy((old, new))
    for limits in (LIMITS, FEW):
        operations = difference(old, new, limits)
        assert same_json(apply_patch(old, operations, limits).document, new)
    assert (old, new) == kept


@given(st.lists(json_values, max_size=8), st.data())
def test_what_two_lists_have_in_common_at_their_ends_is_kept(items: list[Any], data: st.DataObject) -> None:
    """One element in or out is one operation."""
    where = data.draw(st.integers(0, len(items)))
    longer = [*items[:where], "new", *items[where:]]
    for old, new, kind in ((items, longer, "add"), (longer, items, "remove")):
        (operation,) = difference({"list": old}, {"list": new}, LIMITS)
        assert operation["op"] == kind


@given(json_documents)
def test_a_document_does_not_differ_from_itself(document: JsonValue) -> None:
    assert difference(document, copy.deepcopy(document), LIMITS) == []


CASES: Final[dict[str, tuple[JsonValue, JsonValue, list[JsonValue]]]] = {
    "true is not 1": ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
    "1.0 is 1": ({"a": 1}, {"a": 1.0}, []),
    "a member that is null is a member": ({}, {"a": None}, [{"op": "add", "path": "/a", "value": None}]),
    "names are escaped": ({"a/~": 1}, {}, [{"op": "remove", "path": "/a~1~0"}]),
    "a change deep inside is one operation there": (
        {"scenes": [{"data": {"text": "a"}}, {"data": {"text": "b"}}]},
        {"scenes": [{"data": {"text": "a"}}, {"data": {"text": "c"}}]},
        [{"op": "replace", "path": "/scenes/1/data/text", "value": "c"}],
    ),
    "elements go from the end": (
        [1, 2, 3, 4],
        [1],
        [{"op": "remove", "path": "/3"}, {"op": "remove", "path": "/2"}, {"op": "remove", "path": "/1"}],
    ),
    "another kind of container is put in its place": (
        {"a": {}},
        {"a": []},
        [{"op": "replace", "path": "/a", "value": []}],
    ),
    "the whole": ({}, [], [{"op": "replace", "path": "", "value": []}]),
}


@pytest.mark.parametrize(("old", "new", "operations"), CASES.values(), ids=CASES)
def test_differences_are_written_so(old: JsonValue, new: JsonValue, operations: list[JsonValue]) -> None:
    assert difference(old, new, LIMITS) == operations


def test_where_all_is_different_the_whole_is_replaced() -> None:
    """More operations than a patch may have, or more bytes than a document, are one replacement."""
    many = [{str(index): 0 for index in range(2_000)}, {str(index): 1 for index in range(2_000)}]
    name = "x" * 1_000
    wide = [{name: {str(index): value for index in range(400)}} for value in (0, 1)]
    for old, new in (many, wide):
        assert difference(old, new, LIMITS) == [{"op": "replace", "path": "", "value": new}]
        assert len(msgspec.json.encode(new)) < LIMITS.max_document_bytes


def test_documents_without_anything_in_common_are_compared_in_linear_time() -> None:
    """Lists that fill their documents: a search for the shortest patch would take minutes."""
    old, new = list(range(40_000)), list(range(1, 40_001))
    assert difference([*old, "end"], ["start", *old, "end"], LIMITS) == [{"op": "add", "path": "/0", "value": "start"}]
    assert difference(old, new, LIMITS) == [{"op": "replace", "path": "", "value": new}]
