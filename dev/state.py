"""The directory that `chatrelay dev` keeps between runs, and who of several runs has it."""

import contextlib
import fcntl
import json
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from dev.procfile import ROOT
from dev.reachable import make_private


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """The run that has, or had, the directory."""

    pid: int
    port: int


class AlreadyRunning(Exception):
    """Another run has the state directory."""

    def __init__(self, directory: Path, holder: Holder | None) -> None:
        who = f"pid {holder.pid}, http://127.0.0.1:{holder.port}/" if holder else "it is just starting"
        super().__init__(f"already running here ({who}); its state is in {directory}")


def state_directory(environment: Mapping[str, str]) -> Path:
    """Where the state is: `CHATRELAY_STATE_DIR`, else `.chatrelay` in the clone."""
    named = environment.get("CHATRELAY_STATE_DIR")
    return Path(named).expanduser().resolve() if named else ROOT / ".chatrelay"


def running_environment(directory: Path) -> dict[str, str]:
    """DATABASE_URL, REDIS_URL and what else a program needs to join the run that has this directory; {} without one."""
    try:
        with (directory / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return {}
    except BlockingIOError:
        pass
    except OSError:
        return {}
    try:
        lines = shlex.split((directory / "environment").read_text())
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines)


class State:
    """The directory, held by this process: `with State(directory) as state`. Raises `AlreadyRunning`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Self:
        make_private(self.directory)
        self._lock = open(self.directory / "lock", "a+", opener=_private)  # until __exit__
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder()
            self._lock.close()
            raise AlreadyRunning(self.directory, holder) from None
        self.last_holder = self._holder()
        """The run before, where it had no time to say that it ends."""
        return self

    def __exit__(self, *_: object) -> None:
        (self.directory / "environment").unlink(missing_ok=True)
        self._lock.truncate(0)
        self._lock.close()

    def held_by(self, holder: Holder) -> None:
        """Tells who comes second whom to look for."""
        self._lock.truncate(0)
        self._lock.write(json.dumps(asdict(holder)))
        self._lock.flush()

    def publish(self, environment: Mapping[str, str]) -> None:
        """Leaves `environment` for `running_environment` and for a shell: `set -a; . environment`."""
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())
        with open(self.directory / "environment", "w", opener=_private) as file:
            file.write(text)

    def token(self) -> str:
        """A random token, the same in every run."""
        path = self.directory / "token"
        with contextlib.suppress(FileNotFoundError):
            if token := path.read_text():
                return token
        token = secrets.token_urlsafe(32)
        with open(path, "w", opener=_private) as file:
            file.write(token)
        return token

    def forget_token(self) -> None:
        (self.directory / "token").unlink(missing_ok=True)

    def _holder(self) -> Holder | None:
        try:
            return Holder(**json.loads((self.directory / "lock").read_text()))
        except (OSError, ValueError, TypeError):
            return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
