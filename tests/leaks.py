"""What a test left behind: threads, open transactions, Redis keys that never expire, subscriptions."""

from __future__ import annotations

import fnmatch
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from sqlalchemy import text

from shared.engine import make_engine

_GRACE_S: Final = 3.0
"""What was asked to end may take so long to be gone."""
_POLL_S: Final = 0.02

_THREADS_THAT_STAY: Final = {
    "output of *": "reads the output of a process that the session keeps running",
    "end of *": "waits for the end of a process that the session keeps running",
    "ThreadPoolExecutor-*": "an executor's, kept by the interpreter until its exit",
    "asyncio_*": "the default executor of an event loop, for names that are resolved",
    "pytest_timeout *": "the test's own alarm",
}
"""Names of threads that may outlive a test, and why."""

_KEYS_THAT_STAY: Final = {
    "chatrelay.*": "a Celery queue: bells that nobody has answered",
    "_kombu*": "Celery's bindings of its queues",
}
"""Names of keys without an expiry, and why."""


class Leak(AssertionError):
    """A test left something behind."""


@contextmanager
def thread_leaks_reported() -> Iterator[None]:
    """Raises `Leak` where threads that were started within still run a while after."""
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + _GRACE_S
    for thread in threading.enumerate():
        if thread not in before and thread is not threading.current_thread() and not _stays(thread):
            thread.join(max(0.0, deadline_s - time.monotonic()))
    left = [
        thread.name
        for thread in threading.enumerate()
        if thread not in before and thread is not threading.current_thread() and not _stays(thread)
    ]
    if left:
        raise Leak(f"threads left behind: {', '.join(left)}")


def _stays(thread: threading.Thread) -> bool:
    return any(fnmatch.fnmatch(thread.name, pattern) for pattern in _THREADS_THAT_STAY)


def check_no_open_transaction(database_url: str) -> None:
    """Raises `Leak` where a session of the database goes on idling inside a transaction."""
    engine = make_engine(database_url, pool_size=1, application="leak-detector")
    query = text(
        "SELECT application_name || ': ' || query FROM pg_stat_activity WHERE datname = current_database() "
        "AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
    )

    def idling() -> list[str]:
        with engine.connect() as connection:
            return list(connection.execute(query).scalars())

    try:
        _check(idling, "transactions left open")
    finally:
        engine.dispose()


def check_no_lasting_key(client: redis.Redis) -> None:
    """Raises `Leak` where the client's database has a key that never expires and isn't a queue's."""

    def lasting() -> list[str]:
        names: list[str] = [name.decode() for name in client.scan_iter(count=1000)]
        return [
            name
            for name in names
            if not any(fnmatch.fnmatch(name, pattern) for pattern in _KEYS_THAT_STAY) and client.ttl(name) == -1
        ]

    _check(lasting, "Redis keys that never expire")


def check_no_subscription(client: redis.Redis, database: int) -> None:
    """Raises `Leak` where a connection on this database goes on being subscribed to something."""

    def subscribed() -> list[str]:
        clients: list[dict[str, Any]] = client.client_list()
        return [
            f"{one['name'] or one['addr']} ({one['sub']} channels, {one['psub']} patterns)"
            for one in clients
            if int(one["db"]) == database and (int(one["sub"]) or int(one["psub"]))
        ]

    _check(subscribed, "subscriptions left")


def _check(find: Callable[[], list[str]], what: str) -> None:
    deadline_s = time.monotonic() + _GRACE_S
    while found := find():
        if time.monotonic() > deadline_s:
            raise Leak(f"{what}: {', '.join(found)}")
        time.sleep(_POLL_S)
