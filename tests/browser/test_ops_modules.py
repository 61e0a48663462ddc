"""The operators' page counts, sorts and draws as it says: pure modules, in the browser that they are written for."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from playwright.sync_api import Page

from shared.lifecycle import ErrorCode, MessageStatus

NOW_MS = 1_795_000_000_000
STEP_MS = 2000

HISTORY = """async ([acts, nowMs, steps, window]) => {
    const { History } = await import("/static/ops/history.js");
    const history = new History();
    for (const [name, ...given] of acts) history[name](...given);
    const view = history.view(nowMs, steps, window);
    return { ...view, codes: Object.fromEntries(view.codes), minutes: history.minutes(nowMs, 3)
        .map((minute) => ({ ...minute, codes: Object.fromEntries(minute.codes) })) };
}"""

UNFINISHED = """async ([acts]) => {
    const { Unfinished } = await import("/static/ops/unfinished.js");
    const unfinished = new Unfinished();
    for (const [name, ...given] of acts) unfinished[name](...given);
    return { ids: [...unfinished.entries.keys()].sort(), oldest: unfinished.oldest(3).map(({ id }) => id),
        states: Object.fromEntries([...unfinished.entries].map(([id, { state }]) => [id, state])),
        groups: unfinished.grouped("projectId", 10) };
}"""

WATERFALL = """async ([details, nowMs]) => {
    const { waterfall } = await import("/static/ops/waterfall.js");
    return waterfall(details, nowMs);
}"""


def end(at_ms: int, status: str = "success", **more: Any) -> list[Any]:
    return ["end", at_ms, {"status": status, **more}]


def test_ends_are_counted_by_second_minute_and_code(modules: Page) -> None:
    begin = NOW_MS - 60_000
    acts = [
        ["know", begin, NOW_MS],
        *(end(NOW_MS - 3000) for _ in range(10)),
        end(NOW_MS - 3000, "error", code="length"),
        end(NOW_MS - 3000, "error", code="refusal"),
        end(NOW_MS - 3000, "cancelled"),
        end(NOW_MS - 3000, "building"),
    ]
    seen = modules.evaluate(HISTORY, [acts, NOW_MS, 10, 5])
    assert {name: rates[-1] for name, rates in seen["rates"].items()} == {"success": 1, "error": 0.2, "cancelled": 0.1}
    assert {code: rates[-1] for code, rates in seen["codes"].items()} == {"length": 0.1, "refusal": 0.1}
    assert sum(minute["ended"]["success"] for minute in seen["minutes"]) == 10
    assert len(seen["x"]) == 10
    assert seen["x"][-1] == NOW_MS // 1000


def test_percentiles_are_right_to_five_per_cent(modules: Page) -> None:
    """Of durations from a millisecond to an hour."""
    seed = random.randrange(2**32)
    print("seed", seed)
    durations = [round(math.exp(random.Random(seed + n).uniform(0, math.log(3_600_000)))) for n in range(2000)]
    acts = [end(NOW_MS - 3000, firstTokenMs=ms, totalMs=2 * ms) for ms in durations]
    seen = modules.evaluate(HISTORY, [acts, NOW_MS, 5, 5])
    for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = sorted(durations)[math.ceil(part * len(durations)) - 1]
        assert seen["firstToken"][name][-1] == pytest.approx(exact, rel=0.05, abs=1)
        assert seen["total"][name][-1] == pytest.approx(2 * exact, rel=0.05, abs=1)


def test_where_nobody_listened_is_a_gap_and_no_zero(modules: Page) -> None:
    acts = [
        ["know", NOW_MS - 40_000, NOW_MS - 30_000],
        ["know", NOW_MS - 10_000, NOW_MS],
        end(NOW_MS - 5000),
        ["forget", NOW_MS - 6000, NOW_MS - 4000],
    ]
    rates = modules.evaluate(HISTORY, [acts, NOW_MS, 20, 1])["rates"]["success"]
    assert [rates[0], rates[7], rates[12], rates[16], rates[19]] == [0, None, None, 0, 0]
    assert rates[17:19] == [None, None], "what may be lacking is forgotten"
    assert not any(rates)


def test_an_hour_later_nothing_of_before_is_left(modules: Page) -> None:
    """The ring takes no more memory and shows no old figure in a new place."""
    hour = STEP_MS * 1800
    acts = [end(NOW_MS - 3000, "error", code="length", totalMs=5), ["sample", NOW_MS, {"waiting": 7}]]
    seen = modules.evaluate(HISTORY, [[*acts, ["know", NOW_MS + hour - 60_000, NOW_MS + hour]], NOW_MS + hour, 1800, 5])
    assert not any(rate for rates in seen["rates"].values() for rate in rates)
    assert (seen["codes"], [value for value in seen["samples"]["waiting"] if value]) == ({}, [])
    assert set(seen["total"]["p50"]) == {None}


def test_codes_beyond_the_most_are_counted_together(modules: Page) -> None:
    acts = [end(NOW_MS - 3000, "error", code=f"code_{n}") for n in range(200)]
    codes = modules.evaluate(HISTORY, [[["know", NOW_MS - 60_000, NOW_MS], *acts], NOW_MS, 5, 5])["codes"]
    assert len(codes) <= 25
    assert sum(rates[-1] for rates in codes.values()) == pytest.approx(20)
    assert "other" in codes


def line(kind: str, number: int, ts: int, **more: Any) -> list[Any]:
    return ["take", {"type": kind, "messageId": f"m{number}", "projectId": f"p{number % 2}", "ts": ts, **more}]


def row(number: int, *, held: bool = False) -> dict[str, Any]:
    at = "2026-11-18T00:00:00Z"
    common = {"projectId": "p0", "model": None, "attempt": 0, "enqueuedAt": at, "createdAt": at}
    return {"id": f"m{number}", "status": "pending", "heldBy": "w" if held else None, **common}


def test_lines_make_what_is_unfinished_and_its_states(modules: Page) -> None:
    acts = [
        *(line("submitted", n, 100 - n) for n in range(1, 8)),
        line("started", 1, 200, attempt=1),
        line("finalized", 2, 201, status="success", attempt=1),
        line("finalized", 3, 202, status="building", attempt=1),
        line("cancelled", 4, 203),
        line("started", 5, 204, attempt=1),
        line("attempt", 5, 205, state="lost", attempt=1),
        line("attempt", 1, 206, state="failed", attempt=1),
        line("tomorrow", 6, 207),
    ]
    seen = modules.evaluate(UNFINISHED, [acts])
    assert seen["states"] == {"m1": "running", "m3": "building", "m5": "waiting", "m6": "waiting", "m7": "waiting"}
    assert seen["oldest"] == ["m7", "m6", "m5"]
    sizes = [(group["key"], group["running"], group["waiting"], group["building"]) for group in seen["groups"]]
    assert sizes == [("p1", 1, 2, 1), ("p0", 0, 1, 0)]


def test_a_submit_that_is_told_late_changes_nothing(modules: Page) -> None:
    """It may come after the claim, and, of a short answer, after the end."""
    acts = [
        line("started", 1, 10, attempt=1),
        line("submitted", 1, 11),
        line("started", 2, 12, attempt=1),
        line("finalized", 2, 13, status="success", attempt=1),
        line("submitted", 2, 14),
        line("finalized", 3, 15, status="error", attempt=1),
        line("retried", 3, 16, status="pending"),
    ]
    assert modules.evaluate(UNFINISHED, [acts])["states"] == {"m1": "running", "m3": "waiting"}


def test_rows_that_were_loaded_take_back_nothing_that_was_told_since(modules: Page) -> None:
    """What ended while rows were loaded stays ended; what the rows lack and was told before is over."""
    acts = [
        line("submitted", 1, 10),
        line("submitted", 2, 10),
        ["beginLoad"],
        line("finalized", 2, 60, status="success", attempt=1),
        line("submitted", 3, 70),
        ["endLoad", [row(2, held=True), row(4, held=True), row(5)], {"beganMs": 50, "isWhole": True}],
    ]
    assert modules.evaluate(UNFINISHED, [acts])["states"] == {"m3": "waiting", "m4": "running", "m5": "waiting"}


def test_what_is_kept_of_unfinished_messages_is_bounded(modules: Page) -> None:
    size = modules.evaluate(
        """async () => {
            const { MOST, Unfinished } = await import("/static/ops/unfinished.js");
            const unfinished = new Unfinished();
            for (let n = 0; n < MOST + 5000; n += 1) unfinished.take({ type: "submitted", messageId: `m${n}`, ts: n });
            return [unfinished.entries.size === MOST, unfinished.isCut];
        }"""
    )
    assert size == [True, True]


FLOOD = """async ([lines, missed]) => {
    const { watch } = await import("/static/ops/actions/live.js");
    const { session, leave } = await import("/static/ops/actions/session.js");
    const state = await import("/static/ops/state.js");
    const { effect } = await import("/static/vendor/signals.js");
    const figures = { at: new Date().toISOString(), unfinished: [], sweepers: [], workers: [], ended: [] };
    let handlers;
    const asked = [];
    watch({
        watchAll: (given) => { handlers = given; return { stop() {} }; },
        summary: async () => figures,
        anyMessages: async (filters) => { asked.push(filters); return { items: [], nextCursor: null }; },
    });
    let drawn = 0;
    const stop = effect(() => { state.beat.value; drawn += 1; });
    const frame = () => new Promise(requestAnimationFrame);
    handlers.onReady(figures);
    await frame();
    const began = asked.length;
    for (let n = 0; n < lines; n += 1) {
        const line = { messageId: `m${n}`, projectId: "p", attempt: 1, ts: Date.now() };
        handlers.onLine({ type: "started", run: 1, ...line });
        const end = n % 4 ? { status: "success" } : { status: "error", code: "length" };
        handlers.onLine({ type: "finalized", ...end, ...line });
        if (n % 1000 === 999) await frame();
    }
    const sum = (counts) => counts.reduce((all, number) => all + number, 0);
    const { ended } = state.live.history;
    const unfinished = state.live.unfinished.entries.size;
    const seen = { success: sum(ended.success), error: sum(ended.error), unfinished, drawn };
    if (missed) handlers.onLine(missed);
    await frame();
    const told = state.gap.value;
    stop();
    leave();
    return { ...seen, told, askedAgain: asked.slice(began).map(({ status = "all" }) => status) };
}"""


def test_tens_of_thousands_of_lines_are_counted_and_drawn_a_few_times(modules: Page) -> None:
    """However many lines come between two frames; and what was missed is said, and looked for in the rows."""
    missed = {"type": "missed", "count": 1234, "since": NOW_MS, "reason": "slow"}
    seen = modules.evaluate(FLOOD, [20_000, missed])
    assert (seen["success"], seen["error"], seen["unfinished"]) == (15_000, 5000, 0)
    assert seen["drawn"] < 20
    assert seen["told"].startswith("1,234 events since")
    assert sorted(seen["askedAgain"]) == ["all", "building", "pending"]


ZERO_MS = 1_795_000_000_000
ZERO = "2026-11-18T11:06:40Z"


def details(**timing: int) -> dict[str, Any]:
    at = {"createdAt": ZERO, "enqueuedAt": ZERO}
    return {"message": {"status": "success", "ageMs": 1000, "timing": timing or None, **at}, "jobs": [], "log": None}


def bars(drawn: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {bar["name"]: (bar["fromMs"], bar["toMs"]) for bar in drawn["bars"]}


def test_a_waterfall_of_all_stages_lies_end_to_end(modules: Page) -> None:
    whole = details(
        queuedMs=20,
        contextMs=10,
        connectMs=50,
        firstByteMs=200,
        firstAppendMs=25,
        firstTokenMs=205,
        commitMs=30,
        totalMs=1000,
    )
    drawn = modules.evaluate(WATERFALL, [whole, ZERO_MS])
    assert bars(drawn) == {
        "Queued": (0, 20),
        "Context": (20, 30),
        "Connect": (30, 80),
        "Model, to its first text": (80, 200),
        "Text": (200, 970),
        "Commit": (970, 1000),
    }
    assert [(mark["name"], mark["atMs"]) for mark in drawn["marks"]] == [
        ("First event in Redis", 25),
        ("First token", 205),
    ]


def test_a_waterfall_needs_no_figure_and_stays_within_its_scale(modules: Page) -> None:
    """Whichever are lacking, and however little they agree."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chosen = random.Random(seed)
    names = [
        "queuedMs",
        "contextMs",
        "connectMs",
        "firstByteMs",
        "firstAppendMs",
        "firstTokenMs",
        "toolsMs",
        "commitMs",
        "totalMs",
    ]
    for _ in range(100):
        timing = {name: chosen.randrange(2000) for name in names if chosen.random() < 0.5}
        drawn = modules.evaluate(WATERFALL, [details(**timing), ZERO_MS + 500])
        for bar in drawn["bars"]:
            assert 0 <= bar["fromMs"] <= bar["toMs"] <= drawn["totalMs"], (timing, bar)
        assert all(0 <= mark["atMs"] <= drawn["totalMs"] for mark in drawn["marks"]), timing


def test_tools_and_attempts_are_where_the_log_has_them(modules: Page) -> None:
    one = details(queuedMs=10, firstByteMs=600, totalMs=1000, contextMs=5, toolsMs=100)
    one["log"] = {
        "attempts": [
            {"attempt": 1, "began": ZERO_MS + 15, "ended": ZERO_MS + 400},
            {"attempt": 2, "began": ZERO_MS + 450, "ended": ZERO_MS + 1000},
        ],
        "events": [
            {"type": "tool_start", "toolCallId": "c", "name": "paint", "ts": ZERO_MS + 100},
            {"type": "tool_result", "toolCallId": "c", "name": "paint", "ts": ZERO_MS + 180},
            {"type": "delta", "ts": ZERO_MS + 600, "until": ZERO_MS + 900},
        ],
    }
    drawn = bars(modules.evaluate(WATERFALL, [one, ZERO_MS]))
    placed = {"Tool paint": (100, 180), "Context": (180, 185), "Text": (600, 900)}
    attempts = {"Attempt 1": (15, 400), "Attempt 2": (450, 1000)}
    assert {name: drawn[name] for name in (*placed, *attempts)} == placed | attempts
    assert "Tools" not in drawn


def test_what_can_be_chosen_is_what_there_is(modules: Page) -> None:
    chosen = modules.evaluate("async () => ({ ...(await import('/static/ops/components/choices.js')) })")
    assert (chosen["STATUSES"], chosen["CODES"]) == (list(MessageStatus), list(ErrorCode))


def test_durations_are_said_as_people_say_them(modules: Page) -> None:
    given = {
        0: "0 ms",
        999: "999 ms",
        3400: "3.4 s",
        9960: "10 s",
        200_000: "3 min 20 s",
        7_500_000: "2 h 5 min",
        864e5 * 3: "3 days",
    }
    said = modules.evaluate(
        "async (all) => { const { duration } = await import('/static/ops/words.js'); return [...all, null].map(duration); }",
        list(given),
    )
    assert said == [*given.values(), "–"]


def test_an_address_says_what_is_shown(modules: Page) -> None:
    seen = modules.evaluate(
        """async () => {
            const { messagesAddress, readRoute } = await import("/static/ops/route.js");
            const filters = { status: "error", code: "", project: "p q", model: "a&b", since: "1h", slowerThan: "" };
            return ["", "#overview", "#message=x", "#batches", "#batch=y"].map((one) => readRoute(one).view)
                .concat(JSON.stringify(readRoute(messagesAddress(filters)).filters) === JSON.stringify(filters));
        }"""
    )
    assert seen == ["overview", "overview", "message", "batches", "batch", True]
