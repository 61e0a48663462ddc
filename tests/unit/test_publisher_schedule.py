"""Text that a publisher was given leaves by itself, in whichever turn of the loop it came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID, uuid4

import pytest

from shared import events
from shared.errors import Fenced
from shared.event_log import Answer, Entry, LoopEventLog, OnAnswer, Publication, Word
from shared.events import Delta
from shared.records import Lease
from shared.redis_link import RedisLink
from worker.publisher import Publisher


class Notebook(LoopEventLog):
    """A log that takes everything, a turn of the loop later, and says when it has had some text."""

    def __init__(self) -> None:
        super().__init__(RedisLink("redis://unused"))
        self.text = ""
        self.changed = asyncio.Event()

    def append(
        self, message_id: UUID | str, entries: Sequence[Entry], also: Iterable[Publication], on_answer: OnAnswer
    ) -> None:
        def take() -> None:
            for entry in entries:
                event = events.decode(entry.payload)
                if isinstance(event, Delta):
                    self.text += event.content
            self.changed.set()
            on_answer(Answer(Word.OK, entries[-1].id))

        asyncio.get_running_loop().call_soon(take)


class Slow(Notebook):
    """Answers when it is told to."""

    answer: Callable[[], object]

    def append(
        self, message_id: UUID | str, entries: Sequence[Entry], also: Iterable[Publication], on_answer: OnAnswer
    ) -> None:
        self.answer = lambda: on_answer(Answer(Word.OK, entries[-1].id))


def _publisher(log: LoopEventLog, *, window_s: float) -> Publisher:
    async def renew(lease: Lease, above: int) -> Lease:
        raise AssertionError("nothing was lost")

    return Publisher(
        log,
        Lease(message_id=uuid4(), project_id=uuid4(), owner="worker", attempt=1, run=1),
        renew=renew,
        may_append=lambda: True,
        window_s=window_s,
        content="",
        tool_calls=(),
    )


@pytest.mark.parametrize("window_s", [0.0, 0.0004, 0.001])
@pytest.mark.parametrize("turns", range(12))
def test_a_piece_that_comes_as_an_append_ends_does_not_wait_for_the_next_piece(turns: int, window_s: float) -> None:
    """Neither just before nor just after the sender has looked for more."""

    async def story() -> None:
        log = Notebook()
        publisher = _publisher(log, window_s=window_s)
        publisher.text("a")
        for _ in range(turns):
            await asyncio.sleep(0)
        publisher.text("b")
        async with asyncio.timeout(20):
            while log.text != "ab":
                log.changed.clear()
                await log.changed.wait()

    asyncio.run(story())


def test_an_error_on_the_way_out_ends_the_turn_and_leaves_nobody_waiting() -> None:
    """Neither who waits for all to arrive, nor who closes, also where both do."""

    class Broken(Notebook):
        def append(self, *_: object) -> None:
            raise RuntimeError("unforeseen")

    async def story() -> None:
        publisher = _publisher(Broken(), window_s=0.0)
        publisher.text("a")
        async with asyncio.timeout(20):
            with pytest.raises(RuntimeError, match="unforeseen"):
                await publisher.settle()
            await publisher.close()

    asyncio.run(story())


def test_two_who_wait_for_the_same_append_both_go_on() -> None:
    async def story() -> None:
        log = Slow()
        publisher = _publisher(log, window_s=0.0)
        publisher.text("a")
        closing, settling = asyncio.create_task(publisher.close()), asyncio.create_task(publisher.settle())
        asyncio.get_running_loop().call_soon(log.answer)  # behind their first steps: both wait by then
        async with asyncio.timeout(20):
            await closing
            with pytest.raises(Fenced):
                await settling

    asyncio.run(story())
