"""Versions against an editor that keeps every document: undo, redo, former documents, by two users and a model."""

from __future__ import annotations

import uuid
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from shared.differences import difference
from shared.errors import (
    Forbidden,
    NotFound,
    NothingToRedo,
    NothingToUndo,
    PatchRejected,
    SchemaViolation,
    VersionMismatch,
    VersionOutOfReach,
)
from shared.lifecycle import MemberRole
from shared.patching import PatchLimits, apply_patch, same_json
from shared.records import DocumentChange, JsonValue, Principal, Version
from shared.store import Store
from shared.store import history as store_history
from tests.integration.store_parts import PATCH_LIMITS, Scene, call, errors_of, together

SMALL: Final = PatchLimits(max_operations=2)


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    return Scene(store, engine)


def colleague(scene: Scene, role: MemberRole = MemberRole.EDITOR) -> Principal:
    """Another member of the scene's project."""
    other = scene.newcomer()
    scene.store.put_member(scene.principal, scene.project_id, other.user, role, max_members=100)
    return other


def edit(scene: Scene, *operations: dict[str, Any], principal: Principal | None = None) -> DocumentChange:
    who = principal or scene.principal
    return scene.store.patch_document(who, scene.project_id, list(operations), PATCH_LIMITS)[1]


def add(scene: Scene, value: JsonValue, **options: Any) -> DocumentChange:
    return edit(scene, {"op": "add", "path": "/list/-", "value": value}, **options)


def undo(scene: Scene, principal: Principal | None = None, **options: Any) -> DocumentChange:
    return scene.store.undo(principal or scene.principal, scene.project_id, PATCH_LIMITS, **options)[1]


def redo(scene: Scene, principal: Principal | None = None, **options: Any) -> DocumentChange:
    return scene.store.redo(principal or scene.principal, scene.project_id, PATCH_LIMITS, **options)[1]


def versions(scene: Scene, **options: Any) -> list[Version]:
    return scene.store.versions(scene.principal, scene.project_id, limit=200, **options)[0]


# --- against an oracle ------------------------------------------------------------------------------------------

_edits: Final = st.one_of(
    st.builds(
        lambda at, value: [{"op": "add", "path": f"/list/{at}", "value": value}], st.integers(0, 4), st.integers()
    ),
    st.builds(lambda at: [{"op": "remove", "path": f"/list/{at}"}], st.integers(0, 4)),
    st.builds(
        lambda key, value: [{"op": "add", "path": f"/{key}", "value": value}],
        st.sampled_from("abc"),
        st.none() | st.booleans() | st.integers(0, 3) | st.lists(st.integers(), max_size=2),
    ),
    st.builds(
        lambda source, to: [{"op": "move", "from": f"/{source}", "path": f"/{to}"}],
        st.sampled_from(["a", "b", "list/0", "list/2"]),
        st.sampled_from(["a", "c", "list/-", "list/1"]),
    ),
    st.builds(
        lambda source, to: [
            {"op": "copy", "from": f"/{source}", "path": f"/{to}"},
            {"op": "add", "path": "/list/0", "value": 0},
        ],
        st.sampled_from(["a", "list"]),
        st.sampled_from(["b", "list/-"]),
    ),
    st.just([{"op": "replace", "path": "", "value": {"list": [1, 2, 3]}}]),
)
_acts: Final = st.lists(
    st.tuples(
        st.sampled_from(["anna", "boris", "model"]), st.one_of(_edits, _edits, st.sampled_from(["undo", "redo"]))
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(acts=_acts)
def test_edits_undos_and_redos_of_two_users_and_a_model_agree_with_an_editor_that_keeps_every_document(
    store: Store, engine: Engine, acts: list[tuple[str, Any]]
) -> None:
    """The document after each act, who made its version, every former document, and the difference of any two."""
    scene = Scene(store, engine)
    people = {"anna": scene.principal, "boris": colleague(scene)}
    lease = scene.claimed()
    document: JsonValue = scene.document()
    documents, past, future, makers = [document], list[JsonValue](), list[JsonValue](), list[str]()
    for number, (who, act) in enumerate(acts):
        person = people.get(who, scene.principal)
        if act == "undo" and not past:
            with pytest.raises(NothingToUndo):
                undo(scene, person)
            continue
        if act == "redo" and not future:
            with pytest.raises(NothingToRedo):
                redo(scene, person)
            continue
        if act == "undo":
            undo(scene, person)
            future.append(document)
            document = past.pop()
        elif act == "redo":
            redo(scene, person)
            past.append(document)
            document = future.pop()
        else:
            try:
                edited = apply_patch(document, act, PATCH_LIMITS).document
            except PatchRejected:
                continue
            if who == "model":
                effect = scene.append_one(lease)
                effect = type(effect)(
                    operations=act, words="", expected_version=effect.expected_version, limits=PATCH_LIMITS
                )
                made = store.commit_effect(lease, 0, number, call(lease, 0, number), effect)
                assert made.change is not None
            else:
                edit(scene, *act, principal=person)
            past.append(document)
            future.clear()
            document = edited
        documents.append(document)
        makers.append("model" if who == "model" and isinstance(act, list) else person.user)
        assert same_json(scene.document(), document)
    told = versions(scene)[::-1]
    assert [version.version for version in told] == list(range(2, len(documents) + 1))
    assert [version.author or "model" for version in told] == makers
    assert all((version.message_id == lease.message_id) == (version.author is None) for version in told)
    numbers = range(1, len(documents) + 1)
    former = store.documents_at(scene.principal, scene.project_id, numbers)
    for number in numbers:
        assert same_json(former[number].document, documents[number - 1])
    for old, new in ((1, len(documents)), (len(documents), 1), (max(1, len(documents) - 2), len(documents))):
        operations = difference(former[old].document, former[new].document, PATCH_LIMITS)
        assert same_json(apply_patch(documents[old - 1], operations, PATCH_LIMITS).document, documents[new - 1])


# --- undo and redo ----------------------------------------------------------------------------------------------


def test_an_undo_is_a_version_that_names_what_it_takes_back(scene: Scene) -> None:
    """And a redo one that names the undo. Nothing of what was is lost."""
    boris = colleague(scene)
    add(scene, 1)
    change = undo(scene, boris)
    assert (change.version, change.undoes, change.author) == (3, 2, boris.user)
    again = redo(scene)
    assert (again.version, again.redoes, again.author) == (4, 3, scene.principal.user)
    assert scene.document() == {"list": [1]}
    assert [(version.undoes, version.redoes) for version in versions(scene)] == [(None, 3), (2, None), (None, None)]


def test_what_a_project_was_made_with_cannot_be_undone(scene: Scene) -> None:
    with pytest.raises(NothingToUndo):
        undo(scene)
    add(scene, 1)
    undo(scene)
    with pytest.raises(NothingToUndo):
        undo(scene)


def test_an_edit_after_an_undo_leaves_nothing_to_redo(scene: Scene) -> None:
    add(scene, 1)
    undo(scene)
    add(scene, 2)
    with pytest.raises(NothingToRedo):
        redo(scene)
    undo(scene)
    with pytest.raises(NothingToUndo):
        undo(scene)
    redo(scene)
    assert scene.document() == {"list": [2]}


def test_an_undo_for_another_version_is_refused(scene: Scene) -> None:
    """Whoever saw an older document does not take back what came since."""
    add(scene, 1)
    add(scene, 2)
    with pytest.raises(VersionMismatch):
        undo(scene, expected_version=2)
    undo(scene, expected_version=3)
    with pytest.raises(VersionMismatch):
        redo(scene, expected_version=3)
    assert scene.document() == {"list": [1]}


def test_an_undo_that_would_break_a_schema_given_since_is_refused_and_changes_nothing(scene: Scene) -> None:
    add(scene, 1)
    scene.store.change_project(scene.principal, scene.project_id, schema={"properties": {"list": {"minItems": 1}}})
    with pytest.raises(SchemaViolation):
        undo(scene)
    assert (scene.document(), len(versions(scene))) == ({"list": [1]}, 1)
    scene.store.change_project(scene.principal, scene.project_id, schema=None)
    undo(scene)
    assert scene.document() == {"list": []}


def test_an_undo_that_would_break_a_limit_set_since_is_refused_with_the_operation(scene: Scene) -> None:
    edit(scene, {"op": "add", "path": "/a", "value": "x" * 1_000})
    edit(scene, {"op": "add", "path": "/b", "value": 1}, {"op": "remove", "path": "/a"})
    with pytest.raises(PatchRejected) as refused:
        scene.store.undo(scene.principal, scene.project_id, PatchLimits(max_document_bytes=500))
    assert refused.value.index == 0
    assert scene.document() == {"list": [], "b": 1}


def test_an_inverse_with_more_operations_than_a_patch_may_have_is_applied(scene: Scene) -> None:
    """A move onto a value takes two operations to take back."""
    edit(scene, *({"op": "add", "path": f"/{key}", "value": key} for key in "abcd"))
    moves = [{"op": "move", "from": "/a", "path": "/b"}, {"op": "move", "from": "/c", "path": "/d"}]
    scene.store.patch_document(scene.principal, scene.project_id, moves, SMALL)
    scene.store.undo(scene.principal, scene.project_id, SMALL)
    assert scene.document() == {"list": [], "a": "a", "b": "b", "c": "c", "d": "d"}


def test_of_undos_at_once_each_takes_back_another_change(scene: Scene) -> None:
    boris = colleague(scene)
    for value in range(3):
        add(scene, value)
    results = together(*(lambda who=who: undo(scene, who) for who in (scene.principal, boris) * 3))
    assert errors_of(results) == [NothingToUndo] * 3
    assert sorted(result.undoes or 0 for result in results if isinstance(result, DocumentChange)) == [2, 3, 4]
    assert scene.document() == {"list": []}


def test_the_model_is_told_that_an_undo_came_between(scene: Scene) -> None:
    """Its edit is not applied to a document that it did not see, and the undo stays."""
    add(scene, 1)
    lease = scene.claimed()
    effect = scene.append_one(lease, 2)
    undo(scene)
    made = scene.store.commit_effect(lease, 0, 0, call(lease), effect)
    assert (made.call.state, made.change) == ("failed", None)
    assert scene.document() == {"list": []}


def test_viewers_and_strangers_undo_nothing(scene: Scene) -> None:
    add(scene, 1)
    viewer = colleague(scene, MemberRole.VIEWER)
    for act in (undo, redo):
        with pytest.raises(Forbidden):
            act(scene, viewer)
        with pytest.raises(NotFound):
            act(scene, scene.newcomer())
    assert len(versions(scene)) == 1


def test_undo_reaches_over_many_undone_changes(scene: Scene) -> None:
    """Over more versions than are read at first."""
    add(scene, "kept")
    for value in range(120):
        add(scene, value)
        undo(scene)
    assert undo(scene).undoes == 2
    assert scene.document() == {"list": []}


def test_undo_reaches_no_further_than_it_says(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_history, "HISTORY_REACH", 4)
    add(scene, "out of reach")
    for value in range(2):
        add(scene, value)
        undo(scene)
    with pytest.raises(NothingToUndo):
        undo(scene)
    add(scene, 2)
    assert undo(scene).undoes == 7


# --- former documents -------------------------------------------------------------------------------------------


def test_there_is_no_document_of_a_version_that_there_is_not(scene: Scene) -> None:
    add(scene, 1)
    for version in (0, 3):
        with pytest.raises(NotFound):
            scene.store.documents_at(scene.principal, scene.project_id, [1, version])
    with pytest.raises(NotFound):
        scene.store.documents_at(scene.newcomer(), scene.project_id, [1])


def test_a_version_that_lies_too_many_changes_back_is_out_of_reach(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_history, "REBUILD_VERSIONS", 3)
    for value in range(4):
        add(scene, value)
    found = scene.store.documents_at(scene.principal, scene.project_id, [2])
    assert found[2].document == {"list": [0]}
    with pytest.raises(VersionOutOfReach):
        scene.store.documents_at(scene.principal, scene.project_id, [1])


def test_a_version_that_lies_too_many_bytes_back_is_out_of_reach(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_history, "REBUILD_BYTES", 1_000)
    edit(scene, {"op": "add", "path": "/a", "value": "x" * 2_000})
    edit(scene, {"op": "remove", "path": "/a"})
    with pytest.raises(VersionOutOfReach):
        scene.store.documents_at(scene.principal, scene.project_id, [2])
    assert scene.store.documents_at(scene.principal, scene.project_id, [3])[3].document == {"list": []}


def test_a_page_of_large_versions_ends_early(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cursor to go on from; a version that is larger than a page is a page."""
    monkeypatch.setattr(store_history, "PAGE_VERSION_BYTES", 1_000)
    for size in (10, 2_000, 10, 10, 600, 600):
        edit(scene, {"op": "add", "path": "/a", "value": "x" * size})
    pages: list[list[int]] = []
    before: int | None = None
    while True:
        page, before = scene.store.versions(scene.principal, scene.project_id, limit=200, before=before)
        pages.append([version.version for version in page])
        if before is None:
            break
    assert pages == [[7], [6, 5], [4], [3], [2]]


def test_versions_are_found_by_the_message_that_made_them(scene: Scene) -> None:
    """Another project's message made none here."""
    add(scene, 1)
    lease = scene.claimed()
    scene.store.commit_effect(lease, 0, 0, call(lease), scene.append_one(lease, 2))
    add(scene, 3)
    (found,) = versions(scene, message_id=lease.message_id)
    assert (found.version, found.message_id, found.author) == (3, lease.message_id, None)
    assert versions(scene, message_id=uuid.uuid4()) == []
