"""Who may come in: tokens and tickets, their expiry and their end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import Engine, text

from shared.store import Store
from shared.store.access import SOCKET_TICKET_S, STREAM_TICKET_S, digest
from tests.integration.store_parts import Scene, errors_of, together

_PATH = "/v1/messages/x/socket"


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


def test_a_token_is_its_user_s_with_its_scopes(store: Store) -> None:
    token, expires_at = store.create_token("ada", scopes=frozenset({"ops"}))
    known = store.authenticate(token)
    assert known is not None
    principal, token_digest = known
    assert (principal.user, principal.scopes, expires_at) == ("ada", frozenset({"ops"}), None)
    assert token_digest == digest(token)


def test_two_tokens_of_one_name_are_one_user_s(store: Store) -> None:
    found = [store.authenticate(store.create_token("ada")[0]) for _ in range(2)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0][0].user_id == found[1][0].user_id


@pytest.mark.parametrize("token", ["", "unknown", "\0", "\ud800", "x" * 100_000])
def test_an_unknown_token_is_nobody_s(store: Store, token: str) -> None:
    assert store.authenticate(token) is None


def test_a_token_is_nowhere_in_the_database(store: Store, engine: Engine) -> None:
    token, _ = store.create_token("ada")
    ticket = _ticket(store, token)
    with engine.connect() as connection:
        stored = "".join(
            str(row) for table in ("users", "tokens", "tickets") for row in connection.execute(text(f"TABLE {table}"))
        )
    assert token not in stored
    assert ticket not in stored


def test_a_token_expires(scene: Scene) -> None:
    token, expires_at = scene.store.create_token("ada", lifetime=timedelta(hours=1))
    assert expires_at is not None
    assert timedelta() < expires_at - datetime.now(UTC) <= timedelta(hours=1, minutes=1)
    ticket = _ticket(scene.store, token)
    assert scene.store.authenticate(token) is not None
    scene.execute("UPDATE tokens SET expires_at = now() - interval '1 ms' WHERE sha256 = :it", it=digest(token))
    assert scene.store.authenticate(token) is None
    assert scene.store.redeem_ticket(ticket, _PATH) is None, "a ticket stands for its token"


def test_a_token_can_be_revoked(scene: Scene) -> None:
    token, _ = scene.store.create_token("ada")
    ticket = _ticket(scene.store, token)
    scene.execute("UPDATE tokens SET revoked_at = now() WHERE sha256 = :it", it=digest(token))
    assert scene.store.authenticate(token) is None
    assert scene.store.redeem_ticket(ticket, _PATH) is None


def test_a_token_that_is_given_can_be_given_again(store: Store) -> None:
    for scopes in (frozenset({"ops"}), frozenset[str]()):
        store.ensure_token("a-known-token", "ada", scopes=scopes)
        known = store.authenticate("a-known-token")
        assert known is not None
        assert known[0].scopes == scopes


def test_the_same_user_made_by_many_at_once_is_one(store: Store, engine: Engine) -> None:
    results = together(*[partial(store.create_token, "ada")] * 6)
    assert errors_of(results) == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM users")).scalar_one() == 1


# --- tickets ----------------------------------------------------------------------------------------------------


def _ticket(store: Store, token: str, *, path: str = _PATH, single_use: bool = True) -> str:
    known = store.authenticate(token)
    assert known is not None
    return store.create_ticket(*known, path, single_use=single_use)[0]


def test_a_socket_s_ticket_is_good_once(store: Store) -> None:
    token, _ = store.create_token("ada", scopes=frozenset({"ops"}))
    ticket = _ticket(store, token)
    redeemed = store.redeem_ticket(ticket, _PATH)
    assert redeemed is not None
    principal, token_sha256 = redeemed
    assert (principal.user, principal.scopes) == ("ada", frozenset({"ops"}))
    assert token_sha256 == digest(token)
    assert store.redeem_ticket(ticket, _PATH) is None


def test_of_many_that_redeem_a_socket_s_ticket_one_comes_in(store: Store) -> None:
    ticket = _ticket(store, store.create_token("ada")[0])
    results = together(*[partial(store.redeem_ticket, ticket, _PATH)] * 8)
    assert errors_of(results) == []
    assert sum(result is not None for result in results) == 1


def test_a_stream_s_ticket_is_good_again_until_it_expires(scene: Scene) -> None:
    """An EventSource comes back with the same address."""
    ticket = _ticket(scene.store, scene.store.create_token("ada")[0], single_use=False)
    for _ in range(3):
        assert scene.store.redeem_ticket(ticket, _PATH) is not None
    scene.execute("UPDATE tickets SET expires_at = now() - interval '1 ms'")
    assert scene.store.redeem_ticket(ticket, _PATH) is None


@pytest.mark.parametrize("path", ["", "/v1/messages/y/socket", _PATH + "/", _PATH.upper()])
def test_a_ticket_is_good_for_its_path_alone(store: Store, path: str) -> None:
    ticket = _ticket(store, store.create_token("ada")[0])
    assert store.redeem_ticket(ticket, path) is None
    assert store.redeem_ticket(ticket, _PATH) is not None, "trying it elsewhere does not use it up"


@pytest.mark.parametrize(("single_use", "most_s"), [(True, SOCKET_TICKET_S), (False, STREAM_TICKET_S)])
def test_a_ticket_says_when_it_expires(store: Store, single_use: bool, most_s: int) -> None:
    known = store.authenticate(store.create_token("ada")[0])
    assert known is not None
    _, expires_at = store.create_ticket(*known, _PATH, single_use=single_use)
    left_s = (expires_at - datetime.now(UTC)).total_seconds()
    assert most_s / 2 < left_s <= most_s + 1


def test_expired_tickets_are_swept_away_by_new_ones(scene: Scene) -> None:
    token, _ = scene.store.create_token("ada")
    for _ in range(3):
        _ticket(scene.store, token)
    scene.execute("UPDATE tickets SET expires_at = now() - interval '1 ms'")
    _ticket(scene.store, token)
    assert scene.count("tickets") == 1


@pytest.mark.parametrize("ticket", ["", "unknown", "\0", "\ud800"])
def test_an_unknown_ticket_lets_nobody_in(store: Store, ticket: str) -> None:
    assert store.redeem_ticket(ticket, _PATH) is None
