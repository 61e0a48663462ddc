"""Who asks: a bearer token in the header, or a ticket in the address of a stream."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import msgspec
from werkzeug.datastructures import Headers

from api.refusals import ForeignOrigin, Unauthorized
from shared.records import Principal
from shared.store import Store

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,1000}")
_BEARER: Final = re.compile(rf"Bearer +({_TOKEN.pattern})", re.IGNORECASE)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Caller(Principal, frozen=True, kw_only=True):
    """Who came with a token, and which."""

    token_sha256: bytes


def by_token(store: Store, headers: Headers) -> Caller:
    """Raises `Unauthorized`."""
    token = bearer_token(headers)
    if token is None:
        raise Unauthorized
    return by_bare_token(store, token)


def bearer_token(headers: Headers) -> str | None:
    """The token in the header; None where there is none that could be one."""
    match = _BEARER.fullmatch(headers.get("Authorization", "").strip())
    return None if match is None else match[1]


def by_bare_token(store: Store, token: str) -> Caller:
    """Raises `Unauthorized`."""
    found = store.authenticate(token) if _TOKEN.fullmatch(token) else None
    if found is None:
        raise Unauthorized
    return _caller(*found)


def _caller(principal: Principal, token_sha256: bytes) -> Caller:
    return Caller(**msgspec.structs.asdict(principal), token_sha256=token_sha256)


def by_token_or_ticket(store: Store, headers: Headers, ticket: str | None, path: str) -> Caller:
    """By the token where there is a header, else by the ticket, which must be for `path`. Raises `Unauthorized`."""
    if ticket is None or "Authorization" in headers:
        return by_token(store, headers)
    found = store.redeem_ticket(ticket, path)
    if found is None:
        raise Unauthorized("The ticket is not good for this address: used, expired, or for another one.")
    return _caller(*found)


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
