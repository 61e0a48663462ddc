"""`chatrelay token`: what programs and people sign in with."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from ops.surroundings import (
    FAILED,
    USAGE_ERROR,
    duration,
    environment_here,
    leave,
    print_json,
    print_table,
    with_store,
)
from shared import event_log, names, notices
from shared.errors import LogUnavailable
from shared.event_log import EventLog
from shared.lifecycle import Scope
from shared.store import TOKEN_ID_DIGITS, RevokedToken, Store

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


@app.command(name="list")
def list_tokens(
    user: Annotated[str | None, typer.Option(help="Of one user alone.", show_default=False)] = None,
    jwts: Annotated[
        bool, typer.Option("--jwts", help="In their place, the JWTs that were brought here and have not expired.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of tokens.")] = False,
) -> None:
    """Tokens and when they were last used. A token is named by the beginning of its hash; itself it is kept nowhere."""
    wanted = None if user is None else _user(user)
    found = with_store(lambda store: store.tokens(user=wanted, jwts=jwts))
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("id", "user", "scopes", "state", "created", "expires", "last used"):
        table.add_column(title, no_wrap=True)
    for token in found:
        times = (token.created_at, token.expires_at, token.last_used_at)
        table.add_row(token.id, token.user, ",".join(token.scopes), token.state, *map(_minute, times))
    print_table(table)


@app.command(name="revoke")
def revoke_token(
    token_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Its id in `token list`; without one the token itself is read from stdin."),
    ] = None,
) -> None:
    """End a token at once: no call is answered any more, and sockets that came with it are closed (4403).

    Where Redis is away, they are closed within seconds all the same, when the API processes next look.
    """
    if token_id is not None and re.fullmatch(rf"[0-9a-f]{{{TOKEN_ID_DIGITS},64}}", token_id) is None:
        raise typer.BadParameter(f"at least {TOKEN_ID_DIGITS} hex digits, as `token list` shows them", param_hint="ID")
    given = "" if token_id is not None else sys.stdin.readline(10_000).strip()
    if token_id is None and not given:
        leave("no token was given: name its ID, or write the token on the standard input", USAGE_ERROR)

    def revoke(store: Store) -> list[RevokedToken]:
        if token_id is not None:
            return store.revoke_token_by_id(token_id)
        known = store.revoke_token(given)
        return [] if known is None else [known]

    revoked = with_store(revoke)
    if not revoked:
        leave("there is no such token", FAILED)
    if len(revoked) > 1:
        leave("that names several tokens; nothing was revoked", USAGE_ERROR)
    (token,) = revoked
    _close_sockets(token)
    print(f"{'revoked' if token.was_active else 'was good no more'}: a token of {token.user}")


def _close_sockets(token: RevokedToken) -> None:
    """Best effort: each API process also looks by itself."""
    redis_url = environment_here().get("REDIS_URL")
    if not redis_url:
        print("chatrelay: REDIS_URL is not set; open sockets close at the next look", file=sys.stderr)
        return
    try:
        client = event_log.connect(redis_url)
        try:
            EventLog(client).publish(notices.token_revoked(token.sha256))
        finally:
            client.close()
    except (LogUnavailable, ValueError):
        print("chatrelay: Redis was not told; open sockets close at the next look", file=sys.stderr)


def _minute(at: datetime | None) -> str:
    return "–" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


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
