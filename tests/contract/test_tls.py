"""TLS to both stores: every client of ours speaks it, and refuses a server that is not who it should be."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import uvloop
from sqlalchemy import text

from shared import event_log, keys
from shared.doorbell import Doorbell, make_celery
from shared.engine import make_engine
from shared.errors import StoreUnavailable
from shared.event_log import EventLog
from shared.redis_link import RedisLink
from shared.store import Store
from tests.tls import Authority, TlsFront

_WAIT_S = 15.0
_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def front(authority: Authority, redis_url: str) -> Iterator[TlsFront]:
    """Redis, by TLS, under the name ``localhost``."""
    with TlsFront(redis_url, authority.certificate("localhost")) as made:
        yield made


def _trusting(front: TlsFront, redis_url: str, authority: Authority, *, host: str = "localhost") -> str:
    return f"rediss://{host}:{front.port}/{redis_url.rpartition('/')[2]}?ssl_ca_certs={authority.path}"


@pytest.fixture(params=["another authority's", "another host's"])
def refused_url(request: pytest.FixtureRequest, front: TlsFront, redis_url: str, tmp_path: Path) -> str:
    """An address whose server shows a certificate that must not do."""
    if request.param == "another host's":
        return _trusting(front, redis_url, request.getfixturevalue("authority"), host="127.0.0.1")
    return _trusting(front, redis_url, Authority(tmp_path, "stranger"))


@pytest.mark.parametrize("loop", sorted(_LOOPS))
def test_the_link_of_an_event_loop(
    loop: str, front: TlsFront, redis_url: str, authority: Authority, redis_client: redis.Redis
) -> None:
    """Commands, their replies, and the database of the address; also more than one TLS record of them."""

    async def story() -> None:
        link = RedisLink(_trusting(front, redis_url, authority))
        link.start()
        assert await link.wait_up(_WAIT_S)
        long = "x" * 100_000
        assert await link.send("SET", "here", long, "EX", 60)
        assert await link.send("GET", "here") == long.encode()
        await link.close()

    with asyncio.Runner(loop_factory=_LOOPS[loop]) as runner:
        runner.run(story())
    assert redis_client.exists("here")


@pytest.mark.parametrize("loop", sorted(_LOOPS))
def test_the_link_of_an_event_loop_refuses_a_stranger(loop: str, refused_url: str) -> None:
    async def story() -> None:
        link = RedisLink(refused_url)
        link.start()
        try:
            assert not await link.wait_up(1.0)
        finally:
            await link.close()

    with asyncio.Runner(loop_factory=_LOOPS[loop]) as runner:
        runner.run(story())


def test_the_blocking_client(front: TlsFront, redis_url: str, authority: Authority) -> None:
    client = event_log.connect(_trusting(front, redis_url, authority))
    EventLog(client).ping()
    client.close()


def test_the_blocking_client_refuses_a_stranger(refused_url: str) -> None:
    client = event_log.connect(refused_url)
    with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        client.ping()
    client.close()


def test_the_doorbell(front: TlsFront, redis_url: str, authority: Authority, redis_client: redis.Redis) -> None:
    celery = make_celery(_trusting(front, redis_url, authority))
    assert Doorbell(celery).ring(uuid.uuid4())
    assert redis_client.llen(keys.INTERACTIVE_QUEUE) == 1
    celery.close()


def test_the_doorbell_refuses_a_stranger(refused_url: str) -> None:
    celery = make_celery(refused_url)
    assert not Doorbell(celery).ring(uuid.uuid4())
    celery.close()


def test_postgres_is_verified_in_full(authority: Authority, database_url: str, tmp_path: Path) -> None:
    """As ``sslmode`` in the address says: the authority and the name must be right."""
    database = database_url.rpartition("/")[2]
    user = database_url.partition("://")[2].partition("@")[0]
    stranger = Authority(tmp_path, "stranger")
    with TlsFront(database_url, authority.certificate("localhost")) as front:
        for host, trusted, answers in (
            ("localhost", authority, True),
            ("localhost", stranger, False),
            ("127.0.0.1", authority, False),
        ):
            url = f"postgresql://{user}@{host}:{front.port}/{database}?sslmode=verify-full&sslrootcert={trusted.path}"
            engine = make_engine(url, pool_size=1, application="test")
            if answers:
                with engine.connect() as connection:
                    assert connection.execute(text("SELECT repeat('x', 100000)")).scalar_one() == "x" * 100_000
                Store(engine).sweeper_came_round("by TLS")
            else:
                with pytest.raises(StoreUnavailable):
                    Store(engine).sweeper_came_round("by TLS")
            engine.dispose()
