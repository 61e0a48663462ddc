"""The page's own client and fold are plain modules: a program outside of a browser can use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clients.chat import Chat
from tests.clients.cut_streams import cut_streams
from tests.clients.node import Program, Programs
from tests.trace_checker import check_trace

FOLD_CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "fold.json").read_text(encoding="utf-8")
)


def submit_and_follow(programs: Programs, chat: Chat, content: str, *, origin: str | None = None) -> Program:
    task = {"origin": origin or chat.url, "projectId": chat.project_id, "content": content, "token": chat.token}
    return programs.run("page_client.mjs", task)


def test_the_pages_fold_gives_what_the_servers_does(programs: Programs) -> None:
    """The cases are shared with the server's fold and with the browser's."""
    with programs.run("page_fold.mjs", [case["events"] for case in FOLD_CASES]) as program:
        [states] = program.finish().heard("folded")
    for case, state in zip(FOLD_CASES, states, strict=True):
        calls = [{key: call[key] for key in ("toolCallId", "name", "state")} for call in state["toolCalls"]]
        shown = {key: state[key] for key in ("position", "content", "status")}
        assert {**shown, "toolCalls": calls} == case["expected"], case["name"]


def test_the_pages_fold_obeys_the_law_of_replay(programs: Programs) -> None:
    """fold(fold(start, log[:n]), log) == fold(start, log) for every n."""
    logs = [case["events"] for case in FOLD_CASES]
    replays = [[*log[:n], *log] for log in logs for n in range(len(log) + 1)]
    with programs.run("page_fold.mjs", [*logs, *replays]) as program:
        [states] = program.finish().heard("folded")
    wholes, replayed = states[: len(logs)], iter(states[len(logs) :])
    for log, whole in zip(logs, wholes, strict=True):
        for _ in range(len(log) + 1):
            assert next(replayed) == whole


def test_the_pages_client_submits_and_follows_to_the_row(programs: Programs, chat: Chat) -> None:
    """Text and a tool call; what it folds is what the row says."""
    patch = {"operations": [{"op": "add", "path": "/colour", "value": "green"}]}
    content = chat.script(
        [{"text": "I paint it. "}, {"tool": {"name": "applyJsonPatch", "arguments": patch}}],
        [{"text": "It is green now."}],
    )
    with submit_and_follow(programs, chat, content) as program:
        program.finish()
    check_shows_the_row(program, chat)


def test_the_pages_client_goes_on_where_its_connection_was_cut(programs: Programs, chat: Chat) -> None:
    """Cut in the handshake's answer and in the middle of frames: every event once."""
    cuts = [40, 1500, 700, 2200]
    content = chat.script([{"text": "".join(f"{n} 🦀 ähm … " for n in range(600)), "chunk_size": 11, "pace": 0.003}])
    with (
        cut_streams(chat.url, cuts) as proxy,
        submit_and_follow(programs, chat, content, origin=proxy.url) as program,
    ):
        program.finish()
    assert proxy.made == len(cuts)
    check_shows_the_row(program, chat)


def check_shows_the_row(program: Program, chat: Chat) -> None:
    [message_id] = program.heard("submitted")
    [done] = program.heard("done")
    row = chat.row(message_id)
    check_trace(program.events, row=row)
    assert not program.heard("refused")
    assert done["row"] == row
    shown = done["state"]
    assert row["status"] == "success"
    for field in ("content", "status", "usage", "timing"):
        assert shown[field] == row[field], field
    assert [call["state"] for call in shown["toolCalls"]] == [call["state"] for call in row["toolCalls"]]
