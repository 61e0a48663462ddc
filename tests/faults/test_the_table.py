"""The table of faults, its tests and ARCHITECTURE.md's table of failures say the same."""

from __future__ import annotations

import subprocess
import sys

from dev.procfile import ROOT
from tests.faults.table import TABLE


def test_every_fault_of_the_table_has_its_test() -> None:
    """Under the name by which pytest collects it."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "--no-header", "tests/faults"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout + collected.stderr
    tests = {line.removeprefix("tests/faults/") for line in collected.stdout.splitlines()}
    assert [row.test for row in TABLE if row.test not in tests] == []


def test_no_fault_stands_in_the_table_twice() -> None:
    assert len({row.name for row in TABLE}) == len({row.test for row in TABLE}) == len(TABLE) >= 40


def test_the_documentation_names_the_test_of_every_fault() -> None:
    """In the table of failures of ARCHITECTURE.md, as a function's name."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    section = text.split("\n## When something fails\n")[1].split("\n## ")[0]
    functions = [row.test.partition("::")[2].partition("[")[0] for row in TABLE]
    assert sorted({function for function in functions if f"`{function}`" not in section}) == []
