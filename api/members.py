"""Who works on a project: members and their roles."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec

from api import announcing
from api.calls import Answer, Calls
from api.pages import Limit, Page
from api.refusals import InvalidFields
from api.services import Services
from shared import errors, notices
from shared.lifecycle import MemberRole
from shared.records import Membership, Principal

calls = Calls()


class MembersQuery(msgspec.Struct, frozen=True, kw_only=True):
    limit: Limit = 50
    before: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """The `nextCursor` of the page before."""


class NewRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    role: MemberRole


@calls.add(
    "GET",
    "/v1/projects/{projectId}/members",
    query=MembersQuery,
    answers={200: Page[Membership]},
    refusals=(errors.NotFound,),
)
def list_members(services: Services, *, principal: Principal, project_id: UUID, query: MembersQuery) -> Answer:
    """The members of a project, by name."""
    items, cursor = services.store.members(principal, project_id, limit=query.limit, before=query.before)
    return Answer(status=200, body=Page(items=items, next_cursor=cursor))


@calls.add(
    "PUT",
    "/v1/projects/{projectId}/members/{user}",
    body=NewRole,
    answers={200: Membership},
    refusals=(errors.NotFound, errors.Forbidden, errors.LastOwner, errors.TooManyMembers),
)
def put_member(services: Services, *, principal: Principal, project_id: UUID, user: str, body: NewRole) -> Answer:
    """Let a user in, or give a member another role. For owners.

    `user` is the subject of the user's tokens, also of one who has none yet. Viewers read; editors write; owners also say
    who is a member, and delete the project.
    """
    most = services.settings.max_members_per_project
    member = services.store.put_member(principal, project_id, user, body.role, max_members=most)
    return Answer(status=200, body=member)


@calls.add(
    "DELETE",
    "/v1/projects/{projectId}/members/{user}",
    answers={204: None},
    refusals=(errors.NotFound, errors.Forbidden, errors.LastOwner, InvalidFields),
)
def remove_member(services: Services, *, principal: Principal, project_id: UUID, user: str) -> Answer:
    """Take a member out, or leave: owners may remove anybody, everybody may remove themselves.

    The member's sockets on the project are closed with 4403.
    """
    user_id = services.store.remove_member(principal, project_id, user)
    services.relay.withdraw_user(project_id, user_id)
    announcing.publish(services.log, [notices.access_withdrawn(project_id, user_id)])
    return Answer(status=204)
