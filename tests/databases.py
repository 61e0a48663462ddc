"""A database of each server for every test, and a look at what was left in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dev.embedded import EmbeddedPostgres
from shared import event_log
from tests import leaks

_VALKEY_DATABASES: Final = range(1, 16)
"""Number 0 stays free, for whoever connects without saying which."""


class PostgresDatabases:
    """Clones of a migrated template, to which nobody may be connected."""

    def __init__(self, server: EmbeddedPostgres, template: str) -> None:
        self._server = server
        self._template = template
        self._numbers = itertools.count(1)

    @contextmanager
    def database(self) -> Iterator[str]:
        """A clone's address; it is dropped at the end, where no transaction may be open in it."""
        name = f"clone_{next(self._numbers)}"
        url = self._server.clone_database(self._template, name)
        try:
            yield url
            leaks.check_no_open_transaction(url)
        finally:
            self._server.drop_database(name)


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
        client = event_log.connect(url)
        try:
            client.flushdb()
            yield url
            leaks.check_no_lasting_key(client)
            leaks.check_no_subscription(client, number)
        finally:
            client.flushdb()
            client.close()
            self._free.append(number)
