"""Where Redis is: one server, or a service that Sentinels know. Read from an address once, for every client of it.

    redis://user:password@host:port/db                    rediss:// for TLS, with the certificate checked
    sentinel://user:password@host:port,host:port/service/db   sentinels:// for TLS to Sentinels and servers

TLS is set as redis-py sets it: `ssl_ca_certs`, `ssl_ca_path`, `ssl_certfile`, `ssl_keyfile`, `ssl_password`,
`ssl_check_hostname`, `ssl_cert_reqs`. User and password are the servers'; the Sentinels' are `sentinel_username` and
`sentinel_password`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import msgspec
from redis import connection as redis_connection

_parse_url: Final[Callable[[str], dict[str, Any]]] = redis_connection.parse_url
_SENTINEL_PORT: Final = 26379
_SHAPES: Final = "redis://host:port/db, rediss://host:port/db or sentinel://host:port,host:port/service/db"
_VERIFY: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """`host` and `port` are one server's; where there are `sentinels`, these are asked for the master of `service`."""

    host: str
    port: int
    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int
    username: str | None
    password: str | None
    sentinel_login: dict[str, str]
    """`username` and `password` for the Sentinels themselves, as far as they were given."""
    tls: dict[str, Any] | None
    """redis-py's options, whose names begin with ``ssl_``; None for no TLS."""
    others: dict[str, Any]
    """What else redis-py reads from an address."""

    def tls_context(self) -> ssl.SSLContext | None:
        """As redis-py makes one: the system's authorities, and those that the address names."""
        if self.tls is None:
            return None
        context = ssl.create_default_context()
        verify = _VERIFY[self.tls.get("ssl_cert_reqs", "required")]
        context.check_hostname = verify is not ssl.CERT_NONE and self.tls.get("ssl_check_hostname", True)
        context.verify_mode = verify
        if certificate := self.tls.get("ssl_certfile"):
            context.load_cert_chain(certificate, self.tls.get("ssl_keyfile"), self.tls.get("ssl_password"))
        authorities, directory = self.tls.get("ssl_ca_certs"), self.tls.get("ssl_ca_path")
        if authorities or directory:
            context.load_verify_locations(authorities, directory)
        return context


def parse(url: str) -> RedisAddress:
    """Raises `ValueError`, without the address, where it is none."""
    parts = urlsplit(url)
    try:
        match parts.scheme:
            case "redis" | "rediss":
                return _address(_parse_url(url), sentinels=(), service="")
            case "sentinel" | "sentinels":
                return _behind_sentinels(parts)
    except ValueError as error:
        raise ValueError(f"must be {_SHAPES}") from error
    raise ValueError(f"must be {_SHAPES}")


def _behind_sentinels(parts: SplitResult) -> RedisAddress:
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, db = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("no service, or no host")
    scheme = "rediss" if parts.scheme == "sentinels" else "redis"
    servers = f"{scheme}://{login}@localhost/{int(db or 0)}?{parts.query}"
    return _address(_parse_url(servers), sentinels=tuple(map(_host_and_port, hosts.split(","))), service=service)


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or _SENTINEL_PORT


def _address(options: dict[str, Any], *, sentinels: tuple[tuple[str, int], ...], service: str) -> RedisAddress:
    is_tls = options.pop("connection_class", None) is redis_connection.SSLConnection
    tls = {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
    if tls.get("ssl_cert_reqs", "required") not in _VERIFY:
        raise ValueError("ssl_cert_reqs must be none, optional or required")
    login = {
        name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
    }
    return RedisAddress(
        host=options.pop("host", "localhost"),
        port=options.pop("port", 6379),
        sentinels=sentinels,
        service=service,
        db=int(options.pop("db", 0)),
        username=options.pop("username", None),
        password=options.pop("password", None),
        sentinel_login=login,
        tls=tls if is_tls else None,
        others=options,
    )
