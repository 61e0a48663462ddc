"""The connection pool to Postgres: driver, deadlines and limits in one place.

The server's own timeouts bound what a statement may take. Where the server itself stands still, or the network swallows what
is sent, nothing would end the wait: libpq has no deadline, and a stopped server's kernel acknowledges all the same. So
waiting is ours, by psycopg2's wait callback, and it has one.
"""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError


def sqlalchemy_url(url: str) -> URL:
    """`url` for psycopg2: plain ``postgresql://`` would mean psycopg 3. Raises `ValueError` where it is none of Postgres."""
    try:
        named = make_url(url)
    except ArgumentError as error:
        raise ValueError("not a database URL") from error
    if named.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError("not a Postgres URL")
    return named.set(drivername="postgresql+psycopg2")


CONNECT_S = 3.0
GRACE_S = 2.0
"""A statement that the server should have ended is waited for as long beyond its timeout."""


def make_engine(
    url: str, *, pool_size: int, application: str, statement_timeout_s: float = 5.0, lock_timeout_s: float = 3.0
) -> Engine:
    """A pool of at most `pool_size` connections. Connects at first use. Raises nothing by itself.

    No wait for the server is longer than `CONNECT_S`, or `statement_timeout_s` and `GRACE_S`.
    """
    extensions.set_wait_callback(_wait)

    class Connection(_Connection):
        answer_s = statement_timeout_s + GRACE_S

    engine = create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=False,
        pool_recycle=1800,
        pool_use_lifo=True,
        hide_parameters=True,  # an error's text would quote them
        connect_args={
            "connection_factory": Connection,
            "application_name": f"chatrelay-{application}",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 8000,
            "options": (
                f"-c statement_timeout={int(statement_timeout_s * 1000)} -c lock_timeout={int(lock_timeout_s * 1000)}"
                " -c idle_in_transaction_session_timeout=15000 -c timezone=UTC"
            ),
        },
    )
    event.listen(engine, "checkout", _refuse_dead)
    return engine


class _Connection(extensions.connection):
    answer_s: float
    """The longest wait for any one answer."""


class _NoAnswer(psycopg2.OperationalError):
    """The server did not answer in time."""


def _wait(connection: Any) -> None:
    """Until the server has answered what was sent. Raises `_NoAnswer`, and psycopg2 then closes the connection.

    The callback is one for all connections of the process; those that are not of `make_engine` wait without a deadline.
    """
    deadline: float | None = None
    waiting = select.poll()
    while (state := connection.poll()) != extensions.POLL_OK:
        if state not in _EVENTS:
            raise psycopg2.OperationalError(f"unexpected state of a connection: {state}")
        waiting.register(connection.fileno(), _EVENTS[state])
        left_ms: float | None = None
        if isinstance(connection, _Connection):
            if deadline is None:
                is_connecting = connection.status == _CONNECTING
                deadline = time.monotonic() + (CONNECT_S if is_connecting else connection.answer_s)
            left_ms = max(0.0, (deadline - time.monotonic()) * 1000)
        if not waiting.poll(left_ms):
            raise _NoAnswer


_CONNECTING = 20
"""psycopg2's CONN_STATUS_CONNECTING, which it does not export."""
_EVENTS = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}


def _refuse_dead(connection: Any, *_: object) -> None:
    """Has the pool connect anew where an idle connection has ended, as after a restart of the server.

    Nothing was asked on it, so what can be read is its end. Costs a system call where `pool_pre_ping` costs a round trip.
    """
    idle = select.poll()
    idle.register(connection.fileno(), select.POLLIN)
    if idle.poll(0):
        raise DisconnectionError
