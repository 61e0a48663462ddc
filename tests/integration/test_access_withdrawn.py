"""Access that is taken away while something is open closes it, whatever kind of stream it is: 4403 within seconds."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import Any, Final

import pytest
from sqlalchemy import Engine, text

from api.app import ROUTES
from api.calls import EVENT_STREAM
from tests.integration.access_parts import ENDED, STREAMS, Opened, Refused, Stream, opened, ticket_for
from tests.integration.api_parts import Api, Person, answered, serving
from tests.integration.trpc_parts import Json, Writer

STREAMS_OF_PROTOCOLS: Final = {"trpc_get", "create_response", "get_response", "create_completion"}
"""Calls that answer with a stream where they are asked to, which the route table does not say."""


def name_of(stream: Stream) -> str:
    return stream.call if stream.says != "tRPC's parameters" else f"{stream.call} by parameters"


def test_every_stream_of_the_route_table_is_tried_here() -> None:
    """A new one fails here until it is in `STREAMS`."""
    streams = {call.name for call in ROUTES if call.is_socket or call.media_type == EVENT_STREAM}
    assert {stream.call for stream in STREAMS} == streams | STREAMS_OF_PROTOCOLS


class Scene:
    """Somebody with both scopes who is a member of a project, whose answer is being written."""

    def __init__(self, api: Api, app: Any) -> None:
        self.api = api
        self.owner = Person(app, (boss := api.person()).name, boss.token)
        name = f"member-{uuid.uuid4()}"
        token, _ = api.store.create_token(name, scopes=frozenset({"ops"}))
        self.member = Person(app, name, token)
        self.project_id: str = self.owner.project()["id"]
        self.put("editor")
        self.pair: Json = self.owner.pair(self.project_id)
        Writer(api, self.pair).say("One ", "two")

    @property
    def path(self) -> str:
        return f"/v1/projects/{self.project_id}/members/{self.member.name}"

    def put(self, role: str) -> None:
        answered(self.owner.call("PUT", self.path, body={"role": role}), 200)


def all_opened(ending: ExitStack, served: str, scene: Scene) -> dict[str, Opened]:
    """Each stream by the token, and by a ticket where it takes one."""
    found = {}
    for stream in STREAMS:
        found[name_of(stream)] = ending.enter_context(opened(served, stream, scene.pair, scene.member))
        if stream.takes_ticket:
            path = stream.path.format(project=scene.project_id, message=scene.pair["assistantMessage"]["id"])
            ticket = ticket_for(scene.member, path)
            by_ticket = opened(served, stream, scene.pair, None, ticket=ticket)
            found[f"{name_of(stream)} by a ticket"] = ending.enter_context(by_ticket)
    return found


CLOSED_AS: Final = {
    name_of(stream) + more: 4403 if stream.kind == "socket" else ENDED
    for stream in STREAMS
    for more in ("", *([" by a ticket"] if stream.takes_ticket else []))
}
ENDINGS: Final = {
    "revoked": "UPDATE tokens SET revoked_at = now() WHERE user_id = (SELECT id FROM users WHERE name = :name)",
    "expired": "UPDATE tokens SET expires_at = now() WHERE user_id = (SELECT id FROM users WHERE name = :name)",
    "forgotten": "DELETE FROM tokens WHERE user_id = (SELECT id FROM users WHERE name = :name)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_token_that_is_good_no_more_closes_everything_that_it_opened(api: Api, engine: Engine, ending: str) -> None:
    """Also what was opened by a ticket of it, and though nobody told the process. What the owner has open stays."""
    app = api.new_app(idle_check_s=0.1)
    scene = Scene(api, app)
    with serving(app) as served, ExitStack() as closing:
        streams = all_opened(closing, served, scene)
        stays = closing.enter_context(opened(served, STREAMS[2], scene.pair, scene.owner))
        with engine.begin() as connection:
            connection.execute(text(ENDINGS[ending]), {"name": scene.member.name})
        told = {name: stream.until_closed() for name, stream in streams.items()}
        assert {name: code for name, (code, _) in told.items()} == CLOSED_AS
        answered(scene.owner.patch(f"/v1/projects/{scene.project_id}", {"name": "after"}), 200)
        answered(scene.owner.post(f"/v1/projects/{scene.project_id}/messages", {"content": "after"}), 202)
        while "after" not in stays.next():
            pass
        for stream in STREAMS:
            with pytest.raises(Refused, match="401"), opened(served, stream, scene.pair, scene.member):
                pass


@pytest.mark.parametrize("how", ["removed", "deleted", "removed without a word"])
def test_who_loses_the_project_loses_everything_that_shows_it(api: Api, engine: Engine, how: str) -> None:
    """Removed from its members, or the project deleted: what shows the project is closed, what shows more goes on.

    Where nobody told, because Redis was away say, the process finds out by itself.
    """
    app = api.new_app(idle_check_s=0.1 if how == "removed without a word" else 30.0)
    scene = Scene(api, app)
    with serving(app) as served, ExitStack() as closing:
        streams = all_opened(closing, served, scene)
        if how == "removed":
            answered(scene.owner.delete(scene.path), 204)
        elif how == "removed without a word":
            with engine.begin() as connection:
                member = "(SELECT id FROM users WHERE name = :name)"
                connection.execute(text(f"DELETE FROM members WHERE user_id = {member}"), {"name": scene.member.name})
        else:
            answered(scene.owner.delete(f"/v1/projects/{scene.project_id}"), 204)
        going_on = {name: stream for name, stream in streams.items() if name.startswith(("ops_", "trpc_socket"))}
        closed = {name: stream.until_closed()[0] for name, stream in streams.items() if name not in going_on}
        assert closed == {name: code for name, code in CLOSED_AS.items() if name not in going_on}
        for name in ("trpc_socket", "trpc_socket by parameters"):
            while '"FORBIDDEN"' not in (frame := streams[name].next()):
                assert '"error"' not in frame


def test_an_operator_who_is_one_no_more_is_told_nothing_more(api: Api, engine: Engine) -> None:
    """Who has lost the scope, and not the token: the operators' streams are closed, the others stay."""
    app = api.new_app(idle_check_s=0.1)
    scene = Scene(api, app)
    with serving(app) as served, ExitStack() as closing:
        streams = all_opened(closing, served, scene)
        with engine.begin() as connection:
            connection.execute(text("UPDATE tokens SET scopes = '{}'"))
        of_operators = {name: stream for name, stream in streams.items() if name.startswith("ops_")}
        closed = {name: stream.until_closed()[0] for name, stream in of_operators.items()}
        assert closed == {name: code for name, code in CLOSED_AS.items() if name.startswith("ops_")}
        answered(scene.owner.post(f"/v1/projects/{scene.project_id}/messages", {"content": "after"}), 202)
        while "after" not in streams["project_socket"].next():
            pass
