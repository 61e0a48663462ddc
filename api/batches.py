"""Batches: failed, cancelled and stuck messages answered again, for operators."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from flask import Response, request

from api import requests
from api.calls import Answer, Calls, Header
from api.pages import Limit, Page, PageQuery
from api.refusals import InvalidFields, InvalidHeader
from api.requests import Moment
from api.services import Services
from shared import batches, errors
from shared.batches import Batch, BatchFilter, BatchItem, BatchReport, Explanation
from shared.lifecycle import BatchStatus, ErrorCode, ItemState, MessageStatus, Scope
from shared.records import Principal
from shared.store import Idempotency

calls = Calls()

CSV: Final = "text/csv"
_ROWS_AT_ONCE: Final = 1000
IDEMPOTENCY_KEY: Final = Header(
    name="Idempotency-Key",
    description="The same key and body answer the same batch again.",
    pattern=r"^[\x21-\x7e]{1,200}$",
)


class Reprocess(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which messages, and how fast. `rate` is a number of messages a second, or words as `5/s` or `90/m`."""

    status: Literal["error", "cancelled", "pending", "building"]
    code: ErrorCode | None = None
    since: Moment | None = None
    until: Moment | None = None
    project: UUID | None = None
    model: str | None = None
    messages: Annotated[tuple[UUID, ...], msgspec.Meta(min_length=1, max_length=batches.MOST_CHOSEN)] | None = None
    """Of these alone those that pass the rest."""
    include_poison: bool = False
    dry_run: bool = False
    rate: Annotated[float, msgspec.Meta(gt=0, le=batches.FASTEST)] | str | None = None


class Started(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`matched` messages are or would be answered again. Of a dry run `batchId` is null, and `explanation` says more."""

    batch_id: UUID | None
    matched: int
    explanation: Explanation | None


class ItemsQuery(msgspec.Struct, frozen=True, kw_only=True):
    limit: Limit = 50
    before: UUID | None = None
    """The `nextCursor` of the page before."""
    state: ItemState | None = None


@calls.add(
    "POST",
    "/v1/ops/reprocess",
    scope=Scope.OPS,
    body=Reprocess,
    headers=(IDEMPOTENCY_KEY,),
    answers={202: Started},
    refusals=(InvalidHeader, errors.IdempotencyMismatch),
)
def reprocess(services: Services, *, principal: Principal, body: Reprocess) -> Answer:
    """Start a batch: messages that failed, were cancelled or are stuck are answered again.

    With `dryRun` nothing is done: the answer says what would be, and why other messages would not be taken.
    """
    key, rate, wanted = requests.idempotency_key(request.headers), _rate(body), _filter(body)
    if body.dry_run:
        told = services.store.explain_batch(wanted)
        return Answer(status=202, body=Started(batch_id=None, matched=told.matched, explanation=told))
    idempotency = None if key is None else Idempotency(key=key, body_sha256=_digest(wanted, rate))
    batch, matched = services.store.start_batch(wanted, rate=rate, asked_by=principal.user, idempotency=idempotency)
    return Answer(status=202, body=Started(batch_id=batch.id, matched=matched, explanation=None))


def _filter(body: Reprocess) -> BatchFilter:
    out_of_range = "is out of range"
    since = requests.in_utc(body.since, InvalidFields([("/since", out_of_range)]))
    until = requests.in_utc(body.until, InvalidFields([("/until", out_of_range)]))
    if since is not None and until is not None and until <= since:
        raise InvalidFields([("/until", "must be after `since`")])
    if body.code is not None and body.status != "error":
        raise InvalidFields([("/code", "only messages whose status is `error` have one")])
    return BatchFilter(
        status=MessageStatus(body.status),
        code=body.code,
        since=since,
        until=until,
        project=body.project,
        model=body.model,
        messages=body.messages,
        include_poison=body.include_poison,
    )


def _rate(body: Reprocess) -> float | None:
    if not isinstance(body.rate, str):
        return body.rate
    try:
        return batches.rate_per_s(body.rate)
    except ValueError as error:
        raise InvalidFields([("/rate", f"must be {error}")]) from None


def _digest(wanted: BatchFilter, rate: float | None) -> bytes:
    """The same for the same fields, however they were written down."""
    return hashlib.sha256(msgspec.json.encode((wanted, rate))).digest()


@calls.add("GET", "/v1/ops/batches", scope=Scope.OPS, query=PageQuery, answers={200: Page[Batch]})
def list_batches(services: Services, *, principal: Principal, query: PageQuery) -> Answer:
    """All batches, newest first."""
    items, cursor = services.store.batches(limit=query.limit, before=query.before)
    return Answer(status=200, body=Page(items=items, next_cursor=None if cursor is None else str(cursor)))


@calls.add(
    "GET",
    "/v1/ops/batches/{batchId}",
    scope=Scope.OPS,
    answers={200: BatchReport},
    refusals=(errors.NotFound,),
)
def get_batch(services: Services, *, principal: Principal, batch_id: UUID) -> Answer:
    """One batch, and what became of its messages, by state and code."""
    return Answer(status=200, body=services.store.batch(batch_id))


@calls.add(
    "GET",
    "/v1/ops/batches/{batchId}/items",
    scope=Scope.OPS,
    query=ItemsQuery,
    answers={200: Page[BatchItem]},
    refusals=(errors.NotFound,),
)
def list_batch_items(services: Services, *, principal: Principal, batch_id: UUID, query: ItemsQuery) -> Answer:
    """The messages of a batch, newest first."""
    items, cursor = services.store.batch_items(batch_id, limit=query.limit, before=query.before, state=query.state)
    return Answer(status=200, body=Page(items=items, next_cursor=None if cursor is None else str(cursor)))


@calls.add(
    "GET",
    "/v1/ops/batches/{batchId}/report.csv",
    scope=Scope.OPS,
    answers={200: str},
    media_type=CSV,
    refusals=(errors.NotFound,),
)
def get_batch_report(services: Services, *, principal: Principal, batch_id: UUID) -> Response:
    """Every message of a batch as a line of CSV (RFC 4180), newest first."""
    first = services.store.batch_items(batch_id, limit=_ROWS_AT_ONCE)

    def lines() -> Iterator[str]:
        yield _csv([[field.encode_name for field in msgspec.structs.fields(BatchItem)]])
        items, cursor = first
        while items:
            yield _csv([_cells(item) for item in items])
            if cursor is None:
                return
            items, cursor = services.store.batch_items(batch_id, limit=_ROWS_AT_ONCE, before=cursor)

    return Response(lines(), 200, mimetype=CSV)


def _cells(item: BatchItem) -> list[Any]:
    """As JSON writes them; what is null is empty."""
    return list(msgspec.to_builtins(item).values())


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()


def _changed(services: Services, batch_id: UUID, status: BatchStatus) -> Answer:
    return Answer(status=200, body=services.store.change_batch(batch_id, status))


@calls.add(
    "POST",
    "/v1/ops/batches/{batchId}/pause",
    scope=Scope.OPS,
    answers={200: Batch},
    refusals=(errors.NotFound, errors.BatchOver),
)
def pause_batch(services: Services, *, principal: Principal, batch_id: UUID) -> Answer:
    """Begin no further message of the batch; what was sent goes on."""
    return _changed(services, batch_id, BatchStatus.PAUSED)


@calls.add(
    "POST",
    "/v1/ops/batches/{batchId}/resume",
    scope=Scope.OPS,
    answers={200: Batch},
    refusals=(errors.NotFound, errors.BatchOver),
)
def resume_batch(services: Services, *, principal: Principal, batch_id: UUID) -> Answer:
    """Let a paused batch go on."""
    return _changed(services, batch_id, BatchStatus.RUNNING)


@calls.add(
    "POST",
    "/v1/ops/batches/{batchId}/stop",
    scope=Scope.OPS,
    answers={200: Batch},
    refusals=(errors.NotFound, errors.BatchOver),
)
def stop_batch(services: Services, *, principal: Principal, batch_id: UUID) -> Answer:
    """End the batch: what was sent goes on, what waits is left as it is and may be in another batch."""
    return _changed(services, batch_id, BatchStatus.STOPPED)
