"""The supervisor: order of readiness, restarts, giving up, and nobody left behind however it ends."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.child import Command
from dev.embedded import free_port
from dev.procfile import ROOT
from dev.supervisor import Process, RestartPolicy, StackFailed, Supervisor, answers, writes

TIMEOUT_S = 30.0

SERVES = """
import http.server, sys
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
print("serving", flush=True)
server.serve_forever()
"""
LIVES = "import signal; print('alive', flush=True); signal.pause()"
STAYS = "import signal; signal.signal(15, lambda *_: print('no', flush=True)); print('alive', flush=True)\n" + (
    "while True: signal.pause()"
)
# Starts another that ignores SIGTERM, tells both pids, and lives on.
PARENT = """
import os, signal
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True: signal.pause()
print("pids", os.getpid(), child, flush=True)
signal.pause()
"""


def python(code: str, *arguments: str) -> Callable[[], Command]:
    """A small program in place of a server."""
    return lambda: Command(argv=[sys.executable, "-c", code, *arguments])


def wait_until_gone(pid: int) -> None:
    """Returns when the process has ended, or never existed."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(descriptor) as handle:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(TIMEOUT_S * 1000), f"process {pid} still runs"


def test_each_starts_when_what_it_stands_on_is_ready(tmp_path: Path) -> None:
    """The second finds the file that the first makes before it is ready; the third, what the second did to its end."""
    file = tmp_path / "ready"
    first = f"import pathlib, signal; pathlib.Path({str(file)!r}).touch(); print('ready', flush=True); signal.pause()"
    second = f"import pathlib; pathlib.Path({str(file)!r}).rename({str(file.with_name('done'))!r})"
    third = (
        f"import signal, pathlib; print(pathlib.Path({str(file.with_name('done'))!r}).exists(), flush=True)\n{LIVES}"
    )
    processes = [
        Process(name="third", command=python(third), after=("second",), ready=writes("True")),
        Process(name="second", command=python(second), after=("first",), once=True),
        Process(name="first", command=python(first), ready=writes("ready")),
    ]
    with Supervisor(processes) as supervisor:
        supervisor.start_all(timeout_s=TIMEOUT_S)
        assert supervisor.output("third").startswith("True\n")


def test_a_server_is_ready_when_it_answers() -> None:
    port = str(free_port())
    serves = Process(name="web", command=python(SERVES, port), ready=answers(f"http://127.0.0.1:{port}/"))
    with Supervisor([serves]) as supervisor:
        supervisor.start_all(timeout_s=TIMEOUT_S)
        supervisor.child("web").wait_for("GET / ", timeout_s=TIMEOUT_S)


def test_a_process_that_ends_before_it_is_ready_is_reported_with_its_last_lines() -> None:
    fails = Process(name="web", command=python("raise SystemExit('no config')"), ready=writes("serving"))
    with (
        Supervisor([fails]) as supervisor,
        pytest.raises(StackFailed, match=r"(?s)web ended with exit code 1.*no config"),
    ):
        supervisor.start_all(timeout_s=TIMEOUT_S)


def test_what_is_killed_by_hand_stays_dead_until_it_is_started() -> None:
    """So that a test decides when the next one comes."""
    with Supervisor([Process(name="worker", command=python(LIVES), ready=writes("alive"))]) as supervisor:
        supervisor.start_all(timeout_s=TIMEOUT_S)
        first = supervisor.child("worker").pid
        supervisor.kill("worker")
        assert supervisor.child("worker").returncode == -signal.SIGKILL
        supervisor.start("worker")
        supervisor.wait_ready("worker", timeout_s=TIMEOUT_S)
        assert supervisor.child("worker").pid != first


def test_a_killed_process_takes_its_group_with_it() -> None:
    with Supervisor([Process(name="worker", command=python(PARENT), ready=writes("pids"))]) as supervisor:
        supervisor.start_all(timeout_s=TIMEOUT_S)
        grandchild = int(supervisor.output("worker").split()[2])
        supervisor.kill("worker")
        wait_until_gone(grandchild)


def test_stopping_asks_in_reverse_order_and_insists_after_the_grace() -> None:
    ends: list[str] = []
    last_word = "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('bye', flush=True))); {}"
    polite = last_word.format("print('alive', flush=True); signal.pause()")

    def heard(name: str, line: str) -> None:
        if line == "bye" or name == "supervisor":
            ends.append(f"{name} {line}")

    processes = [
        Process(name="database", command=python(polite), ready=writes("alive")),
        Process(name="web", command=python(polite), after=("database",), ready=writes("alive")),
        Process(name="deaf", command=python(STAYS), after=("web",), ready=writes("alive"), stop_grace_s=0.2),
    ]
    with Supervisor(processes, write=heard) as supervisor:
        supervisor.start_all(timeout_s=TIMEOUT_S)
        pids = [supervisor.child(process.name).pid for process in processes]
    assert ends == ["supervisor deaf does not stop: killing it", "web bye", "database bye"]
    for pid in pids:
        wait_until_gone(pid)


def run_until(processes: list[Process], pattern: str, policy: RestartPolicy | None = None) -> tuple[int, list[str]]:
    """Lets a supervisor run until a line of it, or of a process, contains the text, then as Ctrl-C does."""
    lines: list[str] = []

    def write(name: str, line: str) -> None:
        lines.append(f"{name} {line}")
        if pattern in lines[-1]:
            os.kill(os.getpid(), signal.SIGINT)

    code = Supervisor(processes, write=write, policy=policy).run(lambda: write("test", "ready"))
    return code, lines


def test_a_process_that_dies_is_started_again_and_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "was-here"
    dies_once = (
        f"import os, pathlib; file = pathlib.Path({str(file)!r})\n"
        f"if not file.exists(): file.touch(); os.kill(os.getpid(), 9)\n{LIVES}"
    )
    policy = RestartPolicy(first_delay_s=0.01)
    code, lines = run_until([Process(name="worker", command=python(dies_once))], "worker alive", policy)
    assert code == 0
    assert "supervisor worker was ended by SIGKILL; starting it again in 0.01 s" in lines
    assert lines[-2:] == ["supervisor stopping", "supervisor stopped"]


def test_one_that_dies_again_and_again_ends_the_run_with_its_last_lines() -> None:
    dies = "import sys; print('one\\ntwo'); sys.exit('no database')"
    processes = [
        Process(name="other", command=python(LIVES), ready=writes("alive")),
        Process(name="worker", command=python(dies)),
    ]
    code, lines = run_until(processes, "never", RestartPolicy(first_delay_s=0.01, most_deaths=3))
    assert code == 1
    assert sum("starting it again" in line for line in lines) == 2
    told = [line.removeprefix("supervisor ") for line in lines if line.startswith("supervisor ")]
    told = told[told.index("worker ended with exit code 1, again and again: giving up. Its last lines:") :]
    assert sorted(told[1:4]) == ["    no database", "    one", "    two"]
    assert told[4:] == ["stopped"]


def test_a_step_that_fails_ends_the_run_before_what_stands_on_it_starts() -> None:
    processes = [
        Process(name="release", command=python("raise SystemExit('no such table')"), once=True),
        Process(name="web", command=python(LIVES), after=("release",)),
    ]
    code, lines = run_until(processes, "never")
    assert code == 1
    assert "supervisor     no such table" in lines
    assert not any(line.startswith("web ") for line in lines)


def test_a_process_that_is_never_ready_ends_the_run() -> None:
    slow = Process(name="web", command=python(LIVES), ready=lambda child: False, start_timeout_s=0.2)
    code, lines = run_until([slow], "never")
    assert code == 1
    assert any("web is not ready after 0.2 s" in line for line in lines)


RUNS = """
import sys
from dev.child import Command
from dev.supervisor import Process, Supervisor
def python(code):
    return lambda: Command(argv=[sys.executable, "-c", code])
processes = [Process(name=str(number), command=python(code), stop_grace_s=60) for number, code in enumerate(sys.argv[1:])]
supervisor = Supervisor(processes, write=lambda name, line: print(name, line, flush=True))
sys.exit(supervisor.run(lambda: print("all ready", flush=True)))
"""


@contextlib.contextmanager
def supervisor_of_its_own(*codes: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs these under a supervisor and prints what happens."""
    with subprocess.Popen(
        [sys.executable, "-c", RUNS, *codes], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def lines_until(running: subprocess.Popen[str], *patterns: str) -> list[str]:
    """Its lines up to the one by which all patterns have been seen."""
    assert running.stdout is not None
    missing, lines = set(patterns), []
    while missing:
        lines.append(running.stdout.readline())
        assert lines[-1], f"ended before {missing}: {lines}"
        missing = {pattern for pattern in missing if pattern not in lines[-1]}
    return lines


def test_a_killed_supervisor_leaves_nobody() -> None:
    with supervisor_of_its_own(LIVES, STAYS, PARENT) as running:
        lines = lines_until(running, "all ready", "0 alive", "1 alive", "2 pids")
        grandchild = next(line for line in lines if line.startswith("2 pids")).split()[-1]
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        assert len(children) == 4  # and the guard
        os.kill(running.pid, signal.SIGKILL)
        for pid in [*children, grandchild]:
            wait_until_gone(int(pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(number: signal.Signals) -> None:
    with supervisor_of_its_own(LIVES, LIVES) as running:
        lines_until(running, "all ready")
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.send_signal(number)
        lines_until(running, "supervisor stopping", "supervisor stopped")
        assert running.wait(TIMEOUT_S) == 0
        for pid in children:
            wait_until_gone(int(pid))


def test_a_second_signal_does_not_wait_for_the_grace() -> None:
    """The process refuses to stop and has a minute of grace."""
    with supervisor_of_its_own(STAYS) as running:
        lines_until(running, "0 alive", "all ready")
        running.send_signal(signal.SIGINT)
        lines_until(running, "0 no")
        running.send_signal(signal.SIGINT)
        lines_until(running, "killing it", "supervisor stopped")
        assert running.wait(TIMEOUT_S) == 0
