"""`chatrelay` as an operator runs it: tokens, migrations, and clear words where something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared import migrate
from shared.engine import make_engine
from shared.store import Store
from tests.integration.command_line import PROGRAM, run

NOWHERE = "postgresql://canary@127.0.0.1:1/canary"


def test_a_token_is_made_and_printed_once(database_url: str, store: Store, tmp_path: Path) -> None:
    """Nothing but the token on the standard output, so that a shell can take it."""
    made = run("token", "create", "--user", "anna", state=tmp_path, DATABASE_URL=database_url)
    assert (made.returncode, made.stderr) == (0, "")
    token = made.stdout.strip()
    found = store.authenticate(token)
    assert found is not None
    assert (found[0].user, found[0].scopes) == ("anna", frozenset())


def test_a_token_is_told_to_programs_as_json(database_url: str, store: Store, tmp_path: Path) -> None:
    """`{token, user, scopes, expiresAt}`, in UTC."""
    arguments = ("--user", "anna", "--scope", "ops", "--expires", "30d", "--json")
    made = run("token", "create", *arguments, state=tmp_path, DATABASE_URL=database_url)
    told = json.loads(made.stdout)
    assert set(told) == {"token", "user", "scopes", "expiresAt"}
    assert (told["user"], told["scopes"]) == ("anna", ["ops"])
    left = datetime.fromisoformat(told["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)
    found = store.authenticate(told["token"])
    assert found is not None
    assert found[0].scopes == frozenset({"ops"})
    forever = run("token", "create", "--user", "anna", "--json", state=tmp_path, DATABASE_URL=database_url)
    assert json.loads(forever.stdout)["expiresAt"] is None


def test_a_chosen_token_can_be_made_good_again_and_again(database_url: str, store: Store, tmp_path: Path) -> None:
    """For development, where the token is in the environment."""
    for _ in range(2):
        made = run(
            *("token", "ensure", "--user", "dev", "--scope", "ops"),
            state=tmp_path,
            DATABASE_URL=database_url,
            CHATRELAY_DEV_TOKEN="chosen",
        )
        assert made.returncode == 0, made.stderr
    assert store.authenticate("chosen") is not None
    without = run("token", "ensure", "--user", "dev", state=tmp_path, DATABASE_URL=database_url)
    assert without.returncode == 2
    assert "CHATRELAY_DEV_TOKEN" in without.stderr


def test_a_database_is_migrated_and_may_be_again(empty_database_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        done = run("migrate", state=tmp_path, DATABASE_URL=empty_database_url)
        assert done.returncode == 0, done.stderr
    pool: Engine = make_engine(empty_database_url, pool_size=1, application="test")
    assert migrate.is_current(pool)
    pool.dispose()


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["token", "create", "--user", "a"], {}, 2, "DATABASE_URL is not set"),
        (["migrate"], {"DATABASE_URL": "nonsense"}, 2, "DATABASE_URL: must be"),
        (["migrate"], {"DATABASE_URL": "mysql://x/y"}, 2, "DATABASE_URL: must be"),
        (["migrate"], {"DATABASE_URL": NOWHERE}, 1, "cannot be reached"),
        (["token", "create", "--user", "a"], {"DATABASE_URL": NOWHERE}, 1, "cannot be reached"),
        (["token", "create", "--user", "a b"], {"DATABASE_URL": NOWHERE}, 2, "--user"),
        (["token", "create", "--user", "a", "--expires", "soon"], {"DATABASE_URL": NOWHERE}, 2, "--expires"),
        (["token", "create", "--user", "a", "--expires", "99999w"], {"DATABASE_URL": NOWHERE}, 2, "--expires"),
        (["token", "create", "--user", "a", "--scope", "all"], {"DATABASE_URL": NOWHERE}, 2, "--scope"),
        (["token", "create"], {"DATABASE_URL": NOWHERE}, 2, "--user"),
        (["nonsense"], {}, 2, "nonsense"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_in_words(
    arguments: list[str], environment: dict[str, str], code: int, words: str, tmp_path: Path
) -> None:
    """2 for what the caller wrote, 1 for what did not work; never a traceback."""
    done = run(*arguments, state=tmp_path, **environment)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_database_without_its_tables_is_told_apart(empty_database_url: str, tmp_path: Path) -> None:
    """The one thing to do is named."""
    done = run("token", "create", "--user", "a", state=tmp_path, DATABASE_URL=empty_database_url)
    assert done.returncode == 1
    assert "chatrelay migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    assert run("--version", state=tmp_path).stdout.strip() == version("chatrelay")


def test_wrong_settings_are_all_told_before_the_api_starts(tmp_path: Path) -> None:
    """One line each, without the values, and a code that is not zero."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": NOWHERE,
        "PORT": "canary",
        "CHATRELAY_LEASE_S": "-1",
        "CHATRELAY_NONSENSE": "canary",
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [str(PROGRAM.with_name("gunicorn")), "--config", "api/gunicorn_conf.py", "api.wsgi:app"],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    for name in ("PORT", "CHATRELAY_LEASE_S", "CHATRELAY_NONSENSE", "REDIS_URL"):
        assert name in done.stderr
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr
