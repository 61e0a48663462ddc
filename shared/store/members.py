"""Who works on a project, and as what."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from shared.errors import Forbidden, LastOwner, NotFound, TooManyMembers
from shared.lifecycle import MemberRole
from shared.models import Member, User
from shared.records import Membership, Principal
from shared.store.access import ensure_user
from shared.store.projects import OWNERS, lock_project, role_in
from shared.store.transactions import Transactions


class MemberStore(Transactions):
    def members(
        self, principal: Principal, project_id: UUID, *, limit: int, before: str | None = None
    ) -> tuple[list[Membership], str | None]:
        """A page of the project's members by their names, and the next page's `before`. Raises `NotFound`."""
        # by code points, as Python compares: the order does not depend on the database's language
        name = User.name.collate("C")
        query = (
            select(User.name, Member.role)
            .join(User, User.id == Member.user_id)
            .where(Member.project_id == project_id)
            .order_by(name)
            .limit(limit + 1)
        )
        if before is not None:
            query = query.where(name > before)
        with self._moment() as connection:
            role_in(connection, principal, project_id)
            rows = connection.execute(query).all()
        page = [Membership(user=row.name, role=row.role) for row in rows[:limit]]
        return page, page[-1].user if len(rows) > limit else None

    def put_member(
        self, principal: Principal, project_id: UUID, user: str, role: MemberRole, *, max_members: int
    ) -> Membership:
        """Let `user` in, or give another role. Owners only. A user who never signed in is made: an invitation may come first.

        Raises `NotFound`, `Forbidden`, `LastOwner`, `TooManyMembers`.
        """
        with self._transaction() as connection:
            lock_project(connection, principal, project_id, OWNERS)
            user_id = ensure_user(connection, user)
            _check_room(connection, project_id, user_id, max_members)
            if role is not MemberRole.OWNER:
                _check_owner_stays(connection, project_id, user_id)
            connection.execute(
                insert(Member)
                .values(project_id=project_id, user_id=user_id, role=role)
                .on_conflict_do_update(index_elements=[Member.project_id, Member.user_id], set_={"role": role})
            )
        return Membership(user=user, role=role)

    def remove_member(self, principal: Principal, project_id: UUID, user: str) -> UUID:
        """Take `user` out: owners anybody, everybody oneself. Answers the user's id.

        Raises `NotFound`, also for one who is no member, `Forbidden`, `LastOwner`.
        """
        with self._transaction() as connection:
            project = lock_project(connection, principal, project_id, frozenset(MemberRole))
            if project.role not in OWNERS and user != principal.user:
                raise Forbidden
            user_id = connection.execute(
                select(Member.user_id)
                .join(User, User.id == Member.user_id)
                .where(Member.project_id == project_id, User.name == user)
            ).scalar_one_or_none()
            if user_id is None:
                raise NotFound
            _check_owner_stays(connection, project_id, user_id)
            connection.execute(delete(Member).where(*_is(project_id, user_id)))
        return user_id


def _is(project_id: UUID, user_id: UUID) -> tuple[Any, ...]:
    return Member.project_id == project_id, Member.user_id == user_id


def _check_room(connection: Connection, project_id: UUID, user_id: UUID, max_members: int) -> None:
    """Raises `TooManyMembers` where `user_id` would be one too many in a locked project. A member may stay."""
    others = connection.execute(
        select(func.count()).select_from(Member).where(Member.project_id == project_id, Member.user_id != user_id)
    ).scalar_one()
    if others < max_members:
        return
    is_member = connection.execute(select(Member.user_id).where(*_is(project_id, user_id))).first() is not None
    if not is_member:  # where the limit was lowered, roles can still be changed
        raise TooManyMembers


def _check_owner_stays(connection: Connection, project_id: UUID, user_id: UUID) -> None:
    """Raises `LastOwner` where `user_id` is the one owner of a locked project."""
    others = connection.execute(
        select(func.count())
        .select_from(Member)
        .where(Member.project_id == project_id, Member.role.in_(OWNERS), Member.user_id != user_id)
    ).scalar_one()
    if not others:
        raise LastOwner
