"""Who may come in: users, tokens, tickets."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from shared.models import Ticket, Token, User
from shared.records import Principal
from shared.store.transactions import Transactions

SOCKET_TICKET_S = 30
STREAM_TICKET_S = 600


def digest(secret: str) -> bytes:
    """What is stored of a token or ticket: they are 256 random bits, so that one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class AccessStore(Transactions):
    def authenticate(self, token: str) -> tuple[Principal, bytes] | None:
        """The token's user and its digest; None for one that is unknown, revoked or expired."""
        with self._statement() as connection:
            row = connection.execute(
                select(User.id, User.name, Token.scopes)
                .join(User, User.id == Token.user_id)
                .where(Token.sha256 == digest(token), _alive())
            ).one_or_none()
        if row is None:
            return None
        return Principal(user_id=row.id, user=row.name, scopes=frozenset(row.scopes)), digest(token)

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
            connection.execute(
                delete(Ticket).where(
                    Ticket.sha256.in_(
                        select(Ticket.sha256)
                        .where(Ticket.expires_at < func.now())
                        .limit(100)
                        .with_for_update(skip_locked=True)
                    )
                )
            )
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
            row = connection.execute(
                select(Ticket.single_use, Ticket.token_sha256, User.id, User.name, Token.scopes)
                .join(User, User.id == Ticket.user_id)
                .join(Token, Token.sha256 == Ticket.token_sha256)
                .where(Ticket.sha256 == digest(ticket), Ticket.path == path, Ticket.expires_at > func.now(), _alive())
                .with_for_update(of=Ticket)
            ).one_or_none()
            if row is None:
                return None
            if row.single_use:
                connection.execute(delete(Ticket).where(Ticket.sha256 == digest(ticket)))
        return Principal(user_id=row.id, user=row.name, scopes=frozenset(row.scopes)), row.token_sha256


def _alive() -> ColumnElement[bool]:
    return (Token.revoked_at.is_(None)) & or_(Token.expires_at.is_(None), Token.expires_at > func.now())


def ensure_user(connection: Connection, name: str) -> UUID:
    """The user of that name, who is made where unknown."""
    connection.execute(insert(User).values(name=name).on_conflict_do_nothing())
    return connection.execute(select(User.id).where(User.name == name)).scalar_one()
