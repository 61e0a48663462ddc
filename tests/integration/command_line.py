"""`chatrelay` as an operator runs it: the console script, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("chatrelay")


def run(*arguments: str, state: Path, given: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The console script with this environment and none of the tester's; `given` on its standard input."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    told: Mapping[str, str] = {**kept, "CHATRELAY_STATE_DIR": str(state), "TERM": "dumb", **environment}
    return subprocess.run(
        [str(PROGRAM), *arguments],
        env=told,
        cwd=state,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
