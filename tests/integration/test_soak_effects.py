"""The soak's look at effects and leftovers fails where ledger, versions, documents and rows were tampered with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest
from sqlalchemy import Engine, text

from benchmarks.soak.verdict import check_effects, check_nothing_is_left
from shared.store import Store
from tests.integration.store_parts import Scene, call

TAMPERED: Final = {
    "an item more": ("effect", """UPDATE projects SET document = '{"list": [1, 2, 2]}'"""),
    "an item less": ("effect", """UPDATE projects SET document = '{"list": [1]}'"""),
    "a version is missing": ("effect", "DELETE FROM document_versions WHERE version = 3"),
    "a version that no call made": ("effect", "DELETE FROM tool_ledger WHERE version = 3"),
    "a call without its version": ("effect", "UPDATE tool_ledger SET version = NULL WHERE version = 3"),
    "an effect that happened twice": (
        "doubled",
        """UPDATE document_versions SET operations = '[{"op": "add", "path": "/list/-", "value": 1}]'""",
    ),
}


class Asking:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def sql(self, statement: str, **parameters: object) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(text(statement), parameters).all()


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    """A message that made two edits, unfinished."""
    made = Scene(store, engine)
    lease = made.claimed()
    for index in (0, 1):
        effect = made.append_one(lease, index + 1, version=index + 1)
        made.store.commit_effect(lease, 0, index, call(lease, 0, index), effect)
    return made


def test_edits_that_happened_once_are_no_violation(scene: Scene, engine: Engine) -> None:
    effects, found = check_effects(Asking(engine))
    assert (effects, found) == ((2, 2, 2), [])


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_tampered_with_is_found(scene: Scene, engine: Engine, name: str) -> None:
    kind, statement = TAMPERED[name]
    scene.execute(statement)
    _, found = check_effects(Asking(engine))
    assert kind in {violation.kind for violation in found}


def test_an_unfinished_message_is_left_over(scene: Scene, engine: Engine) -> None:
    (violation,) = check_nothing_is_left(Asking(engine))
    assert violation.kind == "stuck"
