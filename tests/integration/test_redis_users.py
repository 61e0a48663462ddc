"""The users of `ops/redis/users.conf`: operators may look and nothing else, the application may do what it does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis

from api.rates import InRedis, Rate
from dev.scripted_model.control import ScriptedModel
from shared import event_log, keys, ops_feed
from tests.integration.worker_parts import opened_bench
from tests.rights import OPERATOR, WEB, WORKER, Valkey, as_admin, redis_as
from worker.turn import run_turn


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey.start() as started:
        yield started


def connected(server: Valkey, user: str) -> AbstractContextManager[redis.Redis]:
    return event_log.connect(redis_as(user, server.url))


@pytest.fixture
def operator(server: Valkey) -> Iterator[redis.Redis]:
    with connected(server, OPERATOR) as client:
        yield client


def asked(client: redis.Redis, *command: str | int) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's


LOG = keys.log(uuid.UUID(int=1))
ALLOWED: list[tuple[str | int, ...]] = [("XRANGE", LOG, "-", "+"), ("XREVRANGE", LOG, "+", "-"), ("PING",), ("ROLE",)]
FORBIDDEN: list[tuple[str | int, ...]] = [
    ("PUBLISH", keys.OPS, "x"),
    ("PUBLISH", keys.CONTROL, "x"),
    ("SPUBLISH", keys.OPS, "x"),
    ("XADD", LOG, "*", "e", "x"),
    ("DEL", LOG),
    ("UNLINK", LOG),
    ("EXPIRE", LOG, 1),
    ("XTRIM", LOG, "MAXLEN", 0),
    ("LPUSH", keys.INTERACTIVE_QUEUE, "x"),
    ("BRPOP", keys.INTERACTIVE_QUEUE, 1),
    ("LRANGE", keys.INTERACTIVE_QUEUE, 0, -1),
    ("XRANGE", "something:else", "-", "+"),
    ("SET", "x", "y"),
    ("GET", "x"),
    ("EVAL", "return 1", 0),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "x", "on"),
    ("CLIENT", "KILL", "TYPE", "pubsub"),
    ("CLIENT", "PAUSE", 1),
    ("CLIENT", "LIST"),
    ("MONITOR",),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("SWAPDB", 0, 1),
    ("SHUTDOWN", "NOSAVE"),
    ("SAVE",),
    ("REPLICAOF", "NO", "ONE"),
]


def test_an_operator_may_listen_and_read_logs(server: Valkey, operator: redis.Redis) -> None:
    """Every channel of ours, by name and by pattern."""
    for command in ALLOWED:
        asked(operator, *command)
    with operator.pubsub() as subscription:  # type: ignore[no-untyped-call]  # redis-py's
        subscription.psubscribe("chatrelay:*")
        subscription.subscribe(keys.OPS, keys.message_channel(uuid.UUID(int=1)))
        assert [subscription.get_message(timeout=10) is not None for _ in range(3)] == [True] * 3
    assert ops_feed.check(redis_as(OPERATOR, server.url))


@pytest.mark.parametrize("command", FORBIDDEN, ids=lambda command: " ".join(map(str, command[:2])))
def test_an_operator_may_do_nothing_else(operator: redis.Redis, command: tuple[str | int, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        asked(operator, *command)


def test_an_operator_may_not_listen_to_others(operator: redis.Redis) -> None:
    with operator.pubsub() as subscription:  # type: ignore[no-untyped-call]  # redis-py's
        subscription.psubscribe("*")
        with pytest.raises(redis.exceptions.NoPermissionError):
            subscription.get_message(timeout=10)


def test_with_a_wrong_password_the_reason_is_said(server: Valkey) -> None:
    with pytest.raises(ops_feed.Refused, match="username-password"):
        ops_feed.check(f"redis://{OPERATOR}:wrong@127.0.0.1:{server.port}/0")


PRODUCTS: list[tuple[str | int, ...]] = [
    ("SET", keys.log(uuid.UUID(int=1)), "x"),
    ("XADD", "something:else", "*", "e", "x"),
    ("LPUSH", "something.else", "x"),
    ("PUBLISH", "something:else", "x"),
    ("SUBSCRIBE", "something:else"),
    ("PSUBSCRIBE", "*"),
    ("EVAL", "return redis.call('FLUSHALL')", 0),
    ("EVAL", "return redis.call('DEL', KEYS[1])", 1, "something:else"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LOAD", "x"),
    ("KEYS", "*"),
    ("SCAN", 0),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", WEB, "allcommands"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "LIST"),
    ("MONITOR",),
    ("MODULE", "LIST"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", 1),
]
"""What no process of the product may do."""
WORKERS_ALONE: list[tuple[str | int, ...]] = [
    ("BRPOP", keys.INTERACTIVE_QUEUE, 1),
    ("DEL", LOG),
    ("TTL", LOG),
    ("INFO",),
]


@pytest.mark.parametrize("user", [WEB, WORKER])
def test_a_process_may_do_nothing_beside_its_work(server: Valkey, user: str) -> None:
    """Neither configure nor empty, list, watch or end what others do; no names of others."""
    with connected(server, user) as client:
        for command in PRODUCTS:
            with pytest.raises(redis.exceptions.ResponseError, match="permission"):
                asked(client, *command)


def test_a_web_process_answers_no_bell_and_takes_no_log_away(server: Valkey) -> None:
    with connected(server, WEB) as web, connected(server, WORKER) as worker:
        for command in WORKERS_ALONE:
            with pytest.raises(redis.exceptions.NoPermissionError):
                asked(web, *command)
            asked(worker, *command)


def test_a_web_process_counts_requests(server: Valkey) -> None:
    """Up to the limit, and asks when there is room again."""
    shared = InRedis(redis_as(WEB, server.url), deadline_s=30)
    assert [shared.take(Rate.USER, "anna", 5, 10) for _ in range(2)] == [0.0, 0.0]
    assert shared.take(Rate.USER, "anna", 5, 10) > 0
    shared.close()


def test_a_message_is_answered_by_an_application_that_may_do_no_more(
    server: Valkey, database_url: str, scripted: ScriptedModel
) -> None:
    """Bell, claim, appends, publications, replay; and not one refusal."""
    with connected(server, WORKER) as client, event_log.connect(as_admin(server.url)) as admin:
        asked(admin, "ACL", "LOG", "RESET")
        with opened_bench(database_url=database_url, redis_url=redis_as(WORKER, server.url), model=scripted) as bench:
            workshop = bench.workshop()
            bench.model.say("go", {"text": "a few words of an answer", "chunks": 4})
            message_id = bench.ask()
            assert bench.doorbell.ring(message_id)
            assert bench.bells() == 1
            listener = bench.listen(message_id)
            run_turn(workshop, message_id)
            listener.until_kind("finalized")
            bench.check(message_id)
        assert server.refused() == []
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()
        assert server.refused() == [f"{WORKER}: command flushall"]
