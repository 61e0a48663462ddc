"""What every test stands on: a Postgres and a Valkey of the session's own, and per test a database of each.

A service that cannot be started fails the tests that need it; nothing is ever skipped. What a test leaves behind
(threads, open transactions, Redis keys that never expire, subscriptions) fails that test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import hypothesis
import pytest
import redis
from sqlalchemy import Engine

from dev.embedded import EmbeddedPostgres, EmbeddedValkey
from shared import event_log
from shared import settings as settings_module
from shared.engine import make_engine
from shared.event_log import EventLog
from shared.settings import Settings
from shared.store import Store
from tests import rights
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.leaks import thread_leaks_reported
from tests.stack import Stack, StackStarter

# Nothing is timed: the machines that run the tests are small and shared. A failure prints what reproduces it. What
# decides whether a change may land is the same examples each time; whoever works on one is shown new ones.
hypothesis.settings.register_profile(
    "chatrelay",
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("chatrelay")

_BROWSER: Final = Path(__file__).parent / "browser"
TEMPLATE: Final = "migrated_template"


@pytest.fixture(scope="session", autouse=True)
def _the_tests_own_variable_is_no_setting() -> None:
    """The product, which some tests have read this process's environment, refuses settings that it does not know."""
    os.environ.pop(rights.VARIABLE, None)


# --- the session's servers --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A cluster of the session's own. Not for tests that kill it: those take `own_postgres`."""
    with EmbeddedPostgres.start(fsync=False) as server:
        yield server
        rights.check_nobody_was_refused(server)


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedValkey]:
    """A server of the session's own. Not for tests that kill or empty it: those take `own_valkey`."""
    with rights.Valkey.start() as server:
        yield server
        rights.check_nobody_was_refused(server)


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    """A server that the test may kill, restart and empty."""
    with rights.Valkey.start() as server:
        yield server
        rights.check_nobody_was_refused(server)


@pytest.fixture(scope="session")
def postgres_databases(postgres: EmbeddedPostgres) -> PostgresDatabases:
    """Hands out clones of a template that was migrated once."""
    postgres.create_database(TEMPLATE)
    rights.migrated(postgres, TEMPLATE)
    return PostgresDatabases(postgres, TEMPLATE)


@pytest.fixture(scope="session")
def valkey_databases(valkey: EmbeddedValkey) -> ValkeyDatabases:
    return ValkeyDatabases(valkey.url)


# --- one test's databases ---------------------------------------------------------------------------------------


@pytest.fixture
def database_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """A migrated, empty database. At the end no session may have a transaction open in it."""
    with postgres_databases.database() as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without a schema."""
    url = postgres.create_database("unmigrated")
    yield url
    postgres.drop_database("unmigrated")


@pytest.fixture
def redis_url(valkey_databases: ValkeyDatabases) -> Iterator[str]:
    """An empty database. At the end it may have no key that never expires, and no subscriber.

    Channels are shared by all databases of a server: message and project ids keep tests apart there.
    """
    with valkey_databases.database() as url:
        yield url


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return settings_module.load({"DATABASE_URL": database_url, "REDIS_URL": redis_url})


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = make_engine(database_url, pool_size=16, application="test")
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine)


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """The test's own look at Redis; what it may do, the product may not."""
    client = event_log.connect(rights.as_admin(redis_url))
    yield client
    client.close()


@pytest.fixture
def log(redis_url: str) -> Iterator[EventLog]:
    client = event_log.connect(redis_url)
    yield EventLog(client)
    client.close()


# --- the product's processes ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _session_stacks(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[StackStarter]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter


@pytest.fixture(scope="session")
def _the_shared_stack(_session_stacks: StackStarter) -> Stack:
    return _session_stacks(webs=2, workers=2)


@pytest.fixture
def shared_stack(_the_shared_stack: Stack) -> Stack:
    """Two web processes, two workers, a sweeper and a scripted model, one for the whole session: for tests that only talk.

    The model forgets its scripts and requests; users, projects and messages of other tests stay.
    """
    _the_shared_stack.model.reset()
    return _the_shared_stack


@pytest.fixture
def stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Callable[..., Stack]]:
    """Starts stacks of the test's own: ``stack(webs=2, workers=1, settings={"CHATRELAY_LEASE_S": 2})``.

    Gone at the test's end.
    """
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter


# --- what a test may not leave behind ---------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test's own threads are gone after it. (The browser's driver keeps its own.)"""
    if request.path.is_relative_to(_BROWSER):
        yield
        return
    with thread_leaks_reported():
        yield


# --- what a run tells at its end --------------------------------------------------------------------------------

_PUBLISHED: Final = ("accesses tried", "accesses that should not have succeeded")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many accesses were tried, and how many succeeded that should not have."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    counts = [
        [value for report in reports for key, value in report.user_properties if key == name] for name in _PUBLISHED
    ]
    if counts[0]:
        tried, wrong = map(sum, counts)
        terminalreporter.write_line(f"{tried:,} accesses tried, {wrong} answered otherwise than they should")
