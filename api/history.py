"""The versions of a project's document: listed, compared, taken back, made again."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from flask import request

from api import announcing, requests
from api.calls import Answer, Calls
from api.pages import Limit, Page
from api.projects import IF_MATCH, shown
from api.refusals import InvalidHeader
from api.services import Services
from shared import errors, notices
from shared.differences import difference
from shared.records import DocumentAt, DocumentChange, JsonValue, Principal, Project, Version

calls = Calls()

_VersionNumber = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class VersionsQuery(msgspec.Struct, frozen=True, kw_only=True):
    limit: Limit = 50
    before: _VersionNumber | None = None
    """The `nextCursor` of the page before."""
    message: UUID | None = None
    """Of this message alone."""


class DifferenceQuery(msgspec.Struct, frozen=True, kw_only=True):
    from_: _VersionNumber = msgspec.field(name="from")
    to: _VersionNumber


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """`operations` (RFC 6902) make the document of version `to` of the one of version `from`."""

    from_: int = msgspec.field(name="from")
    to: int
    operations: list[JsonValue]


@calls.add(
    "GET",
    "/v1/projects/{projectId}/versions",
    query=VersionsQuery,
    answers={200: Page[Version]},
    refusals=(errors.NotFound,),
)
def list_versions(services: Services, *, principal: Principal, project_id: UUID, query: VersionsQuery) -> Answer:
    """The changes of the document, newest first, each with what takes it back.

    `author` made it by hand, or `messageId` is the assistant's message that made it.
    """
    items, cursor = services.store.versions(
        principal, project_id, limit=query.limit, before=query.before, message_id=query.message
    )
    return Answer(status=200, body=Page(items=items, next_cursor=None if cursor is None else str(cursor)))


@calls.add(
    "GET",
    "/v1/projects/{projectId}/versions/{version}",
    answers={200: DocumentAt},
    refusals=(errors.NotFound, errors.VersionOutOfReach),
)
def get_version(services: Services, *, principal: Principal, project_id: UUID, version: int) -> Answer:
    """The document as it was at a version; 1 is the one that the project was made with."""
    found = services.store.documents_at(principal, project_id, [version])
    return Answer(status=200, body=found[version])


@calls.add(
    "GET",
    "/v1/projects/{projectId}/diff",
    query=DifferenceQuery,
    answers={200: Difference},
    refusals=(errors.NotFound, errors.VersionOutOfReach),
)
def compare_versions(services: Services, *, principal: Principal, project_id: UUID, query: DifferenceQuery) -> Answer:
    """The operations between any two versions, in either direction; either may be the present one."""
    found = services.store.documents_at(principal, project_id, [query.from_, query.to])
    operations = difference(found[query.from_].document, found[query.to].document, services.patch_limits)
    return Answer(status=200, body=Difference(from_=query.from_, to=query.to, operations=operations))


_REFUSALS: Final = (
    InvalidHeader,
    errors.NotFound,
    errors.Forbidden,
    errors.PatchRejected,
    errors.VersionMismatch,
    errors.SchemaViolation,
)


@calls.add(
    "POST",
    "/v1/projects/{projectId}/undo",
    headers=(IF_MATCH,),
    answers={200: Project},
    refusals=(*_REFUSALS, errors.NothingToUndo),
)
def undo(services: Services, *, principal: Principal, project_id: UUID) -> Answer:
    """Take back the newest change that is not taken back, whoever made it, as a new version.

    Where the schema was changed since, the former document may not fit it (422).
    """
    changed = services.store.undo(
        principal, project_id, services.patch_limits, expected_version=requests.if_match(request.headers)
    )
    return _told(services, project_id, changed)


@calls.add(
    "POST",
    "/v1/projects/{projectId}/redo",
    headers=(IF_MATCH,),
    answers={200: Project},
    refusals=(*_REFUSALS, errors.NothingToRedo),
)
def redo(services: Services, *, principal: Principal, project_id: UUID) -> Answer:
    """Make again what was undone last, as a new version; an edit after the undo leaves nothing to redo."""
    changed = services.store.redo(
        principal, project_id, services.patch_limits, expected_version=requests.if_match(request.headers)
    )
    return _told(services, project_id, changed)


def _told(services: Services, project_id: UUID, changed: tuple[Project, DocumentChange]) -> Answer:
    project, change = changed
    announcing.publish(services.log, [notices.document_changed(project_id, change)])
    return shown(project)
