"""The users of `ops/redis/users.conf`: operators may look and nothing else, the application may do what it does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from dev.child import Command
from dev.embedded import EmbeddedValkey
from dev.scripted_model import control
from dev.scripted_model.control import ScriptedModel
from shared import event_log, keys, ops_feed
from tests.integration.worker_parts import opened_bench
from worker.turn import run_turn

USERS = Path(__file__).parents[2] / "ops" / "redis" / "users.conf"


class WithUsers(EmbeddedValkey):
    """A server that includes the file as it is shipped; its default user may still do all."""

    def command(self) -> Command:
        made = super().command()
        return Command(argv=[*made.argv, "--include", str(USERS)], cwd=made.cwd, death_signal=made.death_signal)

    def url_of(self, user: str, password: str) -> str:
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"


@pytest.fixture(scope="module")
def server() -> Iterator[WithUsers]:
    with WithUsers.start() as started:
        yield started


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedModel]:
    with control.running(pace="full") as model:
        yield model


@pytest.fixture
def operator(server: WithUsers) -> Iterator[redis.Redis]:
    client = event_log.connect(server.url_of("chatrelay-operator", "CHANGE-ME-OPERATOR"))
    yield client
    client.close()


def asked(client: redis.Redis, *command: str | int) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's


LOG = keys.log(uuid.UUID(int=1))
ALLOWED: list[tuple[str | int, ...]] = [("XRANGE", LOG, "-", "+"), ("XREVRANGE", LOG, "+", "-"), ("PING",)]
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


def test_an_operator_may_listen_and_read_logs(server: WithUsers, operator: redis.Redis) -> None:
    """Every channel of ours, by name and by pattern."""
    for command in ALLOWED:
        asked(operator, *command)
    with operator.pubsub() as subscription:  # type: ignore[no-untyped-call]  # redis-py's
        subscription.psubscribe("chatrelay:*")
        subscription.subscribe(keys.OPS, keys.message_channel(uuid.UUID(int=1)))
        assert [subscription.get_message(timeout=10) is not None for _ in range(3)] == [True] * 3
    assert ops_feed.check(server.url_of("chatrelay-operator", "CHANGE-ME-OPERATOR"))


@pytest.mark.parametrize("command", FORBIDDEN, ids=lambda command: " ".join(map(str, command[:2])))
def test_an_operator_may_do_nothing_else(operator: redis.Redis, command: tuple[str | int, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        asked(operator, *command)


def test_an_operator_may_not_listen_to_others(operator: redis.Redis) -> None:
    with operator.pubsub() as subscription:  # type: ignore[no-untyped-call]  # redis-py's
        subscription.psubscribe("*")
        with pytest.raises(redis.exceptions.NoPermissionError):
            subscription.get_message(timeout=10)


def test_with_a_wrong_password_the_reason_is_said(server: WithUsers) -> None:
    with pytest.raises(ops_feed.Refused, match="username-password"):
        ops_feed.check(server.url_of("chatrelay-operator", "wrong"))


def test_a_message_is_answered_by_an_application_that_may_do_no_more(
    server: WithUsers, database_url: str, scripted: ScriptedModel
) -> None:
    """Bell, claim, appends, publications, replay; and not one refusal."""
    url = server.url_of("chatrelay", "CHANGE-ME-APPLICATION")
    with opened_bench(database_url=database_url, redis_url=url, model=scripted) as bench:
        workshop = bench.workshop()
        bench.model.say("go", {"text": "a few words of an answer", "chunks": 4})
        message_id = bench.ask()
        assert bench.doorbell.ring(message_id)
        assert bench.bells() == 1
        listener = bench.listen(message_id)
        run_turn(workshop, message_id)
        listener.until_kind("finalized")
        bench.check(message_id)
        with pytest.raises(redis.exceptions.NoPermissionError):
            bench.client.flushall()
    admin = event_log.connect(server.url)
    denied = [entry[b"object"] for entry in asked(admin, "ACL", "LOG") if entry[b"username"] == b"chatrelay"]
    admin.close()
    assert denied == [b"flushall"]
