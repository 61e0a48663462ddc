"""Whose request it is: nobody can say that he is somebody else but a proxy that is trusted."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.addresses import LOCAL, Addresses

_TRUSTED: Final = [ip_network(name) for name in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "2001:db8:aa::/48")]


@pytest.fixture
def addresses() -> Addresses:
    return Addresses(_TRUSTED)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "place"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("::1", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "6.6.6.6,198.51.100.1 , 10.9.9.9", "198.51.100.1"),
        ("10.1.2.3", "6.6.6.6, nonsense, 10.9.9.9", "10.9.9.9"),
        ("10.1.2.3", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", None, "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("", "198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.7", None, "203.0.113.7"),
        ("::ffff:10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("127.0.0.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("10.1.2.3", "127.0.0.1, 10.7.7.7", "10.7.7.7"),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", None, "2001:db8:1:2::/64"),
        ("2001:db8:aa::1", "2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
def test_the_client_is_the_first_that_no_trusted_proxy_stands_before(
    addresses: Addresses, peer: str, forwarded_for: str | None, place: str
) -> None:
    found = addresses.client(peer, forwarded_for)
    assert (found.place, found.is_local) == (place, False)


@pytest.mark.parametrize(
    ("peer", "forwarded_for"), [("127.0.0.1", None), ("::1", None), ("", None), ("127.0.0.1", "x")]
)
def test_this_machine_itself_is_told_apart(addresses: Addresses, peer: str, forwarded_for: str | None) -> None:
    assert addresses.client(peer, forwarded_for) is LOCAL


@given(st.text(max_size=60))
def test_whatever_a_client_writes_it_stays_who_it_is(said: str) -> None:
    """By itself, and where the proxy puts the address behind what was said."""
    addresses = Addresses(_TRUSTED)
    assert addresses.client("203.0.113.7", said).place == "203.0.113.7"
    assert addresses.client("10.1.2.3", f"{said}, 203.0.113.7").place == "203.0.113.7"


def test_where_every_proxy_is_trusted_the_first_entry_counts() -> None:
    addresses = Addresses([ip_network("0.0.0.0/0"), ip_network("::/0")])
    assert addresses.client("203.0.113.7", "198.51.100.1, 203.0.113.9").place == "198.51.100.1"
