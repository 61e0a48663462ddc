"""The identity provider's keys over HTTP: what does not come as it should is no set of keys, and is not waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api import identity, jwks_over_http
from api.provider_keys import KeysAway
from tests.identity_provider import KEYS_PATH, IdentityProvider, providing
from tests.tls import Authority, TlsFront


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with providing() as made:
        yield made


def test_the_document_is_read_as_it_is(provider: IdentityProvider) -> None:
    assert set(identity.read_keys(jwks_over_http.fetch(provider.url))) == {"rsa", "ec"}


def test_no_redirect_is_followed(provider: IdentityProvider) -> None:
    """Not to the inside of somebody's network, nor to a plain address."""
    provider.status, provider.headers = 302, {"Location": "/elsewhere"}
    with pytest.raises(KeysAway):
        jwks_over_http.fetch(provider.url)
    assert provider.paths == [KEYS_PATH]


@pytest.mark.parametrize("status", [204, 206, 401, 404, 500, 503])
def test_an_answer_that_is_none_is_not_taken(provider: IdentityProvider, status: int) -> None:
    provider.status = status
    with pytest.raises(KeysAway):
        jwks_over_http.fetch(provider.url)


def test_what_is_too_large_is_not_read_to_its_end(provider: IdentityProvider) -> None:
    provider.body = b'{"keys":[' + b" " * 40_000_000
    with pytest.raises(KeysAway, match="too large"):
        jwks_over_http.fetch(provider.url)


def test_a_packed_answer_is_not_unpacked(provider: IdentityProvider) -> None:
    """A few kilobytes could be gigabytes."""
    provider.body = b" " * 50_000_000
    provider.headers = {"Content-Encoding": "gzip"}
    assert len(jwks_over_http.fetch(provider.url)) < 100_000


def test_a_provider_whose_certificate_nobody_vouches_for_is_not_believed(
    provider: IdentityProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that has another host's."""
    authority = Authority(tmp_path)
    with (
        TlsFront(provider.url, authority.certificate("localhost")) as ours,
        TlsFront(provider.url, authority.certificate("other.example")) as other,
    ):
        with pytest.raises(KeysAway):
            jwks_over_http.fetch(f"https://localhost:{ours.port}{KEYS_PATH}")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        with pytest.raises(KeysAway):
            jwks_over_http.fetch(f"https://localhost:{other.port}{KEYS_PATH}")
        assert provider.paths == []
        assert set(identity.read_keys(jwks_over_http.fetch(f"https://localhost:{ours.port}{KEYS_PATH}"))) == {
            "rsa",
            "ec",
        }


def test_a_provider_that_says_nothing_is_waited_for_no_longer_than_a_request_waits(provider: IdentityProvider) -> None:
    provider.may_answer.clear()
    with pytest.raises(KeysAway):
        jwks_over_http.fetch(provider.url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/keys", "http://name.invalid/keys", "https://127.0.0.1:{port}/keys"]
)
def test_a_provider_that_is_not_there_is_away(provider: IdentityProvider, url: str) -> None:
    """Nor is one that speaks no TLS where that is asked for."""
    with pytest.raises(KeysAway):
        jwks_over_http.fetch(url.replace("{port}", provider.url.partition(":")[2].partition(":")[2].partition("/")[0]))
