"""`chatrelay dev`, which is `make run`: one command brings everything up, keeps it up, and leaves nothing behind."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest

from dev.embedded import EmbeddedPostgres, free_port

CHATRELAY = Path(sys.executable).with_name("chatrelay")
TIMEOUT_S = 120.0


class Run:
    """A `chatrelay dev` and what it prints."""

    def __init__(self, state_dir: Path, *arguments: str, port: int) -> None:
        self._argv = [str(CHATRELAY), "dev", *arguments]
        # Neither the virtual environment nor the clone is known to the shell that starts it.
        self._env = {
            "PATH": "/usr/bin:/bin",
            "CHATRELAY_STATE_DIR": str(state_dir),
            "PORT": str(port),
            "LANG": "C.UTF-8",
        }
        self._lines: list[str] = []
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._argv, env=self._env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._lines.append("(end of output)")
            self._changed.notify_all()

    def wait_for(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """The first match in its lines from number `after` on."""

        def found() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, line) for line in self._lines[after:])), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._lines[-1:] == ["(end of output)"], TIMEOUT_S)
            match = found()
            assert match, f"no line {pattern!r} in:\n" + "\n".join(self._lines)
            return match

    def wait_ready(self) -> httpx.Client:
        """A client that bears the token which was printed with the page's address."""
        match = self.wait_for(r"^ready +(http://127\.0\.0\.1:\d+/)#token=(\S+)")
        token = urllib.parse.unquote(match[2])
        assert self.wait_for("^token  (.*)")[1] == token
        return httpx.Client(base_url=match[1], headers={"Authorization": f"Bearer {token}"}, trust_env=False)

    @property
    def line_count(self) -> int:
        return len(self._lines)

    def descendants(self) -> dict[int, str]:
        """Every process that it started, and that those started: pid and command line."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
        found: dict[int, str] = {}
        waiting = [self.process.pid]
        while waiting:
            for pid in parents.get(waiting.pop(), []):
                waiting.append(pid)
                try:
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                except OSError:
                    continue
        return found

    def pid_of(self, pattern: str) -> int:
        """The one process directly below it whose command line matches."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        [pid] = [
            pid for pid, command in self.descendants().items() if str(pid) in children and re.search(pattern, command)
        ]
        return pid


def wait_until_gone(pids: dict[int, str]) -> None:
    """All of these end, without anybody's doing more."""
    for pid, command in pids.items():
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with os.fdopen(descriptor) as handle:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            assert poll.poll(TIMEOUT_S * 1000), f"{pid} still runs: {command}"


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    EmbeddedPostgres(tmp_path / "state" / "postgres").forget()


def project_names(client: httpx.Client) -> list[str]:
    return [project["name"] for project in client.get("/v1/projects").raise_for_status().json()["items"]]


@pytest.mark.timeout(600)  # three runs, on a machine that may be busy
def test_one_command_brings_everything_up_and_keeps_it_up_and_its_state(state_dir: Path) -> None:
    port = free_port()
    with Run(state_dir, port=port) as run, run.wait_ready() as client:
        client.post("/v1/projects", json={"name": "kept"}).raise_for_status()
        pids = run.descendants()
        for private in ("token", "environment"):
            assert (state_dir / private).stat().st_mode & 0o077 == 0

        second = subprocess.run(
            [CHATRELAY, "dev"], env=run._env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert second.returncode == 1
        assert f"already running here (pid {run.process.pid}, http://127.0.0.1:{port}/)" in second.stderr

        token = subprocess.run(
            [CHATRELAY, "token", "create", "--user", "dev"],
            env=run._env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        assert client.get("/v1/projects", headers={"Authorization": f"Bearer {token.stdout.strip()}"}).is_success

        for name, pattern in [("worker", "chatrelay.interactive"), ("web", "gunicorn"), ("valkey", "valkey-server")]:
            told = run.line_count
            os.kill(run.pid_of(pattern), signal.SIGKILL)
            run.wait_for(f"supervisor .*{name} was ended by SIGKILL; starting it again", after=told)
            if name == "worker":
                run.wait_for(r"worker .* ready\.", after=told)
        pids |= run.descendants()
        run.process.kill()
        wait_until_gone(pids)

    with Run(state_dir, port=port) as run, run.wait_ready() as client:
        assert project_names(client) == ["kept"]
        pids = run.descendants()
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(TIMEOUT_S) == 0
        wait_until_gone(pids)
        assert not (state_dir / "environment").exists()

    with Run(state_dir, "--fresh", port=port) as run, run.wait_ready() as client:
        assert project_names(client) == []
        pids = run.descendants()
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(TIMEOUT_S) == 0
        wait_until_gone(pids)


def test_a_port_that_was_asked_for_and_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Run(tmp_path / "state", port=port) as run:
            run.wait_for(f"port {port} is taken by another program: set PORT to a free one")
            assert run.process.wait(TIMEOUT_S) == 1
