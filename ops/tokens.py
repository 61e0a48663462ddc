"""`chatrelay token`: what programs and people sign in with."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from ops.surroundings import USAGE_ERROR, duration, leave, with_store
from shared import names
from shared.lifecycle import Scope

app = typer.Typer(help="Tokens, with which programs and people sign in.", no_args_is_help=True)


class MadeToken(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    token: str
    user: str
    scopes: list[str]
    expires_at: datetime | None


@app.command(name="create")
def create_token(
    user: Annotated[str, typer.Option(help="Whose token; a user who is not known is made.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="What it allows beside the user's projects.")] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="For how long it is good: 12h, 30d, 4w. Default: for ever.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print {token, user, scopes, expiresAt}.")] = False,
) -> None:
    """Make a token and print it; it is shown this once."""
    name, scopes = _user(user), _scopes(scope)
    lifetime = None if expires is None else duration(expires, option="--expires")
    token, expires_at = with_store(lambda store: store.create_token(name, scopes=scopes, lifetime=lifetime))
    if not as_json:
        print(token)
        return
    until = None if expires_at is None else expires_at.astimezone(UTC)
    made = MadeToken(token=token, user=name, scopes=sorted(scopes), expires_at=until)
    print(msgspec.json.encode(made).decode())


@app.command(name="ensure", hidden=True)
def ensure_token(
    user: Annotated[str, typer.Option(help="Whose token.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="What it allows beside the user's projects.")] = None,
) -> None:
    """Make the token in CHATRELAY_DEV_TOKEN good for a user. For development: such a token is as weak as it was chosen."""
    token = os.environ.get("CHATRELAY_DEV_TOKEN", "")
    if re.fullmatch(r"[\x21-\x7e]{1,1000}", token) is None:
        leave("CHATRELAY_DEV_TOKEN must be 1 to 1000 visible ASCII characters", USAGE_ERROR)
    name, scopes = _user(user), _scopes(scope)
    with_store(lambda store: store.ensure_token(token, name, scopes=scopes))


def _user(name: str) -> str:
    if not names.is_user_name(name):
        raise typer.BadParameter(names.USER_NAME_RULE, param_hint="--user")
    return name


def _scopes(given: list[Scope] | None) -> frozenset[str]:
    return frozenset(scope.value for scope in given or ())
