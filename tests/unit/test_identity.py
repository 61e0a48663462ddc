"""JWTs as an attacker would make them: what is verified, what is not looked at, and which keys of a set are of use."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import jwt as library
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from api import identity
from api.identity import JwtRefused, Rules, UnreadableKeys
from tests.identity_provider import AUDIENCE, ISSUER, claims, ec_key, encoded, public, rsa_key, signed

RSA, EC, OTHER = rsa_key("rsa"), ec_key("ec"), rsa_key("somebody else's")
RULES: Final = Rules(
    issuer=ISSUER,
    audience=AUDIENCE,
    user_claim="sub",
    user_prefix=identity.USER_PREFIX,
    scope_claim="scope",
    ops_scope=None,
    max_lifetime_s=3600.0,
)
KEYS: Final = identity.read_keys(json.dumps({"keys": [public(RSA, "rsa"), public(EC, "ec")]}).encode())
PEM: Final = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read(token: str, rules: Rules = RULES) -> Any:
    """As a request's token is read. Raises `JwtRefused`."""
    kid = identity.key_id(token)
    if kid not in KEYS:
        raise JwtRefused("key")
    return identity.read(token, KEYS[kid], rules, time.time())


def now() -> int:
    """Of when it is called: a run may be long under way."""
    return int(time.time())


def by_hand(header: Any, said: Any, signature: bytes = b"x" * 256) -> str:
    return f"{encoded(header)}.{encoded(said)}.{encoded(signature)}"


def with_secret(secret: bytes, header: dict[str, Any]) -> str:
    """Signed with HS256 by what an attacker knows too."""
    whole = f"{encoded(header)}.{encoded(claims())}"
    return f"{whole}.{encoded(hmac.digest(secret, whole.encode(), hashlib.sha256))}"


def tampered(token: str, **changes: Any) -> str:
    """Other claims under the same signature."""
    header, _, signature = token.split(".")
    return f"{header}.{encoded(claims(**changes))}.{signature}"


def with_signature_of(token: str, other: str) -> str:
    return f"{token.rpartition('.')[0]}.{other.rpartition('.')[2]}"


HEADER: Final = {"alg": "RS256", "kid": "rsa", "typ": "JWT"}
BAD: Final[dict[str, tuple[Callable[[], str], str]]] = {
    # whose signature
    "another key": (lambda: signed(OTHER, claims()), "signature"),
    "no signature": (lambda: by_hand(HEADER, claims(), b""), "signature"),
    "zeros for a signature": (
        lambda: by_hand({**HEADER, "alg": "ES256", "kid": "ec"}, claims(), bytes(64)),
        "signature",
    ),
    "other claims": (lambda: tampered(signed(RSA, claims()), sub="root"), "signature"),
    "another's signature": (
        lambda: with_signature_of(signed(RSA, claims(sub="a")), signed(RSA, claims())),
        "signature",
    ),
    # which algorithm
    "alg none": (lambda: by_hand({"alg": "none", "kid": "rsa"}, claims(), b""), "algorithm"),
    "alg None": (lambda: by_hand({"alg": "nOnE", "kid": "rsa"}, claims(), b""), "algorithm"),
    "alg null": (lambda: by_hand({"alg": None, "kid": "rsa"}, claims(), b""), "algorithm"),
    "no alg": (lambda: by_hand({"kid": "rsa"}, claims(), b""), "algorithm"),
    "alg a list": (lambda: by_hand({"alg": ["RS256"], "kid": "rsa"}, claims()), "algorithm"),
    "HS256 with the public key": (lambda: with_secret(PEM, {"alg": "HS256", "kid": "rsa"}), "algorithm"),
    "HS256 with its modulus": (
        lambda: with_secret(public(RSA, "rsa")["n"].encode(), {"alg": "HS256", "kid": "rsa"}),
        "algorithm",
    ),
    "HS256 that says RS256": (lambda: with_secret(PEM, HEADER), "signature"),
    "RS512": (lambda: signed(RSA, claims(), algorithm="RS512"), "algorithm"),
    "PS256": (lambda: signed(RSA, claims(), algorithm="PS256"), "algorithm"),
    "ES256 by an RSA key": (lambda: by_hand({"alg": "ES256", "kid": "rsa"}, claims(), bytes(64)), "algorithm"),
    "RS256 by an EC key": (lambda: signed(RSA, claims(), kid="ec"), "algorithm"),
    # which key
    "no kid": (lambda: signed(RSA, claims(), kid=None), "key"),
    "an empty kid": (lambda: signed(RSA, claims(), kid=""), "key"),
    "a kid that is a path": (lambda: signed(RSA, claims(), kid="../../../dev/null"), "key"),
    "a kid that is an address": (lambda: signed(RSA, claims(), kid="https://evil.example/keys"), "key"),
    "a kid that is SQL": (lambda: signed(RSA, claims(), kid="x' UNION SELECT 'rsa"), "key"),
    "a kid with a NUL": (lambda: signed(RSA, claims(), kid="rsa\0"), "key"),
    "a long kid": (lambda: signed(RSA, claims(), kid="k" * 257), "key"),
    "a kid of another type": (lambda: by_hand({**HEADER, "kid": 1}, claims()), "malformed"),
    "a key in the header": (lambda: signed(OTHER, claims(), jwk=public(OTHER, "rsa")), "signature"),
    "a key's address in the header": (lambda: signed(OTHER, claims(), jku="https://evil.example/keys"), "signature"),
    "a certificate in the header": (
        lambda: signed(OTHER, claims(), x5u="https://evil.example/pem", x5c=["MIIB"]),
        "signature",
    ),
    # what kind
    "a critical extension": (lambda: by_hand({**HEADER, "crit": ["exp"], "exp": 1}, claims()), "malformed"),
    "an unencoded payload": (
        lambda: f"{encoded({**HEADER, 'b64': False, 'crit': ['b64']})}..{encoded(b'x' * 256)}",
        "critical",
    ),
    "a logout token": (lambda: signed(RSA, claims(), typ="logout+jwt"), "type"),
    "a typ of another type": (lambda: signed(RSA, claims(), typ=["JWT"]), "type"),
    # for whom, from whom, when
    "another audience": (lambda: signed(RSA, claims(aud="https://other.example")), "audience"),
    "other audiences": (lambda: signed(RSA, claims(aud=["a", AUDIENCE + "/"])), "audience"),
    "audiences in each other": (lambda: signed(RSA, claims(aud=[[AUDIENCE]])), "audience"),
    "an audience that contains ours": (lambda: signed(RSA, claims(aud=f"{AUDIENCE}.evil.example")), "audience"),
    "no audience": (lambda: signed(RSA, claims(aud=None)), "claims"),
    "another issuer": (lambda: signed(RSA, claims(iss="https://evil.example/")), "issuer"),
    "a part of the issuer": (lambda: signed(RSA, claims(iss=ISSUER[:-1])), "issuer"),
    "an issuer that contains ours": (lambda: signed(RSA, claims(iss=ISSUER + "x")), "issuer"),
    "issuers": (lambda: by_hand_signed(claims(iss=[ISSUER])), "issuer"),
    "no issuer": (lambda: signed(RSA, claims(iss=None)), "claims"),
    "expired": (lambda: signed(RSA, claims(exp=now() - 1)), "expired"),
    "expired long ago": (lambda: signed(RSA, claims(exp=now() - 99_999)), "expired"),
    "never expires": (lambda: signed(RSA, claims(exp=None)), "claims"),
    "expires in a year": (lambda: signed(RSA, claims(exp=now() + 31_536_000)), "claims"),
    "expires after all time": (lambda: signed(RSA, claims(exp=10**30)), "claims"),
    "expires at infinity": (
        lambda: by_hand_signed(b'{"exp":1e999,' + json.dumps(claims(exp=None)).encode()[1:]),
        "malformed",
    ),
    "expires at no number": (
        lambda: by_hand_signed(b'{"exp":NaN,' + json.dumps(claims(exp=None)).encode()[1:]),
        "malformed",
    ),
    "expires at a text": (lambda: by_hand_signed(claims(exp=str(now() + 60))), "malformed"),
    "expires at true": (lambda: by_hand_signed(claims(exp=True)), "expired"),
    "expires below zero": (lambda: signed(RSA, claims(exp=-1)), "expired"),
    "not yet good": (lambda: signed(RSA, claims(nbf=now() + 120)), "early"),
    "not yet issued": (lambda: signed(RSA, claims(iat=now() + 120)), "early"),
    # whose
    "no subject": (lambda: signed(RSA, claims(sub=None)), "claims"),
    "an empty subject": (lambda: signed(RSA, claims(sub="")), "claims"),
    "a subject with a slash": (lambda: signed(RSA, claims(sub="a/b")), "claims"),
    "a subject with a NUL": (lambda: signed(RSA, claims(sub="a\0b")), "claims"),
    "a subject too long": (lambda: signed(RSA, claims(sub="a" * 197)), "claims"),
    "a subject that is a number": (lambda: by_hand_signed(claims(sub=1)), "malformed"),
    # no JWT at all
    "claims that are a list": (lambda: by_hand_signed(b"[]"), "malformed"),
    "claims that are no JSON": (lambda: by_hand_signed(b"{"), "malformed"),
    "claims too deep": (lambda: by_hand_signed(b'{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}"), "malformed"),
    "a number of many digits": (lambda: by_hand_signed(b'{"a":' + b"9" * 4_400 + b"}"), "malformed"),
    "a header that is a list": (lambda: by_hand([], claims()), "malformed"),
    "a header that is no JSON": (lambda: by_hand(b"\xff", claims()), "malformed"),
    "four parts": (lambda: signed(RSA, claims()) + ".x", "malformed"),
    "encrypted": (lambda: f"{encoded({'alg': 'RSA-OAEP', 'enc': 'A256GCM', 'kid': 'rsa'})}.a.b.c.d", "malformed"),
    "too long": (lambda: signed(RSA, claims(more="x" * 6_000)), "malformed"),
}
"""How each is made, and the word by which it is refused."""


def by_hand_signed(said: Any) -> str:
    """Claims that the library would not write, with a signature that is right."""
    whole = f"{encoded(HEADER)}.{encoded(said)}"
    algorithm = library.algorithms.RSAAlgorithm(library.algorithms.RSAAlgorithm.SHA256)
    return f"{whole}.{encoded(algorithm.sign(whole.encode(), RSA))}"


@pytest.mark.parametrize("name", BAD)
def test_a_jwt_that_is_not_good_is_refused_in_one_word(name: str) -> None:
    """Whatever it is made of, nothing else is raised."""
    make, reason = BAD[name]
    with pytest.raises(JwtRefused) as refused:
        read(make())
    assert refused.value.reason == reason


GOOD: Final[dict[str, Callable[[], str]]] = {
    "RS256": lambda: signed(RSA, claims()),
    "ES256": lambda: signed(EC, claims(), kid="ec", algorithm="ES256"),
    "an access token's type": lambda: signed(RSA, claims(), typ="at+jwt"),
    "no type": lambda: by_hand_headed({"alg": "RS256", "kid": "rsa"}),
    "one of several audiences": lambda: signed(RSA, claims(aud=["https://other.example", AUDIENCE])),
    "a provider whose clock is ahead": lambda: signed(RSA, claims(iat=now() + 20, nbf=now() + 20)),
    "a fraction of a second": lambda: by_hand_signed(claims(exp=now() + 60.5)),
    "no time of issue": lambda: signed(RSA, claims(iat=None)),
    "claims and headers that nobody knows": lambda: signed(RSA, claims(roles={"a": 1}, scope=7), nonce="x", x5t="y"),
}


def by_hand_headed(header: Any) -> str:
    whole = f"{encoded(header)}.{encoded(claims())}"
    algorithm = library.algorithms.RSAAlgorithm(library.algorithms.RSAAlgorithm.SHA256)
    return f"{whole}.{encoded(algorithm.sign(whole.encode(), RSA))}"


@pytest.mark.parametrize("name", GOOD)
def test_a_good_jwt_is_its_subject_s_without_any_scope(name: str) -> None:
    found = read(GOOD[name]())
    assert (found.user, found.scopes, found.issuer) == ("jwt:anna", frozenset(), ISSUER)
    assert now() < found.expires_at.timestamp() <= time.time() + 300


def test_what_expires_is_said_by_the_claim_alone() -> None:
    """The leeway for clocks that differ prolongs nothing."""
    until = now() + 50
    assert read(signed(RSA, claims(exp=until))).expires_at == datetime.fromtimestamp(until, UTC)
    with pytest.raises(JwtRefused, match="expired"):
        identity.read(signed(RSA, claims(exp=until)), KEYS["rsa"], RULES, until)


def test_the_name_is_the_subject_s_own_where_the_settings_share_names() -> None:
    assert read(signed(RSA, claims()), replace(RULES, user_prefix="")).user == "anna"


def test_another_claim_may_name_the_user_and_an_address_must_be_verified() -> None:
    """At some providers anybody may enter anybody's address."""
    rules = replace(RULES, user_claim="email")
    assert read(signed(RSA, claims(email="a@b.example", email_verified=True)), rules).user == "jwt:a@b.example"
    for verified in (None, False, "true", 1):
        with pytest.raises(JwtRefused, match="claims"):
            read(signed(RSA, claims(email="a@b.example", email_verified=verified)), rules)
    with pytest.raises(JwtRefused, match="claims"):
        read(signed(RSA, claims()), rules)


@pytest.mark.parametrize(
    ("said", "is_operator"),
    [
        ("read chatrelay:ops", True),
        (["read", "chatrelay:ops"], True),
        ("ops", False),
        ("chatrelay:ops2 xchatrelay:ops", False),
        ([["chatrelay:ops"]], False),
        ({"chatrelay:ops": True}, False),
        (None, False),
    ],
)
def test_the_operators_scope_is_one_whole_word_that_the_settings_name(said: Any, is_operator: bool) -> None:
    token = signed(RSA, claims(scope=said))
    assert read(token).scopes == frozenset(), "no word is named"
    named = replace(RULES, ops_scope="chatrelay:ops")
    assert read(token, named).scopes == (frozenset({"ops"}) if is_operator else frozenset())


@given(
    parts=st.lists(
        st.one_of(
            st.binary(max_size=80).map(encoded),
            st.dictionaries(
                st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "iss", "aud", "sub", "exp", "nbf"]),
                st.sampled_from(
                    ["RS256", "ES256", "rsa", "ec", "JWT", ISSUER, AUDIENCE, now() + 60, 1e300, None, [], {}]
                ),
            ).map(encoded),
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
        ),
        max_size=5,
    )
)
def test_whatever_is_sent_is_refused_and_breaks_nothing(parts: list[str]) -> None:
    with pytest.raises(JwtRefused):
        read(".".join(parts))


def test_no_token_of_ours_looks_like_a_jwt() -> None:
    assert identity.is_jwt(signed(RSA, claims()))
    for token in ("", "q2Y-_x" * 7, "a.b", "a.b.c.d", "a b.c.d", "..", "é.b.c"):
        assert not identity.is_jwt(token)


# --- keys -------------------------------------------------------------------------------------------------------


def kids(*members: Any) -> set[str]:
    """Of what is left of these members beside a good one."""
    return set(identity.read_keys(json.dumps({"keys": [*members, public(EC, "good")]}).encode())) - {"good"}


def test_keys_that_sign_something_else_or_too_weakly_are_passed_over() -> None:
    rsa, weak = public(RSA, "k"), public(rsa_key("weak", 1024), "k")
    unusable: list[Any] = [
        weak,
        {**rsa, "use": "enc"},
        {**rsa, "key_ops": ["encrypt"]},
        {**rsa, "key_ops": "verify"},
        {**rsa, "alg": "RS512"},
        {**rsa, "alg": "HS256"},
        {**rsa, "alg": "none"},
        {**rsa, "kty": "oct", "k": "c2VjcmV0"},
        {**rsa, "kty": ["RSA"]},
        {**rsa, "kid": 1},
        {**rsa, "kid": ""},
        {"kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0", "alg": "HS256"},
        {"kty": "RSA", "kid": "k"},
        {"kty": "RSA", "kid": "k", "n": 1, "e": []},
        {**public(EC, "k"), "crv": "P-384"},
        {**public(EC, "k"), "x": "AAAA"},
        {**public(EC, "k"), "y": public(EC, "k")["x"]},
        None,
        [],
        "k",
    ]
    for member in unusable:
        assert kids(member) == set(), member
    assert kids(rsa) == {"k"}
    assert kids({**rsa, "alg": "RS256", "use": "sig", "key_ops": ["verify"]}) == {"k"}
    assert kids({name: value for name, value in rsa.items() if name != "use"}) == {"k"}


def test_of_two_keys_of_a_name_the_first_counts() -> None:
    keys = identity.read_keys(json.dumps({"keys": [public(RSA, "k"), public(OTHER, "k")]}).encode())
    assert identity.read(signed(RSA, claims(), kid="k"), keys["k"], RULES, time.time()).user == "jwt:anna"


def test_a_private_key_in_a_set_is_its_public_one() -> None:
    """A provider that publishes too much has JWTs verified all the same."""
    private = library.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True) | {"kid": "k"}
    private.pop("key_ops", None)
    keys = identity.read_keys(json.dumps({"keys": [private]}).encode())
    assert identity.read(signed(RSA, claims(), kid="k"), keys["k"], RULES, time.time()).user == "jwt:anna"


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{", b"null", b'{"keys":[]}', b'{"keys":{}}', b'{"keys":1}', b"<html>"]
)
def test_what_is_no_set_of_keys_is_none(document: bytes) -> None:
    with pytest.raises(UnreadableKeys):
        identity.read_keys(document)


def test_no_more_than_so_many_keys_are_looked_at() -> None:
    many = [public(EC, f"k{number}") for number in range(identity.MOST_KEYS + 50)]
    assert len(identity.read_keys(json.dumps({"keys": many}).encode())) == identity.MOST_KEYS
