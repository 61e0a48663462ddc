"""The product as docs/deployment.md has it: TLS to both stores, a role that only changes rows, a Redis for bells alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from dev.embedded import EmbeddedPostgres, EmbeddedValkey
from dev.procfile import ROOT
from shared import event_log, migrate
from shared.engine import make_engine
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.integration.command_line import run
from tests.people import Person
from tests.stack import Stack, StackStarter
from tests.tls import Authority, TlsFront

_DATABASE: Final = "as_deployed"


def run_sql_file(postgres: EmbeddedPostgres, database: str, name: str, **variables: str) -> None:
    """As an administrator runs it, by psql."""
    given = [word for variable, value in variables.items() for word in ("-v", f"{variable}={value}")]
    command = [str(postgres.bin_dir / "psql"), "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", *given]
    command += ["-d", postgres.database_url(database), "-f", str(ROOT / "ops" / "postgres" / name)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath}, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def owner_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The address for migrations, of a database that was made by ops/postgres/roles.sql and migrated."""
    administrators = postgres.create_database(_DATABASE)
    run_sql_file(postgres, _DATABASE, "roles.sql", owner_password="own'er", app_password="ap p")
    url = _as_role(administrators, "chatrelay_owner")
    migrate.upgrade(url)
    run_sql_file(postgres, _DATABASE, "roles.sql", owner_password="again", app_password="again")
    yield url
    postgres.drop_database(_DATABASE)


def _as_role(url: str, role: str) -> str:
    return f"postgresql://{role}@{url.partition('@')[2]}"


@pytest.fixture(scope="module")
def bells() -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey.start() as server:
        yield server


@pytest.fixture(scope="module")
def deployed(
    owner_url: str,
    bells: EmbeddedValkey,
    postgres_databases: PostgresDatabases,
    valkey_databases: ValkeyDatabases,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    certificate = authority.certificate("localhost")
    app_url = _as_role(owner_url, "chatrelay_app")
    with (
        valkey_databases.database() as redis_url,
        TlsFront(redis_url, certificate) as redis_front,
        TlsFront(app_url, certificate) as postgres_front,
        StackStarter(postgres_databases, valkey_databases) as starter,
    ):
        yield starter(
            builders=1,
            database_url=(
                f"postgresql://chatrelay_app@localhost:{postgres_front.port}/{_DATABASE}"
                f"?sslmode=verify-full&sslrootcert={authority.path}"
            ),
            redis_url=(
                f"rediss://localhost:{redis_front.port}/{redis_url.rpartition('/')[2]}?ssl_ca_certs={authority.path}"
            ),
            settings={"CHATRELAY_BROKER_URL": bells.url},
        )


def test_a_message_with_an_edit_and_a_component_comes_to_its_end(deployed: Stack) -> None:
    """Every process takes part: API, worker, sweeper and builder, over TLS, as the role without rights to the schema."""
    patch = {"operations": [{"op": "add", "path": "/title", "value": "deployed"}]}
    edit = {"tool": {"name": "applyJsonPatch", "arguments": patch}}
    deployed.model.on("deployed", {"rounds": [{"steps": [edit]}, {"steps": [{"text": "It is done."}]}]})
    with Person(deployed) as person:
        project_id = person.project()
        row = person.answer_to(project_id, "deployed")
        assert (row["status"], row["content"]) == ("success", "It is done.")
        assert person.document(project_id)["document"] == {"title": "deployed"}
        assert person.client.post(f"/v1/projects/{project_id}/undo").status_code == 200
        assert person.client.get("/readyz").json()["status"] == "ready"
        built = person.answer_to(project_id, "Add a confetti component to the video")
        assert (built["status"], bool(built["jobId"])) == ("success", True)
        assert person.client.delete(f"/v1/projects/{project_id}").status_code == 204


def test_bells_and_logs_are_each_on_their_own_redis(deployed: Stack, bells: EmbeddedValkey) -> None:
    """So that the logs' may be of a kind that Celery cannot use, and neither fills the other."""
    deployed.model.say("apart", {"text": "Apart."})
    with Person(deployed) as person:
        message_id = person.answer_to(person.project(), "apart")["id"]
    other: redis.Redis = event_log.connect(bells.url)
    with other:
        assert deployed.redis.keys("chatrelay:log:*") == deployed.redis.keys("*") != []
        assert not other.exists(f"chatrelay:log:{{{message_id}}}")
        assert other.keys("_kombu*") != []


def test_the_command_line_verifies_the_database_as_the_processes_do(deployed: Stack, tmp_path: Path) -> None:
    """The address is the deployed one's; with another authority in it nothing is answered."""
    stranger = Authority(tmp_path, "stranger").path
    known = run("token", "list", "--json", state=tmp_path, DATABASE_URL=deployed.database_url)
    assert known.returncode == 0, known.stderr
    another = f"{deployed.database_url.partition('sslrootcert=')[0]}sslrootcert={stranger}"
    refused = run("token", "list", "--json", state=tmp_path, DATABASE_URL=another)
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (n integer)",
        "DROP TABLE tokens",
        "ALTER TABLE messages ADD COLUMN mine integer",
        "TRUNCATE messages",
        "CREATE ROLE mine",
        "CREATE TEMPORARY TABLE mine (n integer)",
    ],
)
def test_the_role_of_the_processes_changes_rows_and_nothing_else(owner_url: str, statement: str) -> None:
    engine = make_engine(_as_role(owner_url, "chatrelay_app"), pool_size=1, application="test")
    with engine.connect() as connection, pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        connection.execute(text(statement))
    engine.dispose()
