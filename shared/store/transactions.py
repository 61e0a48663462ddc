"""One method, one transaction: the only way to the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2 import extensions
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidRequestError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.errors import NotMigrated, StoreUnavailable

_MISSING = ("42P01", "42703")  # SQLSTATE: no such table, no such column
_PASSING = (
    "08",
    "25006",
    "53",
    "57",
)  # no connection, read only (a failover), out of resources, shut down by an operator


class Transactions:
    """Holds the pool. Every public method of a store raises `StoreUnavailable` where Postgres does not answer in time;
    whether its transaction was committed is then unknown."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _moment(self) -> Iterator[Connection]:
        """For several questions, answered as of one moment whatever is committed meanwhile. Nothing may be written."""
        with _translated(), self._engine.connect() as connection:
            driver = _driver(connection)
            # the driver begins its next transaction so, which costs no round trip; SQLAlchemy's own option asks the server
            driver.isolation_level = extensions.ISOLATION_LEVEL_REPEATABLE_READ
            try:
                with connection.begin():
                    yield connection
            finally:
                if driver.status == extensions.STATUS_READY and not driver.closed:
                    driver.isolation_level = None
                else:
                    connection.invalidate()

    @contextmanager
    def _statement(self) -> Iterator[Connection]:
        """For one statement, which is a transaction of its own: a third of the round trips."""
        with _translated(), self._engine.connect() as connection:
            driver = _driver(connection)
            driver.autocommit = True
            try:
                yield connection
            finally:
                if driver.closed:
                    connection.invalidate()
                else:
                    driver.autocommit = False

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


@contextmanager
def _translated() -> Iterator[None]:
    """The driver's errors in our words."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError, InvalidRequestError) as error:
        raise StoreUnavailable from error
    except DBAPIError as error:
        code = getattr(error.orig, "pgcode", None) or ""
        if error.connection_invalidated or code.startswith(_PASSING):
            raise StoreUnavailable from error
        if code in _MISSING:
            raise NotMigrated from error
        raise
