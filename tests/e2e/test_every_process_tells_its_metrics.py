"""The Procfile's processes, two for the API at one address, and a builder with children: what each tells of known traffic."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from shared import metrics
from shared.lifecycle import FINAL
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.people import Person, eventually
from tests.readers import PLAIN_HTTP
from tests.stack import Stack, StackStarter
from tests.told_metrics import Told

_MESSAGES: Final = 6


@pytest.fixture(scope="module")
def stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(
            builders=1, metrics=True, settings={"GUNICORN_CMD_ARGS": "--workers 2", "CHATRELAY_MODELS": "scripted"}
        )


def told_by(stack: Stack, name: str) -> Told:
    return Told(_text(stack, name))


def _text(stack: Stack, name: str) -> str:
    """What a scraper gets, without a token and on a connection of its own, so that any of several processes may answer."""
    url = stack.urls[0] if name == "web-1" else f"http://127.0.0.1:{stack.metrics_ports[name]}"
    answer = httpx.get(f"{url}/metrics", trust_env=False, verify=PLAIN_HTTP, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.text


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def finals(person: Person, *message_ids: str) -> list[dict[str, Any]]:
    return [eventually(partial(_final, person, message_id)) for message_id in message_ids]


def _final(person: Person, message_id: str) -> dict[str, Any] | None:
    row = person.row(message_id)
    return row if row["status"] in FINAL else None


def test_known_traffic_is_told_by_whoever_did_it_and_outlives_killed_processes(stack: Stack) -> None:
    """Five answers and a component: the figures of all processes add up, and stay when one of several is killed."""
    with Person(stack) as person:
        stack.model.on("go", {"rounds": [{"steps": [{"text": "Hello, world!", "chunks": 4}]}]}, times=None)
        project = person.project()
        asked = [*["go"] * (_MESSAGES - 1), "Build a red bouncing ball component called Ball"]
        rows = finals(person, *(person.submit(project, content) for content in asked))
        assert [row["status"] for row in rows] == ["success"] * _MESSAGES
        used = sum(row["usage"]["totalTokens"] for row in rows)

        def built() -> bool:
            return told_by(stack, "builder-1").by("chatrelay_messages_total", "status") == {"success": 1}

        eventually(built)  # it counts when it has committed, which is what was seen
        web, worker, builder = (told_by(stack, name) for name in ("web-1", "worker-1", "builder-1"))
        assert web.value("chatrelay_messages_submitted_total") == _MESSAGES, "whichever of the two took them"
        assert worker.by("chatrelay_messages_total", "status") == {"success": _MESSAGES - 1}
        assert builder.by("chatrelay_builds_total", "outcome") == {"success": 1}
        assert builder.by("chatrelay_build_phase_seconds_count", "phase") == {
            "writing": 1,
            "checking": 1,
            "bundling": 1,
        }
        assert sum(sum(told.by("chatrelay_tokens_total", "kind").values()) for told in (worker, builder)) == used
        assert set(worker.by("chatrelay_tokens_total", "model")) == {"scripted"}
        assert sum(worker.by("chatrelay_first_token_seconds_count", "model").values()) == _MESSAGES - 1
        for told in (web, worker, told_by(stack, "sweeper")):
            assert told.by("chatrelay_messages_unfinished", "status") == {}
            assert told.has("chatrelay_queue_depth", queue="interactive")
            assert told.has("chatrelay_sweeper_silent_seconds")

        def both_hear() -> bool:
            return told_by(stack, "web-1").value("chatrelay_subscriptions_up") == 2

        eventually(both_hear)
        killed = {name: children(stack.pid(name))[0] for name in ("web-1", "builder-1")}
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(pid in children(stack.pid(name)) for name, pid in killed.items()))
        eventually(both_hear)  # another one came in its place, and the dead one is told no more
        assert told_by(stack, "web-1").value("chatrelay_messages_submitted_total") == _MESSAGES
        assert told_by(stack, "builder-1").by("chatrelay_builds_total", "outcome") == {"success": 1}
        finals(person, person.submit(project, "go"))
        assert told_by(stack, "web-1").value("chatrelay_messages_submitted_total") == _MESSAGES + 1


def test_nothing_is_told_that_is_not_defined_and_nothing_of_users(stack: Stack) -> None:
    """No id, no text, no name of a user, no token; every metric is in the documentation's table."""
    with Person(stack) as person:
        project = person.project()
        (row,) = finals(person, person.submit(project, "a canary sings in the mine"))
    defined = {metric.name for metric in metrics.ALL}
    for name in ("web-1", "worker-1", "builder-1", "sweeper"):
        text = _text(stack, name)
        assert Told(text).names <= defined
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}", text)
        for secret in ("canary", project, row["id"], person.name, person.token):
            assert secret not in text
