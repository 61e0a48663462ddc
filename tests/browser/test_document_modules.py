"""The page's patches, differences and texts keep their promises: pure modules, in the browser that they are written for."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from shared.differences import difference
from shared.patching import PatchLimits, apply_patch

_CASES = Path(__file__).parents[1] / "cases" / "json-patch"
SUITE: list[dict[str, Any]] = [
    case
    for name in ("tests.json", "spec_tests.json")
    for case in json.loads((_CASES / name).read_text(encoding="utf-8"))
    if "patch" in case and not case.get("disabled")
]
"""The public suite of JSON Patch, https://github.com/json-patch/json-patch-tests (Apache-2.0)."""

APPLY = """async ([document, patch]) => {
    const { applyPatch } = await import("/static/app/patch.js");
    const before = JSON.stringify(document);
    let result;
    try { result = { document: applyPatch(document, patch) }; } catch (error) { result = { error: error.name }; }
    return { ...result, isUntouched: JSON.stringify(document) === before };
}"""


@pytest.mark.parametrize("case", SUITE, ids=lambda case: str(case.get("comment", json.dumps(case["patch"])))[:60])
def test_a_patch_does_what_the_public_suite_says(modules: Page, case: dict[str, Any]) -> None:
    result = modules.evaluate(APPLY, [case["doc"], case["patch"]])
    assert result["isUntouched"], "nothing is changed in place"
    if "error" in case:
        assert result.get("error") == "PatchFailed"
    elif "expected" in case:
        assert result.get("document", ...) == case["expected"]
    else:
        assert "error" not in result


def test_what_a_patch_does_not_touch_stays_the_very_same_value(modules: Page) -> None:
    kept = modules.evaluate(
        """async () => {
            const { applyPatch } = await import("/static/app/patch.js");
            const before = { a: { b: [1] }, c: [{ d: 1 }, { e: 2 }] };
            const after = applyPatch(before, [{ op: "replace", path: "/c/1/e", value: 3 }]);
            return [after.a === before.a, after.c[0] === before.c[0], after.c[1] === before.c[1], after.c === before.c];
        }"""
    )
    assert kept == [True, True, False, False]


def test_keys_that_mean_something_to_javascript_are_only_keys(modules: Page) -> None:
    shown = modules.evaluate(
        """async () => {
            const { applyPatch } = await import("/static/app/patch.js");
            const made = applyPatch({}, [
                { op: "add", path: "/__proto__", value: { x: 1 } },
                { op: "add", path: "/__proto__/y", value: 2 },
                { op: "add", path: "/constructor", value: 3 },
            ]);
            return [JSON.stringify(made), Object.getPrototypeOf(made) === Object.prototype, {}.x === undefined];
        }"""
    )
    assert shown == ['{"__proto__":{"x":1,"y":2},"constructor":3}', True, True]


def _value(chance: random.Random, depth: int) -> Any:
    kind = chance.choice(["text", "number", "flag", "none", *(["object", "list"] * 2 if depth else [])])
    if kind == "object":
        return {key: _value(chance, depth - 1) for key in chance.sample("abc/~é", chance.randrange(4))}
    if kind == "list":
        return [_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {"text": chance.choice("xyz"), "number": chance.randrange(3), "flag": chance.random() < 0.5, "none": None}[
        kind
    ]


def test_the_page_and_the_server_apply_and_find_the_same_patches(modules: Page) -> None:
    """The page's difference applies on the server, the server's on the page, and both make the other document."""
    seed = 6902
    print(f"seed {seed}")
    chance = random.Random(seed)
    documents = [({"r": _value(chance, 4)}, {"r": _value(chance, 4)}) for _ in range(150)]
    found = modules.evaluate(
        """async (documents) => {
            const { differences, changesOf } = await import("/static/app/differences.js");
            return documents.map(([before, after]) => {
                const operations = differences(before, after);
                return { operations, changes: changesOf(before, operations).length };
            });
        }""",
        documents,
    )
    limits = PatchLimits()
    for (before, after), mine in zip(documents, found, strict=True):
        assert apply_patch(before, mine["operations"], limits).document == after
        assert mine["changes"] == len(mine["operations"])
        theirs = difference(before, after, limits)
        assert modules.evaluate(APPLY, [before, theirs])["document"] == after


@pytest.mark.parametrize(
    ("pointer", "before", "after", "carried"),
    [
        ("/a", {"a": 1}, {"a": 2, "b": 3}, "/a"),
        ("/a", {"a": 1}, {"b": 1}, None),
        ("/0/x", [{"id": "a", "x": 1}], [{"id": "n"}, {"id": "a", "x": 1}], "/1/x"),
        ("/0/x", [{"id": "a", "x": 1}], [{"id": "n", "x": 1}], None),
        ("/1", ["a", "b"], ["n", "a", "b"], "/2"),
        ("/1", ["a", "b"], ["a"], None),
        ("/a/b", {"a": {"b": 1}}, {"a": [1]}, None),
        ("", {}, {"a": 1}, ""),
    ],
)
def test_a_pointer_is_carried_to_where_its_value_went(
    modules: Page, pointer: str, before: Any, after: Any, carried: str | None
) -> None:
    found = modules.evaluate(
        """async ([pointer, before, after]) => {
            const { carryPointer } = await import("/static/app/edits.js");
            return carryPointer(pointer, before, after);
        }""",
        [pointer, before, after],
    )
    assert found == carried


@pytest.mark.parametrize(
    ("operations", "newest", "rebased", "touches"),
    [
        ([{"op": "replace", "path": "/t", "value": 9}], {"t": 1, "l": ["a", "b"], "n": 0}, "same", False),
        ([{"op": "replace", "path": "/t", "value": 9}], {"t": 2, "l": ["a", "b"]}, "same", True),
        ([{"op": "replace", "path": "/t", "value": 9}], {"l": ["a", "b"]}, None, True),
        ([{"op": "remove", "path": "/l/0"}], {"t": 1, "l": ["n", "a", "b"]}, [{"op": "remove", "path": "/l/1"}], False),
        (
            [{"op": "add", "path": "/l/2", "value": "c"}, {"op": "add", "path": "/l/3", "value": "d"}],
            {"t": 1, "l": ["n", "a", "b"]},
            [{"op": "add", "path": "/l/3", "value": "c"}, {"op": "add", "path": "/l/4", "value": "d"}],
            False,
        ),
        ([{"op": "add", "path": "/l/-", "value": "c"}], {"t": 1, "l": []}, "same", False),
        ([{"op": "add", "path": "/k", "value": 1}], {"t": 1, "l": ["a", "b"], "k": 5}, "same", True),
        ([{"op": "move", "from": "/t", "path": "/u"}], {"t": 2, "l": ["a", "b"]}, "same", True),
    ],
)
def test_operations_are_carried_over_to_a_newer_document(
    modules: Page, operations: list[Any], newest: Any, rebased: Any, touches: bool
) -> None:
    found = modules.evaluate(
        """async ([base, newest, operations]) => {
            const { conflictBetween } = await import("/static/app/edits.js");
            return conflictBetween(base, newest, operations);
        }""",
        [{"t": 1, "l": ["a", "b"]}, newest, operations],
    )
    assert found["rebased"] == (operations if rebased == "same" else rebased)
    assert found["touches"] is touches


def test_a_version_tells_what_went_and_what_came(modules: Page) -> None:
    """From the operations and the inverse, as the server lists them."""
    before = {"a": 1, "l": ["x", "y"], "o": {"k": 1}}
    operations = [
        {"op": "replace", "path": "/a", "value": 2},
        {"op": "remove", "path": "/l/0"},
        {"op": "add", "path": "/l/-", "value": "z"},
        {"op": "add", "path": "/n", "value": None},
        {"op": "move", "from": "/o/k", "path": "/o/m"},
        {"op": "test", "path": "/a", "value": 2},
    ]
    inverse = apply_patch(before, operations, PatchLimits()).inverse
    changes = modules.evaluate(
        """async (version) => {
            const { changesOfVersion } = await import("/static/app/differences.js");
            return changesOfVersion(version);
        }""",
        {"operations": operations, "inverse": inverse},
    )
    assert changes == [
        {"kind": "changed", "pointer": "/a", "before": 1, "after": 2},
        {"kind": "removed", "pointer": "/l/0", "before": "x"},
        {"kind": "added", "pointer": "/l/1", "after": "z"},
        {"kind": "added", "pointer": "/n", "after": None},
        {"kind": "moved", "pointer": "/o/m", "from": "/o/k"},
    ]


PARSE = """async (text) => {
    const { parseJsonText } = await import("/static/app/json_text.js");
    try { return { value: parseJsonText(text) }; } catch (error) { return [error.line, error.column]; }
}"""


@pytest.mark.parametrize("text", ['{"a": [1, -2.5e3, true, null, "x\\n\\u00e9"]}', " 0 ", '""', "[]", "{}", '{"": {}}'])
def test_typed_json_is_read_as_any_reader_does(modules: Page, text: str) -> None:
    assert modules.evaluate(PARSE, text) == {"value": json.loads(text)}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", [1, 1]),
        ("{", [1, 2]),
        ('{"a": 1,}', [1, 9]),
        ('{\n  "a": 1\n  "b": 2\n}', [3, 3]),
        ('{"a": 1, "a": 2}', [1, 10]),
        ("[1 2]", [1, 4]),
        ("{a: 1}", [1, 2]),
        ("[01]", [1, 3]),
        ('"open', [1, 1]),
        ("[9007199254740993]", [1, 2]),
        ("[1e999]", [1, 2]),
        ("[" * 65 + "]" * 65, [1, 65]),
        ("nul", [1, 1]),
        ("1 2", [1, 3]),
        ('"\\ud800"', [1, 1]),
    ],
)
def test_what_is_wrong_with_typed_json_is_told_by_line_and_column(modules: Page, text: str, place: list[int]) -> None:
    assert modules.evaluate(PARSE, text) == place


def test_text_is_found_in_keys_and_values_and_marked(modules: Page) -> None:
    found = modules.evaluate(
        """async () => {
            const { matchesIn, piecesOf } = await import("/static/app/search.js");
            const document = { Title: "x", list: ["Subtitle", { n: 42 }, null], "a/b": { title: true } };
            return [matchesIn(document, "TITLE"), matchesIn(document, "42"), matchesIn(document, " "),
                piecesOf("a Title, title", "title").filter(({ isMatch }) => isMatch).map(({ text }) => text)];
        }"""
    )
    assert found == [["/Title", "/list/0", "/a~1b/title"], ["/list/1/n"], [], ["Title", "title"]]
