"""Every statement of the store is run on months of messages, and its plan read: nothing is read that is not needed.

`python -m benchmarks plans` does the same with a million messages. Here are so few that Postgres still sees a difference
between an index and the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, text

from benchmarks.explaining import Explainer
from benchmarks.filling import Filled, fill
from benchmarks.plans import Asked, ask_all
from benchmarks.store_calls import CALLS, Place, store_methods
from shared.engine import make_engine
from shared.models import Base
from tests.databases import PostgresDatabases

_MESSAGES = 20_000
_NEVER_DELETED = {"users", "batches"}
"""Nothing of the product deletes a row of these."""


@pytest.fixture
def database_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """A new one: the planner also counts the pages that rows were in."""
    with postgres_databases.database(is_new=True) as url:
        yield url


@contextmanager
def _filled(url: str, messages: int) -> Iterator[tuple[Filled, Explainer]]:
    engine = make_engine(url, pool_size=2, application="test", statement_timeout_s=60.0)
    try:
        explainer = Explainer(engine)
        yield fill(url, engine, messages=messages), explainer
    finally:
        engine.dispose()


def _bad(found: list[Asked]) -> dict[str, list[str]]:
    return {asked.name: [*asked.complaints, f"{asked.most_blocks} blocks"] for asked in found if asked.is_bad}


def test_every_method_of_the_store_has_its_plans_looked_at() -> None:
    """One that is new needs a line in `benchmarks/store_calls.py`."""
    assert {call.method for call in CALLS} == store_methods()


def test_no_statement_reads_what_it_does_not_need(database_url: str) -> None:
    """No big table from end to end, nor many times the rows that are given, nor more blocks than the call may take."""
    with _filled(database_url, _MESSAGES) as (filled, explainer):
        found = [asked for asked, _ in ask_all(Place(filled, filled.largest), explainer)]
    assert _bad(found) == {}
    # what asks nothing of any table is rare: a call that was not watched would look like it
    silent = {asked.method for asked in found if not asked.blocks}
    assert silent <= {"ping", "database_now", "server_health"}


def test_an_index_that_is_missing_is_noticed(database_url: str) -> None:
    """Without them, some of what is asked reads through a project's messages, or through all."""
    with _filled(database_url, _MESSAGES) as (filled, explainer):
        with filled.engine.begin() as connection:
            for name in ("ix_messages_numbered", "ix_messages_page_kind"):
                connection.execute(text(f"DROP INDEX {name}"))
        asked = [call for call in CALLS if call.method in ("project_news", "messages")]
        found = [one for one, _ in ask_all(Place(filled, filled.largest), explainer, asked)]
    assert set(_bad(found)) == {
        "`messages`, of a rare kind",
        "`project_news`, nothing new",
        "`project_news`, after a gap",
    }


def test_what_hangs_on_a_row_that_goes_is_found_by_an_index() -> None:
    """Else a deletion reads whole tables, to find what refers to what it deletes."""
    unindexed = [
        f"{table.name}.{key.parent.name}"
        for table in Base.metadata.tables.values()
        for key in (one for constraint in table.foreign_key_constraints for one in constraint.elements)
        if key.column.table.name not in _NEVER_DELETED
        and key.parent.name not in {next(iter(index.columns)).name for index in table.indexes}
        and key.parent.name != next(iter(table.primary_key.columns)).name
    ]
    assert unindexed == []


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = make_engine(database_url, pool_size=1, application="test")
    yield made
    made.dispose()


def test_a_foreign_keys_own_questions_are_seen(engine: Engine) -> None:
    """A cascade's statements are no part of the plan that sets it off."""
    explainer = Explainer(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (name) VALUES ('somebody')"))
        with explainer.watching() as plans:
            connection.execute(text("DELETE FROM users WHERE name = 'somebody'"))
    assert len(plans) > 5
    assert "DELETE FROM users" in plans[-1].statement or "DELETE FROM users" in plans[0].statement
