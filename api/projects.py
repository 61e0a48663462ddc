"""Projects and their documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from flask import request

from api import announcing, requests
from api.calls import JSON_PATCH, Answer, Calls, Header
from api.pages import Page, PageQuery
from api.refusals import InvalidFields, InvalidHeader
from api.services import Services
from shared import errors, notices, video
from shared.records import JsonValue, Principal, Project

calls = Calls()

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Container = dict[str, Any] | list[Any]

IF_MATCH = Header(
    name="If-Match",
    description="The version of the document that the patch is for; `*` for any.",
    pattern=r'^("(0|[1-9][0-9]{0,8})"|\*)$',
)


class NewProject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`template` brings a document and its schema; without one the document is `{}` unless it is given."""

    name: Name
    document: Container | msgspec.UnsetType = msgspec.UNSET
    schema: dict[str, Any] | bool | None = None
    template: Literal["video"] | None = None


class ProjectChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is given is changed; `schema` null takes the schema away."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    schema: dict[str, Any] | bool | msgspec.UnsetType | None = msgspec.UNSET


def shown(project: Project, status: int = 200, **headers: str) -> Answer:
    """A project, with its document's version as the entity tag."""
    return Answer(status=status, body=project, headers={"ETag": f'"{project.version}"', **headers})


@calls.add(
    "POST",
    "/v1/projects",
    body=NewProject,
    answers={201: Project},
    refusals=(errors.SchemaViolation, errors.InvalidSchema),
)
def create_project(services: Services, *, principal: Principal, body: NewProject) -> Answer:
    """Make a project; whoever makes it owns it."""
    document, schema = _start(body)
    try:
        project = services.store.create_project(principal, body.name, document, schema, services.patch_limits)
    except errors.PatchRejected as refused:
        raise InvalidFields([("/document", refused.detail)]) from None
    return shown(project, 201, Location=f"/v1/projects/{project.id}")


def _start(body: NewProject) -> tuple[JsonValue, JsonValue]:
    """The new project's document and schema."""
    if body.template is None:
        return {} if body.document is msgspec.UNSET else body.document, body.schema
    if body.document is not msgspec.UNSET or body.schema is not None:
        raise InvalidFields([("/template", "brings a document and a schema of its own: give either it or them")])
    return video.new_document(), video.SCHEMA


@calls.add("GET", "/v1/projects", query=PageQuery, answers={200: Page[Project]})
def list_projects(services: Services, *, principal: Principal, query: PageQuery) -> Answer:
    """The projects of which the caller is a member, newest first. A page of large documents is shorter."""
    items, cursor = services.store.projects(principal, limit=query.limit, before=query.before)
    return Answer(status=200, body=Page(items=items, next_cursor=None if cursor is None else str(cursor)))


@calls.add("GET", "/v1/projects/{projectId}", answers={200: Project}, refusals=(errors.NotFound,))
def get_project(services: Services, *, principal: Principal, project_id: UUID) -> Answer:
    """One project with its document; the entity tag is the document's version."""
    return shown(services.store.project(principal, project_id))


@calls.add(
    "PATCH",
    "/v1/projects/{projectId}",
    body=ProjectChanges,
    answers={200: Project},
    refusals=(errors.NotFound, errors.Forbidden, errors.SchemaViolation, errors.InvalidSchema),
)
def change_project(services: Services, *, principal: Principal, project_id: UUID, body: ProjectChanges) -> Answer:
    """Rename a project, or give it another schema, which its document must fit."""
    return shown(
        services.store.change_project(
            principal,
            project_id,
            name=None if body.name is msgspec.UNSET else body.name,
            schema=... if body.schema is msgspec.UNSET else body.schema,
        )
    )


@calls.add("DELETE", "/v1/projects/{projectId}", answers={204: None}, refusals=(errors.NotFound, errors.Forbidden))
def delete_project(services: Services, *, principal: Principal, project_id: UUID) -> Answer:
    """Delete a project with all that it has; what runs is cancelled, and sockets are closed with 4403."""
    unfinished = services.store.delete_project(principal, project_id)
    services.relay.withdraw(project_id)
    told = [notices.access_withdrawn(project_id), *map(notices.cancel_asked, unfinished)]
    told += [notices.cancelled(message_id, project_id) for message_id in unfinished]
    announcing.publish(services.log, told)
    return Answer(status=204)


@calls.add(
    "PATCH",
    "/v1/projects/{projectId}/document",
    body=list[JsonValue],
    body_media_type=JSON_PATCH,
    headers=(IF_MATCH,),
    answers={200: Project},
    refusals=(
        InvalidHeader,
        errors.NotFound,
        errors.Forbidden,
        errors.PatchRejected,
        errors.VersionMismatch,
        errors.SchemaViolation,
    ),
)
def patch_document(services: Services, *, principal: Principal, project_id: UUID, body: list[JsonValue]) -> Answer:
    """Apply a JSON Patch (RFC 6902) to the document: all of it or nothing.

    A 409 has the failing operation's `index`.
    """
    project, change = services.store.patch_document(
        principal, project_id, body, services.patch_limits, expected_version=requests.if_match(request.headers)
    )
    announcing.publish(services.log, [notices.document_changed(project_id, change)])
    return shown(project)
