"""`chatrelay reprocess` as an operator runs it: what it prints, how it leaves, and that the batch does not need it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from shared.batches import BatchFilter
from shared.lifecycle import BatchStatus, ErrorCode, MessageStatus
from shared.outcomes import Failed
from shared.store import Store
from tests.integration.store_parts import Scene

PROGRAM = Path(sys.executable).with_name("chatrelay")
NOWHERE = "postgresql://canary@127.0.0.1:1/canary"


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    made = Scene(store, engine)
    for code in (ErrorCode.LENGTH, ErrorCode.REFUSAL, ErrorCode.REFUSAL):
        made.ended(Failed(content="", code=code))
    return made


def environment(database_url: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "DATABASE_URL": database_url, "TERM": "xterm", "COLUMNS": "160"}


def run(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "reprocess", *arguments],
        env=environment(database_url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def answering(scene: Scene, code: ErrorCode | None = None) -> Iterator[None]:
    """A system that answers what batches send, those that failed by `code` with another error."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            scene.store.note_batches()
            scene.store.send_batch_items(limit=10, window=10)
            while (message_id := scene.store.next_of_a_batch()) is not None:
                first_code = scene.store.batch_items(scene.row(message_id)["batch_id"], limit=10)[0]
                fails = any(item.message_id == message_id and item.first_code == code for item in first_code)
                outcome = Failed(content="", code=ErrorCode.DEADLINE) if fails else None
                scene.finalize(scene.claimed(message_id), outcome)

    thread = threading.Thread(target=work, name="system")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_it_ends_with_a_table_of_what_became_of_each_code(scene: Scene, database_url: str) -> None:
    """3 where some failed again, 0 once none does; lines and no bar where nobody looks."""
    with answering(scene, ErrorCode.LENGTH):
        done = run(database_url, "--status", "error")
        assert done.returncode == 3, done.stderr
        again = run(database_url, "--status", "error", "--code", "deadline")
        assert again.returncode == 0, again.stderr
    first, *_ = done.stdout.split("\n")
    assert first.startswith("batch ")
    assert first.endswith(": 3 messages")
    rows = [line.split() for line in done.stdout.split("\n") if line.startswith("│")]
    assert [row[1:-1] for row in rows] == [
        ["refusal", "│", "succeeded", "│", "│", "2"],
        ["length", "│", "failed", "│", "deadline", "│", "1"],
    ]
    assert "\x1b[" not in done.stdout


def test_a_person_at_a_terminal_sees_a_progress_bar(scene: Scene, database_url: str) -> None:
    """And in the end the table; nothing of the bar stays."""
    batch, _ = scene.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="ops")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(PROGRAM), "reprocess", "--batch", str(batch.id)],
        env=environment(database_url),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    )
    os.close(theirs)
    shown = b""

    def until(word: bytes) -> None:
        nonlocal shown
        while word not in shown:
            shown += os.read(ours, 4096)

    until(b"0/3")
    assert "━".encode() in shown
    until(b"no sweeper runs")
    with answering(scene):
        until(b"refusal")
        assert process.wait(timeout=120) == 0
    os.close(ours)


def test_ctrl_c_leaves_the_batch_running_and_says_how_to_come_back(scene: Scene, database_url: str) -> None:
    process = subprocess.Popen(
        [str(PROGRAM), "reprocess", "--status", "error"],
        env=environment(database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it is ignored
    )
    assert process.stdout is not None
    batch_id = process.stdout.readline().split()[1].rstrip(":")
    assert process.stdout.readline() == "running: 3 waiting\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    for option in ("--batch", "--pause", "--stop"):
        assert f"{option} {batch_id}" in errors
    assert "Traceback" not in errors
    ((batch,), _) = scene.store.batches(limit=10)
    assert (str(batch.id), batch.status) == (batch_id, BatchStatus.RUNNING)
    with answering(scene):
        report = run(database_url, "--batch", batch_id, "--json")
    assert report.returncode == 0
    assert json.loads(report.stdout)["counts"]["succeeded"] == 3


def test_a_dry_run_says_what_would_be_done(scene: Scene, database_url: str) -> None:
    done = run(database_url, "--status", "error", "--code", "refusal", "--since", "1h", "--dry-run")
    assert done.returncode == 0, done.stderr
    for words in ("2 messages would be answered again", "code: refusal", "model: scripted", "left alone: other_code"):
        assert words in done.stdout
    nothing = run(database_url, "--status", "error", "--until", "1h", "--dry-run")
    assert (nothing.returncode, nothing.stdout) == (0, "0 messages would be answered again\n")
    told = json.loads(run(database_url, "--status", "error", "--until", "1h", "--dry-run", "--json").stdout)
    assert told == {
        "batchId": None,
        "matched": 0,
        "explanation": {"matched": 0, "byCode": {}, "byModel": {}, "excluded": {}},
    }
    assert scene.count("batches") == 0


WRONG: list[tuple[list[str], int, str]] = [
    ([], 2, "--status"),
    (["--status", "success"], 2, "--status"),
    (["--status", "error", "--code", "nonsense"], 2, "--code"),
    (["--status", "pending", "--code", "length"], 2, "--code"),
    (["--status", "error", "--since", "yesterday"], 2, "--since"),
    (["--status", "error", "--since", "2026-01-31T12:00:00"], 2, "--since"),
    (["--status", "error", "--since", "1h", "--until", "2h"], 2, "--until"),
    (["--status", "error", "--project", "x"], 2, "--project"),
    (["--status", "error", "--rate", "5"], 2, "--rate"),
    (["--batch", "x"], 2, "--batch"),
    (["--status", "error"], 1, "cannot be reached"),
    (["--stop", "0190a0f0-0000-7000-8000-000000000000"], 1, "cannot be reached"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG, ids=str)
def test_what_is_wrong_is_said_in_words(arguments: list[str], code: int, words: str) -> None:
    done = run(NOWHERE, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_batch_that_is_not_there_or_over_is_said_so(scene: Scene, database_url: str) -> None:
    acts: list[Callable[[str], list[str]]] = [lambda id_: ["--batch", id_], lambda id_: ["--pause", id_]]
    for act in acts:
        done = run(database_url, *act(str(uuid4())))
        assert (done.returncode, "no such batch" in done.stderr) == (1, True)
    batch, _ = scene.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="ops")
    scene.store.change_batch(batch.id, BatchStatus.STOPPED)
    done = run(database_url, "--resume", str(batch.id))
    assert (done.returncode, "over" in done.stderr) == (1, True)
