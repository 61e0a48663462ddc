"""What undo takes back and redo makes again. Pure.

A project has one history, whoever made its versions: hands, the assistant, or undo itself, whose effect is a version like any
other. The rule is a fold over the versions, oldest first, onto two stacks:

- an edit goes onto `done` and empties `undone`;
- a version that undoes t takes t, the top, off `done` and goes onto `undone`; its operations are t's inverse;
- a version that redoes u, an undo, takes u, the top, off `undone` and goes onto `done`; its operations are u's inverse.

So the top of either stack, if there is one, is the change that led to the present document, or one whose document is back:
its inverse fits. Neither stack is kept anywhere. Under a version on a stack lies what was on top before it came, and the
functions here step down from the newest version over those.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One version: an edit, or the undo or redo of an earlier version."""

    version: int
    undoes: int | None = None
    redoes: int | None = None


def undoable(steps: Iterable[Step]) -> int | None:
    """The version that an undo takes back; None where there is none. `steps` come newest first, without a gap.

    No more of them is read than is needed.
    """
    at: int | None = None
    for step in steps:
        if at is not None and step.version > at:
            continue
        if step.undoes is None:
            return step.version
        at = step.undoes - 1  # the top is again what it was before the undone version came
    return None


def redoable(steps: Iterable[Step]) -> int | None:
    """The undo that a redo takes back; None where there is none. `steps` as for `undoable`."""
    at: int | None = None
    for step in steps:
        if at is not None and step.version > at:
            continue
        if step.undoes is not None:
            return step.version
        if step.redoes is None:
            return None  # an edit
        at = step.redoes - 1
    return None
