"""The tables. Migrations make them; a test holds the two together. Only the store reads or writes them."""

from __future__ import annotations

import enum
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.lifecycle import BatchStatus, ItemState, JobStatus, MemberRole, MessageKind, MessageStatus, Role


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def _enum(kind: type[enum.Enum], name: str) -> Enum:
    return Enum(kind, name=name, values_callable=lambda members: [member.value for member in members])


def _id() -> Mapped[uuid.UUID]:
    """uuidv7: newer ids sort later, so that pages by id are pages by time."""
    return mapped_column(UUID(as_uuid=True), primary_key=True, server_default=text("uuidv7()"))


def _now() -> Mapped[datetime]:
    return mapped_column(DateTime(timezone=True), server_default=func.now())


# A document is the user's own bytes: type json keeps its order of keys and its numbers, jsonb would rewrite them.
_Json = JSON(none_as_null=True)
_MaybeTime = DateTime(timezone=True)


class User(Base):
    __tablename__ = "users"
    id: Mapped[uuid.UUID] = _id()
    name: Mapped[str] = mapped_column(Text, unique=True)  # a token's subject
    created_at: Mapped[datetime] = _now()


class Token(Base):
    __tablename__ = "tokens"
    sha256: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    expires_at: Mapped[datetime | None] = mapped_column(_MaybeTime)
    revoked_at: Mapped[datetime | None] = mapped_column(_MaybeTime)
    created_at: Mapped[datetime] = _now()
    last_used_at: Mapped[datetime | None] = mapped_column(_MaybeTime)  # to the minute
    issuer: Mapped[str | None] = mapped_column(Text)  # of a JWT, which is good only together with its signature

    __table_args__ = (
        Index("ix_tokens_expires_at_jwts", "expires_at", postgresql_where=text("issuer IS NOT NULL")),  # swept away
    )


class Ticket(Base):
    """Stands for a token on one path, where a browser can set no header."""

    __tablename__ = "tickets"
    sha256: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[bytes] = mapped_column(ForeignKey("tokens.sha256", ondelete="CASCADE"), index=True)
    path: Mapped[str] = mapped_column(Text)
    single_use: Mapped[bool] = mapped_column(Boolean)
    expires_at: Mapped[datetime] = mapped_column(_MaybeTime, index=True)


class Project(Base):
    __tablename__ = "projects"
    id: Mapped[uuid.UUID] = _id()
    name: Mapped[str] = mapped_column(Text)
    document: Mapped[Any] = mapped_column(_Json, nullable=True)
    schema: Mapped[Any] = mapped_column(_Json, nullable=True)
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    newest_queue_number: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class Member(Base):
    __tablename__ = "members"
    project_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[MemberRole] = mapped_column(_enum(MemberRole, "member_role"))
    created_at: Mapped[datetime] = _now()


class Message(Base):
    """A user's or the assistant's message. An assistant's row is the queue of record: see `shared.store`."""

    __tablename__ = "messages"
    id: Mapped[uuid.UUID] = _id()
    project_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    author_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    role: Mapped[Role] = mapped_column(_enum(Role, "message_role"))
    kind: Mapped[MessageKind] = mapped_column(_enum(MessageKind, "message_kind"))
    status: Mapped[MessageStatus] = mapped_column(_enum(MessageStatus, "message_status"))
    content: Mapped[str] = mapped_column(Text, server_default="")
    error_code: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    reply_to: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[uuid.UUID | None] = mapped_column(UUID(as_uuid=True))
    usage: Mapped[Any] = mapped_column(_Json, nullable=True)
    total_tokens: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    timing: Mapped[Any] = mapped_column(_Json, nullable=True)

    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # the fencing token; never goes back
    run: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # of this run, failed
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_until: Mapped[datetime | None] = mapped_column(_MaybeTime)
    queue_number: Mapped[int | None] = mapped_column(BigInteger)
    waits: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))  # false: runs beside others
    batch_id: Mapped[uuid.UUID | None] = mapped_column(UUID(as_uuid=True))  # of the batch that began this run's last go
    rung_at: Mapped[datetime | None] = mapped_column(_MaybeTime)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(_MaybeTime)
    last_event_id: Mapped[str | None] = mapped_column(Text)  # the last that the row knows of
    ending: Mapped[list[bytes] | None] = mapped_column(ARRAY(LargeBinary))  # encoded events, byte for byte
    ending_appended: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))

    enqueued_at: Mapped[datetime | None] = mapped_column(_MaybeTime)  # of this run
    claimed_at: Mapped[datetime | None] = mapped_column(_MaybeTime)  # this run's first claim
    first_token_ms: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()

    __table_args__ = (
        CheckConstraint("(lease_owner IS NULL) = (lease_until IS NULL)", name="lease_whole"),
        CheckConstraint("status IN ('pending', 'building') OR lease_owner IS NULL", name="final_unleased"),
        # a project's page of messages, newest first
        Index("ix_messages_page", "project_id", "id"),
        # of it what did not succeed, or is of a kind that few are of: who asks for that alone reads nothing else
        Index(
            "ix_messages_page_ended",
            "project_id",
            "status",
            "id",
            postgresql_where=text("role = 'assistant' AND status IN ('error', 'cancelled')"),
        ),
        Index(
            "ix_messages_page_kind",
            "project_id",
            "kind",
            "id",
            postgresql_where=text("kind IN ('status', 'tool_result', 'error')"),
        ),
        # what was put back in a project's queue since
        Index("ix_messages_numbered", "project_id", "queue_number", postgresql_where=text("role = 'assistant'")),
        # who stands before a message; what a user has unfinished
        Index("ix_messages_queue", "project_id", "queue_number", postgresql_where=text("status = 'pending'")),
        Index(
            "ix_messages_unfinished_author",
            "author_id",
            postgresql_where=text("status IN ('pending', 'building')"),
        ),
        # what a project's watchers follow
        Index(
            "ix_messages_unfinished_project",
            "project_id",
            # the role is there so that no other question takes this index for its own
            postgresql_where=text("role = 'assistant' AND status IN ('pending', 'building')"),
        ),
        # the sweeper: claimable, lapsed, endings not acknowledged
        Index(
            "ix_messages_claimable",
            "enqueued_at",
            postgresql_where=text("status = 'pending' AND lease_owner IS NULL"),
        ),
        Index(
            "ix_messages_buildable",
            "enqueued_at",
            postgresql_where=text("status = 'building' AND lease_owner IS NULL"),
        ),
        # what a worker that is free for batches takes next
        Index(
            "ix_messages_batch",
            "rung_at",
            postgresql_where=text("status = 'pending' AND lease_owner IS NULL AND batch_id IS NOT NULL"),
        ),
        Index("ix_messages_lease", "lease_until", postgresql_where=text("lease_owner IS NOT NULL")),
        Index("ix_messages_ending", "updated_at", postgresql_where=text("NOT ending_appended")),
        # a worker's renewal
        Index("ix_messages_owner", "lease_owner", postgresql_where=text("lease_owner IS NOT NULL")),
        # operators: what ended lately and how; what failed, and what a batch is made of
        Index(
            "ix_messages_ended",
            "status",
            "updated_at",
            postgresql_include=["error_code", "total_tokens"],
            postgresql_where=text("role = 'assistant' AND status IN ('success', 'error', 'cancelled')"),
        ),
        Index("ix_messages_failed", "id", postgresql_where=text("role = 'assistant' AND status = 'error'")),
        # tokens a user and day
        Index("ix_messages_author_enqueued", "author_id", "enqueued_at"),
    )


class Round(Base):
    """One call of the model, stored before the first of its tool calls is run."""

    __tablename__ = "rounds"
    message_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    run: Mapped[int] = mapped_column(Integer, primary_key=True)
    round: Mapped[int] = mapped_column(Integer, primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    calls: Mapped[Any] = mapped_column(_Json)  # [{toolCallId, name, arguments}]
    document_version: Mapped[int] = mapped_column(Integer)
    usage: Mapped[Any] = mapped_column(_Json, nullable=True)
    created_at: Mapped[datetime] = _now()


class LedgerEntry(Base):
    """One tool call that was made: its key makes the effect happen once."""

    __tablename__ = "tool_ledger"
    tool_call_id: Mapped[str] = mapped_column(Text, primary_key=True)
    message_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    run: Mapped[int] = mapped_column(Integer)
    round: Mapped[int] = mapped_column(Integer)
    index: Mapped[int] = mapped_column(Integer)
    attempt: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(Text)
    arguments: Mapped[str] = mapped_column(Text)
    succeeded: Mapped[bool] = mapped_column(Boolean)
    final_content: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    result: Mapped[str] = mapped_column(Text)  # what the model is told
    job_id: Mapped[uuid.UUID | None] = mapped_column(UUID(as_uuid=True))
    version: Mapped[int | None] = mapped_column(Integer)  # the document's after it
    created_at: Mapped[datetime] = _now()
    __table_args__ = (Index("ix_tool_ledger_message", "message_id", "run", "round", "index"),)


class DocumentVersion(Base):
    """One change of a project's document and what takes it back."""

    __tablename__ = "document_versions"
    project_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)  # the document's after the change
    operations: Mapped[Any] = mapped_column(_Json)
    inverse: Mapped[Any] = mapped_column(_Json)
    message_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("messages.id", ondelete="SET NULL"), index=True)
    author_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    undoes: Mapped[int | None] = mapped_column(Integer)  # the version that this one takes back
    redoes: Mapped[int | None] = mapped_column(Integer)  # the version that this one makes again
    created_at: Mapped[datetime] = _now()


class ComponentJob(Base):
    """One component generation and its build, linked to the message that asked for it."""

    __tablename__ = "component_jobs"
    id: Mapped[uuid.UUID] = _id()
    project_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    message_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), index=True)
    tool_call_id: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    effect_description: Mapped[str] = mapped_column(Text)
    status: Mapped[JobStatus] = mapped_column(_enum(JobStatus, "job_status"))
    phase: Mapped[str | None] = mapped_column(Text)
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    error: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    source_sha256: Mapped[str | None] = mapped_column(Text)
    bundle: Mapped[str | None] = mapped_column(Text)
    bundle_sha256: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()
    __table_args__ = (Index("ix_component_jobs_page", "project_id", "id"),)


class Batch(Base):
    """Messages that are answered again together; its items say what became of each."""

    __tablename__ = "batches"
    id: Mapped[uuid.UUID] = _id()
    status: Mapped[BatchStatus] = mapped_column(_enum(BatchStatus, "batch_status"))
    filter: Mapped[Any] = mapped_column(_Json)
    rate: Mapped[float | None] = mapped_column(Float)  # items a second; null: as the window allows
    asked_by: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    body_sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    paced_at: Mapped[datetime] = _now()  # what was sent is paid for until then
    sent_at: Mapped[datetime | None] = mapped_column(_MaybeTime)  # its turn among batches: the longest ago goes first
    # its projects take turns: whose was last
    last_project_id: Mapped[uuid.UUID | None] = mapped_column(UUID(as_uuid=True))
    told: Mapped[Any] = mapped_column(_Json, nullable=True)  # what operators were told last
    told_at: Mapped[datetime | None] = mapped_column(_MaybeTime)
    created_at: Mapped[datetime] = _now()
    ended_at: Mapped[datetime | None] = mapped_column(_MaybeTime)  # nothing of it is unfinished
    __table_args__ = (
        Index("uq_batches_idempotency", "asked_by", "idempotency_key", unique=True),
        Index("ix_batches_unfinished", "sent_at", postgresql_where=text("ended_at IS NULL")),
    )


class BatchItem(Base):
    """One message of a batch. It outlives the message, so that a batch accounts for all that it began with."""

    __tablename__ = "batch_items"
    batch_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    message_id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True), primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(UUID(as_uuid=True))
    model: Mapped[str | None] = mapped_column(Text)
    state: Mapped[ItemState] = mapped_column(_enum(ItemState, "item_state"))
    first_code: Mapped[str | None] = mapped_column(Text)  # with which the message was found
    code: Mapped[str | None] = mapped_column(Text)  # with which it ended again
    reason: Mapped[str | None] = mapped_column(Text)  # why it was skipped
    run: Mapped[int] = mapped_column(Integer)  # the message's, that goes on
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))  # of that run, in batches, this one too
    sent_at: Mapped[datetime | None] = mapped_column(_MaybeTime)
    ended_at: Mapped[datetime | None] = mapped_column(_MaybeTime)
    __table_args__ = (
        # nobody is in two unfinished batches
        Index(
            "uq_batch_items_unfinished",
            "message_id",
            unique=True,
            postgresql_where=text("state IN ('waiting', 'sent')"),
        ),
        Index("ix_batch_items_message", "message_id"),
        Index("ix_batch_items_state", "batch_id", "state", "message_id"),
        Index("ix_batch_items_sent", "message_id", postgresql_where=text("state = 'sent'")),
        # each project's oldest that waits, from one project to the next; of another index's columns none is named, which
        # a planner without statistics would take instead
        Index(
            "ix_batch_items_waiting",
            "batch_id",
            "project_id",
            "message_id",
            postgresql_where=text("sent_at IS NULL AND ended_at IS NULL"),
        ),
    )


class SweeperSign(Base):
    """The sign of life of one sweeper."""

    __tablename__ = "sweepers"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    swept_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class IdempotencyKey(Base):
    """The pair of messages that a submit with this key made."""

    __tablename__ = "idempotency_keys"
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    body_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    assistant_message_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now(), index=True)


class Audit(Base):
    """What one audit looked at and found; each of the three is a count by kind."""

    __tablename__ = "audits"
    id: Mapped[uuid.UUID] = _id()
    project_id: Mapped[uuid.UUID | None] = mapped_column(UUID(as_uuid=True))  # of one project's alone
    began_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    looked_at: Mapped[Any] = mapped_column(_Json)
    found: Mapped[Any] = mapped_column(_Json)
    repaired: Mapped[Any] = mapped_column(_Json)
    disagreements_left: Mapped[int] = mapped_column(Integer)
