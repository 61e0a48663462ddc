"""Who may come in: users, tokens, tickets."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from shared.errors import StoreUnavailable
from shared.models import Ticket, Token, User
from shared.records import Identity, Principal
from shared.store.transactions import Transactions

SOCKET_TICKET_S = 30
STREAM_TICKET_S = 600
USE_NOTED_S = 60
"""A token's use is noted at most so often."""
TOKEN_ID_DIGITS = 12
"""Hex digits of a token's hash that name it: nobody can sign in with them, and no two tokens of one system share them."""


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token as operators see it: never the token itself. `state` is by the database's clock."""

    id: str
    user: str
    scopes: list[str]
    state: Literal["active", "expired", "revoked"]
    issuer: str | None
    """Whose JWT it is; null for a token of ours."""
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute; null where it never was."""


class RevokedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is good no more, and whose sockets are to be closed."""

    sha256: bytes
    user: str
    was_active: bool


def _is_unnoted() -> ColumnElement[bool]:
    noted = func.clock_timestamp() - timedelta(seconds=USE_NOTED_S)
    return or_(Token.last_used_at.is_(None), Token.last_used_at < noted)


def _alive() -> ColumnElement[bool]:
    return (Token.revoked_at.is_(None)) & or_(Token.expires_at.is_(None), Token.expires_at > func.now())


# what every request asks is built once: that costs several times what asking it does
_sha256 = bindparam("sha256", type_=LargeBinary())
_AUTHENTICATE: Final = (
    select(User.id, User.name, Token.scopes, _is_unnoted().label("is_unnoted"))
    .join(User, User.id == Token.user_id)
    .where(Token.sha256 == _sha256, Token.issuer.is_(None), _alive())
)
_SEEN_JWT: Final = (
    select(
        User.id,
        User.name,
        Token.scopes,
        Token.issuer,
        _alive().label("is_alive"),
        _is_unnoted().label("is_unnoted"),
    )
    .join(User, User.id == Token.user_id)
    .where(Token.sha256 == _sha256)
)
_REDEEM: Final = (
    select(
        Ticket.single_use,
        Ticket.token_sha256,
        User.id,
        User.name,
        Token.scopes,
        _is_unnoted().label("is_unnoted"),
    )
    .join(User, User.id == Ticket.user_id)
    .join(Token, Token.sha256 == Ticket.token_sha256)
    .where(
        Ticket.sha256 == _sha256,
        Ticket.path == bindparam("path", type_=Text()),
        Ticket.expires_at > func.now(),
        _alive(),
    )
    .with_for_update(of=Ticket)
)


def digest(secret: str) -> bytes:
    """What is stored of a token or ticket: they are 256 random bits, so that one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class AccessStore(Transactions):
    def authenticate(self, token: str) -> tuple[Principal, bytes] | None:
        """The token's user and its digest; None for one that is unknown, revoked or expired, and for any JWT."""
        sha256 = digest(token)
        with self._statement() as connection:
            row = connection.execute(_AUTHENTICATE, {"sha256": sha256}).one_or_none()
        if row is None:
            return None
        if row.is_unnoted:
            self._note_use(sha256)
        return Principal(user_id=row.id, user=row.name, scopes=frozenset(row.scopes)), sha256

    def authenticate_jwt(self, token: str, identity: Identity) -> tuple[Principal, bytes] | None:
        """As `authenticate`, for a JWT that has been verified, and says this. None where it is revoked or expired.

        At first sight it gets a row, and so does its user; its tickets and sockets live no longer than the row is good.
        """
        sha256 = digest(token)
        with self._statement() as connection:
            row = connection.execute(_SEEN_JWT, {"sha256": sha256}).one_or_none()
        said = (identity.user, identity.scopes, identity.issuer)
        if row is None or (row.name, frozenset(row.scopes), row.issuer) != said:
            user_id, is_alive, is_unnoted = self._remember_jwt(sha256, identity)
        else:
            user_id, is_alive, is_unnoted = row.id, row.is_alive, row.is_unnoted
        if user_id is None or not is_alive:
            return None
        if is_unnoted:
            self._note_use(sha256)
        return Principal(user_id=user_id, user=identity.user, scopes=identity.scopes), sha256

    def _remember_jwt(self, sha256: bytes, identity: Identity) -> tuple[UUID | None, bool, bool]:
        """Its user, whether it is good, and whether its use is to be noted. Settings may have changed what it says.

        A revoked one stays so. Rows of JWTs that have expired are swept away: such a one is refused without a row too.
        """
        with self._transaction() as connection:
            old = and_(Token.issuer.is_not(None), Token.expires_at < func.now(), Token.sha256 != sha256)
            some = select(Token.sha256).where(old).limit(100).with_for_update(skip_locked=True)
            connection.execute(delete(Token).where(_is_one_of(Token.sha256, some)))
            values = {
                "user_id": ensure_user(connection, identity.user),
                "scopes": sorted(identity.scopes),
                "issuer": identity.issuer,
                "expires_at": identity.expires_at,
            }
            row = connection.execute(
                insert(Token)
                .values(sha256=sha256, **values)
                .on_conflict_do_update(index_elements=[Token.sha256], set_=values, where=Token.issuer.is_not(None))
                .returning(Token.user_id, _alive().label("is_alive"), _is_unnoted().label("is_unnoted"))
            ).one_or_none()
        return (None, False, False) if row is None else (row.user_id, row.is_alive, row.is_unnoted)

    def _note_use(self, sha256: bytes) -> None:
        """At most one write a minute and token, which waits for nobody; where it cannot be made, nobody is kept out."""
        unnoted = select(Token.sha256).where(Token.sha256 == sha256, _is_unnoted()).with_for_update(skip_locked=True)
        try:
            with self._statement() as connection:
                connection.execute(
                    update(Token).where(Token.sha256.in_(unnoted)).values(last_used_at=func.clock_timestamp())
                )
        except StoreUnavailable:
            pass  # read only, as during a failover

    def tokens(self, *, user: str | None = None, jwts: bool = False) -> list[TokenRecord]:
        """Every token of ours, or one user's, oldest first; or the JWTs that were brought here and have not expired."""
        query = select(Token.__table__, User.name, _state().label("state")).join(User, User.id == Token.user_id)
        if jwts:
            query = query.where(Token.issuer.is_not(None), Token.expires_at > func.now())
        else:
            query = query.where(Token.issuer.is_(None))
        if user is not None:
            query = query.where(User.name == user)
        with self._statement() as connection:
            rows = connection.execute(query.order_by(Token.created_at, Token.sha256)).all()
        return [
            TokenRecord(
                id=bytes(row.sha256).hex()[:TOKEN_ID_DIGITS],
                user=row.name,
                scopes=row.scopes,
                state=row.state,
                issuer=row.issuer,
                created_at=row.created_at,
                expires_at=row.expires_at,
                revoked_at=row.revoked_at,
                last_used_at=row.last_used_at,
            )
            for row in rows
        ]

    def revoke_token(self, token: str) -> RevokedToken | None:
        """This very token is good no more; None where it is not known. Safe to repeat."""
        revoked = self._revoke(Token.sha256 == digest(token))
        return revoked[0] if revoked else None

    def revoke_token_by_id(self, token_id: str) -> list[RevokedToken]:
        """As `revoke_token`, by the first `TOKEN_ID_DIGITS` hex digits of its hash, or more.

        Nothing is revoked where that names several: they are answered as they are.
        """
        return self._revoke(func.starts_with(func.encode(Token.sha256, "hex"), token_id))

    def _revoke(self, which: ColumnElement[bool]) -> list[RevokedToken]:
        with self._transaction() as connection:
            rows = connection.execute(
                select(Token.sha256, User.name, _alive().label("is_alive"))
                .join(User, User.id == Token.user_id)
                .where(which)
                .with_for_update(of=Token)
            ).all()
            if len(rows) == 1:
                connection.execute(
                    update(Token)
                    .where(Token.sha256 == rows[0].sha256, Token.revoked_at.is_(None))
                    .values(revoked_at=func.now())
                )
        return [RevokedToken(sha256=bytes(row.sha256), user=row.name, was_active=row.is_alive) for row in rows]

    def dead_tokens(self, digests: Collection[bytes]) -> frozenset[bytes]:
        """Those of the tokens that are good no more: revoked, expired or forgotten."""
        wanted = list(digests)
        if not wanted:
            return frozenset()
        with self._statement() as connection:
            alive = connection.execute(select(Token.sha256).where(Token.sha256.in_(wanted), _alive())).scalars()
            return frozenset(wanted) - frozenset(map(bytes, alive))

    def is_good(self, token_sha256: bytes, scope: str) -> bool:
        """Whether the token is still good, and has the scope."""
        of_it = exists().where(Token.sha256 == token_sha256, _alive(), Token.scopes.contains([scope]))
        with self._statement() as connection:
            return bool(connection.execute(select(of_it)).scalar_one())

    def create_token(
        self, user: str, *, scopes: frozenset[str] = frozenset(), lifetime: timedelta | None = None
    ) -> tuple[str, datetime | None]:
        """A new token for `user`, who is made where unknown, and when it expires. The token is shown this once."""
        token = secrets.token_urlsafe(32)
        return token, self.ensure_token(token, user, scopes=scopes, lifetime=lifetime)

    def ensure_token(
        self, token: str, user: str, *, scopes: frozenset[str] = frozenset(), lifetime: timedelta | None = None
    ) -> datetime | None:
        """Make this very token good for `user`; safe to repeat. Answers when it expires."""
        with self._transaction() as connection:
            values = {
                "user_id": ensure_user(connection, user),
                "scopes": sorted(scopes),
                "expires_at": None if lifetime is None else func.now() + lifetime,
                "revoked_at": None,
                "issuer": None,
            }
            return connection.execute(
                insert(Token)
                .values(sha256=digest(token), **values)
                .on_conflict_do_update(index_elements=[Token.sha256], set_=values)
                .returning(Token.expires_at)
            ).scalar_one()

    def create_ticket(
        self, principal: Principal, token_sha256: bytes, path: str, *, single_use: bool
    ) -> tuple[str, datetime]:
        """A ticket that stands for the token on `path`: once within 30 s, or for 10 minutes. Old ones are swept away."""
        ticket = secrets.token_urlsafe(32)
        lifetime = timedelta(seconds=SOCKET_TICKET_S if single_use else STREAM_TICKET_S)
        with self._transaction() as connection:
            old = select(Ticket.sha256).where(Ticket.expires_at < func.now()).limit(100)
            connection.execute(delete(Ticket).where(_is_one_of(Ticket.sha256, old.with_for_update(skip_locked=True))))
            expires_at = connection.execute(
                insert(Ticket)
                .values(
                    sha256=digest(ticket),
                    user_id=principal.user_id,
                    token_sha256=token_sha256,
                    path=path,
                    single_use=single_use,
                    expires_at=func.now() + lifetime,
                )
                .returning(Ticket.expires_at)
            ).scalar_one()
        return ticket, expires_at

    def create_stream_tickets(self, principal: Principal, token_sha256: bytes, paths: Sequence[str]) -> list[str]:
        """A ticket for each of the paths, in their order, good for 10 minutes."""
        tickets = [secrets.token_urlsafe(32) for _ in paths]
        made = [
            {
                "sha256": digest(ticket),
                "user_id": principal.user_id,
                "token_sha256": token_sha256,
                "path": path,
                "single_use": False,
                "expires_at": func.now() + timedelta(seconds=STREAM_TICKET_S),
            }
            for ticket, path in zip(tickets, paths, strict=True)
        ]
        if made:
            with self._transaction() as connection:
                connection.execute(insert(Ticket).values(made))
        return tickets

    def redeem_ticket(self, ticket: str, path: str) -> tuple[Principal, bytes] | None:
        """Who asked for the ticket, and the digest of the token that it stands for; None unless it is good for `path`.

        Of two that race for a single use, one gets it.
        """
        with self._transaction() as connection:
            row = connection.execute(_REDEEM, {"sha256": digest(ticket), "path": path}).one_or_none()
            if row is None:
                return None
            if row.single_use:
                connection.execute(delete(Ticket).where(Ticket.sha256 == digest(ticket)))
        if row.is_unnoted:
            self._note_use(row.token_sha256)
        return Principal(user_id=row.id, user=row.name, scopes=frozenset(row.scopes)), row.token_sha256


def _is_one_of(key: Any, some: Select[Any]) -> ColumnElement[bool]:
    """As `in_`, but by the index: of a hundred keys Postgres would read a table of thousands from end to end."""
    found: ColumnElement[bool] = key == func.any(func.array(some.scalar_subquery()))
    return found


def _state() -> ColumnElement[str]:
    return case((Token.revoked_at.is_not(None), "revoked"), (Token.expires_at <= func.now(), "expired"), else_="active")


def ensure_user(connection: Connection, name: str) -> UUID:
    """The user of that name, who is made where unknown."""
    connection.execute(insert(User).values(name=name).on_conflict_do_nothing())
    return connection.execute(select(User.id).where(User.name == name)).scalar_one()
