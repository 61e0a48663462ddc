"""Who the product is at its servers, in tests: somebody who may do all, or the roles of `ops/`, which may do what they must.

Everybody may do all by default, which is quicker. ``CHATRELAY_TEST_ROLES=least`` runs any test under the roles: migrations as
`chatrelay_owner`, everything else as `chatrelay_app`; in Redis web processes as `chatrelay-web`, all others as
`chatrelay-worker`. What a test does to a server behind the product's back it does at the address that `as_admin` answers.
At the servers' end nobody may have been refused anything.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from dev.child import Command
from dev.embedded import EmbeddedPostgres, EmbeddedValkey
from dev.embedded_postgres import USER as ADMINISTRATOR
from dev.procfile import ROOT
from shared import event_log, migrate

VARIABLE: Final = "CHATRELAY_TEST_ROLES"
IS_LEAST: Final = os.environ.get(VARIABLE) == "least"

WEB: Final = "chatrelay-web"
WORKER: Final = "chatrelay-worker"
OPERATOR: Final = "chatrelay-operator"
OWNER: Final = "chatrelay_owner"
APP: Final = "chatrelay_app"

_USERS: Final = ROOT / "ops" / "redis" / "users.conf"
_PASSWORDS: Final = dict(re.findall(r"^user (\S+) on >(\S+) ", _USERS.read_text(), re.MULTILINE))
_REFUSALS: Final = re.compile(r"permission denied|must be owner|must be superuser")


class Valkey(EmbeddedValkey):
    """A server with the users of `ops/redis/users.conf`, which is included as it is shipped; `default` may do all."""

    def command(self) -> Command:
        made = super().command()
        more = ["--include", str(_USERS), "--acllog-max-len", "1000"]
        return Command(argv=[*made.argv, *more], cwd=made.cwd, death_signal=made.death_signal)

    @property
    def url(self) -> str:
        return as_worker(super().url)

    def refused(self) -> list[str]:
        """What the product's users were refused since the server's start, as ``user: reason object``."""
        client = event_log.connect(as_admin(self.url))
        with client:
            entries: list[dict[bytes, Any]] = client.execute_command("ACL", "LOG")  # type: ignore[no-untyped-call]
        return [
            f"{entry[b'username'].decode()}: {entry[b'reason'].decode()} {entry[b'object'].decode()}"
            for entry in entries
            if entry[b"username"].decode() in _PASSWORDS
        ]


def as_admin(url: str) -> str:
    """The same database, of Postgres or Redis, for whoever may do all."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    who = f"{ADMINISTRATOR}@" if parts.scheme == "postgresql" else ""
    return urlunsplit(parts._replace(netloc=f"{who}{where}"))


def as_web(url: str) -> str:
    """The same Redis as a web process sees it, where the tests run under roles."""
    return redis_as(WEB, url) if IS_LEAST else url


def as_worker(url: str) -> str:
    """The same Redis as every other process sees it, where the tests run under roles."""
    return redis_as(WORKER, url) if IS_LEAST else url


def as_app(url: str) -> str:
    """The same Postgres as the processes see it, where the tests run under roles."""
    return postgres_as(APP, url) if IS_LEAST else url


def as_operator(url: str) -> str:
    """The same Redis as `chatrelay tail` sees it, where the tests run under roles."""
    return redis_as(OPERATOR, url) if IS_LEAST else url


def as_owner(url: str) -> str:
    """The same Postgres as a migration sees it, where the tests run under roles."""
    return postgres_as(OWNER, url) if IS_LEAST else url


def redis_as(user: str, url: str) -> str:
    """The same Redis as one of the users of `ops/redis/users.conf`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{_PASSWORDS[user]}@{parts.netloc.rpartition('@')[2]}"))


def postgres_as(role: str, url: str) -> str:
    """The same database as one of the roles of `ops/postgres/roles.sql`. The tests' clusters ask for no password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))


def migrated(server: EmbeddedPostgres, database: str) -> str:
    """Migrates an empty database; the address at which the processes use it."""
    url = server.database_url(database)
    if not IS_LEAST:
        migrate.upgrade(url)
        return url
    give_rights(server, database)
    migrate.upgrade(postgres_as(OWNER, url))
    give_rights(server, database)
    return as_app(url)


def cloned(server: EmbeddedPostgres, template: str, name: str) -> None:
    """Makes a copy of a migrated database, with the rights to the database itself, which are not copied."""
    server.clone_database(template, name)
    if IS_LEAST:
        server.sql(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC; GRANT CONNECT ON DATABASE "{name}" TO {OWNER}, {APP}')


def give_rights(server: EmbeddedPostgres, database: str) -> None:
    """`ops/postgres/roles.sql`, as an administrator runs it."""
    run_sql_file(
        server, database, ROOT / "ops" / "postgres" / "roles.sql", owner_password="own'er", app_password="ap p"
    )


def run_sql_file(server: EmbeddedPostgres, database: str, path: Path, **variables: str) -> None:
    """By psql, which stops at the first error."""
    given = [word for variable, value in variables.items() for word in ("-v", f"{variable}={value}")]
    command = [str(server.bin_dir / "psql"), "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", *given]
    command += ["-d", server.database_url(database), "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath}, check=False)
    assert done.returncode == 0, done.stderr


def check_nobody_was_refused(*servers: EmbeddedPostgres | EmbeddedValkey | None) -> None:
    """Where the tests run under roles: a refusal that was swallowed, as the product swallows much, is told in the end."""
    if not IS_LEAST:
        return
    running = [server for server in servers if server is not None and server.is_running]
    refused = [server.refused() for server in running if isinstance(server, Valkey)]
    refused += [refusals(server) for server in running if isinstance(server, EmbeddedPostgres)]
    assert [one for one in refused if one] == []


def refusals(server: EmbeddedPostgres) -> list[str]:
    """What a cluster wrote of refusals since its last start."""
    return [line for line in server.output.splitlines() if _REFUSALS.search(line)]
