"""No file of the repository has a key, a token or a private key: who clones it gets nobody's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from dev.procfile import ROOT
from shared.store.access import digest

SHAPES: Final = re.compile(
    r"\bsk-[A-Za-z0-9_-]{20,}"  # OpenAI and those who took its form
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{35}"  # Amazon, Google
    r"|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{22,}|\bglpat-[\w-]{20}"
    r"|\bxox[abprs]-[0-9A-Za-z-]{10,}"  # Slack
    r"|\beyJ[\w-]{16,}\.eyJ[\w-]{16,}"  # a JSON Web Token
    r"|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}"
)
_LEFT_OUT: Final = {"node_modules", "test-artifacts", "__pycache__"}


def _files(directory: Path) -> Iterator[Path]:
    """What is, or could be, committed: no hidden directories, nothing that is made here."""
    for path in directory.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path.name not in _LEFT_OUT:
            yield from _files(path)
        elif path.is_file() and path.suffix not in (".png", ".pyc"):
            yield path


def test_nothing_in_the_repository_looks_like_a_key() -> None:
    found = {str(path.relative_to(ROOT)) for path in _files(ROOT) if SHAPES.search(path.read_text(errors="replace"))}
    assert found == set()


@pytest.mark.parametrize(
    "parts",
    [
        ("sk-", digest("openai").hex()),
        ("AKIA", digest("amazon").hex()[:16].upper()),
        ("ghp_", digest("github").hex()[:36]),
        ("eyJhbGciOiJIUzI1NiIs", ".eyJzdWIiOiIxMjM0NTY3"),
        ("-----BEGIN RSA PRIVATE", " KEY-----\n", digest("key").hex()),
    ],
    ids=lambda parts: parts[0],
)
def test_what_looks_like_one_is_seen(parts: tuple[str, ...]) -> None:
    """In two pieces here, so that this file has none."""
    assert SHAPES.search(f'key = "{"".join(parts)}"')
