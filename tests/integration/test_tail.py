"""`chatrelay tail` as an operator runs it: a process of its own, on a Valkey that the test may kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest
import redis
from sqlalchemy import Engine

from dev.embedded_valkey import EmbeddedValkey
from shared import closing, event_log, events, keys, notices, ops_events
from shared.event_log import Entry, EventLog
from shared.events import Delta, EventId, Finalized, Status
from shared.lifecycle import ErrorCode
from shared.outcomes import Failed
from shared.store import Store
from tests import rights
from tests.integration.store_parts import Scene

PROGRAM = Path(sys.executable).with_name("chatrelay")
PATIENCE_S = 60.0


class Tail:
    """The program, and what it has written so far."""

    def __init__(self, url: str, *arguments: str, reads: bool = True, **environment: str) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.process = subprocess.Popen(
            [str(PROGRAM), "tail", *arguments],
            env={**kept, "REDIS_URL": url, "CHATRELAY_STATE_DIR": "/nonexistent", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it is ignored
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,))
        if reads:
            self._reader.start()

    def _read(self, out: IO[str]) -> None:
        for line in out:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def read(self) -> None:
        self._reader.start()

    def until(self, words: str) -> str:
        """The first line with these words in it."""
        with self._changed:
            found = self._changed.wait_for(lambda: [line for line in self.lines if words in line], PATIENCE_S)
            assert found, (self.lines[-5:], self.process.poll())
            return found[0]

    def end(self, number: int = signal.SIGINT) -> int:
        """Its exit code once it was told to end."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        if self._reader.ident is not None:
            self._reader.join(PATIENCE_S)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        if self._reader.ident is not None:
            self._reader.join(PATIENCE_S)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


class Desk:
    """Starts tails and publishes what processes publish."""

    def __init__(self, valkey: EmbeddedValkey, endings: ExitStack) -> None:
        self.valkey = valkey
        self._endings = endings
        self.client: redis.Redis = event_log.connect(rights.as_admin(valkey.url))
        endings.callback(self.client.close)
        self.log = EventLog(self.client)
        self.project_id = uuid.uuid4()

    def tail(self, *arguments: str, **options: Any) -> Tail:
        """One that listens."""
        started = Tail(rights.as_operator(self.valkey.url), *arguments, **options)
        self._endings.callback(started.close)
        self.wait_listening()
        return started

    def wait_listening(self, channels: int = 1) -> None:
        """Until a tail listens to so many channels; not just tries whether it may."""
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / 0.02)):
            listed: Any = self.client.execute_command("CLIENT", "LIST", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
            theirs = [line for line in str(listed).split("\\n") if "lib-name=redis-py" not in line]
            if any(int(found[1]) >= channels for line in theirs if (found := re.search(r" sub=([0-9]+) ", line))):
                return
            pause.wait(0.02)
        raise AssertionError("nobody listens")

    def line(self, number: int, **fields: Any) -> bytes:
        line = ops_events.StartedLine(
            message_id=uuid.UUID(int=number),
            project_id=self.project_id,
            ts=1_795_395_619_691,
            model="scripted",
            attempt=1,
            run=1,
        )
        return ops_events.encode(line)

    def say(self, payload: bytes) -> None:
        self.client.publish(keys.OPS, payload)

    def ended(self, status: str, *, total_ms: int, code: str | None = None) -> None:
        timing = events.Timing(queued_ms=1, first_token_ms=2, total_ms=total_ms)
        line = ops_events.FinalizedLine(
            message_id=uuid.uuid4(),
            project_id=self.project_id,
            ts=1_795_395_619_691,
            status=status,  # type: ignore[arg-type]  # one of them
            attempt=1,
            code=code,
            timing=timing,
        )
        self.say(ops_events.encode(line))


@pytest.fixture
def desk(own_valkey: EmbeddedValkey) -> Iterator[Desk]:
    with ExitStack() as endings:
        yield Desk(own_valkey, endings)


def counted(lines: list[str]) -> tuple[int, int]:
    """How many lifecycle lines, and how many missed."""
    told = [json.loads(line) for line in lines]
    missed = sum(line["count"] for line in told if line["type"] == "missed")
    return sum(line["type"] == "started" for line in told), missed


def published(desk: Desk, count: int) -> None:
    for start in range(0, count, 1000):
        with desk.client.pipeline(transaction=False) as pipeline:
            for number in range(start, min(start + 1000, count)):
                pipeline.publish(keys.OPS, desk.line(number))
            pipeline.execute()
    desk.say(b'{"type":"the_end"}')


def test_every_line_is_written_or_counted_as_missed(desk: Desk) -> None:
    """Ten thousand at once, to a reader that reads: lines and missed make all of them, in order."""
    tail = desk.tail("--json")
    published(desk, 10_000)
    tail.until("the_end")
    shown, missed = counted(tail.lines)
    assert shown + missed == 10_000
    numbers = [uuid.UUID(json.loads(line)["messageId"]).int for line in tail.lines if '"started"' in line]
    assert numbers == sorted(set(numbers))
    assert tail.end() == 0


def test_a_reader_that_does_not_read_costs_a_bounded_number_of_lines_and_the_rest_is_counted(desk: Desk) -> None:
    """Nothing is read until all was published; then what was kept comes, and how many lack."""
    tail = desk.tail("--json", reads=False)
    published(desk, 30_000)
    tail.read()
    tail.until("missed")
    desk.say(b'{"type":"after_it"}')
    tail.until("after_it")
    shown, missed = counted(tail.lines)
    the_end = any("the_end" in line for line in tail.lines)
    assert shown + missed == 30_000 + (not the_end)
    assert missed > 5_000, "the rest was kept in memory"


def test_a_redis_that_was_away_is_told_with_since_when(desk: Desk) -> None:
    """Killed and started again: the tail comes back by itself and says what it may lack."""
    before_ms = datetime.now(UTC).timestamp() * 1000
    tail = desk.tail("--json")
    desk.say(desk.line(1))
    tail.until('"started"')
    desk.valkey.kill()
    desk.valkey.restart()
    desk.wait_listening()
    desk.say(desk.line(2))
    missed = json.loads(tail.until('"missed"'))
    assert (missed["count"], missed["reason"]) == (None, "subscription")
    assert before_ms - 2_000 < missed["since"] < datetime.now(UTC).timestamp() * 1000
    tail.until(str(uuid.UUID(int=2)))
    assert tail.end() == 0
    assert tail.process.stderr is not None
    assert tail.process.stderr.read() == ""


def test_when_nobody_reads_any_more_it_ends_by_itself(desk: Desk) -> None:
    """`| head -1`: without a further line being needed."""
    tail = desk.tail("--json", reads=False)
    assert tail.process.stdout is not None
    desk.say(desk.line(1))
    assert tail.process.stdout.readline()
    tail.process.stdout.close()
    assert tail.process.wait(PATIENCE_S) == 0
    assert tail.process.stderr is not None
    assert tail.process.stderr.read() == ""


def test_lines_for_people_are_aligned_and_chosen(desk: Desk) -> None:
    """Time, type, status, code, milliseconds, the ends of the ids; no colour into a pipe, and nobody's control characters."""
    tail = desk.tail("--status", "error", "--slower-than", "2s")
    desk.ended("success", total_ms=9_000)
    desk.ended("error", total_ms=1_999, code="internal")
    desk.ended("error", total_ms=2_001, code="deadline")
    desk.say(b'{"type":"odd","status":"error","timing":{"totalMs":3000},"note":"\\u001b[31mred\\u202e\\n"}')
    tail.until("odd")
    assert len(tail.lines) == 2, tail.lines
    first, second = tail.lines
    assert first[12:].split()[:5] == ["finalized", "error", "deadline", "2001", "ms"]
    assert first.index("error") == second.index("error")
    assert "\x1b" not in first + second
    assert "\u202e" not in second
    assert str(desk.project_id)[-8:] in first


def test_what_happened_since_comes_from_the_rows_and_nothing_twice_at_the_seam(
    desk: Desk, store: Store, engine: Engine, database_url: str
) -> None:
    """Ended before, ended while it starts, ended after: each once."""
    scene = Scene(store, engine)
    old, failed = scene.ended(), scene.ended(Failed(content="secret", code=ErrorCode.DEADLINE))
    scene.execute("UPDATE messages SET updated_at = now() - interval '1 hour', enqueued_at = now() - interval '1 hour'"
                  " WHERE id = :id", id=old)  # fmt: skip
    tail = desk.tail("--since", "10m", "--json", DATABASE_URL=database_url)
    tail.until(str(failed))
    lease = scene.claimed()
    desk.say(notices.started(lease, "scripted").payload)
    ending = scene.finalize(lease)
    closing.append_ending(store, desk.log, ending)
    tail.until(str(lease.message_id))
    again = scene.store.message(scene.principal, failed)
    for _ in range(2):
        desk.say(ops_events.encode(ops_events.of_step(_step(store, failed))))
    desk.say(b'{"type":"the_end"}')
    tail.until("the_end")
    told = [json.loads(line) for line in tail.lines]
    assert str(old) not in {line.get("messageId") for line in told}
    ends = [line for line in told if line["type"] == "finalized"]
    assert [(line["messageId"], line["status"]) for line in ends] == [
        (str(failed), "error"),
        (str(lease.message_id), "success"),
    ]
    assert ends[0]["code"] == "deadline"
    assert ends[0]["timing"]["totalMs"] == again.timing.total_ms if again.timing else None
    assert "secret" not in "".join(tail.lines)


def _step(store: Store, message_id: uuid.UUID) -> Any:
    steps, _ = store.steps_since(datetime.now(UTC) - timedelta(minutes=5), message_ids=[message_id], most=10)
    return next(step for step in steps if step.kind == "finalized")


class Story:
    """A message's log, written as a worker does."""

    def __init__(self, desk: Desk) -> None:
        self._log = desk.log
        self.message_id = uuid.uuid4()
        self._n = 0

    def say(self, *texts: str) -> None:
        for text in texts:
            base = {"id": f"1-{self._n}", "message_id": str(self.message_id), "ts": 1_795_395_619_691}
            event = Status(**base, status="thinking") if not text else Delta(**base, content=text)  # type: ignore[arg-type]
            assert self._log.append(self.message_id, [Entry(EventId(1, self._n), events.encode(event))]).word == "ok"
            self._n += 1


def test_one_messages_text_is_shown_as_it_is_written_without_its_control_characters(desk: Desk) -> None:
    """From the newest attempt's start, though it began before; on one line, as it comes."""
    story = Story(desk)
    story.say("", "Once upon ")
    tail = desk.tail("--message", str(story.message_id), "--text")
    desk.wait_listening(2)
    story.say("a \x1b[31mtime", "\nthere was")
    tail.until("upon a ")
    story.say("\n")
    tail.until("there was")
    assert "thinking" in tail.lines[0]
    assert tail.lines[1] == "Once upon a \ufffd[31mtime"


def test_of_many_messages_the_text_comes_in_whole_lines_with_their_ids(desk: Desk) -> None:
    """Followed from the line that says that somebody began to write; not by halves, not mixed."""
    tail = desk.tail("--text")
    stories = [Story(desk) for _ in range(2)]
    for number, story in enumerate(stories):
        story.say("")
        desk.say(desk.line(story.message_id.int))
        desk.wait_listening(2 + number)
    for word in ("one ", "two ", "three\n"):
        for story in stories:
            story.say(word)
    for story in stories:
        assert tail.until(f"{str(story.message_id)[-8:]} |").endswith("| one two three")


def test_the_text_of_an_answer_that_is_over_when_its_begin_is_heard_is_shown(desk: Desk) -> None:
    """It is in its log: an answer may be quicker than a subscription."""
    tail = desk.tail("--text")
    story = Story(desk)
    story.say("", "quick")
    message_id = story.message_id
    over = Finalized(id="1-2", message_id=str(message_id), ts=1_795_395_619_691, status="success")
    desk.log.append(message_id, [Entry(EventId(1, 2), events.encode(over))])
    line = ops_events.FinalizedLine(
        message_id=message_id, project_id=desk.project_id, ts=1, status="success", attempt=1
    )
    with desk.client.pipeline(transaction=True) as both:
        both.publish(keys.OPS, desk.line(message_id.int))
        both.publish(keys.OPS, ops_events.encode(line))
        both.execute()
    assert tail.until("| ").endswith("| quick")


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        ([], {"REDIS_URL": ""}, 2, "REDIS_URL is not set"),
        ([], {"REDIS_URL": "http://x"}, 2, "REDIS_URL: must be"),
        (["--since", "soon"], {}, 2, "--since"),
        (["--since", "2026-01-31T12:00:00"], {}, 2, "with its zone"),
        (["--slower-than", "-1"], {}, 2, "--slower-than"),
        (["--message", "x"], {}, 2, "--message"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_in_words(
    arguments: list[str], environment: dict[str, str], code: int, words: str
) -> None:
    tail = Tail(environment.get("REDIS_URL", "redis://127.0.0.1:1/0"), *arguments)
    try:
        assert tail.process.wait(PATIENCE_S) == code
        assert tail.process.stderr is not None
        said = tail.process.stderr.read()
        assert words in said
        assert "Traceback" not in said
    finally:
        tail.close()
