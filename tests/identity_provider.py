"""An identity provider of the tests' own: real keys, a JWK Set over real HTTP, and JWTs good and bad."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Json: TypeAlias = dict[str, Any]

ISSUER: Final = "https://identity.example/"
AUDIENCE: Final = "https://chatrelay.example"
KEYS_PATH: Final = "/keys"


@functools.cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The same each time that it is asked for by this name: making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: PrivateKey, kid: str, **more: Any) -> Json:
    """A member of a JWK Set."""
    if isinstance(key, rsa.RSAPrivateKey):
        found = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        found = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return {**found, "kid": kid, "use": "sig", **more}


def encoded(part: Mapping[str, Any] | bytes) -> str:
    """A part of a JWT, written by hand."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(**changes: Any) -> Json:
    """What a good JWT says, with these claims in place of its own; one that is None is left out."""
    now_s = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "iat": now_s, "exp": now_s + 300, **changes}
    return {name: value for name, value in made.items() if value is not None}


def signed(
    key: Any, said: Mapping[str, Any], *, kid: str | None = "rsa", algorithm: str = "RS256", **header: Any
) -> str:
    """A JWT by the library; the header's `kid` is left out where it is None."""
    headers = {**({} if kid is None else {"kid": kid}), **header}
    return jwt.encode(dict(said), key, algorithm=algorithm, headers=headers)


class IdentityProvider:
    """`url` is that of its keys, which are `members`; what else it answers with can be said before."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}{KEYS_PATH}"
        self.members: list[Json] = [public(rsa_key("rsa"), "rsa"), public(ec_key("ec"), "ec")]
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        """In place of the key set."""
        self.may_answer = threading.Event()
        """While it is not set, a request waits."""
        self.may_answer.set()
        self.asked = threading.Semaphore(0)
        """Released for each request."""
        self.paths: list[str] = []

    def settings(self, **more: Any) -> Json:
        """Changes of the settings, for `Api.new_app`."""
        return {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks_url": self.url, **more}

    def jwt(self, **changes: Any) -> str:
        """A good JWT, with these claims in place of its own."""
        return signed(rsa_key("rsa"), claims(**changes))

    def keys(self) -> bytes:
        return json.dumps({"keys": self.members}).encode()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.paths.append(handler.path)
        self.asked.release()
        self.may_answer.wait(30)
        body = self.keys() if self.body is None else self.body
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.compress(body)
        handler.send_response(self.status)
        for name, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            **self.headers,
        }.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def providing() -> Iterator[IdentityProvider]:
    """A provider that answers, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                provider.answer(self)
            except OSError:
                pass  # whoever asked has gone

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider = IdentityProvider(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="identity-provider")
        thread.start()
        try:
            yield provider
        finally:
            provider.may_answer.set()
            server.shutdown()
            thread.join()
