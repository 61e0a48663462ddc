"""What an operator asks of Redis: what it is, how it is set, and whether this user may do what the processes do.

The rights are found out by doing, on names of their own that are gone at once: who may not ask for the rights can still have
them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import msgspec
import redis

from shared import event_log, keys
from shared.errors import LogUnavailable
from shared.event_log import Entry, EventLog
from shared.events import EventId, Status, encode

_CUT_OFF: Final = (redis.ConnectionError, redis.TimeoutError, OSError)
_PROBE_S: Final = 10


class RedisHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What is not known, since the user may not ask, is None."""

    name: str
    """``Redis`` or ``Valkey``."""
    version: str | None
    is_cluster: bool
    max_memory: int | None
    """Bytes; 0 is no limit."""
    used_memory: int | None
    policy: str | None
    """``maxmemory-policy``."""
    persists: bool | None
    clock_ahead_s: float | None
    """Of this machine's."""
    refused: tuple[str, ...]
    """What the processes do and this user may not, with Redis's own words."""


def look(url: str) -> RedisHealth:
    """Raises `LogUnavailable`; `ValueError` where the address is none."""
    client = event_log.connect(url)
    try:
        client.ping()
        info = _asked(lambda: client.info())
        clock = _asked(lambda: _clock_ahead_s(client))
        policy = info.get("maxmemory_policy")
        return RedisHealth(
            name="Valkey" if info.get("server_name") == "valkey" or "valkey_version" in info else "Redis",
            version=_text(info.get("valkey_version") or info.get("redis_version")),
            is_cluster=bool(info.get("cluster_enabled")),
            max_memory=info.get("maxmemory"),
            used_memory=info.get("used_memory"),
            policy=_text(policy),
            persists=_persists(client, info),
            clock_ahead_s=clock if isinstance(clock, float) else None,
            refused=_refused(client),
        )
    except (*_CUT_OFF, redis.ResponseError) as error:
        raise LogUnavailable from error
    finally:
        client.close()


def _asked(ask: Callable[[], Any]) -> Any:
    """An empty answer where the user may not ask."""
    try:
        return ask()
    except redis.ResponseError:
        return {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _clock_ahead_s(client: redis.Redis) -> float:
    before = time.time()
    answer: Any = client.time()
    seconds, microseconds = answer
    return float(seconds + microseconds / 1e6 - (before + time.time()) / 2)


def _persists(client: redis.Redis, info: dict[str, Any]) -> bool | None:
    if info.get("aof_enabled"):
        return True
    configured = _asked(lambda: client.config_get("save"))
    return bool(configured["save"]) if "save" in configured else None


def _refused(client: redis.Redis) -> tuple[str, ...]:
    message_id = str(uuid.uuid4())
    queue = f"{keys.INTERACTIVE_QUEUE}.probe.{message_id}"
    id_ = EventId(1, 0)
    entry = Entry(id_, encode(Status(id=str(id_), message_id=message_id, ts=1, status="thinking")))
    log = EventLog(client, retention_s=_PROBE_S)

    def listen() -> None:
        pubsub = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py's
        try:
            pubsub.subscribe(keys.message_channel(message_id))
            pubsub.get_message(timeout=2.0)
            pubsub.unsubscribe()
        finally:
            pubsub.close()

    def ring() -> None:
        client.lpush(queue, b"probe")
        client.expire(queue, _PROBE_S)
        client.brpop([queue], timeout=1)

    probes: tuple[tuple[str, Callable[[], object]], ...] = (
        ("append to a log by a script", lambda: log.append(message_id, [entry])),
        ("read a log", lambda: log.replay(message_id)),
        ("take a log away", lambda: log.forget(message_id)),
        ("publish", lambda: client.publish(keys.message_channel(message_id), b"{}")),
        ("subscribe", listen),
        ("ring and answer bells", ring),
    )
    refused = []
    for name, probe in probes:
        try:
            probe()
        except (redis.ResponseError, LogUnavailable) as error:
            cause = error.__cause__ if isinstance(error, LogUnavailable) else error
            if isinstance(cause, _CUT_OFF) and not isinstance(cause, redis.AuthenticationError):
                raise
            refused.append(f"{name} ({cause})")
    return tuple(refused)
