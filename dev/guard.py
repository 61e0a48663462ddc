"""Outlives a supervisor that was killed, and kills what its processes had started in turn.

A leash (`dev/leash.py`) reaches the processes that a supervisor started, not theirs: the workers of a web server, say.
So each supervisor has one of these beside it, told of every process group, `+PGID` and `-PGID` a line, over a pipe
whose end of file means that the supervisor is gone.
"""

import contextlib
import os
import signal
import subprocess
import sys


class Guard:
    """The supervisor's side: a guard process of its own, until `close`."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            cwd="/",
            start_new_session=True,  # a Ctrl-C at the terminal is not for it
        )

    def watch(self, group: int) -> None:
        """Kill this process group should we be killed."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Its number may be somebody else's from now on."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Ends the guard; what it still watches is killed."""
        with contextlib.suppress(BrokenPipeError):
            self._popen.communicate()

    def _tell(self, line: str) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody ended the guard: the leashes remain
            self._popen.stdin.write(line)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
