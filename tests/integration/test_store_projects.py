"""Projects: who sees them, their documents and versions, and what goes with them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, event, text

from shared.errors import Forbidden, InvalidSchema, NotFound, PatchRejected, SchemaViolation, VersionMismatch
from shared.lifecycle import MemberRole
from shared.patching import PatchLimits, apply_patch
from shared.records import Principal
from shared.store import Store
from shared.store.projects import DELETED_AT_ONCE
from tests.integration.store_parts import PATCH_LIMITS, Scene, call, errors_of, together


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


def test_a_project_is_its_maker_s(scene: Scene) -> None:
    project = scene.store.create_project(scene.principal, "mine", {"a": 1}, None, PATCH_LIMITS)
    assert (project.name, project.document, project.version, project.role) == ("mine", {"a": 1}, 1, MemberRole.OWNER)
    assert scene.store.project(scene.principal, project.id) == project


def test_a_document_comes_back_as_it_was_given(scene: Scene) -> None:
    """Its order of keys, its numbers and its text."""
    document = {"z": 1.0, "a": [1e3, 12345678901234567890, {"é": "😀\u2028"}], "": None}
    project_id = scene.new_project(document)
    found = scene.document(project_id)
    assert repr(found) == repr(document)
    assert list(found) == ["z", "a", ""]


def test_a_stranger_s_project_is_as_one_that_does_not_exist(scene: Scene) -> None:
    stranger = scene.newcomer()
    for principal, project_id in ((stranger, scene.project_id), (scene.principal, uuid.uuid4())):
        asked: list[Callable[[Principal, UUID], object]] = [
            scene.store.project,
            lambda p, i: scene.store.change_project(p, i, name="x"),
            scene.store.delete_project,
            lambda p, i: scene.store.patch_document(p, i, [], PATCH_LIMITS),
            lambda p, i: scene.store.versions(p, i, limit=1),
            lambda p, i: scene.store.messages(p, i, limit=1),
        ]
        for ask in asked:
            with pytest.raises(NotFound):
                ask(principal, project_id)
    assert scene.store.projects(stranger, limit=10) == ([], None)


@pytest.mark.parametrize(
    ("role", "may_write", "may_delete"), [("viewer", False, False), ("editor", True, False), ("owner", True, True)]
)
def test_a_member_may_what_the_role_allows(scene: Scene, role: str, may_write: bool, may_delete: bool) -> None:
    member = scene.newcomer()
    scene.execute(
        "INSERT INTO members (project_id, user_id, role) VALUES (:project, :user, CAST(:role AS member_role))",
        project=scene.project_id,
        user=member.user_id,
        role=role,
    )
    assert scene.store.project(member, scene.project_id).role == role
    writes: list[Callable[[], object]] = [
        lambda: scene.store.change_project(member, scene.project_id, name="x"),
        lambda: scene.store.patch_document(member, scene.project_id, [], PATCH_LIMITS),
    ]
    for write in writes:
        if may_write:
            write()
        else:
            with pytest.raises(Forbidden):
                write()
    if may_delete:
        scene.store.delete_project(member, scene.project_id)
    else:
        with pytest.raises(Forbidden):
            scene.store.delete_project(member, scene.project_id)


def test_projects_come_newest_first_in_pages(scene: Scene) -> None:
    ids = [scene.project_id, *[scene.new_project() for _ in range(4)]][::-1]
    found, cursor = [], None
    while True:
        page, cursor = scene.store.projects(scene.principal, limit=2, before=cursor)
        found += [project.id for project in page]
        if cursor is None:
            break
    assert found == ids


# --- documents --------------------------------------------------------------------------------------------------


def test_a_patch_makes_the_next_version_and_keeps_its_way_back(scene: Scene) -> None:
    operations = [{"op": "add", "path": "/list/-", "value": 1}, {"op": "add", "path": "/a", "value": {"b": 2}}]
    project, change = scene.store.patch_document(scene.principal, scene.project_id, operations, PATCH_LIMITS)
    assert (project.version, project.document) == (2, {"list": [1], "a": {"b": 2}})
    assert (change.version, change.operations, change.message_id) == (2, operations, None)
    (version,), cursor = scene.store.versions(scene.principal, scene.project_id, limit=5)
    assert (version.version, version.operations, cursor) == (2, operations, None)
    assert apply_patch(project.document, version.inverse, PATCH_LIMITS).document == {"list": []}


def test_versions_come_newest_first_in_pages(scene: Scene) -> None:
    for number in range(5):
        _patch(scene, number)
    page, cursor = scene.store.versions(scene.principal, scene.project_id, limit=3)
    assert [version.version for version in page] == [6, 5, 4]
    rest, end = scene.store.versions(scene.principal, scene.project_id, limit=3, before=cursor)
    assert ([version.version for version in rest], end) == ([3, 2], None)


def _patch(scene: Scene, value: object, **options: Any) -> int:
    operations = [{"op": "add", "path": "/list/-", "value": value}]
    return scene.store.patch_document(scene.principal, scene.project_id, operations, PATCH_LIMITS, **options)[0].version


def test_a_patch_for_another_version_is_refused(scene: Scene) -> None:
    assert _patch(scene, 1, expected_version=1) == 2
    with pytest.raises(VersionMismatch):
        _patch(scene, 2, expected_version=1)
    assert scene.document() == {"list": [1]}


def test_of_many_patches_for_one_version_one_is_applied(scene: Scene) -> None:
    results = together(*[partial(_patch, scene, number, expected_version=1) for number in range(6)])
    assert errors_of(results) == [VersionMismatch] * 5
    assert len(scene.document()["list"]) == 1


def test_patches_at_once_are_applied_one_after_the_other(scene: Scene) -> None:
    results = together(*[partial(_patch, scene, number) for number in range(8)])
    assert errors_of(results) == []
    assert sorted(scene.document()["list"]) == list(range(8))
    assert scene.store.project(scene.principal, scene.project_id).version == 9


@pytest.mark.parametrize(
    ("operations", "limits"),
    [
        ([{"op": "add", "path": "/list/-", "value": 1}, {"op": "remove", "path": "/nowhere"}], PATCH_LIMITS),
        ([{"op": "add", "path": "/list/-", "value": "x" * 100}], PatchLimits(max_document_bytes=50)),
        ([{"op": "add", "path": "/list/-", "value": 1}] * 3, PatchLimits(max_operations=2)),
    ],
)
def test_a_patch_that_is_rejected_changes_nothing(scene: Scene, operations: list[Any], limits: PatchLimits) -> None:
    before = scene.store.project(scene.principal, scene.project_id)
    with pytest.raises(PatchRejected):
        scene.store.patch_document(scene.principal, scene.project_id, operations, limits)
    assert scene.store.project(scene.principal, scene.project_id) == before
    assert scene.count("document_versions") == 0


def test_a_document_always_fits_its_schema(scene: Scene) -> None:
    schema = {"type": "object", "properties": {"list": {"maxItems": 1}}}
    scene.store.change_project(scene.principal, scene.project_id, schema=schema)
    _patch(scene, 1)
    with pytest.raises(SchemaViolation):
        _patch(scene, 2)
    with pytest.raises(SchemaViolation):
        scene.store.change_project(scene.principal, scene.project_id, schema={"properties": {"list": {"maxItems": 0}}})
    with pytest.raises(SchemaViolation):
        scene.store.create_project(scene.principal, "x", {"list": [1, 2]}, schema, PATCH_LIMITS)
    with pytest.raises(InvalidSchema):
        scene.store.change_project(scene.principal, scene.project_id, schema={"type": "nothing"})
    project = scene.store.project(scene.principal, scene.project_id)
    assert (project.document, project.schema, project.version) == ({"list": [1]}, schema, 2)
    assert scene.store.change_project(scene.principal, scene.project_id, schema=None).schema is None
    _patch(scene, 2)


def test_a_name_is_changed_without_the_schema(scene: Scene) -> None:
    scene.store.change_project(scene.principal, scene.project_id, schema={"type": "object"})
    changed = scene.store.change_project(scene.principal, scene.project_id, name="another")
    assert (changed.name, changed.schema) == ("another", {"type": "object"})


# --- the end of a project ---------------------------------------------------------------------------------------


def test_a_deleted_project_takes_everything_with_it_and_tells_what_was_unfinished(scene: Scene) -> None:
    scene.submit("a", key="k")
    lease = scene.claimed(scene.store.next_in_line(scene.project_id))
    scene.store_round(lease, 0, "text", call(lease))
    scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease))
    waiting = scene.message()
    kept = scene.message(project_id=scene.new_project())
    unfinished = scene.store.delete_project(scene.principal, scene.project_id)
    assert set(unfinished) == {lease.message_id, waiting}
    for table in ("rounds", "tool_ledger", "document_versions", "idempotency_keys"):
        assert scene.count(table) == 0, table
    assert scene.count("messages") == 2
    assert scene.store.message(scene.principal, kept).id == kept
    assert scene.store.reader_rows([lease.message_id]) == {}


def test_a_project_of_any_size_is_deleted_in_pieces_and_at_once(scene: Scene, engine: Engine) -> None:
    """No statement takes long enough to be given up, and nobody sees half a project."""
    count = 2 * DELETED_AT_ONCE + 3
    scene.execute(
        """
        INSERT INTO messages (project_id, role, kind, status) SELECT :project, 'user', 'message', 'success'
        FROM generate_series(1, :count)
        """,
        project=scene.project_id,
        count=count,
    )
    scene.execute(
        """
        INSERT INTO document_versions (project_id, version, operations, inverse)
        SELECT :project, n + 1, '[]', '[]' FROM generate_series(1, :count) AS n
        """,
        project=scene.project_id,
        count=count,
    )
    other = scene.new_project()
    scene.submit(project_id=other)
    deleted: list[int] = []
    seen: list[int] = []

    def note(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            deleted.append(cursor.rowcount)
            seen.append(scene.count("messages"))  # on a connection of its own

    event.listen(engine, "after_cursor_execute", note)
    try:
        scene.store.delete_project(scene.principal, scene.project_id)
    finally:
        event.remove(engine, "after_cursor_execute", note)
    assert deleted == [DELETED_AT_ONCE, DELETED_AT_ONCE, 3, 0] * 2 + [1]
    assert set(seen) == {count + 2}
    assert (scene.count("messages"), scene.count("document_versions"), scene.count("projects")) == (2, 0, 1)


def test_a_deleted_user_takes_tokens_and_memberships_and_leaves_the_messages(scene: Scene, engine: Engine) -> None:
    message_id = scene.message()
    scene.execute("DELETE FROM users WHERE id = :id", id=scene.principal.user_id)
    assert (scene.count("tokens"), scene.count("members")) == (0, 0)
    with engine.connect() as connection:
        author = connection.execute(
            text("SELECT author_id FROM messages WHERE id = :id"), {"id": message_id}
        ).scalar_one()
    assert author is None
