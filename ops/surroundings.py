"""Where a command runs: which database and Redis it means, and how it leaves when something is wrong with them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared import engine, settings
from shared.errors import LogUnavailable, NotMigrated, StoreUnavailable
from shared.settings import Settings
from shared.store import Store

FAILED: Final = 1
"""What was asked for could not be done."""
USAGE_ERROR: Final = 2
"""What was asked for makes no sense, or a setting is missing."""
FOUND: Final = 3
"""It was done, and what was looked for is there: disagreements, problems."""

_T = TypeVar("_T")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST: Final = timedelta(days=36_500)


def with_store(act: Callable[[Store], _T], *, statement_timeout_s: float = 5.0) -> _T:
    url = database_url(os.environ)
    pool = engine.make_engine(url, pool_size=1, application="cli", statement_timeout_s=statement_timeout_s)
    try:
        with database_errors():
            return act(Store(pool))
    finally:
        pool.dispose()


@contextmanager
def database_errors() -> Iterator[None]:
    """Say in one line what is wrong with the database, and leave."""
    try:
        yield
    except StoreUnavailable as error:
        first = str(getattr(error.__cause__, "orig", None) or error.__cause__).strip().split("\n")[0]
        leave(f"the database cannot be reached: {first}", FAILED)
    except NotMigrated as error:
        leave(error.detail, FAILED)
    except LogUnavailable as error:
        leave(f"Redis cannot be reached: {error.__cause__}", FAILED)


def environment_here() -> dict[str, str]:
    """This process's environment; where it has neither address, with that of the `chatrelay dev` that runs here.

    One alone is not completed: rows of one system and logs of another would be taken for one.
    """
    from dev import state

    found = {name: value for name, value in os.environ.items() if value}
    if "DATABASE_URL" in found or "REDIS_URL" in found:
        return found
    return {**state.running_environment(state.state_directory(found)), **found}


def whole_settings() -> Settings:
    """Every setting, for a command that does what the processes do."""
    try:
        return settings.load(environment_here())
    except settings.InvalidSettings as error:
        leave(f"the settings are not valid\n{error}", USAGE_ERROR)


def print_json(value: Any) -> None:
    """One JSON document on the standard output, for programs."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def database_url(environment: Mapping[str, str]) -> str:
    """The one setting that the command line needs; else that of the `chatrelay dev` that runs here."""
    url = environment.get("DATABASE_URL") or _of_running_dev(environment)
    if not url:
        leave("DATABASE_URL is not set, and no `chatrelay dev` is running here", USAGE_ERROR)
    try:
        named = engine.sqlalchemy_url(url)
    except ValueError:
        leave("DATABASE_URL: must be postgresql://user:password@host/name", USAGE_ERROR)
    if not named.database:
        leave("DATABASE_URL: must be postgresql://user:password@host/name", USAGE_ERROR)
    return url


def redis_url(environment: Mapping[str, str]) -> str:
    """As `database_url`, of Redis."""
    url = environment.get("REDIS_URL") or _of_running_dev(environment, "REDIS_URL")
    if not url:
        leave("REDIS_URL is not set, and no `chatrelay dev` is running here", USAGE_ERROR)
    if not url.startswith(("redis://", "rediss://", "unix://")):
        leave("REDIS_URL: must be redis://host:port/db", USAGE_ERROR)
    return url


def _of_running_dev(environment: Mapping[str, str], name: str = "DATABASE_URL") -> str:
    from dev import state

    return state.running_environment(state.state_directory(environment)).get(name, "")


def printable(text: str) -> str:
    """What users wrote, as a terminal may be given it: without what moves its cursor."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


@contextmanager
def waiting(words: str) -> Iterator[Callable[[str], object]]:
    """Shows a person who waits how far it is; says nothing where nobody looks. Yields what tells of progress."""
    if not sys.stdout.isatty():
        yield lambda _: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(words)
        yield lambda told: progress.update(task, description=told)


def print_table(table: Table) -> None:
    """As wide as it is where nobody looks at it, so that programs find every column."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 500
    with console.capture() as written:
        console.print(table)
    print("\n".join(line.rstrip() for line in written.get().rstrip("\n").split("\n")))


def duration(text: str, *, option: str) -> timedelta:
    """``30d`` as a duration. Raises `typer.BadParameter`."""
    match = re.fullmatch(r"([1-9][0-9]{0,9})([smhdw])", text)
    if match is None:
        raise typer.BadParameter("a number and one of s, m, h, d, w: 30d", param_hint=option)
    seconds = int(match[1]) * _UNITS_S[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise typer.BadParameter("at most a hundred years", param_hint=option)
    return timedelta(seconds=seconds)


def moment(text: str, *, option: str) -> datetime:
    """A time, or so long ago. Raises `typer.BadParameter`."""
    try:
        return datetime.now(UTC) - duration(text, option=option)
    except typer.BadParameter:
        pass
    try:
        named = datetime.fromisoformat(text)
        if named.tzinfo is not None:
            return named.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise typer.BadParameter("a duration as 10m, or a time with its zone: 2026-01-31T12:00:00Z", param_hint=option)


def leave(words: str, code: int) -> NoReturn:
    print(f"chatrelay: {words}", file=sys.stderr)
    raise typer.Exit(code)
