"""The connection pool to Postgres: driver, deadlines and limits in one place.

libpq itself never gives up on a stopped server; `tcp_user_timeout`, keepalives and the server's own timeouts bound what they
can.
"""

from __future__ import annotations

import select
from typing import Any

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


def make_engine(
    url: str, *, pool_size: int, application: str, statement_timeout_s: float = 5.0, lock_timeout_s: float = 3.0
) -> Engine:
    """A pool of at most `pool_size` connections. Connects at first use. Raises nothing by itself."""
    engine = create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=False,
        pool_recycle=1800,
        pool_use_lifo=True,
        connect_args={
            "application_name": f"chatrelay-{application}",
            "connect_timeout": 3,
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


def _refuse_dead(connection: Any, *_: object) -> None:
    """Has the pool connect anew where an idle connection has ended, as after a restart of the server.

    Nothing was asked on it, so what can be read is its end. Costs a system call where `pool_pre_ping` costs a round trip.
    """
    idle = select.poll()
    idle.register(connection.fileno(), select.POLLIN)
    if idle.poll(0):
        raise DisconnectionError
