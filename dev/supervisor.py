"""A table of processes and one who looks after them.

Each is started when what it stands on is ready, started again with back-off when it dies, and stopped before what it
stands on; one that dies again and again ends the whole.

For a person `run` does all of that until a signal. A test drives the same by hand:

    with Supervisor([Process(name="web", command=…, ready=answers(url))]) as stack:
        stack.start_all(timeout_s=30)
        stack.kill("web")
        stack.start("web")
        stack.wait_ready("web", timeout_s=30)
"""

import contextlib
import http.client
import queue
import signal
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Self

from dev.child import Child, Command, ProcessEnded, describe_end
from dev.guard import Guard

# How often is looked whether what was started is ready.
READY_POLL_S = 0.05
# How long it sleeps when all is well: a signal that comes just before it falls asleep does not wake it.
QUIET_POLL_S = 0.5
# How long a single question may take that is asked for it.
READY_TIMEOUT_S = 1.0
LAST_LINES = 20

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process to look after.

    `command` is asked for at each start. `ready` is asked, once it runs, until it says yes (None: at once);
    a `once` process is ready when it has ended well. It starts when all of `after` are ready.
    """

    name: str
    command: Callable[[], Command]
    after: tuple[str, ...] = ()
    ready: Callable[[Child], bool] | None = None
    once: bool = False
    before_start: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 5.0
    start_timeout_s: float = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartPolicy:
    """When a process that died is started again: after 0.5 s, 1 s, 2 s, …; not after its fifth death within 60 s."""

    first_delay_s: float = 0.5
    longest_delay_s: float = 10.0
    most_deaths: int = 5
    window_s: float = 60.0

    def delay_s(self, deaths_at_s: Sequence[float]) -> float | None:
        """How long to wait after the last of these deaths, in order of time; None: give up."""
        recent = [at_s for at_s in deaths_at_s if deaths_at_s[-1] - at_s < self.window_s]
        if len(recent) >= self.most_deaths:
            return None
        return min(self.first_delay_s * 2.0 ** (len(recent) - 1), self.longest_delay_s)


class StackFailed(Exception):
    """A process could not be brought up or kept up; the text ends with its last lines."""


class _StopRequested(Exception):
    """Somebody wants the whole to end."""


class Supervisor:
    """Looks after processes. Everything but `write` happens on the caller's thread; use one, and one that stays."""

    def __init__(
        self,
        processes: Sequence[Process],
        *,
        write: Callable[[str, str], None] | None = None,
        policy: RestartPolicy | None = None,
    ) -> None:
        """`write(name, line)` gets every line of output, and under the name `supervisor` what happens to processes."""
        self._processes = {process.name: process for process in processes}
        self._write = write or (lambda name, line: None)
        self._policy = policy or RestartPolicy()
        self._children: dict[str, Child] = {}
        self._ready: set[str] = set()
        self._deaths_at_s: dict[str, list[float]] = {name: [] for name in self._processes}
        self._starts_again_at_s: dict[str, float] = {}
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signals = 0
        self._guard: Guard | None = None

    def start(self, name: str) -> Child:
        """Starts a process now, whatever it stands on. A process of that name which runs is left alone."""
        if name in self._children and self._children[name].returncode is None:
            return self._children[name]
        process = self._processes[name]
        self._ready.discard(name)
        self._starts_again_at_s.pop(name, None)
        if process.before_start is not None:
            process.before_start()
        command = process.command()
        if self._guard is None:
            self._guard = Guard()
        if name in self._children:
            self._forget_group(self._children[name])
        child = Child(name, command, on_line=self._write, on_exit=lambda _: self._woken.put(None))
        self._children[name] = child
        if command.death_signal == signal.SIGKILL:  # others end by themselves, and want to be let
            self._guard.watch(child.pid)
        return child

    def start_all(self, *, timeout_s: float) -> None:
        """Starts everything in order of readiness and returns when all of it is ready; raises `StackFailed`."""
        self._bring_up(tuple(self._processes), timeout_s)

    def wait_ready(self, *names: str, timeout_s: float) -> None:
        """Returns when these, which were started, are ready; raises `StackFailed` if one ends or takes longer."""
        self._bring_up(names, timeout_s)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signals a process, without starting it again; after SIGKILL it and its group are gone on return."""
        self._ready.discard(name)
        self._children[name].send(number)
        if number == signal.SIGKILL:
            self._children[name].wait()

    def child(self, name: str) -> Child:
        """The process as it was last started."""
        return self._children[name]

    def output(self, name: str) -> str:
        """What it wrote since its last start."""
        return self._children[name].output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, on_ready: Callable[[], None]) -> int:
        """Brings everything up, calls `on_ready`, and keeps it up until a signal (0) or until it cannot (1).

        SIGINT, SIGTERM and SIGHUP stop everything in order, a second one at once.
        """
        with self._signals_counted():
            try:
                self._keep_up(on_ready)
            except _StopRequested:
                self._tell("stopping")
                code = 0
            except StackFailed as failure:
                for line in str(failure).splitlines():
                    self._tell(line)
                code = 1
            finally:
                self.stop()
            self._tell("stopped")
            return code

    def stop(self) -> None:
        """Ends everything, nothing before what stands on it; a process that outstays its grace is killed."""
        while running := [name for name, child in self._children.items() if child.returncode is None]:
            leaves = [name for name in running if not any(self._stands_on(other, name) for other in running)]
            for name in leaves:
                self._children[name].send(self._processes[name].stop_signal)
            now_s = time.monotonic()
            for name in leaves:
                self._wait_for_end(name, now_s + self._processes[name].stop_grace_s)
        self._ready.clear()
        if self._guard is not None:
            for child in self._children.values():
                self._forget_group(child)
            self._guard.close()
            self._guard = None

    def _wait_for_end(self, name: str, until_s: float) -> None:
        child = self._children[name]
        while child.wait(READY_POLL_S) is None:
            if self._signals > 1 or time.monotonic() > until_s:
                self._tell(f"{name} does not stop: killing it")
                child.kill_group()
                child.wait()

    def _forget_group(self, child: Child) -> None:
        if self._guard is not None:
            self._guard.forget(child.pid)

    def _stands_on(self, name: str, other: str) -> bool:
        after = self._processes[name].after
        return other in after or any(self._stands_on(between, other) for between in after)

    def _tell(self, text: str) -> None:
        self._write("supervisor", text)

    def _bring_up(self, names: Sequence[str], timeout_s: float) -> None:
        """Starts what never ran of these, in order, and waits until they are ready."""
        deadline_s = time.monotonic() + timeout_s
        while not self._ready.issuperset(names):
            self._start_what_can(names)
            self._look_for_readiness()
            for name in names:
                if self._failed(name):
                    raise StackFailed(str(ProcessEnded(self._children[name])))
            if time.monotonic() > deadline_s:
                missing = [name for name in names if name not in self._ready]
                texts = [f"{name}:\n{self._children[name].output}" for name in missing if name in self._children]
                raise StackFailed(f"{', '.join(missing)} not ready within {timeout_s:g} s\n" + "\n".join(texts))
            self._sleep(READY_POLL_S)

    def _failed(self, name: str) -> bool:
        returncode = self._children[name].returncode if name in self._children else None
        return returncode is not None and not (self._processes[name].once and returncode == 0)

    def _keep_up(self, on_ready: Callable[[], None]) -> None:
        names = tuple(self._processes)
        told = False
        while True:
            self._start_what_can(names)
            self._look_for_readiness()
            self._look_for_deaths()
            self._start_again_what_is_due()
            if not told and self._ready.issuperset(names):
                told = True
                on_ready()
            if self._signals:
                raise _StopRequested
            quiet = self._ready.issuperset(names) and not self._starts_again_at_s
            self._sleep(QUIET_POLL_S if quiet else READY_POLL_S)
            if self._signals:
                raise _StopRequested

    def _sleep(self, most_s: float) -> None:
        """Until something happens: a death, a signal, or the time."""
        with contextlib.suppress(queue.Empty):
            self._woken.get(timeout=most_s)

    def _start_what_can(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._children and self._ready.issuperset(self._processes[name].after) and not self._signals:
                self.start(name)

    def _look_for_readiness(self) -> None:
        for name, child in self._children.items():
            process = self._processes[name]
            if name in self._ready:
                continue
            if process.once:
                ready = child.returncode == 0
            else:
                ready = child.returncode is None and (process.ready is None or process.ready(child))
            if ready:
                self._ready.add(name)

    def _look_for_deaths(self) -> None:
        now_s = time.monotonic()
        for name, child in self._children.items():
            process = self._processes[name]
            if child.returncode is None:
                if name not in self._ready and now_s - child.started_at_s > process.start_timeout_s:
                    raise StackFailed(self._last_words(name, f"is not ready after {process.start_timeout_s:g} s"))
                continue
            if process.once:
                if child.returncode != 0:
                    raise StackFailed(self._last_words(name, describe_end(child.returncode)))
            elif name not in self._starts_again_at_s:
                self._ready.discard(name)
                self._forget_group(child)
                self._deaths_at_s[name].append(now_s)
                delay_s = self._policy.delay_s(self._deaths_at_s[name])
                end = describe_end(child.returncode)
                if delay_s is None:
                    raise StackFailed(self._last_words(name, f"{end}, again and again: giving up"))
                self._tell(f"{name} {end}; starting it again in {delay_s:g} s")
                self._starts_again_at_s[name] = now_s + delay_s

    def _start_again_what_is_due(self) -> None:
        now_s = time.monotonic()
        for name in [name for name, at_s in self._starts_again_at_s.items() if at_s <= now_s]:
            self.start(name)

    def _last_words(self, name: str, what: str) -> str:
        lines = self._children[name].last_lines(LAST_LINES)
        return "\n".join([f"{name} {what}. Its last lines:", *(f"    {line}" for line in lines)])

    @contextlib.contextmanager
    def _signals_counted(self) -> Iterator[None]:
        def count(_number: int, _frame: FrameType | None) -> None:
            self._signals += 1
            self._woken.put(None)

        before = {number: signal.signal(number, count) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def answers(url: str) -> Callable[[Child], bool]:
    """Ready when a GET of this address is answered 200."""
    address = urllib.parse.urlsplit(url)
    assert address.hostname is not None

    def ask(_: Child) -> bool:
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=READY_TIMEOUT_S)
        with contextlib.closing(connection):
            try:
                connection.request("GET", address.path or "/", headers={"Connection": "close"})
                return connection.getresponse().status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False

    return ask


def writes(pattern: str) -> Callable[[Child], bool]:
    """Ready when a line that it wrote matches the regular expression."""
    return lambda child: child.says(pattern)
