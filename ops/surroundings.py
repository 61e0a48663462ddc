"""Where a command runs: which database and Redis it means, and how it leaves when something is wrong with them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, NoReturn, TypeVar

import typer

from shared import engine
from shared.errors import NotMigrated, StoreUnavailable
from shared.store import Store

FAILED: Final = 1
"""What was asked for could not be done."""
USAGE_ERROR: Final = 2
"""What was asked for makes no sense, or a setting is missing."""

_T = TypeVar("_T")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST: Final = timedelta(days=36_500)


def with_store(act: Callable[[Store], _T]) -> _T:
    pool = engine.make_engine(database_url(os.environ), pool_size=1, application="cli")
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


def duration(text: str, *, option: str) -> timedelta:
    """``30d`` as a duration. Raises `typer.BadParameter`."""
    match = re.fullmatch(r"([1-9][0-9]{0,9})([smhdw])", text)
    if match is None:
        raise typer.BadParameter("a number and one of s, m, h, d, w: 30d", param_hint=option)
    seconds = int(match[1]) * _UNITS_S[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise typer.BadParameter("at most a hundred years", param_hint=option)
    return timedelta(seconds=seconds)


def leave(words: str, code: int) -> NoReturn:
    print(f"chatrelay: {words}", file=sys.stderr)
    raise typer.Exit(code)
