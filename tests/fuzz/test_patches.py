"""JSON Patch against an oracle: what is done, what is refused, and the way back."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import example, given

from shared.errors import PatchRejected
from shared.patching import PatchLimits, apply_patch, oversized
from shared.records import JsonValue
from tests.fuzz.patches import Impossible, depth, patched, patches, same
from tests.fuzzing import cases

ROOMY: Final = PatchLimits(max_segments=10_000, max_depth=10_000, max_document_bytes=10**8)
NARROW: Final = PatchLimits(max_operations=4, max_segments=3, max_depth=4, max_document_bytes=60)


@cases(120)
@given(patches())
def test_the_document_and_the_failing_index_are_the_oracle_s(patch: tuple[JsonValue, list[dict[str, Any]]]) -> None:
    document, operations = patch
    before = json.dumps([document, operations])
    expected: JsonValue = document
    failing: int | None = None
    for index, operation in enumerate(operations):
        try:
            expected = patched(expected, operation)
        except Impossible:
            failing = index
            break
    if failing is None:
        assert same(apply_patch(document, list(operations), ROOMY).document, expected)
    else:
        with pytest.raises(PatchRejected) as rejected:
            apply_patch(document, list(operations), ROOMY)
        assert rejected.value.index == failing
    assert json.dumps([document, operations]) == before, "they are the caller's"


@cases(120)
@given(patches())
@example(([None], [{"op": "move", "from": "/0", "path": "/-"}]))
@example(([1, 2, {"x": 3}, {"x": 4}], [{"op": "move", "from": "/0", "path": "/2/x"}]))
def test_the_inverse_takes_back_what_was_done(patch: tuple[JsonValue, list[dict[str, Any]]]) -> None:
    """apply(apply(document, operations), inverse) == document, also by the oracle's reading of the inverse."""
    document, operations = patch
    try:
        done = apply_patch(document, list(operations), ROOMY)
    except PatchRejected:
        return
    undone = apply_patch(done.document, done.inverse, ROOMY)
    assert same(undone.document, document)
    assert same(apply_patch(undone.document, undone.inverse, ROOMY).document, done.document)
    back = done.document
    for operation in done.inverse:
        back = patched(back, operation)
    assert same(back, document)


@cases(120)
@given(patches())
@example(({"": [[None]]}, [{"op": "copy", "from": "", "path": "/"}]))
@example(({}, [{"op": "add", "path": "", "value": ["x" * 55]}]))
@example(({}, [{"op": "add", "path": "", "value": [[[[1]]]]}]))
def test_within_narrow_limits_nothing_is_done_that_breaks_one(patch: tuple[JsonValue, list[dict[str, Any]]]) -> None:
    """What is done is what is done without limits, and each step of it kept them; what is refused breaks one."""
    document, operations = patch
    steps = [document]
    try:
        for operation in operations:
            steps.append(patched(steps[-1], operation))
    except Impossible:
        steps.append(None)
    breaks = any(oversized(step, NARROW) for step in steps[1:]) or len(operations) > NARROW.max_operations
    pointers = [str(operation.get(name, "")) for operation in operations for name in ("path", "from")]
    breaks = breaks or any(pointer.count("/") > NARROW.max_segments for pointer in pointers)
    breaks = breaks or any(depth(operation.get("value")) > NARROW.max_depth for operation in operations)
    try:
        done = apply_patch(document, list(operations), NARROW)
    except PatchRejected as rejected:
        if not breaks and "copies and moves" not in rejected.detail:
            raise
    else:
        assert not breaks
        assert same(done.document, steps[-1])
