"""The OpenAPI 3.1 document and its page, made of the calls themselves and of the types that they are held to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any, Final

import msgspec

from api import refusals, requests
from api.calls import EVENT_STREAM, JSON, PATH_PARTS, Access, Call
from api.errors import PROBLEM_JSON, STATUSES, Problem
from shared import errors
from shared.errors import ChatrelayError
from shared.events import StreamEvent
from shared.notices import ProjectEvent
from shared.ops_events import OpsEvent

Document = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/{name}"
_ABOUT: Final = (
    "Messages are answered by an assistant that also edits the project's JSON document. The answer is streamed as events"
    " and stored as a row; the fold of the events is what the row says."
)
_EVENTS: Final = (
    (StreamEvent, "StreamEvent"),
    (ProjectEvent, "StreamEvent or a notice of the project"),
    (OpsEvent, "line for operators"),
)
_REASONS: Final = {
    101: "Switched to a WebSocket: each text frame is one event",
    200: "Done",
    201: "Made",
    202: "Accepted: it goes on",
    204: "Done, without a body",
    503: "Not ready",
}


def document(calls: Iterable[Call]) -> Document:
    """OpenAPI 3.1 of `calls`."""
    calls = list(calls)
    schemas = _Schemas(calls)
    paths: dict[str, Any] = defaultdict(dict)
    for call in calls:
        paths[call.path][call.method.lower()] = _operation(call, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "chatrelay", "version": version("chatrelay"), "description": _ABOUT},
        "paths": dict(paths),
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token that an operator made with `chatrelay token create`.",
                },
                "jwt": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of the identity provider that the server's settings name, signed with"
                    " RS256 or ES256. Where none is named, JWTs are refused.",
                },
                "ticket": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "ticket",
                    "description": "From `POST /v1/tickets`, for browsers, which can set no header on a stream.",
                },
            },
        },
    }


def problems() -> list[tuple[str, int, str]]:
    """Every problem's code, status and title, by status."""
    found = {(kind.code, status, _title(kind)) for kind, status in STATUSES.items()}
    return sorted(found, key=lambda row: (row[1], row[0]))


class _Schemas:
    """The types' JSON Schemas, each named once."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._types: list[Any] = []
        for kind in (*_types(calls), Problem):
            if kind not in self._types:
                self._types.append(kind)
        made, self.components = msgspec.json.schema_components(self._types, ref_template=_REFERENCE)
        self._schemas = list(made)

    def of(self, kind: Any) -> dict[str, Any]:
        return self._schemas[self._types.index(kind)]

    def properties(self, kind: Any) -> dict[str, Any]:
        """The fields of a Struct."""
        fields: dict[str, Any] = self._component(kind)["properties"]
        return fields

    def required(self, kind: Any) -> frozenset[str]:
        """The fields of a Struct that have no default."""
        return frozenset(self._component(kind).get("required", ()))

    def _component(self, kind: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.components[self.of(kind)["$ref"].rpartition("/")[2]]
        return found


def _types(calls: Iterable[Call]) -> Iterator[Any]:
    for call in calls:
        yield from (kind for kind in (call.body, call.query, *call.answers.values()) if kind is not None)
        if call.words is not None:
            yield call.words.body


def _operation(call: Call, schemas: _Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": call.name,
        "summary": call.summary,
        "tags": [_tag(call)],
        "parameters": list(_parameters(call, schemas)),
        "responses": _responses(call, schemas),
        "security": _SECURITY[call.access],
    }
    if call.description:
        made["description"] = call.description
    if call.body is not None:
        made["requestBody"] = {"required": True, "content": {call.body_media_type: {"schema": schemas.of(call.body)}}}
    return made


_SECURITY: Final[dict[Access, list[dict[str, list[str]]]]] = {
    Access.ANYBODY: [],
    Access.TOKEN: [{"token": []}, {"jwt": []}],
    Access.TOKEN_OR_TICKET: [{"token": []}, {"jwt": []}, {"ticket": []}],
    Access.PROTOCOL: [{"token": []}, {"jwt": []}],
}


def _tag(call: Call) -> str:
    parts = call.path.split("/")
    return parts[2] if parts[1] == "v1" else "server"


def _parameters(call: Call, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    for name in call.path_parts:
        yield {"name": name, "in": "path", "required": True, "schema": dict(PATH_PARTS[name].schema)}
    if call.query is not None:
        required = schemas.required(call.query)
        for name, schema in schemas.properties(call.query).items():
            yield {"name": name, "in": "query", "required": name in required, "schema": _as_parameter(schema)}
    for header in call.headers:
        pattern = {} if header.pattern is None else {"pattern": header.pattern}
        yield {
            "name": header.name,
            "in": "header",
            "required": False,
            "description": header.description,
            "schema": {"type": "string", **pattern},
        }


def _as_parameter(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out, never null, and has no control character."""
    given = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    own = given[0] if len(given) == 1 else {key: value for key, value in schema.items() if key != "default" or value}
    is_free = own.get("type") == "string" and not own.keys() & {"pattern", "format", "enum"}
    return {**own, "pattern": requests.PARAMETER_PATTERN} if is_free else own


def _responses(call: Call, schemas: _Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for status, kind in call.answers.items():
        response: dict[str, Any] = {"description": _REASONS[status]}
        if (told := next((told for event, told in _EVENTS if event == kind), None)) is not None:
            response["description"] += f"; an event is a {told}"
        if kind is not None and status != 101:
            is_json = call.media_type == JSON
            schema = schemas.of(kind) if is_json else {"type": "string"}
            told_as = {} if call.media_type == EVENT_STREAM else {"schema": schema}  # that would be one of each event
            response["content"] = {call.media_type: told_as}
        made[str(status)] = response
    by_status: dict[int, list[type[ChatrelayError]]] = defaultdict(list)
    for refusal in _refusals(call):
        if refusal not in by_status[STATUSES[refusal]]:
            by_status[STATUSES[refusal]].append(refusal)
    for status, kinds in sorted(by_status.items()):
        told = "\n".join(f"`{kind.code}`: {_title(kind)}" for kind in kinds)
        media_type, body = (PROBLEM_JSON, Problem) if call.words is None else (JSON, call.words.body)
        made[str(status)] = {"description": told, "content": {media_type: {"schema": schemas.of(body)}}}
    return made


def _refusals(call: Call) -> Iterator[type[ChatrelayError]]:
    yield refusals.TooManyRequests
    if call.access is not Access.ANYBODY:
        yield refusals.TooManyAttempts
        yield from (
            refusals.Unauthorized,
            refusals.ForeignOrigin,
            errors.StoreUnavailable,
            refusals.IdentityUnavailable,
        )
    if call.scope is not None:
        yield refusals.MissingScope
    if call.path_parts:
        yield errors.NotFound
    if call.query is not None:
        yield refusals.InvalidQuery
    if call.body is not None:
        yield from (
            errors.InvalidJson,
            refusals.BodyTooLarge,
            refusals.UnsupportedMediaType,
            refusals.InvalidFields,
        )
    if call.is_socket:
        yield refusals.UpgradeRequired
    yield from call.refusals


def _title(kind: type[ChatrelayError]) -> str:
    return (kind.__doc__ or kind.code).split("\n\n")[0]
