"""JWTs of an identity provider as a way in: whose they are, through every protocol, and when they open nothing any more."""

from __future__ import annotations

import logging
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from shared.store.access import digest
from tests.identity_provider import ISSUER, IdentityProvider, claims, encoded, providing, public, rsa_key, signed
from tests.integration.access_parts import STREAMS, Refused, opened, ticket_for
from tests.integration.api_parts import Api, Person, answered, refused, serving
from tests.integration.command_line import run
from tests.integration.trpc_parts import Json


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with providing() as made:
        yield made


@pytest.fixture
def app(api: Api, provider: IdentityProvider) -> Flask:
    return api.new_app(**provider.settings())


@pytest.fixture
def anna(app: Flask, provider: IdentityProvider) -> Person:
    return Person(app, "jwt:anna", provider.jwt())


def rows(engine: Engine) -> tuple[list[Any], list[Any]]:
    with engine.connect() as connection:
        users = connection.execute(text("SELECT name FROM users ORDER BY name")).scalars().all()
        tokens = connection.execute(text("SELECT * FROM tokens ORDER BY sha256")).all()
        return list(users), list(tokens)


# --- whose ------------------------------------------------------------------------------------------------------


def test_a_subject_becomes_a_user_at_first_sight_and_stays_the_same_one(
    app: Flask, anna: Person, provider: IdentityProvider, engine: Engine
) -> None:
    """A new JWT of the same subject opens the same projects; the database has no JWT, but its hash and when it ends."""
    assert rows(engine) == ([], [])
    assert answered(anna.get("/v1/me"), 200) == {"user": "jwt:anna", "scopes": []}
    project = anna.project()
    until = int(time.time()) + 777
    again = Person(app, "jwt:anna", provider.jwt(exp=until, jti="another"))
    answered(again.get(f"/v1/projects/{project['id']}"), 200)
    users, tokens = rows(engine)
    assert users == ["jwt:anna"]
    row = next(row for row in tokens if bytes(row.sha256) == digest(str(again.token)))
    assert (row.issuer, row.expires_at, row.scopes) == (ISSUER, datetime.fromtimestamp(until, UTC), [])
    assert row.last_used_at is not None
    assert str(again.token) not in str(tokens)
    assert len(provider.paths) == 1


def test_the_first_jwts_of_a_subject_at_once_are_one_user_s(
    app: Flask, provider: IdentityProvider, engine: Engine
) -> None:
    """Sixteen requests, of two JWTs; nobody is refused."""
    tokens = [provider.jwt(jti=str(number)) for number in range(2)]
    barrier = threading.Barrier(8)

    def come(number: int) -> int:
        barrier.wait()
        return Person(app, "jwt:anna", tokens[number % 2]).get("/v1/me").status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(come, range(16))) == [200] * 16
    users, kept = rows(engine)
    assert (users, len(kept)) == (["jwt:anna"], 2)


def test_a_subject_is_not_the_user_of_that_name_who_has_a_token(api: Api, app: Flask, anna: Person) -> None:
    """Nor can it be called so that it is: `jwt:` stands before whatever it says."""
    known = api.person("anna")
    project = known.project()
    refused(anna.get(f"/v1/projects/{project['id']}"), 404, "not_found")
    assert answered(anna.get("/v1/projects"), 200)["items"] == []


def test_where_names_are_shared_a_subject_is_the_user_of_that_name(api: Api, provider: IdentityProvider) -> None:
    project = api.person("anna").project()
    app = api.new_app(**provider.settings(jwt_shared_names=True))
    anna = Person(app, "anna", provider.jwt())
    assert answered(anna.get("/v1/me"), 200) == {"user": "anna", "scopes": []}
    answered(anna.get(f"/v1/projects/{project['id']}"), 200)


def test_a_jwt_that_is_known_already_follows_the_settings_of_now(api: Api, provider: IdentityProvider) -> None:
    """Its row says what it said under other settings: nobody keeps a name or a scope by having come before."""
    token = provider.jwt(scope="boss", email="a@b.example", email_verified=True)
    meant: list[tuple[Json, Json]] = [
        ({"jwt_ops_scope": "boss"}, {"user": "jwt:anna", "scopes": ["ops"]}),
        ({"jwt_ops_scope": "other"}, {"user": "jwt:anna", "scopes": []}),
        ({"jwt_user_claim": "email"}, {"user": "jwt:a@b.example", "scopes": []}),
        ({}, {"user": "jwt:anna", "scopes": []}),
    ]
    for changes, told in meant:
        app = api.new_app(**provider.settings(**changes))
        assert answered(Person(app, "x", token).get("/v1/me"), 200) == told


def test_a_member_is_invited_by_the_name_that_a_jwt_has(api: Api, app: Flask, anna: Person) -> None:
    """Before its subject was ever seen here."""
    owner = api.person()
    project_id = owner.project()["id"]
    answered(owner.call("PUT", f"/v1/projects/{project_id}/members/jwt:anna", body={"role": "viewer"}), 200)
    assert answered(anna.get(f"/v1/projects/{project_id}"), 200)["role"] == "viewer"


# --- who is refused ---------------------------------------------------------------------------------------------


def bad_ones(provider: IdentityProvider) -> dict[str, str]:
    """One of each kind; tests/unit/test_identity.py has them all."""
    header, _, signature = provider.jwt().split(".")
    return {
        "another's key": signed(rsa_key("somebody else's"), claims()),
        "other claims": f"{header}.{encoded(claims(sub='root'))}.{signature}",
        "no algorithm": f"{encoded({'alg': 'none', 'kid': 'rsa'})}.{encoded(claims())}.",
        "a key of its own": signed(
            rsa_key("somebody else's"), claims(), jku=provider.url, jwk=public(rsa_key("somebody else's"), "rsa")
        ),
        "an unknown key": signed(rsa_key("rsa"), claims(), kid="../../etc/passwd"),
        "expired": provider.jwt(exp=int(time.time()) - 1),
        "not yet good": provider.jwt(nbf=int(time.time()) + 3600),
        "for another": provider.jwt(aud="https://other.example"),
        "from another": provider.jwt(iss="https://evil.example/"),
        "too long": provider.jwt(more="x" * 9_000),
    }


def test_a_bad_jwt_opens_nothing_and_leaves_nothing(
    app: Flask, provider: IdentityProvider, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """401 as for every bad token; no user is made, nothing of it is logged but a word why."""
    caplog.set_level(logging.DEBUG)
    for name, token in bad_ones(provider).items():
        caplog.clear()
        response = Person(app, "x", token).get("/v1/me")
        problem = refused(response, 401, "unauthorized")
        assert problem["detail"] == "A valid token is needed.", name
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        told = caplog.text
        assert ("a JWT was refused: " in told) == (name != "too long"), name
        for part in token.split("."):
            assert not part or part not in told, name
        assert "anna" not in told
    assert rows(engine) == ([], [])


def test_names_of_keys_that_nobody_has_make_no_load_for_the_provider(app: Flask, provider: IdentityProvider) -> None:
    anna = Person(app, "jwt:anna", provider.jwt())
    answered(anna.get("/v1/me"), 200)
    for number in range(50):
        token = signed(rsa_key("rsa"), claims(), kid=f"https://evil.example/{number}")
        refused(Person(app, "x", token).get("/v1/me"), 401, "unauthorized")
    assert len(provider.paths) == 1, "it was asked a moment ago"


def test_without_a_provider_no_jwt_is_good_not_even_one_that_was(api: Api, anna: Person, engine: Engine) -> None:
    """A row is good only together with the signature; a token of ours goes on."""
    answered(anna.get("/v1/me"), 200)
    assert len(rows(engine)[1]) == 1
    refused(Person(api.app, "x", anna.token).get("/v1/me"), 401, "unauthorized")
    answered(api.person().get("/v1/me"), 200)


def test_while_the_keys_cannot_be_had_jwts_are_told_to_come_back_and_tokens_go_on(
    api: Api, app: Flask, provider: IdentityProvider
) -> None:
    """503 with `Retry-After` in each protocol's words: nobody is told that a good token is bad."""
    provider.status = 500
    for token in (provider.jwt(), signed(rsa_key("rsa"), claims(), kid="unknown")):
        anna = Person(app, "jwt:anna", token)
        response = anna.get("/v1/me")
        refused(response, 503, "identity_unavailable")
        assert int(response.headers["Retry-After"]) > 0
        assert answered(anna.get("/v1/openai/models"), 503)["error"]["type"] == "server_error"
        shape = answered(anna.get(f"/trpc/chat.getMessages?input={urllib.parse.quote('{}')}"), 503)
        assert shape["error"]["data"]["code"] == "SERVICE_UNAVAILABLE"
    known = api.person(app=app)
    answered(known.get("/v1/me"), 200)
    assert len(provider.paths) == 1


def test_operators_are_who_bears_the_word_that_the_settings_name(api: Api, provider: IdentityProvider) -> None:
    """Unset, nobody's JWT is an operator's, whatever it says."""
    token = provider.jwt(scope="read chatrelay:ops ops", roles=["chatrelay:ops"])
    cases: list[tuple[Json, int]] = [
        ({}, 403),
        ({"jwt_ops_scope": "chatrelay:ops"}, 200),
        ({"jwt_ops_scope": "chatrelay"}, 403),
        ({"jwt_ops_scope": "chatrelay:ops", "jwt_scope_claim": "roles"}, 200),
        ({"jwt_ops_scope": "chatrelay:ops", "jwt_scope_claim": "permissions"}, 403),
    ]
    for changes, status in cases:
        app = api.new_app(**provider.settings(**changes))
        assert Person(app, "x", token).get("/v1/ops/summary").status_code == status, changes


# --- through every protocol -------------------------------------------------------------------------------------


def test_a_jwt_opens_every_kind_of_stream_and_no_stranger_s_does(
    api: Api, provider: IdentityProvider, engine: Engine
) -> None:
    """By the header, by tRPC's connection parameters, by tickets; each is closed when the JWT is good no more."""
    app = api.new_app(**provider.settings(jwt_ops_scope="chatrelay:ops"), idle_check_s=0.1)
    anna = Person(app, "jwt:anna", provider.jwt(scope="chatrelay:ops"))
    boris = Person(app, "jwt:boris", provider.jwt(sub="boris"))
    forged = Person(app, "jwt:anna", signed(rsa_key("somebody else's"), claims()))
    pair = anna.pair(anna.project()["id"])
    with serving(app) as served:
        for stream in STREAMS:
            with pytest.raises(Refused, match="401"), opened(served, stream, pair, forged):
                pass
            with pytest.raises(Refused, match=r"40[34]"), opened(served, stream, pair, boris):
                pass
            with opened(served, stream, pair, anna) as found:
                if stream.takes_ticket:
                    path = stream.path.format(
                        project=pair["assistantMessage"]["projectId"], message=pair["assistantMessage"]["id"]
                    )
                    with opened(served, stream, pair, None, ticket=ticket_for(anna, path)) as by_ticket:
                        expire(engine, anna)
                        assert by_ticket.until_closed()[0] in (4403, "ended")
                else:
                    expire(engine, anna)
                assert found.until_closed()[0] in (4403, "ended")
            refused(anna.get("/v1/me"), 401, "unauthorized")
            anna = Person(app, "jwt:anna", provider.jwt(scope="chatrelay:ops", jti=stream.path + stream.says))


def expire(engine: Engine, person: Person) -> None:
    """As when its time is over."""
    with engine.begin() as connection:
        changed = connection.execute(
            text("UPDATE tokens SET expires_at = now() WHERE sha256 = :sha256"), {"sha256": digest(str(person.token))}
        )
        assert changed.rowcount == 1


def test_a_ticket_of_a_jwt_is_good_no_longer_than_it(app: Flask, anna: Person, engine: Engine) -> None:
    message_id = anna.pair(anna.project()["id"])["assistantMessage"]["id"]
    path = f"/v1/messages/{message_id}/events"
    ticket = ticket_for(anna, path)
    nobody = Person(app, "nobody", None)
    answered(nobody.call("HEAD", f"{path}?ticket={ticket}"), 200)
    expire(engine, anna)
    refused(nobody.get(f"{path}?ticket={ticket}"), 401, "unauthorized")


# --- its end ----------------------------------------------------------------------------------------------------


def test_an_operator_ends_a_jwt_by_its_id_or_by_itself_and_it_stays_ended(
    api: Api, app: Flask, anna: Person, provider: IdentityProvider, database_url: str, tmp_path: Path
) -> None:
    """Though its signature is right and its time not over; another of the same subject is good."""
    answered(anna.get("/v1/me"), 200)
    [listed] = api.store.tokens(jwts=True)
    assert (listed.user, listed.issuer, listed.state) == ("jwt:anna", ISSUER, "active")
    assert len(api.store.revoke_token_by_id(listed.id)) == 1
    long = Person(app, "jwt:anna", provider.jwt(more="x" * 4_000))
    answered(long.get("/v1/me"), 200)
    done = run("token", "revoke", state=tmp_path, given=f"{long.token}\n", DATABASE_URL=database_url)
    assert (done.returncode, done.stdout) == (0, "revoked: a token of jwt:anna\n")
    for person in (anna, long):
        for _ in range(2):
            refused(person.get("/v1/me"), 401, "unauthorized")
    answered(Person(app, "jwt:anna", provider.jwt(jti="third")).get("/v1/me"), 200)
    assert len(api.store.tokens(jwts=True)) == 3
    assert api.store.tokens() == [], "tokens of ours are listed by themselves"


def test_rows_of_jwts_that_have_expired_are_swept_away_by_new_ones(
    app: Flask, provider: IdentityProvider, engine: Engine
) -> None:
    """What is revoked and not expired stays: its row is what keeps it out."""
    people = [Person(app, "jwt:anna", provider.jwt(jti=str(number))) for number in range(4)]
    for person in people:
        answered(person.get("/v1/me"), 200)
    expire(engine, people[0])
    expire(engine, people[1])
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE tokens SET revoked_at = now() - interval '90 d' WHERE sha256 = :sha256"),
            {"sha256": digest(str(people[2].token))},
        )
    answered(Person(app, "jwt:anna", provider.jwt(jti="new")).get("/v1/me"), 200)
    assert len(rows(engine)[1]) == 3
    refused(people[2].get("/v1/me"), 401, "unauthorized")
