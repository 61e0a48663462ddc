"""What embedded servers have in common: a port, a state directory that one process at a time has, and a life."""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from dev import reachable
from dev.child import Child, Command

START_TIMEOUT_S = 30.0
STOP_GRACE_S = 5.0
# How often a start is tried where the port was taken in between.
START_TRIES = 5
# A temporary directory that nobody holds and that is older than this belongs to somebody who was killed.
ABANDONED_AFTER_S = 600.0


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
        self.state_dir = _temporary_directory(self.name) if state_dir is None else state_dir
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
        reachable.make_private(self.state_dir)
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
    def is_running(self) -> bool:
        return self._child is not None and self._child.returncode is None

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
        shutil.rmtree(self.state_dir.parent, ignore_errors=True)

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


def package_dir(package: str) -> Path | None:
    """Where an installed package lies; it is not imported."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _temporary_directory(name: str) -> Path:
    _remove_abandoned(name)
    directory = Path(tempfile.mkdtemp(prefix=f"chatrelay-{name}-")) / "state"
    reachable.make_private(directory)
    if os.geteuid() == 0:
        directory.parent.chmod(0o711)
    return directory


def _remove_abandoned(name: str) -> None:
    """Removes temporary directories whose owner was killed before it could."""
    for found in Path(tempfile.gettempdir()).glob(f"chatrelay-{name}-*"):
        with contextlib.suppress(OSError):  # somebody else's, in use, or just being removed
            if found.lstat().st_uid == os.geteuid() and time.time() - found.lstat().st_mtime > ABANDONED_AFTER_S:
                with (found / "state" / "lock").open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(found, ignore_errors=True)
