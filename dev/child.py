"""One process that somebody here started: its output line by line, its end, and the ways to bring that about.

A child dies with its starter (`dev/leash.py`), leads a process group of its own, so that a Ctrl-C at the terminal
reaches only the one who decides the order, and leaves nobody of that group behind when it ends.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")

# Lines kept of each child, and the most bytes that one line may have: what is longer comes in pieces.
LINES_KEPT = 5_000
MAX_LINE_BYTES = 64 * 1024

# How long a dead child's pipe is read further: a grandchild in a session of its own may hold it open for ever.
DRAIN_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who a command runs as, where that is not whoever runs us."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What to run. `env` is the whole environment (None: ours); `death_signal` is what the kernel sends when we die."""

    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    identity: Identity | None = None
    death_signal: signal.Signals = signal.SIGKILL

    def leashed(self) -> list[str]:
        """The argv that ends with this process, however that one ends."""
        leash = [sys.executable, "-I", "-S", str(LEASH), "--signal", str(int(self.death_signal))]
        leash += ["--parent", str(os.getpid())]
        if self.identity is not None:
            leash += ["--uid", str(self.identity.uid), "--gid", str(self.identity.gid)]
        return [*leash, "--", *self.argv]


class Child:
    """A started command.

    Start it from a thread that lives as long as the child shall: the kernel takes that thread for its parent.
    `on_line` and `on_exit` are called from threads of the child's own; `on_exit` after the last line.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        *,
        on_line: Callable[[str, str], None] | None = None,
        on_exit: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.started_at_s = time.monotonic()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._changed = threading.Condition()
        self._returncode: int | None = None
        self._on_line = on_line
        self._on_exit = on_exit
        self._popen = subprocess.Popen(
            command.leashed(),
            env=command.env,
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()
        self._waiter = threading.Thread(target=self._wait, name=f"end of {name}", daemon=True)
        self._waiter.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it lives; then its exit code, or minus the number of the signal that ended it."""
        return self._returncode

    @property
    def output(self) -> str:
        """What it wrote so far, both streams, its last `LINES_KEPT` lines."""
        with self._changed:
            return "".join(f"{line}\n" for line in self._lines)

    def last_lines(self, count: int) -> list[str]:
        with self._changed:
            return list(self._lines)[-count:]

    def says(self, pattern: str) -> bool:
        """Whether a line that it wrote matches the regular expression."""
        with self._changed:
            return any(re.search(pattern, line) for line in self._lines)

    def wait_for(self, pattern: str, *, timeout_s: float) -> None:
        """Returns once a line matches; raises `ProcessEnded` if it ends before, `TimeoutError` if neither happens."""
        with self._changed:
            self._changed.wait_for(lambda: self._returncode is not None or self.says(pattern), timeout_s)
        if not self.says(pattern):
            if self._returncode is not None:
                raise ProcessEnded(self)
            raise TimeoutError(f"{self.name} did not write {pattern!r} within {timeout_s:g} s:\n{self.output}")

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Its return code once it has ended, or None if it still runs after so long."""
        self._waiter.join(timeout_s)
        return self._returncode

    def send(self, number: signal.Signals) -> None:
        """Signals the process alone, not those it started; nothing where it has ended."""
        if self._returncode is None:
            self._popen.send_signal(number)

    def kill_group(self) -> None:
        """SIGKILL for it and everybody of its process group."""
        if self._returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL for the process; returns once it and its group are gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, *, grace_s: float = 5.0) -> int:
        """Asks it to end, insists after `grace_s`, and returns how it ended."""
        self.send(number)
        if self.wait(grace_s) is None:
            self.kill_group()
            self.wait()
        assert self._returncode is not None
        return self._returncode

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as pipe:
            while line := pipe.readline(MAX_LINE_BYTES):
                text = line.decode(errors="replace").rstrip("\r\n")
                with self._changed:
                    self._lines.append(text)
                    self._changed.notify_all()
                if self._on_line is not None:
                    self._on_line(self.name, text)

    def _wait(self) -> None:
        # Looked at before it is reaped: until then its pid, which is its group's number, is nobody else's.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._reader.join(DRAIN_S)
        returncode = self._popen.wait()
        with self._changed:
            self._returncode = returncode
            self._changed.notify_all()
        if self._on_exit is not None:
            self._on_exit(self.name)


class ProcessEnded(Exception):
    """A process that was needed has ended."""

    def __init__(self, child: Child) -> None:
        super().__init__(f"{child.name} {describe_end(child.returncode)}\n" + "\n".join(child.last_lines(20)))


def describe_end(returncode: int | None) -> str:
    """A return code in words."""
    if returncode is None:
        return "is running"
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"
