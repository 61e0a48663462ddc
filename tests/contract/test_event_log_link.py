"""The pipelined connection: replies in order, reconnects, and never a command twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import redis
import uvloop

from dev.embedded import EmbeddedValkey
from shared import event_log
from shared.redis_link import LinkDown, RedisLink, ReplyError

_WAIT_S = 15.0


@asynccontextmanager
async def _link(url: str, **options: Any) -> AsyncIterator[RedisLink]:
    link = RedisLink(url, **options)
    link.start()
    try:
        yield link
    finally:
        await link.close()


Story: TypeAlias = Callable[[], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Runs a story on an event loop of either kind."""
    factory = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[request.param]

    def on_the_loop(story: Story) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await story()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return on_the_loop


def test_replies_come_to_whoever_asked(run: Callable[[Story], None], redis_url: str) -> None:
    async def story() -> None:
        async with _link(redis_url) as link:
            assert await link.wait_up(_WAIT_S)
            replies = await asyncio.gather(*(link.send("ECHO", str(number)) for number in range(2000)))
            assert replies == [str(number).encode() for number in range(2000)]

    run(story)


@pytest.mark.parametrize("run", ["uvloop"], indirect=True)  # its writes are write(2), which the kernel counts
def test_many_commands_leave_together_and_are_answered_each(run: Callable[[Story], None], redis_url: str) -> None:
    """Each is sent in a turn of the loop of its own. After a pause one leaves alone, and at once."""

    async def stretch(link: RedisLink) -> int:
        """How many writes 500 commands took."""
        before, sent = _writes(), list[asyncio.Future[Any]]()
        for number in range(500):
            sent.append(link.send("ECHO", str(number)))
            await asyncio.sleep(0)
        assert await asyncio.gather(*sent) == [str(number).encode() for number in range(500)]
        return _writes() - before

    async def story() -> None:
        async with _link(redis_url, gather_s=0.005) as link:
            assert await link.wait_up(_WAIT_S)
            while await stretch(link) > 250:
                pass

    run(story)


def _writes() -> int:
    (line,) = (line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("syscw"))
    return int(line.split()[1])


def test_what_was_to_leave_together_and_did_not_is_never_sent(
    run: Callable[[Story], None], redis_url: str, redis_client: redis.Redis
) -> None:
    """Gathered for a connection that is cut: it fails, and the next connection brings none of it."""

    async def story() -> None:
        ups: asyncio.Queue[None] = asyncio.Queue()
        async with _link(redis_url, gather_s=600.0, on_up=lambda: ups.put_nowait(None)) as link:
            await ups.get()
            client_id = await link.send("CLIENT", "ID")
            sent: list[asyncio.Future[Any]] = []
            while not link._gathered:  # until it is busy, and keeps what it is given
                sent += [link.send("INCR", "contract:count") for _ in range(200)]
                await asyncio.wait(sent[: len(sent) - len(link._gathered)])
            counted = int(redis_client.get("contract:count") or 0)
            assert counted == sum(future.done() for future in sent)
            await asyncio.to_thread(redis_client.client_kill_filter, _id=client_id)
            await ups.get()
            kept = await asyncio.gather(*sent[counted:], return_exceptions=True)
            assert kept
            assert all(isinstance(outcome, LinkDown) for outcome in kept)
            assert await link.send("INCR", "contract:count") == counted + 1
            assert await link.send("EXPIRE", "contract:count", 60) == 1

    run(story)


def test_an_error_of_redis_s_is_that_command_s_alone(run: Callable[[Story], None], redis_url: str) -> None:
    async def story() -> None:
        async with _link(redis_url) as link:
            assert await link.wait_up(_WAIT_S)
            good, bad, also_good = link.send("ECHO", "1"), link.send("NO-SUCH-COMMAND"), link.send("ECHO", "2")
            assert await good == b"1"
            with pytest.raises(ReplyError):
                await bad
            assert await also_good == b"2"

    run(story)


def test_the_database_of_the_address_is_used(
    run: Callable[[Story], None], redis_url: str, redis_client: redis.Redis
) -> None:
    async def story() -> None:
        async with _link(redis_url) as link:
            assert await link.wait_up(_WAIT_S)
            await link.send("SET", "here", "é".encode(), "EX", 60)

    run(story)
    assert redis_client.get("here") == "é".encode()


def test_what_is_published_comes_as_a_push_between_the_replies(
    run: Callable[[Story], None], redis_url: str, redis_client: redis.Redis
) -> None:
    async def story() -> None:
        pushes: asyncio.Queue[list[Any]] = asyncio.Queue()
        async with _link(redis_url, on_push=pushes.put_nowait) as link:
            assert await link.wait_up(_WAIT_S)
            link.tell("SUBSCRIBE", "contract:a-channel")
            assert list(await pushes.get())[:2] == [b"subscribe", b"contract:a-channel"]
            assert await link.send("PUBLISH", "contract:a-channel", b"1") == 1
            redis_client.publish("contract:a-channel", b"2")
            assert await link.send("ECHO", "still replies") == b"still replies"
            assert list(await pushes.get()) == [b"message", b"contract:a-channel", b"1"]
            assert list(await pushes.get()) == [b"message", b"contract:a-channel", b"2"]

    run(story)


def test_before_it_is_up_and_after_it_is_closed_a_command_fails_at_once(
    run: Callable[[Story], None], redis_url: str
) -> None:
    async def story() -> None:
        link = RedisLink(redis_url)
        with pytest.raises(LinkDown):
            await link.send("PING")
        link.start()
        assert await link.wait_up(_WAIT_S)
        await link.close()
        assert not link.is_up
        with pytest.raises(LinkDown):
            await link.send("PING")

    run(story)


def test_where_redis_dies_what_is_outstanding_fails_and_the_link_comes_back(
    run: Callable[[Story], None], own_valkey: EmbeddedValkey
) -> None:
    """Both ends are told; nothing that was outstanding is sent again."""

    async def story() -> None:
        ups: asyncio.Queue[str] = asyncio.Queue()
        async with _link(
            own_valkey.url, on_up=lambda: ups.put_nowait("up"), on_down=lambda: ups.put_nowait("down")
        ) as link:
            assert await ups.get() == "up"
            assert await link.send("INCR", "count") == 1
            os.kill(own_valkey.pid, signal.SIGSTOP)
            outstanding = [link.send("INCR", "count") for _ in range(50)]
            await asyncio.to_thread(own_valkey.kill)
            results = await asyncio.gather(*outstanding, return_exceptions=True)
            assert all(isinstance(result, LinkDown) for result in results)
            assert await ups.get() == "down"
            assert not link.is_up
            with pytest.raises(LinkDown):
                await link.send("PING")
            await asyncio.to_thread(own_valkey.restart)
            assert await ups.get() == "up"
            assert await link.send("GET", "count") == b"1"

    run(story)


def test_a_redis_that_answers_no_more_is_given_up_and_found_again(
    run: Callable[[Story], None], own_valkey: EmbeddedValkey
) -> None:
    async def story() -> None:
        async with _link(own_valkey.url, reply_timeout_s=0.4, connect_timeout_s=0.4) as link:
            assert await link.wait_up(_WAIT_S)
            os.kill(own_valkey.pid, signal.SIGSTOP)
            try:
                with pytest.raises(LinkDown):
                    await link.send("PING")
                assert not link.is_up
            finally:
                os.kill(own_valkey.pid, signal.SIGCONT)
            assert await link.wait_up(_WAIT_S)
            assert await link.send("ECHO", "back") == b"back"

    run(story)


def test_a_quiet_link_notices_by_itself_that_redis_is_frozen(
    run: Callable[[Story], None], own_valkey: EmbeddedValkey
) -> None:
    """Without anybody asking: a relay only listens."""

    async def story() -> None:
        downs: asyncio.Queue[None] = asyncio.Queue()
        async with _link(
            own_valkey.url, reply_timeout_s=0.4, connect_timeout_s=0.4, on_down=lambda: downs.put_nowait(None)
        ) as link:
            assert await link.wait_up(_WAIT_S)
            os.kill(own_valkey.pid, signal.SIGSTOP)
            try:
                await downs.get()
            finally:
                os.kill(own_valkey.pid, signal.SIGCONT)
            assert await link.wait_up(_WAIT_S)

    run(story)


def test_a_connection_that_redis_cuts_is_opened_again(
    run: Callable[[Story], None], redis_url: str, redis_client: redis.Redis
) -> None:
    async def story() -> None:
        ups: asyncio.Queue[None] = asyncio.Queue()
        async with _link(redis_url, on_up=lambda: ups.put_nowait(None)) as link:
            for _ in range(3):
                await ups.get()
                client_id = await link.send("CLIENT", "ID")
                await asyncio.to_thread(redis_client.client_kill_filter, _id=client_id)
            await ups.get()
            assert await link.send("PING") == b"PONG"

    run(story)


def test_a_link_to_nobody_is_closed_without_ado(run: Callable[[Story], None], own_valkey: EmbeddedValkey) -> None:
    url = own_valkey.url
    own_valkey.kill()

    async def story() -> None:
        async with _link(url) as link:
            assert not await link.wait_up(0.2)
            assert not link.is_up

    run(story)


def test_a_reply_that_nobody_waits_for_any_more_does_not_shift_the_others(
    run: Callable[[Story], None], redis_url: str
) -> None:
    """A caller that was cancelled leaves its place in the queue of replies."""

    async def story() -> None:
        async with _link(redis_url) as link:
            assert await link.wait_up(_WAIT_S)
            futures = [link.send("ECHO", str(number)) for number in range(10)]
            futures[3].cancel()
            futures[7].cancel()
            kept = [future for number, future in enumerate(futures) if number not in (3, 7)]
            assert await asyncio.gather(*kept) == [str(n).encode() for n in range(10) if n not in (3, 7)]

    run(story)


def test_the_appender_s_client_sends_nothing_twice(own_valkey: EmbeddedValkey) -> None:
    """A write whose reply was lost is not repeated behind the caller's back."""
    client = event_log.connect(own_valkey.url, timeout_s=0.4)
    client.incr("count")
    os.kill(own_valkey.pid, signal.SIGSTOP)
    with pytest.raises(redis.TimeoutError):
        client.incr("count")
    os.kill(own_valkey.pid, signal.SIGCONT)
    assert client.get("count") in (b"1", b"2")
    client.close()


def test_a_server_that_became_a_replica_is_left(run: Callable[[Story], None], own_valkey: EmbeddedValkey) -> None:
    """A failover behind one name: whoever connects again is led to the new master. What was asked is not sent twice."""

    async def story() -> None:
        ups: asyncio.Queue[None] = asyncio.Queue()
        async with _link(own_valkey.url, on_up=lambda: ups.put_nowait(None)) as link:
            await ups.get()
            await link.send("REPLICAOF", "127.0.0.1", "1")
            refused, outstanding = link.send("SET", "here", "1"), link.send("PING")
            with pytest.raises(ReplyError, match="READONLY"):
                await refused
            with pytest.raises(LinkDown):
                await outstanding
            await ups.get()
            await link.send("REPLICAOF", "NO", "ONE")

    run(story)


def test_the_blocking_client_leaves_a_server_that_became_a_replica(own_valkey: EmbeddedValkey) -> None:
    client: Any = event_log.connect(own_valkey.url)
    before = client.client_id()
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(redis.ConnectionError, match="replica"):
        client.set("here", "1")
    assert client.client_id() != before
    client.execute_command("REPLICAOF", "NO", "ONE")
    client.close()
