"""What may go: what nobody can use any more, and, where an operator says how old, old messages with what belongs to them.

Each batch is a short transaction and passes over rows that somebody works on. A message that is unfinished is never taken,
nor one that waits in a batch, nor one whose component a document may show.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from shared.lifecycle import FINAL, JobStatus, Role
from shared.models import (
    Audit,
    BatchItem,
    ComponentJob,
    DocumentVersion,
    IdempotencyKey,
    Message,
    Project,
    Ticket,
    Token,
)
from shared.store.batches import UNFINISHED_ITEM
from shared.store.history import HISTORY_REACH
from shared.store.transactions import Transactions

KEYS_KEPT: Final = timedelta(hours=48)
"""A submit is repeated with its key within minutes."""
TOKENS_KEPT: Final = timedelta(days=30)
"""Tokens that are good no more: operators see for as long when and whose they were."""
BATCH: Final = 200


class Prunable(StrEnum):
    TICKETS = "tickets"
    """Expired."""
    IDEMPOTENCY_KEYS = "idempotency_keys"
    """Older than `KEYS_KEPT`, of answers that are final."""
    TOKENS = "tokens"
    """Revoked or expired for longer than `TOKENS_KEPT`; JWTs that have expired."""
    MESSAGES = "messages"
    """Questions with their answers, final and untouched for so long; two of each pair."""
    VERSIONS = "versions"
    """So old, and beyond what undo and comparisons reach."""
    AUDITS = "audits"
    """So old; the newest of the whole system stays."""


ALWAYS: Final = (Prunable.TICKETS, Prunable.IDEMPOTENCY_KEYS, Prunable.TOKENS)
"""Nobody can use them any more."""
BY_AGE: Final = (Prunable.MESSAGES, Prunable.VERSIONS, Prunable.AUDITS)
"""Where an operator says how old."""

_answer, _question, _sibling = (aliased(Message) for _ in range(3))


class PruneStore(Transactions):
    def count_prunable(self, what: Prunable, older_than: timedelta) -> int:
        """How many rows `prune` would delete now."""
        if what is Prunable.MESSAGES:
            query = select(2 * func.count()).select_from(_answer).where(_is_old_answer(older_than))
        else:
            table, _, condition = _rows(what, older_than)
            query = select(func.count()).select_from(table).where(condition)
        with self._statement() as connection:
            return int(connection.execute(query).scalar_one())

    def prune(self, what: Prunable, older_than: timedelta) -> int:
        """Delete one batch; how many rows went. 0 once there is nothing left but what others work on."""
        if what is Prunable.MESSAGES:
            raise ValueError("messages are pruned by `prune_messages`")
        table, key, condition = _rows(what, older_than)
        chosen = select(*key).where(condition).limit(BATCH).with_for_update(of=table, skip_locked=True)
        with self._transaction() as connection:
            return connection.execute(delete(table).where(tuple_(*key).in_(chosen))).rowcount

    def prune_messages(self, older_than: timedelta, *, after: UUID | None = None) -> tuple[int, UUID | None]:
        """Delete the next pairs of messages above the answer `after`; how many rows went, and where to go on.

        Their rounds, calls, keys and unbuilt jobs go with them; versions stay, and name no message any more.
        """
        query = select(_answer.id, _answer.project_id).where(_is_old_answer(older_than))
        if after is not None:
            query = query.where(_answer.id > after)
        with self._transaction() as connection:
            found = connection.execute(query.order_by(_answer.id).limit(BATCH)).all()
            if not found:
                return 0, None
            # the projects first, as everybody who locks several rows does; whose project is busy has its turn another time
            projects = connection.execute(
                select(Project.id)
                .where(Project.id.in_({row.project_id for row in found}))
                .order_by(Project.id)
                .with_for_update(skip_locked=True)
            ).scalars()
            pairs = connection.execute(
                select(_answer.id, _answer.reply_to)
                .where(
                    _answer.id.in_([row.id for row in found]),
                    _answer.project_id.in_(list(projects)),
                    _is_old_answer(older_than),  # it may have been retried meanwhile
                )
                .with_for_update(of=_answer, skip_locked=True)
            ).all()
            going = [id_ for pair in pairs for id_ in pair]
            count = connection.execute(delete(Message).where(Message.id.in_(going))).rowcount
            return count, found[-1].id


def _is_old_answer(older_than: timedelta) -> ColumnElement[bool]:
    """A final answer that may go with its question."""
    oldest = func.now() - older_than
    return and_(
        _answer.role == Role.ASSISTANT,
        _answer.status.in_(FINAL),
        _answer.ending_appended,
        _answer.updated_at < oldest,
        exists().where(_question.id == _answer.reply_to, _question.updated_at < oldest),
        ~exists().where(_sibling.reply_to == _answer.reply_to, _sibling.id != _answer.id),
        # a batch is about to answer it again
        ~exists().where(BatchItem.message_id == _answer.id, UNFINISHED_ITEM),
        # a document may show it
        ~exists().where(ComponentJob.message_id == _answer.id, ComponentJob.status == JobStatus.SUCCESS),
    )


def _rows(what: Prunable, older_than: timedelta) -> tuple[Any, tuple[Any, ...], ColumnElement[bool]]:
    """The table, its key, and which of its rows may go."""
    match what:
        case Prunable.TICKETS:
            return Ticket, (Ticket.sha256,), Ticket.expires_at < func.now()
        case Prunable.IDEMPOTENCY_KEYS:
            key = IdempotencyKey
            is_final = exists().where(Message.id == key.assistant_message_id, Message.status.in_(FINAL))
            return (
                key,
                (key.user_id, key.project_id, key.key),
                and_(key.created_at < func.now() - KEYS_KEPT, is_final),
            )
        case Prunable.TOKENS:
            dead = func.now() - TOKENS_KEPT
            ours = and_(Token.issuer.is_(None), or_(Token.revoked_at < dead, Token.expires_at < dead))
            # a revoked JWT's row is what says that it was revoked
            return Token, (Token.sha256,), or_(ours, and_(Token.issuer.is_not(None), Token.expires_at < func.now()))
        case Prunable.VERSIONS:
            version = DocumentVersion
            newest = select(Project.version).where(Project.id == version.project_id).scalar_subquery()
            return (
                version,
                (version.project_id, version.version),
                and_(version.created_at < func.now() - older_than, version.version <= newest - HISTORY_REACH),
            )
        case Prunable.AUDITS:
            whole = aliased(Audit)
            last = select(whole.id).where(whole.project_id.is_(None)).order_by(whole.id.desc()).limit(1)
            is_other = Audit.id.is_distinct_from(last.scalar_subquery())
            return Audit, (Audit.id,), and_(Audit.ended_at < func.now() - older_than, is_other)
        case Prunable.MESSAGES:
            raise ValueError("messages go by pairs")
