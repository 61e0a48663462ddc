"""The Procfile: the production processes, a line each, `name: shell command`, as honcho and foreman read it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROCFILE = ROOT / "Procfile"

_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)")


class ProcfileError(Exception):
    """The Procfile has a line that is none, or lacks the process that is asked for."""


def parse(text: str) -> dict[str, str]:
    """The commands by name, in the file's order. Empty lines and comments are passed over."""
    commands: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            raise ProcfileError(f"line {number} is not `name: command`: {line}")
        if found["name"] in commands:
            raise ProcfileError(f"line {number} names {found['name']} again")
        commands[found["name"]] = found["command"]
    return commands


def procfile_command(name: str) -> list[str]:
    """The argv that runs the process `name` of our Procfile; its directory is `ROOT`."""
    commands = parse(PROCFILE.read_text())
    if name not in commands:
        raise ProcfileError(f"there is no process {name} in the Procfile, only {', '.join(commands)}")
    return ["/bin/sh", "-c", commands[name]]
