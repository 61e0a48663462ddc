"""What a model wrote becomes a module, or is told back with its place; and nothing of it gets out of the check."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from worker.compiler import MAX_SOURCE_BYTES, REMOTION, CompileFailed, Compiler, Problem
from worker.prompts import source_in

GOOD = """\
import React, { useMemo } from "react";
import { AbsoluteFill, interpolate, useCurrentFrame } from "remotion";

type Props = { from?: number };
enum Kind { Dot, Line }

const Dot: React.FC<Props> = ({ from = 0 }: Props) => {
  const frame = useCurrentFrame();
  const x = useMemo(() => interpolate(frame, [from, 30], [0, 1]), [frame, from]);
  return <div style={{ opacity: x } as React.CSSProperties}>{Kind.Dot} ünï 😀</div>;
};

export default function Effect() {
  return <AbsoluteFill><><Dot /></></AbsoluteFill>;
}
"""


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler.installed()


def test_what_a_killed_builder_left_is_removed_and_what_another_one_uses_is_not(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("chatrelay-component-old", "chatrelay-component-used", "somebody-elses")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "component.tsx").touch()
        if not name.endswith("used"):
            os.utime(tmp_path / name, (0, 0))
    compiler.clear_abandoned()
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


def problems(compiler: Compiler, source: str) -> tuple[Problem, ...]:
    with pytest.raises(CompileFailed) as failed:
        compiler.check(source)
    return failed.value.problems


def with_line(line: str) -> str:
    """A good component whose second line is `line`."""
    return f'import React from "react";\n{line}\nexport default function X() {{ return <div />; }}\n'


def test_typed_jsx_becomes_an_es_module_without_types(compiler: Compiler) -> None:
    """It imports the three modules that a preview has, and exports the component."""
    compiler.check(GOOD)
    bundle = compiler.bundle(GOOD)
    assert "Props" not in bundle
    assert 'from "react/jsx-runtime"' in bundle
    assert 'from "remotion"' in bundle
    assert "export default function Effect()" in bundle
    assert "ünï 😀" in bundle


def test_everything_that_the_preview_has_can_be_imported(compiler: Compiler) -> None:
    compiler.check(with_line(f'import {{ {", ".join(REMOTION)} }} from "remotion";'))


def test_the_same_source_gives_the_same_bundle(compiler: Compiler) -> None:
    assert compiler.bundle(GOOD) == compiler.bundle(GOOD)


def test_a_mismatched_tag_is_found_with_its_place(compiler: Compiler) -> None:
    found = problems(compiler, "export default function X() {\n  return <div><span></div>;\n}\n")
    assert (found[0].line, found[0].column) == (2, 23)
    assert "span" in found[0].message


def test_the_transpiler_finds_it_too(compiler: Compiler) -> None:
    with pytest.raises(CompileFailed) as failed:
        compiler.bundle("export default function X() {\n  return <div><span></div>;\n}\n")
    assert failed.value.problems[0].line == 2


def test_a_syntax_error_has_its_line_and_column(compiler: Compiler) -> None:
    (found,) = problems(compiler, with_line("const a = ;"))
    assert (found.line, found.column) == (2, 11)
    assert str(found).startswith("2:11: ")


@pytest.mark.parametrize(
    "line",
    [
        'import fs from "fs";',
        'import fs from "node:fs";',
        'import x from "https://example.org/x.js";',
        'import x from "./other";',
        'import x from "/etc/passwd";',
        'import x from "data:text/javascript,1";',
        'import x from "remotion/no";',
        'import x from "react-dom";',
        'import "fs";',
        'import type { X } from "fs";',
        'import x = require("fs");',
        'export * from "lodash";',
        'export { a } from "lodash";',
        'const x = await import("fs");',
        'const x = import("https://example.org/x.js");',
        'const x = import("h" + "ttps://example.org");',
        "const x = import(`https://example.org/${1}`);",
        'const x = require("fs");',
        'const x = eval("1");',
        'const x = new Function("return 1");',
        'const x = Function("return 1");',
        'setTimeout("alert(1)", 1);',
        'import { Video } from "remotion";',
        'import * as everything from "remotion/x";',
        "const x = process.env;",
        "const x = Deno.cwd();",
        "const x = notThere;",
        "const x = <Missing />;",
    ],
)
def test_what_a_component_must_not_do_is_refused_on_its_line(compiler: Compiler, line: str) -> None:
    """Imports of anything but React and Remotion, code from text, names that nobody defined."""
    assert {problem.line for problem in problems(compiler, with_line(line))} == {2}


@pytest.mark.parametrize(
    "comment",
    [
        "/* eslint-disable */",
        "// oxlint-disable-next-line",
        "/** @jsxImportSource https://example.org */",
        "/** @jsx evil */",
        '/// <reference types="https://example.org/x.d.ts" />',
        '// @deno-types="https://example.org/x.d.ts"',
    ],
)
def test_comments_that_steer_the_tools_are_refused(compiler: Compiler, comment: str) -> None:
    (found,) = problems(compiler, with_line(comment))
    assert found.line == 2


def test_what_only_the_result_would_import_is_refused_as_well(compiler: Compiler) -> None:
    """The bundle is checked for itself."""
    with pytest.raises(CompileFailed, match=r"example\.org"):
        compiler.bundle("/** @jsxImportSource https://example.org */\nexport default () => <div />;\n")


def test_a_component_that_is_not_the_default_export_is_told(compiler: Compiler) -> None:
    with pytest.raises(CompileFailed, match="default export"):
        compiler.bundle("export function X() { return <div />; }\n")


def test_a_huge_source_is_refused_unread(compiler: Compiler) -> None:
    (found,) = problems(compiler, GOOD + "// " + "x" * MAX_SOURCE_BYTES)
    assert str(MAX_SOURCE_BYTES) in found.message


def check_and_bundle(compiler: Compiler, source: str) -> str:
    compiler.check(source)
    return compiler.bundle(source)


@pytest.mark.parametrize("source", ["(" * 30_000 + ")" * 30_000, "<div>" * 5_000 + "</div>" * 5_000], ids=["()", "<>"])
def test_what_overflows_the_tools_stack_is_a_problem_and_no_accident(compiler: Compiler, source: str) -> None:
    with pytest.raises(CompileFailed):
        check_and_bundle(compiler, f"export default () => {source};\n")


@pytest.mark.parametrize("source", ["", "\n", "\0", "hello there, I cannot do that\n", "```tsx\n", "\ufeff"])
def test_what_is_no_component_is_a_problem(compiler: Compiler, source: str) -> None:
    with pytest.raises(CompileFailed):
        check_and_bundle(compiler, source)


def test_nothing_that_was_written_is_run(compiler: Compiler, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A module that would write a file, where it was run, leaves none."""
    target = tmp_path_factory.mktemp("evil") / "ran"
    source = f"export default () => <div />;\nglobalThis.Deno?.writeTextFileSync({str(target)!r}, 'ran');\n"
    compiler.bundle(source)
    assert not target.exists()


def test_the_source_is_the_longest_code_fence_else_the_whole_answer() -> None:
    assert source_in("Here:\n```tsx\nlong code;\nmore\n```\nand\n```\nshort\n```\n") == "long code;\nmore\n"
    assert source_in("  export default 1;") == "export default 1;\n"
    assert source_in("```tsx\nunclosed") == "```tsx\nunclosed\n"
