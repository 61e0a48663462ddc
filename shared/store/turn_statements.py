"""The statements that every message runs, each built once: to build one anew costs several times what its execution does."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import Integer, Interval, Text, Uuid, and_, bindparam, case, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from shared.lifecycle import JobStatus, MessageStatus, Role
from shared.models import ComponentJob, Member, Message, Project
from shared.store.projects import EDITORS

_MOST_PAIRS: Final = 200
"""Of a project's questions and answers, that the model is shown."""
_MOST_COMPONENTS: Final = 20
"""Of a project's, that the model is told of."""

_message = bindparam("message", type_=Uuid())
_project = bindparam("project", type_=Uuid())
_owner = bindparam("owner", type_=Text())

_earlier = aliased(Message)
_IS_FIRST: Final = or_(
    Message.waits.is_(False),
    ~exists().where(
        _earlier.project_id == Message.project_id,
        _earlier.status == MessageStatus.PENDING,
        _earlier.queue_number < Message.queue_number,
        _earlier.batch_id.is_(None),
    ),
)
"""It waits for nobody, or nobody that is pending, but for a batch's, stands before it in its project.

Where somebody was put in front while a claim waited for the row, the claim's look at the queue is older than the row, and has
the row itself at its old place, in front of the new one: so it is not taken.
"""

CLAIMABLE: Final = and_(
    Message.status == MessageStatus.PENDING,
    Message.lease_owner.is_(None),
    Message.cancel_requested_at.is_(None),
    _IS_FIRST,
)
"""Whose turn it is: pending, held by nobody, not asked to end, and first of those that wait in its project.

A lease that ran out is taken by the sweeper first, which counts the try.
"""

WAITED_FOR: Final = and_(CLAIMABLE, Message.batch_id.is_(None))
"""Whose turn it is, and somebody waits for it."""
OF_A_BATCH: Final = and_(CLAIMABLE, Message.batch_id.is_not(None))
"""Whose turn it is, and only a batch waits for it."""

CLAIM: Final = (
    update(Message)
    .where(
        Message.id == _message,
        or_(
            and_(Message.tries < bindparam("max_tries", type_=Integer()), CLAIMABLE),
            Message.lease_owner == _owner,
        ),
    )
    .values(
        attempt=case((Message.lease_owner == _owner, Message.attempt), else_=Message.attempt + 1),
        lease_owner=_owner,
        lease_until=func.clock_timestamp() + bindparam("lease", type_=Interval()),
        claimed_at=func.coalesce(Message.claimed_at, func.clock_timestamp()),
        updated_at=func.now(),
    )
    .returning(
        Message.project_id,
        Message.attempt,
        Message.run,
        Message.tries,
        Message.model,
        Message.content,
        Message.first_token_ms,
        Message.batch_id,
        func.extract("epoch", func.clock_timestamp() - Message.claimed_at).label("run_age_s"),
        func.extract("epoch", func.clock_timestamp() - Message.enqueued_at).label("enqueued_age_s"),
    )
)
MAY_ACT: Final = select(
    exists().where(
        Message.id == _message,
        Member.project_id == Message.project_id,
        Member.user_id == Message.author_id,
        Member.role.in_(EDITORS),
    )
)
"""Whether who asked, or asked again, may still change the project."""

_question, _answer, _answered = aliased(Message), aliased(Message), aliased(Message)
_newest = (
    select(_question.id, _question.content.label("question"), _answer.content.label("answer"))
    .join(_answer, _answer.reply_to == _question.id)
    .where(
        _question.project_id == _project,
        _question.role == Role.USER,
        _question.id < select(_answered.reply_to).where(_answered.id == _message).scalar_subquery(),
        _answer.status != MessageStatus.PENDING,
    )
    .order_by(_question.id.desc())
    .limit(_MOST_PAIRS)
    .subquery()
)
_tokens = (func.char_length(_newest.c.question) + func.char_length(_newest.c.answer)) // 4
_counted = select(_newest, func.sum(_tokens).over(order_by=_newest.c.id.desc()).label("tokens")).subquery()
_pair = func.json_build_array(_counted.c.question, _counted.c.answer)
_PAIRS: Final = select(func.json_agg(aggregate_order_by(_pair, _counted.c.id.desc()))).where(
    _counted.c.tokens <= bindparam("max_tokens", type_=Integer())
)
"""The newest questions that were asked before one, with their answers, as far as they fit, newest first.

An answer may have a megabyte: what does not fit is not fetched.
"""

_built = (
    select(ComponentJob.id, ComponentJob.name, func.left(ComponentJob.effect_description, 200).label("description"))
    .where(ComponentJob.project_id == _project, ComponentJob.status == JobStatus.SUCCESS)
    .order_by(ComponentJob.id.desc())
    .limit(_MOST_COMPONENTS)
    .subquery()
)
_component = func.json_build_array(_built.c.id, _built.c.name, _built.c.description)
_COMPONENTS: Final = select(func.json_agg(aggregate_order_by(_component, _built.c.id.desc())))
"""The newest that were built, newest first, with the beginning of their descriptions."""

_asked = aliased(Message)
CONTEXT: Final = (
    select(
        Project.document,
        Project.version,
        Project.schema,
        _asked.content,
        _PAIRS.scalar_subquery().label("pairs"),
        _COMPONENTS.scalar_subquery().label("components"),
    )
    .select_from(Message)
    .join(Project, Project.id == Message.project_id)
    .join(_asked, _asked.id == Message.reply_to)
    .where(Message.id == _message, Message.project_id == _project)
)
"""What a message answers, what was said before it, and the project as it is now: as of one moment, for one round trip."""

CLOCKS: Final = (
    func.extract("epoch", func.clock_timestamp()).op("*")(1000).label("now_ms"),
    func.extract("epoch", func.clock_timestamp() - Message.enqueued_at).label("total_s"),
    func.extract("epoch", Message.claimed_at - Message.enqueued_at).label("queued_s"),
    Message.timing,
)
"""What the timing of an end is made of."""
LOCK_TO_END: Final = (
    select(
        Message.status,
        Message.attempt,
        Message.lease_owner,
        Message.ending,
        Message.last_event_id,
        Message.model,
        *CLOCKS,
    )
    .where(Message.id == _message)
    .with_for_update()
)
END: Final = (
    update(Message)
    .where(Message.id == _message)
    .values(
        total_tokens=Message.total_tokens + bindparam("spent_tokens", type_=Integer()),
        lease_owner=None,
        lease_until=None,
        ending_appended=False,
        updated_at=func.now(),
    )
    .returning(Message.model)
)
"""The other columns are said where it is executed."""
HAND_OVER: Final = END.values(tries=0, rung_at=func.now())
"""A build has tries of its own, and its bell is rung by whoever hands over."""

UNDER_LEASE: Final = (
    update(Message)
    .where(Message.id == _message, Message.attempt == bindparam("held", type_=Integer()), Message.lease_owner == _owner)
    .values(updated_at=func.now())
    .returning(Message.id)
)

_ended = bindparam("last", type_=Text())
NOTE_APPENDED: Final = (
    update(Message)
    .where(
        Message.id.in_(
            select(Message.id)
            .where(Message.id == _message, Message.last_event_id == _ended)
            .with_for_update(skip_locked=True)
        )
    )
    .values(ending_appended=True)
)
NEXT_IN_LINE: Final = (
    update(Message)
    .where(
        Message.id.in_(
            select(Message.id)
            .where(Message.project_id == _project, WAITED_FOR)
            .order_by(Message.queue_number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
    )
    .values(rung_at=func.now())
    .returning(Message.id)
)

NEXT_OF_A_BATCH: Final = (
    update(Message)
    .where(
        Message.id.in_(
            select(Message.id)
            .where(
                OF_A_BATCH,
                # whom it was last told to has a moment to claim it
                or_(Message.rung_at.is_(None), Message.rung_at < func.now() - timedelta(seconds=1)),
            )
            .order_by(Message.rung_at.nulls_first())
            .limit(1)
            .with_for_update(skip_locked=True)
        )
    )
    .values(rung_at=func.now())
    .returning(Message.id)
)
