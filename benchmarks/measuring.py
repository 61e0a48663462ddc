"""What the operating system says that processes cost: CPU time, wake-ups, system calls, memory. Linux.

CPU time is read from each process's own clock, to the nanosecond, with every thread that it has or had. On a machine that
others use too, CPU time says what a thing costs where the clock on the wall says how long it had to wait.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
_SCHEDULED: Final = 2
"""The clock of a process that counts what the scheduler gave it; see clock_getcpuclockid(3)."""


class Cost(NamedTuple):
    """Of a process and its children, between two looks."""

    cpu_s: float
    wakeups: int
    """How often its threads slept and were woken: voluntary context switches."""
    reads: int
    writes: int
    """System calls of the read(2) and write(2) families; send(2) and recv(2) are not counted by Linux."""

    def __sub__(self, earlier: Cost) -> Cost:
        return Cost(
            self.cpu_s - earlier.cpu_s,
            self.wakeups - earlier.wakeups,
            self.reads - earlier.reads,
            self.writes - earlier.writes,
        )


class Meter:
    """Costs of named process trees since it was made: `Meter({"web": pid})`, then `costs()`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._trees = {name: tree(pid) for name, pid in pids.items()}
        self.began_at_s = time.monotonic()
        self._before = self._look()

    def costs(self) -> dict[str, Cost]:
        """So far. A process that was started meanwhile is not in it; one that ended has cost nothing."""
        now = self._look()
        return {name: cost - self._before[name] for name, cost in now.items()}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began_at_s

    def _look(self) -> dict[str, Cost]:
        return {name: cost_of(pids) for name, pids in self._trees.items()}


def tree(pid: int) -> list[int]:
    """A process and all that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (stat := _read(entry / "stat")):
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, grown = [], [pid]
    while grown:
        one = grown.pop()
        found.append(one)
        grown += children.get(one, [])
    return found


def cost_of(pids: Iterable[int]) -> Cost:
    """What these processes have cost since they were started; those that are gone count as nothing."""
    cpu_s, wakeups, reads, writes = 0.0, 0, 0, 0
    for pid in pids:
        cpu_s += cpu_s_of(pid)
        for status in (_PROC / str(pid) / "task").glob("*/status"):
            wakeups += _field(_read(status), "voluntary_ctxt_switches:")
        io = _read(_PROC / str(pid) / "io")
        reads += _field(io, "syscr:")
        writes += _field(io, "syscw:")
    return Cost(cpu_s, wakeups, reads, writes)


def cpu_s_of(pid: int) -> float:
    """CPU time of one process, of all of its threads, since it was started; 0 for one that is gone."""
    try:
        return time.clock_gettime((~pid << 3) | _SCHEDULED)
    except OSError:
        return 0.0


def memory_bytes(pid: int) -> int:
    """The physical memory of a process and its children, shared pages split among those that share them (PSS)."""
    return sum(1024 * _field(_read(_PROC / str(one) / "smaps_rollup"), "Pss:") for one in tree(pid))


class MachineLoad:
    """How busy the machine was with other things since this was made."""

    def __init__(self) -> None:
        self._at_s = time.monotonic()
        self._busy_s = _busy_s()
        self._own_s = _own_s()

    @property
    def others_share(self) -> float:
        """Of all cores' time, the part that went to processes that are not of this one's tree."""
        seconds = (time.monotonic() - self._at_s) * (os.cpu_count() or 1)
        others_s = (_busy_s() - self._busy_s) - (_own_s() - self._own_s)
        return max(0.0, others_s / seconds)


def _busy_s() -> float:
    """CPU time that was used on all cores since the machine was started, what its host took away included."""
    user, nice, system, _, _, irq, softirq, steal = map(int, _read(_PROC / "stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """CPU time of this process and of all that it started; of the ended ones as far as their parents waited for them."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(cpu_s_of, tree(os.getpid())))


def allow_many_files() -> int:
    """Let this process and those that it starts have as many open files as may be; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _read(path: Path) -> str:
    """A file of /proc; empty where its process is gone or somebody else's."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
