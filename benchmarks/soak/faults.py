"""What is done to the processes while people use them, one fault after the other and sometimes two at once.

Each kind is a function that hurts something and returns how it is healed, or None where there is nothing to hurt just now. A
fault occupies what it hurts (a process, ``postgres``, ``redis``) until it is healed, so that no two mend each other.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from sqlalchemy.exc import SQLAlchemyError

from dev.embedded import EmbeddedPostgres, EmbeddedValkey
from shared import keys
from tests.stack import Stack

STOP_MOST_S: Final = 40.0
"""A process that was asked to end and has not ended after so long is a finding."""
_TWO_AT_ONCE: Final = 0.25
"""How often the next fault does not wait for the one before to be healed."""
_LOOK_S: Final = 0.1
_RESTART_S: Final = 1.0
_LAST_LINES: Final = 15
_BELLS: Final = (keys.INTERACTIVE_QUEUE, keys.BUILDS_QUEUE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hurt:
    """A fault that lasts. `heal` answers whether it is healed, or is to be asked again."""

    what: str
    """What it occupies."""
    for_s: float
    heal: Callable[[], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """A worker that was killed: when, by the clock of the events, and the attempts of the messages that it held."""

    at_ms: int
    held: dict[str, int]


@dataclass(kw_only=True, slots=True)
class _Active:
    kind: str
    hurt: Hurt
    until_s: float


class Arena:
    """A stack, what is hurt of it just now, and chance."""

    def __init__(self, stack: Stack, random_: random.Random, *, lease_s: float) -> None:
        assert stack.postgres is not None
        assert stack.valkey is not None
        self.stack = stack
        self.random = random_
        self.lease_s = lease_s
        self.postgres: EmbeddedPostgres = stack.postgres
        self.valkey: EmbeddedValkey = stack.valkey
        self.occupied: set[str] = set()
        self.kills: list[Kill] = []
        self.problems: list[str] = []

    def free(self, *prefixes: str) -> str | None:
        """The name of a process that nothing is done to."""
        names = [
            name
            for name in self.stack.names
            if name.startswith(prefixes) and name not in self.occupied and self.stack.is_running(name)
        ]
        return self.random.choice(names) if names else None

    def is_free(self, what: str) -> bool:
        return what not in self.occupied

    def held_by(self, name: str) -> dict[str, int]:
        """The messages on which a process has a lease, and their attempts; none where Postgres cannot be asked."""
        if not self.is_free("postgres"):
            return {}
        try:
            held = self.stack.sql(
                "SELECT id, attempt FROM messages WHERE lease_owner LIKE :owner", owner=f"%-{self.stack.pid(name)}-%"
            )
        except SQLAlchemyError:
            return {}
        return {str(row.id): row.attempt for row in held}


Fault = Callable[[Arena], Hurt | None]


def _kill(arena: Arena) -> Hurt | None:
    """kill -9 of a process."""
    if (name := arena.free("worker", "web", "sweeper", "builder")) is None:
        return None
    held = arena.held_by(name) if name.startswith("worker") else {}
    at_ms = time.time_ns() // 1_000_000
    arena.stack.kill(name)
    if held:
        arena.kills.append(Kill(at_ms=at_ms, held=held))
    return Hurt(what=name, for_s=arena.random.uniform(0.0, arena.lease_s), heal=lambda: _start(arena, name))


def _term(arena: Arena) -> Hurt | None:
    """SIGTERM, as a deploy does."""
    if (name := arena.free("worker", "web", "sweeper", "builder")) is None:
        return None
    arena.stack.kill(name, signal.SIGTERM)
    give_up_s = time.monotonic() + STOP_MOST_S

    def heal() -> bool:
        if arena.stack.is_running(name):
            if time.monotonic() < give_up_s:
                return False
            arena.problems.append(f"{name} did not end within {STOP_MOST_S:g} s of SIGTERM")
            arena.stack.kill(name)
        return _start(arena, name)

    return Hurt(what=name, for_s=0.0, heal=heal)


def _stop(arena: Arena) -> Hurt | None:
    """SIGSTOP until past the lease, then SIGCONT: a zombie that knows nothing."""
    if (name := arena.free("worker", "web", "sweeper", "builder")) is None:
        return None
    group = arena.stack.pid(name)
    os.killpg(group, signal.SIGSTOP)

    def heal() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
        return True

    return Hurt(what=name, for_s=arena.lease_s * arena.random.uniform(1.1, 1.8), heal=heal)


def _flush(arena: Arena) -> Hurt | None:
    """FLUSHALL: logs, bells, all of it."""
    if not arena.is_free("redis"):
        return None
    arena.stack.redis.flushall()
    return _over("redis")


def _clients(arena: Arena) -> Hurt | None:
    """CLIENT KILL of subscriptions, of other connections, or of both."""
    if not arena.is_free("redis"):
        return None
    for kind in arena.random.choice((("pubsub",), ("normal",), ("normal", "pubsub"))):
        arena.stack.redis.client_kill_filter(_type=kind, skipme=True)
    return _over("redis")


def _pause(arena: Arena) -> Hurt | None:
    """CLIENT PAUSE: Redis accepts commands and answers none."""
    if not arena.is_free("redis"):
        return None
    for_s = arena.random.uniform(0.5, 4.0)
    arena.stack.redis.client_pause(round(for_s * 1000), all=True)
    return Hurt(what="redis", for_s=for_s, heal=lambda: True)


def _memory(arena: Arena) -> Hurt | None:
    """maxmemory below what is used: writes are refused, or keys evicted."""
    if not arena.is_free("redis"):
        return None
    client = arena.stack.redis
    policy = arena.random.choice(("noeviction", "volatile-ttl", "allkeys-random"))
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory-policy", policy)
    client.config_set("maxmemory", max(1, used - arena.random.choice((0, 200_000))))

    def heal() -> bool:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
        return True

    return Hurt(what="redis", for_s=arena.random.uniform(0.5, 3.0), heal=heal)


def _valkey(arena: Arena) -> Hurt | None:
    """kill -9 of Redis, which comes back with its append-only file."""
    return _valkey_dies(arena, keeps_its_data=True)


def _valkey_empty(arena: Arena) -> Hurt | None:
    """kill -9 of Redis, which comes back with nothing."""
    return _valkey_dies(arena, keeps_its_data=False)


def _valkey_dies(arena: Arena, *, keeps_its_data: bool) -> Hurt | None:
    if not arena.is_free("redis"):
        return None
    arena.valkey.kill()

    def heal() -> bool:
        if not keeps_its_data:
            arena.valkey.forget()
        arena.valkey.restart()
        return True

    return Hurt(what="redis", for_s=arena.random.uniform(0.0, 3.0), heal=heal)


def _bells(arena: Arena) -> Hurt | None:
    """Bells taken out of Celery's queues, or doubled in them."""
    if not arena.is_free("redis"):
        return None
    loses = arena.random.random() < 0.5
    for queue in _BELLS:
        if loses:
            arena.stack.redis.delete(queue)
        elif bells := arena.stack.redis.lrange(queue, 0, -1):
            arena.stack.redis.rpush(queue, *bells)
    return _over("redis")


def _backends(arena: Arena) -> Hurt | None:
    """Postgres's backends terminated: all of them, or each with a chance."""
    if not arena.is_free("postgres"):
        return None
    share = arena.random.choice((0.3, 1.0))
    arena.stack.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < :share",
        share=share,
    )
    return _over("postgres")


def _postgres(arena: Arena) -> Hurt | None:
    """kill -9 of Postgres, which comes back with what it had committed."""
    if not arena.is_free("postgres"):
        return None
    arena.postgres.kill()

    def heal() -> bool:
        arena.postgres.restart()
        return True

    return Hurt(what="postgres", for_s=arena.random.uniform(0.0, arena.lease_s * 1.2), heal=heal)


def _postgres_stop(arena: Arena) -> Hurt | None:
    """SIGSTOP of Postgres and all of its backends, then SIGCONT: connections stay, and answer nothing."""
    if not arena.is_free("postgres"):
        return None
    stopped = _stopped_tree(arena.postgres.pid)

    def heal() -> bool:
        for pid in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return True

    return Hurt(what="postgres", for_s=arena.random.uniform(0.5, arena.lease_s * 1.5), heal=heal)


def _model(arena: Arena) -> Hurt | None:
    """kill -9 of the model's provider."""
    if (name := arena.free("model")) is None:
        return None
    arena.stack.kill(name)
    return Hurt(what=name, for_s=arena.random.uniform(0.0, 1.0), heal=lambda: _start(arena, name))


KINDS: Final[Mapping[str, Fault]] = {
    "kill": _kill,
    "term": _term,
    "stop": _stop,
    "flush": _flush,
    "clients": _clients,
    "pause": _pause,
    "memory": _memory,
    "valkey": _valkey,
    "valkey-empty": _valkey_empty,
    "bells": _bells,
    "backends": _backends,
    "postgres": _postgres,
    "postgres-stop": _postgres_stop,
    "model": _model,
}
_STOPPING: Final = frozenset({"stop", "postgres-stop"})
_WEIGHTS: Final = {"kill": 4, "term": 2, "stop": 2}


def _over(what: str) -> Hurt:
    return Hurt(what=what, for_s=0.0, heal=lambda: True)


def _start(arena: Arena, name: str) -> bool:
    arena.stack.start_again(name)
    return True


def _stopped_tree(pid: int) -> list[int]:
    """A process and its children, stopped, the parent first: Postgres's backends lead groups of their own."""
    os.kill(pid, signal.SIGSTOP)
    stopped = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(entry) == pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGSTOP)
                stopped.append(int(entry.name))
    return stopped


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


class Conductor:
    """Lets faults happen, by the seed: every kind once before any comes twice, with pauses between them."""

    def __init__(
        self, stack: Stack, kinds: Sequence[str], *, seed: int, lease_s: float, pause_s: tuple[float, float]
    ) -> None:
        self.arena = Arena(stack, random.Random(f"{seed}-faults"), lease_s=lease_s)
        self.done: Counter[str] = Counter()
        self.ended_by_themselves: Counter[str] = Counter()
        self.last_words: dict[str, str] = {}
        """What each of those wrote before its newest end."""
        self._starts_again_at_s: dict[str, float] = {}
        self._kinds = list(kinds)
        self._pause_s = pause_s
        self._active: list[_Active] = []
        self._order = self._kinds_in_order()
        self._next_at_s = time.monotonic()

    @property
    def is_through(self) -> bool:
        """Whether every kind has happened."""
        return len(self.done) == len(self._kinds)

    def turn(self) -> None:
        """Heals what is due, starts what died, hurts what comes next; to be called again and again, never late."""
        now_s = time.monotonic()
        for active in [one for one in self._active if one.until_s <= now_s]:
            self._heal(active)
        self._start_what_died()
        if self._kinds and now_s >= self._next_at_s:
            self._hurt(next(self._order))
            together = self.arena.random.random() < _TWO_AT_ONCE
            waits_s = 0.0 if together else max((one.until_s - now_s for one in self._active), default=0.0)
            self._next_at_s = now_s + waits_s + self.arena.random.uniform(*self._pause_s)

    def wait(self) -> None:
        """Until the next turn is due, or for a moment."""
        due_s = min((one.until_s for one in self._active), default=self._next_at_s)
        time.sleep(min(_LOOK_S, max(0.01, due_s - time.monotonic())))

    def heal_all(self) -> None:
        """Everything runs and is ready on return."""
        while self._active:
            for active in list(self._active):
                self._heal(active)
            time.sleep(_LOOK_S / 10)
        stack = self.arena.stack
        stack.store.close()  # its connections died with the server
        self._start_what_died()
        stack.wait_ready(*stack.names)

    def wake_all(self) -> None:
        """Nothing stays stopped: what is stopped cannot be asked to end."""
        for active in self._active:
            if active.kind in _STOPPING:
                active.hurt.heal()

    def _hurt(self, kind: str) -> None:
        try:
            hurt = KINDS[kind](self.arena)
        except (redis.RedisError, SQLAlchemyError):
            return  # what was to be hurt is not in a state to be
        if hurt is not None:
            self.done[kind] += 1
            self.arena.occupied.add(hurt.what)
            self._active.append(_Active(kind=kind, hurt=hurt, until_s=time.monotonic() + hurt.for_s))

    def _heal(self, active: _Active) -> None:
        with contextlib.suppress(redis.RedisError):  # a connection that died in the fault before: again, on a new one
            if active.hurt.heal():
                self._active.remove(active)
                self.arena.occupied.discard(active.hurt.what)

    def _start_what_died(self) -> None:
        """As whoever runs the processes does: what ended and was not to is started again."""
        stack, now_s = self.arena.stack, time.monotonic()
        for name in stack.names:
            if name in self.arena.occupied or stack.is_running(name) or now_s < self._starts_again_at_s.get(name, 0.0):
                continue
            self.ended_by_themselves[name] += 1
            self.last_words[name] = "\n".join(stack.output(name).splitlines()[-_LAST_LINES:])
            self._starts_again_at_s[name] = now_s + _RESTART_S
            stack.start_again(name)

    def _kinds_in_order(self) -> Iterator[str]:
        yield from self.arena.random.sample(self._kinds, len(self._kinds))
        while True:
            deck = [kind for kind in self._kinds for _ in range(_WEIGHTS.get(kind, 1))]
            self.arena.random.shuffle(deck)
            yield from deck


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, in MB."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    total, queue = 0.0, [pid]
    while queue:
        one = queue.pop()
        queue += children.get(one, [])
        total += _resident_mb(one)
    return total


def _resident_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found: Any = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(found[0]) / 1024 if found else 0.0
