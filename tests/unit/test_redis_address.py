"""Addresses of Redis: one server or a service behind Sentinels, with TLS or without; what is none is refused unseen."""

from __future__ import annotations

import pytest

from shared import redis_address, settings
from shared.doorbell import make_celery
from shared.settings import InvalidSettings


def test_one_server() -> None:
    address = redis_address.parse("redis://user:p%40ss@h:7000/3")
    assert (address.host, address.port, address.db) == ("h", 7000, 3)
    assert (address.username, address.password) == ("user", "p@ss")
    assert (address.sentinels, address.tls_context()) == ((), None)


def test_sentinels_are_told_apart_from_the_service_the_database_and_the_servers_login() -> None:
    address = redis_address.parse("sentinel://user:pass@a:26000,b,[::1]:26001/main/2?sentinel_password=own")
    assert address.sentinels == (("a", 26000), ("b", 26379), ("::1", 26001))
    assert (address.service, address.db) == ("main", 2)
    assert (address.username, address.password) == ("user", "pass")
    assert address.sentinel_login == {"password": "own"}


def test_a_certificate_is_checked_unless_the_address_says_otherwise() -> None:
    context = redis_address.parse("rediss://h/0").tls_context()
    assert context is not None
    assert context.check_hostname
    unchecked = redis_address.parse("rediss://h/0?ssl_cert_reqs=none").tls_context()
    assert unchecked is not None
    assert not unchecked.check_hostname


@pytest.mark.parametrize(
    "url",
    [
        "http://canary/0",
        "canary",
        "sentinel://canary",
        "sentinel:///canary",
        "sentinel://canary:x/service",
        "sentinel://canary/service/x",
        "redis://canary:x/0",
        "rediss://h/0?ssl_cert_reqs=canary",
    ],
)
def test_what_is_no_address_is_told_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidSettings) as invalid:
        settings.load({"DATABASE_URL": "postgresql://h/n", "REDIS_URL": url, "CHATRELAY_BROKER_URL": url})
    lines = str(invalid.value).splitlines()
    assert sorted(line.split(":")[0] for line in lines) == ["CHATRELAY_BROKER_URL", "REDIS_URL"]
    assert "canary" not in str(invalid.value)


def test_bells_go_where_the_log_is_unless_they_have_a_redis_of_their_own() -> None:
    needed = {"DATABASE_URL": "postgresql://h/n", "REDIS_URL": "redis://log/0"}
    assert settings.load(needed).bells_url == "redis://log/0"
    assert settings.load({**needed, "CHATRELAY_BROKER_URL": "redis://bells/1"}).bells_url == "redis://bells/1"


def test_the_broker_is_never_spoken_to_without_the_tls_that_was_asked_for() -> None:
    for url in ("rediss://h/0", "sentinels://h/service"):
        celery = make_celery(url)
        assert celery.conf.broker_use_ssl["ssl_cert_reqs"] == "required"
        celery.close()
