"""What a JWT of the identity provider says, once its signature and its claims have been checked. Pure.

A JWT is taken as an access token: signed with `RS256` or `ES256` by a key of the provider's set, for us, now. Its header
picks a key of that set by its `kid` and decides nothing else: what it says of keys (`jku`, `jwk`, `x5u`, `x5c`) is not
looked at, and what it declares to be critical is not understood here (RFC 7515, section 4.1.11). After RFC 8725, RFC 9068.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import jwt
import msgspec
from jwt import PyJWK

from api.auth import MOST_TOKEN_CHARS
from shared import names
from shared.lifecycle import Scope
from shared.records import Identity
from shared.settings import Settings

USER_PREFIX: Final = "jwt:"
"""Before a subject, so that no JWT is by accident the user of that name who has tokens."""
LEEWAY_S: Final = 30
"""How far the provider's clock may be ahead of ours. It prolongs nothing: `exp` is taken as it stands."""
MOST_KEYS: Final = 100
"""Of a set. A provider has two or three."""
LEAST_RSA_BITS: Final = 2048
_LONGEST_ID: Final = 256
_ALGORITHMS: Final = ("RS256", "ES256")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""A provider signs other things with the same keys: what says that it is one of those is no access token."""
_JWT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
_PUBLIC: Final = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}

Reason: TypeAlias = Literal[
    "malformed", "type", "critical", "algorithm", "key", "signature", "issuer", "audience", "expired", "early", "claims"
]
KeySet: TypeAlias = Mapping[str, PyJWK]
"""By `kid`."""


class JwtRefused(Exception):
    """A JWT is not good here; `reason` says why, in a word of ours."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class UnreadableKeys(Exception):
    """What should be the provider's key set has no key that is of use here."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a JWT must say, and how it is read: the settings `CHATRELAY_JWT_…`."""

    issuer: str
    audience: str
    user_claim: str
    user_prefix: str
    scope_claim: str
    ops_scope: str | None
    """The word in the claim of scopes that allows what operators may; None: no JWT does."""
    max_lifetime_s: float

    @staticmethod
    def of(settings: Settings) -> Rules | None:
        """None where no provider is named."""
        if settings.jwt_issuer is None or settings.jwt_audience is None:
            return None
        return Rules(
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            user_claim=settings.jwt_user_claim,
            user_prefix="" if settings.jwt_shared_names else USER_PREFIX,
            scope_claim=settings.jwt_scope_claim,
            ops_scope=settings.jwt_ops_scope,
            max_lifetime_s=settings.jwt_max_lifetime_s,
        )


def is_jwt(token: str) -> bool:
    """Whether it has a JWT's form. No token of `chatrelay token create` has: there is no full stop in one."""
    return _JWT.fullmatch(token) is not None


def key_id(token: str) -> str:
    """The `kid` that the header names. Nothing is verified yet. Raises `JwtRefused`."""
    if len(token) > MOST_TOKEN_CHARS:
        raise JwtRefused("malformed")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise JwtRefused("malformed") from None
    if "crit" in header or "b64" in header:
        raise JwtRefused("critical")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise JwtRefused("type")
    if header.get("alg") not in _ALGORITHMS:
        raise JwtRefused("algorithm")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_ID:
        raise JwtRefused("key")
    return kid


def read(token: str, key: PyJWK, rules: Rules, now_s: float) -> Identity:
    """The identity, by the key that `key_id` named. Raises `JwtRefused`."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=_ALGORITHMS,
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=LEEWAY_S,
            options={"require": ["iss", "aud", "exp", rules.user_claim], "enforce_minimum_key_length": True},
        )
    except jwt.PyJWTError as error:
        raise JwtRefused(_reason(error)) from None
    return Identity(
        user=_user(claims, rules),
        scopes=_scopes(claims, rules),
        issuer=rules.issuer,
        expires_at=_expiry(claims["exp"], now_s, rules.max_lifetime_s),
    )


def _reason(error: jwt.PyJWTError) -> Reason:
    match error:
        case jwt.ExpiredSignatureError():
            return "expired"
        case jwt.ImmatureSignatureError():
            return "early"
        case jwt.InvalidAudienceError():
            return "audience"
        case jwt.InvalidIssuerError():
            return "issuer"
        case jwt.MissingRequiredClaimError():
            return "claims"
        case jwt.InvalidSignatureError():
            return "signature"
        case jwt.InvalidAlgorithmError() | jwt.InvalidKeyError():
            return "algorithm"
        case _:
            return "malformed"


def _user(claims: Mapping[str, Any], rules: Rules) -> str:
    said = claims[rules.user_claim]
    if not isinstance(said, str):
        raise JwtRefused("claims")
    if rules.user_claim == "email" and claims.get("email_verified") is not True:
        raise JwtRefused("claims")  # at some providers anybody may enter anybody's
    name = rules.user_prefix + said
    if not said or not names.is_user_name(name):
        raise JwtRefused("claims")
    return name


def _scopes(claims: Mapping[str, Any], rules: Rules) -> frozenset[str]:
    """Of all that the provider says, the operators' scope, where the settings name a word for it."""
    said = claims.get(rules.scope_claim)
    words = said.split(" ") if isinstance(said, str) else said if isinstance(said, list) else []
    return frozenset({Scope.OPS.value} if rules.ops_scope is not None and rules.ops_scope in words else ())


def _expiry(exp: object, now_s: float, max_lifetime_s: float) -> datetime:
    if isinstance(exp, bool) or not isinstance(exp, int | float) or not math.isfinite(exp):
        raise JwtRefused("malformed")
    if exp <= now_s:
        raise JwtRefused("expired")
    if exp > now_s + max_lifetime_s:
        raise JwtRefused("claims")
    return datetime.fromtimestamp(exp, UTC)


# --- the provider's keys ------------------------------------------------------------------------------------------


def read_keys(document: bytes) -> KeySet:
    """The keys of a JWK Set (RFC 7517) that sign with our algorithms; others in it are passed over.

    Raises `UnreadableKeys` where there is none.
    """
    try:
        members = msgspec.json.decode(document)["keys"]
        found = [_key(member) for member in members[:MOST_KEYS]]
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
        raise UnreadableKeys from None
    keys: dict[str, PyJWK] = {}
    for key in found:
        if key is not None and key[0] not in keys:
            keys[key[0]] = key[1]
    if not keys:
        raise UnreadableKeys
    return keys


def _key(member: object) -> tuple[str, PyJWK] | None:
    if not isinstance(member, dict):
        return None
    kid, kind = member.get("kid"), member.get("kty")
    if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_ID or not isinstance(kind, str) or kind not in _PUBLIC:
        return None
    algorithm = "RS256" if kind == "RSA" else "ES256"
    if member.get("alg", algorithm) != algorithm or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if kind == "EC" and member.get("crv") != "P-256":
        return None
    try:
        key = PyJWK({name: member[name] for name in _PUBLIC[kind]}, algorithm)
    except (jwt.PyJWTError, KeyError):
        return None
    return (kid, key) if kind == "EC" or key.key.key_size >= LEAST_RSA_BITS else None
