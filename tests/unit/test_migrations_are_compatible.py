"""While a release is rolled out, processes of the one before work on the database that it has migrated already.

So a migration adds, and takes nothing away that the release before uses. What is to go goes one release later, and its
migration says so: `unused_since = "0.4"`, the first release whose code does without it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from dev.procfile import ROOT

_VERSIONS: Final = sorted((ROOT / "migrations" / "versions").glob("*.py"))
_FIRST: Final = "0001"
_TAKE_AWAY: Final = {
    "drop_table",
    "drop_column",
    "rename_table",
    "alter_column",
    "drop_constraint",
    "create_check_constraint",
}
"""`alter_column` renames, narrows or forbids null; a new constraint may refuse what the release before writes."""


def complaints(source: str) -> list[str]:
    """What in a migration's `upgrade` the release before would stumble over."""
    tree = ast.parse(source)
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if "unused_since" in assigned:
        return []
    upgrade = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "upgrade")
    return list(_complaints(upgrade))


def _complaints(upgrade: ast.FunctionDef) -> Iterator[str]:
    for call in (node for node in ast.walk(upgrade) if isinstance(node, ast.Call)):
        match call.func:
            case ast.Attribute(value=ast.Name(id="op"), attr=name):
                if name in _TAKE_AWAY:
                    yield name
                if name == "add_column" and _is_demanded(call):
                    yield "add_column: not null, without a default"


def _is_demanded(add_column: ast.Call) -> bool:
    """Whether rows that the release before inserts would lack it."""
    column = next(node for node in add_column.args if isinstance(node, ast.Call))
    options = {keyword.arg: keyword.value for keyword in column.keywords}
    nullable = options.get("nullable")
    may_be_null = nullable is None or (isinstance(nullable, ast.Constant) and nullable.value is True)
    return not may_be_null and "server_default" not in options


@pytest.mark.parametrize(
    "path", [path for path in _VERSIONS if not path.name.startswith(_FIRST)], ids=lambda path: path.stem
)
def test_a_migration_leaves_the_release_before_working(path: Path) -> None:
    assert complaints(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("act", "is_fine"),
    [
        ("op.add_column('messages', sa.Column('note', sa.Text(), nullable=True))", True),
        ("op.add_column('messages', sa.Column('note', sa.Text(), server_default='', nullable=False))", True),
        ("op.add_column('messages', sa.Column('note', sa.Text(), nullable=False))", False),
        ("op.create_index('ix', 'messages', ['note'])", True),
        ("op.drop_column('messages', 'note')", False),
        ("op.alter_column('messages', 'note', nullable=False)", False),
        ("op.rename_table('messages', 'notes')", False),
    ],
)
def test_what_is_refused(act: str, is_fine: bool) -> None:
    source = f"def upgrade() -> None:\n    {act}\n"
    assert (complaints(source) == []) is is_fine
    assert complaints(f"unused_since = '0.4'\n{source}") == []
