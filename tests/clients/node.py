"""Programs for Node.js, and some for Python, as somebody outside this repository would write them, and what they say."""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_HERE: Final = Path(__file__).parent
_PAGE: Final = _HERE.parents[1] / "api" / "static" / "app"
_PUBLIC: Final = _HERE.parents[1] / "api" / "static" / "clients"
_LEAST_NODE: Final = 20
_INSTALL_TIMEOUT_S: Final = 150.0
WAIT_S: Final = 60.0

Said = dict[str, Any]


class NodeNotReady(Exception):
    """Node.js or npm is missing or too old, or the clients could not be installed."""


class ProgramFailed(AssertionError):
    """A program ended before it said what was waited for, or with an error."""


class Programs:
    """The programs beside their npm packages, in `directory`, ready to be run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def install(cls, directory: Path) -> Self:
        """Puts the programs, the page's modules, the public client and the locked packages into `directory`.

        Raises `NodeNotReady`.
        """
        _check_node()
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(_HERE / name, directory)
        for program in [*(_HERE / "programs").glob("*.*s*"), *_PUBLIC.glob("trpc.d.ts")]:
            shutil.copy(program, directory)
        for name, folder in (("page", _PAGE), ("clients", _PUBLIC)):
            (directory / name).mkdir()
            for module in folder.glob("*.*s"):
                shutil.copy(module, directory / name)
        _check(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory)
        return cls(directory)

    def run_text(self, name: str, source: str, environment: Mapping[str, str]) -> str:
        """Runs this program to its end: what it prints. It must not fail."""
        (self.directory / name).write_text(source, encoding="utf-8")
        own = {**os.environ, **environment}
        return _check(["node", name], cwd=self.directory, environment=own)

    def compile(self, program: str) -> str:
        """Has tsc check a TypeScript program, strictly: what it complains of, nothing where all is well."""
        options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2023,dom"]
        argv = ["npx", "--no-install", "tsc", *options, "--skipLibCheck", "--allowImportingTsExtensions", program]
        done = subprocess.run(
            argv, cwd=self.directory, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
        assert done.returncode == 0 or done.stdout, done.stderr
        return done.stdout

    def bundle(self, page: str, aliases: Mapping[str, str] | None = None) -> str:
        """A page's module with all that it imports, in one. `aliases` are packages to be taken in place of others."""
        options = ["--bundle", "--format=esm", "--jsx=automatic", '--define:process.env.NODE_ENV="development"']
        options += [f"--alias:{name}={other}" for name, other in (aliases or {}).items()]
        return _check(["npx", "--no-install", "esbuild", page, "--log-level=error", *options], cwd=self.directory)

    def run(self, program: str, task: object) -> Program:
        """A running program, which was told what to do."""
        if program.endswith(".py"):
            return python_program(program, task)
        return Program(self.directory, ["node", program], task)


def python_program(program: str, task: object) -> Program:
    """One of the programs in Python, which need no Node.js, running."""
    return Program(_HERE / "programs", [sys.executable, program], task)


class Program:
    """One running program. `said` is all that it said, each a JSON object.

    Left, it is killed where it still runs.
    """

    def __init__(self, directory: Path, argv: list[str], task: object) -> None:
        self.name = Path(argv[-1]).name
        self.said: list[Said] = []
        self._unread = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the program
        self._process = subprocess.Popen(
            argv,
            cwd=directory,
            env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        self.order(task)

    @property
    def events(self) -> list[str]:
        """The events that it received, each the JSON text that came, in order."""
        return [said["event"] for said in self.said if "event" in said]

    def heard(self, key: str) -> list[Any]:
        """What it said under `key`, in order."""
        return [said[key] for said in self.said if key in said]

    def order(self, what: object) -> None:
        """One more line for it to read."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def until(self, fits: Callable[[Said], bool], *, timeout_s: float = WAIT_S) -> Said:
        """The next of what it says that fits. Raises `ProgramFailed` where it ends first, and `TimeoutError`."""
        deadline_s = time.monotonic() + timeout_s
        while (said := self._next(deadline_s)) is not None:
            if fits(said):
                return said
        raise ProgramFailed(f"{self.name} ended; {self._account()}")

    def until_event(self, kind: str, **fields: object) -> Said:
        """The next event of that type whose fields are these."""

        def fits(said: Said) -> bool:
            if "event" not in said:
                return False
            event: Said = json.loads(said["event"])
            return event["type"] == kind and all(event.get(name) == value for name, value in fields.items())

        found: Said = json.loads(self.until(fits)["event"])
        return found

    def finish(self, *, timeout_s: float = WAIT_S) -> Self:
        """Waits until it ends by itself. Raises `ProgramFailed` where it ends with an error, and `TimeoutError`."""
        deadline_s = time.monotonic() + timeout_s
        while self._next(deadline_s) is not None:
            pass
        if code := self._process.wait(max(0.1, deadline_s - time.monotonic())):
            raise ProgramFailed(f"{self.name} ended with {code}; {self._account()}")
        return self

    def _next(self, deadline_s: float) -> Said | None:
        """What it says next, kept; None once it has ended."""
        while b"\n" not in self._unread:
            piece = self._read(deadline_s)
            if not piece:
                return None
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        said: Said = json.loads(line)
        self.said.append(said)
        return said

    def _read(self, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline_s - time.monotonic())):
                raise TimeoutError(f"{self.name} says nothing more; {self._account()}")
        return os.read(self._process.stdout.fileno(), 1 << 16)

    def _account(self) -> str:
        self._stderr.seek(0)
        said = "\n".join(json.dumps(said) for said in self.said)
        return f"it said\n{said}\nand wrote\n{self._stderr.read().decode(errors='replace')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            assert pipe is not None
            pipe.close()


def _check_node() -> None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NodeNotReady(
                f"{program} is not on the PATH: these tests need Node.js {_LEAST_NODE} or newer with npm"
            )
    version = _check(["node", "--version"]).strip()
    found = re.match(r"v(\d+)\.", version)
    if found is None or int(found[1]) < _LEAST_NODE:
        raise NodeNotReady(f"Node.js is {version}: these tests need {_LEAST_NODE} or newer")


def _check(argv: list[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NodeNotReady(f"`{' '.join(argv)}` took more than {_INSTALL_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        raise NodeNotReady(f"`{' '.join(argv)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
