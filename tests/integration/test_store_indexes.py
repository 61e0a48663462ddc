"""Every question that is asked again and again is answered by an index, also when nearly all rows are old."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest
from sqlalchemy import Connection, Engine, event, text

from shared.batches import BatchFilter
from shared.lifecycle import ErrorCode, MessageKind, MessageStatus, OnBusy
from shared.outcomes import Failed
from shared.records import Message, Since
from shared.store import Store, Wanted
from tests.databases import PostgresDatabases
from tests.integration.store_parts import LIMITS, MAX_TRIES, Scene

_OLD_MESSAGES: Final = 4000


@pytest.fixture
def database_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """A new one: the planner also counts the pages that rows were in."""
    with postgres_databases.database(is_new=True) as url:
        yield url


@pytest.fixture
def scene(store: Store, engine: Engine) -> Scene:
    """A project with thousands of messages that are over, and a few that are not."""
    made = Scene(store, engine)
    made.execute(
        """
        INSERT INTO messages (project_id, author_id, role, kind, status, content, queue_number, enqueued_at, attempt,
                              created_at)
        SELECT :project, :user, 'assistant', 'text', 'success', 'old', -n, now() - make_interval(days => 2, secs => n), 1,
               now() - make_interval(days => 2, secs => n)
        FROM generate_series(1, :count) AS n
        """,
        project=made.project_id,
        user=made.principal.user_id,
        count=_OLD_MESSAGES,
    )
    # one that a batch is at, one that has failed since
    for _ in range(2):
        made.ended(Failed(content="", code=ErrorCode.LENGTH))
        store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="ops")
        store.send_batch_items(limit=1, window=1)
    for _ in range(3):
        made.claimed(made.message(on_busy=OnBusy.PARALLEL))
        made.message()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return made


@contextmanager
def _explained(engine: Engine) -> Iterator[list[str]]:
    """The plans of all that is asked within, as Postgres makes them for the very statements and parameters."""
    plans: list[str] = []

    def explain(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        # what only reads is carried out, and its rows are counted
        how = "EXPLAIN ANALYZE" if statement.startswith("WITH RECURSIVE") else "EXPLAIN"
        cursor.execute(f"{how} {statement}", parameters)
        plans.append("\n".join(row[0] for row in cursor.fetchall()))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", explain)


_QUESTIONS: Final[dict[str, tuple[Callable[[Scene], object], str]]] = {
    "leases that ran out": (lambda scene: scene.store.take_lapsed(limit=10), "ix_messages_lease"),
    "bells to ring again": (lambda scene: scene.store.ring_for(limit=10, again_s=0), "ix_messages_claimable"),
    "builders' bells to ring again": (
        lambda scene: scene.store.ring_builders_for(limit=10, again_s=0),
        "ix_messages_buildable",
    ),
    "what is to be closed": (
        lambda scene: scene.store.to_close(limit=10, max_tries=MAX_TRIES),
        "ix_messages_claimable|ix_messages_unfinished_author",
    ),
    "endings to append": (
        lambda scene: scene.store.endings_to_append(limit=10, older_than_s=0),
        "ix_messages_ending",
    ),
    "batches' bells to ring again": (
        lambda scene: scene.store.ring_batches_for(limit=10, again_s=0),
        "ix_messages_batch",
    ),
    "a batch's next message": (lambda scene: scene.store.next_of_a_batch(), "ix_messages_batch"),
    "what a batch would be made of": (
        lambda scene: scene.store.explain_batch(BatchFilter(status=MessageStatus.ERROR)),
        "ix_messages_ended|ix_messages_failed",
    ),
    "what a batch is made of": (
        lambda scene: scene.store.start_batch(BatchFilter(status=MessageStatus.CANCELLED), rate=None, asked_by="ops"),
        "ix_messages_ended|ix_messages_page_ended",
    ),
    "which messages of batches have ended": (lambda scene: scene.store.note_batches(), "pk_messages|ix_batches"),
    "the longest wait": (lambda scene: scene.store.longest_wait_s(), "ix_messages_claimable"),
    "figures for a dashboard": (
        lambda scene: scene.store.figures(),
        "ix_messages_claimable|ix_messages_buildable|ix_messages_unfinished_author",
    ),
    "the next in line": (lambda scene: scene.store.next_in_line(scene.project_id), "ix_messages_queue"),
    "a claim": (lambda scene: scene.claim(scene.message()), "pk_messages"),
    "what stands before a claimed message": (lambda scene: scene.claim(scene.message()), "ix_messages_queue"),
    "a renewal": (
        lambda scene: scene.store.renew_leases(["worker-a"], lease_s=5),
        "ix_messages_owner",
    ),
    "a user's unfinished messages": (lambda scene: scene.submit(), "ix_messages_unfinished_author"),
    "a user's tokens of a day": (
        lambda scene: scene.submit(limits=type(LIMITS)(max_unfinished=1000, max_tokens_per_day=10**9)),
        "ix_messages_author_enqueued",
    ),
    "a page of messages": (
        lambda scene: scene.store.messages(scene.principal, scene.project_id, limit=20),
        "ix_messages_page|pk_messages",
    ),
    "a page of what was cancelled": (
        lambda scene: scene.store.messages(scene.principal, scene.project_id, limit=20, status=MessageStatus.CANCELLED),
        "ix_messages_page_ended",
    ),
    "a page of what a tool's effect ended": (
        lambda scene: scene.store.messages(scene.principal, scene.project_id, limit=20, kind=MessageKind.TOOL_RESULT),
        "ix_messages_page_kind",
    ),
    "what a project's watchers lack": (
        lambda scene: scene.store.project_news(
            scene.project_id, Since(version=1, message_id=scene.message(), queue_number=10)
        ),
        "ix_messages_numbered",
    ),
    "a reader's rows": (lambda scene: scene.store.reader_rows([scene.project_id]), "pk_messages"),
    "what a project's watchers compare": (
        lambda scene: scene.store.project_states([scene.project_id]),
        "ix_messages_unfinished_project",
    ),
    "the operators' summary": (lambda scene: scene.store.summary(), "ix_messages_ended"),
    "what failed": (
        lambda scene: scene.store.operator_messages(Wanted(status=MessageStatus.ERROR), limit=20),
        "ix_messages_failed",
    ),
    "what failed with a code": (
        lambda scene: scene.store.operator_messages(Wanted(code=ErrorCode.INTERNAL), limit=20),
        "ix_messages_failed",
    ),
    "what waits, for operators": (
        lambda scene: scene.store.operator_messages(Wanted(status=MessageStatus.PENDING), limit=20),
        "ix_messages_unfinished_project|ix_messages_queue",
    ),
    "what was slow lately": (
        lambda scene: scene.store.operator_messages(Wanted(slower_than_ms=10**9), limit=20),
        "pk_messages",
    ),
    "a project's messages, for operators": (
        lambda scene: scene.store.operator_messages(Wanted(project_id=scene.project_id, model="x"), limit=20),
        "ix_messages_page|pk_messages",
    ),
    "one message, for operators": (
        lambda scene: scene.store.operator_message(scene.message()),
        "pk_messages",
    ),
    "a token": (lambda scene: scene.store.authenticate("x"), "pk_tokens"),
}


@pytest.mark.parametrize(("ask", "indexes"), _QUESTIONS.values(), ids=_QUESTIONS.keys())
def test_an_index_answers(scene: Scene, ask: Callable[[Scene], object], indexes: str) -> None:
    """And no statement of it reads through all messages. (Tables of a handful of rows are read whole, rightly.)"""
    with _explained(scene.engine) as plans:
        ask(scene)
    plan = "\n\n".join(plans)
    if indexes not in ("pk_tokens",):
        assert any(index in plan for index in indexes.split("|")), plan
    assert "Seq Scan on messages" not in plan, plan


@pytest.mark.parametrize("has_statistics", [True, False], ids=["counted", "just started"])
@pytest.mark.parametrize("projects", ["one", "many", "both"])
def test_a_large_batchs_next_items_are_found_by_an_index(
    store: Store, engine: Engine, projects: str, has_statistics: bool
) -> None:
    """Of the project with thousands of items no further one is read, nor, of thousands of projects, many."""
    scene = Scene(store, engine)
    sent = scene.ended(Failed(content="", code=ErrorCode.LENGTH))
    batch, _ = store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="ops")
    assert [message.id for message in _again(store)] == [sent]
    for is_of_one in {"one": (True,), "many": (False,), "both": (True, False)}[projects]:
        scene.execute(
            """
            INSERT INTO batch_items (batch_id, message_id, project_id, state, run)
            SELECT :batch, uuidv7(), CASE WHEN :is_of_one THEN :project ELSE gen_random_uuid() END, 'waiting', 0
            FROM generate_series(1, 10000)
            """,
            batch=batch.id,
            project=scene.project_id,
            is_of_one=is_of_one,
        )
    if has_statistics:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
    with _explained(engine) as plans:
        _again(store)
    plan = "\n\n".join(plan for plan in plans if "Recursive Union" in plan)
    assert "ix_batch_items_waiting" in plan, plan
    assert "Seq Scan" not in plan, plan
    read = [float(rows) * int(loops) for rows, loops in re.findall(r"rows=([\d.]+) loops=(\d+)", plan)]
    assert 0 < max(read) < 100, plan


def _again(store: Store) -> Sequence[Message]:
    sent = store.send_batch_items(limit=20, window=200)
    return () if sent is None else sent.again


def test_every_partial_index_is_used_by_a_question() -> None:
    """Nobody keeps an index up for nothing."""
    from shared.models import Message as MessageRow

    partial = {
        str(index.name)
        for index in MessageRow.__table__.indexes  # type: ignore[attr-defined]  # a mapped class's table is a Table
        if index.dialect_options["postgresql"]["where"] is not None
    }
    used = {name for _, names in _QUESTIONS.values() for name in names.split("|")}
    assert partial <= used
