"""chatrelay's own client for browsers and Node.js, as somebody's program uses it; its types; its docs' example."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from api.close_codes import CloseCode
from tests.clients.chat import Chat
from tests.clients.node import Program, Programs
from tests.own_clients import Begin, OwnClient, task_of

DOCS: Final = Path(__file__).parents[2] / "docs" / "clients.md"


@pytest.fixture
def begin(programs: Programs) -> Begin:
    def begin(chat: Chat, do: str, **task: Any) -> Program:
        return programs.run("own_client.mjs", task_of(chat, do, **task))

    return begin


@pytest.fixture
def begins(begin: Begin) -> Sequence[Begin]:
    return [begin]


class TestJavaScriptClient(OwnClient):
    """Everything that both of chatrelay's own clients promise."""


def test_a_loop_that_is_slow_is_told_everything_all_the_same(programs: Programs, chat: Chat) -> None:
    """More waits than may: the socket is given up and opened again once that is taken."""
    content = chat.script([{"repeat": {"text": "word ", "count": 400, "pace": 0.003}}])
    with programs.run("own_client.mjs", task_of(chat, "slowly", content=content)) as program:
        program.finish()
    [slow] = program.heard("slow")
    assert slow["text"] == "word " * 400
    assert slow["opened"] > 1


def test_the_close_codes_are_the_servers(programs: Programs) -> None:
    """Which of them mean to come back."""
    source = (
        'import { CLOSE_CODES } from "./clients/chatrelay.js";\n'
        "const codes = Object.entries(CLOSE_CODES).map(([code, { reconnect }]) => [code, reconnect]);\n"
        "process.stdout.write(JSON.stringify(Object.fromEntries(codes)));\n"
    )
    codes = json.loads(programs.run_text("codes.mjs", source, {}))
    assert codes == {str(code.value): code.reconnects for code in CloseCode}


def test_the_published_types_fit_the_client(programs: Programs) -> None:
    """tsc accepts a program that uses them as it should, and refuses its mistakes."""
    assert programs.compile("own_types.ts") == ""


def test_the_types_name_what_the_module_exports(programs: Programs) -> None:
    """Nothing is promised that is not there."""
    types = (Path(__file__).parents[2] / "api/static/clients/chatrelay.d.ts").read_text(encoding="utf-8")
    named = sorted(re.findall(r"^export (?:class|const|function) (\w+)", types, re.MULTILINE))
    source = (
        'import * as module from "./clients/chatrelay.js";\n'
        f"const named = {named!r};\n"
        "process.stdout.write(named.filter((name) => !(name in module)).join());\n"
    )
    assert programs.run_text("exports.mjs", source, {}) == ""
    methods = re.findall(r"^  (\w+)\(", types[types.index("export class ChatRelay") :].split("\n}\n")[0], re.MULTILINE)
    source = (
        'import { ChatRelay } from "./clients/chatrelay.js";\n'
        f"process.stdout.write({methods!r}.filter((name) => !(name in ChatRelay.prototype)).join());\n"
    )
    assert programs.run_text("methods.mjs", source, {}) == ""


def test_the_docs_example_prints_the_answer(programs: Programs, chat: Chat) -> None:
    """As it stands there, with the module from the server; Node.js 20 has its WebSocket behind a flag."""
    [example] = re.findall(r"^```js\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    chat.stack.model.say("Make the background green", {"text": "It is ", "pace": 0.002}, {"text": "green, 🦀."})
    module = chat.stack.client().get("/clients/chatrelay.js").raise_for_status()
    assert module.headers["Content-Type"].startswith("text/javascript")
    assert module.headers["Access-Control-Allow-Origin"] == "*"
    (programs.directory / "chatrelay.js").write_bytes(module.content)
    environment = {"API": chat.url, "TOKEN": chat.token, "PROJECT": chat.project_id}
    environment["NODE_OPTIONS"] = "--experimental-websocket"
    assert programs.run_text("example.mjs", example, environment) == "It is green, 🦀."
