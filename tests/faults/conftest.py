"""A stack to be hurt: servers of its own, two of every process, short leases. After each test it is made whole again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from dev.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.faults.outcome import Witness, check_outcome
from tests.people import Person, eventually
from tests.stack import Stack, StackStarter

PROCESSES = ("web-1", "web-2", "worker-1", "worker-2", "sweeper")
SHORT_LEASES = {
    "CHATRELAY_LEASE_S": 2,
    "CHATRELAY_HEARTBEAT_S": 0.5,
    "CHATRELAY_SWEEP_S": 0.5,
    "CHATRELAY_RING_AGAIN_S": 1,
}


@pytest.fixture(scope="session")
def _fragile_stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(webs=2, workers=2, settings=SHORT_LEASES, own_postgres=True, own_valkey=True, links=True)


@pytest.fixture
def fragile(_fragile_stack: Stack) -> Iterator[Stack]:
    """Whole at the start: every process runs and is ready, the model knows no script. The test may hurt what it likes."""
    _fragile_stack.model.reset()
    yield _fragile_stack
    make_whole(_fragile_stack)


@pytest.fixture
def person(fragile: Stack, request: pytest.FixtureRequest) -> Iterator[Person]:
    """Somebody who is asked for in every test here: in the end all that this user began is checked, once all is whole."""
    failed_before = request.session.testsfailed
    with Witness(fragile) as somebody:
        yield somebody
        if request.session.testsfailed == failed_before:
            make_whole(fragile)
            check_outcome(fragile, somebody)


@pytest.fixture
def postgres_server(fragile: Stack) -> EmbeddedPostgres:
    assert fragile.postgres is not None
    return fragile.postgres


@pytest.fixture
def valkey_server(fragile: Stack) -> EmbeddedValkey:
    assert fragile.valkey is not None
    return fragile.valkey


def make_whole(stack: Stack) -> None:
    """Undoes faults of the links, starts what is gone and wakes what was stopped; returns when all of it serves again."""
    assert stack.postgres is not None
    assert stack.valkey is not None
    stack.undo_faults()
    for server in (stack.postgres, stack.valkey):
        if not server.is_running:
            server.restart()
    stack.store.close()  # its connections may have died with the server
    for name in PROCESSES:
        stack.kill(name, signal.SIGCONT)
    stack.restart(*(name for name in PROCESSES if not stack.is_running(name)))
    for web in range(len(stack.urls)):
        eventually(partial(_serves, stack, web))


def _serves(stack: Stack, web: int) -> bool:
    try:
        return stack.client(web).get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
