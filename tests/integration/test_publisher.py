"""The publisher over a real Valkey: what it appends is in order, whole and never twice, whatever becomes of the log."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import redis

from dev.embedded import EmbeddedValkey
from shared import event_log, events, keys
from shared.errors import Fenced
from shared.event_log import Entry, LoopEventLog
from shared.events import MAX_DELTA_BYTES, Delta, EventId, Snapshot, Status, StreamEvent, ToolCall
from shared.records import Lease
from shared.redis_link import RedisLink
from shared.transcript import Transcript, fold
from tests import rights
from tests.integration.worker_parts import Listener
from tests.trace_checker import check_trace
from worker.publisher import Publisher

PATIENCE_S = 60.0
NEVER_S = 3600.0
"""A window that no test sees the end of."""


class Desk:
    """A publisher of one message, with what a turn would do for it."""

    def __init__(self, url: str, link: RedisLink, *, window_s: float) -> None:
        self.link = link
        self.client: redis.Redis = event_log.connect(rights.as_admin(url))
        self.lease = Lease(message_id=uuid.uuid4(), project_id=uuid.uuid4(), owner="worker", attempt=1, run=1)
        self.renewals: list[tuple[int, int]] = []
        """The attempt renewed and what the new one was to be above."""
        self.is_fenced = False
        self.holds_lease = True
        self.publisher = Publisher(
            LoopEventLog(link),
            self.lease,
            renew=self._renew,
            may_append=lambda: self.holds_lease,
            window_s=window_s,
            content="",
            tool_calls=(),
        )

    async def _renew(self, lease: Lease, above: int) -> Lease:
        self.renewals.append((lease.attempt, above))
        await asyncio.sleep(0)
        if self.is_fenced:
            raise Fenced
        return msgspec.structs.replace(lease, attempt=max(lease.attempt, above) + 1)

    def log(self) -> list[StreamEvent]:
        found: Any = self.client.xrange(keys.log(self.lease.message_id))
        return [events.decode(fields[keys.LOG_FIELD.encode()]) for _, fields in found]

    def deltas(self) -> list[str]:
        return [event.content for event in self.log() if isinstance(event, Delta)]

    def check(self) -> Transcript:
        """The whole log is legal, and tells all that was published."""
        log = self.log()
        check_trace(log)
        told = fold(Transcript(), log)
        assert told.content == self.publisher.content
        return told


@asynccontextmanager
async def desk(url: str, *, window_s: float = 0.002) -> AsyncIterator[Desk]:
    link = RedisLink(url)
    link.start()
    assert await link.wait_up(PATIENCE_S)
    made = Desk(url, link, window_s=window_s)
    try:
        yield made
    finally:
        await link.close()
        made.client.close()


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE_S / 0.01)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to hold")


def on_loop(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await story()

    asyncio.run(main())


def call(number: int, **changed: Any) -> ToolCall:
    return ToolCall(tool_call_id=f"call_{number}", name="t", arguments={"n": number}, state="started", **changed)


# --- order and merging ------------------------------------------------------------------------------------------


def test_the_first_text_goes_at_once_and_the_next_is_merged(redis_url: str) -> None:
    """Also right behind a status: nobody waits for the first word."""

    async def story() -> None:
        async with desk(redis_url, window_s=NEVER_S) as at:
            at.publisher.status("thinking")
            at.publisher.start()
            await eventually(lambda: len(at.log()) == 1)
            at.publisher.text("a")
            await eventually(lambda: at.deltas() == ["a"])
            for piece in "bcd":
                at.publisher.text(piece)
                await asyncio.sleep(0.02)  # time enough to be sent alone
            assert at.deltas() == ["a"]
            await at.publisher.settle()
            assert at.deltas() == ["a", "bcd"]
            at.check()

    on_loop(story)


def test_text_that_waits_goes_when_the_window_is_over(redis_url: str) -> None:
    """Nobody has to come and settle."""

    async def story() -> None:
        async with desk(redis_url, window_s=0.05) as at:
            at.publisher.status("thinking")
            for piece in "abc":
                at.publisher.text(piece)
                await asyncio.sleep(0)
            await eventually(lambda: "".join(at.deltas()) == "abc")
            assert len(at.deltas()) < 3
            await at.publisher.settle()
            at.check()

    on_loop(story)


def test_text_that_arrives_during_an_append_becomes_one_delta(redis_url: str) -> None:
    """One append is on its way at a time."""

    async def story() -> None:
        async with desk(redis_url, window_s=0) as at:
            at.publisher.status("thinking")
            at.publisher.text("first")
            await asyncio.sleep(0)
            for number in range(100):
                at.publisher.text(f" {number}")
            await at.publisher.settle()
            assert len(at.deltas()) == 2
            at.check()

    on_loop(story)


def test_long_text_is_cut_into_pieces_that_fit_and_never_inside_a_character(redis_url: str) -> None:
    async def story() -> None:
        async with desk(redis_url) as at:
            at.publisher.status("thinking")
            at.publisher.text("€😀a" * 80_000)  # more than one append takes
            await at.publisher.settle()
            assert max(len(delta.encode()) for delta in at.deltas()) <= MAX_DELTA_BYTES
            assert at.check().content == "€😀a" * 80_000

    on_loop(story)


def test_whatever_is_published_stands_in_the_log_in_its_order(redis_url: str) -> None:
    """Text, calls and statuses, settled or not in between."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def story() -> None:
        async with desk(redis_url) as at:
            published: list[str] = []
            at.publisher.status("thinking")
            for number in range(60):
                opening = "\n\n" if number else ""
                for _ in range(chance.randrange(8)):
                    piece = opening + chance.choice(["word ", "ü", "😀😀", "x" * 9000])
                    opening = ""
                    at.publisher.text(piece)
                    published.append(piece)
                    if chance.random() < 0.4:
                        await asyncio.sleep(chance.choice([0, 0.001, 0.004]))
                at.publisher.tool_start(call(number))
                at.publisher.status("tool_calling")
                if chance.random() < 0.5:
                    await at.publisher.settle()
                at.publisher.tool_result(msgspec.structs.replace(call(number), state="succeeded", final_content="ok"))
                published.append(f"<{number}>")
                if chance.random() < 0.5:
                    await at.publisher.settle()
            await at.publisher.settle()
            at.check()
            told = [
                event.content if isinstance(event, Delta) else f"<{event.arguments['n']}>"
                for event in at.log()
                if isinstance(event, Delta | events.ToolStart)
            ]
            assert "".join(told) == "".join(published)
            assert at.publisher.last_id == EventId.parse(at.log()[-1].id)
            assert at.publisher.next_id == EventId.parse(at.log()[-1].id).next

    on_loop(story)


def test_the_first_token_counts_when_it_is_in_the_log(redis_url: str) -> None:
    async def story() -> None:
        async with desk(redis_url) as at:
            at.publisher.status("thinking")
            await at.publisher.settle()
            counted = [at.publisher.first_token_at]
            for piece in "ab":
                at.publisher.text(piece)
                await at.publisher.settle()
                counted.append(at.publisher.first_token_at)
            assert counted[0] is None
            assert counted[1] is not None
            assert counted[1] == counted[2]

    on_loop(story)


# --- Redis goes away --------------------------------------------------------------------------------------------


def test_a_redis_that_dies_and_comes_back_has_no_gap_and_nothing_twice(own_valkey: EmbeddedValkey) -> None:
    """The append that was on its way is repeated with the same bytes; what came meanwhile follows."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with desk(own_valkey.url) as at:
            at.publisher.status("thinking")

            async def stream(start: int, stop: int) -> None:
                for number in range(start, stop):
                    at.publisher.text(f"{number} ")
                    await asyncio.sleep(0.001)

            await stream(0, 100)
            killing = loop.run_in_executor(None, own_valkey.kill)
            await stream(100, 300)
            await killing
            await stream(300, 400)
            await at.publisher.settle()
            assert at.publisher.failure is None
            await loop.run_in_executor(None, own_valkey.restart)
            assert await at.link.wait_up(PATIENCE_S)
            await stream(400, 500)
            await at.publisher.settle()
            assert at.check().content == "".join(f"{number} " for number in range(500))
            assert at.renewals == []  # its append-only file kept all that it had acknowledged

    on_loop(story)


def test_settling_returns_while_redis_is_away(own_valkey: EmbeddedValkey) -> None:
    """The answer does not hang on it; nothing is forgotten either."""

    async def story() -> None:
        async with desk(own_valkey.url) as at:
            at.publisher.status("thinking")
            await at.publisher.settle()
            own_valkey.kill()
            at.publisher.text("unheard")
            await at.publisher.settle()
            assert at.publisher.content == "unheard"
            assert at.publisher.last_id == EventId(1, 1)
            own_valkey.restart()
            assert await at.link.wait_up(PATIENCE_S)
            # nobody asked for it
            await asyncio.sleep(0.1)
            assert len(at.log()) == 1
            await at.publisher.settle()
            assert at.check().content == "unheard"

    on_loop(story)


def test_a_log_that_was_emptied_goes_on_with_a_snapshot_of_all_text(redis_url: str) -> None:
    """A new attempt, which the row gave; a live reader's fold is whole."""

    async def story() -> None:
        async with desk(redis_url) as at:
            live = Listener(redis_url, keys.message_channel(at.lease.message_id))
            at.publisher.status("thinking")
            at.publisher.text("Hello, ")
            at.publisher.tool_start(call(1))
            at.publisher.status("tool_calling")
            await at.publisher.settle()
            at.client.flushdb()
            at.publisher.tool_result(msgspec.structs.replace(call(1), state="succeeded", final_content="ok"))
            at.publisher.text("\n\nworld")
            await at.publisher.settle()
            at.publisher.text("!")
            await at.publisher.settle()
            told = at.check()
            assert told.content == "Hello, \n\nworld!"
            assert [(made.tool_call_id, made.state) for made in told.tool_calls] == [("call_1", "succeeded")]
            first = at.log()[0]
            assert isinstance(first, Snapshot)
            assert (first.id, first.reason, first.content) == ("2-0", "restored", "Hello, \n\nworld")
            assert at.renewals == [(1, 0)]
            live.until(lambda payload: b'"!"' in payload)
            live.close()
            check_trace(live.heard)
            assert fold(Transcript(), map(events.decode, live.heard)).content == told.content

    on_loop(story)


def test_a_log_that_is_emptied_again_and_again_tells_all_text_in_the_end(redis_url: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def story() -> None:
        async with desk(redis_url) as at:
            live = Listener(redis_url, keys.message_channel(at.lease.message_id))
            at.publisher.status("thinking")
            for number in range(300):
                at.publisher.text(f"{number} ")
                await asyncio.sleep(chance.choice([0, 0.001, 0.003]))
                if chance.random() < 0.05:
                    at.client.flushdb()
                if chance.random() < 0.05:
                    await at.publisher.settle()
            at.publisher.text("end")
            await at.publisher.settle()
            assert at.check().content == "".join(f"{number} " for number in range(300)) + "end"
            live.until(lambda payload: events.peek(payload)[1] == at.publisher.last_id)
            live.close()
            check_trace(live.heard)

    on_loop(story)


# --- somebody else writes ---------------------------------------------------------------------------------------


def someone_elses(at: Desk, attempt: int) -> None:
    opening = Snapshot(
        id=f"{attempt}-0",
        message_id=str(at.lease.message_id),
        ts=1,
        content="",
        status="pending",
        tool_calls=(),
        reason="attempt",
    )
    entry = Entry(EventId(attempt, 0), events.encode(opening))
    assert event_log.EventLog(at.client).append(at.lease.message_id, [entry]).word == "ok"


def test_a_log_with_a_higher_attempt_is_written_above_it(redis_url: str) -> None:
    """The row had lost that attempt: the new one is asked for above the log's."""

    async def story() -> None:
        async with desk(redis_url) as at:
            at.publisher.status("thinking")
            at.publisher.text("Hello")
            await at.publisher.settle()
            someone_elses(at, 7)
            at.publisher.text(", world")
            await at.publisher.settle()
            assert at.renewals == [(1, 7)]
            assert at.publisher.lease.attempt == 8
            assert at.check().content == "Hello, world"

    on_loop(story)


def test_a_lease_that_is_lost_surfaces_where_the_publisher_is_settled(redis_url: str) -> None:
    """Nothing is appended from then on."""

    async def story() -> None:
        async with desk(redis_url) as at:
            at.publisher.status("thinking")
            await at.publisher.settle()
            someone_elses(at, 2)
            before = at.log()
            at.is_fenced = True
            at.publisher.text("stale")
            with pytest.raises(Fenced):
                await at.publisher.settle()
            assert isinstance(at.publisher.failure, Fenced)
            at.publisher.text("staler")
            with pytest.raises(Fenced):
                await at.publisher.settle()
            assert at.log() == before
            assert at.renewals == [(1, 2)]

    on_loop(story)


def test_without_a_lease_nothing_is_appended(redis_url: str) -> None:
    """It may be renewed again: then all of it is."""

    async def story() -> None:
        async with desk(redis_url) as at:
            at.publisher.status("thinking")
            at.publisher.text("a")
            await at.publisher.settle()
            before = at.log()
            at.holds_lease = False
            for piece in "bcd":
                at.publisher.text(piece)
                await asyncio.sleep(0.005)
            await at.publisher.settle()
            assert at.log() == before
            at.holds_lease = True
            await at.publisher.settle()
            assert at.check().content == "abcd"

    on_loop(story)


def test_after_settling_nothing_is_appended_until_the_next_call(redis_url: str) -> None:
    """The turn's own thread numbers the ending from there: a late append would take its place."""

    async def story() -> None:
        async with desk(redis_url, window_s=0.01) as at:
            at.publisher.status("thinking")
            for piece in "abc":
                at.publisher.text(piece)
            await at.publisher.settle()
            assert at.check().content == "abc"
            before = at.log()
            at.holds_lease = False
            at.publisher.text("d")
            at.publisher.text("e")
            await at.publisher.settle()
            at.holds_lease = True
            next_id = at.publisher.next_id
            await asyncio.sleep(0.2)  # many windows: what is not to happen can only be waited for
            assert at.log() == before
            assert at.publisher.next_id == next_id
            at.publisher.status("tool_calling")
            await at.publisher.settle()
            assert [event.id for event in at.log()[len(before) :]] == [str(next_id.before), str(next_id)]
            assert isinstance(at.log()[-1], Status)

    on_loop(story)


def test_a_new_attempt_takes_back_what_was_not_sent(redis_url: str) -> None:
    """Its snapshot stands for everything before it."""

    async def story() -> None:
        async with desk(redis_url) as at:
            at.publisher.status("thinking")
            at.publisher.text("bro")
            await at.publisher.settle()
            at.publisher.text("ken")
            lease = msgspec.structs.replace(at.lease, attempt=2)
            await at.publisher.settle()
            at.publisher.open_attempt(lease, content="", tool_calls=(), reason="attempt")
            at.publisher.status("thinking")
            at.publisher.start()
            at.publisher.text("whole")
            await at.publisher.settle()
            assert at.check().content == "whole"
            assert [event.id for event in at.log()[-3:]] == ["2-0", "2-1", "2-2"]

    on_loop(story)
