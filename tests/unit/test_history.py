"""What undo takes back and redo makes again: as in an editor that keeps the former documents and the undone ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, Literal

from hypothesis import example, given
from hypothesis import strategies as st

from shared.history import Step, redoable, undoable

Act = Literal["edit", "undo", "redo"]

acts: Final[st.SearchStrategy[list[Act]]] = st.lists(st.sampled_from(["edit", "undo", "undo", "redo"]), max_size=60)


class Editor:
    """The oracle: each document is the number of the edit that made it."""

    def __init__(self) -> None:
        self.document = 0
        self.past: list[int] = []
        self.future: list[int] = []
        self._edits = itertools.count(1)

    def act(self, act: Act) -> bool:
        """Whether there was something to do."""
        if act == "edit":
            self.past.append(self.document)
            self.future.clear()
            self.document = next(self._edits)
        elif act == "undo":
            if not self.past:
                return False
            self.future.append(self.document)
            self.document = self.past.pop()
        else:
            if not self.future:
                return False
            self.past.append(self.document)
            self.document = self.future.pop()
        return True


class Versions:
    """The steps, and the document of each version: an inverse leads from a version's to that of the one before it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.documents = {1: 0}
        self._edits = itertools.count(1)

    def act(self, act: Act) -> bool:
        version = len(self.steps) + 2
        if act == "edit":
            self.documents[version] = next(self._edits)
            self.steps.append(Step(version=version))
            return True
        found = (undoable if act == "undo" else redoable)(reversed(self.steps))
        if found is None:
            return False
        assert self.documents[found] == self.documents[version - 1], "the inverse was made for the present document"
        self.documents[version] = self.documents[found - 1]
        step = Step(version=version, undoes=found) if act == "undo" else Step(version=version, redoes=found)
        self.steps.append(step)
        return True


@given(acts)
@example(["edit", "edit", "undo", "undo", "redo", "redo", "undo"])
@example(["edit", "undo", "edit", "undo", "redo", "undo", "undo"])
def test_undo_and_redo_walk_as_an_editor_does(acts: list[Act]) -> None:
    """Each act finds something to do exactly where the editor does, leads to the same document, and its inverse fits."""
    editor, versions = Editor(), Versions()
    for act in acts:
        assert versions.act(act) == editor.act(act)
        assert versions.documents[len(versions.steps) + 1] == editor.document


@given(acts)
def test_no_more_versions_are_read_than_are_needed(acts: list[Act]) -> None:
    """Where the newest version is the answer, it alone."""
    versions = Versions()
    for act in acts:
        versions.act(act)
    if not versions.steps:
        return
    newest = versions.steps[-1]
    if newest.undoes is None:
        assert undoable(only(newest)) == newest.version
    else:
        assert redoable(only(newest)) == newest.version


def only(step: Step) -> Iterator[Step]:
    yield step
    raise AssertionError("a second version was read")


def test_without_versions_there_is_nothing_to_do() -> None:
    assert undoable([]) is None
    assert redoable([]) is None
