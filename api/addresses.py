"""Whose request it is: the address that it came from, past the proxies that are trusted to say so. No I/O.

`X-Forwarded-For` is read from its end, where the nearest proxy wrote: each entry is believed as long as the one that wrote it
is trusted, and the first that is not is the client. What a client writes there itself stands further left, and is never
reached.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV6_PREFIX: Final = 64
"""What one customer has at least (RFC 6177): all of it counts as one."""
_REMEMBERED: Final = 4096
_MOST_CHARS: Final = 2000
"""Of `X-Forwarded-For`, its end."""


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from."""

    place: str
    """The address; of IPv6 the network of 64 bits that it lies in."""
    is_local: bool
    """This machine itself, through no proxy that says otherwise."""

    @property
    def counted_place(self) -> str | None:
        """`place`; None where nothing is counted."""
        return None if self.is_local else self.place


LOCAL: Final = Client(place="local", is_local=True)


class Addresses:
    def __init__(self, trusted: Iterable[Network]) -> None:
        """`trusted`: where proxies are whose word is taken."""
        self._trusted = tuple(trusted)
        self.client = lru_cache(_REMEMBERED)(self._client)
        """Of a connection from `peer` whose request bears `forwarded_for` (None: no such header)."""

    def _client(self, peer: str, forwarded_for: str | None) -> Client:
        address = _parsed(peer)
        if address is None:  # a socket of this machine's file system
            return LOCAL if not forwarded_for else self._client("127.0.0.1", forwarded_for)
        for entry in reversed((forwarded_for or "").split(",")):
            if not self._is_trusted(address):
                break
            said = _parsed(entry.strip())
            if said is None or said.is_loopback:  # none, nonsense or a lie: the last one that is known
                break
            address = said
        return _of(address)

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def nearest(forwarded_for: str | None) -> str | None:
    """The end of the header, as much of it as is read."""
    return forwarded_for and forwarded_for[-_MOST_CHARS:]


def _parsed(text: str) -> _Address | None:
    """With or without a port, as some proxies write it."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _of(address: _Address) -> Client:
    if address.is_loopback:
        return LOCAL
    if isinstance(address, ipaddress.IPv4Address):
        return Client(place=str(address), is_local=False)
    network = ipaddress.IPv6Network((int(address), _IPV6_PREFIX), strict=False)
    return Client(place=str(network), is_local=False)
