"""Migrations make the tables that the code knows: up, down, up again, without drift; and their enums are the code's."""

from __future__ import annotations

import enum
import os
import subprocess
import sys

import pytest
from alembic import command
from sqlalchemy import Enum as SqlEnum
from sqlalchemy import create_engine, inspect, text

from shared import migrate
from shared.engine import make_engine, sqlalchemy_url
from shared.lifecycle import BatchStatus, ItemState, JobStatus, MemberRole, MessageKind, MessageStatus, Role
from shared.models import Base

_ENUMS: dict[str, type[enum.StrEnum]] = {
    "message_status": MessageStatus,
    "message_kind": MessageKind,
    "message_role": Role,
    "member_role": MemberRole,
    "job_status": JobStatus,
    "batch_status": BatchStatus,
    "item_state": ItemState,
}


def _labels(url: str) -> dict[str, list[str]]:
    engine = create_engine(sqlalchemy_url(url))
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT typname, array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum "
                "JOIN pg_type ON pg_type.oid = enumtypid GROUP BY typname"
            )
        ).all()
    engine.dispose()
    return {name: list(labels) for name, labels in found}


def _tables(url: str) -> set[str]:
    engine = create_engine(sqlalchemy_url(url))
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_they_make_every_table_that_the_code_knows(database_url: str) -> None:
    assert _tables(database_url) == set(Base.metadata.tables) | {"alembic_version"}


def test_they_leave_nothing_that_the_models_would_change(database_url: str) -> None:
    """Alembic finds no drift between them."""
    command.check(migrate.config(database_url))


def test_they_go_down_without_a_trace_and_up_again(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    migrate.downgrade(empty_database_url)
    assert _tables(empty_database_url) == {"alembic_version"}
    assert _labels(empty_database_url) == {}
    migrate.upgrade(empty_database_url)
    command.check(migrate.config(empty_database_url))


def test_going_up_twice_changes_nothing(database_url: str) -> None:
    migrate.upgrade(database_url)
    command.check(migrate.config(database_url))


def test_an_index_that_was_made_by_hand_beforehand_is_taken_as_it_is(empty_database_url: str) -> None:
    """So that writers of a large table are not held up while a migration makes it."""
    migrate.upgrade(empty_database_url, "0009")
    engine = create_engine(sqlalchemy_url(empty_database_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text(
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_messages_numbered ON messages (project_id, queue_number)"
                " WHERE role = 'assistant'"
            )
        )
    engine.dispose()
    migrate.upgrade(empty_database_url)
    command.check(migrate.config(empty_database_url))


def test_several_releases_at_once_all_come_to_an_end(empty_database_url: str) -> None:
    """Each waits for the one before it, and but the first finds nothing to do."""
    program = "import os; from shared import migrate; migrate.upgrade(os.environ['DATABASE_URL'])"
    releases = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "DATABASE_URL": empty_database_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [release.communicate()[0] for release in releases]
    assert [release.returncode for release in releases] == [0, 0, 0], outputs
    command.check(migrate.config(empty_database_url))


def test_readiness_knows_whether_the_schema_is_the_code_s(database_url: str, empty_database_url: str) -> None:
    for url, current in ((database_url, True), (empty_database_url, False)):
        engine = make_engine(url, pool_size=1, application="test")
        assert migrate.is_current(engine) is current
        engine.dispose()


def test_processes_of_a_release_go_on_after_the_next_one_has_migrated(database_url: str) -> None:
    """They are ready, and a release of theirs that is started again, to go back, leaves the database alone."""
    engine = make_engine(database_url, pool_size=1, application="test")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert migrate.is_current(engine)
    migrate.upgrade(database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
    engine.dispose()


def test_processes_are_not_ready_on_the_database_of_an_older_release(database_url: str) -> None:
    migrate.downgrade(database_url, "-1")
    engine = make_engine(database_url, pool_size=1, application="test")
    assert not migrate.is_current(engine)
    engine.dispose()


@pytest.mark.parametrize("name", sorted(_ENUMS))
def test_a_postgres_enum_has_the_labels_of_the_code_s(database_url: str, name: str) -> None:
    assert _labels(database_url)[name] == [member.value for member in _ENUMS[name]]


def test_there_is_no_other_enum(database_url: str) -> None:
    assert set(_labels(database_url)) == set(_ENUMS)
    declared = {
        column.type.name: column.type.enum_class
        for table in Base.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, SqlEnum)
    }
    assert declared == _ENUMS
