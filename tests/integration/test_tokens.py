"""Tokens as operators handle them: listed without themselves, revoked at once with the sockets that came with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dev.embedded import EmbeddedPostgres
from shared.settings import Settings
from shared.store import TOKEN_ID_DIGITS, Store
from shared.store.access import digest
from tests.integration.api_parts import Api, Person, refused, serving
from tests.integration.command_line import run


def token_id(token: str) -> str:
    return digest(token).hex()[:TOKEN_ID_DIGITS]


@contextmanager
def watching(address: str, person: Person, project_id: str) -> Iterator[ClientConnection]:
    """A project's socket that has been told `ready`."""
    url = f"ws://{address}/v1/projects/{project_id}/socket"
    with connect(url, additional_headers={"Authorization": f"Bearer {person.token}"}, proxy=None) as socket:
        assert json.loads(socket.recv(timeout=60))["type"] == "ready"
        yield socket


def test_a_revoked_token_opens_nothing_and_its_sockets_are_closed_the_others_stay(
    api: Api, served: str, settings: Settings, tmp_path: Path
) -> None:
    """By the id that the list shows, from another process: 401 from the next call on, 4403 on what was open."""
    anna = api.person("anna")
    again = api.person("anna")
    project_id = anna.project()["id"]
    with watching(served, anna, project_id) as gone, watching(served, again, project_id) as stays:
        done = run(
            *("token", "revoke", token_id(str(anna.token))),
            state=tmp_path,
            DATABASE_URL=settings.database_url.get_secret_value(),
            REDIS_URL=settings.redis_url.get_secret_value(),
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "revoked: a token of anna\n", "")
        refused(anna.get("/v1/me"), 401, "unauthorized")
        with pytest.raises(ConnectionClosed) as closed:
            gone.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4403
        stays.send('{"type":"ping"}')
        assert json.loads(stays.recv(timeout=60)) == {"type": "pong"}
        assert again.get("/v1/me").status_code == 200


def test_sockets_of_a_token_that_is_good_no_more_are_closed_though_nobody_told(api: Api, engine: Engine) -> None:
    """An expired token, or a revocation that Redis lost: the relay looks by itself, every fifth idle check."""
    app = api.new_app(idle_check_s=0.1)
    anna = api.person(app=app)
    with serving(app) as served, watching(served, anna, anna.project()["id"]) as socket:
        with engine.begin() as connection:
            connection.execute(text("UPDATE tokens SET expires_at = now()"))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4403


def test_tokens_are_listed_with_their_state_and_never_themselves(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    """A table for people, JSON for programs; nobody can sign in with what is shown."""
    mine, _ = store.create_token("anna", scopes=frozenset({"ops"}), lifetime=timedelta(days=30))
    old, _ = store.create_token("anna")
    other, _ = store.create_token("boris")
    assert store.revoke_token(old) is not None
    assert store.authenticate(mine) is not None
    told = run("token", "list", "--user", "anna", "--json", state=tmp_path, DATABASE_URL=database_url)
    listed = {one["id"]: one for one in json.loads(told.stdout)}
    assert set(listed) == {token_id(mine), token_id(old)}
    assert {name: listed[token_id(mine)][name] for name in ("user", "scopes", "state", "revokedAt")} == {
        "user": "anna",
        "scopes": ["ops"],
        "state": "active",
        "revokedAt": None,
    }
    assert listed[token_id(mine)]["lastUsedAt"] is not None
    assert (listed[token_id(old)]["state"], listed[token_id(old)]["lastUsedAt"]) == ("revoked", None)
    shown = run("token", "list", state=tmp_path, DATABASE_URL=database_url)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [
        [token_id(mine), "anna"],
        [token_id(old), "anna"],
        [token_id(other), "boris"],
    ]
    for secret in (mine, old, other):
        assert secret not in told.stdout + shown.stdout


def test_a_token_is_revoked_by_itself_on_the_standard_input_and_may_be_again(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    """So that it stands in no list of processes and no history of a shell."""
    token, _ = store.create_token("anna")
    for words in ("revoked: a token of anna\n", "was good no more: a token of anna\n"):
        done = run("token", "revoke", state=tmp_path, given=f"{token}\n", DATABASE_URL=database_url)
        assert (done.returncode, done.stdout) == (0, words)
        assert "REDIS_URL is not set; open sockets close at the next look" in done.stderr
    assert store.authenticate(token) is None


@pytest.mark.parametrize(
    ("arguments", "given", "code", "words"),
    [
        (["0" * TOKEN_ID_DIGITS], None, 1, "no such token"),
        (["abc"], None, 2, "ID"),
        (["' OR true --"], None, 2, "ID"),
        ([], "", 2, "no token was given"),
        ([], "unknown\n", 1, "no such token"),
    ],
)
def test_what_names_no_token_revokes_none(
    arguments: list[str], given: str | None, code: int, words: str, store: Store, database_url: str, tmp_path: Path
) -> None:
    token, _ = store.create_token("anna")
    done = run("token", "revoke", *arguments, state=tmp_path, given=given, DATABASE_URL=database_url)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert store.authenticate(token) is not None


def test_of_two_tokens_whose_ids_begin_alike_neither_is_revoked(store: Store) -> None:
    """The store says which they are; a longer id tells them apart."""
    tokens = [store.create_token("anna")[0] for _ in range(2)]
    assert len(store.revoke_token_by_id("")) == 2
    assert all(store.authenticate(token) is not None for token in tokens)
    (revoked,) = store.revoke_token_by_id(digest(tokens[0]).hex())
    assert revoked.was_active
    assert [store.authenticate(token) is None for token in tokens] == [True, False]


def test_a_use_is_noted_once_a_minute(store: Store, engine: Engine) -> None:
    """A hundred calls are one write; a minute later there is another."""
    token, _ = store.create_token("anna")

    def noted(back: str = "0 s") -> datetime:
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE tokens SET last_used_at = last_used_at - interval '{back}'"))
            at: datetime = connection.execute(text("SELECT last_used_at FROM tokens")).scalar_one()
        return at.astimezone(UTC)

    store.authenticate(token)
    first = noted()
    for _ in range(100):
        store.authenticate(token)
    assert noted() == first
    before = noted(back="61 s")
    store.authenticate(token)
    assert noted() > before


def test_a_database_that_may_only_be_read_keeps_nobody_out(
    store: Store, engine: Engine, postgres: EmbeddedPostgres
) -> None:
    """As during a failover: the use is not noted, and the token is good all the same."""
    token, _ = store.create_token("anna")
    postgres.sql(f'ALTER DATABASE "{engine.url.database}" SET default_transaction_read_only = on')
    engine.dispose()
    assert store.authenticate(token) is not None
    with engine.connect() as connection:
        assert connection.execute(text("SELECT last_used_at FROM tokens")).scalar_one() is None
