"""Where a reference's packages are; installed at the first need."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
_TIMEOUT_S: Final = 600.0


class ReferenceUnavailable(Exception):
    """A reference's packages could not be installed; the text says why."""


def python_of(name: str) -> Path:
    """The Python that has what the reference's requirements.txt lists. Raises `ReferenceUnavailable`."""
    requirements = HERE / name / "requirements.txt"

    def install(directory: Path) -> None:
        _check([sys.executable, "-m", "venv", str(directory)])
        pip = [str(directory / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _check([*pip, "--no-deps", "--requirement", str(requirements)])

    return _installed(name, requirements, install) / "bin/python"


def node_directory_of(name: str) -> Path:
    """A directory with the reference's programs and what its package.json lists. Raises `ReferenceUnavailable`."""
    package = HERE / name / "package.json"

    def install(directory: Path) -> None:
        directory.mkdir()
        shutil.copy(package, directory)
        npm = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
        _check(npm, cwd=directory)

    directory = _installed(name, package, install)
    for program in (HERE / name).glob("*.mjs"):
        shutil.copy(program, directory)
    return directory


def _installed(name: str, packages: Path, install: Callable[[Path], None]) -> Path:
    """The directory for exactly these packages. One that an interrupted installation left is made anew."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatrelay-benchmarks"
    version = hashlib.sha256(packages.read_bytes() + sys.version.encode()).hexdigest()[:12]
    directory = cache / f"{name}-{version}"
    if not (directory / ".installed").exists():
        shutil.rmtree(directory, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        install(directory)
        (directory / ".installed").touch()
    return directory


def _check(argv: list[str], *, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReferenceUnavailable(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise ReferenceUnavailable(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
