"""The product as it runs in production, for tests: the Procfile's processes on free ports, with databases of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias
from uuid import UUID

import httpx
import redis
from sqlalchemy import NullPool, Row, create_engine, text

from dev.child import Command
from dev.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from dev.embedded_postgres import DATABASE
from dev.procfile import ROOT, procfile_command
from dev.scripted_model.control import ScriptedModel
from dev.supervisor import Process, Supervisor, answers, writes
from shared import event_log
from shared.engine import make_engine, sqlalchemy_url
from shared.event_log import EventLog
from shared.store import Store
from tests import rights
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.fault_proxy import FaultProxies, Link, through
from tests.readers import PLAIN_HTTP

Behind: TypeAlias = Literal["postgres", "redis", "model"]

START_TIMEOUT_S: Final = 90.0
STOP_GRACE_S: Final = 15.0
USER: Final = "tester"
_CLIENT_TIMEOUT_S: Final = 30.0


class Stack:
    """Running processes, named ``web-1``, ``web-2``…, ``worker-1``…, ``builder-1``…, ``sweeper`` and ``model``.

    `model` controls what the provider answers, `store` and `log` look behind the scenes. `postgres` and `valkey` are servers
    of the stack's own where it was asked for, to be killed and restarted; else None.
    """

    def __init__(
        self,
        processes: list[Process],
        *,
        urls: tuple[str, ...],
        model: ScriptedModel,
        database_url: str,
        redis_url: str,
        postgres: EmbeddedPostgres | None,
        valkey: EmbeddedValkey | None,
        links: Mapping[tuple[str, Behind], Link],
        metrics_ports: Mapping[str, int],
    ) -> None:
        self.urls = urls
        self.metrics_ports = metrics_ports
        """Where each process but the web ones tells its metrics."""
        self.model = model
        self.database_url = database_url
        self.redis_url = redis_url
        self.postgres = postgres
        self.valkey = valkey
        self._links = links
        self._names = [process.name for process in processes]
        self._supervisor = Supervisor(processes)
        self._clients: dict[int, httpx.Client] = {}
        self._engine = make_engine(database_url, pool_size=8, application="test")
        self._redis = event_log.connect(rights.as_admin(redis_url))
        self._log_redis = event_log.connect(redis_url)
        self.store = Store(self._engine)
        self.log = EventLog(self._log_redis)
        self.token, _ = self.store.create_token(USER, scopes=frozenset({"ops"}))
        self._onlooker = create_engine(sqlalchemy_url(rights.as_admin(database_url)), poolclass=NullPool)

    def start(self) -> None:
        """Starts every process and returns when all are ready. Raises `StackFailed` with their output."""
        self._supervisor.start_all(timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._supervisor.stop()
        self._engine.dispose()
        self._redis.close()
        self._log_redis.close()
        self.model.close()
        rights.check_nobody_was_refused(self.postgres, self.valkey)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signals one process; after SIGKILL it is gone on return. Nobody starts it again but `restart`."""
        self._supervisor.kill(name, number)

    def wait_ended(self, name: str, *, timeout_s: float = STOP_GRACE_S) -> int:
        """The return code of a process that was asked to end. Raises `TimeoutError`."""
        code = self._supervisor.child(name).wait(timeout_s)
        if code is None:
            raise TimeoutError(f"{name} still runs after {timeout_s:g} s:\n{self.output(name)}")
        return code

    def restart(self, *names: str) -> None:
        """Starts processes that are gone, or that are ended for it, and returns when all are ready."""
        for name in names:
            child = self._supervisor.child(name)
            if child.returncode is None:
                child.stop(grace_s=STOP_GRACE_S)
            self._supervisor.start(name)
        self._supervisor.wait_ready(*names, timeout_s=START_TIMEOUT_S)

    def start_again(self, name: str) -> None:
        """Starts a process that is gone, without waiting until it is ready."""
        self._supervisor.start(name)

    def wait_ready(self, *names: str) -> None:
        """Returns when these are ready. Raises `StackFailed`."""
        self._supervisor.wait_ready(*names, timeout_s=START_TIMEOUT_S)

    @property
    def names(self) -> tuple[str, ...]:
        """Every process."""
        return tuple(self._names)

    def pid(self, name: str) -> int:
        return self._supervisor.child(name).pid

    def output(self, name: str) -> str:
        """What a process wrote since its last start."""
        return self._supervisor.output(name)

    def is_running(self, name: str) -> bool:
        return self._supervisor.child(name).returncode is None

    def link(self, name: str, behind: Behind) -> Link:
        """The way from one process to what is behind it, of a stack that was started with `links`."""
        return self._links[name, behind]

    def links(self, behind: Behind) -> list[Link]:
        """Every process's way to it."""
        return [link for (_, what), link in self._links.items() if what == behind]

    def undo_faults(self) -> None:
        """Every link passes everything again."""
        for link in self._links.values():
            link.undo()

    @property
    def redis(self) -> redis.Redis:
        """A client of the stack's Redis, for tests that look at it or hurt it."""
        return self._redis

    def sql(self, statement: str, **parameters: object) -> Sequence[Row[Any]]:
        """The rows of a query, on a connection of its own."""
        with self._onlooker.connect() as connection:
            return connection.execute(text(statement), parameters).all()

    def holder(self, message_id: UUID | str) -> str | None:
        """The name of the worker whose lease is on a message; None where no running one's is."""
        (row,) = self.sql("SELECT lease_owner FROM messages WHERE id = :id", id=message_id)
        owner = row.lease_owner or ""
        workers = [name for name in self._names if name.startswith("worker-")]
        return next((name for name in workers if f"-{self.pid(name)}-" in owner), None)

    def client(self, index: int = 0) -> httpx.Client:
        """A client of web process `index`, counted from 0, which bears the token."""
        if index not in self._clients:
            self._clients[index] = self.client_for(self.token, index)
        return self._clients[index]

    def client_for(self, token: str | None, index: int = 0) -> httpx.Client:
        """A client that bears another token, or none; its owner closes it."""
        return httpx.Client(
            base_url=self.urls[index],
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=_CLIENT_TIMEOUT_S,
            trust_env=False,
            verify=PLAIN_HTTP,
        )

    def all_output(self) -> str:
        """What every process wrote, for a test that fails."""
        return "\n".join(f"--- {name}\n{self.output(name)}" for name in self._names)


class StackStarter:
    """Starts stacks, and ends them and what they stand on in the end."""

    def __init__(
        self,
        postgres_databases: PostgresDatabases | None = None,
        valkey_databases: ValkeyDatabases | None = None,
    ) -> None:
        """Without databases to borrow from, every stack needs servers of its own."""
        self._postgres_databases = postgres_databases
        self._valkey_databases = valkey_databases
        self._exits = ExitStack()

    def __call__(
        self,
        *,
        webs: int = 1,
        workers: int = 1,
        builders: int = 0,
        sweepers: int = 1,
        settings: Mapping[str, object] | None = None,
        pace: str = "full",
        own_postgres: bool = False,
        own_valkey: bool = False,
        links: bool = False,
        metrics: bool = False,
        database_url: str | None = None,
        redis_url: str | None = None,
        is_least: bool = rights.IS_LEAST,
    ) -> Stack:
        """A running stack. `settings` are environment variables; `pace` is the model's, ``full`` or ``human``.

        Where own servers are asked for, `Stack.postgres` and `Stack.valkey` may be killed. `links`: each process but the
        model gets to Postgres, Redis and the model by ways of its own, `Stack.link`, which can be made to fail. `metrics`:
        each but the model tells its own, `Stack.metrics_ports`. `database_url` (of a migrated one)
        and `redis_url`: the caller's, in place of the session's. `is_least`: these are of processes that may do no more than
        they must, and web processes are another user of Redis.
        """
        postgres = self._exits.enter_context(EmbeddedPostgres.start(fsync=False)) if own_postgres else None
        valkey = self._exits.enter_context(rights.Valkey.start()) if own_valkey else None
        if postgres is not None:
            database_url = rights.migrated(postgres, DATABASE)
        elif database_url is None:
            assert self._postgres_databases is not None
            database_url = self._exits.enter_context(self._postgres_databases.database())
        if valkey is not None:
            redis_url = valkey.url
        elif redis_url is None:
            assert self._valkey_databases is not None
            redis_url = self._exits.enter_context(self._valkey_databases.database())

        web_ports = [free_port() for _ in range(webs)]
        model_port = free_port()
        model = ScriptedModel(f"http://127.0.0.1:{model_port}")
        ways = _Ways(database_url, redis_url, model.base_url, settings or {}, tells_metrics=metrics, is_least=is_least)
        if links:
            ways.proxies = self._exits.enter_context(FaultProxies())
        processes = [_model(model_port, pace)]
        for number, port in enumerate(web_ports, start=1):
            processes.append(_web(name := f"web-{number}", port, ways.environment(name)))
        for program, count in (("worker", workers), ("builder", builders)):
            for number in range(1, count + 1):
                processes.append(_celery(name := f"{program}-{number}", program, ways.environment(name)))
        for number in range(1, sweepers + 1):
            name = "sweeper" if number == 1 else f"sweeper-{number}"
            processes.append(_sweeper(name, ways.environment(name)))
        stack = Stack(
            processes,
            urls=tuple(f"http://127.0.0.1:{port}" for port in web_ports),
            model=model,
            database_url=database_url,
            redis_url=redis_url,
            postgres=postgres,
            valkey=valkey,
            links=ways.links,
            metrics_ports=ways.metrics_ports,
        )
        self._exits.callback(stack.stop)
        stack.start()
        return stack

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.__exit__(kind, error, trace)


class _Ways:
    """How the processes get to what they stand on: directly, or, once there are `proxies`, each by links of its own."""

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        model_url: str,
        settings: Mapping[str, object],
        *,
        tells_metrics: bool,
        is_least: bool,
    ) -> None:
        self.metrics_ports: dict[str, int] = {}
        self._tells_metrics = tells_metrics
        self._is_least = is_least
        self.proxies: FaultProxies | None = None
        self.links: dict[tuple[str, Behind], Link] = {}
        self._urls: dict[Behind, str] = {"postgres": database_url, "redis": redis_url, "model": model_url}
        self._settings = settings

    def environment(self, name: str) -> dict[str, str]:
        """The whole environment of a process: nothing of the tester's own settings comes through."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHATRELAY_", "OPENAI_"))}
        programs = str(Path(sys.executable).parent)
        metrics = {}
        if self._tells_metrics and not name.startswith("web-"):
            port = self.metrics_ports[name] = free_port()
            metrics = {"CHATRELAY_METRICS_PORT": str(port)}
        return {
            **kept,
            "PATH": f"{programs}:{kept.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": self._url(name, "postgres"),
            "REDIS_URL": self._url(name, "redis"),
            "OPENAI_API_KEY": "scripted",
            "OPENAI_BASE_URL": self._url(name, "model"),
            **metrics,
            **{setting: self._set(name, setting, str(value)) for setting, value in self._settings.items()},
        }

    def _url(self, name: str, behind: Behind) -> str:
        url = self._for_its_user(name, self._urls[behind]) if behind == "redis" else self._urls[behind]
        if self.proxies is None:
            return url
        link = self.links[name, behind] = self.proxies.link(url)
        return through(link, url)

    def _set(self, name: str, setting: str, value: str) -> str:
        return self._for_its_user(name, value) if setting == "CHATRELAY_BROKER_URL" else value

    def _for_its_user(self, name: str, redis_url: str) -> str:
        is_web = self._is_least and name.startswith("web-")
        return rights.redis_as(rights.WEB, redis_url) if is_web else redis_url


def _command(name: str, environment: Mapping[str, str]) -> Command:
    return Command(argv=procfile_command(name), env=environment, cwd=ROOT, death_signal=signal.SIGKILL)


def _model(port: int, pace: str) -> Process:
    argv = [sys.executable, "-m", "dev.scripted_model", "--port", str(port), "--pace", pace]
    return Process(
        name="model",
        command=lambda: Command(argv=argv, cwd=ROOT),
        ready=answers(f"http://127.0.0.1:{port}/healthz"),
    )


def _web(name: str, port: int, environment: Mapping[str, str]) -> Process:
    return Process(
        name=name,
        command=lambda: _command("web", {**environment, "PORT": str(port)}),
        after=("model",),
        ready=answers(f"http://127.0.0.1:{port}/healthz"),
        stop_grace_s=STOP_GRACE_S,
    )


def _sweeper(name: str, environment: Mapping[str, str]) -> Process:
    return Process(name=name, command=lambda: _command("sweeper", environment), after=("model",))


def _celery(name: str, program: str, environment: Mapping[str, str]) -> Process:
    return Process(
        name=name,
        command=lambda: _command(program, environment),
        after=("model",),
        ready=writes(r" ready\."),
        stop_grace_s=STOP_GRACE_S,
    )
