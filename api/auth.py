"""Who asks: a bearer token in the header, or a ticket in the address of a stream.

A token is one of ours, or, where the settings name an identity provider, a JWT of its; whatever protocol brings it, it is
looked at here. A JWT's row in the store is what its tickets and sockets hang on, and what an operator can revoke.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from werkzeug.datastructures import Headers

from api.refusals import ForeignOrigin, Unauthorized
from shared.records import Principal
from shared.store import Store

if TYPE_CHECKING:
    from api.identity_provider import IdentityProvider  # loaded where one is named: it brings 20 MB

MOST_TOKEN_CHARS: Final = 8_000
"""The longest token: what fits into a header line of gunicorn's and nginx's."""
_TOKEN: Final = re.compile(rf"[\x21-\x7e]{{1,{MOST_TOKEN_CHARS}}}")
_BEARER: Final = re.compile(rf"Bearer +({_TOKEN.pattern})", re.IGNORECASE)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Caller(Principal, frozen=True, kw_only=True):
    """Who came with a token, and which."""

    token_sha256: bytes


def bearer_token(headers: Headers) -> str | None:
    """The token in the header; None where there is none that could be one."""
    match = _BEARER.fullmatch(headers.get("Authorization", "").strip())
    return None if match is None else match[1]


@dataclass(frozen=True, kw_only=True)
class Authenticator:
    """Each method raises `Unauthorized`, and `IdentityUnavailable` where a JWT cannot be checked at the moment."""

    store: Store
    provider: IdentityProvider | None = None
    """None: no JWT is good."""

    def by_token(self, headers: Headers) -> Caller:
        token = bearer_token(headers)
        if token is None:
            raise Unauthorized
        return self.by_bare_token(token)

    def by_bare_token(self, token: str) -> Caller:
        if not _TOKEN.fullmatch(token):
            raise Unauthorized
        if self.provider is not None and self.provider.is_jwt(token):
            found = self.store.authenticate_jwt(token, self.provider.identity(token))
        else:
            found = self.store.authenticate(token)
        if found is None:
            raise Unauthorized
        return _caller(*found)

    def by_token_or_ticket(self, headers: Headers, ticket: str | None, path: str) -> Caller:
        """By the token where there is a header, else by the ticket, which must be for `path`."""
        if ticket is None or "Authorization" in headers:
            return self.by_token(headers)
        found = self.store.redeem_ticket(ticket, path)
        if found is None:
            raise Unauthorized("The ticket is not good for this address: used, expired, or for another one.")
        return _caller(*found)


def _caller(principal: Principal, token_sha256: bytes) -> Caller:
    return Caller(**msgspec.structs.asdict(principal), token_sha256=token_sha256)


def is_allowed_origin(origin: str, *, scheme: str, host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a browser's page of `origin` may talk to us: our own host, or one that the settings name.

    `scheme` and `host` are the request's. An ``https`` page on a request of ``http`` is our own behind a proxy that
    ends TLS; the other way round it is not. An opaque origin, ``null``, is nobody's.
    """
    if origin in allowed:
        return origin != "null"
    try:
        page, ours = urlsplit(origin), urlsplit(f"//{host}")
        same_host = page.hostname is not None and page.hostname == ours.hostname
        default = _DEFAULT_PORTS.get(page.scheme)
        same_port = (page.port or default) == (ours.port or default)
    except ValueError:
        return False
    return (
        same_host and same_port and page.scheme in _DEFAULT_PORTS and (page.scheme == scheme or page.scheme == "https")
    )


def check_origin(origin: str | None, *, scheme: str, host: str, allowed: tuple[str, ...]) -> None:
    """A caller that is no browser sends none. Raises `ForeignOrigin`."""
    if origin is not None and not is_allowed_origin(origin, scheme=scheme, host=host, allowed=allowed):
        raise ForeignOrigin
