"""TSX that a model wrote -> an ES module, or what is wrong with it by line and column. Nothing of it is ever run here.

Two programs read the text, each as a process of its own with bounded time, memory and output, in an empty directory and an
empty environment: ``oxlint`` checks it, ``deno transpile`` (offline; it resolves no import) makes JavaScript of it. The
result is checked once more, since comments can make a transpiler import things. The preview's sandbox is what keeps a hostile
component harmless; the check is there to find mistakes early and to tell the model of them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

MODULES: Final = ("react", "remotion")
"""What a component may import."""
REMOTION: Final = ("AbsoluteFill", "Sequence", "interpolate", "spring", "useCurrentFrame", "useVideoConfig")
"""What the preview's ``remotion`` has."""

MAX_SOURCE_BYTES: Final = 64 * 1024
MAX_BUNDLE_BYTES: Final = 512 * 1024
WALL_S: Final = 15.0
CPU_S: Final = 5
MEMORY_BYTES: Final = 1024**3
"""Of the data segment: V8 reserves tens of gigabytes of addresses, which rules out a limit of those."""
ABANDONED_S: Final = 600.0
"""So old is no directory in which a step still runs."""
MOST_PROBLEMS: Final = 12
MOST_OUTPUT_BYTES: Final = 4 * 1024 * 1024


def anything_but(names: Collection[str]) -> str:
    """A regular expression of every text that is none of `names`.

    The linter's expressions cannot look ahead, and its lists of names are file patterns, to which ``https://…/react`` is
    `react` as well.
    """

    def after(beginning: str) -> str:
        following = sorted({name[len(beginning)] for name in names if name.startswith(beginning) and name != beginning})
        ways = [f"[^{re.escape(''.join(following))}](?s:.)*" if following else "(?s:.)+"]
        ways += (re.escape(character) + after(beginning + character) for character in following)
        if beginning not in names:
            ways.append("")
        return f"(?:{'|'.join(ways)})"

    return f"^{after('')}$"


_PREFIX: Final = "chatrelay-component-"
_IMPORTABLE: Final = f"Only {' and '.join(MODULES)} can be imported."
_RULES: Final[dict[str, Any]] = {
    "no-eval": "error",
    "no-implied-eval": "error",
    "no-new-func": "error",
    "import/no-dynamic-require": ["error", {"esmodule": True}],
}
_SOURCE_CHECK: Final = {
    "plugins": ["import", "react"],
    "categories": {"correctness": "off"},
    "env": {"es2024": True, "browser": True},
    "rules": {
        **_RULES,
        "no-restricted-imports": [
            "error",
            {
                "paths": [
                    {
                        "name": "remotion",
                        "allowImportNames": list(REMOTION),
                        "message": f"It has {', '.join(REMOTION)}.",
                    }
                ],
                "patterns": [{"regex": anything_but(MODULES), "caseSensitive": True, "message": _IMPORTABLE}],
            },
        ],
        "no-undef": "error",
        "no-const-assign": "error",
        "no-dupe-keys": "error",
        "react/jsx-no-undef": "error",
        "react/jsx-no-duplicate-props": "error",
        "react/rules-of-hooks": "error",
    },
}
_BUNDLE_CHECK: Final = {
    "plugins": ["import"],
    "categories": {"correctness": "off"},
    "rules": {
        **_RULES,
        "no-restricted-imports": [
            "error",
            {"patterns": [{"regex": anything_but((*MODULES, "react/jsx-runtime")), "caseSensitive": True}]},
        ],
    },
}
_TRANSPILING: Final = {"compilerOptions": {"jsx": "react-jsx", "jsxImportSource": "react"}, "lock": False}

_LIMITED: Final = f"""\
import os, resource, sys
for limit, most in (
    (resource.RLIMIT_CPU, int(sys.argv[1])),
    (resource.RLIMIT_DATA, {MEMORY_BYTES}),
    (resource.RLIMIT_FSIZE, {MOST_OUTPUT_BYTES}),
    (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(limit, (most, most))
os.execv(sys.argv[2], sys.argv[2:])
"""
_ENVIRONMENT: Final = {"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}
_DIRECTIVE: Final = re.compile(
    r"(?:eslint|oxlint)-(?:disable|enable)|@jsx\w*|@(?:deno|ts)-types|<reference\b|[#@]\s*source(?:Mapping)?URL\b"
)
"""What steers one of the two programs, or a browser's tools, which fetch a source map whatever the page's policy says."""
_DEFAULT_EXPORT: Final = re.compile(r"\bexport default\b|\bas default\b")
_TRANSPILE_ERROR: Final = re.compile(r"error: (?:The module's source code could not be parsed: )?(?P<message>.*)")
_TRANSPILE_PLACE: Final = re.compile(r"^\s+at file://\S*?:(?P<line>\d+):(?P<column>\d+)\s*$", re.MULTILINE)


class Problem(msgspec.Struct, frozen=True):
    """Something wrong with the source; places count from 1."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}"


class CompileFailed(Exception):
    """The source cannot be built as it is."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ToolMissing(Exception):
    """A program that compiling needs is not installed."""


class Compiler:
    def __init__(self, *, oxlint: Path, deno: Path, cpu_s: int = CPU_S) -> None:
        """`cpu_s`: of each run of one of the programs."""
        self._oxlint = oxlint
        self._deno = deno
        self._cpu_s = cpu_s

    @classmethod
    def installed(cls, *, cpu_s: int = CPU_S) -> Compiler:
        """With the programs that were installed beside this interpreter. Raises `ToolMissing`."""
        scripts = Path(sys.executable).parent
        for name in ("oxlint", "deno"):
            if not (scripts / name).is_file():
                raise ToolMissing(f"{name} is not installed in {scripts}")
        return cls(oxlint=scripts / "oxlint", deno=scripts / "deno", cpu_s=cpu_s)

    def clear_abandoned(self) -> None:
        """Remove what builders that were killed left behind, whoever they were."""
        for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with suppress(OSError):  # another builder's sweep was faster, or it is another user's
                if time.time() - directory.stat().st_mtime > ABANDONED_S:
                    shutil.rmtree(directory)

    def check(self, source: str) -> None:
        """Raises `CompileFailed`."""
        if (size := len(source.encode())) > MAX_SOURCE_BYTES:
            raise CompileFailed(Problem(1, 1, f"The source has {size} bytes; {MAX_SOURCE_BYTES} are allowed."))
        if (found := _DIRECTIVE.search(source)) is not None:
            raise CompileFailed(_at(source, found.start(), f"Comments with {found[0]} are not allowed."))
        self._lint(source, "component.tsx", _SOURCE_CHECK)

    def bundle(self, source: str) -> str:
        """The ES module of a source that was checked. Raises `CompileFailed`."""
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
            directory = Path(name)
            (directory / "component.tsx").write_text(source)
            (directory / "deno.json").write_text(json.dumps(_TRANSPILING))
            done = self._run(
                [str(self._deno), "transpile", "--quiet", "--no-remote", "--no-npm", "--no-lock",
                 "--config", "deno.json", "--output", "component.js", "component.tsx"],
                directory,
            )  # fmt: skip
            made = directory / "component.js"
            if done.returncode != 0 or not made.is_file():
                raise CompileFailed(_transpile_problem(done.stderr))
            raw = made.read_bytes()
        if len(raw) > MAX_BUNDLE_BYTES:
            raise CompileFailed(Problem(1, 1, f"The component has {len(raw)} bytes; {MAX_BUNDLE_BYTES} are allowed."))
        bundle = raw.decode()
        if _DEFAULT_EXPORT.search(bundle) is None:
            raise CompileFailed(Problem(1, 1, "The component must be the module's default export."))
        self._lint(bundle, "component.js", _BUNDLE_CHECK)
        if (found := _DIRECTIVE.search(bundle)) is not None:
            raise CompileFailed(Problem(1, 1, f"The component comes to have {found[0]}."))
        return bundle

    def _lint(self, text: str, file_name: str, rules: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
            directory = Path(name)
            (directory / file_name).write_text(text)
            (directory / "rules.json").write_text(json.dumps(rules))
            done = self._run(
                [str(self._oxlint), "--config", "rules.json", "--format", "json", "--quiet", "--threads", "1",
                 "--disable-nested-config", file_name],
                directory,
            )  # fmt: skip
        try:
            report = msgspec.json.decode(done.stdout, type=_Report)
        except msgspec.DecodeError:
            # a stack that overflowed, mostly
            raise CompileFailed(Problem(1, 1, "The source could not be read: it is nested too deeply.")) from None
        if report.number_of_files != 1:
            raise CompileFailed(Problem(1, 1, "The source could not be read."))
        problems = sorted(
            {_problem(diagnostic) for diagnostic in report.diagnostics},
            key=lambda problem: (problem.line, problem.column, problem.message),
        )
        if problems:
            raise CompileFailed(*problems[:MOST_PROBLEMS])

    def _run(self, argv: list[str], directory: Path) -> _Done:
        """Run a program with limits; what it says goes to files, whose size is limited too. Raises `CompileFailed`."""
        said, complained = directory / ".stdout", directory / ".stderr"
        with said.open("wb") as stdout, complained.open("wb") as stderr:
            try:
                done = subprocess.run(
                    [sys.executable, "-I", "-S", "-c", _LIMITED, str(self._cpu_s), *argv],
                    cwd=directory,
                    env={name: str(directory) for name in ("HOME", "TMPDIR", "DENO_DIR")} | _ENVIRONMENT,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    timeout=WALL_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise CompileFailed(Problem(1, 1, "The source takes too long to compile.")) from None
        return _Done(done.returncode, said.read_bytes(), complained.read_text(errors="replace"))


class _Done(NamedTuple):
    returncode: int
    stdout: bytes
    stderr: str


class _Span(msgspec.Struct):
    line: int = 1
    column: int = 1


class _Label(msgspec.Struct):
    span: _Span = msgspec.field(default_factory=_Span)


class _Diagnostic(msgspec.Struct):
    message: str
    help: str = ""
    labels: list[_Label] = msgspec.field(default_factory=list)


class _Report(msgspec.Struct):
    diagnostics: list[_Diagnostic]
    number_of_files: int


def _problem(diagnostic: _Diagnostic) -> Problem:
    span = diagnostic.labels[0].span if diagnostic.labels else _Span()
    words = f"{diagnostic.message} {diagnostic.help}".strip()
    return Problem(span.line, span.column, words[:500])


def _transpile_problem(stderr: str) -> Problem:
    message, place = _TRANSPILE_ERROR.search(stderr), _TRANSPILE_PLACE.search(stderr)
    return Problem(
        int(place["line"]) if place else 1,
        int(place["column"]) if place else 1,
        message["message"][:500] if message else "The source could not be compiled.",
    )


def _at(source: str, offset: int, message: str) -> Problem:
    before = source[:offset]
    return Problem(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1, message)
