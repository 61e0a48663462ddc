"""What the README says of the settings is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from shared.settings import Settings

README = Path(__file__).resolve().parents[2] / "README.md"


def table_rows() -> list[str]:
    """The settings' table as the code would write it."""
    rows = []
    for field in Settings.model_fields.values():
        default = "" if field.is_required() or field.default is None else field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        elif isinstance(default, bool):
            default = "1" if default else ""
        elif isinstance(default, float):
            default = f"{default:g}"
        shown = f"`{default}`" if default != "" else ""
        rows.append(f"| `{field.alias}` | {shown} | {field.description} |")
    return rows


def test_the_readme_lists_every_setting_with_its_default_and_meaning() -> None:
    """One table, in the order of the code."""
    listed = re.findall(r"^\| `[A-Z_]+` \|.*$", README.read_text(), re.MULTILINE)
    assert listed == table_rows()


def test_every_file_that_the_documents_link_exists() -> None:
    """No link into nothing."""
    for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (README.parent / name).read_text()):
            assert (README.parent / target).exists(), f"{name} links to {target}"


def test_every_path_that_the_documents_name_exists() -> None:
    """What a reader is sent to is there."""
    for name in ("README.md", "ARCHITECTURE.md", "SECURITY.md"):
        text = (README.parent / name).read_text()
        for path in re.findall(r"`((?:api|worker|shared|dev|ops|tests|migrations)/[\w/.]*)`", text):
            assert (README.parent / path).exists(), f"{name} names {path}"
