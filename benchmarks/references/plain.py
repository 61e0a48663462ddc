"""The plain worker of `plain_worker/`, as a process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks.references.installing import HERE, python_of
from benchmarks.references.running import running

NAME: Final = "plain_worker"
_SEND_S: Final = 60.0


class PlainWorker:
    """One process on the threads pool. Its queue is the Redis database of `redis_url`."""

    def __init__(self, redis_url: str, model_url: str) -> None:
        self._python = str(python_of(NAME))
        self._environment = {"REDIS_URL": redis_url, "OPENAI_BASE_URL": model_url}

    def send(self, task: str, count: int) -> None:
        """Put so many tasks, `answer` or `nothing`, into its queue."""
        subprocess.run(
            [self._python, "send.py", task, str(count)],
            cwd=HERE / NAME,
            env={**os.environ, **self._environment},
            timeout=_SEND_S,
            check=True,
        )

    @contextmanager
    def started(self, *, concurrency: int) -> Iterator[int]:
        """Its pid, once it listens."""
        argv = [self._python, "-m", "celery", "--quiet", "--app", "tasks", "worker", "--pool", "threads"]
        argv += ["--concurrency", str(concurrency), "--loglevel", "INFO"]
        argv += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with running("plain-worker", argv, cwd=HERE / NAME, environment=self._environment, says=r"\bready\.?$") as pid:
            yield pid
