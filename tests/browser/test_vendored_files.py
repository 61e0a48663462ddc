"""The vendored libraries are what VENDORED.md says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "api" / "static" / "vendor"
TABLE = (VENDOR / "VENDORED.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(?P<file>[^`]+)` \|.*\]\((?P<licence>[^)]+)\).*\| `(?P<sha256>[0-9a-f]{64})` \|$", re.MULTILINE)
IMPORT = re.compile(r"""(?<!["'])\b(?:from|import)\s*\(?["']([\w@./:-]+)["']""")
"""What names a module: a list of a language's words, as a highlighter has one, does not."""


def test_every_vendored_file_has_its_row_licence_and_checksum() -> None:
    rows = {row["file"]: row for row in ROW.finditer(TABLE)}
    assert set(rows) == {path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".css")}
    for name, row in rows.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == row["sha256"], name
        assert (VENDOR / row["licence"]).stat().st_size > 500


def test_no_vendored_file_imports_from_outside_its_folder() -> None:
    for path in VENDOR.glob("*.js"):
        for target in IMPORT.findall(path.read_text(encoding="utf-8")):
            assert target.startswith("./"), (path.name, target)
            assert (VENDOR / target).is_file(), (path.name, target)
