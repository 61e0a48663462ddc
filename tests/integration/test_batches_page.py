"""What `docs/batches.md` shows is what happens: its commands are run, its requests sent, its answers compared."""

from __future__ import annotations

import json
import re
import shlex
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from ops.cli import app
from shared.batches import BatchFilter, BatchItem
from shared.lifecycle import BatchStatus, MessageStatus
from shared.settings import Settings
from shared.store import Store
from tests.integration.api_parts import Api, Person

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "batches.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"```(sh|http|json)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def failures(api: Api, engine: Engine) -> list[str]:
    """Two messages that failed, by two codes."""
    person = api.person()
    ids = [person.pair(person.project()["id"])["assistantMessage"]["id"] for _ in range(2)]
    for message_id, code in zip(ids, ("length", "refusal"), strict=True):
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE messages SET status = 'error', error_code = :code, model = 'scripted' WHERE id = :id"),
                {"code": code, "id": uuid.UUID(message_id)},
            )
    return ids


def shape(value: Any) -> Any:
    """A JSON value with its names and types alone; ids, times and numbers differ."""
    match value:
        case dict():
            return {name: shape(inner) for name, inner in value.items()}
        case list():
            return [shape(inner) for inner in value]
        case _:
            return type(value).__name__


def requests_of(block: str) -> Iterator[tuple[str, str, Any]]:
    """Method, path and body of each request in a block."""
    lines = block.strip().split("\n")
    while lines:
        method, path = lines.pop(0).split()
        body = json.loads(lines.pop(0)) if lines and lines[0].startswith("{") else ...
        yield method, path, body


def test_the_requests_are_answered_as_it_says(api: Api, failures: list[str]) -> None:
    token, _ = api.store.create_token("olga", scopes=frozenset({"ops"}))
    operator = Person(api.app, "olga", token)
    batch_id, answer, compared = "", "", 0
    for kind, block in BLOCKS:
        if kind == "http":
            for method, path, body in requests_of(block):
                response = operator.call(method, path.replace("<batchId>", batch_id), body=body)
                assert response.status_code < 300, (path, response.text)
                answer = response.text
                if path == "/v1/ops/reprocess":
                    batch_id = json.loads(answer)["batchId"] or batch_id
                if path.endswith(".csv"):
                    header, *lines = answer.split("\r\n")
                    assert header == ",".join(field.encode_name for field in msgspec.structs.fields(BatchItem))
                    assert len(lines) == len(failures) + 1
        elif kind == "json":
            assert shape(json.loads(answer)) == shape(json.loads(block))
            compared += 1
    assert compared == 4
    assert json.loads(answer)["status"] == "stopped"


@contextmanager
def ending(store: Store) -> Iterator[None]:
    """A sweeper that only notes what has ended: nothing of what is started here has anything to do."""
    over = threading.Event()

    def note() -> None:
        while not over.wait(0.05):
            store.note_batches()

    thread = threading.Thread(target=note, name="sweeper")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_commands_do_what_it_says(settings: Settings, store: Store) -> None:
    batch, _ = store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="olga")
    environment = {"DATABASE_URL": settings.database_url.get_secret_value()}
    lines = [line for kind, block in BLOCKS if kind == "sh" for line in block.strip().split("\n")]
    # a batch is ended by the first look at it
    lines.sort(key=lambda line: "--batch" in line or "--status" in line)
    assert len(lines) == 7
    codes = {}
    for line in lines:
        program, *arguments = shlex.split(line.replace("<batchId>", f"{batch.id}"))
        assert program == "chatrelay"
        with ending(store) if "--batch" in line or "--rate" in line else threading.Lock():
            done = CliRunner().invoke(app, arguments, env=environment)
        codes[line] = done.exit_code
        assert done.exit_code == 0, (line, done.output)
    assert store.batch(batch.id).status is BatchStatus.STOPPED


def test_every_option_and_exit_code_is_told() -> None:
    told = CliRunner().invoke(app, ["reprocess", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    options = set(re.findall(r"--[a-z-]+", told)) - {"--help"}
    assert options <= set(re.findall(r"--[a-z-]+", PAGE))
