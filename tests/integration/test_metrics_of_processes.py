"""Several processes that are scraped as one: what they count adds up, and outlives them; what they have does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import pytest

from dev.embedded import free_port
from dev.procfile import ROOT
from shared import exporter
from tests.told_metrics import Told

_PROGRAM: Final = """
import os, signal, sys
from shared import exporter, metrics

exporter.share()
port = int(sys.argv[1])
metrics.BELLS.add("rung")
children = []
for number in (1, 2):
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        metrics.BELLS.add("rung", by=10 * number)
        metrics.RUNNING.set(number)
        metrics.COMPLETION.observe(0.3 * number, "other", "success")
        os.write(ready[1], b".")
        signal.pause()
    os.read(ready[0], 1)
    children.append(pid)
exporter.Exporter().serve(port)
print("ready", flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        dead = children.pop()
        os.kill(dead, signal.SIGKILL)
        os.waitpid(dead, 0)
        print("killed", flush=True)
    elif line == "fork\\n":
        ready = os.pipe()
        pid = os.fork()
        if not pid:
            metrics.BELLS.add("rung", by=100)
            os.write(ready[1], b".")
            signal.pause()
        os.read(ready[0], 1)
        children.append(pid)
        print("forked", flush=True)
    else:
        break
for pid in children:
    os.kill(pid, signal.SIGKILL)
exporter.unshare()
"""


class Family:
    """A process with two children that count, told what to do by its standard input."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self._port = port
        self._heard("ready")

    @property
    def told(self) -> Told:
        return scraped(self._port)

    def do(self, what: str, then: str) -> None:
        _pipe(self._process.stdin).write(f"{what}\n")
        _pipe(self._process.stdin).flush()
        self._heard(then)

    def end(self) -> None:
        _pipe(self._process.stdin).close()
        assert self._process.wait(30) == 0

    def _heard(self, expected: str) -> None:
        assert _pipe(self._process.stdout).readline().strip() == expected


def _pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None
    return end


def scraped(port: int) -> Told:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return Told(answer.read().decode())


@contextmanager
def family(directory: Path) -> Iterator[Family]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(port)],
        cwd=ROOT,
        env={"TMPDIR": str(directory), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Family(process, port)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children with it
        process.wait()
        for pipe in (process.stdin, process.stdout):
            _pipe(pipe).close()


def test_counts_of_all_processes_add_up_and_outlive_those_that_are_killed(tmp_path: Path) -> None:
    """Before, after a kill, and with another child in its place; what a dead one had is not told any more."""
    with family(tmp_path) as made:
        told = made.told
        assert told.value("chatrelay_bells_total", result="rung") == 1 + 10 + 20
        assert told.value("chatrelay_messages_running") == 1 + 2
        assert told.value("chatrelay_completion_seconds_count", model="other", status="success") == 2
        assert told.value("chatrelay_completion_seconds_bucket", model="other", status="success", le="0.5") == 1
        made.do("kill", "killed")
        assert made.told.value("chatrelay_bells_total", result="rung") == 31
        assert made.told.value("chatrelay_messages_running") == 1
        made.do("fork", "forked")
        assert made.told.value("chatrelay_bells_total", result="rung") == 131


def test_the_directory_goes_with_the_process_and_what_killed_ones_left_is_cleared(tmp_path: Path) -> None:
    """Those of processes that live stay."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, other = tmp_path / f"chatrelay-metrics-{dead.pid}-x", tmp_path / "something-else"
    for directory in (left, other):
        directory.mkdir()
        (directory / "counter_1.db").touch()
    with family(tmp_path) as first:
        assert not left.exists()
        with family(tmp_path) as second:
            assert len(list(tmp_path.glob("chatrelay-metrics-*"))) == 2
            second.end()
        assert first.told.value("chatrelay_bells_total", result="rung") == 31
        first.end()
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("path", ["/metrics", "/"])
def test_an_exporter_answers_scrapers(tmp_path: Path, path: str) -> None:
    with family(tmp_path) as made:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{made._port}{path}", timeout=30) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            assert b"# HELP chatrelay_bells_total" in answer.read()


def test_a_file_that_a_process_has_only_just_made_fails_no_scrape(tmp_path: Path) -> None:
    """It is empty for a moment; and a dead one's may go away while it is read."""
    begun = tmp_path / "counter_1.db"
    begun.touch()
    looks = exporter._of_all.retry_with(before_sleep=lambda _: begun.unlink())
    assert looks(tmp_path) == []
