"""A database that goes away is told as such, and the store goes on when it is back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from dev.embedded import EmbeddedPostgres
from dev.embedded_postgres import DATABASE
from shared.engine import make_engine
from shared.errors import StoreUnavailable
from shared.store import Store
from tests import rights
from tests.integration.store_parts import Scene


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A cluster that the test may kill."""
    with EmbeddedPostgres.start(fsync=False) as server:
        rights.migrated(server, DATABASE)
        yield server


def test_a_killed_database_is_unavailable_and_then_goes_on_with_what_was_acknowledged(
    own_postgres: EmbeddedPostgres,
) -> None:
    engine = make_engine(rights.as_app(own_postgres.url), pool_size=3, application="test")
    store = Store(engine)
    scene = Scene(store, engine)
    lease = scene.claimed()
    own_postgres.kill()
    for ask in (
        store.ping,
        lambda: store.renew_leases([lease.owner], lease_s=10),
        lambda: store.take_lapsed(limit=1),
        scene.submit,
        lambda: scene.finalize(lease),
        lambda: store.authenticate("x"),
    ):
        with pytest.raises(StoreUnavailable):
            ask()
    own_postgres.restart()
    assert lease.owner in store.renew_leases([lease.owner], lease_s=10)
    scene.finalize(lease)
    store.close()


def test_a_session_that_the_database_ends_is_replaced(store: Store, scene: Scene) -> None:
    """One question may fail for each connection of the pool; then it goes on."""
    scene.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    for _ in range(20):
        try:
            store.ping()
            break
        except StoreUnavailable:
            continue
    store.ping()


def test_a_lock_that_is_held_too_long_is_unavailable_not_for_ever(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=3, application="test", lock_timeout_s=0.2)
    store = Store(engine)
    scene = Scene(store, engine)
    lease = scene.claimed()
    with engine.connect() as holder:
        holder.exec_driver_sql("SELECT 1 FROM messages FOR UPDATE")
        with pytest.raises(StoreUnavailable):
            scene.finalize(lease)
        holder.rollback()
    scene.finalize(lease)
    store.close()


def test_a_frozen_database_is_given_up_in_bounded_time(own_postgres: EmbeddedPostgres) -> None:
    """A stopped server accepts nobody new: the deadline of a connect holds."""
    store = Store(make_engine(rights.as_app(own_postgres.url), pool_size=3, application="test"))
    with frozen([own_postgres.pid]), pytest.raises(StoreUnavailable):
        store.ping()
    store.ping()
    store.close()


def test_a_server_that_stands_still_in_the_middle_is_given_up_too(own_postgres: EmbeddedPostgres) -> None:
    """Its connections stay open and its kernel takes what is sent: the wait for an answer has a deadline of its own."""
    engine = make_engine(rights.as_app(own_postgres.url), pool_size=1, application="test", statement_timeout_s=0.2)
    store = Store(engine)
    scene = Scene(store, engine)
    lease = scene.claimed()
    with engine.connect() as connection:
        backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with frozen([own_postgres.pid, backend]):
        with pytest.raises(StoreUnavailable):
            store.ping()
        with pytest.raises(StoreUnavailable):
            scene.finalize(lease)
    scene.finalize(lease)
    store.close()


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def scene(store: Store, database_url: str) -> Scene:
    return Scene(store, store._engine)
