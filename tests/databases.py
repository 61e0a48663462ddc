"""A database of each server for every test, and a look at what was left in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Final

import psycopg2
from psycopg2.extensions import connection as Connection

from dev.embedded import EmbeddedPostgres
from shared import event_log
from tests import leaks, rights

_VALKEY_DATABASES: Final = range(1, 16)
"""Number 0 stays free, for whoever connects without saying which."""


_SHAPE: Final = """
SELECT md5(string_agg(part, E'\\n' ORDER BY part)) FROM (
    SELECT format('%s %s %s %s', oid::regclass, relkind, relowner, relacl) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT format('%s.%s %s %s', attrelid::regclass, attnum, attname, atttypid) FROM pg_attribute
        WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT format('%s %s', oid::regprocedure, prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT format('%s %s', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT format('%s %s', setrole, setconfig) FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT 'at ' || version_num FROM alembic_version
    UNION ALL SELECT DISTINCT 'analyzed ' || starelid::regclass FROM pg_statistic
        WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
) AS parts (part)
"""
"""One word for all of a database but its rows: what was analyzed, too."""
_OTHERS_ENDED: Final = """
SELECT coalesce(bool_and(pg_terminate_backend(pid, 5000)), true) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_MOST_BYTES: Final = 256 * 1024
"""A table that has grown beyond is not emptied row by row."""
_LARGEST: Final = "SELECT max(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
_EMPTYING: Final = """
SELECT 'SET session_replication_role = replica;' || string_agg(
    format(CASE relkind WHEN 'r' THEN 'DELETE FROM %s;' ELSE 'ALTER SEQUENCE %s RESTART;' END, oid::regclass), ''
) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') AND relname <> 'alembic_version'
"""
"""The statements that leave no row."""


class PostgresDatabases:
    """Clones of a migrated template, to which nobody may be connected.

    One that comes back as it was made, but for its rows, is emptied and lent again, which costs a fraction of a clone.
    """

    def __init__(self, server: EmbeddedPostgres, template: str) -> None:
        self._server = server
        self._template = template
        self._numbers = itertools.count(1)
        self._empty: list[str] = []

    @contextmanager
    def database(self, *, is_new: bool = False) -> Iterator[str]:
        """A clone's address; it goes back at the end, where no transaction may be open in it.

        `is_new`: one that never held anything; in others the planner sees pages that held rows.
        """
        name = self._empty.pop() if self._empty and not is_new else self._cloned()
        url, is_good = self._server.database_url(name), False
        try:
            yield rights.as_app(url)
            leaks.check_no_open_transaction(url)
            is_good = not is_new and self._emptied(url)
        finally:
            if is_good:
                self._empty.append(name)
            else:
                self._server.drop_database(name)

    def _cloned(self) -> str:
        assert self._made
        name = f"clone_{next(self._numbers)}"
        rights.cloned(self._server, self._template, name)
        return name

    @cached_property
    def _made(self) -> tuple[str, str]:
        """What a clone looks like when it is made, and how it gets as empty again."""
        with _connected(self._server.database_url(self._template)) as template:
            return _value(template, _SHAPE), _value(template, _EMPTYING)

    def _emptied(self, url: str) -> bool:
        """Whether the database is as a new clone, now."""
        shape, emptying = self._made
        with _connected(url) as database:
            if _value(database, _OTHERS_ENDED) != "True" or _value(database, _SHAPE) != shape:
                return False
            if int(_value(database, _LARGEST)) > _MOST_BYTES:
                return False
            with database.cursor() as cursor:
                cursor.execute(emptying)
            return True


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    with closing(psycopg2.connect(url)) as made:
        made.autocommit = True
        yield made


def _value(database: Connection, query: str) -> str:
    with database.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    assert row is not None
    return str(row[0])


class ValkeyDatabases:
    """The numbered databases of one server, each lent to one at a time."""

    def __init__(self, url: str) -> None:
        self._server_url = url.rpartition("/")[0]
        self._free = list(_VALKEY_DATABASES)

    @contextmanager
    def database(self) -> Iterator[str]:
        """An empty database's address; at the end it may have no key that never expires, and no subscriber."""
        number = self._free.pop(0)
        url = f"{self._server_url}/{number}"
        client = event_log.connect(rights.as_admin(url))
        try:
            client.flushdb()
            yield url
            leaks.check_no_lasting_key(client)
            leaks.check_no_subscription(client, number)
        finally:
            client.flushdb()
            client.close()
            self._free.append(number)
