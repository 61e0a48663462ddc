"""The threats of SECURITY.md each have a test that is there: rows that can be read, under ids that are used once."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Final

from dev.procfile import ROOT

HEAD: Final = ["| id | threat | what stops it | tests |", "| --- | --- | --- | --- |"]
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@dataclass(frozen=True, kw_only=True)
class Threat:
    line: str
    group: str
    cells: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.cells[0]

    @property
    def tests(self) -> list[tuple[str, str]]:
        return TEST.findall(self.cells[3])


def _groups() -> dict[str, list[str]]:
    """The lines of each table below "## Threats", by the heading above it."""
    threats = (ROOT / "SECURITY.md").read_text().split("\n## Threats\n")[1].split("\n## ")[0]
    groups = {}
    for part in threats.split("\n### ")[1:]:
        heading, *lines = part.splitlines()
        groups[heading] = [line for line in lines if line.strip()]
    return groups


def _threats() -> list[Threat]:
    return [
        Threat(line=line, group=group, cells=tuple(cell.strip() for cell in line.strip("| ").split(" | ")))
        for group, lines in _groups().items()
        for line in lines[len(HEAD) :]
    ]


@cache
def _functions(path: str) -> frozenset[str]:
    """What a file defines at its top, where pytest finds it."""
    return frozenset(
        node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)
    )


def test_every_group_is_one_table_of_rows_with_four_cells() -> None:
    """One line a threat, so that lines can be added by several people at once."""
    assert {group for group, lines in _groups().items() if lines[: len(HEAD)] != HEAD} == set()
    broken = [threat.line for threat in _threats() if len(threat.cells) != len(HEAD[0].strip("| ").split(" | "))]
    assert broken == []
    assert [threat.id for threat in _threats() if not all(threat.cells)] == []


def test_every_id_is_its_group_s_letters_and_the_next_higher_number() -> None:
    """Unique over the page, rising in each group. A number that is gone may leave a gap."""
    ids = [threat.id for threat in _threats()]
    assert [one for one, times in Counter(ids).items() if times > 1] == []
    assert [one for one in ids if not re.fullmatch(r"[A-Z]{3}-[1-9]\d*", one)] == []
    letters = {}
    for group in _groups():
        numbered = [threat.id.split("-") for threat in _threats() if threat.group == group]
        (letters[group],) = {prefix for prefix, _ in numbered}
        numbers = [int(number) for _, number in numbered]
        assert numbers == sorted(numbers), group
    assert len(set(letters.values())) == len(letters), "two groups with the same letters"


def test_every_threat_names_its_tests_and_each_of_them_exists() -> None:
    """As `file::function`, which pytest takes; nothing else stands in that cell."""
    threats = _threats()
    assert [threat.id for threat in threats if not threat.tests] == []
    assert [threat.id for threat in threats if TEST.sub("", threat.cells[3]).strip(", ")] == []
    assert [(threat.id, path) for threat in threats for path, _ in threat.tests if not (ROOT / path).is_file()] == []
    lacking = [
        f"{threat.id}: {path}::{name}"
        for threat in threats
        for path, name in threat.tests
        if name not in _functions(path)
    ]
    assert lacking == []
