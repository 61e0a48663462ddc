"""Members and roles: who lets in and takes out, that an owner stays, and that a change holds from its commit on."""

from __future__ import annotations

import threading
import uuid
from functools import partial

import pytest
from sqlalchemy import Engine, text

from shared.errors import Forbidden, LastOwner, NotFound, TooManyMembers
from shared.lifecycle import MemberRole
from shared.records import Membership, Principal
from shared.store import Store
from tests.integration.store_parts import LIMITS, PATCH_LIMITS, Scene, errors_of, together, waiting_for_a_lock
from tests.people import eventually

OWNER, EDITOR, VIEWER = MemberRole.OWNER, MemberRole.EDITOR, MemberRole.VIEWER


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


def member(scene: Scene, role: MemberRole) -> Principal:
    somebody = scene.newcomer()
    scene.store.put_member(scene.principal, scene.project_id, somebody.user, role, max_members=100)
    return somebody


def roles(scene: Scene, principal: Principal | None = None) -> dict[str, MemberRole]:
    found, _ = scene.store.members(principal or scene.principal, scene.project_id, limit=200)
    return {membership.user: membership.role for membership in found}


def test_whoever_makes_a_project_is_its_owner_and_lets_others_in(scene: Scene) -> None:
    boris = scene.newcomer()
    with pytest.raises(NotFound):
        scene.store.project(boris, scene.project_id)
    made = scene.store.put_member(scene.principal, scene.project_id, boris.user, VIEWER, max_members=100)
    assert made == Membership(user=boris.user, role=VIEWER)
    assert scene.store.project(boris, scene.project_id).role is VIEWER
    assert roles(scene, boris) == {scene.principal.user: OWNER, boris.user: VIEWER}


def test_an_invitation_may_come_before_the_first_token(scene: Scene) -> None:
    """The user is made by it, and is a member from the first sign-in on."""
    name = f"later-{uuid.uuid4()}"
    scene.store.put_member(scene.principal, scene.project_id, name, EDITOR, max_members=100)
    known = scene.store.authenticate(scene.store.create_token(name)[0])
    assert known is not None
    assert scene.store.project(known[0], scene.project_id).role is EDITOR


def test_a_role_is_changed_by_giving_another(scene: Scene) -> None:
    boris = member(scene, VIEWER)
    for role in (EDITOR, OWNER, OWNER, VIEWER):
        scene.store.put_member(scene.principal, scene.project_id, boris.user, role, max_members=100)
        assert roles(scene)[boris.user] is role


def test_pages_of_members_come_by_name_and_end(scene: Scene) -> None:
    names = sorted([*(f"{letter}-{uuid.uuid4()}" for letter in "bBäaé_z"), scene.principal.user])
    for name in names:
        if name != scene.principal.user:
            scene.store.put_member(scene.principal, scene.project_id, name, VIEWER, max_members=100)
    seen: list[str] = []
    before: str | None = None
    while True:
        page, before = scene.store.members(scene.principal, scene.project_id, limit=3, before=before)
        seen += [membership.user for membership in page]
        if before is None:
            break
    assert seen == names


@pytest.mark.parametrize("role", [EDITOR, VIEWER])
def test_who_is_no_owner_gives_no_role_and_takes_out_nobody_but_oneself(scene: Scene, role: MemberRole) -> None:
    boris, other = member(scene, role), member(scene, VIEWER)
    before = roles(scene)
    for name in (boris.user, other.user, f"new-{uuid.uuid4()}"):
        with pytest.raises(Forbidden):
            scene.store.put_member(boris, scene.project_id, name, OWNER, max_members=100)
    for name in (other.user, scene.principal.user, f"new-{uuid.uuid4()}"):
        with pytest.raises(Forbidden):
            scene.store.remove_member(boris, scene.project_id, name)
    assert roles(scene) == before
    assert scene.store.remove_member(boris, scene.project_id, boris.user) == boris.user_id
    assert boris.user not in roles(scene)


def test_a_stranger_sees_and_changes_no_members(scene: Scene) -> None:
    stranger, users = scene.newcomer(), scene.count("users")
    with pytest.raises(NotFound):
        scene.store.members(stranger, scene.project_id, limit=10)
    with pytest.raises(NotFound):
        scene.store.put_member(stranger, scene.project_id, f"new-{uuid.uuid4()}", OWNER, max_members=100)
    for name in (stranger.user, scene.principal.user):
        with pytest.raises(NotFound):
            scene.store.remove_member(stranger, scene.project_id, name)
    assert scene.count("users") == users


def test_one_who_is_no_member_cannot_be_taken_out(scene: Scene) -> None:
    for name in (scene.newcomer().user, f"unknown-{uuid.uuid4()}"):
        with pytest.raises(NotFound):
            scene.store.remove_member(scene.principal, scene.project_id, name)


def test_the_last_owner_stays_one(scene: Scene) -> None:
    boris = member(scene, EDITOR)
    for role in (EDITOR, VIEWER):
        with pytest.raises(LastOwner):
            scene.store.put_member(scene.principal, scene.project_id, scene.principal.user, role, max_members=100)
    with pytest.raises(LastOwner):
        scene.store.remove_member(scene.principal, scene.project_id, scene.principal.user)
    scene.store.put_member(scene.principal, scene.project_id, scene.principal.user, OWNER, max_members=100)
    scene.store.put_member(scene.principal, scene.project_id, boris.user, OWNER, max_members=100)
    scene.store.remove_member(scene.principal, scene.project_id, scene.principal.user)
    assert roles(scene, boris) == {boris.user: OWNER}


def test_of_invitations_sent_at_once_no_more_are_kept_than_there_is_room_for(scene: Scene) -> None:
    """Whoever is refused is not made a user either."""
    owners = [scene.principal, *(member(scene, OWNER) for _ in range(3))]
    names, users = [f"new-{uuid.uuid4()}" for _ in owners], scene.count("users")
    answers = together(
        *(
            partial(scene.store.put_member, owner, scene.project_id, name, VIEWER, max_members=6)
            for owner, name in zip(owners, names, strict=True)
        )
    )
    assert errors_of(answers) == [TooManyMembers, TooManyMembers]
    assert len(roles(scene)) == 6
    assert scene.count("users") == users + 2


def test_of_owners_who_all_leave_at_once_one_stays(scene: Scene) -> None:
    owners = [scene.principal, *(member(scene, OWNER) for _ in range(5))]
    leave = [lambda who=who: scene.store.remove_member(who, scene.project_id, who.user) for who in owners]
    assert errors_of(together(*leave)) == [LastOwner]
    assert scene.count("members WHERE role = 'owner'") == 1


def test_of_owners_who_demote_one_another_at_once_one_stays(scene: Scene) -> None:
    """Whoever was demoted first demotes nobody any more."""
    owners = [scene.principal, *(member(scene, OWNER) for _ in range(3))]
    following = [*owners[1:], owners[0]]

    def demote(who: Principal, whom: Principal) -> Membership:
        return scene.store.put_member(who, scene.project_id, whom.user, VIEWER, max_members=100)

    for _ in range(5):
        scene.execute("UPDATE members SET role = 'owner'")
        acts = [lambda pair=pair: demote(*pair) for pair in zip(owners, following, strict=True)]
        refused = errors_of(together(*acts))
        assert set(refused) <= {Forbidden, LastOwner}
        assert scene.count("members WHERE role = 'owner'") == len(refused) >= 1


@pytest.mark.parametrize("how", ["removed", "demoted"])
def test_a_write_that_waited_for_a_change_of_members_is_held_to_it(scene: Scene, engine: Engine, how: str) -> None:
    """It began before the writer lost the right, and would be committed after."""
    boris = member(scene, EDITOR)
    writes = [
        lambda: scene.store.patch_document(boris, scene.project_id, [], PATCH_LIMITS),
        lambda: scene.store.undo(boris, scene.project_id, PATCH_LIMITS),
        lambda: scene.submit(principal=boris, limits=LIMITS),
    ]
    results: list[object] = []
    ids = {"project": scene.project_id, "user": boris.user_id}
    with engine.begin() as changing:
        changing.execute(text("SELECT id FROM projects WHERE id = :project FOR UPDATE"), ids)
        change = "DELETE FROM members" if how == "removed" else "UPDATE members SET role = 'viewer'"
        changing.execute(text(f"{change} WHERE project_id = :project AND user_id = :user"), ids)
        thread = threading.Thread(target=lambda: results.extend(together(*writes)))
        thread.start()
        eventually(lambda: waiting_for_a_lock(engine) == len(writes))
    thread.join()
    assert [type(result) for result in results] == [NotFound if how == "removed" else Forbidden] * len(writes)
    assert scene.count("document_versions") == scene.count("messages") == 0


def test_as_many_readers_as_a_web_process_has_are_asked_about_at_once(scene: Scene) -> None:
    """Each of another user: the answer is who of them is a member, however many are asked about."""
    boris = member(scene, VIEWER)
    members = {(scene.project_id, boris.user_id), (scene.project_id, scene.principal.user_id)}
    strangers = {(scene.project_id, uuid.uuid4()) for _ in range(20_000)}
    assert scene.store.members_among(members | strangers) == members
