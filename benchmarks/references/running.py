"""A reference's server as a process that ends with its context."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dev.child import Command
from dev.supervisor import Process, Supervisor, answers, writes

_START_S: Final = 60.0


@contextmanager
def running(
    name: str,
    argv: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    health_url: str | None = None,
    says: str | None = None,
) -> Iterator[int]:
    """Its pid, once it answers at `health_url` or has written a line that matches `says`. Raises `StackFailed`."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    command = Command(argv=list(argv), env=env, cwd=cwd)
    ready = answers(health_url) if health_url is not None else writes(says or "")
    with Supervisor([Process(name=name, command=lambda: command, ready=ready)]) as supervisor:
        supervisor.start_all(timeout_s=_START_S)
        yield supervisor.child(name).pid
