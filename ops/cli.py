"""`chatrelay`: the command line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Final, NoReturn, TypeVar

import msgspec
import typer

from shared import engine, migrate, names
from shared.errors import NotMigrated, StoreUnavailable
from shared.store import Store

app = typer.Typer(
    name="chatrelay",
    help="Durable streaming for AI assistants.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
token_app = typer.Typer(help="Tokens, with which programs and people sign in.", no_args_is_help=True)
app.add_typer(token_app, name="token")

_T = TypeVar("_T")

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST: Final = timedelta(days=36_500)
_USAGE_ERROR: Final = 2
_FAILED: Final = 1


class Scope(StrEnum):
    """What a token allows beside its user's projects."""

    OPS = "ops"


class MadeToken(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    token: str
    user: str
    scopes: list[str]
    expires_at: datetime | None


def main() -> None:
    """The console script."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("chatrelay"))
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Durable streaming for AI assistants."""


@app.command()
def dev(
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what the last run kept.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The page's port.", show_default=False)] = None,
) -> None:
    """Run everything on this machine, with a Postgres, a Valkey and, without a key, a model of its own."""
    from dev import run

    raise typer.Exit(run.dev(fresh=fresh, port=port))


@app.command(name="migrate")
def migrate_database() -> None:
    """Bring the database at DATABASE_URL to the newest revision."""
    url = _database_url(os.environ)
    with _database_errors():
        migrate.upgrade(url)


@token_app.command(name="create")
def create_token(
    user: Annotated[str, typer.Option(help="Whose token; a user who is not known is made.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="What it allows beside the user's projects.")] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="For how long it is good: 12h, 30d, 4w. Default: for ever.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print {token, user, scopes, expiresAt}.")] = False,
) -> None:
    """Make a token and print it; it is shown this once."""
    name, lifetime, scopes = _user(user), _lifetime(expires), _scopes(scope)
    token, expires_at = _with_store(lambda store: store.create_token(name, scopes=scopes, lifetime=lifetime))
    if not as_json:
        print(token)
        return
    until = None if expires_at is None else expires_at.astimezone(UTC)
    made = MadeToken(token=token, user=name, scopes=sorted(scopes), expires_at=until)
    print(msgspec.json.encode(made).decode())


@token_app.command(name="ensure", hidden=True)
def ensure_token(
    user: Annotated[str, typer.Option(help="Whose token.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="What it allows beside the user's projects.")] = None,
) -> None:
    """Make the token in CHATRELAY_DEV_TOKEN good for a user. For development: such a token is as weak as it was chosen."""
    token = os.environ.get("CHATRELAY_DEV_TOKEN", "")
    if re.fullmatch(r"[\x21-\x7e]{1,1000}", token) is None:
        _leave("CHATRELAY_DEV_TOKEN must be 1 to 1000 visible ASCII characters", _USAGE_ERROR)
    name, scopes = _user(user), _scopes(scope)
    _with_store(lambda store: store.ensure_token(token, name, scopes=scopes))


def _with_store(act: Callable[[Store], _T]) -> _T:
    pool = engine.make_engine(_database_url(os.environ), pool_size=1, application="cli")
    try:
        with _database_errors():
            return act(Store(pool))
    finally:
        pool.dispose()


@contextmanager
def _database_errors() -> Iterator[None]:
    """Say in one line what is wrong with the database, and leave."""
    try:
        yield
    except StoreUnavailable as error:
        first = str(getattr(error.__cause__, "orig", None) or error.__cause__).strip().split("\n")[0]
        _leave(f"the database cannot be reached: {first}", _FAILED)
    except NotMigrated as error:
        _leave(error.detail, _FAILED)


def _database_url(environment: Mapping[str, str]) -> str:
    """The one setting that the command line needs; else that of the `chatrelay dev` that runs here."""
    url = environment.get("DATABASE_URL") or _of_running_dev(environment)
    if not url:
        _leave("DATABASE_URL is not set, and no `chatrelay dev` is running here", _USAGE_ERROR)
    try:
        named = engine.sqlalchemy_url(url)
    except ValueError:
        _leave("DATABASE_URL: must be postgresql://user:password@host/name", _USAGE_ERROR)
    if not named.database:
        _leave("DATABASE_URL: must be postgresql://user:password@host/name", _USAGE_ERROR)
    return url


def _of_running_dev(environment: Mapping[str, str]) -> str:
    from dev import state

    return state.running_environment(state.state_directory(environment)).get("DATABASE_URL", "")


def _user(name: str) -> str:
    if not names.is_user_name(name):
        raise typer.BadParameter(names.USER_NAME_RULE, param_hint="--user")
    return name


def _scopes(given: list[Scope] | None) -> frozenset[str]:
    return frozenset(scope.value for scope in given or ())


def _lifetime(text: str | None) -> timedelta | None:
    """``30d`` as a duration."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,9})([smhdw])", text)
    if match is None:
        raise typer.BadParameter("a number and one of s, m, h, d, w: 30d", param_hint="--expires")
    seconds = int(match[1]) * _UNITS_S[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise typer.BadParameter("at most a hundred years", param_hint="--expires")
    return timedelta(seconds=seconds)


def _leave(words: str, code: int) -> NoReturn:
    print(f"chatrelay: {words}", file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
