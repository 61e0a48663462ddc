"""docs/command-line.md is what the commands have: every command, option, kind and exit code, and outputs of that shape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest
import typer.main

from ops.cli import app
from ops.surroundings import FAILED, FOUND, USAGE_ERROR
from shared.auditing import Disagreement
from shared.settings import Settings
from shared.store import Store
from tests.integration.command_line import run

DOCS: Final = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
SECTIONS: Final = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", DOCS, re.MULTILINE | re.DOTALL))


def commands(command: object, path: str = "chatrelay") -> Iterator[tuple[str, click.Command]]:
    """Every command that is shown, by what is typed."""
    found = getattr(command, "commands", None)
    if found is None:
        yield path, command  # type: ignore[misc]  # typer brings a click of its own
        return
    for name, one in found.items():
        if not one.hidden:
            yield from commands(one, f"{path} {name}")


COMMANDS: Final = dict(commands(typer.main.get_command(app)))


def test_every_command_has_its_line_and_its_section() -> None:
    listed = re.findall(r"^\| `(chatrelay [a-z ]+)` \|", DOCS, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS) == sorted(SECTIONS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_section_names_every_option_and_no_other(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")}
    prose = SECTIONS[name].partition("```")[0]
    told = set(re.findall(r"`(--[a-z-]+)[^`]*`", prose))
    assert told == options - {"--help"}


def test_every_kind_of_disagreement_is_told_with_what_a_repair_does() -> None:
    """A dash where nothing is mended."""
    told: dict[str, bool] = {}
    for row in re.findall(r"^\| (`[a-z_]+`.*)\|$", SECTIONS["chatrelay audit"], re.MULTILINE):
        cells = [cell.strip() for cell in row.split("|")]
        told |= dict.fromkeys(re.findall(r"`([a-z_]+)`", cells[0]), cells[-1] != "–")
    assert told == {kind.value: kind.is_mendable for kind in Disagreement}


def test_the_exit_codes_are_those_of_the_code() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d) \|", DOCS, re.MULTILINE)] == [0, FAILED, USAGE_ERROR, FOUND]


def transcript(name: str) -> tuple[list[str], str]:
    """A section's example: what is typed, and the first line of a table in what it prints."""
    (typed, printed) = re.findall(r"```console\n\$ chatrelay (.*?)\n(.*?)```", SECTIONS[name], re.DOTALL)[0]
    heads = (line for line in printed.splitlines() if re.search(r"\b(last used|would go|repaired|answers)$", line))
    return typed.split(), re.sub(r" +", " ", next(heads, printed.splitlines()[0]))


@pytest.mark.parametrize("name", ["chatrelay token list", "chatrelay prune", "chatrelay stats"])
def test_an_example_prints_what_it_shows(name: str, store: Store, settings: Settings, tmp_path: Path) -> None:
    """The same heads of tables; the rest is whoever's data."""
    arguments, head = transcript(name)
    store.create_token("anna")
    done = run(*arguments, state=tmp_path, DATABASE_URL=settings.database_url.get_secret_value())
    assert done.returncode == 0, done.stderr
    if name == "chatrelay stats":
        assert "answers asked for since" in done.stdout
    else:
        assert head in [re.sub(r" +", " ", line) for line in done.stdout.splitlines()]


def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    """By typer's own completion, as `--install-completion` sets it up."""

    def completed(typed: str) -> list[str]:
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
        return run(state=tmp_path, _CHATRELAY_COMPLETE="complete_bash", **words).stdout.split()

    assert completed("chatrelay aud") == ["audit"]
    assert completed("chatrelay token re") == ["revoke"]
    assert completed("chatrelay audit --re") == ["--repair"]
    assert "complete" in run(state=tmp_path, _CHATRELAY_COMPLETE="source_bash").stdout
