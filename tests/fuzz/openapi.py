"""Schemathesis over a running API: its command, and what its report says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
_PROGRAM: Final = Path(sys.executable).with_name("st")
_CASES: Final = re.compile(r"(\d[\d,]*) generated")


class Outcome(NamedTuple):
    """`cases` were tried; `is_clean`: no check failed. `said` is all that the tool printed."""

    cases: int
    statuses: Counter[int]
    is_clean: bool
    said: str


def run(
    url: str,
    token: str,
    reports: Path,
    *,
    seed: int,
    max_examples: int,
    phases: str,
    paths: str,
    without: Sequence[str],
    timeout_s: float,
) -> Outcome:
    """Operations of the API at `url` whose paths match, as the user of `token`; `reports` is a directory."""
    done = subprocess.run(
        [
            *(_PROGRAM, "--config-file", CONFIG, "run", f"{url}/openapi.json"),
            *("-H", f"Authorization: Bearer {token}", "--checks", "all", "--phases", phases, "--seed", str(seed)),
            *("--include-path-regex", paths),
            *(part for check in without for part in ("--exclude-checks", check)),
            *("-n", str(max_examples), "--no-color", "--report", "ndjson", "--report-dir", reports),
        ],
        capture_output=True,
        text=True,
        cwd=reports,  # it leaves things in its directory
        timeout=timeout_s,
        check=False,
    )
    said = done.stdout + done.stderr
    found = _CASES.search(said)
    return Outcome(
        cases=int(found[1].replace(",", "")) if found else 0,
        statuses=_statuses(reports),
        is_clean=done.returncode == 0,
        said=said,
    )


def _statuses(reports: Path) -> Counter[int]:
    """How often each status was answered."""
    counted: Counter[int] = Counter()
    for file in reports.glob("*.ndjson"):
        with file.open() as lines:
            for line in lines:
                counted.update(_statuses_in(json.loads(line)))
    return counted


def _statuses_in(value: object) -> list[int]:
    if isinstance(value, dict):
        own = [value["status_code"]] if isinstance(value.get("status_code"), int) else []
        return [*own, *(status for one in value.values() for status in _statuses_in(one))]
    if isinstance(value, list):
        return [status for one in value for status in _statuses_in(one)]
    return []
