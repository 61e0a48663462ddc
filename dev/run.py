"""`chatrelay dev`, which is `make run`: the whole system on this machine, with nothing installed."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from dev.child import Command
from dev.console import Console
from dev.embedded import EmbeddedPostgres, EmbeddedServer, EmbeddedValkey, ServerUnavailable, free_port, is_free
from dev.procfile import ROOT, procfile_command
from dev.reachable import NoReachablePlace
from dev.state import AlreadyRunning, Holder, State, state_directory
from dev.supervisor import Process, Supervisor, answers, writes
from shared import settings

PORT = 8000
# Where the servers listen if nobody else does, so that what a person typed yesterday works today.
POSTGRES_PORT = 15432
VALKEY_PORT = 16379
MODEL_PORT = 18000

# Ctrl-C shall take seconds: what still streams then is handed back and goes on in the next run.
DRAIN_S = "3"
STOP_GRACE_S = 8.0
# How long a page's port may stay taken by a run that was killed.
PORT_PATIENCE_S = 5.0


class PortTaken(Exception):
    """The port that was asked for belongs to somebody else."""


def dev(fresh: bool = False, port: int | None = None) -> int:
    """Runs everything until Ctrl-C or SIGTERM and returns the exit code: 0 when asked to stop, 1 when it cannot go on,
    2 where the settings are wrong.

    `fresh` empties the state first. Without `port`, and without PORT in the environment, 8000 or the next free one is
    taken. Needs the main thread.
    """
    console = Console()
    try:
        # what the processes would say, once and before any of them starts
        settings.load({"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", **os.environ})
        with State(state_directory(os.environ)) as state:
            return _run(console, state, os.environ, fresh=fresh, port=port)
    except settings.InvalidSettings as problem:
        print(f"chatrelay dev: the settings are wrong\n{problem}", file=sys.stderr)
        return 2
    except (AlreadyRunning, ServerUnavailable, NoReachablePlace, PortTaken) as problem:
        print(f"chatrelay dev: {problem}", file=sys.stderr)
        return 1


def _run(console: Console, state: State, environment: Mapping[str, str], *, fresh: bool, port: int | None) -> int:
    port = _choose_port(console, state, port or int(environment.get("PORT") or 0))
    state.held_by(Holder(pid=os.getpid(), port=port))
    stack = DevStack(state, environment, port=port)
    if fresh:
        stack.forget()
        console.say(f"emptied {state.directory}")
    for line in stack.remarks:
        console.say(line)
    supervisor = Supervisor(stack.processes(), write=console.line)
    try:
        return supervisor.run(lambda: stack.announce(console))
    finally:
        stack.release()


class DevStack:
    """What `chatrelay dev` runs, out of the environment: a table of processes and what they are told."""

    def __init__(self, state: State, environment: Mapping[str, str], *, port: int) -> None:
        self._state = state
        self._given = environment
        self._port = port
        self._postgres = None if environment.get("DATABASE_URL") else _postgres(state.directory)
        self._valkey = None if environment.get("REDIS_URL") else _valkey(state.directory)
        self._model_port = None if environment.get("OPENAI_API_KEY") else free_port(MODEL_PORT)
        self.remarks = []
        if self._model_port is not None and environment.get("OPENAI_BASE_URL"):
            self.remarks.append("OPENAI_BASE_URL is set and OPENAI_API_KEY is not: the scripted model answers")

    def forget(self) -> None:
        """Empties the state: the embedded servers' data and the token."""
        for server in self._servers():
            server.forget()
        self._state.forget_token()

    def release(self) -> None:
        """Lets go of the servers' directories."""
        for server in self._servers():
            server.release()

    def processes(self) -> list[Process]:
        """Everything, in the order in which it is started where nothing has to be waited for."""
        found: list[Process] = []
        if self._model_port is not None:
            argv = [sys.executable, "-m", "dev.scripted_model", "--port", str(self._model_port)]
            ready = answers(f"http://127.0.0.1:{self._model_port}/healthz")
            found.append(Process(name="model", command=self._told(argv), ready=ready))
        found += [_server_process(server) for server in self._servers()]
        storage = tuple(process.name for process in found if process.name != "model")
        everything = (*(process.name for process in found), "release")
        page = answers(f"http://127.0.0.1:{self._port}/healthz")
        celery = writes(r" ready\.")
        ensure_token = ["chatrelay", "token", "ensure", "--user", "dev", "--scope", "ops"]
        found += [
            Process(name="release", command=self._told(procfile_command("release")), after=storage, once=True),
            Process(name="token", command=self._told(ensure_token), after=("release",), once=True),
            self._serving("web", everything, page),
            self._serving("worker", everything, celery, metrics_port=0),
            self._serving("builder", everything, celery, metrics_port=1),
            self._serving("sweeper", everything, None, metrics_port=2),
        ]
        return found

    def announce(self, console: Console) -> None:
        """Says where the page is, and leaves for other programs how to join."""
        told = self.environment()
        names = ("DATABASE_URL", "REDIS_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "CHATRELAY_SCRIPTED_MODEL", "PORT")
        self._state.publish({name: told[name] for name in names if name in told})
        token = told["CHATRELAY_DEV_TOKEN"]
        console.say("")
        console.say(f"ready  http://127.0.0.1:{self._port}/#token={quote(token, safe='')}")
        console.say(f"token  {token}")
        if self._valkey is not None:
            console.say(f"redis  {self._valkey.url}")
        if self._model_port is not None:
            console.say("model  scripted, since OPENAI_API_KEY is not set")
        console.say(f"state  {self._state.directory}")
        if self._postgres is not None and not self._postgres.data_dir.is_relative_to(self._state.directory.resolve()):
            console.say(f"       {self._postgres.data_dir}")
        console.say("stop   Ctrl-C")
        console.say("")

    def environment(self) -> dict[str, str]:
        """What the processes are told; complete once the embedded servers were started."""
        told = dict(self._given)
        told["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), told.get("PATH", os.defpath)])
        told["PYTHONUNBUFFERED"] = "1"
        told["PORT"] = str(self._port)
        # The page is for this machine alone, whatever the production processes listen on.
        told["GUNICORN_CMD_ARGS"] = f"--bind 127.0.0.1:{self._port} {told.get('GUNICORN_CMD_ARGS', '')}".rstrip()
        told["CHATRELAY_DEV_TOKEN"] = told.get("CHATRELAY_DEV_TOKEN") or self._state.token()
        told.setdefault("CHATRELAY_DRAIN_S", DRAIN_S)
        told.setdefault("CHATRELAY_LOG_FORMAT", "text")
        if os.geteuid() == 0:
            told.setdefault("PYTHONWARNINGS", "ignore:You're running the worker with superuser privileges")
        if self._postgres is not None:
            told["DATABASE_URL"] = self._postgres.url
        if self._valkey is not None:
            told["REDIS_URL"] = self._valkey.url
        if self._model_port is not None:
            told["OPENAI_BASE_URL"] = f"http://127.0.0.1:{self._model_port}/v1"
            told["OPENAI_API_KEY"] = "scripted"
            told["CHATRELAY_SCRIPTED_MODEL"] = "1"
            told["NO_PROXY"] = told["no_proxy"] = "127.0.0.1"
        return told

    def _servers(self) -> list[EmbeddedServer]:
        return [server for server in (self._valkey, self._postgres) if server is not None]

    def _serving(
        self, name: str, after: tuple[str, ...], ready: Callable[..., bool] | None, *, metrics_port: int | None = None
    ) -> Process:
        """`metrics_port`: how far above `CHATRELAY_METRICS_PORT`, where that is set, this process tells its metrics."""
        base = int(self._given.get("CHATRELAY_METRICS_PORT") or 0)
        own = {"CHATRELAY_METRICS_PORT": str(base + metrics_port)} if base and metrics_port is not None else {}
        command = self._told(procfile_command(name), **own)
        return Process(name=name, command=command, after=after, ready=ready, stop_grace_s=STOP_GRACE_S)

    def _told(self, argv: list[str], **own: str) -> Callable[[], Command]:
        def command() -> Command:
            told = self.environment() | own
            program = shutil.which(argv[0], path=told["PATH"]) or argv[0]
            return Command(argv=[program, *argv[1:]], env=told, cwd=ROOT)

        return command


def _postgres(directory: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory / "postgres", port=free_port(POSTGRES_PORT), password=True)


def _valkey(directory: Path) -> EmbeddedValkey:
    return EmbeddedValkey(directory / "valkey", port=free_port(VALKEY_PORT))


def _server_process(server: EmbeddedServer) -> Process:
    return Process(
        name=server.name,
        command=server.command,
        before_start=server.before_start,
        ready=lambda child: server.is_ready(child.pid),
        stop_signal=server.stop_signal,
    )


def _choose_port(console: Console, state: State, asked_for: int) -> int:
    """The port of the page. Raises `PortTaken` where a particular one was asked for."""
    wanted = asked_for or PORT
    deadline_s = time.monotonic() + PORT_PATIENCE_S
    left_by_the_last_run = state.last_holder is not None and state.last_holder.port == wanted
    while left_by_the_last_run and not is_free(wanted) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    if is_free(wanted):
        return wanted
    if asked_for:
        raise PortTaken(f"port {wanted} is taken by another program: set PORT to a free one, or unset it")
    for port in range(wanted + 1, wanted + 100):
        if is_free(port):
            console.say(f"port {wanted} is taken by another program; the page is on port {port}")
            return port
    raise PortTaken(f"no port from {wanted} to {wanted + 99} is free: set PORT")
