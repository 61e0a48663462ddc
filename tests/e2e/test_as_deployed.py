"""The product as docs/deployment.md has it: TLS to both stores, roles that may do what they must, a Redis for bells alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from dev.child import Child, Command
from dev.embedded import EmbeddedPostgres
from shared import event_log, migrate
from shared.engine import sqlalchemy_url
from tests.integration.command_line import PROGRAM, run
from tests.people import Person, eventually
from tests.rights import APP, OPERATOR, OWNER, WORKER, Valkey, give_rights, postgres_as, redis_as, refusals
from tests.stack import Stack, StackStarter
from tests.tls import Authority, TlsFront

_DATABASE: Final = "as_deployed"
_WAIT_S: Final = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start(fsync=False) as server:
        yield server


@pytest.fixture(scope="module")
def app_url(cluster: EmbeddedPostgres) -> str:
    """The processes' address of a database that was made by ops/postgres/roles.sql and migrated by its owner."""
    administrators = cluster.create_database(_DATABASE)
    give_rights(cluster, _DATABASE)
    migrate.upgrade(postgres_as(OWNER, administrators))
    give_rights(cluster, _DATABASE)
    return postgres_as(APP, administrators)


@pytest.fixture(scope="module")
def logs() -> Iterator[Valkey]:
    with Valkey.start() as server:
        yield server


@pytest.fixture(scope="module")
def bells() -> Iterator[Valkey]:
    with Valkey.start() as server:
        yield server


@pytest.fixture(scope="module")
def deployed(app_url: str, logs: Valkey, bells: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    certificate = authority.certificate("localhost")
    with (
        TlsFront(logs.url, certificate) as redis_front,
        TlsFront(app_url, certificate) as postgres_front,
        StackStarter() as starter,
    ):
        redis_url = f"rediss://localhost:{redis_front.port}/0?ssl_ca_certs={authority.path}"
        yield starter(
            builders=1,
            database_url=(
                f"postgresql://{APP}@localhost:{postgres_front.port}/{_DATABASE}"
                f"?sslmode=verify-full&sslrootcert={authority.path}"
            ),
            redis_url=redis_as(WORKER, redis_url),
            settings={"CHATRELAY_BROKER_URL": redis_as(WORKER, bells.url)},
            is_least=True,
        )


@pytest.fixture
def person(deployed: Stack) -> Iterator[Person]:
    deployed.model.reset()
    with Person(deployed) as somebody:
        yield somebody


def test_a_message_with_an_edit_and_a_component_comes_to_its_end(deployed: Stack, person: Person) -> None:
    """Every process takes part: API, worker, sweeper and builder, over TLS, under roles without rights to the schema."""
    patch = {"operations": [{"op": "add", "path": "/title", "value": "deployed"}]}
    edit = {"tool": {"name": "applyJsonPatch", "arguments": patch}}
    deployed.model.on("deployed", {"rounds": [{"steps": [edit]}, {"steps": [{"text": "It is done."}]}]})
    project_id = person.project()
    row = person.answer_to(project_id, "deployed")
    assert (row["status"], row["content"]) == ("success", "It is done.")
    assert person.document(project_id)["document"] == {"title": "deployed"}
    assert person.client.post(f"/v1/projects/{project_id}/undo").status_code == 200
    assert person.client.get("/readyz").json()["status"] == "ready"
    built = person.answer_to(project_id, "Add a confetti component to the video")
    assert (built["status"], bool(built["jobId"])) == ("success", True)
    assert person.client.delete(f"/v1/projects/{project_id}").status_code == 204


def test_what_people_and_operators_do_every_day_is_refused_nowhere(
    deployed: Stack, person: Person, cluster: EmbeddedPostgres, logs: Valkey, bells: Valkey, tmp_path: Path
) -> None:
    """Cancel, retry, invite, a batch; tail, doctor, audit, prune, tokens, under the roles; the servers' own records tell.

    Of what the product swallows, as it does what fails of Redis, they would have the refusal.
    """
    deployed.model.say("wait", {"text": "The first half, "}, {"hold": "here"}, {"text": "and the second."})
    project_id = person.project()
    invited = person.client.put(f"/v1/projects/{project_id}/members/somebody", json={"role": "viewer"})
    assert invited.status_code == 200

    cancelled = person.submit(project_id, "wait")
    deployed.model.wait_held("here")
    assert person.client.post(f"/v1/messages/{cancelled}/cancel").status_code == 202
    eventually(lambda: person.row(cancelled)["status"] == "cancelled")
    deployed.model.say("wait", {"text": "All of it."})
    assert person.client.post(f"/v1/messages/{cancelled}/retry").status_code == 202
    eventually(lambda: person.row(cancelled)["content"] == "All of it.")

    refusal = {"status": 400, "error": {"message": "No.", "type": "invalid_request_error"}}
    deployed.model.on("fail", {"rounds": [{"attempts": [refusal]}]})
    failed = person.answer_to(project_id, "fail")
    assert failed["status"] == "error"
    deployed.model.say("fail", {"text": "This time."})
    ours = _environment(deployed, bells)
    batch = run("reprocess", "--status", "error", "--project", project_id, "--json", state=tmp_path, **ours)
    assert batch.returncode == 0, batch.stdout + batch.stderr
    assert person.row(failed["id"])["content"] == "This time."

    watching = {**ours, "REDIS_URL": redis_as(OPERATOR, deployed.redis_url)}
    argv = [str(PROGRAM), "tail", "--since", "10m", "--json"]
    tail = Child("tail", Command(argv=argv, env={"PATH": os.defpath, "CHATRELAY_STATE_DIR": str(tmp_path), **watching}))
    try:
        tail.wait_for(failed["id"], timeout_s=_WAIT_S)
        tail.wait_for(person.answer_to(project_id, "wait")["id"], timeout_s=_WAIT_S)
    finally:
        tail.stop()

    doctor = run("doctor", "--json", state=tmp_path, **ours)
    assert [one for one in json.loads(doctor.stdout)["checks"] if one["state"] == "problem"] == []
    for command in (["audit", "--repair"], ["prune", "--older-than", "1d"]):
        done = run(*command, state=tmp_path, **ours)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    token = run("token", "create", "--user", "short", "--json", state=tmp_path, **ours)
    revoked = run("token", "revoke", state=tmp_path, given=json.loads(token.stdout)["token"], **ours)
    assert revoked.returncode == 0, revoked.stderr

    assert person.client.delete(f"/v1/projects/{project_id}").status_code == 204
    assert (logs.refused(), bells.refused(), refusals(cluster)) == ([], [], [])


def _environment(deployed: Stack, bells: Valkey) -> dict[str, Any]:
    """Of a command, as an administrator's shell has it."""
    return {
        "DATABASE_URL": deployed.database_url,
        "REDIS_URL": deployed.redis_url,
        "CHATRELAY_BROKER_URL": redis_as(WORKER, bells.url),
        "OPENAI_API_KEY": "scripted",
        "OPENAI_BASE_URL": deployed.model.base_url,
        "CHATRELAY_SCRIPTED_MODEL": "1",
    }


def test_bells_and_logs_are_each_on_their_own_redis(deployed: Stack, person: Person, bells: Valkey) -> None:
    """So that the logs' may be of a kind that Celery cannot use, and neither fills the other."""
    deployed.model.say("apart", {"text": "Apart."})
    message_id = person.answer_to(person.project(), "apart")["id"]
    other: redis.Redis = event_log.connect(f"redis://127.0.0.1:{bells.port}/0")
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
        "CREATE TEMPORARY TABLE mine (n integer)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION dblink",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "DROP TABLE tokens",
        "ALTER TABLE messages ADD COLUMN mine integer",
        "ALTER TABLE messages DISABLE TRIGGER ALL",
        "CREATE INDEX mine ON messages (id)",
        "CREATE TRIGGER mine BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "TRUNCATE messages",
        "UPDATE alembic_version SET version_num = 'mine'",
        "ALTER ROLE chatrelay_app CREATEROLE",
        "SET ROLE chatrelay_owner",
        "SET SESSION AUTHORIZATION chatrelay_owner",
        "ALTER SYSTEM SET log_statement = 'none'",
        "SET session_replication_role = replica",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_ls_dir('.')",
        "COPY messages TO PROGRAM 'cat'",
        "COPY messages FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/mine'",
        "SELECT lo_import('/etc/passwd')",
    ],
)
def test_the_role_of_the_processes_changes_rows_and_nothing_else(app_url: str, statement: str) -> None:
    """Neither tables nor rights, nothing of the server's files or programs, nobody else's name."""
    engine = create_engine(sqlalchemy_url(app_url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
        connection.execute(text(statement))
