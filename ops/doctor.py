"""`chatrelay doctor`: whether this machine, its settings and what the processes stand on are as they must be.

Every check has a deadline and stands alone: what one finds, or hangs in, keeps no other from being made. What is told holds
no secret of the settings.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import msgspec
import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text

from ops.surroundings import FOUND, environment_here, print_json, waiting
from shared import engine, event_log, keys, migrate, redis_health, settings
from shared.errors import LogUnavailable, NotMigrated, StoreUnavailable
from shared.event_log import EventLog
from shared.settings import Settings
from shared.store import Store

DEADLINE_S: Final = 20.0
"""Of each check; they are made side by side."""
MODEL_DEADLINE_S: Final = 5.0
NEWEST_POSTGRES_NEEDED: Final = 180_000
OLDEST_PYTHON: Final = (3, 11)
SKEW_S: Final = 2.0
LEAST_FREE_BYTES: Final = 200 * 1024 * 1024
LATE_S: Final = 30.0
SWEEPER_LATE_S: Final = 10.0
MANY_BELLS: Final = 1_000
GOOD_POLICIES: Final = ("noeviction", "volatile-ttl")

API_RELAY_CONNECTIONS: Final = 8
WORKER_CONNECTIONS: Final = 21
BUILDER_CONNECTIONS: Final = 6
SWEEPER_CONNECTIONS: Final = 2
"""What one process of each kind opens at most; a test holds these to the processes."""


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, and will not always."""
    PROBLEM = "problem"
    """Something does not work."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a check found; `advice` is what to do, in one sentence."""

    check: str
    state: State
    found: str
    advice: str | None = None


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    problems: int
    warnings: int
    checks: list[Verdict]


Found: TypeAlias = tuple[State, str, str | None]
Check: TypeAlias = Callable[[], Iterable[Found]]


def ok(found: str) -> Found:
    return State.OK, found, None


def warning(found: str, advice: str) -> Found:
    return State.WARNING, found, advice


def problem(found: str, advice: str) -> Found:
    return State.PROBLEM, found, advice


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print {problems, warnings, checks}.")] = False,
) -> None:
    """Check settings, packages, Postgres, Redis, the model, workers and sweepers; each with what to do about it.

    Spends no tokens and changes nothing. Ends with 0, or with 3 where there is a problem.
    """
    environment = environment_here()
    with waiting("looking"):
        diagnosis = diagnose(environment)
    if as_json:
        print_json(diagnosis)
    else:
        _print(diagnosis)
    if diagnosis.problems:
        raise typer.Exit(FOUND)


def diagnose(environment: Mapping[str, str], *, deadline_s: float = DEADLINE_S) -> Diagnosis:
    """All checks, in their order, within `deadline_s`."""
    verdicts = [
        Verdict(check=name, state=state, found=found, advice=advice)
        for name, founds in _run(checks_of(environment), deadline_s)
        for state, found, advice in founds
    ]
    secrets = secrets_of(environment)
    verdicts = [
        msgspec.structs.replace(
            one,
            found=redacted(one.found, secrets),
            advice=None if one.advice is None else redacted(one.advice, secrets),
        )
        for one in verdicts
    ]
    return Diagnosis(
        problems=sum(one.state is State.PROBLEM for one in verdicts),
        warnings=sum(one.state is State.WARNING for one in verdicts),
        checks=verdicts,
    )


def checks_of(environment: Mapping[str, str]) -> dict[str, Check]:
    try:
        read, wrong = settings.load(environment), ""
    except settings.InvalidSettings as error:
        read, wrong = None, str(error)
    database_url, redis_url = environment.get("DATABASE_URL", ""), environment.get("REDIS_URL", "")
    return {
        "settings": lambda: check_settings(wrong),
        "python": check_python,
        "packages": check_packages,
        "programs": lambda: check_programs(Path(sys.executable).parent),
        "temporary files": check_temporary_files,
        "postgres": lambda: check_postgres(database_url, read),
        "redis": lambda: check_redis(redis_url),
        "queues": lambda: check_queues(environment.get("CHATRELAY_BROKER_URL") or redis_url),
        "sweepers": lambda: check_sweepers(database_url, read),
        "workers": lambda: check_workers(database_url),
        "model": lambda: check_model(environment, read),
    }


def _run(checks: Mapping[str, Check], deadline_s: float) -> Iterator[tuple[str, list[Found]]]:
    """What each found, in their order; they run side by side, and who is not done in time is left behind."""
    results: dict[str, list[Found]] = {}

    def run(name: str, check: Check) -> None:
        try:
            results[name] = list(check())
        except Exception as error:  # a check that breaks is told as what it found
            results[name] = [problem(f"the check broke: {type(error).__name__}", "Report this as a bug.")]

    threads = [
        threading.Thread(target=run, args=item, name=f"doctor-{item[0]}", daemon=True) for item in checks.items()
    ]
    deadline = time.monotonic() + deadline_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = [problem(f"no answer within {deadline_s:g} s", "Look at the network between here and there.")]
    for name in checks:
        yield name, results.get(name, late)


# --- secrets -------------------------------------------------------------------------------------------------------


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """What may stand in no line: keys, tokens, whole addresses and the passwords in them. The longest first."""
    found: set[str] = set()
    for name in ("OPENAI_API_KEY", "CHATRELAY_DEV_TOKEN"):
        found.add(environment.get(name, ""))
    for name in ("DATABASE_URL", "REDIS_URL", "OPENAI_BASE_URL"):
        url = environment.get(name, "")
        if "@" not in url and "?" not in url:
            continue
        found.add(url)
        try:
            parts = urlsplit(url)
            found |= {parts.password or "", unquote(parts.password or ""), parts.query}
        except ValueError:
            pass
        found.add(url.partition("://")[2].rpartition("@")[0].partition(":")[2])  # also of what is no URL
    return sorted((secret for secret in found if len(secret) > 2), key=len, reverse=True)


def redacted(words: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        words = words.replace(secret, "***")
    return words


# --- this machine --------------------------------------------------------------------------------------------------


def check_settings(wrong: str) -> Iterator[Found]:
    for line in wrong.splitlines():
        yield problem(line, "Set it as the README's table of settings says.")
    if not wrong:
        yield ok("every setting is valid")


def check_python() -> Iterator[Found]:
    told = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield problem(f"Python {told}", "Install Python 3.11 or newer.")
    else:
        yield ok(f"Python {told}")


def check_packages() -> Iterator[Found]:
    """What the project asks for, and beside a clone what its lock has."""
    wrong = list(_unfit(metadata.requires("chatrelay") or ()))
    if wrong:
        yield problem("; ".join(wrong), "Install the packages of requirements.lock: make venv.")
    lock = Path(__file__).resolve().parents[1] / "requirements.lock"
    differing = list(_unlike(lock.read_text())) if lock.is_file() else []
    if differing:
        yield warning("; ".join(differing), "These versions were not tested together: make venv.")
    if not wrong and not differing:
        yield ok(f"chatrelay {metadata.version('chatrelay')}; every package fits")


def _unfit(requirements: Iterable[str]) -> Iterator[str]:
    for line in requirements:
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            there = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            yield f"{needed.name} is not installed"
            continue
        if not needed.specifier.contains(there, prereleases=True):
            yield f"{needed.name} is {there}, and {needed.specifier} is needed"


def _unlike(lock: str) -> Iterator[str]:
    for line in lock.splitlines():
        if not line or line.startswith((" ", "#", "-")):
            continue
        pinned = Requirement(line.rstrip("\\ "))
        if pinned.marker is not None and not pinned.marker.evaluate():
            continue
        try:
            there = metadata.version(pinned.name)
        except metadata.PackageNotFoundError:
            continue  # of development, or told as missing before
        if not pinned.specifier.contains(there, prereleases=True):
            yield f"{pinned.name} is {there}, the lock has {str(pinned.specifier).lstrip('=')}"


def check_programs(scripts: Path) -> Iterator[Found]:
    missing = [name for name in ("oxlint", "deno") if not os.access(scripts / name, os.X_OK)]
    if missing:
        yield problem(f"{' and '.join(missing)} not there", "A builder needs them: install the packages of that name.")
    else:
        yield ok("oxlint and deno are there")


def check_temporary_files() -> Iterator[Found]:
    """Builders write there, and so do request bodies."""
    try:
        directory = tempfile.gettempdir()
        with tempfile.NamedTemporaryFile(prefix="chatrelay-doctor-") as probe:
            probe.write(b"x" * 65_536)
            probe.flush()
        free = shutil.disk_usage(directory).free
    except OSError as error:
        yield problem(f"cannot write temporary files: {error.strerror}", "Make TMPDIR name a directory with room.")
        return
    if free < LEAST_FREE_BYTES:
        yield warning(f"{_size(free)} left in {directory}", "Make room there, or let TMPDIR name another directory.")
    else:
        yield ok(f"{_size(free)} left in {directory}")


# --- Postgres ------------------------------------------------------------------------------------------------------


def check_postgres(url: str, read: Settings | None) -> Iterator[Found]:
    reach = "Set DATABASE_URL to a Postgres that runs and lets this user in."
    try:
        pool = engine.make_engine(url, pool_size=1, application="doctor")
    except ValueError:
        yield problem("DATABASE_URL is no address of a Postgres", reach)
        return
    try:
        health = Store(pool).server_health()
        yield from judge_postgres(health, read)
        if migrate.is_current(pool):
            yield ok("the database is at the newest revision")
        else:
            yield problem("the database is at another revision than this code", "Run: chatrelay migrate.")
    except StoreUnavailable as error:
        yield problem(f"cannot be reached: {_cause(error)}", reach)
    finally:
        pool.dispose()


def judge_postgres(health: Any, read: Settings | None) -> Iterator[Found]:
    """Of a `ServerHealth`."""
    told = f"Postgres {health.version // 10_000}.{health.version % 10_000}"
    if health.version < NEWEST_POSTGRES_NEEDED:
        yield problem(told, "Postgres 18 or newer is needed: ids are made by its uuidv7().")
    else:
        yield ok(told)
    if health.is_read_only:
        yield problem("it may only be read", "DATABASE_URL must name the primary server.")
    threads = 16 if read is None else read.api_threads
    needed = threads + API_RELAY_CONNECTIONS + WORKER_CONNECTIONS + BUILDER_CONNECTIONS + SWEEPER_CONNECTIONS
    left = health.max_connections - health.used_connections
    told = f"{left} of {health.max_connections} connections are left; one of each process opens {needed} at most"
    if left < 5:
        yield problem(told, "Raise max_connections, or run fewer processes.")
    elif health.max_connections < needed:
        yield warning(told, "Raise max_connections, or lower CHATRELAY_API_THREADS.")
    else:
        yield ok(told)
    yield from judge_clock("its", (health.clock - datetime.now(UTC)).total_seconds())
    if health.stuck_transactions:
        yield warning(
            f"{health.stuck_transactions} transactions have been idle for over a minute",
            "Find them in pg_stat_activity and end them: they hold locks.",
        )
    if health.refused:
        yield problem(f"not permitted: {', '.join(health.refused)}", "Grant these rights to the user of DATABASE_URL.")


def judge_clock(whose: str, ahead_s: float | None) -> Iterator[Found]:
    if ahead_s is not None and abs(ahead_s) > SKEW_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        yield warning(
            f"{whose} clock is {abs(ahead_s):.1f} s {way} this machine's",
            "Have both kept by NTP: times would not compare.",
        )


def check_sweepers(url: str, read: Settings | None) -> Iterator[Found]:
    start = "Start a sweeper, as the Procfile says: what lost processes left is not taken up."

    def look(store: Store) -> Iterator[Found]:
        silent_s = store.sweepers_silent_s()
        most_s = max(SWEEPER_LATE_S, 5 * (1.0 if read is None else read.sweep_s))
        if silent_s is None:
            yield problem("none has ever come round", start)
        elif silent_s > most_s:
            yield problem(f"none has come round for {silent_s:.0f} s", start)
        else:
            yield ok(f"one came round {silent_s:.1f} s ago")

    yield from _asking(url, look)


def check_workers(url: str) -> Iterator[Found]:
    def look(store: Store) -> Iterator[Found]:
        now, waited_s = store.activity(), store.longest_wait_s()
        told = f"{now.held} messages are held, {now.unheld} are not"
        if waited_s > LATE_S:
            yield problem(
                f"{told}; the oldest whose turn it is has waited for {waited_s:.0f} s",
                "Start workers, as the Procfile says, or more of them.",
            )
        else:
            yield ok(told)

    yield from _asking(url, look)


def _asking(url: str, look: Callable[[Store], Iterable[Found]]) -> Iterator[Found]:
    try:
        pool = engine.make_engine(url, pool_size=1, application="doctor")
    except ValueError:
        yield problem("not known without the database", "See postgres.")
        return
    try:
        yield from list(look(Store(pool)))
    except StoreUnavailable:
        yield problem("not known without the database", "See postgres.")
    except NotMigrated:
        yield problem("not known without the tables", "Run: chatrelay migrate.")
    finally:
        pool.dispose()


# --- Redis ---------------------------------------------------------------------------------------------------------


def check_redis(url: str) -> Iterator[Found]:
    reach = "Set REDIS_URL to a Redis or Valkey that runs and lets this user in."
    try:
        health = redis_health.look(url)
    except ValueError:
        yield problem("REDIS_URL is no address of a Redis", reach)
        return
    except LogUnavailable as error:
        yield problem(f"cannot be reached: {error.__cause__}", reach)
        return
    yield from judge_redis(health)


def judge_redis(health: redis_health.RedisHealth) -> Iterator[Found]:
    oldest = 8 if health.name == "Valkey" else 7
    told = f"{health.name} {health.version or 'of a version that this user may not ask for'}"
    if health.version is not None and int(health.version.split(".")[0]) < oldest:
        yield problem(told, "Redis 7 or Valkey 8 and newer are needed.")
    else:
        yield ok(told)
    if health.is_cluster:
        yield problem("it is a cluster", "The bells need a single node: name one in REDIS_URL.")
    if health.refused:
        yield problem(f"not permitted: {', '.join(health.refused)}", "Grant these commands to the user of REDIS_URL.")
    else:
        yield ok("this user may do what the processes do")
    if health.policy is None:
        yield warning("its eviction policy may not be asked for", "See to it that it is noeviction or volatile-ttl.")
    elif health.policy not in GOOD_POLICIES:
        yield warning(
            f"maxmemory-policy is {health.policy}",
            "Make it noeviction or volatile-ttl: else bells and logs go while they are needed.",
        )
    if health.max_memory and health.used_memory is not None and health.used_memory > 0.9 * health.max_memory:
        yield warning(
            f"{_size(health.used_memory)} of {_size(health.max_memory)} are used",
            "Raise maxmemory, or lower CHATRELAY_LOG_RETENTION_S.",
        )
    if health.max_memory == 0:
        yield ok("its memory has no limit of its own")
    if health.persists is False:
        yield ok("it keeps nothing over a restart, which costs readers a snapshot and no answer")
    yield from judge_clock("its", health.clock_ahead_s)


def check_queues(url: str) -> Iterator[Found]:
    try:
        client = event_log.connect(url)
    except ValueError:
        yield problem(
            "not known: the Redis of the bells does not answer", "See redis, or what CHATRELAY_BROKER_URL names."
        )
        return
    try:
        log = EventLog(client)
        for queue in (keys.INTERACTIVE_QUEUE, keys.BUILDS_QUEUE, keys.BATCH_QUEUE):
            count = log.bells_waiting(queue)
            told = f"{count:,} bells wait in {queue}"
            if count >= MANY_BELLS:
                yield warning(told, "Start workers for this queue, or look why they hear nothing.")
            else:
                yield ok(told)
    except LogUnavailable:
        yield problem(
            "not known: the Redis of the bells does not answer", "See redis, or what CHATRELAY_BROKER_URL names."
        )
    finally:
        client.close()


# --- the model -----------------------------------------------------------------------------------------------------


def check_model(environment: Mapping[str, str], read: Settings | None) -> Iterator[Found]:
    """Asks for the list of models, which costs no tokens."""
    base_url = environment.get("OPENAI_BASE_URL") or Settings.model_fields["openai_base_url"].default
    key = environment.get("OPENAI_API_KEY", "")
    reach = "Look at OPENAI_BASE_URL, and whether this machine may go there."
    try:
        request = urllib.request.Request(f"{base_url.rstrip('/')}/models")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=MODEL_DEADLINE_S) as answer:
            body = answer.read(4 * 1024 * 1024)
    except urllib.error.HTTPError as error:
        error.close()
        yield _refusal(error.code, has_key=bool(key))
        return
    except (OSError, ValueError) as error:
        yield problem(f"cannot be reached: {getattr(error, 'reason', None) or type(error).__name__}", reach)
        return
    yield ok("answers, and takes the key" if key else "answers, without a key")
    wanted = () if read is None or read.scripted_model else read.models  # the scripted model takes any name
    try:
        known = {model["id"] for model in msgspec.json.decode(body)["data"]}
    except (msgspec.DecodeError, KeyError, TypeError):
        return
    missing = [name for name in wanted if name not in known]
    if missing:
        yield warning(f"does not list {', '.join(missing)}", "Name models in CHATRELAY_MODELS that it has.")


def _refusal(status: int, *, has_key: bool) -> Found:
    if status in (401, 403):
        advice = "OPENAI_API_KEY is not good there." if has_key else "Set OPENAI_API_KEY."
        return problem(f"refuses with {status}", advice)
    if status in (404, 405, 501):
        return warning(f"is there, and lists no models ({status})", "Send a message to see whether it answers.")
    return warning(f"is there, and answers {status}", "Ask again in a while, or look at the provider's status.")


# --- words ---------------------------------------------------------------------------------------------------------


def _cause(error: StoreUnavailable) -> str:
    cause = error.__cause__
    return str(getattr(cause, "orig", None) or cause).strip().split("\n")[0]


def _size(bytes_: int) -> str:
    return f"{bytes_ / 1024**3:.1f} GiB" if bytes_ >= 1024**3 else f"{bytes_ / 1024**2:.0f} MiB"


_STYLES: Final = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "bold red"}


def _print(diagnosis: Diagnosis) -> None:
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for one in diagnosis.checks:
        found = re.sub(r"\s+", " ", one.found)
        console.print(Text.assemble((f"{one.state:<8}", _STYLES[one.state]), f"{one.check}: {found}"))
        if one.advice is not None:
            console.print(f"        {one.advice}")
    console.print(f"{_counted(diagnosis.problems, 'problem')}, {_counted(diagnosis.warnings, 'warning')}")


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
