"""`chatrelay doctor`: what is well is told as well, what is wrong by what to do about it, and never a secret."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import redis
from sqlalchemy import Engine, text

from api.relay import DATABASE_THREADS
from dev.embedded import EmbeddedValkey
from dev.scripted_model.control import ScriptedModel
from ops import doctor
from ops.doctor import Diagnosis, State, Verdict, diagnose
from shared import event_log
from shared.engine import make_engine
from shared.redis_health import RedisHealth
from shared.settings import Settings, load
from shared.store import Store
from shared.store.health import ServerHealth
from tests import rights
from tests.integration.command_line import run
from tests.integration.store_parts import Scene

CANARY: Final = "canary-5f1e"


@pytest.fixture
def environment(settings: Settings, scripted: ScriptedModel) -> dict[str, str]:
    """Of a system that is well, but for what no test's machine has to spare."""
    scripted.reset()
    return {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "OPENAI_BASE_URL": scripted.base_url,
        "OPENAI_API_KEY": CANARY,
        "CHATRELAY_MODELS": "scripted",
        "CHATRELAY_SWEEP_S": "60",  # what is late is told by it, and this machine may be slow
    }


def of(diagnosis: Diagnosis, check: str, state: State | None = None) -> list[Verdict]:
    return [one for one in diagnosis.checks if one.check == check and state in (None, one.state)]


def problems(diagnosis: Diagnosis) -> set[str]:
    return {one.check for one in diagnosis.checks if one.state is State.PROBLEM}


def test_where_all_is_well_nothing_is_a_problem(
    environment: dict[str, str], store: Store, redis_client: redis.Redis, scripted: ScriptedModel, tmp_path: Path
) -> None:
    """0, each check told once at least, nothing left behind in either store, no token spent."""
    store.sweeper_came_round("a sweeper")
    done = run("doctor", "--json", state=tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    told = json.loads(done.stdout)
    assert told["problems"] == 0
    assert {one["check"] for one in told["checks"]} == set(doctor.checks_of(environment))
    assert all(one["advice"] for one in told["checks"] if one["state"] != "ok")
    assert redis_client.keys("*") == []
    assert scripted.requests() == []
    shown = run("doctor", state=tmp_path, **environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "ok      postgres: Postgres 18" in shown.stdout
    assert CANARY not in done.stdout + shown.stdout


def test_where_nothing_is_well_every_problem_is_told_and_no_secret(tmp_path: Path) -> None:
    """3; wrong settings all at once; what failed in each place; no address, password or key."""
    environment = {
        "DATABASE_URL": f"postgresql://someone:{CANARY}@127.0.0.1:1/name",
        "REDIS_URL": f"redis://:{CANARY}%21@127.0.0.1:1/0",
        "OPENAI_BASE_URL": f"http://user:{CANARY}@127.0.0.1:1/v1?key={CANARY}",
        "OPENAI_API_KEY": CANARY,
        "CHATRELAY_DEV_TOKEN": CANARY,
        "CHATRELAY_LEASE_S": "-1",
        "PORT": CANARY,
    }
    for arguments in (("--json",), ()):
        done = run("doctor", *arguments, state=tmp_path, **environment)
        assert done.returncode == 3
        assert CANARY not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    told = json.loads(run("doctor", "--json", state=tmp_path, **environment).stdout)
    wrong = {one["check"] for one in told["checks"] if one["state"] == "problem"}
    assert wrong == {"settings", "postgres", "redis", "queues", "sweepers", "workers", "model"}
    lines = [one["found"] for one in told["checks"] if one["check"] == "settings"]
    assert [line.split(":")[0] for line in lines] == ["PORT", "CHATRELAY_LEASE_S"]


@pytest.mark.parametrize("missing", ["DATABASE_URL", "REDIS_URL"])
def test_a_missing_address_is_told_as_that(environment: dict[str, str], missing: str) -> None:
    """And what does not need it is looked at all the same."""
    del environment[missing]
    found = diagnose(environment)
    assert "settings" in problems(found)
    there = "redis" if missing == "DATABASE_URL" else "postgres"
    assert there not in problems(found)


def test_a_server_that_never_answers_keeps_no_other_check_from_its_answer(environment: dict[str, str]) -> None:
    """Connections are accepted and nothing comes: told as late, the others as they are."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        environment["DATABASE_URL"] = f"postgresql://a@127.0.0.1:{port}/b"
        environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
        found = diagnose(environment, deadline_s=1.0)
    assert [one.found for one in of(found, "postgres")] == ["no answer within 1 s"]
    assert [one.found for one in of(found, "model")] == ["no answer within 1 s"]
    assert {one.state for one in of(found, "settings") + of(found, "python")} == {State.OK}


def test_no_sweeper_and_no_worker_are_told(environment: dict[str, str], store: Store, engine: Engine) -> None:
    """By when one last came round, and by how long the oldest message has waited."""
    assert [one.found for one in of(diagnose(environment), "sweepers")] == ["none has ever come round"]
    store.sweeper_came_round("a sweeper")
    with engine.begin() as connection:
        connection.execute(text("UPDATE sweepers SET swept_at = now() - interval '1 hour'"))
    message_id = Scene(store, engine).message()
    assert "workers" not in problems(diagnose(environment))
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE messages SET enqueued_at = now() - interval '1 hour' WHERE id = :id"), {"id": message_id}
        )
    found = diagnose(environment)
    assert {"sweepers", "workers"} <= problems(found)
    assert of(found, "workers")[0].found.startswith("0 messages are held, 1 are not; the oldest")


def test_an_unmigrated_database_is_told_with_the_one_thing_to_do(
    environment: dict[str, str], empty_database_url: str
) -> None:
    found = diagnose(environment | {"DATABASE_URL": empty_database_url})
    (one,) = of(found, "postgres", State.PROBLEM)
    assert one.advice == "Run: chatrelay migrate."


def test_rights_that_the_database_user_lacks_are_named(environment: dict[str, str], database_url: str) -> None:
    """As what to grant."""
    role = f"reader_{uuid.uuid4().hex}"
    engine = make_engine(rights.as_admin(database_url), pool_size=1, application="test")
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"GRANT CONNECT ON DATABASE {engine.url.database} TO {role}"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {role}"))
        connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
        connection.execute(text(f"GRANT INSERT, UPDATE, DELETE ON messages TO {role}"))
    try:
        url = rights.postgres_as(role, database_url)
        found = diagnose(environment | {"DATABASE_URL": url})
        (one,) = of(found, "postgres", State.PROBLEM)
        assert "DELETE on tickets, INSERT on tickets" in one.found
        assert "on messages" not in one.found
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))
        engine.dispose()


def test_commands_that_the_redis_user_lacks_are_named(environment: dict[str, str], own_valkey: EmbeddedValkey) -> None:
    """Found out by doing; who may do all of it but ask how the server is set is told that too."""
    client = event_log.connect(rights.as_admin(own_valkey.url))
    try:
        client.acl_setuser("tail", enabled=True, nopass=True, commands=["+subscribe", "+xrange", "+xrevrange", "+ping"])
        client.acl_setuser("tail", enabled=True, nopass=True, keys=["chatrelay:*"], channels=["chatrelay:*"])
        found = diagnose(environment | {"REDIS_URL": f"redis://tail:x@127.0.0.1:{own_valkey.port}/0"})
    finally:
        client.close()
    (one,) = of(found, "redis", State.PROBLEM)
    for named in ("append to a log by a script", "publish", "ring and answer bells"):
        assert named in one.found
    for allowed in ("read a log", "subscribe ("):
        assert allowed not in one.found
    assert any("may not be asked for" in verdict.found for verdict in of(found, "redis", State.WARNING))


@contextmanager
def answering(status: int, body: bytes = b"{}") -> Iterator[tuple[str, list[str | None]]]:
    """A provider that answers so, and the Authorization headers that it got."""
    got: list[str | None] = []

    class Provider(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append(self.headers["Authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Not to the tests' output."""

    with http.server.HTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", got
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (200, b'{"data": [{"id": "scripted"}]}', State.OK, "takes the key"),
        (200, b'{"data": [{"id": "another"}]}', State.WARNING, "does not list scripted"),
        (200, b"not json", State.OK, "takes the key"),
        (401, b"{}", State.PROBLEM, "refuses with 401"),
        (403, b"{}", State.PROBLEM, "refuses with 403"),
        (404, b"{}", State.WARNING, "lists no models"),
        (500, b"{}", State.WARNING, "answers 500"),
    ],
)
def test_the_model_is_asked_with_the_key_and_judged_by_its_answer(
    status: int, body: bytes, state: State, words: str
) -> None:
    with answering(status, body) as (base_url, got):
        given = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": CANARY}
        read = load({"DATABASE_URL": "x", "REDIS_URL": "redis://127.0.0.1:1/0", "CHATRELAY_MODELS": "scripted"})
        (found, *_) = list(doctor.check_model(given, read))[-1:]
    assert (found[0], words in found[1]) == (state, True)
    assert got == [f"Bearer {CANARY}"]


@pytest.mark.parametrize(("count", "told"), [(0, "0 problems"), (1, "1 problem"), (2, "2 problems")])
def test_the_last_line_counts_as_people_do(count: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    doctor._print(doctor.Diagnosis(problems=count, warnings=0, checks=[]))
    assert capsys.readouterr().out == f"{told}, 0 warnings\n"


def test_the_scripted_model_needs_to_list_no_name() -> None:
    """It answers under any."""
    with answering(200, b'{"data": [{"id": "another"}]}') as (base_url, _got):
        given = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": CANARY}
        read = load({"DATABASE_URL": "x", "REDIS_URL": "redis://127.0.0.1:1/0", "CHATRELAY_SCRIPTED_MODEL": "1"})
        assert [found[0] for found in doctor.check_model(given, read)] == [State.OK]


WELL: Final = ServerHealth(
    version=180_001,
    max_connections=97,
    used_connections=10,
    clock=datetime(2026, 1, 1, tzinfo=UTC),
    is_read_only=False,
    stuck_transactions=0,
    refused=(),
)
WELL_REDIS: Final = RedisHealth(
    name="Valkey",
    version="9.1.2",
    is_cluster=False,
    max_memory=0,
    used_memory=1,
    policy="noeviction",
    persists=True,
    clock_ahead_s=0.0,
    refused=(),
)


@pytest.mark.parametrize(
    ("changed", "state", "words"),
    [
        ({"version": 170_005}, State.PROBLEM, "Postgres 17.5"),
        ({"is_read_only": True}, State.PROBLEM, "only be read"),
        ({"used_connections": 95}, State.PROBLEM, "2 of 97 connections are left"),
        ({"max_connections": 30}, State.WARNING, "20 of 30 connections are left"),
        ({"stuck_transactions": 2}, State.WARNING, "2 transactions"),
        ({"clock": WELL.clock + timedelta(hours=1)}, State.WARNING, "ahead of this machine's"),
        ({"clock": WELL.clock - timedelta(hours=1)}, State.WARNING, "behind this machine's"),
    ],
    ids=str,
)
def test_a_postgres_is_judged_by_what_it_says(changed: Mapping[str, Any], state: State, words: str) -> None:
    fresh = {"clock": datetime.now(UTC)} | dict(changed)
    if changed.get("clock") is not None:
        fresh["clock"] = datetime.now(UTC) + (changed["clock"] - WELL.clock)
    well = list(doctor.judge_postgres(msgspec.structs.replace(WELL, clock=datetime.now(UTC)), None))
    assert {found[0] for found in well} == {State.OK}
    judged = list(doctor.judge_postgres(msgspec.structs.replace(WELL, **fresh), None))
    assert [(found[0], words in found[1], bool(found[2])) for found in judged if found[0] is not State.OK] == [
        (state, True, True)
    ]


@pytest.mark.parametrize(
    ("changed", "state", "words"),
    [
        ({"version": "7.2.5"}, State.PROBLEM, "Valkey 7.2.5"),
        ({"name": "Redis", "version": "6.2.1"}, State.PROBLEM, "Redis 6.2.1"),
        ({"is_cluster": True}, State.PROBLEM, "a cluster"),
        ({"policy": "allkeys-lru"}, State.WARNING, "allkeys-lru"),
        ({"policy": None}, State.WARNING, "may not be asked for"),
        ({"max_memory": 1000 * 1024**2, "used_memory": 950 * 1024**2}, State.WARNING, "950 MiB of 1000 MiB"),
        ({"clock_ahead_s": -9.0}, State.WARNING, "9.0 s behind"),
    ],
    ids=str,
)
def test_a_redis_is_judged_by_what_it_says(changed: Mapping[str, Any], state: State, words: str) -> None:
    assert {found[0] for found in doctor.judge_redis(WELL_REDIS)} == {State.OK}
    judged = list(doctor.judge_redis(msgspec.structs.replace(WELL_REDIS, **changed)))
    assert [(found[0], words in found[1], bool(found[2])) for found in judged if found[0] is not State.OK] == [
        (state, True, True)
    ]


def test_what_processes_open_of_connections_is_what_is_counted_with() -> None:
    """The processes have these numbers."""
    with ExitStack() as endings:
        changed = endings.enter_context(pytest.MonkeyPatch.context())
        changed.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        changed.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
        from worker import celery_app
    assert doctor.API_RELAY_CONNECTIONS == DATABASE_THREADS
    assert doctor.WORKER_CONNECTIONS == celery_app.SQL_CONNECTIONS + 1
    procfile = (Path(__file__).parents[2] / "Procfile").read_text()
    builder = next(line for line in procfile.splitlines() if line.startswith("builder:"))
    children = int(builder.partition("--concurrency ")[2].split()[0])
    assert children * (celery_app.BUILDER_SQL_CONNECTIONS + 1) == doctor.BUILDER_CONNECTIONS


@pytest.mark.parametrize(
    ("requirements", "told"),
    [
        (["typer>=0.1", 'nonsense>=1; python_version < "3"'], []),
        (["typer<0.1"], ["typer is "]),
        (["no-such-package>=1"], ["no-such-package is not installed"]),
    ],
)
def test_packages_that_do_not_fit_are_named(requirements: list[str], told: list[str]) -> None:
    found = list(doctor._unfit(requirements))
    assert len(found) == len(told)
    assert all(line.startswith(words) for line, words in zip(found, told, strict=True))


def test_versions_that_the_lock_does_not_have_are_named() -> None:
    """Of what is installed; hashes, comments and other platforms' packages are passed over."""
    lock = "typer==0.0.1 \\\n    --hash=sha256:00\n# a comment\nabsent==1\ncolorama==0 ; sys_platform == 'win32'\n"
    (found,) = doctor._unlike(lock)
    assert found.endswith("the lock has 0.0.1")


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "deno").touch(mode=0o755)
    (found,) = doctor.check_programs(tmp_path)
    assert (found[0], found[1]) == (State.PROBLEM, "oxlint not there")
