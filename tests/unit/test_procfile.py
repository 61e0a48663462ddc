"""The Procfile says what runs in production, and other programs read it."""

import pytest

from dev.procfile import PROCFILE, ProcfileError, parse, procfile_command


def test_names_and_commands_come_in_the_files_order() -> None:
    assert parse("# first\n\nweb: gunicorn a:b --x='c: d'\nworker_2:celery\n") == {
        "web": "gunicorn a:b --x='c: d'",
        "worker_2": "celery",
    }
    assert list(parse("b: 1\na: 2\n")) == ["b", "a"]


@pytest.mark.parametrize("text", ["web gunicorn\n", "web:\n", "web: a\nweb: b\n", "two words: a\n"])
def test_a_line_that_is_no_process_is_refused(text: str) -> None:
    with pytest.raises(ProcfileError):
        parse(text)


def test_ours_has_the_five_production_processes() -> None:
    assert list(parse(PROCFILE.read_text())) == ["release", "web", "worker", "builder", "sweeper"]


def test_every_command_replaces_its_shell_so_that_signals_reach_the_program() -> None:
    assert [name for name, command in parse(PROCFILE.read_text()).items() if not command.startswith("exec ")] == []


def test_an_unknown_process_is_named_with_those_that_exist() -> None:
    with pytest.raises(ProcfileError, match="no process wbe in the Procfile, only release, web"):
        procfile_command("wbe")
