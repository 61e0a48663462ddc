"""What the product is made of: packages of a lock, vendored browser files, and the licences that somebody has looked at."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.procfile import ROOT

LOCK: Final = ROOT / "requirements.lock"
PRODUCT_LOCK: Final = ROOT / "ops" / "deploy" / "requirements.lock"
BOOTSTRAP_LOCK: Final = ROOT / "dev" / "bootstrap.lock"
VENDORED_LOCK: Final = ROOT / "dev" / "vendored" / "package-lock.json"
"""No npm reads it but its audit: it names what VENDORED.md names, so that scanners find it."""
LICENCES: Final = ROOT / "docs" / "licences.md"

_VENDORED: Final = ROOT / "api" / "static" / "vendor"
_PIN: Final = re.compile(
    r"^(?P<name>[a-z0-9-]+)(?:\[[a-z,-]+\])?==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))? *\\?\n"
    r"(?P<hashes>(?:    --hash=\S+(?: \\)?\n?)+)",
    re.MULTILINE,
)
_LICENCE: Final = re.compile(
    r"^\| (?P<name>[a-z0-9-]+) \| (?P<expression>[^|`]+) \| (?P<words>[^|]*) ?\| (?P<part>product|development) \|$",
    re.MULTILINE,
)
_VENDORED_FILE: Final = re.compile(
    r"^\| `(?P<file>[^`]+)` \| (?P<packages>[^|]+) \| (?P<version>[^|]+) \| \[(?P<licence>[^\]]+)\]\([^|]+"
    r"\| [^|]+ \| [^|]+ \| `(?P<sha256>[0-9a-f]{64})` \|$",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A package of a lock; `marker` says on which machines it is installed, "" for all."""

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A row of docs/licences.md: `words` are the package's own, where they are not the SPDX expression."""

    expression: str
    words: str
    part: str


@dataclass(frozen=True, kw_only=True)
class VendoredFile:
    """A row of VENDORED.md. More than one package where several were bundled."""

    path: Path
    packages: tuple[str, ...]
    version: str
    licence: str
    sha256: str


def pins(lock: Path) -> list[Pin]:
    """Raises `ValueError` where the lock has a line of another shape."""
    text = lock.read_text()
    found = [
        Pin(
            name=pin["name"],
            version=pin["version"],
            marker=pin["marker"] or "",
            sha256=tuple(re.findall(r"sha256:(\w+)", pin["hashes"])),
        )
        for pin in _PIN.finditer(text)
    ]
    if len(found) != len(re.findall(r"^\S", text, re.MULTILINE)):
        raise ValueError(f"{lock} has a requirement without a pin or hashes")
    return found


def licences() -> dict[str, Licence]:
    """By package. Raises `ValueError` where one has two rows."""
    rows = list(_LICENCE.finditer(LICENCES.read_text()))
    found = {
        row["name"]: Licence(expression=row["expression"].strip(), words=row["words"].strip(), part=row["part"])
        for row in rows
    }
    if len(found) != len(rows):
        raise ValueError(f"{LICENCES} has two rows for a package")
    return found


def vendored_files() -> list[VendoredFile]:
    return [
        VendoredFile(
            path=_VENDORED / row["file"],
            packages=tuple(row["packages"].split(", ")),
            version=row["version"],
            licence=row["licence"],
            sha256=row["sha256"],
        )
        for row in _VENDORED_FILE.finditer((_VENDORED / "VENDORED.md").read_text())
    ]


def locked_from_npm(lock: Path) -> dict[str, tuple[str, str]]:
    """Version and licence of each package of a package-lock.json."""
    packages = json.loads(lock.read_text())["packages"]
    return {
        path.rpartition("node_modules/")[2]: (package["version"], package["license"])
        for path, package in packages.items()
        if path
    }
