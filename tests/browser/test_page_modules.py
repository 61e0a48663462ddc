"""The page's pure modules keep their promises. They run in the browser that they are written for."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from shared.lifecycle import ErrorCode

FOLD_CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "fold.json").read_text(encoding="utf-8")
)

NEW_IN_FRONT = {"/0": "added", "/2/x": "changed"}

FOLD = """async ([...logs]) => {
    const { fold, start } = await import("/static/app/fold.js");
    let state = start();
    for (const log of logs) for (const event of log) state = fold(state, event);
    return state;
}"""

SHOW_MARKDOWN = """async ([pieces, isWhole]) => {
    const { GrowingMarkdown } = await import("/static/app/markdown.js");
    const root = document.createElement("div");
    const markdown = new GrowingMarkdown(root);
    let text = "";
    for (const piece of pieces) { text += piece; markdown.show(text, false); }
    if (isWhole) markdown.show(text, true);
    return root.innerHTML;
}"""


@pytest.mark.parametrize("case", FOLD_CASES, ids=lambda case: str(case["name"]))
def test_the_page_folds_events_as_the_server_does(modules: Page, case: dict[str, Any]) -> None:
    """The cases are shared with the server's fold."""
    state = modules.evaluate(FOLD, [case["events"]])
    calls = [{key: call[key] for key in ("toolCallId", "name", "state")} for call in state["toolCalls"]]
    shown = {key: state[key] for key in ("position", "content", "status")}
    assert {**shown, "toolCalls": calls} == case["expected"]


@pytest.mark.parametrize("case", FOLD_CASES, ids=lambda case: str(case["name"]))
def test_a_replay_after_any_part_of_a_log_changes_nothing(modules: Page, case: dict[str, Any]) -> None:
    """fold(fold(start, log[:n]), log) == fold(start, log) for every n."""
    log = case["events"]
    once = modules.evaluate(FOLD, [log])
    for n in range(len(log) + 1):
        assert modules.evaluate(FOLD, [log[:n], log]) == once


def test_a_type_that_is_not_known_moves_only_the_position(modules: Page) -> None:
    log = [{"id": "1-0", "type": "delta", "content": "a"}, {"id": "1-1", "type": "aside", "content": "b"}]
    state = modules.evaluate(FOLD, [log])
    assert (state["position"], state["content"]) == ("1-1", "a")


def test_an_unfinished_row_is_shown_until_its_first_event_starts_anew(modules: Page) -> None:
    shown = modules.evaluate(
        """async () => {
            const { fold, fromRow } = await import("/static/app/fold.js");
            const before = fromRow({ id: "m", status: "pending", attempt: 1, content: "stored", toolCalls: [] });
            const after = fold(before, { id: "1-0", type: "status", status: "thinking" });
            return [before.content, after.content, fold(after, { id: "1-1", type: "delta", content: "new" }).content];
        }"""
    )
    assert shown == ["stored", "", "new"]


def test_a_retried_row_ignores_the_attempt_that_it_ended_with(modules: Page) -> None:
    """A reader of a final row that is retried is replayed the old attempt first; it stays what the row said."""
    shown = modules.evaluate(
        """async () => {
            const { fold, fromRow, resumeAfter } = await import("/static/app/fold.js");
            const row = fromRow({ id: "m", status: "error", attempt: 3, content: "so far", toolCalls: [] });
            const retried = { ...row, status: "pending" };
            const replayed = fold(retried, { id: "3-7", type: "finalized", status: "error" });
            const next = fold(replayed, {
                id: "4-0", type: "snapshot", content: "stored", status: "pending", toolCalls: [], reason: "attempt",
            });
            return [resumeAfter(row), replayed.status, replayed.content, next.content, resumeAfter(next)];
        }"""
    )
    assert shown == [None, "pending", "so far", "stored", "4-0"]


def test_event_ids_compare_as_numbers(modules: Page) -> None:
    ids = ["1-0", "1-2", "1-9", "1-10", "1-9999999999", "2-0", "9-1", "10-0"]
    compared = modules.evaluate(
        """async (ids) => {
            const { compareEventIds } = await import("/static/app/event_id.js");
            return ids.map((left) => ids.map((right) => Math.sign(compareEventIds(left, right))));
        }""",
        ids,
    )
    assert compared == [[(left > right) - (left < right) for right in range(len(ids))] for left in range(len(ids))]


@pytest.mark.parametrize("wrong", ["", "1", "1-", "-1", "a-b", "1-2-3", " 1-2", "1--2"])
def test_what_is_not_an_event_id_is_refused(modules: Page, wrong: str) -> None:
    name = modules.evaluate(
        """async (id) => {
            const { parseEventId } = await import("/static/app/event_id.js");
            try { return parseEventId(id); } catch (error) { return error.name; }
        }""",
        wrong,
    )
    assert name == "RangeError"


@pytest.mark.parametrize(
    ("position", "event", "is_next"),
    [
        (None, {"id": "1-0", "type": "status"}, True),
        (None, {"id": "1-4", "type": "delta", "from": "1-0"}, True),
        (None, {"id": "1-3", "type": "delta"}, False),
        (None, {"id": "3-0", "type": "snapshot"}, True),
        ("1-3", {"id": "1-4", "type": "delta"}, True),
        ("1-3", {"id": "1-9", "type": "delta", "from": "1-4"}, True),
        ("1-3", {"id": "1-9", "type": "delta", "from": "1-5"}, False),
        ("1-3", {"id": "1-9", "type": "delta", "from": "1-2"}, False),
        ("1-3", {"id": "1-3", "type": "delta"}, False),
        ("1-3", {"id": "1-5", "type": "delta"}, False),
        ("1-3", {"id": "1-40", "type": "snapshot"}, True),
        ("1-3", {"id": "2-0", "type": "snapshot"}, True),
        ("1-3", {"id": "2-0", "type": "status"}, False),
        ("2-0", {"id": "1-9", "type": "snapshot"}, False),
    ],
)
def test_only_the_very_next_event_or_a_newer_snapshot_is_taken(
    modules: Page, position: str | None, event: dict[str, str], is_next: bool
) -> None:
    taken = modules.evaluate(
        """async ([position, event]) => {
            const { isNext } = await import("/static/app/event_id.js");
            return isNext(position, event);
        }""",
        [position, event],
    )
    assert taken is is_next


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"/a": "changed"}),
        ({"a": 1}, {"a": "1"}, {"/a": "changed"}),
        ({"a": None}, {"a": {}}, {"/a": "changed"}),
        ({"a": 1}, {"a": 1, "b": {"c": 2}}, {"/b": "added"}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"/a": "shrunk"}),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, {"/a~1b/~0": "changed"}),
        ([1, 2, 3], [1, 9, 2, 3], {"/1": "added"}),
        ([1, 2, 3], [1, 3], {"": "shrunk"}),
        ([1, 2, 3], [1, 7, 3], {"/1": "changed"}),
        ([], [1], {"/0": "added"}),
        ([{"id": "a"}, {"id": "b", "x": 1}], [{"id": "n"}, {"id": "a"}, {"id": "b", "x": 2}], NEW_IN_FRONT),
        ([{"id": "a"}, {"id": "b"}], [{"id": "b"}, {"id": "a"}], {"/1": "moved"}),
        ([{"id": "a"}, {"id": "b"}], [{"id": "b"}], {"": "shrunk"}),
        ({"a": 1}, [1], {"": "changed"}),
        (1, 2, {"": "changed"}),
    ],
)
def test_what_changed_is_named_by_pointer(modules: Page, before: Any, after: Any, changes: dict[str, str]) -> None:
    found = modules.evaluate(
        """async ([before, after]) => {
            const { changedPointers } = await import("/static/app/diff.js");
            return Object.fromEntries(changedPointers(before, after));
        }""",
        [before, after],
    )
    assert found == changes


def test_the_waits_between_connections_grow_spread_and_end_at_ten_seconds(modules: Page) -> None:
    shortest, longest = modules.evaluate(
        """async () => {
            const { backoffMs } = await import("/static/app/client.js");
            const failures = [1, 2, 3, 4, 5, 6, 7, 20];
            return [failures.map((n) => backoffMs(n, () => 0)), failures.map((n) => backoffMs(n, () => 1))];
        }"""
    )
    assert longest == [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]
    assert shortest == [half / 2 for half in longest]


def test_markdown_is_the_same_however_it_was_cut(modules: Page) -> None:
    """A stream is cut anywhere; the end is what the whole text gives at once."""
    text = (
        "# Sea\n\nIt *sleeps* and **rises**, `so` it ~~was~~ is.\n\n- one\n- two\n  - three\n\n1. a\n2. b\n\n"
        "> quoted\n> more\n\n```python\nfor x in y:\n    pass\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n"
        "[link](https://example.com/a?b=c) and https://example.com and מים 👩‍👩‍👧\n\n---\n\n- [x] done\n"
    )
    whole = modules.evaluate(SHOW_MARKDOWN, [[text], True])
    seed = 20261122
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(20):
        cuts = sorted(chance.sample(range(1, len(text)), 40))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert modules.evaluate(SHOW_MARKDOWN, [pieces, True]) == whole


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](java\tscript:alert(1))",
        "[a](data:text/html,x)",
        "[a](vbscript:x)",
        "![a](https://example.com/p.png)",
        "![a](javascript:alert(1))",
        "[![a](https://example.com/p.png)](https://example.com)",
        '[a](https://example.com" onclick="alert(1))',
        '```"><script>alert(1)</script>\ncode\n```',
    ],
)
def test_what_a_model_writes_brings_no_script_no_picture_and_no_other_link(modules: Page, hostile: str) -> None:
    found = modules.evaluate(
        """async (text) => {
            const { GrowingMarkdown } = await import("/static/app/markdown.js");
            const root = document.createElement("div");
            new GrowingMarkdown(root).show(text, true);
            const all = [...root.querySelectorAll("*")];
            return {
                tags: all.map((element) => element.localName),
                attributes: all.flatMap((element) => [...element.attributes].map((attribute) => attribute.name)),
                links: all.filter((element) => element.hasAttribute("href")).map((element) => element.protocol),
            };
        }""",
        hostile,
    )
    assert not {"script", "img", "iframe", "style"} & set(found["tags"])
    ours = {"class", "role", "aria-label", "type", "tabindex", "dir"}
    assert set(found["attributes"]) <= {"href", "target", "rel", *ours}
    assert set(found["links"]) <= {"https:"}


def test_code_is_coloured_stays_the_same_text_and_brings_no_markup(modules: Page) -> None:
    code = 'const tag = "<img src=x onerror=alert(1)>"; // </code><script>alert(1)</script>\n'
    found = modules.evaluate(
        """async (code) => {
            const { GrowingMarkdown } = await import("/static/app/markdown.js");
            const root = document.createElement("div");
            const growing = new GrowingMarkdown(root);
            const settled = new Promise((resolve) => {
                new MutationObserver(() => root.querySelector("[class^=hljs]") && resolve())
                    .observe(root, { subtree: true, childList: true });
            });
            const text = "No code.\\n\\n```js\\n" + code + "```\\n\\nAfter.";
            growing.show(text.slice(0, 40), false);
            growing.show(text, true);
            await settled;
            const block = root.querySelector("code");
            return {
                text: block.textContent,
                tags: [...new Set([...block.querySelectorAll("*")].map((element) => element.localName))],
                attributes: [...new Set([...block.querySelectorAll("*")].flatMap((element) => element.getAttributeNames()))],
                keyword: block.querySelector(".hljs-keyword").textContent,
            };
        }""",
        code,
    )
    assert found == {"text": code.rstrip("\n"), "tags": ["span"], "attributes": ["class"], "keyword": "const"}


@pytest.mark.parametrize(
    "deep",
    [
        "> " * 200 + "x",
        "\n".join("  " * n + "- x" for n in range(100)),
        "*_" * 200 + "x",
        "[" * 300,
        "> - " * 100 + "x\n\ny",
    ],
    ids=["quotes", "lists", "emphasis", "brackets", "mixed"],
)
def test_text_nested_too_deep_for_the_parser_is_shown_all_the_same(modules: Page, deep: str) -> None:
    shown = modules.evaluate(SHOW_MARKDOWN, [[*deep], True])
    assert shown != ""


def test_random_text_never_breaks_the_markdown(modules: Page) -> None:
    seed = 4711
    print(f"seed {seed}")
    chance = random.Random(seed)
    marks = ["*", "**", "_", "`", "```", "~~", "[", "](", ")", "!", "-", "|", "\\", "$", "$$", "<"]
    alphabet = [*marks, "> ", "- ", "1. ", "# ", "\n", "\n\n", "http://", "a", " ", "    ", "é", "\u202e"]
    texts = ["".join(chance.choices(alphabet, k=120)) for _ in range(300)]
    failures = modules.evaluate(
        """async (texts) => {
            const { GrowingMarkdown } = await import("/static/app/markdown.js");
            const failures = [];
            for (const text of texts) {
                const root = document.createElement("div");
                try {
                    const markdown = new GrowingMarkdown(root);
                    for (let end = 1; end <= text.length; end += 7) markdown.show(text.slice(0, end), false);
                    markdown.show(text, true);
                } catch (error) { failures.push([text, String(error)]); }
            }
            return failures;
        }""",
        texts,
    )
    assert failures == []


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("# a\n\n## b\n\n### c\n\n# d\n", [3, 4, 5, 3]),
        ("### a\n\n# b\n\n###### c\n", [3, 3, 4]),
        ("# a\n\n## b\n\n### c\n\n#### d\n\n##### e\n", [3, 4, 5, 6, 6]),
    ],
)
def test_headings_stand_below_the_pages_and_leave_no_level_out(modules: Page, text: str, levels: list[int]) -> None:
    shown = modules.evaluate(SHOW_MARKDOWN, [[*text], True])
    assert [int(level) for level in re.findall(r"<h(\d)", shown)] == levels


def test_every_error_code_has_advice_of_its_own(modules: Page) -> None:
    advice = modules.evaluate(
        """async (codes) => {
            const { adviceFor } = await import("/static/app/advice.js");
            return codes.map((code) => adviceFor(code).words);
        }""",
        [*ErrorCode, "something new"],
    )
    assert len(set(advice)) == len(ErrorCode) + 1


@pytest.mark.parametrize(
    ("waiting", "order"),
    [
        ([("a", None, "writing"), ("b", 7, None), ("c", 5, None)], ["a", "c", "b"]),
        ([("a", 1, "writing"), ("b", 2, None), ("c", 2, None)], ["a", "c", "b"]),
        ([("a", None, None), ("b", 3, None)], ["b"]),
    ],
    ids=["by number", "the later of two first", "one that does not wait"],
)
def test_the_line_is_that_of_the_server(modules: Page, waiting: list[tuple[str, Any, Any]], order: list[str]) -> None:
    rows = [
        {"id": name, "role": "assistant", "status": "pending", "queueNumber": number, "activity": activity}
        for name, number, activity in waiting
    ]
    found = modules.evaluate("async (rows) => (await import('/static/app/queue.js')).line(rows)", rows)
    assert found == order
