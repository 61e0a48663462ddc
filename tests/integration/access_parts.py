"""What the tests of access stand on: every kind of stream that there is, and who tries what on somebody's project."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Engine, text
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from werkzeug.test import TestResponse

from shared.batches import BatchFilter
from shared.lifecycle import MessageStatus
from shared.store import Store
from shared.store.access import digest
from tests.identity_provider import IdentityProvider, claims, encoded, rsa_key, signed
from tests.integration.ai_sdk_parts import posted, said
from tests.integration.api_parts import JSON, JSON_PATCH, Api, Person, answered, job_made
from tests.integration.trpc_parts import Json, follow, stream_address

ENDED: Final = "ended"
"""In place of a close code, of an event stream."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One way to be told of things as they happen. `path` has ``{project}``, ``{message}`` and ``{response}`` in it."""

    call: str
    """The route's name."""
    path: str
    kind: Literal["socket", "events"] = "events"
    body: Any = None
    """It is a POST with this."""
    takes_ticket: bool = False
    of_operators: bool = False
    says: Literal["nothing", "tRPC", "tRPC's parameters", "AI SDK"] = "nothing"
    """On a socket: what a client says first, so that it is told of the message."""


STREAMS: Final = (
    Stream(call="message_socket", path="/v1/messages/{message}/socket", kind="socket", takes_ticket=True),
    Stream(call="message_events", path="/v1/messages/{message}/events", takes_ticket=True),
    Stream(call="project_socket", path="/v1/projects/{project}/socket", kind="socket", takes_ticket=True),
    Stream(call="project_events", path="/v1/projects/{project}/events", takes_ticket=True),
    Stream(call="ops_socket", path="/v1/ops/socket", kind="socket", takes_ticket=True, of_operators=True),
    Stream(call="ops_events_stream", path="/v1/ops/events", takes_ticket=True, of_operators=True),
    Stream(call="trpc_socket", path="/trpc", kind="socket", says="tRPC"),
    Stream(call="trpc_socket", path="/trpc?connectionParams=1", kind="socket", says="tRPC's parameters"),
    Stream(call="trpc_get", path="{trpc}"),
    Stream(call="ai_chat_socket", path="/v1/ai/chat/{project}/socket", kind="socket", takes_ticket=True, says="AI SDK"),
    Stream(call="ai_chat", path="/v1/ai/chat/{project}", body=posted(said("Hello"))),
    Stream(call="ai_chat_stream", path="/v1/ai/chat/{project}/stream"),
    Stream(call="ai_chat_stream_of_chat", path="/v1/ai/chat/{project}/chat-1/stream"),
    Stream(call="get_response", path="/v1/openai/responses/{response}?stream=true"),
    Stream(
        call="create_response",
        path="/v1/openai/responses",
        body={"model": "chatrelay:{project}", "input": "Hello", "stream": True},
    ),
    Stream(
        call="create_completion",
        path="/v1/openai/chat/completions",
        body={"model": "chatrelay:{project}", "messages": [{"role": "user", "content": "Hello"}], "stream": True},
    ),
)


class Refused(Exception):
    """A stream was not opened: the status of the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Opened:
    """A stream that was let in."""

    def __init__(self, source: ClientConnection | http.client.HTTPResponse) -> None:
        self._source = source

    def until_closed(self) -> tuple[int | str, str]:
        """The close code, or `ENDED`, and all that was told until then."""
        if isinstance(self._source, http.client.HTTPResponse):
            try:
                return ENDED, self._source.read().decode()
            except http.client.IncompleteRead as broken:
                return ENDED, broken.partial.decode()
        told = []
        try:
            while True:
                told.append(str(self._source.recv(timeout=60)))
        except ConnectionClosed:
            assert self._source.close_code is not None
            return self._source.close_code, "\n".join(told)

    def next(self) -> str:
        """The next frame of a socket."""
        assert isinstance(self._source, ClientConnection)
        return str(self._source.recv(timeout=60))

    def say(self, frame: Json) -> None:
        assert isinstance(self._source, ClientConnection)
        self._source.send(json.dumps(frame))

    def until(self, meanings: Mapping[str, int]) -> int:
        """What the first frame means that has one of these texts in it."""
        while True:
            frame = self.next()
            for wanted, meaning in meanings.items():
                if wanted in frame:
                    return meaning


def filled(template: Any, pair: Json) -> Any:
    """With the ids of a pair of messages in it."""
    answer = pair["assistantMessage"]
    ids = {
        "{project}": answer["projectId"],
        "{message}": answer["id"],
        "{response}": f"resp_{answer['id']}",
        "{trpc}": stream_address(pair),
    }
    text = template if isinstance(template, str) else json.dumps(template)
    for name, value in ids.items():
        text = text.replace(name, value)
    return text if isinstance(template, str) else json.loads(text)


def ticket_for(person: Person, path: str) -> str:
    ticket: str = answered(person.post("/v1/tickets", {"path": path}), 201)["ticket"]
    return ticket


@contextmanager
def opened(
    served: str,
    stream: Stream,
    pair: Json,
    person: Person | None,
    *,
    ticket: str | None = None,
    nobody: Nobody | None = None,
) -> Iterator[Opened]:
    """The stream, by the person's token where there is neither a ticket nor what `nobody` brings.

    Raises `Refused`, also where that is said inside of it.
    """
    path = filled(stream.path, pair)
    if ticket is not None:
        path += f"{'&' if '?' in path else '?'}ticket={ticket}"
    by_parameters = stream.says == "tRPC's parameters"
    headers = {} if person is None or ticket or by_parameters else {"Authorization": f"Bearer {person.token}"}
    if nobody is not None and not by_parameters:
        path += f"{'&' if '?' in path else '?'}{nobody.query}"
        headers = dict(nobody.headers)
    with ExitStack() as ending:
        if stream.kind == "socket":
            yield Opened(ending.enter_context(_socket(served, stream, path, headers, pair, person)))
        else:
            connection = http.client.HTTPConnection(served, timeout=60)
            ending.callback(connection.close)
            raw = None if stream.body is None else json.dumps(filled(stream.body, pair))
            method = "GET" if raw is None else "POST"
            connection.request(method, path, raw, {**headers, **({} if raw is None else {"Content-Type": JSON})})
            response = ending.enter_context(connection.getresponse())
            if response.status != 200:
                raise Refused(response.status)
            if stream.path == "{trpc}" and not response.chunked:
                raise Refused(_refused_with(response.read().decode().rpartition("data: ")[2]))
            yield Opened(response)


@contextmanager
def _socket(
    served: str, stream: Stream, path: str, headers: Mapping[str, str], pair: Json, person: Person | None
) -> Iterator[ClientConnection]:
    try:
        socket = connect(f"ws://{served}{path}", additional_headers=headers, proxy=None, legacy=True, max_size=None)
    except InvalidStatus as refused:
        raise Refused(refused.response.status_code) from None
    with socket:
        if stream.says == "tRPC's parameters":
            params = {} if person is None or person.token is None else {"token": person.token}
            socket.send(json.dumps({"method": "connectionParams", "data": params}))
        if stream.says in ("tRPC", "tRPC's parameters"):
            socket.send(json.dumps(follow(1, pair)))
            while '"id":1' not in (frame := str(socket.recv(timeout=60))):
                pass
            if "error" in json.loads(frame):
                raise Refused(_refused_with(frame))
        if stream.says == "AI SDK":
            socket.send(json.dumps({"type": "resume", "requestId": "r", "id": "chat-1", "headers": {}, "body": {}}))
            json.loads(socket.recv(timeout=60))
        yield socket


def _refused_with(shape: str) -> int:
    """The status that an error of tRPC's names."""
    error = json.loads(shape)
    status: int = error.get("error", error)["data"]["httpStatus"]
    return status


# --- the matrix -------------------------------------------------------------------------------------------------

CANARY: Final = "canary-6d2f"
"""In everything that only members may see."""
PRINCIPALS: Final = ("nobody", "stranger", "operator", "viewer", "editor", "owner")
LET_IN: Final = 200
"""In a row of the matrix: whoever may. Such an attempt may also be told that it makes no sense now (409)."""
TABLES: Final = (
    *("projects", "messages", "document_versions", "members", "tickets", "users", "component_jobs", "batches"),
    *("batch_items", "idempotency_keys", "rounds", "tool_ledger"),
)


def row(statuses: str) -> dict[str, int]:
    """A row of the matrix: one status for each of `PRINCIPALS`."""
    return dict(zip(PRINCIPALS, map(int, statuses.split()), strict=True))


ANYBODY: Final = row("200 200 200 200 200 200")
SIGNED_IN: Final = row("401 200 200 200 200 200")
MEMBERS: Final = row("401 404 404 200 200 200")
EDITORS: Final = row("401 404 404 403 200 200")
OWNERS: Final = row("401 404 404 403 403 200")
NOT_EVEN_OWNERS: Final = row("401 404 404 403 403 403")
OPERATORS: Final = row("401 403 200 403 403 403")


class Tally:
    """What was tried, and what was answered otherwise than the matrix says."""

    def __init__(self) -> None:
        self.tried = 0
        self.wrong: list[str] = []

    def note(self, what: str, found: int, expected: int) -> None:
        self.tried += 1
        if found != expected:
            self.wrong.append(f"{what}: {found} in place of {expected}")

    def check(self, what: str, holds: bool) -> None:
        if not holds:
            self.wrong.append(what)


@dataclass(frozen=True)
class Nobody:
    """Somebody whose credentials are none: what a request of theirs bears."""

    name: str
    headers: Mapping[str, str]
    query: str = ""
    token: str | None = None
    """What stands for a token in it, for protocols that have a place of their own for it."""


def nobodies(store: Store, engine: Engine, provider: IdentityProvider, somebody: Person) -> list[Nobody]:
    """Everything that is no token: `somebody`'s good one is known, or has been."""
    token = str(somebody.token)

    def ended(how: str) -> str:
        made, _ = store.create_token(somebody.name, scopes=frozenset({"ops"}))
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE tokens SET {how} WHERE sha256 = :it"), {"it": digest(made)})
        return made

    basic = base64.b64encode(f"{somebody.name}:{token}".encode()).decode()
    bearers = {
        "an unknown token": "unknown",
        "a token but its last character": token[:-1],
        "a token and more": token + "A",
        "a token in other letters": token.swapcase(),
        "a token's hash": digest(token).hex(),
        "a revoked token": ended("revoked_at = now()"),
        "an expired token": ended("expires_at = now() - interval '1 s'"),
        "a JWT without a signature": f"{encoded({'alg': 'none', 'kid': 'rsa'})}.{encoded(claims(sub=somebody.name))}.",
        "a JWT of another's key": signed(rsa_key("somebody else's"), claims(sub=somebody.name)),
        "an expired JWT": provider.jwt(exp=1),
        "a JWT for another": provider.jwt(aud="https://other.example"),
        "SQL": "'OR'1'='1",
    }
    return [
        Nobody("without anything", {}),
        Nobody("with an empty header", {"Authorization": ""}),
        Nobody("with no token", {"Authorization": "Bearer "}),
        Nobody("with two tokens", {"Authorization": f"Bearer {token} {token}"}),
        Nobody("with letters of another kind", {"Authorization": "Bearer \u00e9"}),
        Nobody("with a password", {"Authorization": f"Basic {basic}"}),
        Nobody("with a token in the address", {}, f"access_token={token}&token={token}&ticket={token}"),
        Nobody("with a token in a cookie", {"Cookie": f"token={token}; Authorization=Bearer {token}"}),
        Nobody("who says who they are", {"X-User": somebody.name, "X-Forwarded-User": somebody.name, "From": token}),
        *(Nobody(f"with {name}", {"Authorization": f"Bearer {made}"}, "", made) for name, made in bearers.items()),
    ]


class World:
    """Those who try, and what is tried on: somebody's project, anew for each row."""

    def __init__(self, api: Api, engine: Engine, provider: IdentityProvider) -> None:
        self.api = api
        self.engine = engine
        settings = provider.settings(max_unfinished_per_user=100_000, max_sockets_per_user=1_000)
        self.app = api.new_app(**settings)
        self.people = {
            name: self._person(name, scopes=frozenset({"ops"} if name == "operator" else ()))
            for name in ("stranger", "operator", "viewer", "editor", "owner")
        }
        self.nobodies = nobodies(api.store, engine, provider, self.people["owner"])
        self.finishing = threading.RLock()
        """Held while an answer is given to somebody who waits for it."""
        self._is_answering = False

    def _person(self, name: str, scopes: frozenset[str]) -> Person:
        token, _ = self.api.store.create_token(name, scopes=scopes)
        return Person(self.app, name, token)

    @property
    def owner(self) -> Person:
        return self.people["owner"]

    def scene(self, *, finished: bool = False) -> Scene:
        """Another project of the owner's, with all its members, a version, a job and an answer."""
        return Scene(self, finished=finished)

    def everything(self) -> list[Any]:
        """What an attempt that is refused must not change: of each table how many rows, and a sum over what is in them."""
        sums = (f"SELECT '{table}', count(*), sum(hashtextextended(t::text, 0)) FROM {table} t" for table in TABLES)
        with self.finishing, self.engine.connect() as connection:
            if self._is_answering:
                self._answer_all()  # what was asked for before is not what changes next
            return list(connection.execute(text(" UNION ALL ".join(sums) + " ORDER BY 1")).all())

    def rows_of(self, project_id: str) -> list[str]:
        """Of those tables what bears the project's id."""
        rows = (f"SELECT t::text FROM {table} t WHERE strpos(t::text, :it) > 0" for table in TABLES)
        with self.finishing, self.engine.connect() as connection:
            found = connection.execute(text(" UNION ALL ".join(rows)), {"it": project_id}).scalars()
            return sorted(found)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Whoever says `FINISH_ME` is answered, as by a worker."""
        ended = threading.Event()

        def answer() -> None:
            while not ended.wait(0.02):
                self._answer_all()

        thread = threading.Thread(target=answer, name="answering")
        thread.start()
        self._is_answering = True
        try:
            yield
        finally:
            self._is_answering = False
            ended.set()
            thread.join()

    def _answer_all(self) -> None:
        waiting = text(
            "SELECT a.id FROM messages a JOIN messages q ON q.id = a.reply_to"
            " WHERE a.status = 'pending' AND q.content = :it ORDER BY a.id LIMIT 1"
        )
        with self.finishing, self.engine.connect() as connection:
            while (found := connection.execute(waiting, {"it": FINISH_ME}).scalar()) is not None:
                connection.rollback()  # the next look sees what this one leads to
                self.api.finish(str(found))


FINISH_ME: Final = "finish me"


class Scene:
    """One project, and the ids of what is in it."""

    def __init__(self, world: World, *, finished: bool) -> None:
        owner = world.owner
        self.project_id: str = owner.project(name=f"{CANARY} project", document={"secret": CANARY})["id"]
        for name in ("viewer", "editor"):
            self._put(owner, name, name)
        self._put(owner, "other", "editor")
        address = f"/v1/projects/{self.project_id}/document"
        patch = [{"op": "add", "path": "/b", "value": CANARY}]
        answered(owner.patch(address, patch, media_type=JSON_PATCH), 200)
        job_id, _ = job_made(world.api, owner, self.project_id, name=f"{CANARY}-job")
        self.pair: Json = owner.pair(self.project_id, f"{CANARY} content", headers={"Idempotency-Key": CANARY})
        self.message_id: str = self.pair["assistantMessage"]["id"]
        if finished:
            world.api.finish(self.message_id, f"{CANARY} answer")
        batch, _ = world.api.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="x")
        self.ids = {
            "projectId": self.project_id,
            "messageId": self.message_id,
            "jobId": job_id,
            "responseId": f"resp_{self.message_id}",
            "batchId": str(batch.id),
            **FREE_IDS,
        }

    def _put(self, owner: Person, name: str, role: str) -> None:
        answered(owner.call("PUT", f"/v1/projects/{self.project_id}/members/{name}", body={"role": role}), 200)


FREE_IDS: Final = {"version": "1", "user": "other", "chatId": "chat-1"}
"""Parts of addresses that are no secret and name nothing by themselves."""


def nowhere() -> dict[str, str]:
    """Ids of what does not exist."""
    made = {name: str(uuid.uuid4()) for name in ("projectId", "messageId", "jobId", "batchId")}
    return {**made, "responseId": f"resp_{uuid.uuid4()}", **FREE_IDS}


def with_ids(template: Any, ids: Mapping[str, str]) -> Any:
    """A path or a body with these ids in it."""
    raw = json.dumps(template)
    for name, value in ids.items():
        raw = raw.replace(f"{{{name}}}", value)
    return json.loads(raw)


def trpc_status(response: TestResponse) -> int:
    """How tRPC answered a call, a subscription's stream included."""
    if response.mimetype == "text/event-stream":
        told = response.get_data(as_text=True)
        return _refused_with(told.rpartition("data: ")[2]) if "serialized-error" in told else LET_IN
    return response.status_code
